//! Positioned reading and writing: what engines need of a file, a block device or memory.

use std::fmt;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, PoisonError, RwLock};

/// Reads at a position, from several threads at once.
pub trait ReadAt: Send + Sync {
    /// Reads some bytes from `offset` on; 0 at the end.
    ///
    /// # Errors
    /// Whatever the source answers.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// The end of a run of zeros that begins at `offset`, where the source knows one without reading: a hole in a
    /// file. `offset` itself where it does not know.
    ///
    /// What was a hole when it was asked for can lie behind the end later, where a file has become shorter: whoever skips zeros reads the
    /// last byte when all is done.
    ///
    /// # Errors
    /// Whatever the source answers.
    fn zeros_until(&self, offset: u64) -> io::Result<u64> {
        Ok(offset)
    }

    /// Fills `buffer` from `offset` on.
    ///
    /// # Errors
    /// `UnexpectedEof` if the source ends first.
    fn read_exact_at(&self, mut buffer: &mut [u8], mut offset: u64) -> io::Result<()> {
        while !buffer.is_empty() {
            match self.read_at(buffer, offset) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => {
                    buffer = &mut buffer[count..];
                    offset += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Writes at a position, from several threads at once.
pub trait WriteAt: Send + Sync {
    /// Writes all of `bytes` from `offset` on.
    ///
    /// # Errors
    /// Whatever the target answers.
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
}

/// A hash device that is being made: upper levels are built from the lower ones it holds already.
pub trait Storage: ReadAt + WriteAt {}

impl<T: ReadAt + WriteAt + ?Sized> Storage for T {}

/// A size in memory from one on a device, for sizes that are bounded by what is done at once; too large, it is one that nothing has
/// and no allocation gives.
pub(crate) fn usize_of(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

/// Whether all bytes are zero. Pieces, so that the compiler takes many bytes at once, and mostly the first piece decides.
pub(crate) fn is_zero(bytes: &[u8]) -> bool {
    bytes.chunks(256).all(|piece| piece.iter().fold(0, |all, byte| all | byte) == 0)
}

/// What points to a device is one: a borrowed slice, a shared file.
macro_rules! forward {
    ($($pointer:ty),*) => {$(
        impl<T: ReadAt + ?Sized> ReadAt for $pointer {
            fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
                (**self).read_at(buffer, offset)
            }

            fn zeros_until(&self, offset: u64) -> io::Result<u64> {
                (**self).zeros_until(offset)
            }

            fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
                (**self).read_exact_at(buffer, offset)
            }
        }

        impl<T: WriteAt + ?Sized> WriteAt for $pointer {
            fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
                (**self).write_all_at(bytes, offset)
            }
        }
    )*};
}

forward!(&T, Box<T>, Arc<T>);

impl ReadAt for File {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(self, buffer, offset)
    }

    #[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
    fn zeros_until(&self, offset: u64) -> io::Result<u64> {
        use rustix::fs::{SeekFrom, seek};
        match seek(self, SeekFrom::Data(offset)) {
            Ok(data) => Ok(data),
            // No more data: a hole up to the end, unless the end lies before the offset.
            Err(rustix::io::Errno::NXIO) => Ok(self.metadata()?.len().max(offset)),
            // No such thing on this file system.
            Err(_) => Ok(offset),
        }
    }
}

impl WriteAt for File {
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        FileExt::write_all_at(self, bytes, offset)
    }
}

impl ReadAt for [u8] {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let rest = usize::try_from(offset).ok().and_then(|start| self.get(start..)).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }
}

impl ReadAt for Vec<u8> {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.as_slice().read_at(buffer, offset)
    }
}

/// A source that a closure reads: ranges of a blob in a registry, say.
///
/// The closure is given a buffer and the offset of its first byte, and answers as [`ReadAt::read_at`] does.
///
/// ```
/// use verity_core::io::{FnReader, ReadAt};
/// let squares = FnReader::new(|buffer: &mut [u8], offset| {
///     for (byte, at) in buffer.iter_mut().zip(offset..) {
///         *byte = (at * at).to_le_bytes()[0];
///     }
///     Ok(buffer.len())
/// });
/// let mut bytes = [0; 3];
/// squares.read_exact_at(&mut bytes, 4)?;
/// assert_eq!(bytes, [16, 25, 36]);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Copy)]
pub struct FnReader<F>(F);

impl<F: Fn(&mut [u8], u64) -> io::Result<usize> + Send + Sync> FnReader<F> {
    /// A source that asks `read`.
    pub const fn new(read: F) -> Self {
        Self(read)
    }
}

impl<F: Fn(&mut [u8], u64) -> io::Result<usize> + Send + Sync> ReadAt for FnReader<F> {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let room = buffer.len();
        match (self.0)(buffer, offset)? {
            count if count > room => Err(io::Error::other(format!(
                "the source claims to have read {count} bytes into a buffer of {room}"
            ))),
            count => Ok(count),
        }
    }
}

impl<F> fmt::Debug for FnReader<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FnReader").finish_non_exhaustive()
    }
}

/// A part of a device, as a device of its own: a partition of a disk image, say.
///
/// Nothing outside of it is read or written; a write that would reach behind its end is an error.
///
/// ```
/// use verity_core::io::{ReadAt, Window};
/// let disk = vec![1, 2, 3, 4, 5];
/// let mut bytes = [0; 4];
/// assert_eq!(Window::new(&disk, 1..3).read_at(&mut bytes, 1)?, 1);
/// assert_eq!(bytes, [3, 0, 0, 0]);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Window<T> {
    device: T,
    bytes: Range<u64>,
}

