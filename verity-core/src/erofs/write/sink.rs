//! The image as it grows, from one end to the other.

use super::Error;
use crate::block::BlockSize;
use crate::erofs::format::NULL_ADDRESS;
use crate::io::WriteAt;

/// How much is written at once.
const BUFFER: usize = 1 << 20;

/// Takes the image in order, behind the superblock's blocks, and writes it in large pieces.
pub(super) struct Sink<'a> {
    out: &'a dyn WriteAt,
    block_size: BlockSize,
    /// How many blocks the image may have.
    most: u64,
    /// Where the buffer belongs, in bytes.
    start: u64,
    buffer: Vec<u8>,
    /// How much of the buffer is the image's already.
    filled: usize,
}

impl<'a> Sink<'a> {
    /// `start` and `max_size` are in bytes.
    pub(super) fn new(out: &'a dyn WriteAt, block_size: BlockSize, start: u64, max_size: u64) -> Self {
        // The last address stands for a hole.
        let most = u64::from(NULL_ADDRESS).min(max_size / block_size.as_u64());
        Self { out, block_size, most, start, buffer: vec![0; BUFFER], filled: 0 }
    }

    pub(super) fn block_size(&self) -> BlockSize {
        self.block_size
    }

    /// Where the next byte comes.
    pub(super) fn position(&self) -> u64 {
        self.start + self.filled as u64
    }

    /// The block that comes next. Only between blocks.
    pub(super) fn block(&self) -> u32 {
        // Nothing is taken behind the last block that has a number.
        u32::try_from(self.position() / self.block_size.as_u64()).unwrap_or(NULL_ADDRESS)
    }

    /// Whether so many bytes more can be taken.
    pub(super) fn check(&self, more: u64) -> Result<(), Error> {
        let end = self.position().checked_add(more);
        if end.is_some_and(|end| end.div_ceil(self.block_size.as_u64()) <= self.most) {
            Ok(())
        } else {
            Err(Error::TooLarge { most: self.most, block_size: self.block_size.get() })
        }
    }

    /// Room for the next `length` bytes, at most [`BUFFER`]. What is put there is the image's after [`Sink::commit`].
    pub(super) fn room(&mut self, length: usize) -> Result<&mut [u8], Error> {
        if self.filled + length > self.buffer.len() {
            self.flush()?;
        }
        Ok(&mut self.buffer[self.filled..self.filled + length])
    }

    /// Takes the first `length` bytes of the room.
    pub(super) fn commit(&mut self, length: usize) -> Result<(), Error> {
        self.check(length as u64)?;
        self.filled += length;
        Ok(())
    }

    /// Takes bytes.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        for piece in bytes.chunks(BUFFER) {
            self.room(piece.len())?.copy_from_slice(piece);
            self.commit(piece.len())?;
        }
        Ok(())
    }

    /// Takes zeros up to a position that is not behind the next block.
    pub(super) fn zeros_to(&mut self, position: u64) -> Result<(), Error> {
        let length = crate::io::usize_of(position.saturating_sub(self.position()));
        self.room(length)?.fill(0);
        self.commit(length)
    }

    /// Takes zeros up to the end of the block.
    pub(super) fn end_block(&mut self) -> Result<(), Error> {
        self.zeros_to(self.position().next_multiple_of(self.block_size.as_u64()))
    }

    /// Writes what was taken.
    pub(super) fn flush(&mut self) -> Result<(), Error> {
        self.write_at(&self.buffer[..self.filled], self.start)?;
        self.start += self.filled as u64;
        self.filled = 0;
        Ok(())
    }

    /// Writes the bytes at a position.
    pub(super) fn write_at(&self, bytes: &[u8], offset: u64) -> Result<(), Error> {
        self.out.write_all_at(bytes, offset).map_err(|source| Error::Write { offset, source })
    }
}
