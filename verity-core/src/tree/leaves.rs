//! The leaf level of a tree whose data are hashed while they are written, in whatever order, before it is known how many there will be.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use super::build::{Builder, write};
use super::known::LevelHasher;
use super::level::Slots;
use super::runs::Runs;
use super::{Device, Error, Options};
use crate::algorithm::Algorithm;
use crate::block::RootHash;
use crate::digest::BlockHasher;
use crate::geometry::Geometry;
use crate::io::{ReadAt, Storage, usize_of};
use crate::params::Params;
use crate::progress::Phase;

/// How many bytes of leaves are kept: those of 4 GiB of data, with the default parameters.
const MOST_BYTES: usize = 32 << 20;

/// Leaves in memory, until it is known where they belong. What there is no room for is hashed at the end, as it would be without them.
pub(crate) struct Leaves {
    hasher: BlockHasher,
    params: Params,
    slots: Slots,
    /// How many bytes may still be kept.
    room: AtomicUsize,
    kept: Mutex<Vec<Kept>>,
}

/// The leaves of some consecutive blocks, as they lie in the leaf level.
struct Kept {
    first: u64,
    count: u64,
    slots: Vec<u8>,
}

impl Leaves {
    /// None yet.
    pub(crate) fn new(params: &Params) -> Self {
        Self::with_room(params, MOST_BYTES)
    }

    fn with_room(params: &Params, room: usize) -> Self {
        Self {
            hasher: BlockHasher::new(params),
            params: params.clone(),
            slots: Slots::of(params),
            room: AtomicUsize::new(room),
            kept: Mutex::default(),
        }
    }

    /// What a thread needs to hash, made once for each.
    pub(crate) fn hasher(&self) -> LevelHasher<'_> {
        LevelHasher::new(&self.hasher, 0, &self.params)
    }

    /// What digests are made with that may be taken as they are: SHA-256's, which fill the level without gaps.
    pub(crate) fn for_digests(&self) -> Option<&Params> {
        (self.params.algorithm == Algorithm::Sha256).then_some(&self.params)
    }

    /// Takes whole data blocks, `first` and those after it, and hashes those of which there are no `digests` yet, unless there is no room for their
    /// leaves. Each block may come once, and must not change afterwards.
    pub(crate) fn take(&self, hasher: &LevelHasher<'_>, first: u64, blocks: &[u8], digests: Vec<u8>) {
        let known = digests.len() / self.hasher.digest_size();
        let rest = &blocks[known * self.params.data_block_size.bytes()..];
        if known > 0 && self.reserve(digests.len()) {
            self.keep(Kept { first, count: known as u64, slots: digests });
        }
        let first = first + known as u64;
        let count = (rest.len() / self.params.data_block_size.bytes()) as u64;
        // Which block is the last is not known yet: what is behind it counts as zeros, and is not kept.
        let region = self.slots.region(&(first..first + count), u64::MAX);
        let length = usize_of(region.end - region.start);
        if count > 0 && self.reserve(length) {
            let mut slots = vec![0; length];
            self.slots.fill(hasher, rest, first, &mut slots, region.start);
            self.keep(Kept { first, count, slots });
        }
    }

    /// Takes some of the room, if there is so much.
    fn reserve(&self, length: usize) -> bool {
        let take = |room: usize| room.checked_sub(length);
        self.room.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }

    fn keep(&self, kept: Kept) {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).push(kept);
    }

    /// Builds the tree over `data`, which has `geometry` now, into `hash`: as [`build`](super::build()), which hashes all of it. The observer hears of
    /// what was not hashed yet.
    pub(crate) fn build(
        self,
        data: &dyn ReadAt,
        hash: &dyn Storage,
        geometry: &Geometry,
        options: &Options<'_>,
    ) -> Result<RootHash, Error> {
        let Self { hasher, params, slots, kept, .. } = self;
        geometry.check_params(&params)?;
        let builder = Builder { data, hash, params: &params, geometry, hasher: &hasher, options };
        // A single block has no level: it is read again.
        if !geometry.levels().is_empty() {
            let blocks = geometry.data_blocks();
            let mut kept = kept.into_inner().unwrap_or_else(PoisonError::into_inner);
            kept.sort_unstable_by_key(|kept| kept.first);
            let missing = missing(&kept, blocks);
            if missing.len() > 0 {
                options.observer.begin(Phase::Build, Some(missing.len() * params.data_block_size.as_u64()));
                builder.build_level(0, &missing)?;
            }
            let start = geometry.hash_block_offset(0, 0);
            for Kept { first, count, slots: mut leaves } in kept {
                if options.observer.cancelled() {
                    return Err(Error::Cancelled);
                }
                // Behind the last one is a block's rest, of zeros.
                let region = slots.region(&(first..first + count), blocks);
                leaves.resize(usize_of(region.end - region.start), 0);
                write(hash, Device::Hash, &leaves, start + region.start)?;
            }
        }
        builder.build_upper_levels()
    }
}

