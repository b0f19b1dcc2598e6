//! What can go wrong between layers and a mounted root file system.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::device::{self, DeviceName, Kind};
use crate::erofs;

use super::MAX_LAYERS;
use super::users::User;

/// A failure. Unless the message says otherwise, nothing is left mounted and no device is left behind.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An image without layers.
    #[error("there is no layer to mount")]
    NoLayers,
    /// More than the kernel stacks.
    #[error("{found} different layers: Linux stacks at most {MAX_LAYERS} in one overlay")]
    TooManyLayers {
        /// How many there are; layers that occur twice count once.
        found: usize,
    },
    /// The target cannot be looked at.
    #[error("target {}: {source}", target.display())]
    Target {
        /// Its path.
        target: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
    /// The target is a file, a device, a socket.
    #[error("target {}: it is no directory", target.display())]
    NotADirectory {
        /// Its path.
        target: PathBuf,
    },
    /// Its path leads to another directory than at the beginning.
    #[error("target {}: another directory has come in its place meanwhile", target.display())]
    TargetChanged {
        /// Its path.
        target: PathBuf,
    },
    /// The finished mount could not be put there.
    #[error("target {}: nothing can be mounted there: {source}", target.display())]
    Attach {
        /// Its path.
        target: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
    /// Something is mounted on the target.
    #[error("target {}: it is a mount point already", target.display())]
    AlreadyMounted {
        /// Its path.
        target: PathBuf,
    },

    /// Mounts are root's.
    #[error("no permission to {action}: {source}")]
    Permission {
        /// What was tried.
        action: &'static str,
        /// What the system answered.
        source: io::Error,
    },
    /// The kernel lacks a file system, nor could it load its module.
    #[error("the kernel has no file system {kind} (module {kind})")]
    NoFileSystem {
        /// Its name: `erofs`, `overlay` or `tmpfs`.
        kind: &'static str,
    },
    /// Without it devices cannot be told apart.
    #[error("there is no sysfs at /sys")]
    NoSysfs,
    /// A device of a layer could not be made.
    #[error("layer {number} ({}): {source}", blob.display())]
    Layer {
        /// Which layer, counted from 1, the lowest.
        number: usize,
        /// Its file.
        blob: PathBuf,
        /// Why.
        source: Box<device::Error>,
    },
    /// What the kernel read of a layer does not match its tree.
    #[error("layer {number} ({}) is corrupted: device {device} has seen a block that does not match", blob.display())]
    Corrupted {
        /// Which layer, counted from 1, the lowest.
        number: usize,
        /// Its file.
        blob: PathBuf,
        /// Its device.
        device: DeviceName,
    },
    /// Every name that the layer's device could have is another device's.
    #[error("layer {number} ({}): {device} and every further name for its device is taken by one that differs", blob.display())]
    NamesTaken {
        /// Which layer, counted from 1, the lowest.
        number: usize,
        /// Its file.
        blob: PathBuf,
        /// The first of the names.
        device: DeviceName,
    },
    /// The kernel does not take a layer's image for EROFS that it knows.
    #[error("layer {number} ({}): its image cannot be mounted as EROFS: {failure}", blob.display())]
    Image {
        /// Which layer, counted from 1, the lowest.
        number: usize,
        /// Its file.
        blob: PathBuf,
        /// What the kernel answered.
        failure: KernelFailure,
    },
    /// A layer's image is no EROFS, or one that could show more than the layer. The kernel has not seen it.
    #[error("layer {number} ({}): its image is not mounted: {source}", blob.display())]
    Refused {
        /// Which layer, counted from 1, the lowest.
        number: usize,
        /// Its file.
        blob: PathBuf,
        /// What is wrong with it.
        source: erofs::Error,
    },
    /// The overlay could not be made.
    #[error("stacking {layers} layers failed: {failure}")]
    Overlay {
        /// How many.
        layers: usize,
        /// What the kernel answered.
        failure: KernelFailure,
    },
    /// A step in between failed.
    #[error("{action} failed: {source}")]
    System {
        /// What was tried.
        action: &'static str,
        /// What the system answered.
        source: io::Error,
    },
    /// Devices could not be looked at or removed.
    #[error(transparent)]
    Device(#[from] device::Error),
    /// Another process makes mounts and does not come to an end.
    #[error("another process has been making or removing layers' devices for {seconds} s")]
    Locked {
        /// So long was waited.
        seconds: u64,
    },
    /// The observer stopped it.
    #[error("cancelled")]
    Cancelled,
    /// The observer stopped the wait for the devices of what was unmounted. They are marked: each goes when it is last closed, with its loop device.
    #[error("{} is unmounted, and {} of its devices are still going: {}", target.display(), devices.len(), named(devices))]
    StillGoing {
        /// The path of what was the mount.
        target: PathBuf,
        /// The devices.
        devices: Vec<DeviceName>,
    },

    /// There is no mount at the target.
    #[error("{}: nothing is mounted there", target.display())]
    NotMounted {
        /// Its path.
        target: PathBuf,
    },
    /// What is mounted there was not made of layers here.
    #[error("{}: what is mounted there is not an image that was mounted by verity (it is {found})", target.display())]
    NotOurs {
        /// Its path.
        target: PathBuf,
        /// Its file system and source.
        found: String,
    },
    /// The mount is in use. It stays.
    #[error("{} is in use{}", target.display(), list(users))]
    Busy {
        /// Its path.
        target: PathBuf,
        /// Who uses it, as far as that can be seen.
        users: Vec<User>,
    },
    /// The mount is gone, and devices of it are not.
    #[error(
        "{} is unmounted, but {} of its devices are still in use, the first one {}{}",
        target.display(), devices.len(), first(devices), list(users)
    )]
    DevicesStay {
        /// The path of what was the mount.
        target: PathBuf,
        /// The devices.
        devices: Vec<DeviceName>,
        /// Who has them, as far as that can be seen.
        users: Vec<User>,
    },
}

