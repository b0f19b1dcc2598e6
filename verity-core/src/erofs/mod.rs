//! EROFS: reading it as far as it takes to say what a block of an image belongs to (inodes, names, attributes, and where content lies), and
//! writing it.
//!
//! [`mod@format`] is what lies on disk; [`Image`] reads it. Content is placed, and read: what is compressed by LZ4, and with the
//! feature `layer` by DEFLATE or Zstandard, too. [`write`](mod@write) makes images.
//!
//! An image that is looked at here is damaged, hence hostile. Every position is checked before it is used, nothing is
//! allocated by a size that the image states, and whoever walks through an image spends from a [`Budget`], so that no
//! cycle and no list that claims to be long can hold it.
//!
//! The libraries there are read files, and do not say where a file lies: `erofs-rs` 0.3 (which needs Rust 1.91) and `composefs`
//! 0.9 (blocks of 4096 bytes, no compression, and tokio and OpenSSL behind it). Hence this one.

mod attributes;
mod compressed;
mod content;
mod directory;
mod encoding;
mod extents;
pub mod format;
mod image;
mod lz4;
mod packed;
pub mod write;

use std::cell::Cell;
use std::io;

pub use attributes::Attributes;
pub use content::{Content, Names};
pub use directory::{Name, names};
pub use encoding::Encoding;
pub(crate) use extents::Told;
pub use extents::{Extent, Place};
pub use image::{FileKind, Image, Inode};

/// How much work an image may cause: one unit is a name, an entry of an index, or the like.
#[derive(Debug)]
pub struct Budget(Cell<u64>);

impl Budget {
    /// As much as an image of half a tebibyte in single blocks takes; a few seconds of work.
    pub const STANDARD: u64 = 1 << 27;

    /// A budget of so many units.
    #[must_use]
    pub const fn new(units: u64) -> Self {
        Self(Cell::new(units))
    }

    /// Takes from it.
    ///
    /// # Errors
    /// [`Error::Budget`] if there is not enough left; then nothing is.
    pub fn spend(&self, units: u64) -> Result<(), Error> {
        let rest = self.0.get().checked_sub(units);
        self.0.set(rest.unwrap_or_default());
        rest.map(|_| ()).ok_or(Error::Budget)
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self::new(Self::STANDARD)
    }
}

/// Why something in an image cannot be told.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Not an EROFS image.
    #[error("no EROFS image: the bytes at {} are not its magic number", format::SUPERBLOCK_OFFSET)]
    Magic,
    /// The image needs something that this reader does not have.
    #[error("the image has EROFS features that are not known here (bits {0:#x})")]
    Features(u32),
    /// The image may take content from other devices.
    #[error(
        "the image may take content from further devices ({0} of them), of which its root hash says nothing"
    )]
    Devices(u16),
    /// The bytes cannot be had, or cannot be trusted.
    #[error("bytes {offset} to {} cannot be read: {source}", offset.saturating_add(*length as u64).saturating_sub(1))]
    Unreadable {
        /// The first byte.
        offset: u64,
        /// How many.
        length: usize,
        /// What the source said.
        source: io::Error,
    },
    /// A number in the image that cannot be.
    #[error("{field} is {value}")]
    Invalid {
        /// Which one.
        field: &'static str,
        /// What it says.
        value: u64,
    },
    /// The content of a file is compressed in a way that is not read here: by one of [`format::algorithm`].
    #[error("its content is compressed by {}, which is not read here", format::algorithm::name(*.0))]
    Compressed(u8),
    /// The image causes more work than it may.
    #[error("the image causes more work than any sound one")]
    Budget,
    /// The observer asked to stop.
    #[error("cancelled")]
    Cancelled,
}
