//! Where compressed content lies.
//!
//! Content is cut into pieces of equal size (mostly a block's), of which an index has an entry each: a piece in which
//! a compressed unit begins (a head) says where in the piece and in which block; another one says that none begins. The first
//! piece behind a head may say how many blocks the unit has. A unit's content goes on until the next one's.
//!
//! The full index has 8 bytes for each piece. The compact one packs 2 or 16 pieces into 8 or 32 bytes, with one block number,
//! from which the others follow.

use super::extents::{Listener, Told};
use super::format::{CompressionHeader, compression, layout, u16_at, u32_at};
use super::{Budget, Encoding, Error, Extent, Image, Inode, Place};

/// Between the header and a full index there were once 8 bytes more.
const FULL_INDEX_GAP: u64 = 8;

/// What the index says of a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Piece {
    /// A unit begins.
    Head {
        kind: u8,
        /// Where in the piece.
        offset: u32,
        /// The unit's first block.
        block: u32,
    },
    /// None begins.
    NoHead {
        /// How many blocks the unit before has, if this says so.
        blocks: Option<u16>,
    },
}

/// A unit whose end is not known yet.
struct Open {
    kind: u8,
    /// Where in the content it begins.
    start: u64,
    block: u32,
    blocks: u64,
    /// No piece has come since.
    fresh: bool,
}

/// Puts units together.
struct Units<'u, 'l> {
    image: &'u Image<'u>,
    header: CompressionHeader,
    /// The index has 8 bytes for each piece.
    full: bool,
    /// The content's size.
    size: u64,
    /// A piece's size, as a power of two.
    piece_bits: u32,
    /// The piece that comes next.
    next: u64,
    open: Option<Open>,
    listener: &'u mut Listener<'l>,
}

impl Image<'_> {
    pub(super) fn compressed(
        &self,
        inode: &Inode,
        budget: &Budget,
        listener: &mut Listener<'_>,
    ) -> Result<(), Error> {
        let at = inode.body.next_multiple_of(CompressionHeader::SIZE as u64);
        let start = at + CompressionHeader::SIZE as u64;
        listener(Told::Index(at..start))?;
        let mut bytes = [0; CompressionHeader::SIZE];
        self.read(&mut bytes, at)?;
        let header = CompressionHeader::decode(&bytes);
        if header.whole & CompressionHeader::ALL_FRAGMENT != 0 {
            let first = header.whole & !CompressionHeader::ALL_FRAGMENT;
            let place = Place::Packed(first..first.saturating_add(inode.size));
            return listener(Told::Extent(Extent { content: 0..inode.size, place }));
        }
        let full = inode.layout == layout::COMPRESSED_FULL;
        if full && header.advise & compression::ADVISE_EXTENTS != 0 {
            return Err(Error::Invalid {
                field: "a compression header's advice",
                value: header.advise.into(),
            });
        }
        let piece_bits = u32::from(self.superblock().block_bits) + u32::from(header.cluster_bits & 15);
        let pieces = inode.size.div_ceil(1 << piece_bits);
        let mut units =
            Units { image: self, header, full, size: inode.size, piece_bits, next: 0, open: None, listener };
        let end = if full {
            units.read_full(start + FULL_INDEX_GAP, pieces, budget)?
        } else {
            units.read_compact(start, pieces, budget)?
        };
        units.finish(end)
    }
}

impl Units<'_, '_> {
    /// Reads a full index, which begins at `start`, and returns its end.
    fn read_full(&mut self, start: u64, pieces: u64, budget: &Budget) -> Result<u64, Error> {
        let end = self.image.end_of(start, pieces, 8)?;
        (self.listener)(Told::Index(start..end))?;
        for number in 0..pieces {
            budget.spend(1)?;
            let mut entry = [0; 8];
            self.image.read(&mut entry, start + number * 8)?;
            let kind = entry[0] & 3;
            self.piece(if kind == compression::NO_HEAD {
                Piece::NoHead { blocks: block_count(u16_at(&entry, 4)) }
            } else {
                Piece::Head { kind, offset: u16_at(&entry, 2).into(), block: u32_at(&entry, 4) }
            })?;
        }
        Ok(end)
    }

    /// Reads a compact index, and returns its end.
    ///
    /// Where packs of 16 are used they lie at multiples of 32 bytes, with packs of 2 before and behind.
    fn read_compact(&mut self, start: u64, pieces: u64, budget: &Budget) -> Result<u64, Error> {
        if self.piece_bits > 14 {
            return Err(Error::Invalid {
                field: "a compression header's power of the piece size",
                value: self.piece_bits.into(),
            });
        }
        let before = (start.next_multiple_of(32) - start) / 4;
        let two_bytes = self.header.advise & compression::ADVISE_TWO_BYTES != 0;
        let (before, packed) = if two_bytes && self.piece_bits <= 12 && before < pieces {
            (before, (pieces - before) / 16 * 16)
        } else {
            (pieces, 0)
        };
        let mut at = start;
        for (pieces, pack) in [(before, 2), (packed, 16), (pieces - before - packed, 2)] {
            // 2 pieces are 8 bytes, 16 are 32.
            let pack_size: u64 = if pack == 2 { 8 } else { 32 };
            let packs = pieces.div_ceil(pack);
            let end = self.image.end_of(at, packs, pack_size)?;
            (self.listener)(Told::Index(at..end))?;
            for number in 0..packs {
                let count = pack.min(pieces - number * pack);
                budget.spend(count)?;
                let mut bytes = [0; 32];
                let bytes = if pack == 2 { &mut bytes[..8] } else { &mut bytes[..] };
                self.image.read(bytes, at + number * pack_size)?;
                for piece in unpack(bytes, self.is_big(compression::HEAD_1), self.piece_bits)
                    .take(usize::try_from(count).unwrap_or(usize::MAX))
                {
                    self.piece(piece)?;
                }
            }
            at = end;
        }
        Ok(at)
    }

