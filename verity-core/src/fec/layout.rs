//! Where parity lies, and which bytes a codeword is made of.
//!
//! Source: `drivers/md/dm-verity-fec.c` of Linux and `lib/verity/verity_fec.c` of cryptsetup.
//!
//! The message is the data, then the tree from its first block on, then zeros up to a multiple of `255 - roots` blocks. It is
//! cut into `255 - roots` rows of equal length. A codeword is a column: byte `c` of each row, then `roots` bytes of parity,
//! which lie at `offset + c * roots`.

use std::fmt;
use std::str::FromStr;

use crate::block::BlockSize;
use crate::geometry::{Geometry, GeometryError};
use crate::params::Params;

/// The length of a codeword in bytes.
pub const CODEWORD: usize = 255;

/// How many parity bytes a codeword has: 2 to 24.
///
/// So many damaged bytes of a codeword can be restored where their places are known, and half as many where not.
///
/// ```
/// use verity_core::fec::Roots;
/// assert_eq!(Roots::new(2)?.message(), 253);
/// assert!(Roots::new(25).is_err());
/// # Ok::<(), verity_core::fec::LayoutError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Roots(u8);

impl Roots {
    /// The fewest.
    pub const MIN: Self = Self(2);
    /// The most.
    pub const MAX: Self = Self(24);

    /// Checks a number of parity bytes.
    ///
    /// # Errors
    /// [`LayoutError::Roots`] unless it is from 2 to 24.
    pub const fn new(roots: u64) -> Result<Self, LayoutError> {
        if roots >= Self::MIN.0 as u64 && roots <= Self::MAX.0 as u64 {
            Ok(Self(roots.to_le_bytes()[0]))
        } else {
            Err(LayoutError::Roots(roots))
        }
    }

    /// Parity bytes of a codeword.
    #[must_use]
    pub const fn get(self) -> usize {
        self.0 as usize
    }

    /// Message bytes of a codeword.
    #[must_use]
    pub const fn message(self) -> usize {
        CODEWORD - self.get()
    }
}

impl Default for Roots {
    fn default() -> Self {
        Self::MIN
    }
}

impl fmt::Display for Roots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Roots {
    type Err = LayoutError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map_err(|_| LayoutError::Roots(u64::MAX)).and_then(Self::new)
    }
}

/// The places of a device's parity.
///
/// ```
/// use verity_core::{fec::{Layout, Roots}, geometry::{Geometry, HashArea}, params::Params};
/// let params = Params::default();
/// let geometry = Geometry::new(&params, 1000, HashArea::with_superblock(0)?)?;
/// let layout = Layout::new(&params, &geometry, geometry.hash_blocks(), Roots::default(), 0)?;
/// // 1009 blocks make 4 rounds of 253, each with 2 blocks of parity.
/// assert_eq!(layout.parity_bytes(), 8 * 4096);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    roots: Roots,
    block_size: BlockSize,
    data_bytes: u64,
    hash_start: u64,
    hash_bytes: u64,
    row_bytes: u64,
    offset: u64,
}

impl Layout {
    /// Lays out parity at byte `offset` of the FEC device, over the data and `hash_blocks` hash blocks from the tree's first one on:
    /// at least the tree, more where a device holds more behind it.
    ///
    /// # Errors
    /// [`LayoutError`]: block sizes that differ, an offset that the kernel cannot be told, fewer hash blocks than the tree has, or
    /// positions beyond 2^63 bytes.
    pub fn new(
        params: &Params,
        geometry: &Geometry,
        hash_blocks: u64,
        roots: Roots,
        offset: u64,
    ) -> Result<Self, LayoutError> {
        let block_size = params.data_block_size;
        if block_size != params.hash_block_size {
            return Err(LayoutError::BlockSizes { data: block_size, hash: params.hash_block_size });
        }
        let bytes = block_size.as_u64();
        if !offset.is_multiple_of(bytes) {
            return Err(LayoutError::Unaligned { offset, block_size });
        }
        if hash_blocks < geometry.hash_blocks() {
            return Err(LayoutError::HashBlocks { given: hash_blocks, needed: geometry.hash_blocks() });
        }
        let checked = |blocks: u64| blocks.checked_mul(bytes).filter(|&end| i64::try_from(end).is_ok());
        let hash_end = geometry.hash_start_block().checked_add(hash_blocks).and_then(checked);
        hash_end.ok_or(LayoutError::TooLarge)?;
        let blocks = geometry.data_blocks().checked_add(hash_blocks).ok_or(LayoutError::TooLarge)?;
        checked(blocks).ok_or(LayoutError::TooLarge)?;
        let rounds = blocks.div_ceil(roots.message() as u64);
        let layout = Self {
            roots,
            block_size,
            data_bytes: geometry.data_bytes(),
            hash_start: geometry.hash_start_block() * bytes,
            hash_bytes: hash_blocks * bytes,
            row_bytes: rounds * bytes,
            offset,
        };
        // 255 rows of a codeword hold no more than twice the message, and one round more.
        let parity_end =
            layout.row_bytes.checked_mul(roots.get() as u64).and_then(|end| end.checked_add(offset));
        match parity_end {
            Some(end) if i64::try_from(end).is_ok() => Ok(layout),
            _ => Err(LayoutError::TooLarge),
        }
    }

