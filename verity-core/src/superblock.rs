//! The superblock, version 1: 512 little-endian bytes at the hash offset.
//!
//! Source: `lib/verity/verity.c` of cryptsetup (`struct verity_sb`).
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 8 | magic `verity\0\0` |
//! | 8 | 4 | version, 1 |
//! | 12 | 4 | hash type |
//! | 16 | 16 | UUID |
//! | 32 | 32 | algorithm, NUL padded |
//! | 64 | 4 | data block size |
//! | 68 | 4 | hash block size |
//! | 72 | 8 | data blocks |
//! | 80 | 2 | salt size |
//! | 82 | 6 | reserved |
//! | 88 | 256 | salt |
//! | 344 | 168 | reserved |
//!
//! Nothing in it is trustworthy before the tree has been checked against a root hash from elsewhere,
//! and the UUID not even then. What can be checked alone is checked here: reserved bytes and the tails of
//! text and salt are zero, as every writer leaves them.

use crate::algorithm::Algorithm;
use crate::block::{BlockError, BlockSize, Salt};
use crate::params::{HashType, Params, UnknownHashType};

const MAGIC: &[u8; 8] = b"verity\0\0";
const VERSION: u32 = 1;
const ALGORITHM: std::ops::Range<usize> = 32..64;
const SALT: std::ops::Range<usize> = 88..344;

/// A superblock's content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Superblock {
    /// The UUID, in the order in which it is printed.
    pub uuid: [u8; 16],
    /// The tree's parameters.
    pub params: Params,
    /// How many data blocks the tree covers; at least 1.
    pub data_blocks: u64,
}

impl Superblock {
    /// The size in bytes.
    pub const SIZE: usize = 512;

    /// Reads a superblock from the first 512 bytes of `bytes`.
    ///
    /// # Errors
    /// A [`SuperblockError`] that names the field and what it holds.
    pub fn parse(bytes: &[u8]) -> Result<Self, SuperblockError> {
        let Some(bytes) = bytes.first_chunk::<{ Self::SIZE }>() else {
            return Err(SuperblockError::Short(bytes.len()));
        };
        if bytes[..8] != MAGIC[..] {
            return Err(SuperblockError::Magic);
        }
        let version = u32_at(bytes, 8);
        if version != VERSION {
            return Err(SuperblockError::Version(version));
        }
        let block_size = |offset, field| {
            BlockSize::new(u32_at(bytes, offset))
                .map_err(|source| SuperblockError::BlockSize { field, source })
        };
        let data_blocks = u64::from_le_bytes(array_at(bytes, 72));
        if data_blocks == 0 {
            return Err(SuperblockError::NoDataBlocks);
        }
        let superblock = Self {
            uuid: array_at(bytes, 16),
            params: Params {
                hash_type: HashType::try_from(u32_at(bytes, 12))?,
                algorithm: parse_algorithm(&bytes[ALGORITHM])?,
                data_block_size: block_size(64, "data block size")?,
                hash_block_size: block_size(68, "hash block size")?,
                salt: parse_salt(u16::from_le_bytes(array_at(bytes, 80)), &bytes[SALT])?,
            },
            data_blocks,
        };
        for (field, range) in [("reserved bytes 82 to 87", 82..88), ("reserved bytes 344 to 511", 344..512)] {
            if bytes[range].iter().any(|&byte| byte != 0) {
                return Err(SuperblockError::NotZero(field));
            }
        }
        Ok(superblock)
    }

    /// The superblock's bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; Self::SIZE] {
        let mut bytes = [0; Self::SIZE];
        let mut put =
            |offset: usize, field: &[u8]| bytes[offset..offset + field.len()].copy_from_slice(field);
        let salt = self.params.salt.as_bytes();
        // A `Salt` has at most 256 bytes, so nothing saturates.
        let salt_size = u16::try_from(salt.len()).unwrap_or(u16::MAX);
        put(0, MAGIC);
        put(8, &VERSION.to_le_bytes());
        put(12, &self.params.hash_type.number().to_le_bytes());
        put(16, &self.uuid);
        put(ALGORITHM.start, self.params.algorithm.name().as_bytes());
        put(64, &self.params.data_block_size.get().to_le_bytes());
        put(68, &self.params.hash_block_size.get().to_le_bytes());
        put(72, &self.data_blocks.to_le_bytes());
        put(80, &salt_size.to_le_bytes());
        put(SALT.start, salt);
        bytes
    }
}

fn parse_algorithm(field: &[u8]) -> Result<Algorithm, SuperblockError> {
    let end = field.iter().position(|&byte| byte == 0).ok_or(SuperblockError::AlgorithmText)?;
    let (name, tail) = field.split_at(end);
    if tail.iter().any(|&byte| byte != 0) {
        return Err(SuperblockError::NotZero("the rest of the hash algorithm field"));
    }
    let name = std::str::from_utf8(name).map_err(|_| SuperblockError::AlgorithmText)?;
    Ok(name.parse()?)
}