    /// Takes the next piece.
    fn piece(&mut self, piece: Piece) -> Result<(), Error> {
        let begin = self.next << self.piece_bits;
        self.next += 1;
        match piece {
            Piece::Head { kind, offset, block } => {
                if u64::from(offset) >= 1 << self.piece_bits {
                    return Err(Error::Invalid {
                        field: "where in a piece of compressed content a unit begins",
                        value: offset.into(),
                    });
                }
                let start = begin + u64::from(offset);
                // A unit that would begin behind the end is none.
                if start < self.size {
                    self.close(start)?;
                    let blocks = 1 << (self.piece_bits - u32::from(self.image.superblock().block_bits));
                    self.open = Some(Open { kind, start, block, blocks, fresh: true });
                }
            }
            Piece::NoHead { blocks } => {
                if let Some(open) = &mut self.open {
                    if let Some(blocks) = blocks
                        && open.fresh
                        && is_big(self.header, open.kind)
                    {
                        open.blocks = blocks.into();
                    }
                    open.fresh = false;
                }
            }
        }
        Ok(())
    }

    /// Tells of the unit before, which ends where the next one begins.
    fn close(&mut self, end: u64) -> Result<(), Error> {
        let Some(open) = self.open.take() else { return Ok(()) };
        let start = self.image.address(open.block);
        let bytes = start..start.saturating_add(open.blocks * self.image.block_size());
        let place = Place::Encoded { bytes, encoding: self.encoding(&open) };
        (self.listener)(Told::Extent(Extent { content: open.start..end, place }))
    }

    /// Tells of the last unit, which may lie behind the index or in the packed inode.
    fn finish(mut self, index_end: u64) -> Result<(), Error> {
        let Some(open) = &self.open else { return Ok(()) };
        let content = open.start..self.size;
        let CompressionHeader { advise, inline_size, fragment_offset, .. } = self.header;
        let place = if advise & compression::ADVISE_FRAGMENT != 0 {
            // The bits for which the header has no room stand in the place of a block number.
            let high = if self.full { u64::from(open.block) << 32 } else { 0 };
            let first = high | u64::from(fragment_offset);
            Place::Packed(first..first.saturating_add(content.end - content.start))
        } else if advise & compression::ADVISE_INLINE != 0 && inline_size != 0 {
            let bytes = index_end..index_end + u64::from(inline_size);
            Place::Encoded { bytes, encoding: self.encoding(open) }
        } else {
            return self.close(self.size);
        };
        (self.listener)(Told::Extent(Extent { content, place }))
    }

    fn encoding(&self, open: &Open) -> Encoding {
        let CompressionHeader { advise, algorithms, .. } = self.header;
        match open.kind {
            compression::PLAIN if advise & compression::ADVISE_INTERLACED != 0 => {
                let turn = open.start % self.image.block_size();
                // No block has more than 2^16 bytes.
                Encoding::Plain { turn: u16::try_from(turn).unwrap_or(u16::MAX) }
            }
            compression::PLAIN => Encoding::Plain { turn: 0 },
            compression::HEAD_2 => Encoding::Compressed(algorithms >> 4),
            _ => Encoding::Compressed(algorithms & 15),
        }
    }

    fn is_big(&self, kind: u8) -> bool {
        is_big(self.header, kind)
    }
}

/// Whether units of this kind may have several blocks.
fn is_big(header: CompressionHeader, kind: u8) -> bool {
    let bit = match kind {
        compression::HEAD_1 => compression::ADVISE_BIG_1,
        compression::HEAD_2 => compression::ADVISE_BIG_2,
        _ => 0,
    };
    header.advise & bit != 0
}

fn block_count(number: u16) -> Option<u16> {
    (number & compression::BLOCK_COUNT != 0).then_some(number & !compression::BLOCK_COUNT)
}

/// The pieces of a pack: numbers of 16 or 14 bits, type above payload, and behind them the block number that the heads
/// count from.
fn unpack(pack: &[u8], big: bool, piece_bits: u32) -> impl Iterator<Item = Piece> {
    let (numbers, base) = pack.split_at(pack.len() - 4);
    let (count, bits) = if numbers.len() == 4 { (2, 16) } else { (16, 14) };
    let low_bits = piece_bits.max(12);
    let number = move |index: usize| {
        let bit = index * bits;
        // No number is longer than 16 bits: it lies in three bytes, or ends with the pack's numbers.
        let byte = |offset: usize| numbers.get(bit / 8 + offset).copied().unwrap_or_default();
        let word = u32::from_le_bytes([byte(0), byte(1), byte(2), 0]) >> (bit % 8);
        let kind = (word >> low_bits & 3).to_le_bytes()[0];
        (kind, word & ((1 << low_bits) - 1))
    };
    let count_in = move |index: usize| match number(index) {
        (compression::NO_HEAD, low) => block_count(u16::try_from(low).unwrap_or_default()),
        _ => None,
    };
    // Without larger units the base is the block before the first head's.
    let mut block = u32_at(base, 0).wrapping_add(u32::from(!big));
    (0..count).map(move |index| match number(index) {
        (compression::NO_HEAD, _) => {
            let blocks = count_in(index);
            if big {
                block = block.wrapping_add(blocks.unwrap_or_default().into());
            }
            Piece::NoHead { blocks }
        }
        (kind, offset) => {
            let head = Piece::Head { kind, offset, block };
            // Where the next piece has the number of blocks, that is added there.
            if !big || index + 1 == count || count_in(index + 1).is_none() {
                block = block.wrapping_add(1);
            }
            head
        }
    })
}
