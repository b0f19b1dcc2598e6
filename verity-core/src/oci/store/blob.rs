//! Blobs that are written under a temporary name, and get that of their digest when they are whole.

use std::fs::{File, TryLockError};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::{Path, PathBuf};
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
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                result => result.map_err(store.work.unwritten(&path))?,
            };
            match file.try_lock() {
                // Between its creation and the lock another process may have taken it for a stale one.
                Ok(()) if !store.work.is_named(&name, &file) => {}
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
            self.store.work.rename(name, &self.file, folder, new)?;
        }
        self.name = None;
        folder.sync();
        Ok(())
    }
}

impl Drop for NewBlob<'_> {
    fn drop(&mut self) {
        if let Some(name) = &self.name {
            self.store.work.remove(name, &self.file);
        }
    }
}

/// A name that nothing has had.
///
/// No process's number is in it: in containers that share a layout, many processes have the same one.
fn temporary() -> String {
    // Each of these has another key; the system's random numbers are where they come from.
    let [high, low] = [(); 2].map(|()| RandomState::new().hash_one(()));
    format!("{PREFIX}{high:016x}{low:016x}")
}

/// The name of a blob in the folder of its algorithm.
pub(super) fn blob_name(digest: &Digest) -> String {
    hex::encode(digest.as_bytes())
}

/// Removes what killed processes left behind.
pub(super) fn remove_stale(work: &Folder) {
    let Ok(names) = work.names() else { return };
    for name in names.flatten() {
        if let Some(name) = name.to_str()
            && name.starts_with(PREFIX)
            && work.size(name).is_some()
            && let Ok((file, _)) = work.read(name)
        {
            remove_if_stale(work, name, &file);
        }
    }
}

/// Removes a blob that was opened, if nobody writes it. Since then its name may have become that of another one, which somebody writes.
fn remove_if_stale(work: &Folder, name: &str, file: &File) {
    if file.try_lock().is_ok() {
        work.remove(name, file);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;

    fn layout() -> (TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("dst"), &()).unwrap();
        (dir, store)
    }

    fn begin<'a>(store: &'a Store, content: &[u8]) -> NewBlob<'a> {
        let blob = store.begin_blob().unwrap();
        blob.write(content).unwrap();
        blob
    }

    /// Gives another blob the name that this one believes to have.
    fn replace(blob: &NewBlob<'_>, other: &mut NewBlob<'_>) {
        fs::rename(other.path(), blob.path()).unwrap();
        other.name.clone_from(&blob.name);
    }

    #[test]
    fn another_blob_is_not_published() {
        let (_dir, store) = layout();
        for known in [false, true] {
            let ours = begin(&store, b"ours");
            let mut theirs = begin(&store, b"theirs");
            replace(&ours, &mut theirs);
            let path = ours.path().to_owned();
            let result = match known {
                true => ours.finish_as(&Digest::sha256(b"ours")),
                false => ours.finish(&()).map(|_| ()),
            };
            assert!(matches!(result, Err(StoreError::Gone { path: gone }) if gone == path));
            assert_eq!(store.sha256.names().unwrap().count(), 0);
            // Theirs is whole, and is finished as if nothing had been.
            let (digest, size) = theirs.finish(&()).unwrap();
            assert_eq!((&digest, size), (&Digest::sha256(b"theirs"), 6));
            assert!(store.sha256.holds(&blob_name(&digest), b"theirs"));
            fs::remove_file(store.sha256.path_of(&blob_name(&digest))).unwrap();
        }
    }

    #[test]
    fn a_blob_that_is_gone_is_not_published() {
        let (_dir, store) = layout();
        let blob = begin(&store, b"ours");
        fs::remove_file(blob.path()).unwrap();
        assert!(matches!(blob.finish(&()), Err(StoreError::Gone { .. })));
    }

    #[test]
    fn another_blob_is_not_removed() {
        let (_dir, store) = layout();
        let ours = begin(&store, b"ours");
        let mut theirs = begin(&store, b"theirs");
        replace(&ours, &mut theirs);
        drop(ours);
        assert_eq!(theirs.finish(&()).unwrap().0, Digest::sha256(b"theirs"));
    }

    #[test]
    fn what_is_left_is_removed_and_what_is_written_is_not() {
        let (_dir, store) = layout();
        let live = begin(&store, b"live");
        let left = store.work.path_of("new-left");
        fs::write(&left, b"left").unwrap();
        remove_stale(&store.work);
        assert!(!left.exists() && live.path().exists());
        // Opened as a stale one, which another process then removes; a third one gives its name to another blob.
        fs::write(&left, b"left").unwrap();
        let stale = File::open(&left).unwrap();
        fs::rename(live.path(), &left).unwrap();
        remove_if_stale(&store.work, "new-left", &stale);
        assert!(left.exists());
    }

    #[test]
    fn names_are_no_numbers_of_processes() {
        let mut names: Vec<_> = (0..100).map(|_| temporary()).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), 100);
        let number = std::process::id().to_string();
        assert!(!names.iter().all(|name| name.contains(&number)));
    }
}
