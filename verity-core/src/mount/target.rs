//! The directory on which an image is mounted: the one that was looked at, whatever its path leads to by then.

use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags, Statx, StatxAttributes, StatxFlags, open, statx};
use rustix::io::Errno;
use rustix::mount::{MoveMountFlags, move_mount};

use super::error::{Error, system};

/// An open directory on which nothing is mounted.
pub(super) struct Target {
    directory: OwnedFd,
    found: Statx,
    /// Its path without links.
    pub(super) path: PathBuf,
}

impl Target {
    pub(super) fn open(target: &Path) -> Result<Self, Error> {
        let failed = |source| Error::Target { target: target.to_owned(), source };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = open(target, flags, Mode::empty()).map_err(|errno| match errno {
            Errno::NOTDIR => Error::NotADirectory { target: target.to_owned() },
            errno => failed(errno.into()),
        })?;
        let found = statx(&directory, "", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS | StatxFlags::MNT_ID)
            .map_err(|errno| failed(errno.into()))?;
        if found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT) {
            return Err(Error::AlreadyMounted { target: target.to_owned() });
        }
        let path = fs::read_link(format!("/proc/self/fd/{}", directory.as_raw_fd())).map_err(failed)?;
        Ok(Self { directory, found, path })
    }

    /// Moves a mount there. The caller has the lock.
    pub(super) fn attach(&self, mount: &OwnedFd) -> Result<(), Error> {
        let target = || self.path.clone();
        // What is open does not show what has been mounted over it since, and whoever owns a directory on the way can have put another one at the
        // path. So it is opened again, and has to be the same.
        let now = Self::open(&self.path)?;
        if !now.is(self) {
            return Err(Error::TargetChanged { target: target() });
        }
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
        move_mount(mount, "", &now.directory, "", flags).map_err(|errno| match errno {
            Errno::PERM | Errno::ACCESS => system("attach the mount to its target")(errno),
            errno => Error::Attach { target: target(), source: errno.into() },
        })
    }

    fn is(&self, other: &Self) -> bool {
        let id = |found: &Statx| (found.stx_mnt_id, found.stx_dev_major, found.stx_dev_minor, found.stx_ino);
        id(&self.found) == id(&other.found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_in_the_place_of_another_is_not_taken_for_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir(path("target")).unwrap();
        fs::create_dir(path("other")).unwrap();
        std::os::unix::fs::symlink("target", path("link")).unwrap();
        let target = Target::open(&path("link")).unwrap();
        assert_eq!(target.path, path("target").canonicalize().unwrap());
        assert!(target.is(&Target::open(&target.path).unwrap()));
        fs::rename(path("target"), path("moved")).unwrap();
        std::os::unix::fs::symlink("other", path("target")).unwrap();
        assert!(!target.is(&Target::open(&target.path).unwrap()));
    }

    #[test]
    fn what_cannot_be_a_target_is_told() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(matches!(Target::open(file.path()), Err(Error::NotADirectory { .. })));
        assert!(matches!(Target::open(&file.path().with_extension("missing")), Err(Error::Target { .. })));
        assert!(matches!(Target::open(Path::new("/proc")), Err(Error::AlreadyMounted { .. })));
    }
}