impl<T> Window<T> {
    /// The bytes `bytes` of `device`; it need not have that many.
    pub const fn new(device: T, bytes: Range<u64>) -> Self {
        Self { device, bytes }
    }

    /// Where a position lies on the device, and how many bytes of the window follow it.
    fn place(&self, offset: u64) -> Option<(u64, u64)> {
        let position = self.bytes.start.checked_add(offset)?;
        Some((position, self.bytes.end.checked_sub(position)?))
    }
}

impl<T: ReadAt> ReadAt for Window<T> {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let Some((position, rest)) = self.place(offset) else { return Ok(0) };
        let length = usize_of(rest).min(buffer.len());
        self.device.read_at(&mut buffer[..length], position)
    }

    fn zeros_until(&self, offset: u64) -> io::Result<u64> {
        let Some((position, rest)) = self.place(offset) else { return Ok(offset) };
        let end = self.device.zeros_until(position)?;
        // A device that answers less than it was asked for knows of no zeros.
        Ok(offset + end.saturating_sub(position).min(rest))
    }
}

impl<T: WriteAt> WriteAt for Window<T> {
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        match self.place(offset) {
            Some((position, rest)) if bytes.len() as u64 <= rest => self.device.write_all_at(bytes, position),
            _ => Err(io::ErrorKind::WriteZero.into()),
        }
    }
}

/// A device in memory that grows as it is written, for small layers and for tests.
#[derive(Debug, Default)]
pub struct MemoryDevice(RwLock<Vec<u8>>);

impl MemoryDevice {
    /// A device that holds `bytes`.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(RwLock::new(bytes))
    }

    /// How many bytes the device holds.
    #[must_use]
    pub fn size(&self) -> u64 {
        // Memory has fewer than 2^64 bytes.
        self.0.read().unwrap_or_else(PoisonError::into_inner).len() as u64
    }

    /// A copy of what the device holds.
    #[must_use]
    pub fn contents(&self) -> Vec<u8> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What the device holds.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ReadAt for MemoryDevice {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).read_at(buffer, offset)
    }
}

impl WriteAt for MemoryDevice {
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let out_of_memory = || io::Error::from(io::ErrorKind::OutOfMemory);
        let start = usize::try_from(offset).map_err(|_| out_of_memory())?;
        let end = start.checked_add(bytes.len()).ok_or_else(out_of_memory)?;
        let mut device = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(missing) = end.checked_sub(device.len()) {
            device.try_reserve(missing).map_err(|_| out_of_memory())?;
            device.resize(end, 0);
        }
        device[start..end].copy_from_slice(bytes);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_past_the_end_is_an_error_and_not_zeros() {
        let device = MemoryDevice::new(vec![7; 10]);
        let mut buffer = [0; 4];
        assert!(device.read_exact_at(&mut buffer, 6).is_ok());
        for offset in [7, 10, 11, u64::MAX] {
            let error = device.read_exact_at(&mut buffer, offset).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{offset}");
        }
    }

    /// A hole that a file knows of is not lost behind a pointer to the file.
    #[test]
    fn what_points_to_a_device_answers_as_the_device() {
        struct Zeros;
        impl ReadAt for Zeros {
            fn read_at(&self, _: &mut [u8], _: u64) -> io::Result<usize> {
                Ok(0)
            }

            fn zeros_until(&self, offset: u64) -> io::Result<u64> {
                Ok(offset + 7)
            }
        }
        let pointers: [&dyn ReadAt; 3] = [&&Zeros, &Box::new(Zeros), &Arc::new(Zeros)];
        assert!(pointers.iter().all(|pointer| matches!(pointer.zeros_until(1), Ok(8))));
        let slice: &[u8] = &[1, 2, 3];
        let mut byte = [0];
        ReadAt::read_exact_at(&slice, &mut byte, 2).unwrap();
        assert_eq!(byte, [3]);
    }

    #[test]
    fn a_window_ends_where_it_ends() {
        let device = MemoryDevice::new(vec![7; 10]);
        let window = Window::new(&device, 2..6);
        let mut buffer = [0; 10];
        assert_eq!(window.read_at(&mut buffer, 0).unwrap(), 4);
        assert_eq!(window.read_at(&mut buffer, 3).unwrap(), 1);
        for offset in [4, 5, 100, u64::MAX] {
            assert_eq!(window.read_at(&mut buffer, offset).unwrap(), 0, "{offset}");
            assert_eq!(window.zeros_until(offset).unwrap(), offset);
            assert!(window.write_all_at(&[1], offset).is_err());
        }
        assert!(window.write_all_at(&[1; 5], 0).is_err());
        window.write_all_at(&[1; 4], 0).unwrap();
        assert_eq!(device.contents(), [7, 7, 1, 1, 1, 1, 7, 7, 7, 7]);
    }

    #[test]
    fn a_device_that_answers_less_than_it_was_asked_for_has_no_zeros() {
        struct Nothing;
        impl ReadAt for Nothing {
            fn read_at(&self, _: &mut [u8], _: u64) -> io::Result<usize> {
                Ok(0)
            }

            fn zeros_until(&self, _: u64) -> io::Result<u64> {
                Ok(0)
            }
        }
        assert_eq!(Window::new(Nothing, 10..20).zeros_until(3).unwrap(), 3);
    }

    #[test]
    fn a_memory_device_grows_with_zeros() {
        let device = MemoryDevice::default();
        device.write_all_at(b"ab", 3).unwrap();
        device.write_all_at(b"c", 0).unwrap();
        assert_eq!(device.into_bytes(), b"c\0\0ab");
    }
}
