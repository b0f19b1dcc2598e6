//! Why a verified read has no answer.

use std::io;
use std::ops::Range;

use crate::block::RootHash;
use crate::tree::{self, Place};

/// Why bytes could not be read, or not be vouched for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A block does not hash to what the root hash vouches for.
    #[error(
        "{place} block {block} (bytes {} to {}) is corrupted: its digest is {found}, not {expected}{}",
        bytes.start, bytes.end - 1, repair.remark()
    )]
    Corrupted {
        /// Data, or which level of the tree. The top block is bad where the root hash is another tree's, too.
        place: Place,
        /// The block, counted in its level or in the data.
        block: u64,
        /// Where it lies on the data device or the hash device.
        bytes: Range<u64>,
        /// The digest that is vouched for.
        expected: RootHash,
        /// The block's own.
        found: RootHash,
        /// Whether it was tried to restore the block.
        repair: Repair,
    },
    /// The parity that was given is laid out for another tree.
    #[error("the parity is laid out for other data or another tree than these")]
    OtherLayout,
    /// A device cannot be read (or, in [`extract`](super::VerityReader::extract), not be written), the parameters do not fit each other, or the
    /// work was cancelled.
    #[error(transparent)]
    Tree(#[from] tree::Error),
}

/// What became of restoring a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repair {
    /// There is no parity to restore it from.
    NoParity,
    /// The parity was not enough: too much of what it covers is damaged, or it is damaged itself.
    Failed,
}

impl Repair {
    const fn remark(self) -> &'static str {
        match self {
            Self::NoParity => "",
            Self::Failed => "; the parity cannot restore it",
        }
    }
}

impl Error {
    /// The same, after parity was of no help.
    pub(super) fn beyond_repair(self) -> Self {
        match self {
            Self::Corrupted { place, block, bytes, expected, found, repair: _ } => {
                Self::Corrupted { place, block, bytes, expected, found, repair: Repair::Failed }
            }
            other => other,
        }
    }
}

impl From<Error> for io::Error {
    /// Keeps the error as the source. A device that ends too early is invalid data and not an end of the file: a caller who reads until
    /// that must not take a truncated image for a whole one.
    fn from(error: Error) -> Self {
        let kind = match &error {
            Error::Corrupted { .. } => io::ErrorKind::InvalidData,
            Error::Tree(tree::Error::Read { source, .. } | tree::Error::Write { source, .. }) => {
                match source.kind() {
                    // A caller tries again after the second.
                    io::ErrorKind::UnexpectedEof | io::ErrorKind::Interrupted => io::ErrorKind::InvalidData,
                    kind => kind,
                }
            }
            _ => io::ErrorKind::Other,
        };
        Self::new(kind, error)
    }
}
