//! How large a layer may become.

use super::error::Error;

/// How much a layer may make of its blob: a few kilobytes can claim to be terabytes. What is unpacked from a layer has the same limits; there the image is
/// what the blob is here.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// How many times as large as the blob the uncompressed tar may be, and the holes of its files. 200 by default: binaries
    /// and text have 2 to 20, zeros 1000 with gzip and more with zstd.
    pub ratio: u64,
    /// So many bytes are allowed whatever the ratio: 1 GiB by default.
    pub allowance: u64,
    /// How many entries there may be, and how many files in the image besides its root, parents without an entry and whiteouts among them; each
    /// takes some hundred bytes of memory until the image is complete. 8 million by default.
    pub entries: u64,
    /// How many bytes of memory names, extended attributes, link targets and the ends of files may take until the image is complete. 1 GiB by default.
    pub memory: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { ratio: 200, allowance: 1 << 30, entries: 8_000_000, memory: 1 << 30 }
    }
}

impl Limits {
    /// Whether so much may come of so many bytes.
    pub(super) const fn allow(&self, expanded: u64, input: u64) -> bool {
        expanded <= self.allowance || expanded <= input.saturating_mul(self.ratio)
    }

    /// Checks how much came of `input` bytes of the blob.
    pub(super) const fn check(&self, expanded: u64, input: u64) -> Result<(), Error> {
        let Self { ratio, allowance, .. } = *self;
        if self.allow(expanded, input) {
            return Ok(());
        }
        Err(Error::Expansion { expanded, input, ratio, allowance })
    }
}
