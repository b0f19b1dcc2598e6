//! Why an image cannot be written.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

/// Why an image cannot be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A block size that EROFS does not have.
    #[error("blocks of {0} bytes: EROFS has blocks of 512 to 65536 bytes")]
    BlockSize(u32),
    /// A path that no file can have.
    #[error("{path:?}: {problem}")]
    Path {
        /// The path.
        path: PathBuf,
        /// What is wrong with it.
        problem: PathProblem,
    },
    /// Something that is no directory, where the path goes through it.
    #[error("{path:?}: {parent:?} is no directory")]
    NotADirectory {
        /// The path.
        path: PathBuf,
        /// Its beginning, up to what is no directory.
        parent: PathBuf,
    },
    /// The root has to be a directory.
    #[error("the root of an image is a directory and nothing else")]
    Root,
    /// A hard link to something that was not added before, or is not there any more.
    #[error("{path:?} is a hard link to {target:?}, which is not there")]
    NoTarget {
        /// The path of the link.
        path: PathBuf,
        /// What it is to be a name of.
        target: PathBuf,
    },
    /// A hard link to a directory.
    #[error("{path:?} is a hard link to the directory {target:?}")]
    DirectoryTarget {
        /// The path of the link.
        path: PathBuf,
        /// The directory.
        target: PathBuf,
    },
    /// A number that an inode has no room for, or that means nothing.
    #[error("{path:?}: {field} is {value}, and at most {most} is possible")]
    Field {
        /// The path.
        path: PathBuf,
        /// Which number.
        field: &'static str,
        /// What it says.
        value: u64,
        /// The largest possible one.
        most: u64,
    },
    /// A symbolic link that leads nowhere: its target is empty, or has a NUL in it.
    #[error("{path:?}: the target of the symbolic link is empty or has a NUL in it")]
    Target {
        /// The path.
        path: PathBuf,
    },
    /// An extended attribute of a kind that EROFS does not have.
    #[error(
        "{path:?}: the extended attribute {name:?} is none that EROFS has (user.*, trusted.*, security.*, \
         system.posix_acl_access, system.posix_acl_default)"
    )]
    Xattr {
        /// The path.
        path: PathBuf,
        /// The attribute's name.
        name: PathBuf,
    },
    /// Data of a sparse file that overlap, are out of order, or end behind the file.
    #[error("{path:?}: the data of the sparse file at {start} to {end} are out of order, or behind its end")]
    Sparse {
        /// The path.
        path: PathBuf,
        /// The first byte.
        start: u64,
        /// What follows the last one.
        end: u64,
    },
    /// The content could not be read.
    #[error("{path:?}: its content cannot be read: {source}")]
    Content {
        /// The path.
        path: PathBuf,
        /// What the source said.
        source: io::Error,
    },
    /// The content ended before its size.
    #[error("{path:?}: its content ends before its size, {size} bytes")]
    ContentEnds {
        /// The path.
        path: PathBuf,
        /// The size in bytes.
        size: u64,
    },
    /// The image could not be written.
    #[error("the image cannot be written at {offset}: {source}")]
    Write {
        /// The position in bytes.
        offset: u64,
        /// What the target said.
        source: io::Error,
    },
    /// More inodes than allowed, or than can be told apart.
    #[error("the image needs more than {most} inodes")]
    Inodes {
        /// How many it has at most.
        most: u64,
    },
    /// More in memory than allowed.
    #[error(
        "names, extended attributes and the targets of symbolic links take more than {most} bytes of memory"
    )]
    Memory {
        /// How many bytes are allowed.
        most: u64,
    },
    /// More than the image may have, or can have.
    #[error("the image needs more than {most} blocks of {block_size} bytes")]
    TooLarge {
        /// How many it has at most.
        most: u64,
        /// The block size in bytes.
        block_size: u32,
    },
}

/// What is wrong with a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PathProblem {
    /// An empty component: a slash at the beginning or the end, or two in a row.
    #[error("a component is empty")]
    Empty,
    /// `.` or `..`.
    #[error("a component is . or ..")]
    Dots,
    /// A NUL.
    #[error("there is a NUL in it")]
    Nul,
    /// A component of more than 255 bytes.
    #[error("a component has more than 255 bytes")]
    Long,
    /// More bytes than any path needs; here are the first of them.
    #[error("it goes on, and has more than 65535 bytes")]
    LongPath,
}

/// Paths in messages are such as the operating system has.
pub(super) fn path_of(bytes: &[u8]) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(bytes))
}
