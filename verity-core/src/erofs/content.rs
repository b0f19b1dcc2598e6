//! The content of files, where it is not compressed, and of directories.

use std::io::{self, Read};
use std::ops::Range;

use super::{Budget, Error, FileKind, Image, Inode, Place, names};
use crate::io::usize_of;

/// A file's content, without what lies between its pieces: holes.
pub struct Content<'i> {
    image: &'i Image<'i>,
    size: u64,
    pieces: Vec<Piece>,
    /// Which piece is read, and how much of it has been.
    at: (usize, u64),
}

/// Content that lies together.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Piece {
    /// Which bytes of the content.
    content: Range<u64>,
    /// Where they begin in the image.
    start: u64,
}

/// What a piece costs of a budget beside the entry of the index that names it: it takes the memory of several such entries.
const PIECE_COST: u64 = 4;

/// Names, each with the number of its inode.
pub type Names = Vec<(Box<[u8]>, u64)>;

impl<'i> Image<'i> {
    /// The content of a file or a symbolic link.
    ///
    /// # Errors
    /// [`Error::Compressed`]; [`Error::Unreadable`], [`Error::Invalid`], [`Error::Budget`].
    pub fn content(&'i self, inode: &Inode, budget: &Budget) -> Result<Content<'i>, Error> {
        let mut pieces: Vec<Piece> = Vec::new();
        self.extents(inode, budget, |extent| {
            let Place::Stored(place) = extent.place else { return Err(Error::Compressed) };
            match pieces.last_mut() {
                Some(last)
                    if last.content.end == extent.content.start
                        && last.start + (last.content.end - last.content.start) == place.start =>
                {
                    last.content.end = extent.content.end;
                }
                _ => {
                    budget.spend(PIECE_COST)?;
                    pieces.push(Piece { content: extent.content, start: place.start });
                }
            }
            Ok(())
        })?;
        Ok(Content { image: self, size: inode.size, pieces, at: (0, 0) })
    }

    /// The names in a directory but `.` and `..`, with the numbers of their inodes, in the order in which they lie there: that of
    /// their bytes, `.` and `..` among them, because the kernel searches by halving. So no name comes twice, and many blocks of a
    /// directory that are one block of the image cannot make a long list of a short one.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it is no directory, or not a sound one, with all names in order; [`Error::Unreadable`], [`Error::Budget`], [`Error::Compressed`].
    pub fn list(&self, inode: &Inode, budget: &Budget) -> Result<Names, Error> {
        if inode.kind != FileKind::Directory {
            return Err(Error::Invalid {
                field: "the type of what is to be a directory",
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
        let offset = self.pieces.get(self.at.0).map_or(0, |piece| piece.start + self.at.1);
        Error::Unreadable { offset, length, source }
    }
}

/// Reads the pieces, one behind the other.
impl Read for Content<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (piece, done) = self.at;
        let Some(Piece { content, start }) = self.pieces.get(piece) else { return Ok(0) };
        let left = content.end - content.start - done;
        let room = buffer.len().min(usize_of(left));
        let position = start.checked_add(done).ok_or(io::ErrorKind::InvalidData)?;
        let count = self.image.read_content(&mut buffer[..room], position)?;
        if count == 0 && room > 0 {
            // Never the end: there is more to come.
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the image ends before the content"));
        }
        self.at = if count as u64 == left { (piece + 1, 0) } else { (piece, done + count as u64) };
        Ok(count)
    }
}