fn first(devices: &[DeviceName]) -> String {
    devices.first().map(ToString::to_string).unwrap_or_default()
}

/// `: a, b, c and 5 more`; nothing of nobody.
fn list(users: &[User]) -> String {
    if users.is_empty() { String::new() } else { format!(": {}", named(users)) }
}

/// `a, b, c and 5 more`.
fn named(all: &[impl fmt::Display]) -> String {
    const SHOWN: usize = 4;
    let shown: Vec<_> = all.iter().take(SHOWN).map(ToString::to_string).collect();
    let more = if all.len() > SHOWN { format!(" and {} more", all.len() - SHOWN) } else { String::new() };
    shown.join(", ") + &more
}

/// What the kernel answered to a mount, with what the file system said of it where it says something.
#[derive(Debug)]
pub struct KernelFailure {
    /// The answer.
    pub source: io::Error,
    /// The file system's own words; empty where it has none but in the kernel's log.
    pub said: String,
}

impl fmt::Display for KernelFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.source.fmt(f)?;
        if self.said.is_empty() { Ok(()) } else { write!(f, " ({})", self.said) }
    }
}

impl Error {
    /// What kind of failure this is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Refused { source: erofs::Error::Unreadable { source, .. }, .. } => Kind::of(source),
            Self::NoLayers
            | Self::TooManyLayers { .. }
            | Self::NotADirectory { .. }
            | Self::Refused { .. }
            | Self::Image { .. } => Kind::Argument,
            Self::Permission { .. } => Kind::Permission,
            Self::Corrupted { .. } => Kind::Verification,
            Self::AlreadyMounted { .. } | Self::NamesTaken { .. } => Kind::Exists,
            Self::Busy { .. } | Self::DevicesStay { .. } | Self::Locked { .. } => Kind::Busy,
            Self::NotMounted { .. } | Self::NotOurs { .. } => Kind::NotFound,
            Self::Layer { source, .. } => source.kind(),
            Self::Device(source) => source.kind(),
            Self::Target { source, .. }
            | Self::Attach { source, .. }
            | Self::System { source, .. }
            | Self::Overlay { failure: KernelFailure { source, .. }, .. } => Kind::of(source),
            Self::NoFileSystem { .. }
            | Self::NoSysfs
            | Self::TargetChanged { .. }
            | Self::Cancelled
            | Self::StillGoing { .. } => Kind::Other,
        }
    }
}

/// A failed call that only root's powers are enough for.
pub(super) fn system(action: &'static str) -> impl FnOnce(rustix::io::Errno) -> Error {
    move |errno| from_io(action, errno.into())
}

pub(super) fn from_io(action: &'static str, source: io::Error) -> Error {
    match source.kind() {
        io::ErrorKind::PermissionDenied => Error::Permission { action, source },
        _ => Error::System { action, source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_uses_a_mount_is_told_and_counted() {
        let user = |pid| User::Process { pid, program: "sh".into(), how: "works in it".into() };
        let busy = |count| Error::Busy { target: "/mnt".into(), users: (1..=count).map(user).collect() };
        assert_eq!(busy(0).to_string(), "/mnt is in use");
        assert_eq!(busy(1).to_string(), "/mnt is in use: process 1 (sh) works in it");
        let text = busy(9).to_string();
        assert!(text.contains("process 4 (sh)") && text.ends_with("and 5 more"), "{text}");
    }

    #[test]
    fn devices_that_are_still_going_are_named() {
        let devices = |count| (0..count).map(|n| format!("verity-{n}").parse().unwrap()).collect();
        let text = |count| Error::StillGoing { target: "/mnt".into(), devices: devices(count) }.to_string();
        assert_eq!(text(1), "/mnt is unmounted, and 1 of its devices are still going: verity-0");
        assert!(text(6).ends_with(" verity-2, verity-3 and 2 more"), "{}", text(6));
    }

    #[test]
    fn a_refusal_is_one_of_permission() {
        let refused = system("mount")(rustix::io::Errno::PERM);
        assert_eq!(refused.kind(), Kind::Permission);
        assert!(matches!(system("mount")(rustix::io::Errno::NOENT), Error::System { .. }));
    }
}
