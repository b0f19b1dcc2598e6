//! Where blobs come from.

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

use super::archive::Archive;
use super::descriptor::Descriptor;
use super::directory::Directory;
use super::docker::DockerArchive;
use super::error::Error;
use super::name::ImageName;
use crate::io::usize_of;
use crate::progress::Observer;

/// The most bytes that an index, a manifest or a configuration may have: 4 MiB, as registries have it.
pub const DOCUMENT_MAX: u64 = 4 << 20;

/// Where an image's blobs come from: a layout, an archive, a registry.
pub trait Source: Sync {
    /// The descriptor of what the name names: an index or a manifest.
    ///
    /// # Errors
    /// Whatever the source answers.
    fn root(&self) -> Result<Descriptor, Error>;

    /// Whether that is the source's own list of its images: only this one gives them names.
    fn is_list(&self, root: &Descriptor) -> bool {
        let _ = root;
        false
    }

    /// The bytes of a blob from the byte `from` on, as many as the descriptor says and no more; reading fails where there are fewer.
    ///
    /// They are *not* checked against the digest: the caller digests what it reads.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Size`], [`Error::Position`], and whatever the source answers.
    fn blob(&self, descriptor: &Descriptor, from: u64) -> Result<Box<dyn Read + Send + '_>, Error>;

    /// The blob, as long as its descriptor says, as an open file that is nothing else, where there is one: to be read at any place. It is *not* checked
    /// against the digest, either.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Size`], [`Error::Open`].
    fn blob_file(&self, descriptor: &Descriptor) -> Result<Option<File>, Error> {
        let _ = descriptor;
        Ok(None)
    }

    /// A file that is exactly this blob, where there is one: for loop devices. It may be another one by the time that it is opened; whoever reads
    /// it himself takes [`Source::blob_file`].
    fn blob_path(&self, descriptor: &Descriptor) -> Option<PathBuf> {
        let _ = descriptor;
        None
    }
}

/// Reads a blob that is a document, at most [`DOCUMENT_MAX`] bytes, and checks its size and digest.
///
/// # Errors
/// As [`Source::blob`], and [`Error::DocumentSize`] or [`Error::Mismatch`].
pub fn read_document(source: &dyn Source, descriptor: &Descriptor) -> Result<Vec<u8>, Error> {
    let Descriptor { digest, size, .. } = descriptor;
    if *size > DOCUMENT_MAX {
        let what = format!("document {digest}");
        return Err(Error::DocumentSize { what, size: *size, limit: DOCUMENT_MAX });
    }
    let mut bytes = Vec::with_capacity(usize_of(*size));
    let blob = source.blob(descriptor, 0)?;
    // One byte more would show that it is longer.
    let read = blob.take(*size + 1).read_to_end(&mut bytes);
    read.map_err(|source| Error::Read { digest: digest.clone(), source })?;
    if bytes.len() as u64 != *size {
        return Err(Error::Size { digest: digest.clone(), expected: *size, found: bytes.len() as u64 });
    }
    let found = digest.of_same(&bytes);
    if found != *digest {
        return Err(Error::Mismatch { expected: digest.clone(), found });
    }
    Ok(bytes)
}

/// Opens what a name names, if that is a layout or an archive.
///
/// # Errors
/// [`Error`]: what is not there, or not what it should be. Registries have functions of their own.
pub fn open(name: &ImageName) -> Result<Box<dyn Source>, Error> {
    open_with(name, &())
}

/// As [`open`], with an observer that can cancel: layers of a docker-archive that are compressed are digested when it is opened.
///
/// # Errors
/// As [`open`], and [`Error::Cancelled`].
pub fn open_with(name: &ImageName, observer: &dyn Observer) -> Result<Box<dyn Source>, Error> {
    Ok(match name {
        ImageName::OciLayout { dir, reference } => Box::new(Directory::open(dir, reference.as_ref())?),
        ImageName::OciArchive { path, reference } => Box::new(Archive::open(path, reference.as_ref())?),
        ImageName::DockerArchive { path, reference } => {
            Box::new(DockerArchive::open(path, reference.as_ref(), observer)?)
        }
        ImageName::Registry(name) => return Err(Error::Registry { name: name.to_string() }),
    })
}

/// A reader of so many bytes: more are not read, and fewer are an error.
#[derive(Debug)]
pub(super) struct Exactly<R> {
    reader: R,
    left: u64,
}

impl<R: Read> Exactly<R> {
    pub(super) const fn new(reader: R, bytes: u64) -> Self {
        Self { reader, left: bytes }
    }
}

/// How many bytes of a blob there are from `from` on.
pub(super) fn rest(descriptor: &Descriptor, from: u64) -> Result<u64, Error> {
    let Descriptor { digest, size, .. } = descriptor;
    let behind = || Error::Position { digest: digest.clone(), size: *size, from };
    size.checked_sub(from).ok_or_else(behind)
}

impl<R: Read> Read for Exactly<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let room = buffer.len().min(usize_of(self.left));
        if room == 0 {
            return Ok(0);
        }
        match self.reader.read(&mut buffer[..room])? {
            0 => Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("it ends {} bytes too early: it became shorter while it was read", self.left),
            )),
            count => {
                self.left -= count as u64;
                Ok(count)
            }
        }
    }
}

/// A blob that is in memory.
pub(super) fn from_memory<'b>(
    bytes: &'b [u8],
    descriptor: &Descriptor,
    from: u64,
) -> Result<Box<dyn Read + Send + 'b>, Error> {
    let found = bytes.len() as u64;
    if found != descriptor.size {
        return Err(Error::Size { digest: descriptor.digest.clone(), expected: descriptor.size, found });
    }
    let rest = rest(descriptor, from)?;
    Ok(Box::new(&bytes[bytes.len() - usize_of(rest)..]))
}
