//! The image as it grows, from one end to the other.

use super::Error;
use crate::block::BlockSize;
use crate::erofs::format::NULL_ADDRESS;
use crate::io::WriteAt;
use crate::params::Params;

/// How much is written at once, but for what is left of a block.
const BUFFER: usize = 1 << 20;

/// Where the image goes, piece by piece.
pub(crate) trait Target {
    /// What the image's blocks are hashed with, if somebody has a use for that: with SHA-256, since that also tells whether two blocks are one.
    fn wants(&self) -> Option<&Params> {
        None
    }

    /// Takes whole blocks, which belong at `offset`, with the digests of the first ones, if they are wanted. Gives a buffer for the next ones, of
    /// whatever length and content. Pieces come in their order, but for the superblock's, which comes last.
    fn take(&mut self, blocks: Vec<u8>, offset: u64, digests: Vec<u8>) -> Result<Vec<u8>, Error>;
}

/// Writes each piece before there is another one.
pub(super) struct Direct<'a>(pub(super) &'a dyn WriteAt);

impl Target for Direct<'_> {
    fn take(&mut self, blocks: Vec<u8>, offset: u64, _: Vec<u8>) -> Result<Vec<u8>, Error> {
        self.0.write_all_at(&blocks, offset).map_err(|source| Error::Write { offset, source })?;
        Ok(blocks)
    }
}

/// Takes the image in order, behind the superblock's blocks, and hands it on in large pieces.
pub(super) struct Sink<'a> {
    out: Box<dyn Target + 'a>,
    block_size: BlockSize,
    /// How many blocks the image may have.
    most: u64,
    /// Where the buffer belongs, in bytes.
    start: u64,
    buffer: Vec<u8>,
    /// How much of the buffer is the image's already.
    filled: usize,
    /// The digests of the buffer's first blocks, where they are wanted.
    digests: Vec<u8>,
}

impl<'a> Sink<'a> {
    /// `start` and `max_size` are in bytes.
    pub(super) fn new(out: Box<dyn Target + 'a>, block_size: BlockSize, start: u64, max_size: u64) -> Self {
        // The last address stands for a hole.
        let most = u64::from(NULL_ADDRESS).min(max_size / block_size.as_u64());
        let buffer = vec![0; BUFFER + block_size.bytes()];
        Self { out, block_size, most, start, buffer, filled: 0, digests: Vec::new() }
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

    /// What the digests that are handed on are made with.
    pub(super) fn wants(&self) -> Option<&Params> {
        self.out.wants()
    }

    /// Takes the digests of the blocks that were taken last. All content has some, and the metadata behind it has none.
    pub(super) fn hashed(&mut self, digests: &[u8]) {
        if self.wants().is_some() {
            self.digests.extend_from_slice(digests);
        }
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

    /// Hands on what was taken, but for the beginning of a block.
    pub(super) fn flush(&mut self) -> Result<(), Error> {
        let begun = self.filled % self.block_size.bytes();
        let whole = self.filled - begun;
        if whole == 0 {
            return Ok(());
        }
        let begun = self.buffer[whole..self.filled].to_vec();
        self.buffer.truncate(whole);
        let digests = std::mem::take(&mut self.digests);
        self.buffer = self.out.take(std::mem::take(&mut self.buffer), self.start, digests)?;
        self.buffer.resize(BUFFER + self.block_size.bytes(), 0);
        self.buffer[..begun.len()].copy_from_slice(&begun);
        self.start += whole as u64;
        self.filled = begun.len();
        Ok(())
    }

    /// Hands on the blocks of the superblock, when all others were.
    pub(super) fn superblock(&mut self, blocks: Vec<u8>) -> Result<(), Error> {
        self.out.take(blocks, 0, Vec::new()).map(drop)
    }
}
