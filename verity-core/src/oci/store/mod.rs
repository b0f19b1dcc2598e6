//! A layout that is written to: blobs that are there whole or not at all, and an index that several processes change one after the other.
//!
//! ```text
//! DIR/oci-layout           the layout's version                     } these two when the first image is complete
//! DIR/index.json           the images                               }
//! DIR/blobs/sha256/...     blobs, under their digests
//! DIR/.verity/new-*        blobs that are being written; whose writer is gone, they are removed by the next one
//! DIR/.verity/use          locked together by all who use the layout; the last one removes what is empty
//! DIR/.verity/list         locked while the index is changed
//! DIR/.verity/made         says that DIR was made, and is to be removed when nothing comes of it
//! DIR/.verity/layers/...   a file for each layer that is or was made: locked while that goes on, afterwards it says which blobs were made
//! ```
//!
//! Other programs pass `.verity` over. It may be removed while nobody writes to the layout: nothing is lost then but the knowledge of which layers were made
//! already. Who is writing to the layout needs it, and fails without it.
//!
//! Each of these folders is opened once, and no link is followed to it; all else is done by its descriptor: somebody who can rename folders cannot lead
//! what is written elsewhere.

mod archive;
mod blob;
mod error;
mod folder;
mod index;
mod layers;

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use folder::Folder;

pub use blob::NewBlob;
pub use error::StoreError;
pub use layers::{LayerKey, LayerLock};

use super::descriptor::Descriptor;
use super::layout;
use crate::algorithm::Algorithm;
use crate::layer::Digest;
use crate::progress::Observer;

/// What the file `oci-layout` says.
const LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;
const WORK: &str = ".verity";
const USE: &str = "use";
const LIST: &str = "list";
const MADE: &str = "made";
const LAYERS: &str = "layers";
const BLOBS: &str = "blobs";
const SHA256: &str = "sha256";
/// Who can write to the records of layers says which blob a layer is: nobody else should.
const OWN: u32 = 0o755;
/// Within what the umask allows.
const SHARED: u32 = 0o777;
/// How often a directory is opened anew that somebody else has just removed because it was empty.
const TRIES: usize = 100;

/// An OCI image layout in a directory, to put images into.
///
/// Any number of processes may write to one layout at once. Dropped, it removes what is empty: of a build that failed, nothing is left but the layers
/// that it has completed. The directory and its folders are those that were opened: what is put in their place later is not written to.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    dir: Folder,
    /// `.verity`.
    work: Folder,
    /// Locked together with others, so that nobody removes a folder that somebody is going to write to.
    user: File,
    /// `.verity/layers`.
    layers: Folder,
    blobs: Folder,
    /// `blobs/sha256`: blobs that are made have this digest.
    sha256: Folder,
}

impl Store {
    /// Opens a layout, or takes a directory for one that is empty or does not exist yet; its parent has to exist. Blobs that nobody writes any more are
    /// removed. The observer is asked whether to stop where others have to be waited for.
    ///
    /// # Errors
    /// [`StoreError::NotALayout`] for a directory with something else in it, [`StoreError::Link`] where one of its folders is elsewhere, an index that images
    /// cannot be listed in; what the system answers, and that the observer cancelled.
    pub fn open(path: &Path, observer: &dyn Observer) -> Result<Self, StoreError> {
        // Open, so that no other directory is taken for it.
        let mut made: Option<Folder> = None;
        let mut tries = 0;
        let store = loop {
            tries += 1;
            match fs::create_dir(path) {
                Ok(()) => made = Folder::open(path).ok(),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(StoreError::write(path)(error)),
            }
            let opened = Folder::open(path).map_err(StoreError::read(path));
            // It may be another one by now.
            let is_new = made.as_ref().is_some_and(|made| made.is_at(path));
            match opened.and_then(|dir| Self::enter(dir, path, is_new, observer)) {
                Err(StoreError::Read { source, .. } | StoreError::Write { source, .. })
                    if source.kind() == io::ErrorKind::NotFound && tries < TRIES => {}
                Err(StoreError::Gone { .. }) if tries < TRIES => {}
                Ok(store) => break store,
                Err(error) => {
                    if made.is_some_and(|made| made.is_at(path)) {
                        let _ = fs::remove_dir(path);
                    }
                    return Err(error);
                }
            }
        };
        blob::remove_stale(&store.work);
        layers::remove_stale(&store.layers);
        Ok(store)
    }

