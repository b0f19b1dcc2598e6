//! What is read and never written.

use std::fmt;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{Seek, SeekFrom};
use std::ops::Range;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

use super::extent::Extent;
use super::journal::refuse_unfinished;
use crate::failure::{Code, Failure};

/// What a file is to a command; the name in messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Data,
    Hash,
    Parity,
    /// A layer that is unpacked or made into another one, as a tar, too.
    Layer,
    /// A layer with its tree, in whatever dialect.
    TreeLayer,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Data => "data device",
            Self::Hash => "hash device",
            Self::Parity => "FEC device",
            Self::Layer | Self::TreeLayer => "layer",
        })
    }
}

/// A regular file or block device, open for reading.
#[derive(Debug)]
pub(crate) struct Input {
    pub(crate) role: Role,
    pub(crate) path: PathBuf,
    pub(crate) file: File,
    /// In bytes.
    pub(crate) size: u64,
    pub(crate) extent: Extent,
}

impl Input {
    /// Opens a file or block device, and refuses everything else without waiting for it.
    pub(crate) fn open(path: &Path, role: Role) -> Result<Self, Failure> {
        // Looked at first: opening some devices does something, and a pipe waits for its writer.
        inspect(path, role)?;
        if matches!(role, Role::Data | Role::Hash | Role::TreeLayer) {
            refuse_unfinished(path, role)?;
        }
        let flags = OFlag::O_NONBLOCK.bits();
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(flags)
            .open(path)
            .map_err(|error| unreachable(path, role, &error))?;
        let metadata = file.metadata().map_err(|error| unreachable(path, role, &error))?;
        check_kind(&metadata, path, role)?;
        let size =
            size(&file).map_err(|error| Failure::system(format_args!("{role} {path:?}: size"), &error))?;
        Ok(Self { role, path: path.to_owned(), extent: Extent::of(&metadata), file, size })
    }
}

impl Input {
    /// The bytes that nobody else may write to: of a file all that it can ever have, of a device those that it has.
    pub(crate) fn bytes(&self) -> Range<u64> {
        let is_file = self.file.metadata().is_ok_and(|metadata| metadata.is_file());
        0..if is_file { u64::MAX } else { self.size }
    }
}

/// The size in bytes of a file or a block device.
pub(super) fn size(mut file: &File) -> std::io::Result<u64> {
    file.seek(SeekFrom::End(0))
}

/// Looks at a path without opening it.
pub(super) fn inspect(path: &Path, role: Role) -> Result<Metadata, Failure> {
    let metadata = path.metadata().map_err(|error| unreachable(path, role, &error))?;
    check_kind(&metadata, path, role)?;
    Ok(metadata)
}

/// Why a file cannot be opened.
pub(super) fn unreachable(path: &Path, role: Role, error: &std::io::Error) -> Failure {
    let failure = match error.kind() {
        std::io::ErrorKind::NotFound => {
            Failure::new(Code::NoDevice, format_args!("{role} {path:?} does not exist"))
        }
        // ENXIO and the like: a device node without a device.
        _ if Code::of(error) == Code::General => {
            Failure::system(format_args!("{role} {path:?}"), error).code(Code::NoDevice)
        }
        _ => Failure::system(format_args!("{role} {path:?}"), error),
    };
    let text = format!("Device {} does not exist or access denied.", path.display());
    match failure.code {
        Code::Refused => failure.hint("check the file's permissions, or run as another user"),
        _ => failure.hint("check the path"),
    }
    .veritysetup(Code::NoDevice, text)
}

fn check_kind(metadata: &Metadata, path: &Path, role: Role) -> Result<(), Failure> {
    let kind = metadata.file_type();
    let what = if kind.is_file() || kind.is_block_device() {
        return Ok(());
    } else if kind.is_dir() {
        "a directory"
    } else if kind.is_fifo() {
        "a pipe"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "a character device"
    };
    let failure = Failure::new(Code::NoDevice, format_args!("{role} {path:?} is {what}"))
        .veritysetup(Code::NoDevice, format_args!("Device {} is not compatible.", path.display()));
    Err(match role {
        Role::Data if kind.is_fifo() => failure
            .hint("give a file or a block device; 'verity format - HASH' reads the data from standard input"),
        Role::Layer if kind.is_fifo() => failure.hint("give a file, or '-' and the layer on standard input"),
        _ => failure.hint("give a file or a block device"),
    })
}
