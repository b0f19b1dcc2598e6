//! Hash trees: building, verifying, and hashing data as it is written.
//!
//! Memory does not grow with the image: each thread holds one read buffer of at most 512 KiB, the digests of one job (at most
//! 128 KiB, or to the end of a hash block) and one hash block of each level. Levels are built one from the other, each read back from the
//! hash device, so no list of digests is ever kept.

mod bad;
mod build;
mod compare;
mod known;
#[cfg(feature = "layer")]
mod leaves;
mod level;
mod patch;
mod report;
mod runs;
mod update;
mod verify;
mod writer;

use std::fmt;
use std::io;
use std::num::NonZeroUsize;

pub use bad::BadRun;
pub(crate) use build::Builder;
pub use build::build;
pub use compare::changed_ranges;
pub(crate) use known::LevelHasher;
#[cfg(feature = "layer")]
pub(crate) use leaves::Leaves;
pub(crate) use report::{Collector, Witness};
pub use report::{Fault, Finding, Place, Report};
pub(crate) use runs::Runs;
pub use update::{Old, update, update_in_place};
pub(crate) use verify::{Ancestors, Tree, check_values};
pub use verify::{verify, verify_top};
pub use writer::{Built, TreeWriter};

use crate::block::RootHash;
use crate::geometry::GeometryError;
use crate::progress::Observer;

/// How many threads hash.
///
/// ```
/// use verity_core::tree::Threads;
/// assert_eq!(Threads::new(4)?.get(), 4);
/// assert!(Threads::new(0).is_err());
/// # Ok::<(), verity_core::tree::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Threads(NonZeroUsize);

impl Threads {
    /// The most threads that can be asked for.
    pub const MAX: usize = 1024;

    /// Exactly `count` threads.
    ///
    /// # Errors
    /// [`Error::Threads`] unless `count` is from 1 to 1024.
    pub fn new(count: usize) -> Result<Self, Error> {
        match NonZeroUsize::new(count) {
            Some(threads) if count <= Self::MAX => Ok(Self(threads)),
            _ => Err(Error::Threads(count)),
        }
    }

    /// One thread for each processor that this process may use: affinity and the container's CPU quota count.
    #[must_use]
    pub fn available() -> Self {
        let count = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        Self(count.min(NonZeroUsize::new(Self::MAX).unwrap_or(NonZeroUsize::MIN)))
    }

    /// The number of threads.
    #[must_use]
    pub const fn get(self) -> usize {
        self.0.get()
    }
}

impl Default for Threads {
    fn default() -> Self {
        Self::available()
    }
}

/// How work is done, apart from what is worked on.
#[derive(Clone, Copy)]
pub struct Options<'a> {
    /// How many threads hash; one for each usable processor by default.
    pub threads: Threads,
    /// Who hears about progress and can cancel; nobody by default.
    pub observer: &'a dyn Observer,
    /// How many findings a [`Report`] lists; it counts the others too. 65536 (some 15 MB) by default.
    pub max_findings: usize,
}

impl Default for Options<'_> {
    fn default() -> Self {
        Self { threads: Threads::available(), observer: &(), max_findings: 65_536 }
    }
}

impl fmt::Debug for Options<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { threads, observer: _, max_findings } = self;
        f.debug_struct("Options")
            .field("threads", threads)
            .field("max_findings", max_findings)
            .finish_non_exhaustive()
    }
}

/// One of the things that work reads or writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Device {
    /// The data.
    Data,
    /// The tree.
    Hash,
    /// Where [`TreeWriter`] keeps the leaf level while the data's length is unknown.
    LeafStore,
    /// The parity.
    Parity,
    /// Where verified data go.
    Output,
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Data => "data device",
            Self::Hash => "hash device",
            Self::LeafStore => "leaf store",
            Self::Parity => "FEC device",
            Self::Output => "output",
        })
    }
}

/// Why a tree could not be built or checked. A tree that was checked and is bad is a [`Report`], not an error.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Reading failed.
    #[error("{device}: reading {length} bytes at byte {offset} failed: {}", read_failure(source))]
    Read {
        /// What was read.
        device: Device,
        /// First byte.
        offset: u64,
        /// Bytes asked for.
        length: usize,
        /// What the system answered; `UnexpectedEof` where the device ends too early.
        source: io::Error,
    },
    /// Writing failed.
    #[error("{device}: writing {length} bytes at byte {offset} failed: {source}")]
    Write {
        /// What was written.
        device: Device,
        /// First byte.
        offset: u64,
        /// Bytes given.
        length: usize,
        /// What the system answered.
        source: io::Error,
    },
    /// The tree's top block does not hash to the root hash that was given.
    #[error("root hash {expected} does not match the tree's, which is {found}")]
    RootHash {
        /// The root hash that was given.
        expected: RootHash,
        /// The digest of the top block.
        found: RootHash,
    },
    /// A tree that was to be updated is not what its root hash says.
    #[error("the tree to be updated does not match its root hash: {0}")]
    OldTree(Box<Finding>),
    /// The root hash is not of the algorithm that the parameters name.
    #[error("root hash has {found} bytes, the tree's digests have {expected}")]
    RootHashSize {
        /// Bytes of the algorithm's digest.
        expected: usize,
        /// Bytes given.
        found: usize,
    },
    /// A stream ended inside a block.
    #[error("the data ends {surplus} bytes into a block: {length} bytes are no multiple of {block_size}")]
    PartialBlock {
        /// Bytes that came in all.
        length: u64,
        /// Bytes of the last, incomplete block.
        surplus: u64,
        /// The data block size.
        block_size: u32,
    },
    /// The tree cannot be laid out.
    #[error(transparent)]
    Geometry(#[from] GeometryError),
    /// A number of threads out of range.
    #[error("{0} threads: give 1 to 1024")]
    Threads(usize),
    /// The observer asked to stop.
    #[error("cancelled")]
    Cancelled,
    /// A thread that hashed ended early.
    #[error("a hashing thread ended early")]
    Thread,
}

fn read_failure(error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::UnexpectedEof {
        "the device ends before that".to_owned()
    } else {
        error.to_string()
    }
}
