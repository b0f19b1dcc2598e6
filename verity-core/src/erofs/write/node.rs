//! An inode, as long as its image is being made.

use std::collections::BTreeMap;

use super::error::path_of;
use super::runs::Chunks;
use super::xattrs::{self, Entry};
use super::{Attributes, Error, Kind};
use crate::erofs::format::{InodeHead, NULL_ADDRESS, file_type};

/// Which of the nodes.
pub(super) type Id = u32;

/// What device numbers have room for.
const MOST_MAJOR: u32 = (1 << 12) - 1;
const MOST_MINOR: u32 = (1 << 20) - 1;
const MOST_NSEC: u32 = 999_999_999;
/// `PATH_MAX` with its NUL.
const MOST_TARGET: u64 = 4095;

/// An inode.
#[derive(Debug)]
pub(super) struct Node {
    /// Type and permissions, as `stat` has them.
    pub(super) mode: u16,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mtime: i64,
    pub(super) mtime_nsec: u32,
    pub(super) xattrs: Box<[Entry]>,
    /// How many names it has; of a directory, one, until it has a place.
    pub(super) links: u32,
    /// In bytes; of a directory, 0, until it has a place.
    pub(super) size: u64,
    pub(super) body: Body,
    /// Its number in the image; 0 until it has a place.
    pub(super) nid: u64,
    /// It is a directory that nobody described.
    pub(super) implied: bool,
}

/// What an inode holds.
#[derive(Debug)]
pub(super) enum Body {
    /// Consecutive blocks, and behind them what lies beside the inode.
    Flat {
        /// [`NULL_ADDRESS`] if there is none.
        start: u32,
        tail: Box<[u8]>,
    },
    /// Chunks.
    Chunks(Chunks),
    /// A device number as `stat` has it; 0 for a pipe or a socket.
    Device(u32),
    /// A directory.
    Directory(Directory),
}

/// What a directory holds.
#[derive(Debug)]
pub(super) struct Directory {
    pub(super) children: BTreeMap<Box<[u8]>, Id>,
    /// Where it is, when it has a place.
    pub(super) parent: Id,
    /// The first of its blocks, when it has a place.
    pub(super) start: u32,
    /// How many bytes of its last block lie beside the inode, when it has a place.
    pub(super) tail: u64,
}

impl Default for Directory {
    fn default() -> Self {
        Self { children: BTreeMap::new(), parent: 0, start: NULL_ADDRESS, tail: 0 }
    }
}

impl Body {
    pub(super) fn directory() -> Self {
        Self::Directory(Directory::default())
    }

    /// How many bytes of content are kept in memory.
    pub(super) fn kept(&self) -> u64 {
        if let Self::Flat { tail, .. } = self { tail.len() as u64 } else { 0 }
    }

    /// How many bytes are in memory that other inodes do not have.
    pub(super) fn memory(&self) -> u64 {
        if let Self::Chunks(chunks) = self { chunks.memory() } else { self.kept() }
    }

    /// How many bytes an index of chunks has.
    pub(super) fn index_size(&self) -> u64 {
        if let Self::Chunks(chunks) = self { chunks.count() * 4 } else { 0 }
    }
}

impl Node {
    /// A directory that nobody described: a parent that is missing.
    pub(super) fn implied() -> Self {
        let attributes = Attributes { mode: 0o755, ..Attributes::default() };
        let node = Self::new(&attributes, 0o040_000, Box::default(), 0, Body::directory());
        Self { implied: true, ..node }
    }

    pub(super) fn new(
        attributes: &Attributes,
        kind: u16,
        xattrs: Box<[Entry]>,
        size: u64,
        body: Body,
    ) -> Self {
        let Attributes { mode, uid, gid, mtime, mtime_nsec, xattrs: _ } = *attributes;
        let (links, nid, implied) = (1, 0, false);
        Self { mode: kind | mode, uid, gid, mtime, mtime_nsec, xattrs, links, size, body, nid, implied }
    }

    pub(super) fn is_directory(&self) -> bool {
        matches!(self.body, Body::Directory(_))
    }

    /// As a directory entry names it.
    pub(super) fn file_type(&self) -> u8 {
        match self.mode >> 12 {
            0o04 => file_type::DIRECTORY,
            0o12 => file_type::SYMLINK,
            0o02 => file_type::CHAR_DEVICE,
            0o06 => file_type::BLOCK_DEVICE,
            0o01 => file_type::FIFO,
            0o14 => file_type::SOCKET,
            _ => file_type::REGULAR,
        }
    }

    /// The size of its inode in bytes, in an image of which compact inodes have that time.
    pub(super) fn inode_size(&self, (build_time, build_time_ns): (i64, u32)) -> u64 {
        let fits = |value: u32| u16::try_from(value).is_ok();
        let compact = (self.mtime, self.mtime_nsec) == (build_time, build_time_ns)
            && fits(self.uid)
            && fits(self.gid)
            && fits(self.links)
            && u32::try_from(self.size).is_ok();
        if compact { InodeHead::SIZE as u64 } else { InodeHead::EXTENDED_SIZE }
    }
}

/// What an entry's kind comes to: the bits of its mode, and what can be said of its body without its content.
pub(super) fn check(path: &[u8], attributes: &Attributes, kind: &Kind<'_>) -> Result<u16, Error> {
    let check = |field, value: u64, most: u64| xattrs::check(path, field, value, most);
    check("its mode", attributes.mode.into(), 0o7777)?;
    check("its number of nanoseconds", attributes.mtime_nsec.into(), MOST_NSEC.into())?;
    match *kind {
        Kind::File { size, .. } | Kind::Sparse { size, .. } => {
            check("its size", size, crate::geometry::MAX_OFFSET)?;
        }
        Kind::Symlink(target) => {
            check("the length of its target", target.len() as u64, MOST_TARGET)?;
            if target.is_empty() || target.contains(&0) {
                return Err(Error::Target { path: path_of(path) });
            }
        }
        Kind::CharDevice { major, minor } | Kind::BlockDevice { major, minor } => {
            check("its major device number", major.into(), MOST_MAJOR.into())?;
            check("its minor device number", minor.into(), MOST_MINOR.into())?;
        }
        Kind::Directory | Kind::Fifo | Kind::Socket => {}
    }
    Ok(match kind {
        Kind::Directory => 0o040_000,
        Kind::File { .. } | Kind::Sparse { .. } => 0o100_000,
        Kind::Symlink(_) => 0o120_000,
        Kind::CharDevice { .. } => 0o020_000,
        Kind::BlockDevice { .. } => 0o060_000,
        Kind::Fifo => 0o010_000,
        Kind::Socket => 0o140_000,
    })
}

/// A device number as Linux has it on disk.
pub(super) fn device(major: u32, minor: u32) -> Body {
    Body::Device(minor & 0xff | major << 8 | (minor & !0xff) << 12)
}
