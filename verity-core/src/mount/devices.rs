//! The devices of layers: found or made, held open, and told to go when nobody has them open any more.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, makedev, mknodat, openat, unlinkat};
use rustix::io::Errno;

use crate::device::{
    self, Activation, Deactivated, Departing, DeviceInfo, DeviceName, DeviceNumber, Removal, Verdict,
    activate, deactivate, list, query,
};
use crate::progress::Observer;

use super::error::Error;
use super::layer::{Layer, is_ours};

/// So many devices of one root hash, each of another file, are looked at.
const COPIES: u32 = 64;

/// How often a device is looked for anew that went away between two looks.
const ATTEMPTS: u32 = 16;

/// A layer's device that goes when nobody has it open any more.
pub(super) struct Held {
    pub(super) name: DeviceName,
    pub(super) number: DeviceNumber,
    /// What will go with it; `None` if it was there before, and so may stay.
    pub(super) departing: Option<Departing>,
}

/// The device of layer `number`, open: one that is there and is exactly that, or a new one. The caller has the lock.
///
/// `nodes` is a directory for a node while the device is being opened: that below `/dev/mapper` belongs to the name, not to the device.
pub(super) fn hold(layer: &Layer, number: usize, nodes: &OwnedFd) -> Result<(Held, File), Error> {
    let failed =
        |source: device::Error| Error::Layer { number, blob: layer.blob.clone(), source: Box::new(source) };
    let mut attempts = 0;
    let mut copy = 1;
    while copy <= COPIES && attempts < ATTEMPTS {
        let name = layer.device_name(copy).map_err(|error| failed(error.into()))?;
        let activation = layer.activation(name.clone());
        let taken = match activate(&activation) {
            Ok(active) => {
                take_made(Made { activation: &activation, number: active.number, kept: false }, nodes)
            }
            Err(device::Error::Exists { .. } | device::Error::UuidExists { .. }) => take(&activation, nodes),
            Err(error) => return Err(failed(error)),
        };
        match taken {
            Ok(Found::Held(held, node)) => return Ok((held, node)),
            Ok(Found::Other) => copy += 1,
            Ok(Found::Gone) => attempts += 1,
            Ok(Found::Corrupted) => {
                return Err(Error::Corrupted { number, blob: layer.blob.clone(), device: name });
            }
            Err(Error::Device(source)) => return Err(failed(source)),
            Err(other) => return Err(other),
        }
    }
    let device = layer.device_name(1).map_err(|error| failed(error.into()))?;
    Err(Error::NamesTaken { number, blob: layer.blob.clone(), device })
}

/// What has the name that a layer's device would have.
enum Found {
    /// The layer's device, now open.
    Held(Held, File),
    /// Nothing, any more.
    Gone,
    /// Another device.
    Other,
    /// The layer's device, and the kernel has seen a bad block on it.
    Corrupted,
}

/// A device that was just made. Unless it is kept, it goes: at once, or when whoever has it open lets go of it.
struct Made<'a> {
    activation: &'a Activation,
    number: DeviceNumber,
    kept: bool,
}

impl Made<'_> {
    /// Whether a device is this one, and not one that came in its place.
    fn is(&self, info: &DeviceInfo) -> bool {
        let Activation { name, uuid, root_hash, .. } = self.activation;
        let same_table = |info: &DeviceInfo| {
            info.mapping.as_ref().is_none_or(|mapping| mapping.table.root_hash() == root_hash)
        };
        info.number == self.number
            && info.uuid.as_deref() == Some(name.device_uuid(uuid.as_ref()).as_str())
            && same_table(info)
    }
}

impl Drop for Made<'_> {
    fn drop(&mut self) {
        let name = &self.activation.name;
        if !self.kept && query(name).is_ok_and(|info| self.is(&info)) {
            // What went wrong is what has to be told, and the next call tries again.
            let _ = deactivate(name, Removal::Deferred);
        }
    }
}

/// Opens a device that was just made.
///
/// Its files are not looked for again by their paths: they can have other names by now, and the device has them open.
fn take_made(mut made: Made<'_>, nodes: &OwnedFd) -> Result<Found, Error> {
    let info = match query(&made.activation.name) {
        Ok(info) => info,
        Err(device::Error::NotActive { .. }) => return Ok(Found::Gone),
        Err(error) => return Err(error.into()),
    };
    let verdict = info.mapping.as_ref().map(|mapping| mapping.status.verdict);
    match verdict.filter(|_| made.is(&info)) {
        Some(Verdict::Verified) => {}
        Some(Verdict::Corrupted) => return Ok(Found::Corrupted),
        None => return Ok(Found::Gone),
    }
    let Some((held, node)) = open(&info, true, nodes)? else { return Ok(Found::Gone) };
    made.kept = true;
    Ok(Found::Held(held, node))
}

