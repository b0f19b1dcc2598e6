//! A folder that stays the one that was opened, whatever somebody puts in its place: all that is done in it is done by its descriptor.

use std::ffi::OsString;
use std::fs::{File, TryLockError};
use std::io::{self, Read};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, fstat, mkdirat, openat, renameat, statat, unlinkat,
};
use rustix::io::Errno;

use super::StoreError;
use crate::progress::Observer;

/// How long a lock is waited for between two tries. It is held for milliseconds.
const PAUSE: Duration = Duration::from_millis(2);
/// After half a minute something else holds it.
const TRIES: u32 = 15_000;

/// An open folder.
#[derive(Debug)]
pub(super) struct Folder {
    file: File,
    /// Where it was when it was opened: for messages.
    path: PathBuf,
}

impl Folder {
    /// Opens a folder, be it by a link.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let file = openat(CWD, path, flags, Mode::empty())?.into();
        Ok(Self { file, path: path.to_owned() })
    }

    /// Opens a folder in it, and no link.
    ///
    /// # Errors
    /// [`StoreError::Link`] where it is something else.
    pub(super) fn folder(&self, name: &str) -> Result<Self, StoreError> {
        let path = self.path.join(name);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match openat(&self.file, name, flags, Mode::empty()) {
            Ok(file) => Ok(Self { file: file.into(), path }),
            Err(Errno::LOOP | Errno::NOTDIR) => Err(StoreError::Link { path }),
            Err(error) => Err(StoreError::read(&path)(error.into())),
        }
    }

    /// As [`folder`](Self::folder); it is made if it is not there, with this mode, within what the umask allows.
    pub(super) fn make_folder(&self, name: &str, mode: u32) -> Result<Self, StoreError> {
        match mkdirat(&self.file, name, Mode::from_raw_mode(mode)) {
            Ok(()) | Err(Errno::EXIST) => self.folder(name),
            Err(error) => Err(StoreError::write(&self.path_of(name))(error.into())),
        }
    }

    /// Where it was, for messages.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What a name in it is in messages.
    pub(super) fn path_of(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Makes a file whose name nobody has, to write and read.
    pub(super) fn create(&self, name: &str) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        // As other programs make blobs, within what the umask allows: their content decides who may see them, not this program.
        Ok(openat(&self.file, name, flags, Mode::from_raw_mode(0o644))?.into())
    }

    /// Opens what has a name, to write and read, and makes it if `create`; links are not followed, and nothing is waited for.
    pub(super) fn update(&self, name: &str, create: bool) -> io::Result<File> {
        let mut flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        flags.set(OFlags::CREATE, create);
        Ok(openat(&self.file, name, flags, Mode::from_raw_mode(0o644))?.into())
    }

    /// Opens a regular file to read it. Links are followed, as tools that make layouts out of stores of their own rely on.
    pub(super) fn read(&self, name: &str) -> io::Result<(File, u64)> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = File::from(openat(&self.file, name, flags, Mode::empty())?);
        let metadata = file.metadata()?;
        match metadata.is_file() {
            true => Ok((file, metadata.len())),
            false => Err(io::Error::other("it is no regular file")),
        }
    }

    /// Whether a file is just these bytes; of a larger one no more is read.
    pub(super) fn holds(&self, name: &str, bytes: &[u8]) -> bool {
        let mut found = Vec::new();
        let read = self
            .read(name)
            .and_then(|(file, _)| file.take((bytes.len() as u64).saturating_add(1)).read_to_end(&mut found));
        read.is_ok() && found == bytes
    }

    /// Whether a name is taken.
    pub(super) fn has(&self, name: &str) -> bool {
        statat(&self.file, name, AtFlags::SYMLINK_NOFOLLOW).is_ok()
    }

    /// Whether a name is a link's.
    pub(super) fn is_link(&self, name: &str) -> bool {
        statat(&self.file, name, AtFlags::SYMLINK_NOFOLLOW)
            .is_ok_and(|found| FileType::from_raw_mode(found.st_mode) == FileType::Symlink)
    }

    /// How many bytes a regular file has; nothing is opened.
    pub(super) fn size(&self, name: &str) -> Option<u64> {
        let found = statat(&self.file, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        let is_file = FileType::from_raw_mode(found.st_mode) == FileType::RegularFile;
        u64::try_from(found.st_size).ok().filter(|_| is_file)
    }

    /// Whether this folder is in another one, by that name, still.
    pub(super) fn is_in(&self, other: &Self, name: &str) -> bool {
        other.is_named(name, &self.file)
    }

    /// Whether this is the folder at a path, and no link to it.
    pub(super) fn is_at(&self, path: &Path) -> bool {
        let (found, own) = (statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW), fstat(&self.file));
        matches!((found, own), (Ok(found), Ok(own)) if (found.st_dev, found.st_ino) == (own.st_dev, own.st_ino))
    }

    /// Whether a name in it is that of this open file, still. While the file is open, no other has its number.
    pub(super) fn is_named(&self, name: &str, file: &File) -> bool {
        let found = statat(&self.file, name, AtFlags::SYMLINK_NOFOLLOW);
        let own = fstat(file);
        matches!((found, own), (Ok(found), Ok(own)) if (found.st_dev, found.st_ino) == (own.st_dev, own.st_ino))
    }

    /// Gives an open file, which has this name, another one in another folder, in place of what has that.
    ///
    /// # Errors
    /// [`StoreError::Gone`] where the name is another file's.
    pub(super) fn rename(&self, name: &str, file: &File, to: &Self, new: &str) -> Result<(), StoreError> {
        if !self.is_named(name, file) {
            return Err(StoreError::Gone { path: self.path_of(name) });
        }
        let renamed = renameat(&self.file, name, &to.file, new);
        renamed.map_err(|error| to.unwritten(&to.path_of(new))(error.into()))
    }

    /// Removes an open file, where this name is its own still. If this fails there is a file too many, and nothing worse.
    pub(super) fn remove(&self, name: &str, file: &File) {
        if self.is_named(name, file) {
            self.unlink(name);
        }
    }

    /// Removes a file, whichever it is.
    pub(super) fn unlink(&self, name: &str) {
        let _ = unlinkat(&self.file, name, AtFlags::empty());
    }

    /// Removes a folder, if it is empty.
    pub(super) fn remove_folder(&self, name: &str) {
        let _ = unlinkat(&self.file, name, AtFlags::REMOVEDIR);
    }

    /// The names in it.
    pub(super) fn names(&self) -> io::Result<impl Iterator<Item = io::Result<OsString>>> {
        let entries = Dir::read_from(&self.file)?.map(|entry| {
            let entry = entry?;
            Ok(OsString::from_vec(entry.file_name().to_bytes().to_vec()))
        });
        Ok(entries.filter(|name| !matches!(name, Ok(name) if name == "." || name == "..")))
    }

    /// Puts the names in it on disk. Some file systems cannot; what is in it has its name all the same.
    pub(super) fn sync(&self) {
        let _ = self.file.sync_all();
    }

    /// Whether nobody but the user who runs this (and root) can write to it.
    pub(super) fn is_own(&self) -> bool {
        self.file.metadata().is_ok_and(|metadata| super::layers::is_own(&metadata))
    }

    /// Makes a file that only says that it is there.
    pub(super) fn mark(&self, name: &str) -> Result<(), StoreError> {
        let made = self.update(name, true);
        made.map(drop).map_err(self.unwritten(&self.path_of(name)))
    }

    /// Locks a file in it for this process alone, until the answer is dropped. However long others have it, it is waited for.
    pub(super) fn lock(&self, name: &str, observer: &dyn Observer) -> Result<File, StoreError> {
        loop {
            // Two threads of this process keep each other out, too.
            let file = self.open_lock(name)?;
            self.wait(name, None, observer, || file.try_lock())?;
            if self.is_named(name, &file) {
                return Ok(file);
            }
        }
    }

    /// Locks a file in it together with others, until the answer is dropped. `None` where it is another one, or gone, by then.
    pub(super) fn share(&self, name: &str, observer: &dyn Observer) -> Result<Option<File>, StoreError> {
        let file = self.open_lock(name)?;
        self.wait(name, Some(TRIES), observer, || file.try_lock_shared())?;
        Ok(Some(file).filter(|file| self.is_named(name, file)))
    }

    /// Opens a file to lock it, and makes it if need be.
    ///
    /// Whoever can open a file can lock it, and so keep all others waiting: those who cannot write to the folder cannot open this one.
    fn open_lock(&self, name: &str) -> Result<File, StoreError> {
        let flags = OFlags::RDONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let mode = if self.is_own() { 0o600 } else { 0o666 };
        let path = self.path_of(name);
        match openat(&self.file, name, flags, Mode::from_raw_mode(mode)) {
            Ok(file) => Ok(file.into()),
            Err(Errno::LOOP) => Err(StoreError::Link { path }),
            Err(error) => Err(self.unwritten(&path)(error.into())),
        }
    }

    /// What it means that something in it cannot be made: where nothing is found, the folder itself is gone.
    pub(super) fn unwritten(&self, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
        let (folder, path) = (self.path.clone(), path.to_owned());
        move |error| match error.kind() {
            io::ErrorKind::NotFound => StoreError::Gone { path: folder },
            _ => StoreError::write(&path)(error),
        }
    }

    fn wait(
        &self,
        name: &str,
        mut tries: Option<u32>,
        observer: &dyn Observer,
        lock: impl Fn() -> Result<(), TryLockError>,
    ) -> Result<(), StoreError> {
        loop {
            match lock() {
                Err(TryLockError::WouldBlock) => {}
                // A file system without locks.
                Ok(()) | Err(TryLockError::Error(_)) => return Ok(()),
            }
            if observer.cancelled() {
                return Err(StoreError::Cancelled);
            }
            if let Some(tries) = &mut tries {
                *tries -= 1;
                if *tries == 0 {
                    let problem = "another process keeps it locked";
                    let busy = io::Error::new(io::ErrorKind::ResourceBusy, problem);
                    return Err(StoreError::write(&self.path_of(name))(busy));
                }
            }
            sleep(PAUSE);
        }
    }
}