    /// Checks that this was laid out for parameters and a geometry like these.
    ///
    /// # Errors
    /// [`GeometryError::OtherParams`].
    pub fn check_geometry(&self, params: &Params, geometry: &Geometry) -> Result<(), GeometryError> {
        geometry.check_params(params)?;
        let hash_start = geometry.hash_start_block() * params.hash_block_size.as_u64();
        let same = (self.block_size, self.block_size, self.data_bytes, self.hash_start)
            == (params.data_block_size, params.hash_block_size, geometry.data_bytes(), hash_start)
            && self.hash_bytes >= geometry.hash_blocks() * self.block_size.as_u64();
        if same { Ok(()) } else { Err(GeometryError::OtherParams) }
    }

    /// Parity bytes of a codeword.
    #[must_use]
    pub const fn roots(&self) -> Roots {
        self.roots
    }

    /// The size of data blocks, hash blocks and parity blocks.
    #[must_use]
    pub const fn block_size(&self) -> BlockSize {
        self.block_size
    }

    /// The number of codewords, which is the length of a row in bytes.
    #[must_use]
    pub const fn codewords(&self) -> u64 {
        self.row_bytes
    }

    /// The number of rounds: blocks in a row. A block's round is its number in the message modulo this.
    #[must_use]
    pub const fn rounds(&self) -> u64 {
        self.row_bytes / self.block_size.as_u64()
    }

    /// Blocks that the parity covers, as the kernel's table takes it (`fec_blocks`).
    #[must_use]
    pub const fn covered_blocks(&self) -> u64 {
        (self.data_bytes + self.hash_bytes) / self.block_size.as_u64()
    }

    /// The parity's first byte on its device.
    #[must_use]
    pub const fn offset(&self) -> u64 {
        self.offset
    }

    /// How many bytes of parity there are.
    #[must_use]
    pub const fn parity_bytes(&self) -> u64 {
        self.row_bytes * self.roots.get() as u64
    }

    /// Bytes of data.
    #[must_use]
    pub const fn data_bytes(&self) -> u64 {
        self.data_bytes
    }

    /// Bytes of the hash device that are covered.
    #[must_use]
    pub const fn hash_bytes(&self) -> u64 {
        self.hash_bytes
    }

    /// The first byte of the hash device that is covered: that of the tree.
    #[must_use]
    pub const fn hash_start(&self) -> u64 {
        self.hash_start
    }
}

/// Parity that cannot be laid out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LayoutError {
    /// A number of parity bytes that is not from 2 to 24.
    #[error("FEC roots {0} is not from 2 to 24")]
    Roots(u64),
    /// Data and hash blocks of different sizes.
    #[error("error correction needs data and hash blocks of one size, not {data} and {hash}")]
    BlockSizes {
        /// The data block size.
        data: BlockSize,
        /// The hash block size.
        hash: BlockSize,
    },
    /// An offset inside a block: the kernel counts in blocks, and would look elsewhere.
    #[error("FEC offset {offset} is not a multiple of the block size {block_size}")]
    Unaligned {
        /// The offset in bytes.
        offset: u64,
        /// The block size.
        block_size: BlockSize,
    },
    /// Not even the tree is covered.
    #[error("error correction over {given} hash blocks does not cover the tree, which has {needed}")]
    HashBlocks {
        /// Blocks given.
        given: u64,
        /// Blocks of the tree.
        needed: u64,
    },
    /// A position beyond what a file offset can express.
    #[error("the parity would pass 2^63 bytes: data blocks or FEC offset is too large")]
    TooLarge,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::HashArea;

    #[test]
    fn roots_are_2_to_24() {
        for roots in [0, 1, 25, 256, 258, u64::MAX] {
            assert_eq!(Roots::new(roots), Err(LayoutError::Roots(roots)));
        }
        assert_eq!("24".parse(), Ok(Roots::MAX));
        assert_eq!(Roots::MAX.get(), 24);
    }

    #[test]
    fn what_cannot_be_laid_out_is_named() {
        let params = Params::default();
        let geometry = Geometry::new(&params, 1000, HashArea::with_superblock(0).unwrap()).unwrap();
        let hash_blocks = geometry.hash_blocks();
        let error = |params: &Params, blocks, offset| {
            Layout::new(params, &geometry, blocks, Roots::MIN, offset).unwrap_err()
        };
        let other = Params { hash_block_size: BlockSize::MIN, ..params.clone() };
        assert!(matches!(error(&other, hash_blocks, 0), LayoutError::BlockSizes { .. }));
        assert!(matches!(error(&params, hash_blocks, 512), LayoutError::Unaligned { offset: 512, .. }));
        assert!(matches!(
            error(&params, hash_blocks - 1, 0),
            LayoutError::HashBlocks { given: 8, needed: 9 }
        ));
        for blocks in [1 << 51, u64::MAX / 4096, u64::MAX] {
            assert_eq!(error(&params, blocks, 0), LayoutError::TooLarge, "{blocks}");
        }
        assert_eq!(error(&params, hash_blocks, (1 << 63) - 4096), LayoutError::TooLarge);
    }
}
