//! Writing an EROFS image: uncompressed, from entries as they stream by.

mod error;

use std::collections::BTreeMap;
use std::io::Read;
use std::ops::Range;

pub use error::{Error, PathProblem};

use crate::block::BlockSize;
use crate::io::WriteAt;

/// What every entry has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// Permissions, set-uid, set-gid and sticky bit: 0 to 0o7777. What an entry is, says its [`Kind`].
    pub mode: u16,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// When it was changed, in seconds since 1970.
    pub mtime: i64,
    /// And nanoseconds: 0 to 999,999,999.
    pub mtime_nsec: u32,
    /// Extended attributes by their full names, such as `security.capability`.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// What an entry is.
#[non_exhaustive]
pub enum Kind<'a> {
    /// A directory.
    Directory,
    /// A regular file. Long runs of zeros in it become holes.
    File {
        /// Its size in bytes.
        size: u64,
        /// So many bytes.
        content: &'a mut dyn Read,
    },
    /// A regular file, most of which is holes. They are neither read nor stored.
    Sparse {
        /// Its size in bytes.
        size: u64,
        /// Which bytes are data: in order, one behind the other.
        data: &'a [Range<u64>],
        /// The bytes of these ranges, and nothing between them.
        content: &'a mut dyn Read,
    },
    /// A symbolic link to a path.
    Symlink(&'a [u8]),
    /// A character device.
    CharDevice {
        /// At most 4095.
        major: u32,
        /// At most 1048575.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// At most 4095.
        major: u32,
        /// At most 1048575.
        minor: u32,
    },
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
}

/// What an image is to be like.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// 512 to 65536 bytes. Linux mounts blocks of its page's size (4096), and since 6.4 smaller ones.
    pub block_size: BlockSize,
    /// The image's UUID.
    pub uuid: [u8; 16],
    /// The largest size that the image may have, in bytes: what claims to need more is refused.
    pub max_size: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { block_size: BlockSize::default(), uuid: [0; 16], max_size: u64::MAX }
    }
}

/// What was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Summary {
    /// The image's size in bytes, a multiple of the block size.
    pub size: u64,
    /// The image's size in blocks.
    pub blocks: u64,
    /// How many inodes there are.
    pub inodes: u64,
    /// How many bytes of content are holes.
    pub holes: u64,
    /// How many bytes of content were there already and are not stored again.
    pub deduplicated: u64,
}

/// Writes an image, which begins at the position 0 of what it is written to.
pub struct Writer<'a> {
    out: &'a dyn WriteAt,
    options: Options,
}

impl<'a> Writer<'a> {
    /// Begins an image.
    ///
    /// # Errors
    /// [`Error::BlockSize`].
    pub fn new(out: &'a dyn WriteAt, options: Options) -> Result<Self, Error> {
        Ok(Self { out, options })
    }

    /// Adds an entry.
    ///
    /// `path` has components separated by slashes, without one at the beginning or the end; the empty path is the root. A second entry of
    /// the same path replaces the first: a directory over a directory keeps what is in it and takes the attributes;
    /// anything else over a directory drops what was in it. Parents that are missing appear with mode 0o755, owner root and the time 0.
    ///
    /// # Errors
    /// What is wrong with the path, an attribute or the content; [`Error::Write`], [`Error::TooLarge`].
    pub fn add(&mut self, path: &[u8], attributes: &Attributes, kind: Kind<'_>) -> Result<(), Error> {
        let _ = (path, attributes, kind);
        todo!()
    }

    /// Makes `path` a further name of what `target` is a name of now. It replaces what has the name already.
    ///
    /// # Errors
    /// [`Error::NoTarget`], [`Error::DirectoryTarget`], and what is wrong with the path.
    pub fn link(&mut self, path: &[u8], target: &[u8]) -> Result<(), Error> {
        let _ = (path, target);
        todo!()
    }

    /// Writes the metadata, and last the superblock.
    ///
    /// # Errors
    /// [`Error::Write`], [`Error::TooLarge`].
    pub fn finish(self) -> Result<Summary, Error> {
        let _ = (self.out, self.options);
        todo!()
    }
}
