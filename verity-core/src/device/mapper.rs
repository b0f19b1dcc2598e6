//! Device-mapper: what it is told and what it answers.
//!
//! Calls go through the crate `devicemapper`, except the four that [`ioctl`](super::ioctl) makes itself: resuming
//! and removing, where the crate waits for udev without a limit; listing, where one foreign name that is not ASCII
//! makes the crate fail; and the version of a target, which the crate cannot ask for.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use devicemapper::errors::Error as CoreError;
use devicemapper::{DM, DevId, DmError, DmFlags, DmName, DmOptions, DmUuid};
use nix::errno::Errno;
use nix::sys::stat::{Mode, SFlag, makedev, mknod};

use super::error::Error;
use super::ioctl::{DmBuffer, DmCommand};
use super::name::{DeviceName, NODE_DIRECTORY, UUID_PREFIX};
use super::number::DeviceNumber;
use super::{node, sysfs, udev};

/// Device-mapper's control node.
pub(super) const CONTROL: &str = "/dev/mapper/control";

/// The target type of dm-verity.
pub(super) const TARGET: &str = "verity";

/// The driver of the control node is a `misc` one, with a minor number kept for it: to open that loads the module.
const MISC_MAJOR: u64 = 10;
const CONTROL_MINOR: u32 = 236;

// `linux/dm-ioctl.h`
const BUFFER_FULL: u32 = 1 << 8;
const UEVENT_GENERATED: u32 = 1 << 13;
const DEFERRED_REMOVE: u32 = 1 << 17;

/// A target of a table: its length in sectors, its type, its parameters or its status.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) sectors: u64,
    pub(super) kind: String,
    pub(super) text: String,
}

/// What device-mapper says of a device.
#[derive(Debug)]
pub(super) struct Device {
    pub(super) number: DeviceNumber,
    pub(super) uuid: Option<String>,
    pub(super) open_count: u32,
    pub(super) read_only: bool,
    pub(super) suspended: bool,
    pub(super) deferred_remove: bool,
    /// The targets of the active table; none if there is no active table.
    pub(super) targets: Vec<Target>,
}

impl Device {
    /// Whether the device is dm-verity's: by its table, or, where none was loaded yet, by its UUID.
    pub(super) fn is_verity(&self) -> bool {
        match self.targets.as_slice() {
            [] => self.was_verity(),
            [target] => target.kind == TARGET,
            _ => false,
        }
    }

    /// Whether it was made as a verity device, whatever its table is now.
    pub(super) fn was_verity(&self) -> bool {
        self.uuid.as_ref().is_some_and(|uuid| uuid.starts_with(UUID_PREFIX))
    }

    /// The types of the targets, for messages.
    pub(super) fn kinds(&self) -> String {
        if self.targets.is_empty() {
            return "empty".to_owned();
        }
        self.targets.iter().map(|target| target.kind.as_str()).collect::<Vec<_>>().join(", ")
    }
}

/// When a device that is open now is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Removal {
    /// Now, or it is an error.
    Now,
    /// When it is last closed, if it is open now.
    Deferred,
}

/// An open device-mapper.
pub(super) struct Mapper {
    dm: DM,
}

impl Mapper {
    /// Opens the control node; makes it first if `/dev` has none.
    pub(super) fn open() -> Result<Self, Error> {
        open_control()?;
        match DM::new() {
            Ok(dm) => Ok(Self { dm }),
            Err(error) => Err(failed(None, "opening it", &error)),
        }
    }

    /// Checks that the kernel has the verity target, which loads its module if need be.
    pub(super) fn require_verity(&self) -> Result<(), Error> {
        let mut buffer = DmBuffer::new(1024);
        buffer.set_name(TARGET);
        match buffer.call(&self.dm, DmCommand::GetTargetVersion) {
            Ok(()) => Ok(()),
            Err(Errno::EINVAL) => Err(Error::NoVerityTarget),
            Err(errno) => Err(failure(None, "asking for the verity target's version", errno.into())),
        }
    }

    /// The names of all devices. Those that no [`DeviceName`] stands for are left out.
    pub(super) fn names(&self) -> Result<Vec<DeviceName>, Error> {
        const LARGEST: usize = 64 << 20;
        let mut size = 64 << 10;
        loop {
            let mut buffer = DmBuffer::new(size);
            buffer
                .call(&self.dm, DmCommand::ListDevices)
                .map_err(|errno| failure(None, "listing devices", errno.into()))?;
            if buffer.flags() & BUFFER_FULL == 0 {
                return Ok(names_in(buffer.payload()));
            }
            if size == LARGEST {
                return Err(failure(None, "listing devices", Errno::EMSGSIZE.into()));
            }
            size *= 4;
        }
    }

