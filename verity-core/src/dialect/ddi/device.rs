//! A device with a position, which is what the partition table's crate reads and writes.

use std::fmt;
use std::io::{self, Read, Seek, SeekFrom, Write};

use crate::io::{ReadAt, Storage, WriteAt};

/// A source that can be read at its position, and written to if it is a [`Storage`].
pub(super) struct Positioned<'a, T: ?Sized> {
    device: &'a T,
    /// In bytes.
    length: u64,
    position: u64,
}

impl<'a, T: ?Sized> Positioned<'a, T> {
    pub(super) const fn new(device: &'a T, length: u64) -> Self {
        Self { device, length, position: 0 }
    }
}

impl<T: ?Sized> fmt::Debug for Positioned<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Positioned").field("length", &self.length).field("position", &self.position).finish()
    }
}

impl<T: ReadAt + ?Sized> Read for Positioned<'_, T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let rest = usize::try_from(self.length.saturating_sub(self.position)).unwrap_or(usize::MAX);
        let length = rest.min(buffer.len());
        let count = self.device.read_at(&mut buffer[..length], self.position)?;
        self.position = self.position.saturating_add(count as u64);
        Ok(count)
    }
}

impl<T: Storage + ?Sized> Write for Positioned<'_, T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let end = self.position.checked_add(bytes.len() as u64).filter(|&end| end <= self.length);
        let end = end.ok_or_else(|| io::Error::from(io::ErrorKind::WriteZero))?;
        WriteAt::write_all_at(self.device, bytes, self.position)?;
        self.position = end;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<T: ?Sized> Seek for Positioned<'_, T> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::Current(offset) => self.position.checked_add_signed(offset),
            SeekFrom::End(offset) => self.length.checked_add_signed(offset),
        };
        self.position = position.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(self.position)
    }
}
