//! A layout as one file: a tar that is the same wherever it is written.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use super::{Store, StoreError};
use crate::erofs::write::Attributes;
use crate::layer::tar::{EntryKind, Writer};
use crate::progress::Observer;

impl Store {
    /// Writes the layout as a tar, an OCI archive: entries in order, of nobody, without times. What belongs to this program alone is left out.
    ///
    /// Nobody should write to the layout meanwhile. `name` is what the tar is called in errors.
    ///
    /// # Errors
    /// [`StoreError`]: what the system answers, and that the observer cancelled.
    pub fn archive(&self, out: impl Write, name: &Path, observer: &dyn Observer) -> Result<(), StoreError> {
        let mut archive = Archive { store: self, tar: Writer::new(out), name, observer };
        archive.file(Path::new("oci-layout"))?;
        archive.file(Path::new("index.json"))?;
        archive.folder(Path::new("blobs"))?;
        for algorithm in self.names(Path::new("blobs"))? {
            archive.folder(&algorithm)?;
            for blob in self.names(&algorithm)? {
                archive.file(&blob)?;
            }
        }
        archive.tar.finish().map(|_| ()).map_err(StoreError::write(name))
    }

    /// What is in a folder, by paths within the layout, in order.
    fn names(&self, folder: &Path) -> Result<Vec<PathBuf>, StoreError> {
        let path = self.dir.join(folder);
        let entries = fs::read_dir(&path).and_then(Iterator::collect::<io::Result<Vec<_>>>);
        let entries = entries.map_err(StoreError::read(&path))?;
        let mut names: Vec<_> = entries.iter().map(|entry| folder.join(entry.file_name())).collect();
        names.sort();
        Ok(names)
    }
}

struct Archive<'a, W> {
    store: &'a Store,
    tar: Writer<W>,
    name: &'a Path,
    observer: &'a dyn Observer,
}

impl<W: Write> Archive<'_, W> {
    fn folder(&mut self, path: &Path) -> Result<(), StoreError> {
        self.add(path, 0o755, &EntryKind::Directory, &mut io::empty())
    }

    fn file(&mut self, path: &Path) -> Result<(), StoreError> {
        let from = self.store.dir.join(path);
        let file = File::open(&from).map_err(StoreError::read(&from))?;
        let size = file.metadata().map_err(StoreError::read(&from))?.len();
        let whole = 0..size;
        let kind = EntryKind::File { size, data: vec![whole] };
        let mut content = Content { file, failure: None, observer: self.observer };
        let added = self.add(path, 0o644, &kind, &mut content);
        match content.failure {
            Some(_) if self.observer.cancelled() => Err(StoreError::Cancelled),
            Some(error) => Err(StoreError::read(&from)(error)),
            None => added,
        }
    }

    fn add(
        &mut self,
        path: &Path,
        mode: u16,
        kind: &EntryKind,
        content: &mut dyn Read,
    ) -> Result<(), StoreError> {
        let attributes = Attributes { mode, ..Attributes::default() };
        let path = path.as_os_str().as_encoded_bytes();
        self.tar.add(path, &attributes, kind, content).map_err(StoreError::write(self.name))
    }
}

/// A blob, which tells what went wrong with it apart from what went wrong with the tar.
struct Content<'a> {
    file: File,
    failure: Option<io::Error>,
    observer: &'a dyn Observer,
}

impl Read for Content<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let result = match self.observer.cancelled() {
            true => Err(io::Error::other("cancelled")),
            false => self.file.read(buffer),
        };
        match result {
            // It has become shorter than it was.
            Ok(0) if !buffer.is_empty() => self.failure = Some(io::ErrorKind::UnexpectedEof.into()),
            Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                let kind = error.kind();
                self.failure = Some(error);
                return Err(kind.into());
            }
            _ => {}
        }
        result
    }
}
