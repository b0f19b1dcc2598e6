//! Who makes and removes layers' devices, one process at a time.

use std::fs::{File, TryLockError};
use std::io;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::device;
use crate::progress::Observer;

use super::error::{Error, from_io};

/// Only root can open it, it is there wherever layers can be mounted, and nobody else locks it.
const PATH: &str = "/dev/loop-control";

/// A layer takes its time, a hundred of them are waited for.
const LIMIT: Duration = Duration::from_secs(60);

/// A lock that the kernel lets go of when the process ends, however it ends.
///
/// Whoever has it may take every device of ours that is neither open nor about to go for one that a killed process has left: between its creation and
/// the moment from which it goes by itself, its maker has the lock.
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    /// `None` if somebody else has it, or it cannot be had.
    pub(super) fn if_free() -> Option<Self> {
        let file = open().ok()?;
        file.try_lock().ok()?;
        Some(Self { _file: file })
    }

    pub(super) fn take(observer: &dyn Observer) -> Result<Self, Error> {
        let file = open()?;
        let end = Instant::now() + LIMIT;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Self { _file: file }),
                Err(TryLockError::WouldBlock) if observer.cancelled() => return Err(Error::Cancelled),
                Err(TryLockError::WouldBlock) if Instant::now() >= end => {
                    return Err(Error::Locked { seconds: LIMIT.as_secs() });
                }
                Err(TryLockError::WouldBlock) => sleep(Duration::from_millis(5)),
                Err(TryLockError::Error(source)) => return Err(from_io("lock the loop devices", source)),
            }
        }
    }
}

fn open() -> Result<File, Error> {
    File::open(PATH).map_err(|source| match source.kind() {
        io::ErrorKind::PermissionDenied => Error::Permission { action: "make loop devices", source },
        _ => Error::Device(device::Error::NoLoopDevices { source }),
    })
}
