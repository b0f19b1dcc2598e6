//! Taking a mounted image away.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{AtFlags, Mode, OFlags, StatxAttributes, StatxFlags, open, statx};
use rustix::io::Errno;
use rustix::mount::{UnmountFlags, unmount as umount};

use crate::device::{Departing, DeviceInfo, DeviceName, list};
use crate::progress::Observer;

use super::error::{Error, from_io};
use super::lock::Lock;
use super::mountinfo::{self, Mount};
use super::users::{self, User};
use super::{devices, layer};

/// So long is waited for the next device to go, before it is looked who keeps it.
const PATIENCE: Duration = Duration::from_secs(3);

/// So often, where nobody is found who does: machines can be slow.
const LOOKS: usize = 10;

/// When an [`unmount`] is done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Until {
    /// When everything is gone: the mount, its devices and their loop devices, but for those of layers that other mounted images have, too. A mount
    /// that is in use is an error, and stays.
    #[default]
    Gone,
    /// When the mount cannot be found any more (`umount --lazy`). Who uses it goes on; with the last of them the devices go.
    Detached,
}

/// What became of a mounted image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unmounted {
    /// The devices that are gone.
    pub removed: Vec<DeviceName>,
    /// Those that other mounted images have, too.
    pub shared: Vec<DeviceName>,
    /// Those that go with the last one who uses what was mounted.
    pub pending: Vec<DeviceName>,
}

/// Unmounts what [`mount()`](super::mount()) mounted at `target`.
///
/// # Errors
/// [`Error::NotMounted`], [`Error::NotOurs`]; [`Error::Busy`] if it is in use, with who uses it; [`Error::DevicesStay`] if it was unmounted, but somebody else,
/// such as another mount namespace, has it still; and what the system can answer.
pub fn unmount(target: &Path, until: Until, observer: &dyn Observer) -> Result<Unmounted, Error> {
    let place = Place::open(target)?;
    // Nobody who asks for the lock mounts or unmounts anything between the look and what it is for.
    let lock = Lock::take(observer)?;
    let mount = place.mount()?;
    let minors = mount.layers().ok_or_else(|| Error::NotOurs {
        target: target.to_owned(),
        found: format!("{} of {}", mount.kind, mount.source),
    })?;
    let departing = departing(&minors)?;
    let flags = match until {
        Until::Gone => UnmountFlags::empty(),
        Until::Detached => UnmountFlags::DETACH,
    };
    match umount(place.path(), flags | UnmountFlags::NOFOLLOW) {
        Ok(()) => {}
        Err(Errno::BUSY) => return Err(Error::Busy { target: target.to_owned(), users: users_of(&mount)? }),
        Err(errno) => return Err(from_io("unmount", errno.into())),
    }
    drop(lock);
    let still_mounted: Vec<u32> = mounts()?.iter().filter_map(Mount::layers).flatten().collect();
    let (shared, departing): (Vec<_>, Vec<_>) =
        departing.into_iter().partition(|device| still_mounted.contains(&device.number().minor()));
    let names =
        |devices: &[Departing]| devices.iter().map(|device| device.name().clone()).collect::<Vec<_>>();
    let mut unmounted = Unmounted { shared: names(&shared), ..Unmounted::default() };
    if until == Until::Detached {
        unmounted.pending = names(&departing);
        return Ok(unmounted);
    }
    unmounted.removed = names(&departing);
    let (left, users) = gone(departing)?;
    if !left.is_empty() {
        return Err(Error::DevicesStay { target: target.to_owned(), devices: names(&left), users });
    }
    // What a killed process has left is taken away on the way; nobody waits for that.
    if let Some(_lock) = Lock::if_free() {
        let _ = devices::sweep();
    }
    Ok(unmounted)
}

/// Waits until the devices are gone; those that are not, and who keeps them.
fn gone(mut left: Vec<Departing>) -> Result<(Vec<Departing>, Vec<User>), Error> {
    for _ in 0..LOOKS {
        left = devices::wait(left, PATIENCE)?;
        let minors: Vec<u32> = left.iter().map(|device| device.number().minor()).collect();
        let users = if minors.is_empty() { Vec::new() } else { users::of_devices(&minors) };
        if left.is_empty() || !users.is_empty() {
            return Ok((left, users));
        }
    }
    Ok((left, Vec::new()))
}

fn mounts() -> Result<Vec<Mount>, Error> {
    // Of this thread, which need not be in its process's namespace.
    let text =
        fs::read("/proc/thread-self/mountinfo").map_err(|source| from_io("read the mounts", source))?;
    Ok(mountinfo::parse(&text))
}

/// Where something is mounted: a name in a directory that is open, so that nobody can put another one on the way. What is mounted cannot be held open, or
/// it could not be unmounted.
struct Place<'a> {
    target: &'a Path,
    parent: OwnedFd,
    name: OsString,
}

impl<'a> Place<'a> {
    fn open(target: &'a Path) -> Result<Self, Error> {
        let failed = |source: io::Error| Error::Target { target: target.to_owned(), source };
        let path = fs::canonicalize(target).map_err(failed)?;
        let (parent, name) = match (path.parent(), path.file_name()) {
            (Some(parent), Some(name)) => (parent, name),
            _ => (path.as_path(), OsStr::new(".")),
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = open(parent, flags, Mode::empty()).map_err(|errno| failed(errno.into()))?;
        Ok(Self { target, parent: opened, name: name.to_owned() })
    }

    /// A path that leads there whatever has been renamed.
    fn path(&self) -> PathBuf {
        Path::new("/proc/self/fd").join(self.parent.as_raw_fd().to_string()).join(&self.name)
    }

    /// The mount whose root is there.
    fn mount(&self) -> Result<Mount, Error> {
        let none = || Error::NotMounted { target: self.target.to_owned() };
        let flags = AtFlags::NO_AUTOMOUNT | AtFlags::SYMLINK_NOFOLLOW;
        let found = statx(&self.parent, &self.name, flags, StatxFlags::MNT_ID)
            .map_err(|errno| Error::Target { target: self.target.to_owned(), source: errno.into() })?;
        if !found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT) {
            return Err(none());
        }
        mounts()?.into_iter().find(|mount| mount.id == found.stx_mnt_id).ok_or_else(none)
    }
}

/// The devices of ours with these minor numbers.
fn departing(minors: &[u32]) -> Result<Vec<Departing>, Error> {
    let ours = |info: &DeviceInfo| {
        minors.contains(&info.number.minor()) && layer::is_ours(&info.name, info.uuid.as_deref())
    };
    Ok(list()?.into_iter().flatten().filter(|info| ours(info)).map(|info| Departing::new(&info)).collect())
}

/// Who keeps a mount: processes, and what is mounted below it.
fn users_of(mount: &Mount) -> Result<Vec<User>, Error> {
    let mut users = users::of_mount(mount.id);
    let inner = mounts()?.into_iter().filter(|inner| inner.parent == mount.id);
    users.extend(inner.map(|inner| User::Mount { at: inner.mount_point }));
    Ok(users)
}
