//! From the tree's way of counting blocks to the parity's, and back.

use std::ops::Range;

use super::bad::{self, Key};
use crate::fec::Layout;
use crate::geometry::Geometry;
use crate::tree::{Device, Place, Runs};

/// A block that was restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// Data, or which level.
    pub place: Place,
    /// The block, counted in its level or in the data.
    pub block: u64,
    /// Where it lies on the data device or the hash device.
    pub bytes: Range<u64>,
}

/// A block, as the tree counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Block {
    /// The level that has its digest: the number of levels for the top block.
    pub(super) level: usize,
    /// Its number in the level below that, or in the data.
    pub(super) index: u64,
    pub(super) device: Device,
    /// In bytes.
    pub(super) offset: u64,
}

impl Block {
    pub(super) fn place(&self) -> Place {
        self.level.checked_sub(1).map_or(Place::Data, |level| Place::Hash { level })
    }
}

/// Both ways of counting.
#[derive(Clone, Copy)]
pub(super) struct Map<'a> {
    geometry: &'a Geometry,
    layout: &'a Layout,
}

impl<'a> Map<'a> {
    pub(super) fn new(geometry: &'a Geometry, layout: &'a Layout) -> Self {
        Self { geometry, layout }
    }

    /// The key of a block of the tree or the data.
    pub(super) fn key(&self, place: Place, index: u64) -> Key {
        let block = match place {
            Place::Data => index,
            Place::Hash { level } => {
                let in_tree = self.geometry.levels()[level].first_block - self.geometry.hash_start_block();
                self.geometry.data_blocks() + in_tree + index
            }
        };
        bad::key(block % self.layout.rounds(), block / self.layout.rounds())
    }

    /// The block of a key that this made.
    pub(super) fn block(&self, key: Key) -> Block {
        let block = bad::round(key) + bad::row(key) * self.layout.rounds();
        let size = self.layout.block_size().as_u64();
        let Some(in_tree) = block.checked_sub(self.geometry.data_blocks()) else {
            return Block { level: 0, index: block, device: Device::Data, offset: block * size };
        };
        let on_device = self.geometry.hash_start_block() + in_tree;
        // The root level comes first.
        let levels = self.geometry.levels();
        let level = levels.iter().position(|level| level.first_block <= on_device).unwrap_or(0);
        let index = on_device - levels[level].first_block;
        Block { level: level + 1, index, device: Device::Hash, offset: on_device * size }
    }

    /// Whether a block is among the children in `runs`, a set for each level.
    pub(super) fn is_in(&self, key: Key, runs: &[Runs]) -> bool {
        let block = self.block(key);
        runs.get(block.level).is_some_and(|runs| runs.contains(block.index))
    }

    /// What can be judged now that these were restored: for each level, which children. `None` if no hash block is among them.
    pub(super) fn below(&self, restored: &[Key]) -> Option<Vec<Runs>> {
        let per_block = self.geometry.digests_per_block();
        let children = |blocks: Range<u64>| blocks.start * per_block..blocks.end * per_block;
        let mut ranges: Vec<Vec<Range<u64>>> = vec![Vec::new(); self.geometry.levels().len()];
        for block in restored.iter().map(|&key| self.block(key)) {
            if let Some(own) = block.level.checked_sub(1) {
                ranges[own].push(children(block.index..block.index + 1));
            }
        }
        if ranges.iter().all(Vec::is_empty) {
            return None;
        }
        let mut runs: Vec<Runs> = Vec::new();
        for level in (0..ranges.len()).rev() {
            let above = runs.last().cloned().unwrap_or_default().into_ranges().map(children);
            let own = std::mem::take(&mut ranges[level]).into_iter().chain(above);
            runs.push(Runs::from_ranges(own, self.geometry.digests_in(level)));
        }
        runs.reverse();
        Some(runs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::BlockSize;
    use crate::fec::Roots;
    use crate::geometry::HashArea;
    use crate::params::Params;

    fn params() -> Params {
        Params { data_block_size: BlockSize::MIN, hash_block_size: BlockSize::MIN, ..Params::default() }
    }

    #[test]
    fn every_block_has_a_key_of_its_own_and_is_found_by_it() {
        let area = HashArea::with_superblock(0).unwrap();
        let geometry = Geometry::new(&params(), 300, area).unwrap();
        let layout = Layout::new(&params(), &geometry, geometry.hash_blocks() + 3, Roots::MAX, 0).unwrap();
        let map = Map::new(&geometry, &layout);
        let mut keys = Vec::new();
        let mut check = |place: Place, index: u64, offset: u64| {
            let key = map.key(place, index);
            let block = map.block(key);
            assert_eq!((block.place(), block.index, block.offset), (place, index, offset));
            keys.push(key);
        };
        (0..300).for_each(|index| check(Place::Data, index, index * 512));
        for (level, blocks) in geometry.levels().iter().map(|level| level.blocks).enumerate() {
            (0..blocks).for_each(|index| {
                check(Place::Hash { level }, index, geometry.hash_block_offset(level, index));
            });
        }
        let all = keys.len();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), all);
    }

    #[test]
    fn below_a_restored_hash_block_is_everything_down_to_the_data() {
        // 300 data blocks under 19 under 2 under 1.
        let geometry = Geometry::new(&params(), 300, HashArea::bare(0)).unwrap();
        let layout = Layout::new(&params(), &geometry, geometry.hash_blocks(), Roots::MIN, 0).unwrap();
        let map = Map::new(&geometry, &layout);
        let below = |keys: &[Key]| map.below(keys);
        let all = |counts: [u64; 3]| Some(counts.map(Runs::all).to_vec());
        assert_eq!(below(&[map.key(Place::Data, 5)]), None);
        assert_eq!(below(&[map.key(Place::Hash { level: 2 }, 0)]), all([300, 19, 2]));
        let part = |range, count| Runs::from_ranges(std::iter::once(range), count);
        let second = map.key(Place::Hash { level: 1 }, 1);
        assert_eq!(below(&[second]), Some(vec![part(256..300, 300), part(16..19, 19), Runs::all(0)]));
    }
}