    /// Makes an empty device: the one step that decides who has a name.
    pub(super) fn create(&self, name: &DeviceName, uuid: &str) -> Result<DeviceNumber, Error> {
        let dm_uuid = DmUuid::new(uuid).map_err(|error| failed(Some(name), "naming it", &error))?;
        let created = self.dm.device_create(dm_name(name)?, Some(dm_uuid), read_only());
        match created {
            Ok(info) => Ok(number(&info)),
            Err(error) if errno(&error) == Some(Errno::EBUSY) => {
                let has_uuid = || self.dm.device_info(&DevId::Uuid(dm_uuid)).is_ok();
                if self.number(name)?.is_none() && has_uuid() {
                    return Err(Error::UuidExists { name: name.clone(), uuid: uuid.to_owned() });
                }
                Err(Error::Exists { name: name.clone() })
            }
            Err(error) => Err(failed(Some(name), "making it", &error)),
        }
    }

    /// Loads a table of one verity target into the inactive slot. The kernel's refusal is the inner error.
    pub(super) fn load(&self, name: &DeviceName, sectors: u64, table: &str) -> Result<io::Result<()>, Error> {
        // Kernels around 6.1 say ENOMEM, too, when a verity device is removed at the same moment: the slab cache of
        // the new device has the name of the old one's, which is still on its way out of sysfs.
        const ATTEMPTS: u32 = 8;
        let targets = [(0, sectors, TARGET.to_owned(), table.to_owned())];
        let mut attempt = 1;
        loop {
            let Err(error) = self.dm.table_load(&DevId::Name(dm_name(name)?), &targets, read_only()) else {
                return Ok(Ok(()));
            };
            match errno(&error) {
                Some(Errno::ENOMEM) if attempt < ATTEMPTS => {
                    sleep(Duration::from_millis(1 << attempt));
                    attempt += 1;
                }
                Some(errno) => return Ok(Err(errno.into())),
                None => return Err(failed(Some(name), "loading its table", &error)),
            }
        }
    }

    /// Makes the loaded table the active one, and makes sure of the node; its path.
    pub(super) fn resume(&self, name: &DeviceName, number: DeviceNumber) -> Result<PathBuf, Error> {
        self.with_event(name, DmCommand::Resume, 0)
            .map_err(|errno| failure(Some(name), "resuming it", errno.into()))?;
        self.ensure_node(name, number)
    }

    pub(super) fn ensure_node(&self, name: &DeviceName, number: DeviceNumber) -> Result<PathBuf, Error> {
        node::ensure(name, number, || self.number(name).map_err(io::Error::other))
            .map_err(|source| Error::Node { path: name.node(), source })
    }

    /// Removes the device and its node. True if that is put off until the device is closed.
    pub(super) fn remove(&self, name: &DeviceName, removal: Removal) -> Result<bool, Error> {
        let number = self.number(name)?.ok_or_else(|| Error::NotActive { name: name.clone() })?;
        let flags = match removal {
            Removal::Now => 0,
            Removal::Deferred => DEFERRED_REMOVE,
        };
        let mut patience = Patience::new();
        let answer = loop {
            match self.with_event(name, DmCommand::Remove, flags) {
                Ok(answer) => break answer,
                Err(Errno::EBUSY) if !sysfs::is_held(number) && patience.wait() => {}
                Err(Errno::EBUSY) => {
                    let open_count = self.device(name)?.open_count;
                    return Err(Error::Busy { name: name.clone(), device: number, open_count });
                }
                Err(Errno::ENXIO) => return Err(Error::NotActive { name: name.clone() }),
                Err(errno) => return Err(failure(Some(name), "removing it", errno.into())),
            }
        };
        let deferred = answer & DEFERRED_REMOVE != 0;
        let removed = if deferred {
            node::remove_early(name, number)
        } else {
            node::remove(name, || self.number(name).map_err(io::Error::other))
        };
        removed.map_err(|source| Error::Node { path: name.node(), source })?;
        Ok(deferred)
    }

    /// Takes back a removal that was put off.
    pub(super) fn cancel_deferred(&self, name: &DeviceName) -> Result<(), Error> {
        let sent = self.dm.target_msg(&DevId::Name(dm_name(name)?), None, "@cancel_deferred_remove");
        match sent {
            Ok(_) => Ok(()),
            Err(error) if errno(&error) == Some(Errno::ENXIO) => Err(Error::NotActive { name: name.clone() }),
            Err(error) => Err(failed(Some(name), "cancelling its deferred removal", &error)),
        }
    }

    /// The number of the device that has the name now.
    pub(super) fn number(&self, name: &DeviceName) -> Result<Option<DeviceNumber>, Error> {
        Ok(self.identity(name)?.map(|(number, _)| number))
    }

