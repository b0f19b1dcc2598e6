//! A layout that is written to: blobs that are there whole or not at all, and an index that several processes change one after the other.

use std::path::{Path, PathBuf};

/// An OCI image layout in a directory, to put images into.
///
/// Any number of processes may write to one layout at once. `.verity` in it holds what has been begun; other programs pass it over.
#[derive(Debug)]
pub struct Store {
    dir: PathBuf,
}

impl Store {
    /// The layout's directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}
