//! Writing an EROFS image: uncompressed, from entries as they stream by.
//!
//! ```
//! use verity_core::erofs::write::{Attributes, Kind, Options, Writer};
//! use verity_core::io::MemoryDevice;
//!
//! let image = MemoryDevice::default();
//! let mut writer = Writer::new(&image, Options::default())?;
//! let attributes = Attributes { mode: 0o644, ..Attributes::default() };
//! let content = &mut &b"verity\n"[..];
//! writer.add(b"etc/hostname", &attributes, Kind::File { size: 7, content })?;
//! writer.link(b"etc/name", b"etc/hostname")?;
//! let summary = writer.finish()?;
//! assert_eq!((summary.inodes, summary.size), (3, image.size()));
//! # Ok::<(), verity_core::erofs::write::Error>(())
//! ```
//!
//! # What an image looks like
//!
//! Blocks with the superblock; content in the order of the entries; directories; metadata. The same entries in the same
//! order give the same bytes, whatever the machine. Everything behind the first blocks is written once and in order, in pieces of up to a
//! mebibyte, so that it can be hashed on the way; the blocks of the superblock (those of the first 1152 bytes) come last.
//!
//! - A file whose blocks are consecutive is flat. If at most half a block is left over and it fits beside the inode, it lies there, for the first
//!   64 MiB of such ends. A file with holes, or with content that the image holds already, is chunk-based.
//! - Content is looked at in units of 64 KiB (up to 1 MiB in files of more than 1 GiB): one that is all zeros becomes a hole, and one whose SHA-256 is that of an
//!   earlier one, of the first 16 GiB, is not stored again.
//! - Compact inodes have the time that most inodes have; the others are extended.
//! - Attributes that several inodes have are shared.
//!
//! Linux mounts such images from 5.15 on, those with blocks of less than its page's size from 6.4 on.
//!
//! # Memory
//!
//! An inode takes about 200 bytes until [`Writer::finish`], besides its name, its attributes where no other inode has the same, and what lies beside
//! it (a symbolic link's target; the end of a file, 64 MiB in all). A run of blocks of a chunk-based file takes 16 bytes, and what is known of content takes
//! at most 25 MB.
//! [`Options::max_inodes`] and [`Options::max_memory`] bound what grows with the entries.
//!
//! The content of an entry that another one replaces stays in the image, without a name.

mod change;
mod content;
mod error;
mod known;
mod layout;
mod metadata;
mod names;
mod node;
mod runs;
mod sink;
mod tree;
mod xattrs;

use std::io::Read;
use std::ops::Range;

pub use error::{Error, PathProblem};

use self::content::{Source, Store};
use self::layout::Layout;
use self::node::{Body, Node};
#[cfg(feature = "layer")]
pub(crate) use self::sink::Target;
use self::sink::{Direct, Sink};
use self::tree::Tree;
pub use super::Attributes;
use super::format::InodeHead;
use crate::block::BlockSize;
use crate::io::{WriteAt, usize_of};

/// How many bytes of the ends of files lie beside their inodes, at most. Until the end they are in memory.
const MOST_KEPT: u64 = 64 << 20;
/// The largest block size, in bytes: the largest page that Linux has.
const MOST_BLOCK: u32 = 1 << 16;

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
    /// The most inodes that there may be at a time, the root and parents that nobody described among them.
    pub max_inodes: u64,
    /// The most bytes of memory that names, attributes and what lies beside inodes may take together; see [`Writer::memory`].
    pub max_memory: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            block_size: BlockSize::default(),
            uuid: [0; 16],
            max_size: u64::MAX,
            max_inodes: u64::MAX,
            max_memory: u64::MAX,
        }
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
///
/// After an error the image is worth nothing: drop the writer, and what it wrote.
pub struct Writer<'a> {
    options: Options,
    store: Store<'a>,
    tree: Tree,
}

impl<'a> Writer<'a> {
    /// Begins an image.
    ///
    /// # Errors
    /// [`Error::BlockSize`].
    pub fn new(out: &'a dyn WriteAt, options: Options) -> Result<Self, Error> {
        Self::handing_to(Box::new(Direct(out)), options)
    }

    /// As [`Writer::new`], for whoever does more with the image than writing it.
    pub(crate) fn handing_to(out: Box<dyn sink::Target + 'a>, options: Options) -> Result<Self, Error> {
        let block_size = options.block_size;
        if block_size.get() > MOST_BLOCK {
            return Err(Error::BlockSize(block_size.get()));
        }
        let start = metadata::superblock_area(block_size.as_u64());
        let sink = Sink::new(out, block_size, start, options.max_size);
        let tree = Tree::new(options.max_inodes);
        Ok(Self { options, store: Store::new(sink), tree })
    }

