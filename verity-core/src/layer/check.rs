//! A blob against its digests.

use std::io::Read;

use super::Options;
use super::compression::Compression;
use super::digest::Digest;
use super::error::Error;
use super::pipeline::{self, Totals};

/// A blob that was read to its end.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Checked {
    /// The uncompressed tar's digest, with sha256.
    pub diff_id: Digest,
    /// The blob's digest, with sha256.
    pub digest: Digest,
    /// How the blob is compressed.
    pub compression: Compression,
    /// How many bytes the blob has.
    pub blob_bytes: u64,
    /// How many bytes the uncompressed tar has.
    pub tar_bytes: u64,
}

/// Reads the blob `source`, and checks that it can be decompressed and has the digests that the options ask for. What is in the tar is not looked at, and
/// nothing is made of it.
///
/// # Errors
/// As [`build`](super::build), apart from what is said of entries, image and tree.
pub fn check(source: impl Read + Send, options: &Options<'_>) -> Result<Checked, Error> {
    let ((), totals) = pipeline::run(source, options, |_| Ok(()))?;
    digests(&totals, options)?;
    Ok(Checked {
        diff_id: totals.tar.sha256,
        digest: totals.blob.sha256,
        compression: totals.compression,
        blob_bytes: totals.blob.length,
        tar_bytes: totals.tar.length,
    })
}

/// Checks the digests that were asked for.
pub(super) fn digests(totals: &Totals, options: &Options<'_>) -> Result<(), Error> {
    for (what, expected, found) in
        [("digest", &options.digest, &totals.blob), ("diffID", &options.diff_id, &totals.tar)]
    {
        if let Some(expected) = expected
            && found.like(expected) != expected
        {
            let (expected, found) = (expected.clone(), found.like(expected).clone());
            return Err(Error::Mismatch { what, expected, found });
        }
    }
    Ok(())
}
