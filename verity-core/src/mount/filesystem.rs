//! New file systems by the mount API of Linux 5.2: configured first, mounted nowhere, and moved to their places when they are complete.

use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string,
    fsmount, fsopen,
};

use super::error::{Error, KernelFailure, system};

/// A file system in the making.
pub(super) struct FileSystem(OwnedFd);

impl FileSystem {
    /// Fails if the kernel has none of this kind.
    pub(super) fn open(kind: &'static str) -> Result<Self, Error> {
        match fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC) {
            Ok(context) => Ok(Self(context)),
            Err(Errno::NODEV) => Err(Error::NoFileSystem { kind }),
            Err(errno) => Err(system("mount file systems")(errno)),
        }
    }

    /// Sets `key=value`; a value has at most 255 bytes.
    pub(super) fn set(&self, key: &str, value: &str) -> Result<(), KernelFailure> {
        fsconfig_set_string(&self.0, key, value).map_err(|errno| self.failure(errno))
    }

    /// Sets an option without a value.
    pub(super) fn set_flag(&self, key: &str) -> Result<(), KernelFailure> {
        fsconfig_set_flag(&self.0, key).map_err(|errno| self.failure(errno))
    }

    /// Makes the file system, and a mount of it that is attached nowhere: it goes when it is closed.
    pub(super) fn mount(self, attributes: MountAttrFlags) -> Result<OwnedFd, KernelFailure> {
        fsconfig_create(&self.0)
            .and_then(|()| fsmount(&self.0, FsMountFlags::FSMOUNT_CLOEXEC, attributes))
            .map_err(|errno| self.failure(errno))
    }

    /// What the file system says of a failure: lines that begin with a letter for how bad it is.
    fn failure(&self, errno: Errno) -> KernelFailure {
        const LINES: usize = 8;
        let mut said = Vec::new();
        let mut line = [0; 512];
        while said.len() < LINES
            && let Ok(length) = rustix::io::read(&self.0, &mut line)
            && length > 0
        {
            let text = String::from_utf8_lossy(&line[..length]);
            let text = text.trim_end().get(2..).unwrap_or_default();
            said.push(text.chars().map(|c| if c.is_control() { '?' } else { c }).collect::<String>());
        }
        KernelFailure { source: errno.into(), said: said.join("; ") }
    }
}
