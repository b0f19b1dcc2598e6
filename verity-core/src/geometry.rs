//! Where everything lies: the levels of a tree and their places in the hash device.
//!
//! Levels are contiguous, root level first, leaf level last. All arithmetic is checked: block counts and
//! offsets come from superblocks, and no position may pass what a file offset can express.

use crate::params::Params;
use crate::superblock::Superblock;

/// The deepest tree that the kernel takes (`DM_VERITY_MAX_LEVELS`).
pub const MAX_LEVELS: usize = 63;

/// File offsets are signed 64-bit numbers in every system call.
pub(crate) const MAX_OFFSET: u64 = i64::MAX as u64;

/// Where on the hash device a tree begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashArea {
    offset: u64,
    superblock: bool,
}

impl HashArea {
    /// A superblock at `offset` bytes (a multiple of 512), the tree at the next hash block behind it.
    ///
    /// # Errors
    /// [`GeometryError::Unaligned`].
    pub const fn with_superblock(offset: u64) -> Result<Self, GeometryError> {
        if !offset.is_multiple_of(512) {
            return Err(GeometryError::Unaligned { offset, alignment: 512 });
        }
        Ok(Self { offset, superblock: true })
    }

    /// No superblock: the tree begins at `offset` bytes, which [`Geometry::new`] requires to be a
    /// multiple of the hash block size.
    #[must_use]
    pub const fn bare(offset: u64) -> Self {
        Self { offset, superblock: false }
    }

    /// The first byte that belongs to the hash area.
    #[must_use]
    pub const fn offset(self) -> u64 {
        self.offset
    }

    /// Whether a superblock lies at the offset.
    #[must_use]
    pub const fn has_superblock(self) -> bool {
        self.superblock
    }

    fn first_tree_block(self, hash_block_size: u64) -> Result<u64, GeometryError> {
        if self.superblock {
            let end = self.offset.checked_add(Superblock::SIZE as u64).ok_or(GeometryError::TooLarge)?;
            Ok(end.div_ceil(hash_block_size))
        } else if self.offset.is_multiple_of(hash_block_size) {
            Ok(self.offset / hash_block_size)
        } else {
            Err(GeometryError::Unaligned { offset: self.offset, alignment: hash_block_size })
        }
    }
}

/// One level of a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level {
    /// The level's first hash block, counted in hash blocks from the start of the hash device.
    pub first_block: u64,
    /// How many hash blocks it has.
    pub blocks: u64,
}

/// The places of a tree's blocks.
///
/// ```
/// use verity_core::{geometry::{Geometry, HashArea}, params::Params};
/// // 1 GiB in blocks of 4096 bytes: 128 digests a block, so 2048 leaf blocks, then 16, then 1.
/// let geometry = Geometry::new(&Params::default(), 262_144, HashArea::with_superblock(0)?)?;
/// let blocks: Vec<u64> = geometry.levels().iter().map(|level| level.blocks).collect();
/// assert_eq!(blocks, [2048, 16, 1]);
/// assert_eq!(geometry.levels()[2].first_block, 1);
/// # Ok::<(), verity_core::geometry::GeometryError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Geometry {
    area: HashArea,
    data_blocks: u64,
    data_block_size: u64,
    hash_block_size: u64,
    digests_per_block: u64,
    first_tree_block: u64,
    hash_blocks: u64,
    levels: Vec<Level>,
}

impl Geometry {
    /// Lays out a tree over `data_blocks` blocks.
    ///
    /// # Errors
    /// A [`GeometryError`] if there is no block, the area is unaligned, or a position would pass 2^63 bytes.
    pub fn new(params: &Params, data_blocks: u64, area: HashArea) -> Result<Self, GeometryError> {
        if data_blocks == 0 {
            return Err(GeometryError::NoDataBlocks);
        }
        let data_block_size = params.data_block_size.as_u64();
        let hash_block_size = params.hash_block_size.as_u64();
        bytes(data_blocks, data_block_size)?;

        let digests_per_block = params.digests_per_block();
        let mut counts = Vec::new();
        let mut blocks = data_blocks;
        while blocks > 1 {
            blocks = blocks.div_ceil(digests_per_block);
            counts.push(blocks);
        }
        if counts.len() > MAX_LEVELS {
            return Err(GeometryError::TooLarge);
        }

        let first_tree_block = area.first_tree_block(hash_block_size)?;
        let mut next = first_tree_block;
        let mut levels = Vec::with_capacity(counts.len());
        for &blocks in counts.iter().rev() {
            levels.push(Level { first_block: next, blocks });
            next = next.checked_add(blocks).ok_or(GeometryError::TooLarge)?;
        }
        levels.reverse();
        bytes(next, hash_block_size)?;

        Ok(Self {
            area,
            data_blocks,
            data_block_size,
            hash_block_size,
            digests_per_block,
            first_tree_block,
            hash_blocks: next - first_tree_block,
            levels,
        })
    }