    /// Number and UUID of the device that has the name now. Only the kernel's word that there is none counts as none.
    pub(super) fn identity(
        &self,
        name: &DeviceName,
    ) -> Result<Option<(DeviceNumber, Option<String>)>, Error> {
        match self.dm.device_info(&DevId::Name(dm_name(name)?)) {
            Ok(info) => Ok(Some((number(&info), info.uuid().map(ToString::to_string)))),
            Err(error) if errno(&error) == Some(Errno::ENXIO) => Ok(None),
            Err(error) => Err(failed(Some(name), "looking for it", &error)),
        }
    }

    /// The device with its active table.
    pub(super) fn device(&self, name: &DeviceName) -> Result<Device, Error> {
        let (info, targets) = self.ask(name, DmFlags::DM_STATUS_TABLE, "reading its table")?;
        let flags = info.flags();
        Ok(Device {
            number: number(&info),
            uuid: info.uuid().map(ToString::to_string),
            open_count: u32::try_from(info.open_count()).unwrap_or(0),
            read_only: flags.contains(DmFlags::DM_READONLY),
            suspended: flags.contains(DmFlags::DM_SUSPEND),
            deferred_remove: flags.contains(DmFlags::DM_DEFERRED_REMOVE),
            targets,
        })
    }

    /// The status line of a device with a single target.
    pub(super) fn status_line(&self, name: &DeviceName) -> Result<String, Error> {
        let (_, mut targets) = self.ask(name, DmFlags::empty(), "reading its status")?;
        Ok(targets.pop().map(|target| target.text).unwrap_or_default())
    }

    fn ask(
        &self,
        name: &DeviceName,
        flags: DmFlags,
        action: &'static str,
    ) -> Result<(devicemapper::DeviceInfo, Vec<Target>), Error> {
        let options = DmOptions::default().set_flags(flags);
        match self.dm.table_status(&DevId::Name(dm_name(name)?), options) {
            Ok((info, targets)) => {
                let target = |(_, sectors, kind, text)| Target { sectors, kind, text };
                Ok((info, targets.into_iter().map(target).collect()))
            }
            Err(error) if errno(&error) == Some(Errno::ENXIO) => Err(Error::NotActive { name: name.clone() }),
            Err(error) => Err(failed(Some(name), action, &error)),
        }
    }

    /// Calls a command that raises an event, and waits until udev is done with that. The flags of the answer.
    fn with_event(&self, name: &DeviceName, command: DmCommand, flags: u32) -> nix::Result<u32> {
        let mut buffer = DmBuffer::new(1024);
        buffer.set_name(name.kernel_name());
        buffer.set_flags(flags);
        let event = udev::Event::begin();
        if let Some(event) = &event {
            buffer.set_cookie(event.cookie());
        }
        buffer.call(&self.dm, command)?;
        if let Some(event) = event.filter(|_| buffer.flags() & UEVENT_GENERATED != 0) {
            event.wait();
        }
        Ok(buffer.flags())
    }
}

/// How long a removal is tried again. udev's rules open every new device for a moment; where there is no udev, only
/// a close that is still under way is worth waiting for.
struct Patience {
    end: Instant,
    pause: Duration,
}

impl Patience {
    fn new() -> Self {
        let limit = if udev::is_in_charge() { Duration::from_secs(5) } else { Duration::from_millis(200) };
        Self { end: Instant::now() + limit, pause: Duration::from_millis(5) }
    }

    /// Waits; false if that was the last time.
    fn wait(&mut self) -> bool {
        if Instant::now() >= self.end {
            return false;
        }
        sleep(self.pause);
        self.pause = (self.pause * 2).min(Duration::from_millis(200));
        true
    }
}

fn read_only() -> DmOptions {
    DmOptions::default().set_flags(DmFlags::DM_READONLY)
}

/// A kernel name is ASCII and of a length that the crate takes, so this fails for none.
fn dm_name(name: &DeviceName) -> Result<&DmName, Error> {
    DmName::new(name.kernel_name()).map_err(|error| failed(Some(name), "naming it", &error))
}

fn number(info: &devicemapper::DeviceInfo) -> DeviceNumber {
    let packed = info.device().to_kdev_t().map_or(0, u64::from);
    DeviceNumber::from_packed(packed)
}

/// What the kernel answered, if it was the kernel that answered.
fn errno(error: &DmError) -> Option<Errno> {
    match error {
        DmError::Core(CoreError::Ioctl(_, _, _, errno)) => Some(**errno),
        _ => None,
    }
}

fn failed(name: Option<&DeviceName>, action: &'static str, error: &DmError) -> Error {
    let source = errno(error).map_or_else(|| io::Error::other(error.clone()), io::Error::from);
    failure(name, action, source)
}

