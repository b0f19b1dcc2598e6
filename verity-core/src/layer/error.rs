//! Why a layer cannot be built.

use std::io;

use super::compression::Compression;
use super::digest::Digest;
use super::tar::{self, Fault, Text};
use crate::{erofs, fec, geometry, tree};

/// Why a layer cannot be built. Whatever was written is of no use then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The blob cannot be read.
    #[error("the layer cannot be read: {0}")]
    Source(#[source] io::Error),
    /// The blob is compressed in a way that layers are not.
    #[error("the layer is compressed with {0}; layers are plain tars, or compressed with gzip or zstd")]
    Unsupported(&'static str),
    /// The blob's compressed data are damaged or end too early.
    #[error(
        "the layer's {compression} data are damaged, or end too early, at or before byte {offset}: {source}"
    )]
    Compression {
        /// How it is compressed.
        compression: Compression,
        /// How much of it was taken, in bytes.
        offset: u64,
        /// What the decoder says.
        source: io::Error,
    },
    /// The layer is much larger than its blob.
    #[error(
        "{expanded} bytes of content from {input} bytes of the layer: more than {ratio} times as much, and more than \
         {allowance} bytes"
    )]
    Expansion {
        /// How much content there is so far, in bytes: what was decompressed, and holes.
        expanded: u64,
        /// From how many bytes.
        input: u64,
        /// The limit: [`Limits::ratio`](super::Limits::ratio).
        ratio: u64,
        /// What is allowed in any case, in bytes: [`Limits::allowance`](super::Limits::allowance).
        allowance: u64,
    },
    /// More entries than allowed.
    #[error("the layer has more than {0} entries")]
    Entries(u64),
    /// What is in the blob is no sound tar.
    #[error(transparent)]
    Tar(tar::Error),
    /// An entry that a layer cannot have.
    #[error("entry {:?}: {problem}", Text(path))]
    Entry {
        /// Its path.
        path: Vec<u8>,
        /// What is wrong with it.
        problem: Problem,
    },
    /// The image cannot be made or written.
    #[error("the image: {0}")]
    Image(#[from] erofs::write::Error),
    /// The layer is not the one that was asked for.
    #[error("the layer's {what} is {found}, and {expected} was expected")]
    Mismatch {
        /// Which digest.
        what: &'static str,
        /// What it was to be.
        expected: Digest,
        /// What it is.
        found: Digest,
    },
    /// The tree cannot be made or written.
    #[error(transparent)]
    Tree(#[from] tree::Error),
    /// The parity cannot be laid out.
    #[error(transparent)]
    Parity(#[from] fec::LayoutError),
    /// [`Parents`](super::Parents) do not know yet: the layer can be built later.
    #[error("the attributes that lower layers give to directories without an entry are not known yet")]
    ParentsUnknown,
    /// [`Parents`](super::Parents) cannot tell.
    #[error("the attributes that lower layers give to directories without an entry: {0}")]
    Parents(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// No thread could be started, or one ended early.
    #[error("a thread that reads the layer could not be started, or ended early")]
    Thread,
    /// The observer asked to stop.
    #[error("cancelled")]
    Cancelled,
}

/// What is wrong with an entry of a sound tar.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Problem {
    /// A whiteout that hides nothing that could be: its name is `.wh.` alone, or leads elsewhere.
    WhiteoutName,
    /// A name that belongs to AUFS's own files.
    AufsFile,
    /// A whiteout that is a directory, or has something in it.
    WhiteoutDirectory,
    /// What is to hide all below it is no directory.
    OpaqueFile,
    /// It hides something in a directory of this path, which the layer hides as a whole.
    BelowHidden(Vec<u8>),
    /// It hides something in a directory of this path, where the layer has something else.
    BelowFile(Vec<u8>),
    /// A hard link to a whiteout.
    LinkToWhiteout,
    /// A hard link to itself.
    LinkToItself,
    /// A device 0/0, which overlayfs takes for a whiteout.
    WhiteoutDevice,
    /// An attribute that is overlayfs's own, by its name.
    OverlayAttribute(String),
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::WhiteoutName => f.write_str("a whiteout that does not name a file beside it"),
            Self::AufsFile => f.write_str("AUFS's own files (.wh..wh.*) are no part of a layer"),
            Self::WhiteoutDirectory => f.write_str("a whiteout is no directory"),
            Self::OpaqueFile => f.write_str("is no directory, and cannot be opaque"),
            Self::BelowHidden(folder) => write!(
                f,
                "hides something in {:?}, which the layer hides as a whole; runtimes differ in what is left",
                Text(folder)
            ),
            Self::BelowFile(folder) => write!(
                f,
                "hides something in {:?}, which is no directory in this layer; runtimes differ in what is left",
                Text(folder)
            ),
            Self::LinkToWhiteout => f.write_str("a hard link to a whiteout"),
            Self::LinkToItself => f.write_str("a hard link to itself"),
            Self::WhiteoutDevice => f.write_str(
                "a character device 0/0, which overlayfs takes for a whiteout; layers have a file .wh.NAME instead",
            ),
            Self::OverlayAttribute(name) => write!(
                f,
                "the extended attribute {name:?} is overlayfs's own, and would change what other layers show"
            ),
        }
    }
}

impl Error {
    /// An error that came through a `Read`, or another one as `otherwise` takes it.
    pub(super) fn through(error: io::Error, otherwise: impl FnOnce(io::Error) -> Self) -> Self {
        error.downcast::<Self>().unwrap_or_else(otherwise)
    }

    /// This error, on its way through a `Read`.
    pub(super) fn into_io(self) -> io::Error {
        io::Error::other(self)
    }
}

impl From<tar::Error> for Error {
    fn from(error: tar::Error) -> Self {
        match error.fault {
            // What went wrong in the stream, not in the tar.
            Fault::Read(source) => Self::through(source, Self::Source),
            fault => Self::Tar(tar::Error { fault, ..error }),
        }
    }
}

impl From<geometry::GeometryError> for Error {
    fn from(error: geometry::GeometryError) -> Self {
        Self::Tree(error.into())
    }
}
