//! Layers that are built in memory.

use std::io::Write;

use verity_core::io::MemoryDevice;
use verity_core::layer::{Built, Error, Options, build};

/// Builds a layer of a blob, with options; returns also the file.
pub(crate) fn build_with(
    blob: &[u8],
    change: impl FnOnce(&mut Options<'_>),
) -> Result<(Built, Vec<u8>), Error> {
    let mut options = Options::default();
    options.blob_bytes = Some(blob.len() as u64);
    change(&mut options);
    let output = MemoryDevice::default();
    let built = build(blob, &output, &options)?;
    Ok((built, output.into_bytes()))
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(crate) fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 3).unwrap()
}
