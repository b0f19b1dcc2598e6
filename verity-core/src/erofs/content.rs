//! The content of files and of directories.

use std::io::{self, Read};
use std::ops::Range;

use super::encoding::invalid;
use super::{Budget, Encoding, Error, Extent, FileKind, Image, Inode, Place, names};
use crate::io::usize_of;

/// A file's content, without what lies between its pieces: holes.
pub struct Content<'i> {
    image: &'i Image<'i>,
    size: u64,
    pieces: Vec<Piece>,
    /// Which piece is read, and how much of it has been.
    at: (usize, u64),
    /// The content of that piece, where it is made of other bytes.
    decoded: Option<Vec<u8>>,
}

/// Content that lies together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// Which bytes of the content.
    pub(super) content: Range<u64>,
    pub(super) stored: Stored,
}

/// Where a piece lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stored {
    /// In the image, from that byte on.
    At(u64),
    /// It is made of such bytes of the image, which were checked.
    Encoded { bytes: Range<u64>, encoding: Encoding },
    /// In the packed inode, from that byte of its content on.
    Packed(u64),
}

/// What a piece costs of a budget beside the entry of the index that names it: it takes the memory of several such entries.
const PIECE_COST: u64 = 4;

/// Names, each with the number of its inode.
pub type Names = Vec<(Box<[u8]>, u64)>;

impl<'i> Image<'i> {
    /// The content of a file or a symbolic link.
    ///
    /// # Errors
    /// [`Error::Compressed`] if that is by an algorithm that is not read here: LZMA, and without the feature `layer` all but LZ4; [`Error::Unreadable`], [`Error::Invalid`], [`Error::Budget`].
    pub fn content(&'i self, inode: &Inode, budget: &Budget) -> Result<Content<'i>, Error> {
        let pieces = self.pieces(inode, budget)?;
        for piece in &pieces {
            if let Stored::Packed(start) = piece.stored {
                self.packed(budget)?.check(start, &piece.content, self.block_size(), budget)?;
            }
        }
        Ok(Content { image: self, size: inode.size, pieces, at: (0, 0), decoded: None })
    }

    /// The pieces of an inode's content.
    pub(super) fn pieces(&self, inode: &Inode, budget: &Budget) -> Result<Vec<Piece>, Error> {
        let mut pieces: Vec<Piece> = Vec::new();
        // Units leave no holes: kernels cannot read a file in which one is missing.
        let in_units = Self::is_in_units(inode);
        let mut covered = 0;
        let missing =
            |position| Error::Invalid { field: "the byte of content that lies in no unit", value: position };
        self.extents(inode, budget, |extent| {
            let Extent { content, place } = extent;
            if in_units && content.start != covered {
                return Err(missing(covered));
            }
            covered = content.end;
            let stored = match place {
                Place::Stored(place) => {
                    if let Some(Piece { content: last, stored: Stored::At(start) }) = pieces.last_mut()
                        && last.end == content.start
                        && *start + (last.end - last.start) == place.start
                    {
                        last.end = content.end;
                        return Ok(());
                    }
                    Stored::At(place.start)
                }
                Place::Encoded { bytes, encoding } => {
                    self.check_unit(encoding, &bytes, &content)?;
                    // Files may share a unit and use a part of it each. That is work, too.
                    let surplus = (bytes.end - bytes.start).saturating_sub(content.end - content.start);
                    budget.spend(surplus / self.block_size())?;
                    Stored::Encoded { bytes, encoding }
                }
                Place::Packed(bytes) => Stored::Packed(bytes.start),
            };
            budget.spend(PIECE_COST)?;
            pieces.push(Piece { content, stored });
            Ok(())
        })?;
        if in_units && covered != inode.size {
            return Err(missing(covered));
        }
        Ok(pieces)
    }

    /// The names in a directory but `.` and `..`, with the numbers of their inodes, in the order in which they lie there: that of
    /// their bytes, `.` and `..` among them, because the kernel searches by halving. So no name comes twice, and many blocks of a
    /// directory that are one block of the image cannot make a long list of a short one.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it is no directory, or not a sound one, with all names in order, or compressed; [`Error::Unreadable`], [`Error::Budget`].
    pub fn list(&self, inode: &Inode, budget: &Budget) -> Result<Names, Error> {
        if inode.kind != FileKind::Directory {
            return Err(Error::Invalid {
                field: "the type of what is to be a directory",
                value: inode.position,
            });
        }
        if Self::is_in_units(inode) {
            return Err(Error::Invalid {
                field: "the layout of the directory at byte",
                value: inode.position,
            });
        }
        let mut content = self.content(inode, budget)?;
        let mut found = Vec::new();
        let mut block = Vec::new();
        let mut before: Vec<u8> = Vec::new();
        let mut left = inode.size;
        while left > 0 {
            let length = left.min(self.block_size());
            budget.spend(1)?;
            block.resize(usize_of(length), 0);
            content.read_exact(&mut block).map_err(|source| content.unreadable(source, block.len()))?;
            for name in names(&block)? {
                let name = name?;
                budget.spend(1)?;
                // No name is empty: the first one comes behind that.
                if name.name <= before.as_slice() {
                    return Err(Error::Invalid {
                        field: "the inode of a name that is not behind the one before it",
                        value: name.nid,
                    });
                }
                before.clear();
                before.extend_from_slice(name.name);
                if !matches!(name.name, b"." | b"..") {
                    found.push((name.name.into(), name.nid));
                }
            }
            left -= length;
        }
        Ok(found)
    }
}

impl Content<'_> {
    /// The size in bytes, with holes.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Which bytes there are, in order; all others are zeros.
    #[must_use]
    pub fn data(&self) -> Vec<Range<u64>> {
        self.pieces.iter().map(|piece| piece.content.clone()).collect()
    }

    fn unreadable(&self, source: io::Error, length: usize) -> Error {
        let offset = self.pieces.get(self.at.0).map_or(0, |piece| match &piece.stored {
            Stored::At(start) => start.saturating_add(self.at.1),
            Stored::Encoded { bytes, .. } => bytes.start,
            Stored::Packed(start) => *start,
        });
        Error::Unreadable { offset, length, source }
    }
}

/// Reads the pieces, one behind the other.
impl Read for Content<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (piece, done) = self.at;
        let Some(Piece { content, stored }) = self.pieces.get(piece) else { return Ok(0) };
        let left = content.end - content.start - done;
        let room = buffer.len().min(usize_of(left));
        let buffer = &mut buffer[..room];
        let position = |start: &u64| start.checked_add(done).ok_or(io::ErrorKind::InvalidData);
        let count = match stored {
            Stored::At(start) => self.image.read_content(buffer, position(start)?)?,
            Stored::Encoded { bytes, encoding } => {
                let decoded = match &mut self.decoded {
                    Some(decoded) => decoded,
                    none => none.insert(self.image.decode(*encoding, bytes, content)?),
                };
                buffer.copy_from_slice(&decoded[usize_of(done)..][..room]);
                room
            }
            Stored::Packed(start) => self.image.read_packed(buffer, position(start)?)?,
        };
        if count == 0 && room > 0 {
            // Never the end: there is more to come.
            return Err(invalid("the image ends before the content"));
        }
        if count as u64 == left {
            (self.at, self.decoded) = ((piece + 1, 0), None);
        } else {
            self.at.1 += count as u64;
        }
        Ok(count)
    }
}
