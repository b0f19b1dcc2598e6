//! Tars that are read in place: those of layouts, and what all have in common.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use super::descriptor::Descriptor;
use super::directory::open;
use super::error::Error;
use super::hashing;
use super::layout::{INDEX, MARKER, MARKER_MAX, TopIndex, blob_name, check_marker};
use super::name::Reference;
use super::positions::{Extent, Failure, Positions};
use super::source::{DOCUMENT_MAX, Exactly, Source, from_memory, rest};
use crate::io::{ReadAt, Window, usize_of};
use crate::layer::{Compression, Digest};
use crate::progress::Observer;

/// A tar, and where what lies in it.
#[derive(Debug)]
pub(super) struct Tar {
    path: PathBuf,
    kind: &'static str,
    file: File,
    positions: Positions,
}

impl Tar {
    /// Opens a tar, which is to be of the `kind` that messages tell.
    pub(super) fn open(path: &Path, kind: &'static str) -> Result<Self, Error> {
        let failed = |source| Error::Open { path: path.to_owned(), source };
        let (file, size) = open(path).map_err(failed)?;
        let refused = |problem| Error::Form { path: path.to_owned(), kind, problem };
        let mut start = [0; 12];
        let length = ReadAt::read_at(&file, &mut start, 0).map_err(failed)?;
        let compression = match Compression::detect(&start[..length]) {
            Ok(Compression::None) => None,
            Ok(compression) => Some(compression.name()),
            Err(name) => Some(name),
        };
        if let Some(name) = compression {
            // It would have to be unpacked to be read at its places.
            return Err(refused(format!("it is compressed with {name}: decompress it first")));
        }
        let positions = Positions::of(BufReader::new(&file), size).map_err(|failure| match failure {
            Failure::Tar(source) => Error::Archive { path: path.to_owned(), source },
            Failure::Read(source) => failed(source),
            Failure::Problem(problem) => refused(problem),
        })?;
        Ok(Self { path: path.to_owned(), kind, file, positions })
    }

    pub(super) fn place(&self) -> String {
        self.path.display().to_string()
    }

    pub(super) fn refused(&self, problem: String) -> Error {
        Error::Form { path: self.path.clone(), kind: self.kind, problem }
    }

    /// Where the file of that name lies.
    pub(super) fn find(&self, name: &str) -> Result<Option<Extent>, Error> {
        self.positions.find(name).map_err(|problem| self.refused(problem))
    }

    /// All of a file, of at most `limit` bytes.
    pub(super) fn document(&self, name: &str, limit: u64) -> Result<Vec<u8>, Error> {
        let missing = || self.refused(format!("there is no {} in it", name.escape_debug()));
        let extent = self.find(name)?.ok_or_else(missing)?;
        if extent.size > limit {
            let what = format!("{} in {}", name.escape_debug(), self.place());
            return Err(Error::DocumentSize { what, size: extent.size, limit });
        }
        let mut bytes = vec![0; usize_of(extent.size)];
        let read = self.file.read_exact_at(&mut bytes, extent.offset);
        read.map_err(|source| Error::Open { path: self.path.clone(), source })?;
        Ok(bytes)
    }

    /// What a file hashes to; `None` if the observer cancelled.
    pub(super) fn digest(&self, extent: Extent, observer: &dyn Observer) -> io::Result<Option<Digest>> {
        let bytes = Window::new(&self.file, extent.offset..extent.offset + extent.size);
        match hashing::digest(&bytes, None, observer)? {
            Some((_, found)) if found != extent.size => Err(io::ErrorKind::UnexpectedEof.into()),
            found => Ok(found.map(|(digest, _)| digest)),
        }
    }

    /// The bytes of a file from `from` on.
    pub(super) fn read(
        &self,
        extent: Extent,
        descriptor: &Descriptor,
        from: u64,
    ) -> Result<Content<'_>, Error> {
        let Descriptor { digest, size, .. } = descriptor;
        if extent.size != *size {
            return Err(Error::Size { digest: digest.clone(), expected: *size, found: extent.size });
        }
        let rest = rest(descriptor, from)?;
        let bytes = Window::new(&self.file, extent.offset..extent.offset + extent.size);
        Ok(Exactly::new(Cursor { bytes, position: from }, rest))
    }
}

/// A file in a tar.
pub(super) type Content<'t> = Exactly<Cursor<'t>>;

/// Reads on from a position.
#[derive(Debug)]
pub(super) struct Cursor<'t> {
    bytes: Window<&'t File>,
    position: u64,
}

impl Read for Cursor<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.bytes.read_at(buffer, self.position)?;
        self.position += count as u64;
        Ok(count)
    }
}

/// A tar of a layout.
#[derive(Debug)]
pub(super) struct Archive {
    tar: Tar,
    index: TopIndex,
    reference: Option<Reference>,
}

impl Archive {
    pub(super) fn open(path: &Path, reference: Option<&Reference>) -> Result<Self, Error> {
        let tar = Tar::open(path, "OCI archive")?;
        check_marker(&tar.document(MARKER, MARKER_MAX)?).map_err(|problem| tar.refused(problem))?;
        let index = TopIndex::parse(&tar.place(), tar.document(INDEX, DOCUMENT_MAX)?)?;
        Ok(Self { tar, index, reference: reference.cloned() })
    }
}

impl Source for Archive {
    fn root(&self) -> Result<Descriptor, Error> {
        self.index.select(self.reference.as_ref(), &self.tar.place())
    }

    fn is_list(&self, root: &Descriptor) -> bool {
        self.index.is(root)
    }

    fn blob(&self, descriptor: &Descriptor, from: u64) -> Result<Box<dyn Read + Send + '_>, Error> {
        if let Some(bytes) = self.index.document(descriptor) {
            return from_memory(bytes, descriptor, from);
        }
        let missing = || Error::Missing { digest: descriptor.digest.clone(), place: self.tar.place() };
        let extent = self.tar.find(&blob_name(&descriptor.digest))?.ok_or_else(missing)?;
        Ok(Box::new(self.tar.read(extent, descriptor, from)?))
    }
}
