//! Who changes a device alone.

use std::fs::{File, TryLockError};
use std::path::Path;

use super::input::Role;
use crate::failure::{Code, Failure};

/// Locks a device that is about to be changed in place, until it is closed: two changes at once, or a change and its
/// recovery, would mix.
pub(super) fn lock(device: &File, path: &Path, role: Role) -> Result<(), Failure> {
    match device.try_lock() {
        Err(TryLockError::WouldBlock) => {
            Err(Failure::new(Code::Busy, format_args!("{role} {path:?} is being changed by another process"))
                .hint("wait until that is done"))
        }
        // A file system without locks.
        Ok(()) | Err(TryLockError::Error(_)) => Ok(()),
    }
}
