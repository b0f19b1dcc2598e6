//! What is wrong with an archive.

use std::fmt;
use std::io;

/// Why an archive cannot be read, and where.
#[derive(Debug, thiserror::Error)]
#[error("{}{fault}", self.place())]
pub struct Error {
    /// The entry's name, as far as it was read.
    pub name: Option<Vec<u8>>,
    /// Where the entry's header (the first one, if there are several) begins in the uncompressed archive, in bytes.
    pub offset: u64,
    /// What is wrong.
    #[source]
    pub fault: Fault,
}

impl Error {
    fn place(&self) -> String {
        match &self.name {
            Some(name) => format!("entry {:?} (byte {} of the tar): ", Text(name), self.offset),
            None => format!("byte {} of the tar: ", self.offset),
        }
    }
}

/// What is wrong with an entry.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// The archive cannot be read on.
    #[error("reading failed: {0}")]
    Read(#[source] io::Error),
    /// The archive ends in the middle of something.
    #[error("the tar ends within {0}: it is truncated")]
    Truncated(&'static str),
    /// The archive ends where an entry could come, without the blocks of zeros that say that it is whole.
    #[error("the tar ends without its end marker: it may be truncated")]
    NoEnd,
    /// One block of zeros, and then something else.
    #[error("a single block of zeros, which is no end marker, with more behind it")]
    LoneZeroBlock,
    /// The header's sum does not match: this is no tar, or it is damaged.
    #[error("the header's checksum is {stated}, its bytes add up to {found}: no tar, or a damaged one")]
    Checksum {
        /// What the header says; -1 if that is no number.
        stated: i64,
        /// The sum of its bytes.
        found: i64,
    },
    /// A field of a header that is no number.
    #[error("the header's field {field} is {:?}, which is no number that a tar can have", Text(value))]
    Number {
        /// Which one.
        field: &'static str,
        /// What it holds.
        value: Vec<u8>,
    },
    /// A value that nothing on Linux can have.
    #[error("{field} is {value}, which is not from {lowest} to {highest}")]
    Range {
        /// Which one.
        field: &'static str,
        /// What it is.
        value: i64,
        /// The least that is possible.
        lowest: i64,
        /// The most that is possible.
        highest: i64,
    },
    /// An entry of a type that is not known, or not for layers.
    #[error("type {:?} is not one that layers have", Text(&[*.0]))]
    Type(u8),
    /// A directory, link or device that claims to have content.
    #[error("{what} claims {size} bytes of content, which it cannot have")]
    ContentOf {
        /// What it is.
        what: &'static str,
        /// How much it claims.
        size: u64,
    },
    /// A name or link target that cannot be.
    #[error("the {which} {:?} {problem}", Text(path))]
    Path {
        /// Whether it is a name or a link's target.
        which: &'static str,
        /// The path, cut after 256 bytes.
        path: Vec<u8>,
        /// What is wrong with it.
        problem: PathProblem,
    },
    /// A regular file's name ends in a slash: some readers take it for a directory.
    #[error("a file whose name ends in a slash: it could be meant as a directory")]
    FileOrDirectory,
    /// An extension header that is larger than any sound one.
    #[error("an extension header has {size} bytes, more than {limit}")]
    ExtensionSize {
        /// What it claims.
        size: u64,
        /// The most that is read.
        limit: u64,
    },
    /// Two extension headers for one entry say the same thing twice.
    #[error("two extension headers give the {0}: readers differ in which one counts")]
    Conflict(&'static str),
    /// A header for all entries that follow, between the headers of one.
    #[error("a global PAX header between an entry and its extension headers, which some readers forget then")]
    GlobalBetween,
    /// An extension header and no entry behind it.
    #[error("extension headers without an entry behind them")]
    NoEntry,
    /// A PAX record that is no record.
    #[error("PAX records: {0}")]
    Record(&'static str),
    /// A PAX record whose value is none.
    #[error("the PAX record {key} is {:?}, which it cannot be", Text(value))]
    RecordValue {
        /// Its name.
        key: &'static str,
        /// Its value, cut after 256 bytes.
        value: Vec<u8>,
    },
    /// A PAX record that is not known and must not be passed over, that contradicts an earlier one, or a global one that changes entries.
    #[error("the PAX record {:?} {why}", Text(key))]
    UnknownRecord {
        /// Its name.
        key: Vec<u8>,
        /// Why it is refused.
        why: &'static str,
    },
    /// The list of a sparse file's pieces is none.
    #[error("the sparse file's map: {0}")]
    Sparse(&'static str),
}

/// What is wrong with a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PathProblem {
    /// There is nothing.
    Empty,
    /// A component is `..`.
    Parent,
    /// A NUL in it.
    Nul,
    /// A component has more than 255 bytes.
    LongComponent,
    /// It has more than 4095 bytes.
    Long,
    /// It is the root, where that cannot be.
    Root,
}

impl fmt::Display for PathProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "is empty",
            Self::Parent => "has '..' in it, which could lead out of the layer",
            Self::Nul => "has a NUL in it",
            Self::LongComponent => "has a component of more than 255 bytes",
            Self::Long => "has more than 4095 bytes",
            Self::Root => "is the root, which is a directory",
        })
    }
}

/// Bytes as text for a message, whatever they are.
pub(crate) struct Text<'a>(pub(crate) &'a [u8]);

impl fmt::Debug for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&String::from_utf8_lossy(clip(self.0)), f)
    }
}

/// The beginning of bytes that an attacker may have made long.
pub(super) fn clip(bytes: &[u8]) -> &[u8] {
    bytes.get(..256).unwrap_or(bytes)
}
