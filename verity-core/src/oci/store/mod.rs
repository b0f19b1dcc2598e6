//! A layout that is written to: blobs that are there whole or not at all, and an index that several processes change one after the other.
//!
//! ```text
//! DIR/oci-layout           the layout's version                     } these two when the first image is complete
//! DIR/index.json           the images                               }
//! DIR/blobs/sha256/...     blobs, under their digests
//! DIR/.verity/new-*        blobs that are being written; whose writer is gone, they are removed by the next one
//! DIR/.verity/layers/...   a file for each layer that is or was made: locked while that goes on, afterwards it says which blob it is
//! ```
//!
//! Other programs pass `.verity` over; without it nothing is lost but the knowledge of which layers were made already.

mod blob;
mod error;
mod index;
mod layers;

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

pub use blob::NewBlob;
pub use error::StoreError;
pub(crate) use index::REF_NAME;
pub use layers::{LayerKey, LayerLock, Slot};

use super::descriptor::Descriptor;
use crate::layer::Digest;

/// What the file `oci-layout` says.
const LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;
/// How often a file is made anew whose directory somebody else has just removed because it was empty.
const TRIES: usize = 100;

/// An OCI image layout in a directory, to put images into.
///
/// Any number of processes may write to one layout at once. Dropped, it removes what is empty: of a build that failed, nothing is left but the layers
/// that it has completed.
#[derive(Debug)]
pub struct Store {
    dir: PathBuf,
}

impl Store {
    /// Opens a layout, or takes a directory for one that is empty or does not exist yet; its parent has to exist. Blobs that nobody writes any more are
    /// removed.
    ///
    /// # Errors
    /// [`StoreError::NotALayout`] for a directory with something else in it; what the system answers.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        let layout = dir.join("oci-layout");
        match fs::read(&layout) {
            Ok(text) => index::check_layout(&layout, &text)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => check_empty(dir)?,
            Err(error) => return Err(StoreError::read(&layout)(error)),
        }
        match fs::create_dir(dir) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(StoreError::write(dir)(error));
            }
            _ => {}
        }
        let store = Self { dir: dir.to_owned() };
        blob::remove_stale(&store.work());
        layers::remove_stale(&store.layers());
        Ok(store)
    }

    /// The layout's directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The path of a blob, whether it exists or not.
    #[must_use]
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.dir.join("blobs").join(digest.algorithm().name()).join(hex::encode(digest.as_bytes()))
    }

    /// Begins a blob.
    ///
    /// # Errors
    /// [`StoreError::Write`].
    pub fn begin_blob(&self) -> Result<NewBlob<'_>, StoreError> {
        NewBlob::begin(self)
    }

    /// Puts a small blob into the layout: a document.
    ///
    /// # Errors
    /// [`StoreError::Write`].
    pub fn put(&self, bytes: &[u8]) -> Result<Digest, StoreError> {
        let digest = Digest::sha256(bytes);
        // Whoever wrote it before has synced it.
        if fs::read(self.blob_path(&digest)).is_ok_and(|found| found == bytes) {
            return Ok(digest);
        }
        let blob = self.begin_blob()?;
        blob.write(bytes)?;
        blob.finish_as(&digest)?;
        Ok(digest)
    }

    /// Looks for a layer that was made already, or takes it upon this process to make it.
    ///
    /// # Errors
    /// [`StoreError`]: what the system answers.
    pub fn layer(&self, key: &LayerKey) -> Result<Slot, StoreError> {
        layers::slot(self, key)
    }

    /// Lists an image in the index. One of the same name is replaced; without a name, one of the same digest.
    ///
    /// All blobs are on disk before the index says so.
    ///
    /// # Errors
    /// [`StoreError`]: an index that is there and cannot be read, and what the system answers.
    pub fn set_image(&self, image: &Descriptor) -> Result<(), StoreError> {
        index::set_image(self, image)
    }

    fn work(&self) -> PathBuf {
        self.dir.join(".verity")
    }

    fn layers(&self) -> PathBuf {
        self.work().join("layers")
    }

    /// Makes something in a directory of this layout, and the directory before that where there is none.
    fn within<T>(&self, directory: &Path, make: impl Fn() -> io::Result<T>) -> io::Result<T> {
        let mut tries = 0;
        loop {
            match make() {
                Err(error) if error.kind() == io::ErrorKind::NotFound && tries < TRIES => tries += 1,
                result => return result,
            }
            fs::create_dir_all(directory)?;
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // What is not empty stays; and whoever needs a directory that has just gone makes it anew.
        let blobs = self.dir.join("blobs");
        for directory in [&self.layers(), &self.work(), &blobs.join("sha256"), &blobs, &self.dir] {
            let _ = fs::remove_dir(directory);
        }
    }
}

/// A directory that is no layout yet has nothing in it but what processes leave that are making one of it.
fn check_empty(dir: &Path) -> Result<(), StoreError> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(StoreError::read(dir)(error)),
    };
    for entry in entries {
        let name = entry.map_err(StoreError::read(dir))?.file_name();
        if !["blobs", ".verity", "oci-layout", "index.json"].iter().any(|own| name == *own) {
            let found = name.to_string_lossy().into_owned();
            return Err(StoreError::NotALayout { path: dir.to_owned(), found });
        }
    }
    Ok(())
}

/// Some file systems cannot sync a directory; what is in it has its name all the same.
fn sync_directory(directory: &Path) {
    let _ = File::open(directory).and_then(|directory| directory.sync_all());
}
