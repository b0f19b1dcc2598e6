//! Where the content of an inode lies.

use std::ops::Range;

use super::format::{NULL_ADDRESS, chunk, layout, u16_at, u32_at};
use super::{Budget, Encoding, Error, FileKind, Image, Inode};

/// Some of an inode's content, and where it lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Which bytes of the content.
    pub content: Range<u64>,
    /// Where they lie.
    pub place: Place,
}

/// A place of content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Bytes of the image that are the content's, one by one. Up to the end of a block there may be more of them.
    Stored(Range<u64>),
    /// Bytes of the image from which all of the content is made together.
    Encoded {
        /// Which ones.
        bytes: Range<u64>,
        /// How it is made.
        encoding: Encoding,
    },
    /// Bytes of the packed inode's content.
    Packed(Range<u64>),
}

/// What is told about an inode.
pub(crate) enum Told {
    /// Bytes of the image that say where the content lies; they are read next.
    Index(Range<u64>),
    /// Content.
    Extent(Extent),
}

/// Whom it is told.
pub(crate) type Listener<'l> = dyn FnMut(Told) -> Result<(), Error> + 'l;

impl Image<'_> {
    /// Where the content of an inode lies, in the order of the content, without holes and without what lies on other
    /// devices.
    ///
    /// # Errors
    /// What `each` returns; [`Error::Budget`], [`Error::Unreadable`], [`Error::Invalid`]. What came before holds.
    pub fn extents(
        &self,
        inode: &Inode,
        budget: &Budget,
        mut each: impl FnMut(Extent) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.describe(inode, budget, &mut |told| match told {
            Told::Index(_) => Ok(()),
            Told::Extent(extent) => each(extent),
        })
    }

    /// The same, and where that is written.
    pub(crate) fn describe(
        &self,
        inode: &Inode,
        budget: &Budget,
        listener: &mut Listener<'_>,
    ) -> Result<(), Error> {
        if inode.size == 0 || inode.kind == FileKind::Other {
            return Ok(());
        }
        match inode.layout {
            layout::FLAT_PLAIN => self.flat(inode, inode.size.div_ceil(self.block_size()), listener),
            layout::FLAT_INLINE => {
                let blocks = inode.size.div_ceil(self.block_size()) - 1;
                self.flat(inode, blocks, listener)?;
                let start = blocks * self.block_size();
                // The kernel reads the tail from the one block of its beginning.
                let within = inode.body % self.block_size();
                if within + (inode.size - start) > self.block_size() {
                    let field = "the position of an inode whose inline content crosses a block";
                    return Err(Error::Invalid { field, value: inode.position });
                }
                let place = Place::Stored(inode.body..inode.body + (inode.size - start));
                listener(Told::Extent(Extent { content: start..inode.size, place }))
            }
            layout::CHUNKS => self.chunks(inode, budget, listener),
            _ => self.compressed(inode, budget, listener),
        }
    }

    /// Content in consecutive blocks, as far as it lies in the first `blocks`.
    fn flat(&self, inode: &Inode, blocks: u64, listener: &mut Listener<'_>) -> Result<(), Error> {
        if blocks == 0 || inode.payload == NULL_ADDRESS {
            return Ok(());
        }
        let start = self.address(inode.payload);
        let length = blocks * self.block_size();
        let place = Place::Stored(start..start.saturating_add(length));
        listener(Told::Extent(Extent { content: 0..length.min(inode.size), place }))
    }

    fn chunks(&self, inode: &Inode, budget: &Budget, listener: &mut Listener<'_>) -> Result<(), Error> {
        let invalid = |field, value| Error::Invalid { field, value };
        let format = inode.payload;
        if format & !(chunk::BITS | chunk::INDEXES) != 0 {
            return Err(invalid("a chunk format", format.into()));
        }
        let chunk_bits = u32::from(self.superblock().block_bits) + (format & chunk::BITS);
        let (entry_size, block_at) = if format & chunk::INDEXES == 0 { (4, 0) } else { (8, 4) };
        let chunk_size = 1_u64 << chunk_bits;
        let count = inode.size.div_ceil(chunk_size);
        let index = inode.body.next_multiple_of(entry_size);
        let end = self.end_of(index, count, entry_size)?;
        listener(Told::Index(index..end))?;
        let mut entry = [0; 8];
        let entry = &mut entry[..block_at + 4];
        for number in 0..count {
            budget.spend(1)?;
            self.read(entry, index + number * entry_size)?;
            let block = u32_at(entry, block_at);
            let device = if block_at == 0 { 0 } else { u16_at(entry, 2) };
            if device != 0 || block == NULL_ADDRESS {
                continue;
            }
            let content = number * chunk_size..inode.size.min((number + 1).saturating_mul(chunk_size));
            let start = self.address(block);
            let length = (content.end - content.start).next_multiple_of(self.block_size());
            listener(Told::Extent(Extent {
                content,
                place: Place::Stored(start..start.saturating_add(length)),
            }))?;
        }
        Ok(())
    }

    /// The end of an index of so many entries, which lies in the image.
    pub(super) fn end_of(&self, start: u64, entries: u64, entry_size: u64) -> Result<u64, Error> {
        let end = entries.checked_mul(entry_size).and_then(|length| start.checked_add(length));
        end.filter(|&end| end <= self.size())
            .ok_or(Error::Invalid { field: "the number of entries of an inode's index", value: entries })
    }
}