/// The blocks whose leaves were not kept.
fn missing(kept: &[Kept], blocks: u64) -> Runs {
    let mut end = 0;
    let mut gaps = Vec::new();
    for Kept { first, count, .. } in kept {
        gaps.push(end..*first);
        end = first + count;
    }
    gaps.push(end..blocks);
    Runs::from_ranges(gaps.into_iter(), blocks)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::{BlockSize, Salt};
    use crate::geometry::HashArea;
    use crate::io::MemoryDevice;
    use crate::tree;

    /// Whatever is hashed before, in whatever order and pieces, the tree is the one that is built afterwards.
    #[test]
    fn a_tree_of_leaves_is_the_tree() {
        for (algorithm, block_size) in
            [(Algorithm::Sha256, 512), (Algorithm::Sha1, 512), (Algorithm::Sha512, 4096)]
        {
            let block_size = BlockSize::new(block_size).unwrap();
            let params = Params {
                algorithm,
                data_block_size: block_size,
                hash_block_size: block_size,
                salt: Salt::new(b"salt").unwrap(),
                ..Params::default()
            };
            let per_block = params.digests_per_block();
            for blocks in [1, 2, per_block, per_block + 1, 3 * per_block - 1, per_block * per_block + 1] {
                let length = usize_of(blocks * block_size.as_u64());
                let data: Vec<u8> = (0..length).map(|at| ((at / 100) % 251).to_le_bytes()[0]).collect();
                let geometry = Geometry::new(&params, blocks, HashArea::bare(0)).unwrap();
                let options = Options::default();
                let expected = MemoryDevice::default();
                let root = tree::build(&data, &expected, &params, &geometry, &options).unwrap();
                let expected = expected.into_bytes();
                for (piece, room) in [(1, usize::MAX), (5, usize::MAX), (7, 1000), (3, 0)] {
                    let leaves = Leaves::with_room(&params, room);
                    let mut pieces: Vec<u64> = (0..blocks).step_by(piece).collect();
                    pieces.rotate_left(1);
                    for first in pieces {
                        let end = blocks.min(first + piece as u64);
                        let bytes = first * block_size.as_u64()..end * block_size.as_u64();
                        let bytes = &data[usize_of(bytes.start)..usize_of(bytes.end)];
                        // The digests of half of them are known, or of all.
                        let known = if piece == 5 { piece / 2 } else { piece } * block_size.bytes();
                        let mut digests = Vec::new();
                        if let Some(params) = leaves.for_digests() {
                            for block in bytes[..known.min(bytes.len())].chunks(block_size.bytes()) {
                                digests
                                    .extend_from_slice(BlockHasher::new(params).hash_block(block).as_bytes());
                            }
                        }
                        leaves.take(&leaves.hasher(), first, bytes, digests);
                    }
                    let hash = MemoryDevice::default();
                    assert_eq!(leaves.build(&data, &hash, &geometry, &options).unwrap(), root);
                    assert!(hash.into_bytes() == expected, "{algorithm} {blocks} {piece} {room}");
                }
            }
        }
    }
}
