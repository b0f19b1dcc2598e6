//! One writer at a time: two changes of one device at once, or a change and its recovery, would mix.

use std::fs::{File, TryLockError};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use super::input::Role;
use crate::failure::{Code, Failure};

/// How often, and how long in between, a block device is asked for: udev locks one for a moment after each event.
const TRIES: u32 = 40;
const PAUSE: Duration = Duration::from_millis(25);

/// Locks a file or device that is going to be written, until it is closed.
pub(super) fn lock(file: &File, path: &Path, role: Role) -> Result<(), Failure> {
    let is_device = file.metadata().is_ok_and(|metadata| metadata.file_type().is_block_device());
    for _ in 0..if is_device { TRIES } else { 1 } {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) if is_device => sleep(PAUSE),
            Err(TryLockError::WouldBlock) => break,
            // A file system without locks.
            Ok(()) | Err(TryLockError::Error(_)) => return Ok(()),
        }
    }
    let message = format_args!("{role} {path:?} is being changed by another process");
    Err(Failure::new(Code::Busy, message).hint("wait until that is done"))
}

/// Whether both are the same file or device node.
pub(super) fn check_same(file: &File, other: &File, path: &Path, role: Role) -> Result<(), Failure> {
    let identity = |file: &File| file.metadata().map(|metadata| (metadata.dev(), metadata.ino()));
    let failed = |error| Failure::system(format_args!("{role} {path:?}"), &error);
    if identity(file).map_err(failed)? == identity(other).map_err(failed)? {
        return Ok(());
    }
    Err(replaced(path, role))
}

/// Another file has taken the place of the one that was looked at.
pub(super) fn replaced(path: &Path, role: Role) -> Failure {
    Failure::new(Code::Busy, format_args!("{role} {path:?} was replaced or changed meanwhile"))
        .hint("try again when nobody else writes to it")
}
