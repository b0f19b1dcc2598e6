//! Folders that are needed while something is made.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use tempfile::TempDir;

use super::temporary::{folder, prefix};

const SUFFIX: &str = ".tmpdir";

/// A folder beside the file that comes of it. Dropped, it is removed with all that is in it.
///
/// It is locked while it is in use. One that is not locked belongs to nobody (its process was killed) and is
/// removed by the next that is made for the same target.
#[derive(Debug)]
pub(crate) struct TemporaryFolder {
    folder: TempDir,
    _lock: File,
}

impl TemporaryFolder {
    /// Makes a folder, mode 0700.
    pub(crate) fn beside(target: &Path) -> io::Result<Self> {
        let (place, prefix) = (folder(target), prefix(target));
        remove_stale(place, prefix.as_encoded_bytes());
        loop {
            let folder = tempfile::Builder::new().prefix(&prefix).suffix(SUFFIX).tempdir_in(place)?;
            let lock = File::open(folder.path())?;
            // Between its creation and the lock another process may have taken it for a stale one.
            let ours = !matches!(lock.try_lock(), Err(fs::TryLockError::WouldBlock));
            let id = |metadata: &fs::Metadata| (metadata.dev(), metadata.ino());
            let there = fs::symlink_metadata(folder.path()).ok();
            if ours && there.as_ref().map(id) == Some(id(&lock.metadata()?)) {
                return Ok(Self { folder, _lock: lock });
            }
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// Removes what killed processes left behind.
fn remove_stale(place: &Path, prefix: &[u8]) {
    let Ok(entries) = fs::read_dir(place) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let middle = name
            .as_encoded_bytes()
            .strip_prefix(prefix)
            .and_then(|rest| rest.strip_suffix(SUFFIX.as_bytes()));
        let ours = middle.is_some_and(|middle| middle.iter().all(u8::is_ascii_alphanumeric))
            && entry.file_type().is_ok_and(|kind| kind.is_dir());
        if ours
            && let Ok(folder) = File::open(entry.path())
            && folder.try_lock().is_ok()
        {
            // If this fails there is a folder too many, and nothing worse.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
