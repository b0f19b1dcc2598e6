//! Block sizes, salts and root hashes: the small values that every other module speaks in.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use crate::algorithm::{Algorithm, MAX_DIGEST_SIZE};

/// A block size in bytes: a power of two from 512 to 524288.
///
/// The kernel adds a bound of its own: it activates no data block larger than its page.
///
/// ```
/// use verity_core::block::BlockSize;
/// assert_eq!(BlockSize::default().bytes(), 4096);
/// assert!(BlockSize::new(1000).is_err());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlockSize(u32);

impl BlockSize {
    /// The smallest block size, one sector.
    pub const MIN: Self = Self(512);
    /// The largest block size that veritysetup takes.
    pub const MAX: Self = Self(512 * 1024);

    /// Checks a size in bytes.
    ///
    /// # Errors
    /// [`BlockError::Size`] unless `bytes` is a power of two from 512 to 524288.
    pub const fn new(bytes: u32) -> Result<Self, BlockError> {
        if bytes.is_power_of_two() && bytes >= Self::MIN.0 && bytes <= Self::MAX.0 {
            Ok(Self(bytes))
        } else {
            Err(BlockError::Size(bytes))
        }
    }

    /// The size in bytes, as the formats store it.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The size in bytes, for slices.
    #[must_use]
    pub const fn bytes(self) -> usize {
        // At most 2^19, which every usize that Rust's std supports here holds.
        self.0 as usize
    }

    /// The size in bytes, for positions.
    #[must_use]
    pub const fn as_u64(self) -> u64 {
        self.0 as u64
    }
}

impl Default for BlockSize {
    fn default() -> Self {
        Self(4096)
    }
}

impl fmt::Display for BlockSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl TryFrom<u32> for BlockSize {
    type Error = BlockError;

    fn try_from(bytes: u32) -> Result<Self, Self::Error> {
        Self::new(bytes)
    }
}

impl FromStr for BlockSize {
    type Err = BlockError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bytes = text.parse().map_err(|_| BlockError::SizeText(clip(text)))?;
        Self::new(bytes)
    }
}

/// A salt: 0 to 256 bytes that are hashed with every block.
///
/// As text it is hexadecimal, and `-` when it is empty.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Salt(Vec<u8>);

impl Salt {
    /// The longest salt, in bytes.
    pub const MAX_SIZE: usize = 256;

    /// Checks a salt's length.
    ///
    /// # Errors
    /// [`BlockError::SaltTooLong`] if it has more than 256 bytes.
    pub fn new(bytes: &[u8]) -> Result<Self, BlockError> {
        if bytes.len() > Self::MAX_SIZE {
            return Err(BlockError::SaltTooLong(bytes.len()));
        }
        Ok(Self(bytes.to_vec()))
    }

    /// The salt's bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Salt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { f.write_str("-") } else { f.write_str(&hex::encode(&self.0)) }
    }
}

impl fmt::Debug for Salt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Salt({self})")
    }
}

impl FromStr for Salt {
    type Err = BlockError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "-" {
            return Ok(Self::default());
        }
        if text.len() > 2 * Self::MAX_SIZE {
            return Err(BlockError::SaltTooLong(text.len().div_ceil(2)));
        }
        let bytes = hex::decode(text).map_err(|source| BlockError::Hex { what: "salt", source })?;
        Self::new(&bytes)
    }
}

/// The digest of a tree's top block: the one value that has to be trusted.
///
/// Comparison takes the same time wherever two hashes differ. As text it is lower-case hexadecimal.
#[derive(Clone, Copy)]
pub struct RootHash {
    bytes: [u8; MAX_DIGEST_SIZE],
    size: usize,
}

impl RootHash {
    /// Takes a digest of `algorithm`.
    ///
    /// # Errors
    /// [`BlockError::RootHashSize`] if its length is not the algorithm's.
    pub fn new(algorithm: Algorithm, digest: &[u8]) -> Result<Self, BlockError> {
        if digest.len() != algorithm.digest_size() {
            return Err(BlockError::RootHashSize { algorithm, found: digest.len() });
        }
        Ok(Self::from_digest(digest))
    }

    /// Takes the first bytes of what a hasher made; it has no more than the largest digest's.
    pub(crate) fn from_digest(digest: &[u8]) -> Self {
        let mut bytes = [0; MAX_DIGEST_SIZE];
        let size = digest.len().min(MAX_DIGEST_SIZE);
        bytes[..size].copy_from_slice(&digest[..size]);
        Self { bytes, size }
    }

    /// Parses hexadecimal text, in either case.
    ///
    /// # Errors
    /// [`BlockError::Hex`] or [`BlockError::RootHashSize`].
    pub fn from_hex(algorithm: Algorithm, text: &str) -> Result<Self, BlockError> {
        // Hex text of the wrong length says more as a wrong length than as an odd one.
        if text.len() != 2 * algorithm.digest_size() && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(BlockError::RootHashDigits { algorithm, found: text.len() });
        }
        let bytes = hex::decode(text).map_err(|source| BlockError::Hex { what: "root hash", source })?;
        Self::new(algorithm, &bytes)
    }

    /// The digest's bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.size]
    }
}