    /// Checks that this was laid out for parameters like these: for their block sizes, and for digests of their size.
    ///
    /// Whoever is given a geometry and parameters asks, since every position would be wrong otherwise.
    ///
    /// # Errors
    /// [`GeometryError::OtherParams`].
    pub const fn check_params(&self, params: &Params) -> Result<(), GeometryError> {
        if self.data_block_size == params.data_block_size.as_u64()
            && self.hash_block_size == params.hash_block_size.as_u64()
            && self.digests_per_block == params.digests_per_block()
        {
            Ok(())
        } else {
            Err(GeometryError::OtherParams)
        }
    }

    /// The hash area that this was made for.
    #[must_use]
    pub const fn area(&self) -> HashArea {
        self.area
    }

    /// How many data blocks the tree covers.
    #[must_use]
    pub const fn data_blocks(&self) -> u64 {
        self.data_blocks
    }

    /// How many bytes of data the tree covers.
    #[must_use]
    pub const fn data_bytes(&self) -> u64 {
        self.data_blocks * self.data_block_size
    }

    /// How many hash blocks the tree has; 0 over a single data block.
    #[must_use]
    pub const fn hash_blocks(&self) -> u64 {
        self.hash_blocks
    }

    /// The tree's first block, counted in hash blocks from the start of the hash device, as the
    /// kernel's table takes it.
    #[must_use]
    pub const fn hash_start_block(&self) -> u64 {
        self.first_tree_block
    }

    /// The byte behind the hash area: of the tree, or of the superblock where there is no tree.
    ///
    /// veritysetup pads the superblock to a whole hash block, and so does this.
    #[must_use]
    pub const fn hash_area_end(&self) -> u64 {
        (self.first_tree_block + self.hash_blocks) * self.hash_block_size
    }

    /// The levels: 0 holds the digests of data blocks, the last one is the top block.
    #[must_use]
    pub fn levels(&self) -> &[Level] {
        &self.levels
    }

    /// How many digests a hash block holds.
    pub(crate) const fn digests_per_block(&self) -> u64 {
        self.digests_per_block
    }

    /// How many digests a level holds: one for each block of the level below, or of the data.
    ///
    /// # Panics
    /// If there is no such level.
    #[must_use]
    pub fn digests_in(&self, level: usize) -> u64 {
        match level.checked_sub(1) {
            None => self.data_blocks,
            Some(below) => self.levels[below].blocks,
        }
    }

    /// The byte offset on the hash device of block `index` of `level`.
    ///
    /// # Panics
    /// If there is no such level.
    #[must_use]
    pub fn hash_block_offset(&self, level: usize, index: u64) -> u64 {
        (self.levels[level].first_block + index) * self.hash_block_size
    }

    /// Checks that data and hash area, both in one file, do not overlap.
    ///
    /// # Errors
    /// [`GeometryError::Overlap`].
    pub const fn check_shared_file(&self) -> Result<(), GeometryError> {
        if self.area.offset < self.data_bytes() {
            return Err(GeometryError::Overlap {
                hash_offset: self.area.offset,
                data_bytes: self.data_bytes(),
            });
        }
        Ok(())
    }
}

fn bytes(blocks: u64, block_size: u64) -> Result<u64, GeometryError> {
    blocks.checked_mul(block_size).filter(|&bytes| bytes <= MAX_OFFSET).ok_or(GeometryError::TooLarge)
}

