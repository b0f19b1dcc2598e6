//! Devices that are there: looking at them and removing them.

use std::path::PathBuf;

use super::error::Error;
use super::loopdev::Attached;
use super::mapper::{Device, Mapper, Removal};
use super::name::DeviceName;
use super::number::DeviceNumber;
use super::options::DeviceRef;
use super::status::Status;
use super::table::Table;

/// A verity device, whoever made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceInfo {
    /// Its name.
    pub name: DeviceName,
    /// Its UUID in device-mapper, `CRYPT-VERITY-...` if veritysetup or this project made it.
    pub uuid: Option<String>,
    /// Its number.
    pub number: DeviceNumber,
    /// How many times it is open; a mount counts once.
    pub open_count: u32,
    /// Whether it is read-only, which every verity device is.
    pub read_only: bool,
    /// Whether its input and output are held up.
    pub suspended: bool,
    /// Whether it will be removed when it is last closed.
    pub deferred_remove: bool,
    /// What it is made of; `None` for one whose activation has not come that far, or broke off there.
    pub mapping: Option<Mapping>,
}

/// An active verity table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// The table.
    pub table: Table,
    /// The device's size in sectors of 512 bytes.
    pub sectors: u64,
    /// What the kernel says of the blocks that were read so far.
    pub status: Status,
}

impl DeviceInfo {
    /// The path of the device's node. It exists where udev, this project or libdevmapper made it.
    #[must_use]
    pub fn node(&self) -> PathBuf {
        self.name.node()
    }
}

/// Looks at a verity device.
///
/// # Errors
/// [`Error::NotActive`] if there is no device of that name, [`Error::NotVerity`] if it is something else,
/// [`Error::KernelTable`] or [`Error::Status`] if what the kernel says of it means nothing here; and what
/// device-mapper itself can answer.
pub fn query(name: &DeviceName) -> Result<DeviceInfo, Error> {
    let mapper = Mapper::open()?;
    let device = verity_device(&mapper, name)?;
    describe(&mapper, name, device)
}

/// Looks at every verity device, in the order of their names, whoever made them.
///
/// One that cannot be described, such as one with an option that this version does not know, is an error in its
/// place. Names that no [`DeviceName`] stands for, which only tools without libdevmapper's rules give, are left out.
///
/// # Errors
/// What device-mapper itself can answer.
pub fn list() -> Result<Vec<Result<DeviceInfo, Error>>, Error> {
    let mapper = Mapper::open()?;
    let mut names = mapper.names()?;
    names.sort();
    let mut devices = Vec::new();
    for name in names {
        let described = verity_device(&mapper, &name).and_then(|device| describe(&mapper, &name, device));
        // Removed since, or someone else's.
        if !matches!(described, Err(Error::NotActive { .. } | Error::NotVerity { .. })) {
            devices.push(described);
        }
    }
    Ok(devices)
}

/// What became of a device that was to be removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deactivated {
    /// It is gone.
    Removed {
        /// Loop devices below it that were to detach themselves and are still attached: something else has them
        /// open.
        attached: Vec<DeviceNumber>,
    },
    /// It is open, and goes when it is last closed.
    Deferred,
}

/// Removes a verity device, its node, and with them the loop devices below it that detach themselves.
///
/// A device that is open for a moment, as udev's rules do with a new one, is waited for: 5 seconds where udev runs,
/// 0.2 elsewhere. One that is mounted, or part of another device, is not.
///
/// # Errors
/// [`Error::NotActive`], [`Error::NotVerity`]; [`Error::Busy`] if it is open and `removal` is [`Removal::Now`]; and
/// what device-mapper itself can answer.
pub fn deactivate(name: &DeviceName, removal: Removal) -> Result<Deactivated, Error> {
    let mapper = Mapper::open()?;
    let device = removable(&mapper, name)?;
    let loops = loops_below(device.targets.first().and_then(|target| target.text.parse().ok()).as_ref());
    if mapper.remove(name, removal)? {
        return Ok(Deactivated::Deferred);
    }
    Ok(Deactivated::Removed { attached: loops.into_iter().filter_map(Attached::wait).collect() })
}

/// Takes back a [`Removal::Deferred`]: the device stays when it is closed.
///
/// # Errors
/// [`Error::NotActive`], [`Error::NotVerity`], and what device-mapper itself can answer.
pub fn cancel_deferred(name: &DeviceName) -> Result<(), Error> {
    let mapper = Mapper::open()?;
    let device = removable(&mapper, name)?;
    mapper.cancel_deferred(name)?;
    // Where there is no udev the node went when the removal was put off.
    mapper.ensure_node(name, device.number).map(drop)
}

/// A verity device, or what was one until its table was replaced, as `dmsetup wipe_table` does with a device that is to go.
fn removable(mapper: &Mapper, name: &DeviceName) -> Result<Device, Error> {
    let device = mapper.device(name)?;
    if device.is_verity() || device.was_verity() {
        Ok(device)
    } else {
        Err(Error::NotVerity { name: name.clone(), found: device.kinds() })
    }
}

fn verity_device(mapper: &Mapper, name: &DeviceName) -> Result<Device, Error> {
    let device = mapper.device(name)?;
    if device.is_verity() {
        Ok(device)
    } else {
        Err(Error::NotVerity { name: name.clone(), found: device.kinds() })
    }
}

fn describe(mapper: &Mapper, name: &DeviceName, device: Device) -> Result<DeviceInfo, Error> {
    let mapping = match device.targets.first() {
        None => None,
        Some(target) => {
            let table =
                target.text.parse().map_err(|source| Error::KernelTable { name: name.clone(), source })?;
            let status = read_status(mapper, name)?;
            Some(Mapping { table, sectors: target.sectors, status })
        }
    };
    Ok(DeviceInfo {
        name: name.clone(),
        uuid: device.uuid,
        number: device.number,
        open_count: device.open_count,
        read_only: device.read_only,
        suspended: device.suspended,
        deferred_remove: device.deferred_remove,
        mapping,
    })
}

pub(super) fn read_status(mapper: &Mapper, name: &DeviceName) -> Result<Status, Error> {
    mapper.status_line(name)?.parse().map_err(|source| Error::Status { name: name.clone(), source })
}

/// The loop devices that a device is made of and that detach themselves; none if its table means nothing here.
pub(super) fn loops_below(table: Option<&Table>) -> Vec<Attached> {
    let Some(table) = table else { return Vec::new() };
    let fec = table.fec().map(|fec| &fec.device);
    let mut numbers: Vec<DeviceNumber> = [Some(table.data()), Some(table.hash()), fec]
        .into_iter()
        .flatten()
        .filter_map(|device| match device {
            DeviceRef::Number(number) => Some(*number),
            DeviceRef::Path(_) => None,
        })
        .collect();
    numbers.sort();
    numbers.dedup();
    numbers.into_iter().filter_map(Attached::autoclearing).collect()
}