impl PartialEq for RootHash {
    fn eq(&self, other: &Self) -> bool {
        let difference = self.bytes.iter().zip(&other.bytes).fold(0, |sum, (a, b)| sum | (a ^ b));
        self.size == other.size && difference == 0
    }
}

impl Eq for RootHash {}

impl Hash for RootHash {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_bytes().hash(state);
    }
}

impl fmt::Display for RootHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.as_bytes()))
    }
}

impl fmt::Debug for RootHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RootHash({self})")
    }
}

/// A value that is no block size, salt or root hash.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum BlockError {
    /// Not a power of two in range.
    #[error("block size {0} is not a power of two from 512 to 524288")]
    Size(u32),
    /// Not a number, or a huge one.
    #[error("block size {0:?} is not a power of two from 512 to 524288")]
    SizeText(String),
    /// More than [`Salt::MAX_SIZE`] bytes.
    #[error("salt of {0} bytes is too long (at most 256 bytes, 512 hexadecimal digits)")]
    SaltTooLong(usize),
    /// Text that is not hexadecimal.
    #[error("{what} is not hexadecimal: {source}")]
    Hex {
        /// Which value.
        what: &'static str,
        /// Where, and which character.
        source: hex::FromHexError,
    },
    /// Bytes that are not of the algorithm's digest size.
    #[error("root hash of {found} bytes is no {algorithm} digest, which has {} bytes", algorithm.digest_size())]
    RootHashSize {
        /// The algorithm that was asked for.
        algorithm: Algorithm,
        /// Bytes found.
        found: usize,
    },
    /// Hexadecimal text that is not of the algorithm's digest size.
    #[error(
        "root hash of {found} digits is no {algorithm} digest, which has {} digits",
        2 * algorithm.digest_size()
    )]
    RootHashDigits {
        /// The algorithm that was asked for.
        algorithm: Algorithm,
        /// Digits found.
        found: usize,
    },
}

/// Keeps an attacker's text in a message short.
fn clip(text: &str) -> String {
    text.chars().take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn block_sizes_are_powers_of_two_in_range() {
        for shift in 0..32 {
            let bytes = 1 << shift;
            assert_eq!(BlockSize::new(bytes).is_ok(), (9..=19).contains(&shift), "{bytes}");
        }
        for bytes in [0, 511, 513, 4095, 4097, 524_289, u32::MAX] {
            assert_eq!(BlockSize::new(bytes), Err(BlockError::Size(bytes)));
        }
        assert!("-1".parse::<BlockSize>().is_err());
        assert!("18446744073709551616".parse::<BlockSize>().is_err());
    }

    #[test]
    fn a_salt_has_at_most_256_bytes() {
        assert!(Salt::new(&[7; 256]).is_ok());
        assert_eq!(Salt::new(&[7; 257]), Err(BlockError::SaltTooLong(257)));
        assert_eq!("0".repeat(514).parse::<Salt>(), Err(BlockError::SaltTooLong(257)));
        assert!("abc".parse::<Salt>().is_err(), "an odd number of digits");
        assert!("0g".parse::<Salt>().is_err());
    }

    #[test]
    fn an_empty_salt_is_a_dash() {
        assert_eq!("-".parse::<Salt>(), Ok(Salt::default()));
        assert_eq!(Salt::default().to_string(), "-");
        assert_eq!("00Ff".parse::<Salt>().unwrap().to_string(), "00ff");
    }

    #[test]
    fn root_hashes_are_compared_whole() {
        let a = RootHash::new(Algorithm::Sha256, &[1; 32]).unwrap();
        for index in 0..32 {
            let mut bytes = [1; 32];
            bytes[index] ^= 0x80;
            assert_ne!(a, RootHash::new(Algorithm::Sha256, &bytes).unwrap());
        }
        // The same bytes with zeros behind them are another digest.
        let short = RootHash::new(Algorithm::Sha224, &[0; 28]).unwrap();
        assert_ne!(short, RootHash::new(Algorithm::Sha256, &[0; 32]).unwrap());
    }

    #[test]
    fn root_hash_text_is_checked() {
        let text = "0A".repeat(32);
        let root = RootHash::from_hex(Algorithm::Sha256, &text).unwrap();
        assert_eq!(root.to_string(), text.to_lowercase());
        assert!(matches!(
            RootHash::from_hex(Algorithm::Sha256, &text[1..]),
            Err(BlockError::RootHashDigits { found: 63, .. })
        ));
        assert!(matches!(RootHash::from_hex(Algorithm::Sha256, "zz"), Err(BlockError::Hex { .. })));
    }
}
