//! What damage belongs to, in an EROFS image.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;
use std::path::PathBuf;

use super::ledger::Ledger;
use super::map::{Area, Map, State};
use super::search::{self, Search};
use crate::erofs::{Budget, Error, FileKind, Image};
use crate::io::ReadAt;
use crate::progress::Observer;

/// How many pieces of content, or of the image, are listed of one [`Affected`].
pub const PIECES_LIMIT: usize = 100;

/// What is affected by damage in the data.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Files {
    /// Metadata of the whole image first, then files in the order of their paths, then what belongs to nothing.
    pub affected: Vec<Affected>,
    /// How many more there are than could be listed.
    pub unlisted: u64,
    /// Whether all of the image could be looked at. If not, what bad blocks belong to may be missing here.
    pub complete: bool,
    /// What could not be looked at for another reason than the damage that is listed.
    pub gaps: Vec<Gap>,
    /// How many more gaps there are than could be listed.
    pub unlisted_gaps: u64,
}

/// Something that damage belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Affected {
    /// What it is.
    pub owner: Owner,
    /// The worst that happened to it.
    pub state: State,
    /// Which parts of it are affected; none where it has only one.
    pub parts: BTreeSet<Part>,
    /// Which bytes of its content are affected, where that can be told.
    pub content: Pieces,
    /// Which bytes of the image.
    pub device: Pieces,
}

/// What a block of an image can belong to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Owner {
    /// The superblock, with the records about compression. Without it nothing else can be told.
    Superblock,
    /// The table of further devices.
    DeviceTable,
    /// The table of prefixes of the names of extended attributes.
    XattrPrefixes,
    /// Extended attributes that several inodes share.
    SharedXattrs,
    /// The packed inode, in which the ends of many files lie together. The files are listed, too.
    PackedInode,
    /// A file, a directory or the like.
    Inode {
        /// What it is.
        kind: FileKind,
        /// Its names, from the root on.
        paths: Vec<PathBuf>,
        /// How many more names there are than could be listed.
        unlisted_paths: u64,
        /// The size of its content in bytes, if the inode can be read.
        size: Option<u64>,
    },
    /// Nothing: no file, directory or other metadata lies there.
    Unused,
    /// What could not be found out, because not [all](Files::complete) could be looked at.
    Unknown,
}

impl Owner {
    /// Where it comes in the list.
    pub(super) fn order(&self) -> (u8, Option<&PathBuf>) {
        match self {
            Self::Superblock => (0, None),
            Self::DeviceTable => (1, None),
            Self::XattrPrefixes => (2, None),
            Self::SharedXattrs => (3, None),
            Self::PackedInode => (4, None),
            Self::Inode { paths, .. } => (5, paths.first()),
            Self::Unused | Self::Unknown => (6, None),
        }
    }
}

/// A part of an inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// The inode: owner, permissions, size, and where all else is.
    Inode,
    /// Its extended attributes.
    Attributes,
    /// The list of where its content lies.
    Index,
    /// Its content; of a directory, the names in it.
    Content,
}

impl Part {
    /// Its name, in lower case.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Inode => "inode",
            Self::Attributes => "attributes",
            Self::Index => "index",
            Self::Content => "content",
        }
    }
}

/// Ranges of bytes; neighbours are one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pieces {
    /// The first of them, at most [`PIECES_LIMIT`].
    pub listed: Vec<Range<u64>>,
    /// How many more there are.
    pub unlisted: u64,
}

impl Pieces {
    pub(super) fn push(&mut self, bytes: Range<u64>) {
        if bytes.is_empty() {
            return;
        }
        if let Some(last) = self.listed.last_mut()
            && self.unlisted == 0
            && last.start <= bytes.start
            && bytes.start <= last.end
        {
            last.end = last.end.max(bytes.end);
        } else if self.listed.len() < PIECES_LIMIT {
            self.listed.push(bytes);
        } else {
            self.unlisted += 1;
        }
    }
}

/// Something that could not be looked at.
#[derive(Debug)]
pub struct Gap {
    /// Where in the tree; what is below is not known either. Empty if it concerns the whole image.
    pub path: PathBuf,
    /// Why.
    pub error: Error,
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.as_os_str().is_empty() {
            self.error.fmt(f)
        } else {
            write!(f, "{:?}: {}", self.path, self.error)
        }
    }
}

/// Finds out what the bad data blocks of `map` belong to.
///
/// `source` is the image without what cannot be trusted in it: a [`VerityReader`](crate::reader::VerityReader), which may
/// restore, too, what is repairable. Where all data is good, it is not looked at. At most `limit` affected things, paths and gaps each are listed. Memory is bounded
/// by the image's directories and hard links (some 200 bytes each), and for an image that lies about them at some 200 MB.
///
/// # Errors
/// [`Error::Magic`] if the data is no EROFS image, [`Error::Features`], [`Error::Invalid`] if the superblock says what
/// cannot be, [`Error::Cancelled`]. What else cannot be read or understood is a [`Gap`].
pub fn files(source: &dyn ReadAt, map: &Map, limit: usize, observer: &dyn Observer) -> Result<Files, Error> {
    let strip = map.strip(Area::Data);
    if map.unplaced_blocks == 0 && strip.bad_spans().next().is_none() {
        return Ok(Files { complete: true, ..Files::default() });
    }
    let size = strip.blocks() * strip.block_size();
    let budget = Budget::default();
    let ledger = Ledger::new(strip, limit, &budget, map.unplaced_blocks == 0);
    match Image::open(source, size) {
        Ok(image) => Search::new(&image, &budget, ledger, observer).run(),
        Err(error @ Error::Unreadable { .. }) => Ok(search::without_superblock(ledger, error)),
        Err(error) => Err(error),
    }
}
