//! From a compressed unit to the content that it holds.

use std::io;
#[cfg(feature = "layer")]
use std::io::Read;
use std::ops::Range;

use super::format::{algorithm, incompatible};
use super::{Error, Image, lz4};
use crate::io::usize_of;

/// How content is made of bytes of the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Encoding {
    /// The bytes are the content. The first one is that at `turn`; behind the last one comes what is before that.
    Plain {
        /// In bytes, less than a block.
        turn: u16,
    },
    /// The bytes are compressed by an algorithm, one of [`format::algorithm`](super::format::algorithm).
    Compressed(u8),
}

/// The most that a compressed unit has, in bytes: the kernel's limit (`Z_EROFS_PCLUSTER_MAX_SIZE`).
pub(super) const MOST_ENCODED: u64 = 1 << 20;
/// The most that comes of it: the kernel's (`Z_EROFS_PCLUSTER_MAX_DSIZE`). mkfs.erofs makes less than 4 MiB of one.
pub(super) const MOST_DECODED: u64 = 12 << 20;

/// A frame may ask for so much memory, as a power of two: no unit holds more content.
#[cfg(feature = "layer")]
const ZSTD_WINDOW_LOG: u32 = 24;

impl Image<'_> {
    /// Checks that so much content can be made of so many bytes, and that it is known here how.
    pub(super) fn check_unit(
        &self,
        encoding: Encoding,
        bytes: &Range<u64>,
        content: &Range<u64>,
    ) -> Result<(), Error> {
        let [encoded, decoded] = [bytes, content].map(|range| range.end - range.start);
        let invalid = |field, value| Err(Error::Invalid { field, value });
        if encoded > MOST_ENCODED {
            return invalid("the size of a compressed unit", encoded);
        }
        if decoded > MOST_DECODED {
            return invalid("the size of the content of a compressed unit", decoded);
        }
        match encoding {
            Encoding::Plain { .. } if decoded > encoded => {
                invalid("the size of the content of an uncompressed unit", decoded)
            }
            // Kernels do not agree on what that is.
            Encoding::Plain { turn: 1.. } if encoded != self.block_size() => {
                invalid("the size of an uncompressed unit that does not begin at its beginning", encoded)
            }
            Encoding::Plain { .. } => Ok(()),
            Encoding::Compressed(algorithm) if is_known(algorithm) => Ok(()),
            Encoding::Compressed(algorithm) => Err(Error::Compressed(algorithm)),
        }
    }

    /// Makes the content of a unit that was [checked](Image::check_unit), as much as there is to be.
    pub(super) fn decode(
        &self,
        encoding: Encoding,
        bytes: &Range<u64>,
        content: &Range<u64>,
    ) -> io::Result<Vec<u8>> {
        let mut encoded = vec![0; usize_of(bytes.end - bytes.start)];
        let mut filled = 0;
        while filled < encoded.len() {
            match self.read_content(&mut encoded[filled..], bytes.start + filled as u64)? {
                0 => return Err(invalid("the image ends before the content")),
                count => filled += count,
            }
        }
        let mut decoded = vec![0; usize_of(content.end - content.start)];
        match encoding {
            Encoding::Plain { turn } => {
                let (second, first) = encoded.split_at(turn.into());
                let middle = first.len().min(decoded.len());
                let (start, rest) = decoded.split_at_mut(middle);
                start.copy_from_slice(&first[..start.len()]);
                rest.copy_from_slice(&second[..rest.len()]);
            }
            Encoding::Compressed(algorithm) => {
                // Only the first images had no zeros before a unit, and these were LZ4's.
                let padded = self.superblock().feature_incompat & incompatible::ZERO_PADDING != 0
                    || algorithm != algorithm::LZ4;
                let zeros = if padded { encoded.iter().take_while(|&&byte| byte == 0).count() } else { 0 };
                decompress(algorithm, &encoded[zeros..], &mut decoded)
                    .ok_or_else(|| invalid("its compressed data are not sound"))?;
            }
        }
        Ok(decoded)
    }
}

/// Whether content that is compressed by an algorithm can be read.
const fn is_known(algorithm: u8) -> bool {
    let more = matches!(algorithm, algorithm::DEFLATE | algorithm::ZSTD);
    algorithm == algorithm::LZ4 || (more && cfg!(feature = "layer"))
}

/// Fills `out` with what is made of `encoded`, which may make more. `None` if it makes less, or is not sound.
fn decompress(algorithm: u8, encoded: &[u8], out: &mut [u8]) -> Option<()> {
    match algorithm {
        algorithm::LZ4 => lz4::decode(encoded, out),
        #[cfg(feature = "layer")]
        algorithm::DEFLATE => flate2::bufread::DeflateDecoder::new(encoded).read_exact(out).ok(),
        #[cfg(feature = "layer")]
        algorithm::ZSTD => {
            let mut decoder = zstd::Decoder::with_buffer(encoded).ok()?.single_frame();
            decoder.window_log_max(ZSTD_WINDOW_LOG).ok()?;
            decoder.read_exact(out).ok()
        }
        _ => None,
    }
}

pub(super) fn invalid(problem: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, problem)
}
