//! Blobs that are written under a temporary name, and get that of their digest when they are whole.

use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use super::folder::Folder;
use super::{Store, StoreError};
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
    file: File,
    path: PathBuf,
    /// Its temporary name, while it has that.
    name: Option<String>,
}

impl<'a> NewBlob<'a> {
    pub(super) fn begin(store: &'a Store) -> Result<Self, StoreError> {
        loop {
            let name = temporary();
            let path = store.work.path_of(&name);
            let file = match store.work.create(&name) {
                // Another program's, with the same number elsewhere or one that it had before.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                result => result.map_err(StoreError::write(&path))?,
            };
            match file.try_lock() {
                // Between its creation and the lock another process may have taken it for a stale one.
                Ok(()) if !has_name(&file) => {}
                Err(TryLockError::WouldBlock) => {}
                // On a file system without locks, what a killed process leaves behind stays there.
                Ok(()) | Err(TryLockError::Error(_)) => {
                    return Ok(Self { store, file, path, name: Some(name) });
                }
            }
        }
    }

    /// What is written to; nothing but zeros at first.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }

    /// The file's path, as long as it is not finished.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
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
        let folder = &self.store.sha256;
        self.rename(folder, &blob_name(&digest))?;
        Ok((digest, size))
    }

    /// Gives a blob its name whose digest is known. Its content is on disk then.
    pub(super) fn finish_as(self, digest: &Digest) -> Result<(), StoreError> {
        let folder = &self.store.sha256;
        self.publish(folder, &blob_name(digest))
    }

    /// Gives a file its name, in place of what has it. Its content is on disk then.
    pub(super) fn publish(self, folder: &Folder, name: &str) -> Result<(), StoreError> {
        self.file().sync_all().map_err(StoreError::write(self.path()))?;
        self.rename(folder, name)
    }

    fn rename(mut self, folder: &Folder, new: &str) -> Result<(), StoreError> {
        if let Some(name) = &self.name {
            let renamed = self.store.work.rename(name, folder, new);
            renamed.map_err(StoreError::write(&folder.path_of(new)))?;
        }
        self.name = None;
        folder.sync();
        Ok(())
    }
}

impl Drop for NewBlob<'_> {
    fn drop(&mut self) {
        if let Some(name) = &self.name {
            self.store.work.remove(name);
        }
    }
}

/// A name that nothing in this process has had.
fn temporary() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("{PREFIX}{}-{}", process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// The name of a blob in the folder of its algorithm.
pub(super) fn blob_name(digest: &Digest) -> String {
    hex::encode(digest.as_bytes())
}

fn has_name(file: &File) -> bool {
    file.metadata().is_ok_and(|metadata| metadata.nlink() > 0)
}

/// Removes what killed processes left behind.
pub(super) fn remove_stale(work: &Folder) {
    let Ok(names) = work.names() else { return };
    for name in names.flatten() {
        if let Some(name) = name.to_str()
            && name.starts_with(PREFIX)
            && work.size(name).is_some()
            && let Ok((file, _)) = work.read(name)
            && file.try_lock().is_ok()
        {
            work.remove(name);
        }
    }
}
