//! What can go wrong between here and an active device, and what kind of failure each is.

use std::io;
use std::path::PathBuf;

use crate::tree;

use super::activate::{Role, Step};
use super::name::{DeviceName, NameError};
use super::number::DeviceNumber;
use super::refusal::Refusal;
use super::status::StatusError;
use super::table::TableError;
use super::version::{BadKernelVersion, Unsupported};

/// A failure of the kernel floor. Unless the message says otherwise, nothing is left behind.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Not a device name.
    #[error(transparent)]
    Name(#[from] NameError),
    /// Values that make no table.
    #[error(transparent)]
    Table(#[from] TableError),
    /// A table from the kernel that means nothing here, such as one with an option that this version does not know.
    #[error("device {name}: {source}")]
    KernelTable {
        /// The device.
        name: DeviceName,
        /// What is wrong with it.
        source: TableError,
    },
    /// A status from the kernel that means nothing here.
    #[error("device {name}: {source}")]
    Status {
        /// The device.
        name: DeviceName,
        /// What it says.
        source: StatusError,
    },
    /// The kernel names itself in an unknown way.
    #[error(transparent)]
    KernelVersion(#[from] BadKernelVersion),
    /// The kernel is too old for an option.
    #[error(transparent)]
    Unsupported(#[from] Unsupported),

    /// The running kernel has no device-mapper, or this is a container without it.
    #[error("the kernel has no device-mapper (module dm_mod): {source}")]
    NoDeviceMapper {
        /// What opening its control node answered.
        source: io::Error,
    },
    /// Device-mapper is there, its verity target is not, nor could the kernel load it.
    #[error("the kernel has no verity target (module dm_verity, CONFIG_DM_VERITY)")]
    NoVerityTarget,
    /// Device-mapper and loop devices are root's.
    #[error("no permission to {action}: {source}")]
    Permission {
        /// What was tried.
        action: &'static str,
        /// What the system answered.
        source: io::Error,
    },
    /// A call of device-mapper's failed.
    #[error("{subject}: {action} failed: {source}")]
    DeviceMapper {
        /// `device NAME`, or `device-mapper` where it is about no device.
        subject: String,
        /// What was tried.
        action: &'static str,
        /// What the system answered.
        source: io::Error,
    },

    /// The data, hash or parity device cannot be opened or asked for its size.
    #[error("{role} {}: {source}", path.display())]
    Open {
        /// Which of them.
        role: Role,
        /// Its path.
        path: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
    /// A directory, a character device, a pipe, a socket.
    #[error("{role} {}: it is neither a regular file nor a block device", path.display())]
    NotAFile {
        /// Which of them.
        role: Role,
        /// Its path.
        path: PathBuf,
    },
    /// It ends before what lies on it does.
    #[error("{role} {}: it has {found} bytes, {needed} are needed", path.display())]
    TooSmall {
        /// Which of them.
        role: Role,
        /// Its path.
        path: PathBuf,
        /// Its size in bytes.
        found: u64,
        /// The byte behind the last one that is needed.
        needed: u64,
    },
    /// Someone else uses the block device: it is mounted, or another device is made of it.
    #[error("{role} {}: it is in use (mounted, or part of another device)", path.display())]
    InUse {
        /// Which of them.
        role: Role,
        /// Its path.
        path: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
    /// The root hash does not belong to the tree, or the tree's top block cannot be read.
    #[error(transparent)]
    Tree(#[from] tree::Error),

    /// The kernel has no loop driver, or this is a container without it.
    #[error("no loop devices here (module loop, /dev/loop-control): {source}")]
    NoLoopDevices {
        /// What opening its control node answered.
        source: io::Error,
    },
    /// Every loop device is taken and the kernel makes no more.
    #[error("no loop device is free: {source}")]
    NoFreeLoop {
        /// What the kernel answered.
        source: io::Error,
    },
    /// A loop device could not be attached.
    #[error("attaching {} to loop device {}: {source}", backing.display(), device.display())]
    Loop {
        /// The loop device's node.
        device: PathBuf,
        /// The file.
        backing: PathBuf,
        /// What the system answered.
        source: io::Error,
    },

    /// The name is taken.
    #[error("device {name} exists already")]
    Exists {
        /// The name.
        name: DeviceName,
    },
    /// The UUID is taken by a device of another name.
    #[error("device {name}: a device with its UUID {uuid} exists already")]
    UuidExists {
        /// The name that was asked for.
        name: DeviceName,
        /// The UUID as device-mapper has it.
        uuid: String,
    },
    /// The signature could not be made a key of the kernel's.
    #[error("device {name}: making the signature a kernel key failed: {source}")]
    Key {
        /// The device.
        name: DeviceName,
        /// What the system answered.
        source: io::Error,
    },
    /// The kernel did not take the table.
    #[error("device {name}: the kernel refuses its table ({source}): {refusal}")]
    Refused {
        /// The device.
        name: DeviceName,
        /// The number that it had; it is gone.
        device: DeviceNumber,
        /// Why, as far as that can be told from here.
        refusal: Refusal,
        /// What the kernel answered.
        source: io::Error,
    },
    /// The node below `/dev/mapper` could not be made.
    #[error("node {}: {source}", path.display())]
    Node {
        /// Its path.
        path: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
    /// The new device is not verified: a block does not match its digest.
    #[error("device {name} is corrupted: the kernel refuses {}", refused(*.block))]
    Corrupted {
        /// The device.
        name: DeviceName,
        /// The data block whose read failed, if one did.
        block: Option<u64>,
    },
    /// A data block of the new device could not be read, though the kernel found no corruption.
    #[error("device {name}: reading data block {block} failed: {source}")]
    Read {
        /// The device.
        name: DeviceName,
        /// Which block.
        block: u64,
        /// What the system answered.
        source: io::Error,
    },
    /// An observer stopped the activation.
    #[error("device {name}: stopped after step {after}: {source}")]
    Stopped {
        /// The device.
        name: DeviceName,
        /// The last step that was done.
        after: Step,
        /// The observer's reason.
        source: io::Error,
    },
    /// The new device was removed by someone else before its activation was done.
    #[error("device {name} was removed by someone else while it was being made")]
    Vanished {
        /// The device.
        name: DeviceName,
        /// The step that failed for it.
        source: Box<Error>,
    },
    /// An activation failed, and what it had made could not all be removed.
    #[error("{error}; and the device is still there: {source}")]
    NotUndone {
        /// Why the activation failed.
        error: Box<Error>,
        /// Why the device is still there.
        source: Box<Error>,
    },

    /// There is no such device.
    #[error("device {name} is not active")]
    NotActive {
        /// The name.
        name: DeviceName,
    },
    /// There is one, but it is not dm-verity's.
    #[error("device {name} is no verity device (it is {found})")]
    NotVerity {
        /// The name.
        name: DeviceName,
        /// The targets that it has, or `empty`.
        found: String,
    },
    /// The device is open, so it cannot be removed now.
    #[error("device {name} is in use ({device}, open {open_count} times)")]
    Busy {
        /// The name.
        name: DeviceName,
        /// The device's number, by which its users are found.
        device: DeviceNumber,
        /// How many times it is open; each mount counts once.
        open_count: u32,
    },
}

fn refused(block: Option<u64>) -> String {
    block.map_or_else(|| "a block of it".to_owned(), |block| format!("data block {block}"))
}

/// What a failure means to a caller, such as a program that chooses its exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// A value that was given cannot work, here or anywhere.
    Argument,
    /// The data, the tree and the root hash do not belong together.
    Verification,
    /// Root can do it.
    Permission,
    /// No memory.
    NoMemory,
    /// A device or file is not there.
    NotFound,
    /// A name is taken.
    Exists,
    /// A device is in use.
    Busy,
    /// Anything else.
    Other,
}

impl Error {
    /// What kind of failure this is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Name(_) | Self::Table(_) | Self::Unsupported(_) | Self::NotAFile { .. } => Kind::Argument,
            Self::TooSmall { .. } | Self::NotVerity { .. } => Kind::Argument,
            Self::Tree(error) => tree_kind(error),
            Self::Corrupted { .. } => Kind::Verification,
            Self::Permission { .. } => Kind::Permission,
            Self::NotActive { .. } | Self::Vanished { .. } => Kind::NotFound,
            Self::Exists { .. } | Self::UuidExists { .. } => Kind::Exists,
            Self::Busy { .. } | Self::InUse { .. } => Kind::Busy,
            Self::Refused { refusal, .. } => match refusal {
                Refusal::InUse => Kind::Busy,
                Refusal::NoMemory => Kind::NoMemory,
                Refusal::SignatureRequired | Refusal::NoKey | Refusal::SignatureRejected => {
                    Kind::Verification
                }
                Refusal::Unknown => Kind::Other,
                _ => Kind::Argument,
            },
            Self::NotUndone { error, .. } => error.kind(),
            Self::Open { source, .. }
            | Self::Node { source, .. }
            | Self::Loop { source, .. }
            | Self::Key { source, .. }
            | Self::DeviceMapper { source, .. } => Kind::of(source),
            Self::KernelTable { .. }
            | Self::Status { .. }
            | Self::KernelVersion(_)
            | Self::NoLoopDevices { .. }
            | Self::NoFreeLoop { .. }
            | Self::NoDeviceMapper { .. }
            | Self::NoVerityTarget
            | Self::Read { .. }
            | Self::Stopped { .. } => Kind::Other,
        }
    }
}

fn tree_kind(error: &tree::Error) -> Kind {
    match error {
        tree::Error::RootHash { .. } => Kind::Verification,
        tree::Error::Read { source, .. } | tree::Error::Write { source, .. } => Kind::of(source),
        tree::Error::RootHashSize { .. } | tree::Error::Geometry(_) => Kind::Argument,
        _ => Kind::Other,
    }
}

impl Kind {
    /// What the system's answer means.
    #[must_use]
    pub fn of(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::PermissionDenied => Self::Permission,
            io::ErrorKind::NotFound => Self::NotFound,
            io::ErrorKind::OutOfMemory => Self::NoMemory,
            io::ErrorKind::ResourceBusy => Self::Busy,
            io::ErrorKind::AlreadyExists => Self::Exists,
            _ => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::error::Error as _;

    #[test]
    fn the_system_s_answer_decides_the_kind_and_stays_the_source() {
        for (errno, kind) in [
            (nix::libc::EACCES, Kind::Permission),
            (nix::libc::EPERM, Kind::Permission),
            (nix::libc::ENOENT, Kind::NotFound),
            (nix::libc::ENOMEM, Kind::NoMemory),
            (nix::libc::EBUSY, Kind::Busy),
            (nix::libc::EIO, Kind::Other),
        ] {
            let source = io::Error::from_raw_os_error(errno);
            let error = Error::Open { role: Role::Data, path: "/x".into(), source };
            assert_eq!(error.kind(), kind);
            let source = error.source().unwrap().downcast_ref::<io::Error>().unwrap();
            assert_eq!(source.raw_os_error(), Some(errno));
        }
    }

    #[test]
    fn a_failed_rollback_tells_both_stories_and_keeps_the_first_kind() {
        let name: DeviceName = "n".parse().unwrap();
        let device = DeviceNumber::new(253, 0).unwrap();
        let error = Error::NotUndone {
            error: Box::new(Error::Corrupted { name: name.clone(), block: Some(7) }),
            source: Box::new(Error::Busy { name, device, open_count: 1 }),
        };
        assert_eq!(error.kind(), Kind::Verification);
        let text = error.to_string();
        assert!(text.contains("data block 7") && text.contains("in use (253:0, open 1 times)"), "{text}");
    }
}
