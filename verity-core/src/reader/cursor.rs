//! Verified data as a stream.

use std::io::{self, Read, Seek, SeekFrom};

use crate::io::ReadAt;

/// A position in verified data: `Read` and `Seek` over a [`VerityReader`](super::VerityReader) that others use at the same time. Cheap
/// to make: one for each thread or task.
///
/// Each read checks whole blocks. Whoever reads a few bytes at a time puts a [`BufReader`](std::io::BufReader) around it, with a buffer of at
/// least some blocks.
#[derive(Clone, Debug)]
pub struct Cursor<R> {
    reader: R,
    position: u64,
    length: u64,
}

impl<R> Cursor<R> {
    pub(super) const fn new(reader: R, length: u64) -> Self {
        Self { reader, position: 0, length }
    }

    /// The byte that is read next. It may lie behind the end.
    #[must_use]
    pub const fn position(&self) -> u64 {
        self.position
    }
}

impl<R: ReadAt> Read for Cursor<R> {
    /// As [`VerityReader::read_at`](super::VerityReader::read_at), with its errors as the source of those returned.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read_at(buffer, self.position)?;
        self.position += count as u64;
        Ok(count)
    }
}

impl<R> Seek for Cursor<R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::End(distance) => self.length.checked_add_signed(distance),
            SeekFrom::Current(distance) => self.position.checked_add_signed(distance),
        };
        self.position = position.ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidInput, "a seek to before the first byte or beyond 2^64")
        })?;
        Ok(self.position)
    }
}
