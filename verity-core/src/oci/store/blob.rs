//! Blobs that are written under a temporary name, and get that of their digest when they are whole.

use std::fs::{self, File, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::thread;

use tempfile::NamedTempFile;

use super::{Store, StoreError, sync_directory};
use crate::io::WriteAt;
use crate::layer::Digest;
use crate::oci::hashing::digest;
use crate::progress::Observer;

const PREFIX: &str = "new-";

/// A blob that is being written. Dropped before it is finished, it is removed.
///
/// It is locked while it is in use. One that is not locked belongs to nobody (its process was killed), and is removed by the next that opens the layout.
#[derive(Debug)]
pub struct NewBlob<'a> {
    store: &'a Store,
    file: NamedTempFile,
}

impl<'a> NewBlob<'a> {
    pub(super) fn begin(store: &'a Store) -> Result<Self, StoreError> {
        let work = store.work();
        let mut builder = tempfile::Builder::new();
        // As other programs make blobs, within what the umask allows: their content decides who may see them, not this program.
        let builder = builder.prefix(PREFIX).permissions(Permissions::from_mode(0o644));
        loop {
            let file =
                store.within(&work, || builder.tempfile_in(&work)).map_err(StoreError::write(&work))?;
            match file.as_file().try_lock() {
                // Between its creation and the lock another process may have taken it for a stale one.
                Ok(()) if !has_name(file.as_file()) => {}
                Err(TryLockError::WouldBlock) => {}
                // On a file system without locks, what a killed process leaves behind stays there.
                Ok(()) | Err(TryLockError::Error(_)) => return Ok(Self { store, file }),
            }
        }
    }

    /// What is written to; nothing but zeros at first.
    #[must_use]
    pub fn file(&self) -> &File {
        self.file.as_file()
    }

    /// The file's path, as long as it is not finished.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    pub(super) fn write(&self, bytes: &[u8]) -> Result<(), StoreError> {
        self.file().write_all_at(bytes, 0).map_err(StoreError::write(self.path()))
    }

    /// Digests what was written, and gives the blob its name. Its content is on disk then; answers its digest and size.
    ///
    /// # Errors
    /// [`StoreError`]: what the system answers, and that the observer cancelled.
    pub fn finish(self, observer: &dyn Observer) -> Result<(Digest, u64), StoreError> {
        // The digest reads what is in memory still, while that is on its way to the disk.
        let (digested, synced) = thread::scope(|scope| {
            let sync = thread::Builder::new().spawn_scoped(scope, || self.file().sync_all());
            let digested = digest(self.file(), None, observer);
            let synced = match sync {
                Ok(thread) => thread.join().unwrap_or_else(|_| Err(io::ErrorKind::Other.into())),
                // A system that grants no thread.
                Err(_) => self.file().sync_all(),
            };
            (digested, synced)
        });
        let Some((digest, size)) = digested.map_err(StoreError::read(self.path()))? else {
            return Err(StoreError::Cancelled);
        };
        synced.map_err(StoreError::write(self.path()))?;
        // A blob of this name may be there already: with the same content, or a damaged one.
        let path = self.store.blob_path(&digest);
        self.rename(&path)?;
        Ok((digest, size))
    }

    /// Gives a blob its name whose digest is known. Its content is on disk then.
    pub(super) fn finish_as(self, digest: &Digest) -> Result<(), StoreError> {
        let path = self.store.blob_path(digest);
        self.publish(&path)
    }

    /// Gives a file its name, in place of what has it. Its content is on disk then.
    pub(super) fn publish(self, path: &Path) -> Result<(), StoreError> {
        self.file().sync_all().map_err(StoreError::write(self.path()))?;
        self.rename(path)
    }

    fn rename(self, path: &Path) -> Result<(), StoreError> {
        let directory = path.parent().unwrap_or(&self.store.dir);
        let rename = || fs::rename(self.file.path(), path);
        self.store.within(directory, rename).map_err(StoreError::write(path))?;
        // The name that would be removed is gone.
        let _ = self.file.into_temp_path().keep();
        sync_directory(directory);
        Ok(())
    }
}

fn has_name(file: &File) -> bool {
    file.metadata().is_ok_and(|metadata| metadata.nlink() > 0)
}

/// Removes what killed processes left behind.
pub(super) fn remove_stale(work: &Path) {
    let Ok(entries) = fs::read_dir(work) else { return };
    for entry in entries.flatten() {
        let ours = entry.file_name().as_encoded_bytes().starts_with(PREFIX.as_bytes())
            && entry.file_type().is_ok_and(|kind| kind.is_file());
        if ours
            && let Ok(file) = File::open(entry.path())
            && file.try_lock().is_ok()
        {
            // If this fails there is a file too many, and nothing worse.
            let _ = fs::remove_file(entry.path());
        }
    }
}
