//! The packed inode, in which files and ends of files lie together.

use std::cell::{Cell, RefCell};
use std::io;
use std::ops::Range;

use super::content::{Piece, Stored};
use super::encoding::invalid;
use super::{Budget, Error, Image};
use crate::io::usize_of;

/// Where the packed inode's content lies.
pub(super) struct Packed {
    size: u64,
    pieces: Vec<Piece>,
    /// The piece that was looked at last. Neighbours in it are often neighbours in a folder.
    last: Cell<Option<usize>>,
    /// A piece that was decoded, with its number.
    decoded: RefCell<Option<(usize, Vec<u8>)>>,
}

impl Image<'_> {
    /// What is known of the packed inode, which is read at the first time.
    pub(super) fn packed(&self, budget: &Budget) -> Result<&Packed, Error> {
        if let Some(packed) = self.packed.get() {
            return Ok(packed);
        }
        let nid = self.superblock().packed_nid;
        let inode = self.inode(nid)?;
        let pieces = self.pieces(&inode, budget)?;
        if pieces.iter().any(|piece| matches!(piece.stored, Stored::Packed(_))) {
            return Err(Error::Invalid {
                field: "the number of a packed inode that is packed into itself",
                value: nid,
            });
        }
        let (last, decoded) = (Cell::new(None), RefCell::new(None));
        Ok(self.packed.get_or_init(|| Packed { size: inode.size, pieces, last, decoded }))
    }

    /// Reads some of the packed inode's content.
    pub(super) fn read_packed(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        let packed = self.packed.get().ok_or_else(|| invalid("there is no packed inode"))?;
        let number = packed.number(position);
        let piece = packed.pieces.get(number).filter(|piece| piece.content.contains(&position));
        let Piece { content, stored } = piece.ok_or_else(|| invalid("the packed inode has nothing there"))?;
        let done = position - content.start;
        let room = buffer.len().min(usize_of(content.end - position));
        let buffer = &mut buffer[..room];
        match stored {
            Stored::At(start) => {
                let position = start.checked_add(done).ok_or(io::ErrorKind::InvalidData)?;
                self.read_content(buffer, position)
            }
            Stored::Encoded { bytes, encoding } => {
                let mut known = packed.decoded.borrow_mut();
                let (_, decoded) = match &mut *known {
                    Some(decoded) if decoded.0 == number => decoded,
                    other => other.insert((number, self.decode(*encoding, bytes, content)?)),
                };
                buffer.copy_from_slice(&decoded[usize_of(done)..][..room]);
                Ok(room)
            }
            Stored::Packed(_) => Err(invalid("the packed inode is packed into itself")),
        }
    }
}

impl Packed {
    /// The number of the piece in which a byte lies, or of the next one.
    fn number(&self, position: u64) -> usize {
        self.pieces.partition_point(|piece| piece.content.end <= position)
    }

    /// Checks that a fragment lies within, and pays for what is decoded for it.
    pub(super) fn check(
        &self,
        start: u64,
        content: &Range<u64>,
        block_size: u64,
        budget: &Budget,
    ) -> Result<(), Error> {
        let end = start.checked_add(content.end - content.start).filter(|&end| end <= self.size);
        let end =
            end.ok_or(Error::Invalid { field: "where in the packed inode content begins", value: start })?;
        let first = self.number(start);
        for (number, piece) in self.pieces.iter().enumerate().skip(first) {
            if piece.content.start >= end {
                break;
            }
            if self.last.replace(Some(number)) != Some(number) {
                budget.spend((piece.content.end - piece.content.start).div_ceil(block_size))?;
            }
        }
        Ok(())
    }
}