fn parse_salt(size: u16, field: &[u8]) -> Result<Salt, SuperblockError> {
    let Some((salt, tail)) = field.split_at_checked(usize::from(size)) else {
        return Err(SuperblockError::SaltSize(size));
    };
    if tail.iter().any(|&byte| byte != 0) {
        return Err(SuperblockError::NotZero("the rest of the salt field"));
    }
    Salt::new(salt).map_err(|_| SuperblockError::SaltSize(size))
}

fn u32_at(bytes: &[u8; Superblock::SIZE], offset: usize) -> u32 {
    u32::from_le_bytes(array_at(bytes, offset))
}

fn array_at<const N: usize>(bytes: &[u8; Superblock::SIZE], offset: usize) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&bytes[offset..offset + N]);
    array
}

/// Bytes that are no superblock of version 1.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SuperblockError {
    /// Fewer than 512 bytes.
    #[error("superblock has {0} of 512 bytes: the file ends in it")]
    Short(usize),
    /// The magic is missing.
    #[error("no verity superblock here: the magic bytes are missing")]
    Magic,
    /// A version other than 1.
    #[error("superblock version {0} is unknown (known: 1)")]
    Version(u32),
    /// A hash type other than 0 and 1.
    #[error("superblock: {0}")]
    HashType(#[from] UnknownHashType),
    /// An algorithm that is not known.
    #[error("superblock: {0}")]
    Algorithm(#[from] crate::algorithm::UnknownAlgorithm),
    /// An algorithm field that is no NUL-terminated text.
    #[error("superblock: the hash algorithm field holds no NUL-terminated text")]
    AlgorithmText,
    /// A block size that is out of range.
    #[error("superblock: {field}: {source}")]
    BlockSize {
        /// Which of the two.
        field: &'static str,
        /// What it holds.
        source: BlockError,
    },
    /// Zero data blocks, which veritysetup takes for "the whole device".
    #[error("superblock: data blocks is 0; a tree covers at least one block")]
    NoDataBlocks,
    /// A salt size over 256.
    #[error("superblock: salt size {0} is too large (at most 256)")]
    SaltSize(u16),
    /// Bytes that every writer leaves zero.
    #[error("superblock: {0} must be zero")]
    NotZero(&'static str),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Superblock {
        Superblock {
            uuid: *b"0123456789abcdef",
            params: Params { salt: Salt::new(&[0xa5; 32]).unwrap(), ..Params::default() },
            data_blocks: 0x0102_0304_0506,
        }
    }

    #[test]
    fn what_is_written_is_read() {
        for size in [0, 1, 255, 256] {
            for algorithm in Algorithm::ALL {
                let mut superblock = example();
                superblock.params.salt = Salt::new(&vec![0xee; size]).unwrap();
                superblock.params.algorithm = algorithm;
                superblock.params.hash_type = HashType::ChromeOs;
                assert_eq!(Superblock::parse(&superblock.encode()), Ok(superblock));
            }
        }
    }

    /// A flipped bit either is refused or changes what is read: none is overlooked.
    #[test]
    fn no_flipped_bit_is_overlooked() {
        let original = example();
        let mut refused = 0;
        for bit in 0..Superblock::SIZE * 8 {
            let mut bytes = original.encode();
            bytes[bit / 8] ^= 1 << (bit % 8);
            match Superblock::parse(&bytes) {
                Ok(read) => {
                    assert_ne!(read, original, "bit {bit}");
                    let byte = bit / 8;
                    let meant = (16..32).contains(&byte) // UUID
                        || (72..80).contains(&byte) // data blocks
                        || (88..120).contains(&byte) // salt
                        || byte == 80 // salt size: a longer salt, of the zeros that follow
                        || bit == 12 * 8; // hash type 0
                    assert!(meant, "bit {bit} was taken");
                }
                Err(_) => refused += 1,
            }
        }
        // Of the salt size's low bits, the one that makes it 0 is refused: a salt lies behind it.
        assert_eq!(refused, 4096 - (16 + 8 + 32) * 8 - 7 - 1);
    }

    #[test]
    fn lying_fields_are_refused() {
        let tries: [(usize, &[u8], SuperblockError); 6] = [
            (0, b"Verity", SuperblockError::Magic),
            (8, &2u32.to_le_bytes(), SuperblockError::Version(2)),
            (12, &2u32.to_le_bytes(), SuperblockError::HashType(UnknownHashType(2))),
            (72, &[0; 8], SuperblockError::NoDataBlocks),
            (80, &257u16.to_le_bytes(), SuperblockError::SaltSize(257)),
            (32, &[b'a'; 32], SuperblockError::AlgorithmText),
        ];
        for (offset, field, expected) in tries {
            let mut bytes = example().encode();
            bytes[offset..offset + field.len()].copy_from_slice(field);
            assert_eq!(Superblock::parse(&bytes), Err(expected));
        }
        assert_eq!(Superblock::parse(&[0; 511]), Err(SuperblockError::Short(511)));
    }
}
