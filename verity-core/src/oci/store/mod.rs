//! A layout that is written to: blobs that are there whole or not at all, and an index that several processes change one after the other.
//!
//! ```text
//! DIR/oci-layout           the layout's version                     } these two when the first image is complete
//! DIR/index.json           the images                               }
//! DIR/blobs/sha256/...     blobs, under their digests
//! DIR/.verity/new-*        blobs that are being written; whose writer is gone, they are removed by the next one
//! DIR/.verity/layers/...   a file for each layer that is or was made: locked while that goes on, afterwards it says which blobs were made
//! ```
//!
//! Other programs pass `.verity` over; without it nothing is lost but the knowledge of which layers were made already.

mod archive;
mod blob;
mod error;
mod index;
mod layers;

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

pub use blob::NewBlob;
pub use error::StoreError;
pub use layers::{LayerKey, LayerLock};

use super::descriptor::Descriptor;
use super::{directory, layout};
use crate::layer::Digest;

/// What the file `oci-layout` says.
const LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;
/// The folders that are written to, and that files are removed from.
const FOLDERS: [&str; 4] = [".verity", ".verity/layers", "blobs", "blobs/sha256"];
/// How often a file is made anew whose directory somebody else has just removed because it was empty.
const TRIES: usize = 100;

/// An OCI image layout in a directory, to put images into.
///
/// Any number of processes may write to one layout at once. Dropped, it removes what is empty: of a build that failed, nothing is left but the layers
/// that it has completed.
#[derive(Debug)]
pub struct Store {
    dir: PathBuf,
    /// The directory was made for it.
    is_new: bool,
}

impl Store {
    /// Opens a layout, or takes a directory for one that is empty or does not exist yet; its parent has to exist. Blobs that nobody writes any more are
    /// removed.
    ///
    /// # Errors
    /// [`StoreError::NotALayout`] for a directory with something else in it, [`StoreError::Link`] where one of its folders is elsewhere, an index that images
    /// cannot be listed in; what the system answers.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        let marker = dir.join(layout::MARKER);
        match File::open(&marker) {
            Ok(file) => {
                let mut text = Vec::new();
                let read = file.take(layout::MARKER_MAX).read_to_end(&mut text);
                read.map_err(StoreError::read(&marker))?;
                index::check_layout(&marker, &text)?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => check_empty(dir)?,
            Err(error) => return Err(StoreError::read(&marker)(error)),
        }
        index::check(dir)?;
        FOLDERS.iter().try_for_each(|folder| check_own(&dir.join(folder)))?;
        let is_new = match fs::create_dir(dir) {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => false,
            Err(error) => return Err(StoreError::write(dir)(error)),
        };
        let store = Self { dir: dir.to_owned(), is_new };
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
        if holds(&self.blob_path(&digest), bytes) {
            return Ok(digest);
        }
        let blob = self.begin_blob()?;
        blob.write(bytes)?;
        blob.finish_as(&digest)?;
        Ok(digest)
    }

    /// Locks a layer: to find what was made of it already, or to make it. `None` where somebody else has locked it just now.
    ///
    /// # Errors
    /// [`StoreError`]: what the system answers.
    pub fn lock_layer(&self, key: &LayerKey) -> Result<Option<LayerLock<'_>>, StoreError> {
        layers::lock(self, key)
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

    /// The folder with the records of layers, or the one around it, if somebody else can write to it: what is recorded there does not count, and all
    /// layers are made anew.
    #[must_use]
    pub fn distrusted(&self) -> Option<PathBuf> {
        let others = |path: &PathBuf| fs::symlink_metadata(path).is_ok_and(|found| !layers::is_own(&found));
        [self.work(), self.layers()].into_iter().find(others)
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
            // Who can write to the records of layers says which blob a layer is: nobody else should.
            let mode = if directory.starts_with(self.work()) { 0o755 } else { 0o777 };
            DirBuilder::new().recursive(true).mode(mode).create(directory)?;
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // What is not empty stays; and whoever needs a directory that has just gone makes it anew.
        let blobs = self.dir.join("blobs");
        for directory in [&self.layers(), &self.work(), &blobs.join("sha256"), &blobs] {
            let _ = fs::remove_dir(directory);
        }
        if self.is_new {
            let _ = fs::remove_dir(&self.dir);
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
        if !["blobs", ".verity", layout::MARKER, layout::INDEX].iter().any(|own| name == *own) {
            let found = name.to_string_lossy().into_owned();
            return Err(StoreError::NotALayout { path: dir.to_owned(), found });
        }
    }
    Ok(())
}

/// A folder of the layout is in the layout, and no link to somewhere else, if it is there.
fn check_own(folder: &Path) -> Result<(), StoreError> {
    match fs::symlink_metadata(folder) {
        Ok(metadata) if metadata.is_dir() => Ok(()),
        Ok(_) => Err(StoreError::Link { path: folder.to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(StoreError::read(folder)(error)),
    }
}

/// Whether a file is just these bytes; of a larger one no more is read.
fn holds(path: &Path, bytes: &[u8]) -> bool {
    let mut found = Vec::new();
    let read = directory::open(path)
        .and_then(|(file, _)| file.take((bytes.len() as u64).saturating_add(1)).read_to_end(&mut found));
    read.is_ok() && found == bytes
}

/// Some file systems cannot sync a directory; what is in it has its name all the same.
fn sync_directory(directory: &Path) {
    let _ = File::open(directory).and_then(|directory| directory.sync_all());
}
