//! A layout as one file: a tar that is the same wherever it is written.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use super::folder::Folder;
use super::{Store, StoreError};
use crate::erofs::write::Attributes;
use crate::layer::tar::{EntryKind, Writer};
use crate::oci::layout;
use crate::progress::Observer;

impl Store {
    /// Writes the layout as a tar, an OCI archive: entries in order, of nobody, without times. What belongs to this program alone is left out.
    ///
    /// Nobody should write to the layout meanwhile. `name` is what the tar is called in errors.
    ///
    /// # Errors
    /// [`StoreError`]: what the system answers, and that the observer cancelled.
    pub fn archive(&self, out: impl Write, name: &Path, observer: &dyn Observer) -> Result<(), StoreError> {
        let mut archive = Archive { tar: Writer::new(out), name, observer };
        archive.file(&self.dir, "", layout::MARKER)?;
        archive.file(&self.dir, "", layout::INDEX)?;
        archive.folder("blobs")?;
        for algorithm in names(&self.blobs)? {
            let place = format!("blobs/{algorithm}");
            archive.folder(&place)?;
            let blobs = self.blobs.folder(&algorithm)?;
            for blob in names(&blobs)? {
                archive.file(&blobs, &format!("{place}/"), &blob)?;
            }
        }
        archive.tar.finish().map(|_| ()).map_err(StoreError::write(name))
    }
}

/// What is in a folder, in order.
fn names(folder: &Folder) -> Result<Vec<String>, StoreError> {
    let names = folder.names().and_then(Iterator::collect::<io::Result<Vec<_>>>);
    let names = names.map_err(StoreError::read(folder.path()))?;
    let text = |name: OsString| {
        let unknown =
            |name| StoreError::read(&folder.path().join(name))(io::ErrorKind::InvalidFilename.into());
        name.into_string().map_err(unknown)
    };
    let mut names = names.into_iter().map(text).collect::<Result<Vec<_>, _>>()?;
    names.sort();
    Ok(names)
}

struct Archive<'a, W> {
    tar: Writer<W>,
    name: &'a Path,
    observer: &'a dyn Observer,
}

impl<W: Write> Archive<'_, W> {
    fn folder(&mut self, path: &str) -> Result<(), StoreError> {
        self.add(path, 0o755, &EntryKind::Directory, &mut io::empty())
    }

    /// A file of a folder, which is `place` in the layout.
    fn file(&mut self, folder: &Folder, place: &str, name: &str) -> Result<(), StoreError> {
        let from = folder.path_of(name);
        let (file, size) = folder.read(name).map_err(StoreError::read(&from))?;
        let whole = 0..size;
        let kind = EntryKind::File { size, data: vec![whole] };
        let mut content = Content { file, failure: None, observer: self.observer };
        let added = self.add(&format!("{place}{name}"), 0o644, &kind, &mut content);
        match content.failure {
            Some(_) if self.observer.cancelled() => Err(StoreError::Cancelled),
            Some(error) => Err(StoreError::read(&from)(error)),
            None => added,
        }
    }

    fn add(
        &mut self,
        path: &str,
        mode: u16,
        kind: &EntryKind,
        content: &mut dyn Read,
    ) -> Result<(), StoreError> {
        let attributes = Attributes { mode, ..Attributes::default() };
        self.tar.add(path.as_bytes(), &attributes, kind, content).map_err(StoreError::write(self.name))
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
