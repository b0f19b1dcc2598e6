//! What a journal lies on, and what it is for.

use std::fs::File;
use std::io::{self, Seek};
use std::ops::Range;

use crate::io::{MemoryDevice, Storage};

/// Storage that can be told to keep what it holds through a power cut.
pub trait Durable: Storage {
    /// Returns when everything written so far is durable.
    ///
    /// # Errors
    /// Whatever the storage answers; what was written may then be lost.
    fn sync(&self) -> io::Result<()>;

    /// The length of a file or a device in bytes.
    ///
    /// # Errors
    /// Whatever the storage answers.
    fn length(&self) -> io::Result<u64>;

    /// Makes sure that there is room for `bytes`, without changing what can be read or the length. Storage that cannot tell says that
    /// there is.
    ///
    /// # Errors
    /// `StorageFull`, `QuotaExceeded` or `FileTooLarge` if there is none.
    fn reserve(&self, bytes: Range<u64>) -> io::Result<()>;
}

impl Durable for File {
    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn length(&self) -> io::Result<u64> {
        // A block device has no length but where it ends. Nothing here reads from the file's own position.
        let mut file = self;
        file.seek(io::SeekFrom::End(0))
    }

    fn reserve(&self, bytes: Range<u64>) -> io::Result<()> {
        let length = self.length()?;
        if self.metadata()?.is_file() {
            return reserve_in_file(self, bytes, length);
        }
        if bytes.end <= length { Ok(()) } else { Err(io::ErrorKind::StorageFull.into()) }
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn reserve_in_file(file: &File, bytes: Range<u64>, length: u64) -> io::Result<()> {
    use rustix::fs::{FallocateFlags, fallocate};
    use rustix::io::Errno;
    match fallocate(file, FallocateFlags::KEEP_SIZE, bytes.start, bytes.end - bytes.start) {
        Err(errno @ (Errno::NOSPC | Errno::DQUOT | Errno::FBIG)) => {
            // Gives back what was reserved behind the end before there was no more.
            let _ = file.set_len(length);
            Err(errno.into())
        }
        // Other file systems find out when they are written to.
        _ => Ok(()),
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn reserve_in_file(_: &File, _: Range<u64>, _: u64) -> io::Result<()> {
    Ok(())
}

impl Durable for MemoryDevice {
    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.size())
    }

    fn reserve(&self, _: Range<u64>) -> io::Result<()> {
        Ok(())
    }
}
