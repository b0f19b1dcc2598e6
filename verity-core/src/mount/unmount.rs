//! Taking a mounted image away.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{AtFlags, Mode, OFlags, StatxAttributes, StatxFlags, open, statx};
use rustix::io::Errno;
use rustix::mount::{OpenTreeFlags, UnmountFlags, open_tree, unmount as umount};

use crate::device::{Departing, DeviceInfo, DeviceName, list};
use crate::progress::Observer;

use super::error::{Error, from_io};
use super::lock::Lock;
use super::mountinfo::{self, Mount};
use super::namespaces::{self, Namespace, View};
use super::users::{self, User};
use super::{devices, layer};

/// So long is waited for the next device to go, before it is looked who keeps it.
const PATIENCE: Duration = Duration::from_secs(3);

/// So often, where nobody is found who does: machines can be slow, and an image that is being mounted is seen only when it is.
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
    /// Those that other mounted images have, too, in whichever mount namespace.
    pub shared: Vec<DeviceName>,
    /// Those that go with the last one who uses what was mounted.
    pub pending: Vec<DeviceName>,
}

/// Unmounts what [`mount()`](super::mount()) mounted at `target`.
///
/// # Errors
/// [`Error::NotMounted`], [`Error::NotOurs`]; [`Error::Busy`] if it is in use, with who uses it; [`Error::DevicesStay`] if it was unmounted, but somebody else,
/// such as another mount namespace with a copy of it, has it still; [`Error::Cancelled`] if the observer stopped it before it was unmounted, and
/// [`Error::StillGoing`] if it was by then; and what the system can answer.
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
    // As long as this clone is open the file system is there, and its number nobody else's.
    let clone = (until == Until::Gone).then(|| place.clone_mount()).flatten();
    match umount(place.path(), flags | UnmountFlags::NOFOLLOW) {
        Ok(()) => {}
        Err(Errno::BUSY) => return Err(Error::Busy { target: target.to_owned(), users: users_of(&mount)? }),
        Err(errno) => return Err(from_io("unmount", errno.into())),
    }
    drop(lock);
    let elsewhere = Elsewhere::of(&mount, None)?;
    drop(clone);
    let mut unmounted = Unmounted::default();
    if until == Until::Detached {
        let (shared, pending) = elsewhere.part(departing);
        unmounted.shared = names(&shared);
        unmounted.pending = names(&pending);
        return Ok(unmounted);
    }
    let all = names(&departing);
    let shared = gone(&mount, departing, elsewhere, observer).map_err(|error| match error {
        Left::Stopped(devices) => Error::StillGoing { target: target.to_owned(), devices },
        Left::Kept(devices, users) => Error::DevicesStay { target: target.to_owned(), devices, users },
        Left::Failed(error) => error,
    })?;
    unmounted.removed = all.into_iter().filter(|name| !shared.contains(name)).collect();
    unmounted.shared = shared;
    // What a killed process has left is taken away on the way; nobody waits for that.
    if let Some(_lock) = Lock::if_free() {
        let _ = devices::sweep();
    }
    Ok(unmounted)
}

fn names(devices: &[Departing]) -> Vec<DeviceName> {
    devices.iter().map(|device| device.name().clone()).collect()
}

/// Why devices are left.
enum Left {
    /// The observer stopped the wait.
    Stopped(Vec<DeviceName>),
    /// Somebody has them; who, as far as that can be seen.
    Kept(Vec<DeviceName>, Vec<User>),
    Failed(Error),
}

impl From<Error> for Left {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// Waits until the devices are gone, but for those that other mounted images have; these.
///
/// What others mount and unmount meanwhile is seen: before each wait it is looked anew.
fn gone(
    mount: &Mount,
    mut left: Vec<Departing>,
    first: Elsewhere,
    observer: &dyn Observer,
) -> Result<Vec<DeviceName>, Left> {
    let copied_to: Vec<Namespace> = first.copies.iter().map(|(namespace, _)| namespace.clone()).collect();
    let mut elsewhere = first;
    let mut shared = Vec::new();
    for look in 0..LOOKS {
        if look > 0 {
            elsewhere = Elsewhere::of(mount, Some(&copied_to))?;
            if !elsewhere.copies.is_empty() {
                let users = elsewhere.copies.into_iter().map(|(_, user)| user).collect();
                return Err(Left::Kept(names(&left), users));
            }
        }
        // What a copy of the mount keeps, it keeps whoever else has it. Unless that goes, too, as with a container that ends.
        if elsewhere.copies.is_empty() {
            let (of_others, rest) = elsewhere.part(left);
            shared.extend(names(&of_others));
            left = rest;
        }
        left = devices::wait(left, PATIENCE, observer)?;
        if left.is_empty() {
            return Ok(shared);
        }
        if observer.cancelled() {
            return Err(Left::Stopped(names(&left)));
        }
    }
    Err(Left::Kept(names(&left), Vec::new()))
}

/// What is mounted of the devices of an image that is unmounted.
struct Elsewhere {
    /// The minor numbers of devices that other images are made of, in whichever namespace, or the same one at another place of this.
    others: BTreeSet<u32>,
    /// The namespaces that have a copy of the very mount, and a process in each.
    copies: Vec<(Namespace, User)>,
}

impl Elsewhere {
    /// Looks. `copied_to` are the namespaces that can have a copy, where that is known: from when the mount's file system cannot be another one.
    fn of(mount: &Mount, copied_to: Option<&[Namespace]>) -> Result<Self, Error> {
        let own = namespaces::own();
        let mut others: BTreeSet<u32> = mounts()?.iter().filter_map(Mount::layers).flatten().collect();
        let mut copies = Vec::new();
        for View { namespace, pid, program, mounts } in namespaces::others() {
            let elsewhere = Some(&namespace) != own.as_ref()
                && copied_to.is_none_or(|namespaces| namespaces.contains(&namespace));
            for found in &mounts {
                if elsewhere && found.is_copy_of(mount) {
                    let at = users::printable(&found.mount_point.to_string_lossy());
                    let how = format!("has it mounted at {at}");
                    let user = User::Process { pid, program: program.clone(), how };
                    copies.push((namespace.clone(), user));
                } else {
                    others.extend(found.layers().into_iter().flatten());
                }
            }
        }
        Ok(Self { others, copies })
    }

    /// The devices that others have, and the rest.
    fn part(&self, devices: Vec<Departing>) -> (Vec<Departing>, Vec<Departing>) {
        devices.into_iter().partition(|device| self.others.contains(&device.number().minor()))
    }
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

    /// A copy of it that is attached nowhere. There is none of a mount that may not be copied (`mount --make-unbindable`).
    fn clone_mount(&self) -> Option<OwnedFd> {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE
            | OpenTreeFlags::OPEN_TREE_CLOEXEC
            | OpenTreeFlags::AT_SYMLINK_NOFOLLOW;
        open_tree(&self.parent, &self.name, flags).ok()
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
