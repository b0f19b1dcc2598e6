//! What a tree is made with, apart from how many blocks it covers.

use std::fmt;

use crate::algorithm::Algorithm;
use crate::block::{BlockSize, Salt};

/// The two layouts of a hash block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum HashType {
    /// 0, the original Chrome OS one: digest = H(block ‖ salt), digests packed.
    ChromeOs,
    /// 1, the normal one: digest = H(salt ‖ block), each digest padded to a power of two.
    #[default]
    Normal,
}

impl HashType {
    /// The number in superblocks and tables.
    #[must_use]
    pub const fn number(self) -> u32 {
        match self {
            Self::ChromeOs => 0,
            Self::Normal => 1,
        }
    }
}

impl fmt::Display for HashType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.number().fmt(f)
    }
}

impl TryFrom<u32> for HashType {
    type Error = UnknownHashType;

    fn try_from(number: u32) -> Result<Self, Self::Error> {
        match number {
            0 => Ok(Self::ChromeOs),
            1 => Ok(Self::Normal),
            other => Err(UnknownHashType(other)),
        }
    }
}

/// A hash type that is neither 0 nor 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("hash type {0} is unknown (0 is Chrome OS's, 1 the normal one)")]
pub struct UnknownHashType(pub u32);

/// The parameters of a hash tree. The defaults are veritysetup's, with an empty salt.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Params {
    /// The layout of hash blocks.
    pub hash_type: HashType,
    /// The digest.
    pub algorithm: Algorithm,
    /// The size of the blocks that leaf digests are of.
    pub data_block_size: BlockSize,
    /// The size of the blocks that the tree is made of.
    pub hash_block_size: BlockSize,
    /// What is hashed with every block.
    pub salt: Salt,
}

impl Params {
    /// How many digests a hash block holds: the largest power of two that fits, at least 8.
    ///
    /// ```
    /// assert_eq!(verity_core::params::Params::default().digests_per_block(), 128);
    /// ```
    #[must_use]
    pub const fn digests_per_block(&self) -> u64 {
        let fitting = self.hash_block_size.bytes() / self.algorithm.digest_size();
        1 << fitting.ilog2()
    }

    /// The distance in bytes from one digest to the next in a hash block.
    #[must_use]
    pub const fn slot_size(&self) -> usize {
        let digest_size = self.algorithm.digest_size();
        match self.hash_type {
            HashType::ChromeOs => digest_size,
            HashType::Normal => digest_size.next_power_of_two(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_of_both_types() {
        let normal = Params { algorithm: Algorithm::Sha1, ..Params::default() };
        let packed = Params { hash_type: HashType::ChromeOs, ..normal.clone() };
        for (params, slot) in [(normal, 32), (packed, 20)] {
            assert_eq!((params.slot_size(), params.digests_per_block()), (slot, 128));
        }
    }

    #[test]
    fn the_smallest_fan_out_is_8() {
        for algorithm in Algorithm::ALL {
            let params = Params { algorithm, hash_block_size: BlockSize::MIN, ..Params::default() };
            assert!(params.digests_per_block() >= 8);
        }
    }
}
