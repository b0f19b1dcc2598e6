//! Files that come into being whole or not at all.

use std::ffi::OsString;
use std::fs::{self, File, Metadata, TryLockError};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, fchown};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::failure::{Code, Failure};

const SUFFIX: &str = ".tmp";

/// How much of the target's name the temporary one repeats: a file name has at most 255 bytes.
const NAME_BYTES: usize = 200;

/// A file beside the one that it is to become. Dropped before that, it is removed.
///
/// It is locked while it is in use. One that is not locked belongs to nobody (its process was killed) and is
/// removed by the next that is made for the same target.
#[derive(Debug)]
pub(crate) struct Temporary {
    file: NamedTempFile,
    target: PathBuf,
    replaces: bool,
}

impl Temporary {
    /// Makes a file, mode 0600, for a name that nothing has yet.
    pub(crate) fn new_file(target: &Path) -> io::Result<Self> {
        Self::beside(target, false)
    }

    /// Makes a file with the owner and the mode of the one that it is to replace.
    pub(crate) fn replacing(target: &Path, existing: &Metadata) -> io::Result<Self> {
        let temporary = Self::beside(&target.canonicalize()?, true)?;
        let file = temporary.as_file();
        let own = file.metadata()?;
        if (own.uid(), own.gid()) != (existing.uid(), existing.gid()) {
            fchown(file, Some(existing.uid()), Some(existing.gid()))?;
        }
        file.set_permissions(existing.permissions())?;
        Ok(temporary)
    }

    fn beside(target: &Path, replaces: bool) -> io::Result<Self> {
        let folder = folder(target);
        let prefix = prefix(target);
        remove_stale(folder, &prefix);
        loop {
            let file = tempfile::Builder::new().prefix(&prefix).suffix(SUFFIX).tempfile_in(folder)?;
            match file.as_file().try_lock() {
                // Between its creation and the lock another process may have taken it for a stale one.
                Ok(()) if file.as_file().metadata()?.nlink() == 0 => {}
                Err(TryLockError::WouldBlock) => {}
                // On a file system without locks, what a killed process leaves behind stays there.
                Ok(()) | Err(TryLockError::Error(_)) => {
                    return Ok(Self { file, target: target.to_owned(), replaces });
                }
            }
        }
    }

    pub(crate) fn as_file(&self) -> &File {
        self.file.as_file()
    }

    /// The name that it has until then.
    pub(super) fn path(&self) -> &Path {
        self.file.path()
    }

    /// Gives the file its name. It is on disk after that.
    pub(crate) fn persist(self) -> io::Result<()> {
        self.as_file().sync_all()?;
        let Self { file, target, replaces } = self;
        let persisted = if replaces { file.persist(&target) } else { file.persist_noclobber(&target) };
        persisted.map_err(|error| error.error)?;
        // Some file systems cannot sync a folder; the file has its name all the same.
        let _ = File::open(folder(&target)).and_then(|folder| folder.sync_all());
        Ok(())
    }
}

/// A nameless file beside the hash device, for digests whose place in the tree is not known yet.
pub(crate) fn leaf_store(hash: &Path) -> Result<File, Failure> {
    // A device's folder is no place for it.
    let beside = if hash.starts_with("/dev") { std::env::temp_dir() } else { folder(hash).to_owned() };
    tempfile::tempfile_in(&beside).map_err(|error| {
        Failure::system(format_args!("no temporary file in {beside:?}"), &error)
            .code(Code::General)
            .hint("give a hash device in a folder that can be written to")
    })
}

/// A nameless file for what nobody needs after this run.
pub(crate) fn scratch() -> Result<File, Failure> {
    tempfile::tempfile().map_err(|error| {
        Failure::system(format_args!("no temporary file in {:?}", std::env::temp_dir()), &error)
            .code(Code::General)
            .hint("set TMPDIR to a folder that can be written to")
    })
}

/// A nameless file in the folder of an output, for as much as the output has.
pub(crate) fn scratch_beside(output: &Path) -> Result<File, Failure> {
    let folder = folder(output);
    tempfile::tempfile_in(folder).map_err(|error| {
        Failure::system(format_args!("no temporary file in {folder:?}"), &error)
            .code(Code::General)
            .hint("give an output in a folder that can be written to")
    })
}

/// The folder that a file is in.
pub(super) fn folder(target: &Path) -> &Path {
    match target.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

pub(super) fn prefix(target: &Path) -> OsString {
    let name = target.file_name().unwrap_or_default().as_bytes();
    let mut prefix = OsString::from(".");
    prefix.push(OsString::from_vec(name[..name.len().min(NAME_BYTES)].to_vec()));
    prefix.push(".verity-");
    prefix
}

/// Removes what killed processes left behind.
fn remove_stale(folder: &Path, prefix: &OsString) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let middle = name
            .as_bytes()
            .strip_prefix(prefix.as_bytes())
            .and_then(|rest| rest.strip_suffix(SUFFIX.as_bytes()));
        let ours = middle.is_some_and(|middle| middle.iter().all(u8::is_ascii_alphanumeric))
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
