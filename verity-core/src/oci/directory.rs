//! Layouts in directories.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::descriptor::Descriptor;
use super::error::Error;
use super::layout::{INDEX, MARKER, MARKER_MAX, TopIndex, blob_name, check_marker};
use super::name::Reference;
use super::source::{DOCUMENT_MAX, Exactly, Source, from_memory, rest};

/// A layout in a directory. The index is read once: what is put into it later is not seen.
#[derive(Debug)]
pub(super) struct Directory {
    dir: PathBuf,
    index: TopIndex,
    reference: Option<Reference>,
}

impl Directory {
    pub(super) fn open(dir: &Path, reference: Option<&Reference>) -> Result<Self, Error> {
        let refused =
            |problem: String| Error::Form { path: dir.to_owned(), kind: "OCI image layout", problem };
        // A directory that is not there, or no directory, is told from one that is no layout.
        let is_dir =
            std::fs::metadata(dir).map_err(|source| Error::Open { path: dir.to_owned(), source })?.is_dir();
        if !is_dir {
            return Err(refused(
                "it is no directory; a tar of a layout is named oci-archive:FILE".to_owned(),
            ));
        }
        let file = |name: &str, limit| match small_file(&dir.join(name), limit) {
            Err(Error::Open { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Err(refused(format!("there is no {name} in it")))
            }
            other => other,
        };
        check_marker(&file(MARKER, MARKER_MAX)?).map_err(refused)?;
        let index = TopIndex::parse(&dir.display().to_string(), file(INDEX, DOCUMENT_MAX)?)?;
        Ok(Self { dir: dir.to_owned(), index, reference: reference.cloned() })
    }

    fn place(&self) -> String {
        self.dir.display().to_string()
    }

    /// The file of a blob, as long as it should be.
    fn file(&self, descriptor: &Descriptor) -> Result<(PathBuf, File), Error> {
        let Descriptor { digest, size, .. } = descriptor;
        let path = self.dir.join(blob_name(digest));
        let (file, found) = open(&path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => Error::Missing { digest: digest.clone(), place: self.place() },
            _ => Error::Open { path: path.clone(), source },
        })?;
        if found != *size {
            return Err(Error::Size { digest: digest.clone(), expected: *size, found });
        }
        Ok((path, file))
    }
}

impl Source for Directory {
    fn root(&self) -> Result<Descriptor, Error> {
        self.index.select(self.reference.as_ref(), &self.place())
    }

    fn is_list(&self, root: &Descriptor) -> bool {
        self.index.is(root)
    }

    fn blob(&self, descriptor: &Descriptor, from: u64) -> Result<Box<dyn Read + Send + '_>, Error> {
        if let Some(bytes) = self.index.document(descriptor) {
            return from_memory(bytes, descriptor, from);
        }
        let (path, mut file) = self.file(descriptor)?;
        let rest = rest(descriptor, from)?;
        file.seek(SeekFrom::Start(from)).map_err(|source| Error::Open { path, source })?;
        Ok(Box::new(Exactly::new(file, rest)))
    }

    fn blob_file(&self, descriptor: &Descriptor) -> Result<Option<File>, Error> {
        if self.index.document(descriptor).is_some() {
            // What was read of it is what it is.
            return Ok(None);
        }
        self.file(descriptor).map(|(_, file)| Some(file))
    }

    fn blob_path(&self, descriptor: &Descriptor) -> Option<PathBuf> {
        self.file(descriptor).ok().map(|(path, _)| path)
    }
}

/// Opens a regular file, and refuses everything else without waiting for it. Symbolic links are followed, as tools that make layouts out of
/// stores of their own rely on: what is read has to have the right digest, wherever it is from.
pub(super) fn open(path: &Path) -> io::Result<(File, u64)> {
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    Ok((file, metadata.len()))
}

/// All of a file, of at most `limit` bytes.
fn small_file(path: &Path, limit: u64) -> Result<Vec<u8>, Error> {
    let failed = |source| Error::Open { path: path.to_owned(), source };
    let (file, size) = open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > limit {
        return Err(Error::DocumentSize { what: path.display().to_string(), size, limit });
    }
    Ok(bytes)
}