    /// Opens the folders, and makes those that are not there. One that is not found has been removed just now.
    fn enter(dir: Folder, path: &Path, is_new: bool, observer: &dyn Observer) -> Result<Self, StoreError> {
        check(&dir)?;
        let work = dir.make_folder(WORK, OWN)?;
        let user = work.share(USE, observer)?.filter(|_| work.is_in(&dir, WORK));
        let user = user.ok_or_else(|| StoreError::Gone { path: work.path().to_owned() })?;
        if is_new {
            work.mark(MADE)?;
        }
        let layers = work.make_folder(LAYERS, OWN)?;
        let blobs = dir.make_folder(BLOBS, SHARED)?;
        let sha256 = blobs.make_folder(SHA256, SHARED)?;
        Ok(Self { path: path.to_owned(), dir, work, user, layers, blobs, sha256 })
    }

    /// The layout's directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.path
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
        if self.sha256.holds(&blob::blob_name(&digest), bytes) {
            return Ok(digest);
        }
        let blob = self.begin_blob()?;
        blob.write(bytes)?;
        blob.finish_as(&digest)?;
        Ok(digest)
    }

    /// Opens a blob, to read it; answers how many bytes it has.
    pub(in crate::oci) fn blob(&self, digest: &Digest) -> io::Result<(File, u64)> {
        match digest.algorithm() {
            Algorithm::Sha256 => self.sha256.read(&blob::blob_name(digest)),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
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
    /// All blobs are on disk before the index says so. While others list theirs it waits, until the observer cancels.
    ///
    /// # Errors
    /// [`StoreError`]: an index that is there and cannot be read, [`StoreError::Link`] where the blobs are in the layout no more, [`StoreError::Gone`] where
    /// `.verity` is gone, what the system answers, and that the observer cancelled.
    pub fn set_image(&self, image: &Descriptor, observer: &dyn Observer) -> Result<(), StoreError> {
        for (folder, place, name) in [(&self.blobs, &self.dir, BLOBS), (&self.sha256, &self.blobs, SHA256)] {
            if !folder.is_in(place, name) {
                return Err(StoreError::Link { path: place.path_of(name) });
            }
        }
        index::set_image(self, image, observer)
    }

    /// The folder with the records of layers, or the one around it, if somebody else can write to it: what is recorded there does not count, and all
    /// layers are made anew.
    #[must_use]
    pub fn distrusted(&self) -> Option<PathBuf> {
        [&self.work, &self.layers]
            .into_iter()
            .find(|folder| !folder.is_own())
            .map(|folder| folder.path().to_owned())
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // What is not empty stays. Whoever opens the layout meanwhile waits for this one's lock, and begins anew. On a file system without locks it is not
        // known whether anybody else uses it.
        if self.user.try_lock().is_err() || !self.work.is_named(USE, &self.user) {
            return;
        }
        self.blobs.remove_folder(SHA256);
        self.dir.remove_folder(BLOBS);
        self.work.remove_folder(LAYERS);
        // Whoever made the directory may be gone since.
        let was_made = self.work.has(MADE);
        self.work.unlink(MADE);
        self.work.unlink(LIST);
        // From here on others may begin. What they have made stays; a directory that they leave empty does, too.
        self.work.remove(USE, &self.user);
        self.dir.remove_folder(WORK);
        if was_made && self.dir.is_at(&self.path) {
            let _ = fs::remove_dir(&self.path);
        }
    }
}

/// Checks that a directory is a layout, or is becoming one: before anything is made in it.
fn check(dir: &Folder) -> Result<(), StoreError> {
    if !index::check_layout(dir)? {
        check_empty(dir)?;
    }
    index::check(dir)?;
    for (name, inner) in [(WORK, LAYERS), (BLOBS, SHA256)] {
        if dir.has(name) {
            let folder = dir.folder(name)?;
            if folder.has(inner) {
                folder.folder(inner)?;
            }
        }
    }
    Ok(())
}

/// A directory that is no layout yet has nothing in it but what processes leave that are making one of it.
fn check_empty(dir: &Folder) -> Result<(), StoreError> {
    for name in dir.names().map_err(StoreError::read(dir.path()))? {
        let name = name.map_err(StoreError::read(dir.path()))?;
        if ![BLOBS, WORK, layout::MARKER, layout::INDEX].iter().any(|own| name == **own) {
            let found = name.to_string_lossy().into_owned();
            return Err(StoreError::NotALayout { path: dir.path().to_owned(), found });
        }
    }
    Ok(())
}