fn failure(name: Option<&DeviceName>, action: &'static str, source: io::Error) -> Error {
    if source.kind() == io::ErrorKind::PermissionDenied {
        return Error::Permission { action: "use device-mapper", source };
    }
    let subject = name.map_or_else(|| "device-mapper".to_owned(), |name| format!("device {name}"));
    Error::DeviceMapper { subject, action, source }
}

/// The names in the answer to `DM_LIST_DEVICES`: a chain of `struct dm_name_list`, each with the distance to the
/// next. Names that are not this module's to handle are left out; a chain that leaves its buffer ends.
fn names_in(mut list: &[u8]) -> Vec<DeviceName> {
    const NEXT: usize = 8;
    const NAME: usize = 12;
    let mut names = Vec::new();
    while let Some(&next) = list.get(NEXT..NAME).and_then(<[u8]>::first_chunk) {
        let text = list[NAME..].split(|&byte| byte == 0).next().unwrap_or_default();
        names.extend(std::str::from_utf8(text).ok().and_then(DeviceName::from_kernel));
        let next = usize::try_from(u32::from_ne_bytes(next)).unwrap_or(0);
        match list.get(next..) {
            Some(rest) if next != 0 => list = rest,
            _ => break,
        }
    }
    names
}

fn open_control() -> Result<(), Error> {
    match File::open(CONTROL) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => make_control(),
        Err(error) => Err(control_error(error)),
    }
}

/// Makes the control node as libdevmapper does, for a `/dev` that devtmpfs does not keep, and takes it away again
/// if there is no driver behind it.
fn make_control() -> Result<(), Error> {
    let made_directory = fs::create_dir(NODE_DIRECTORY).is_ok();
    let minor = sysfs::misc_minor("device-mapper").unwrap_or(CONTROL_MINOR);
    let rdev = makedev(MISC_MAJOR, minor.into());
    let mode = Mode::S_IRUSR | Mode::S_IWUSR;
    let opened = match mknod(CONTROL, SFlag::S_IFCHR, mode, rdev) {
        Ok(()) => File::open(CONTROL).inspect_err(|_| drop(fs::remove_file(CONTROL))),
        // Someone else was faster.
        Err(Errno::EEXIST) => File::open(CONTROL),
        Err(errno) => Err(errno.into()),
    };
    if opened.is_err() && made_directory {
        let _ = fs::remove_dir(Path::new(NODE_DIRECTORY));
    }
    opened.map(drop).map_err(control_error)
}

fn control_error(source: io::Error) -> Error {
    match source.kind() {
        io::ErrorKind::PermissionDenied => Error::Permission { action: "use device-mapper", source },
        _ => Error::NoDeviceMapper { source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What the kernel writes, event numbers and padding included.
    fn list(names: &[&[u8]]) -> Vec<u8> {
        let mut list = Vec::new();
        for (index, name) in names.iter().enumerate() {
            let end = (12 + name.len() + 1).next_multiple_of(8) + 8;
            let next = if index + 1 == names.len() { 0 } else { end };
            list.extend(0x1234_u64.to_ne_bytes());
            list.extend(u32::try_from(next).unwrap().to_ne_bytes());
            list.extend(*name);
            list.resize(list.len() + end - 12 - name.len(), 0);
        }
        list
    }

    fn texts(list: &[u8]) -> Vec<String> {
        names_in(list).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_list_of_devices_is_read() {
        assert!(texts(&[]).is_empty());
        assert_eq!(texts(&list(&[b"root"])), ["root"]);
        assert_eq!(
            texts(&list(&[b"a", br"my\x20layer", b"0123456789abcdef"])),
            ["a", "my layer", "0123456789abcdef"]
        );
    }

    #[test]
    fn one_odd_name_does_not_hide_the_others() {
        assert_eq!(texts(&list(&[b"a", b"\xff\xfe", b"with space", "ö".as_bytes(), b"z"])), ["a", "z"]);
    }

    proptest! {
        #[test]
        fn a_list_with_wild_distances_is_survived(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            names_in(&bytes);
        }
    }

    #[test]
    fn a_device_is_veritys_by_its_table_or_while_empty_by_its_uuid() {
        let target = |kind: &str| Target { sectors: 8, kind: kind.to_owned(), text: String::new() };
        let device = |uuid: Option<&str>, targets| Device {
            number: DeviceNumber::new(253, 0).unwrap(),
            uuid: uuid.map(str::to_owned),
            open_count: 0,
            read_only: true,
            suspended: false,
            deferred_remove: false,
            targets,
        };
        assert!(device(None, vec![target("verity")]).is_verity());
        assert!(device(Some("CRYPT-VERITY-x"), vec![]).is_verity());
        assert!(!device(Some("CRYPT-VERITY-x"), vec![target("linear")]).is_verity());
        assert!(!device(Some("LVM-x"), vec![]).is_verity());
        assert!(!device(None, vec![target("verity"), target("linear")]).is_verity());
    }
}