    /// Adds an entry.
    ///
    /// `path` has components separated by slashes, without one at the beginning or the end; the empty path is the root. A second entry of
    /// the same path replaces the first: a directory over a directory keeps what is in it and takes the attributes;
    /// anything else over a directory drops what was in it. Parents that are missing appear with mode 0o755, owner root and the time 0.
    ///
    /// # Errors
    /// What is wrong with the path, an attribute or the content; [`Error::Write`], [`Error::TooLarge`]; [`Error::Inodes`], [`Error::Memory`].
    pub fn add(&mut self, path: &[u8], attributes: &Attributes, kind: Kind<'_>) -> Result<(), Error> {
        self.tree.check(path)?;
        let mode = node::check(path, attributes, &kind)?;
        if path.is_empty() && !matches!(kind, Kind::Directory) {
            return Err(Error::Root);
        }
        let xattrs = self.tree.xattrs(path, attributes)?;
        // Beside the largest inode, and if none of its attributes is shared.
        let room = self.options.block_size.as_u64().saturating_sub(InodeHead::EXTENDED_SIZE);
        let room = usize_of(room.saturating_sub(xattrs::unshared_size(&xattrs)));
        let half = if self.tree.kept < MOST_KEPT { self.options.block_size.bytes() / 2 } else { 0 };
        let (size, body) = match kind {
            Kind::Directory => (0, Body::directory()),
            Kind::File { size, content } => {
                let all = 0..size;
                let source = Source { path, size, data: std::slice::from_ref(&all), content };
                (size, self.store.store(source, room.min(half))?)
            }
            Kind::Sparse { size, data, content } => {
                let source = Source { path, size, data, content };
                source.check()?;
                (size, self.store.store(source, room.min(half))?)
            }
            Kind::Symlink(mut target) => {
                let size = target.len() as u64;
                let all = 0..size;
                let source = Source { path, size, data: std::slice::from_ref(&all), content: &mut target };
                (size, self.store.store(source, room)?)
            }
            Kind::CharDevice { major, minor } | Kind::BlockDevice { major, minor } => {
                (0, node::device(major, minor))
            }
            Kind::Fifo | Kind::Socket => (0, Body::Device(0)),
        };
        self.tree.insert(path, Node::new(attributes, mode, xattrs, size, body))?;
        self.check_memory()?;
        // A file that claims to be large beyond measure costs an index.
        self.store.sink.check(self.tree.indexes)
    }

    /// Makes `path` a further name of what `target` is a name of now. It replaces what has the name already.
    ///
    /// # Errors
    /// [`Error::NoTarget`], [`Error::DirectoryTarget`], and what is wrong with the path; [`Error::Inodes`], [`Error::Memory`].
    pub fn link(&mut self, path: &[u8], target: &[u8]) -> Result<(), Error> {
        self.tree.link(path, target)?;
        self.check_memory()
    }

    /// How many bytes are in memory of what inodes have in different measure: names, extended attributes, the targets of symbolic links and
    /// other content that lies beside inodes, runs of chunk-based files.
    #[must_use]
    pub const fn memory(&self) -> u64 {
        self.tree.memory()
    }

    /// One entry may take some hundred kilobytes too much before this is seen, or 16 MiB if it is a sparse file.
    const fn check_memory(&self) -> Result<(), Error> {
        let most = self.options.max_memory;
        if self.tree.memory() <= most { Ok(()) } else { Err(Error::Memory { most }) }
    }

    /// Writes the metadata, and last the superblock.
    ///
    /// # Errors
    /// [`Error::Write`], [`Error::TooLarge`].
    pub fn finish(self) -> Result<Summary, Error> {
        let Self { options, store: Store { mut sink, summary, .. }, mut tree } = self;
        let shared = tree.pool.share();
        let layout = Layout::new(&mut tree, &shared, &sink)?;
        metadata::directories(&tree, &layout, &mut sink)?;
        metadata::inodes(&tree, &shared, &layout, &mut sink)?;
        sink.flush()?;
        metadata::superblock(&tree, &shared, &layout, &options, &mut sink)?;
        let size = sink.position();
        let blocks = size / options.block_size.as_u64();
        Ok(Summary { size, blocks, inodes: layout.order.len() as u64, ..summary })
    }
}