/// Looks at the device that has the activation's name, and opens it if it is the one.
fn take(activation: &Activation, nodes: &OwnedFd) -> Result<Found, Error> {
    let info = match query(&activation.name) {
        Ok(info) => info,
        Err(device::Error::NotActive { .. }) => return Ok(Found::Gone),
        Err(device::Error::NotVerity { .. } | device::Error::KernelTable { .. }) => return Ok(Found::Other),
        Err(error) => return Err(error.into()),
    };
    if is_left_over(&info) && info.mapping.is_none() {
        remove(&info)?;
        return Ok(Found::Gone);
    }
    // That it is to go when it is closed is as it should be: here it is opened.
    let same = DeviceInfo { deferred_remove: false, ..info.clone() };
    let differences = activation.differences(&same);
    if differences.iter().any(|difference| difference.what != "status") {
        return Ok(Found::Other);
    }
    if !differences.is_empty() {
        return Ok(Found::Corrupted);
    }
    Ok(open(&info, false, nodes)?.map_or(Found::Gone, |(held, node)| Found::Held(held, node)))
}

/// Opens a device and has it go with its last user; `None` if it went before it could be opened.
fn open(info: &DeviceInfo, made: bool, nodes: &OwnedFd) -> Result<Option<(Held, File)>, Error> {
    let node = match open_number(info.number, nodes) {
        Ok(node) => node,
        Err(Errno::NXIO | Errno::NODEV) => return Ok(None),
        Err(errno) => return Err(Error::System { action: "opening a layer's device", source: errno.into() }),
    };
    // What is open keeps its number: whether that is still the device that was looked at can be asked now.
    let again = match query(&info.name) {
        Ok(again) => again,
        Err(device::Error::NotActive { .. }) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let table = |info: &DeviceInfo| info.mapping.as_ref().map(|mapping| mapping.table.clone());
    if again.number != info.number || table(&again) != table(info) {
        return Ok(None);
    }
    let ours = is_ours(&info.name, info.uuid.as_deref());
    if ours && !again.deferred_remove {
        match deactivate(&info.name, Removal::Deferred)? {
            Deactivated::Deferred => {}
            // It was open, so this was not it.
            Deactivated::Removed { .. } => return Ok(None),
        }
    }
    let departing = made.then(|| Departing::new(&again));
    Ok(Some((Held { name: info.name.clone(), number: info.number, departing }, node)))
}

fn open_number(number: DeviceNumber, nodes: &OwnedFd) -> Result<File, Errno> {
    const NODE: &str = "node";
    let device = makedev(number.major(), number.minor());
    mknodat(nodes, NODE, FileType::BlockDevice, Mode::RUSR, device)?;
    let opened = openat(nodes, NODE, OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK, Mode::empty());
    unlinkat(nodes, NODE, AtFlags::empty())?;
    Ok(opened?.into())
}

/// Whether a device is one that a killed process left, for whoever has the lock.
fn is_left_over(info: &DeviceInfo) -> bool {
    is_ours(&info.name, info.uuid.as_deref()) && info.open_count == 0 && !info.deferred_remove
}

fn remove(info: &DeviceInfo) -> Result<(), device::Error> {
    match deactivate(&info.name, Removal::Now) {
        Ok(_) | Err(device::Error::NotActive { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Removes what killed processes have left. The caller has the lock.
pub(super) fn sweep() -> Result<(), Error> {
    for info in list()?.into_iter().flatten() {
        if is_left_over(&info) {
            // One that cannot be removed now is in nobody's way: the next one to come tries again.
            let _ = remove(&info);
        }
    }
    Ok(())
}

/// Fails unless the kernel has seen no block of the device that does not match.
pub(super) fn require_verified(held: &Held, layer: &Layer, number: usize) -> Result<(), Error> {
    let blob = || layer.blob.clone();
    let info = query(&held.name).map_err(|source| Error::Layer {
        number,
        blob: blob(),
        source: Box::new(source),
    })?;
    let verdict = info.mapping.filter(|_| info.number == held.number).map(|mapping| mapping.status.verdict);
    match verdict {
        Some(Verdict::Verified) => Ok(()),
        Some(Verdict::Corrupted) => Err(Error::Corrupted { number, blob: blob(), device: held.name.clone() }),
        None => {
            let source = device::Error::NotActive { name: held.name.clone() };
            Err(Error::Layer { number, blob: blob(), source: Box::new(source) })
        }
    }
}

/// Waits until all are gone, and gives up when for `patience` none went, or when it is told to stop; those that are left.
pub(super) fn wait(
    mut departing: Vec<Departing>,
    patience: Duration,
    observer: &dyn Observer,
) -> Result<Vec<Departing>, Error> {
    let mut end = Instant::now() + patience;
    let mut pause = Duration::from_millis(1);
    loop {
        let before = departing.len();
        let mut left = Vec::new();
        for device in departing {
            if !device.is_gone()? {
                left.push(device);
            }
        }
        if left.len() < before {
            end = Instant::now() + patience;
        }
        if left.is_empty() || Instant::now() >= end || observer.cancelled() {
            return Ok(left);
        }
        departing = left;
        sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}
