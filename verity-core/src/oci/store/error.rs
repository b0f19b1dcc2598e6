//! Why a layout cannot be written.

use std::io;
use std::path::{Path, PathBuf};

/// Why a layout cannot be written. What was complete before stays, and is found again; nothing is half written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The directory holds something, and no layout.
    #[error("{path:?} is no OCI layout: it has {found:?} in it, and no oci-layout")]
    NotALayout {
        /// The directory.
        path: PathBuf,
        /// A name in it.
        found: String,
    },
    /// What is to be written to is a link, or no plain file or directory: it may be anybody's.
    #[error(
        "{path:?} is a link, or of another kind than it should be: it may lead out of the layout, and is not written to"
    )]
    Link {
        /// The file or directory.
        path: PathBuf,
    },
    /// A layout of a version that is not known, or an index that cannot be read.
    #[error("{path:?}: {problem}")]
    Document {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A file or directory that cannot be read.
    #[error("{path:?} cannot be read: {source}")]
    Read {
        /// Which one.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// A file or directory that cannot be made or written.
    #[error("{path:?} cannot be written: {source}")]
    Write {
        /// Which one.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// A file that is being written, or the folder around it, has its name no more.
    #[error("{path:?} was removed while it was in use, or something else was put in its place")]
    Gone {
        /// The file or folder.
        path: PathBuf,
    },
    /// The observer asked to stop.
    #[error("cancelled")]
    Cancelled,
}

impl StoreError {
    pub(super) fn read(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Read { path, source }
    }

    pub(super) fn write(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Write { path, source }
    }

    pub(super) fn document(path: &Path, problem: &dyn ToString) -> Self {
        Self::Document { path: path.to_owned(), problem: problem.to_string() }
    }
}