/// A tree that cannot be laid out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GeometryError {
    /// No data.
    #[error("data blocks is 0: a tree covers at least one whole block")]
    NoDataBlocks,
    /// A hash offset that no tree can begin at.
    #[error("hash offset {offset} is not a multiple of {alignment}")]
    Unaligned {
        /// The offset in bytes.
        offset: u64,
        /// What it has to be a multiple of, in bytes.
        alignment: u64,
    },
    /// A position beyond what a file offset can express.
    #[error("the tree would pass 2^63 bytes: data blocks or hash offset is too large")]
    TooLarge,
    /// A geometry and parameters that do not belong together.
    #[error(
        "the tree was laid out for other block sizes, or digests of another size, than the parameters have"
    )]
    OtherParams,
    /// Data and tree in one file, on top of each other.
    #[error(
        "hash offset {hash_offset} lies inside the data, which ends at byte {data_bytes} of the same file"
    )]
    Overlap {
        /// The hash area's first byte.
        hash_offset: u64,
        /// The byte behind the data.
        data_bytes: u64,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::BlockSize;

    fn counts(params: &Params, data_blocks: u64) -> Vec<u64> {
        let area = HashArea::with_superblock(0).unwrap();
        let geometry = Geometry::new(params, data_blocks, area).unwrap();
        geometry.levels().iter().map(|level| level.blocks).collect()
    }

    #[test]
    fn level_sizes_at_the_edges() {
        let params = Params::default();
        assert_eq!(counts(&params, 1), [0; 0]);
        assert_eq!(counts(&params, 2), [1]);
        assert_eq!(counts(&params, 127), [1]);
        assert_eq!(counts(&params, 128), [1]);
        assert_eq!(counts(&params, 129), [2, 1]);
        assert_eq!(counts(&params, 128 * 128), [128, 1]);
        assert_eq!(counts(&params, 128 * 128 + 1), [129, 2, 1]);
    }

    #[test]
    fn more_than_16_tib_by_arithmetic() {
        // 17 TiB in blocks of 4096 bytes: more than 2^32 of them.
        let blocks = 17 << 28;
        assert_eq!(counts(&Params::default(), blocks), [35_651_584, 278_528, 2176, 17, 1]);
        let small =
            Params { data_block_size: BlockSize::MIN, hash_block_size: BlockSize::MIN, ..Params::default() };
        assert_eq!(counts(&small, 17 << 31).len(), 9);
        assert_eq!(counts(&small, 17 << 31)[0], 17 << 27);
    }

    #[test]
    fn nothing_passes_63_bits() {
        let area = HashArea::with_superblock(0).unwrap();
        let most = MAX_OFFSET / 4096;
        assert!(Geometry::new(&Params::default(), most, area).is_ok());
        for blocks in [most + 1, u64::MAX / 4096, u64::MAX / 4096 + 1, u64::MAX - 1, u64::MAX] {
            assert_eq!(
                Geometry::new(&Params::default(), blocks, area),
                Err(GeometryError::TooLarge),
                "{blocks}"
            );
        }
        for offset in [MAX_OFFSET - 511, u64::MAX - 511] {
            let area = HashArea::with_superblock(offset).unwrap();
            assert_eq!(Geometry::new(&Params::default(), 2, area), Err(GeometryError::TooLarge));
        }
    }

    #[test]
    fn the_tree_begins_behind_the_superblock() {
        let small = Params { hash_block_size: BlockSize::MIN, ..Params::default() };
        for (params, offset, expected) in [
            (&Params::default(), 0, 1),
            (&small, 0, 1),
            (&Params::default(), 3584, 1),
            (&Params::default(), 4096, 2),
        ] {
            let area = HashArea::with_superblock(offset).unwrap();
            assert_eq!(Geometry::new(params, 2, area).unwrap().hash_start_block(), expected, "{offset}");
        }
        assert!(HashArea::with_superblock(100).is_err());
    }

    #[test]
    fn without_a_superblock_the_offset_is_a_whole_block() {
        let params = Params::default();
        assert_eq!(Geometry::new(&params, 2, HashArea::bare(8192)).unwrap().hash_start_block(), 2);
        assert_eq!(
            Geometry::new(&params, 2, HashArea::bare(512)),
            Err(GeometryError::Unaligned { offset: 512, alignment: 4096 })
        );
    }

    #[test]
    fn a_geometry_is_for_its_parameters_alone() {
        let params = Params::default();
        let geometry = Geometry::new(&params, 10, HashArea::bare(0)).unwrap();
        let salted = Params { salt: crate::block::Salt::new(b"salt").unwrap(), ..params.clone() };
        assert_eq!(geometry.check_params(&salted), Ok(()));
        for other in [
            Params { data_block_size: BlockSize::MIN, ..params.clone() },
            Params { hash_block_size: BlockSize::MIN, ..params.clone() },
            Params { algorithm: crate::algorithm::Algorithm::Sha512, ..params.clone() },
        ] {
            assert_eq!(geometry.check_params(&other), Err(GeometryError::OtherParams));
        }
    }

    #[test]
    fn data_and_tree_in_one_file_do_not_overlap() {
        let params = Params::default();
        let geometry =
            |offset| Geometry::new(&params, 10, HashArea::with_superblock(offset).unwrap()).unwrap();
        assert!(geometry(40_960).check_shared_file().is_ok());
        assert!(geometry(40_448).check_shared_file().is_err());
    }
}
