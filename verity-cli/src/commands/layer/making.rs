//! Making a layer: the image is copied and hashed in one read.

use std::io;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use verity_core::block::RootHash;
use verity_core::fec::{self, Roots};
use verity_core::geometry::Geometry;
use verity_core::io::{ReadAt, Storage, WriteAt};
use verity_core::params::Params;
use verity_core::reader;
use verity_core::tree::{self, Device, Options};

use crate::commands::{Parity, engine};
use crate::failure::{Code, Failure};
use crate::files::NewFile;

/// What is made of an image, and where it goes.
pub(super) struct Making<'a> {
    pub(super) image: &'a dyn ReadAt,
    /// How many bytes of the image count. Up to the end of the last data block zeros follow them.
    pub(super) image_bytes: u64,
    /// Where the image is copied to: a place of zeros. `None` where it stays where it is.
    pub(super) copy: Option<&'a dyn WriteAt>,
    pub(super) hash: &'a dyn Storage,
    pub(super) params: &'a Params,
    pub(super) geometry: &'a Geometry,
    pub(super) parity: Option<(&'a dyn Storage, &'a fec::Layout)>,
}

impl Making<'_> {
    /// Copies the image, and builds tree and parity. `file` is the output that a failure to write is told of, `name` what the user
    /// called the image.
    pub(super) fn run(
        &self,
        options: &Options<'_>,
        file: &NewFile,
        name: impl Fn(Device) -> String,
    ) -> Result<RootHash, Failure> {
        let Self { hash, params, geometry, .. } = self;
        let tee = Tee { making: self, failure: Mutex::new(None) };
        let built = match self.parity {
            None => tree::build(&tee, *hash, params, geometry, options),
            Some((parity, layout)) => fec::build(&tee, *hash, parity, params, geometry, layout, options),
        };
        built.map_err(|error| {
            let lost = tee.failure.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(lost) = lost {
                return file.cannot_write(&lost);
            }
            match &error {
                tree::Error::Write { source, .. } => file.cannot_write(source),
                tree::Error::Read { source, .. } => match inner(source) {
                    Some(corrupted) => Failure::new(Code::Refused, corrupted)
                        .hint("do not use this layer; 'verity layer verify' lists every bad block"),
                    None => engine::failure(&error, &name),
                },
                _ => engine::failure(&error, &name),
            }
        })
    }
}

/// What a verified read found, behind the system's words for it.
fn inner(error: &io::Error) -> Option<&reader::Error> {
    error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<reader::Error>())
        .filter(|error| matches!(error, reader::Error::Corrupted { .. }))
}

/// The image, as it is read by whoever builds the tree: once, and what is read is written to the copy.
struct Tee<'a> {
    making: &'a Making<'a>,
    /// Why the copy could not be written.
    failure: Mutex<Option<io::Error>>,
}

impl ReadAt for Tee<'_> {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let Making { image, image_bytes, copy, geometry, .. } = self.making;
        let Some(rest) = image_bytes.checked_sub(offset).filter(|&rest| rest > 0) else {
            let padding = geometry.data_bytes().saturating_sub(offset);
            let count = usize::try_from(padding).unwrap_or(usize::MAX).min(buffer.len());
            buffer[..count].fill(0);
            return Ok(count);
        };
        let length = usize::try_from(rest).unwrap_or(usize::MAX).min(buffer.len());
        let count = image.read_at(&mut buffer[..length], offset)?;
        let bytes = &buffer[..count];
        // A new file is zeros: what is zeros stays a hole.
        if let Some(copy) = copy.filter(|_| bytes.iter().any(|&byte| byte != 0)) {
            copy.write_all_at(bytes, offset).map_err(|error| {
                let kind = error.kind();
                self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                io::Error::from(kind)
            })?;
        }
        Ok(count)
    }

    fn zeros_until(&self, offset: u64) -> io::Result<u64> {
        let Making { image, image_bytes, geometry, .. } = self.making;
        if offset >= *image_bytes {
            return Ok(geometry.data_bytes().max(offset));
        }
        Ok(image.zeros_until(offset)?.min(*image_bytes))
    }
}

/// Where parity lies behind the tree of a layer that is made.
pub(super) fn parity_behind(
    output: &Path,
    roots: Roots,
    params: &Params,
    geometry: &Geometry,
) -> Result<Parity, Failure> {
    let offset = geometry.hash_area_end();
    let places = fec::Layout::new(params, geometry, geometry.hash_blocks(), roots, offset);
    let places = places.map_err(|error| {
        Failure::argument(error).hint("leave out --fec-roots, or give both block sizes the same value")
    })?;
    Ok(Parity { device: output.to_owned(), places, with_hash: true })
}

/// A UUID for a superblock that follows from the root hash, so that the same image becomes the same layer.
pub(super) fn uuid_of(root: &RootHash) -> [u8; 16] {
    let mut bytes = [0; 16];
    for (byte, digest) in bytes.iter_mut().zip(root.as_bytes()) {
        *byte = *digest;
    }
    uuid::Builder::from_custom_bytes(bytes).into_uuid().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use verity_core::geometry::HashArea;
    use verity_core::io::MemoryDevice;

    #[test]
    fn the_copy_is_the_image_and_zeros_to_the_end_of_the_block() {
        let image: Vec<u8> = (0..1_000_000_u32).map(|at| (at / 4096 % 3) as u8).collect();
        let params = Params::default();
        let geometry = Geometry::new(&params, 245, HashArea::with_superblock(245 * 4096).unwrap()).unwrap();
        let copy = MemoryDevice::default();
        let tree = MemoryDevice::default();
        let making = Making {
            image: &image,
            image_bytes: 1_000_000,
            copy: Some(&copy),
            hash: &tree,
            params: &params,
            geometry: &geometry,
            parity: None,
        };
        let folder = tempfile::tempdir().unwrap();
        let file = NewFile::create(&folder.path().join("f"), 0).unwrap();
        let root = making.run(&Options::default(), &file, |_| String::new()).unwrap();
        let mut padded = image.clone();
        padded.resize(245 * 4096, 0);
        let expected =
            tree::build(&padded, &MemoryDevice::default(), &params, &geometry, &Options::default()).unwrap();
        assert_eq!(root, expected);
        let mut written = copy.into_bytes();
        written.resize(padded.len(), 0);
        assert!(written == padded);
        // Version 8 (custom), the variant of RFC 9562.
        let uuid = uuid_of(&root);
        assert_eq!((uuid[6] >> 4, uuid[8] >> 6), (8, 2));
    }
}
