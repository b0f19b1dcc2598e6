//! A small tree to damage, and an oracle that is too simple to be wrong.
#![allow(dead_code)] // Each test file uses its part.

use verity_core::block::{BlockSize, RootHash, Salt};
use verity_core::digest::BlockHasher;
use verity_core::geometry::{Geometry, HashArea};
use verity_core::io::MemoryDevice;
use verity_core::params::Params;
use verity_core::tree::{self, Options, Report};

/// A built tree with its data, both in memory.
pub(crate) struct Fixture {
    pub(crate) params: Params,
    pub(crate) geometry: Geometry,
    pub(crate) data: Vec<u8>,
    pub(crate) hash: Vec<u8>,
    pub(crate) root: RootHash,
}

impl Fixture {
    pub(crate) fn new(params: &Params, data_blocks: u64) -> Self {
        let area = HashArea::with_superblock(0).unwrap();
        let geometry = Geometry::new(params, data_blocks, area).unwrap();
        let data = noise(usize::try_from(geometry.data_bytes()).unwrap());
        let hash = MemoryDevice::default();
        let root = tree::build(&data, &hash, params, &geometry, &Options::default()).unwrap();
        Self { params: params.clone(), geometry, data, hash: hash.into_bytes(), root }
    }

    /// Blocks of 512 bytes, 16 digests a block: three levels from 257 blocks on.
    pub(crate) fn small(data_blocks: u64) -> Self {
        Self::new(&small_params(), data_blocks)
    }

    pub(crate) fn verify(&self) -> Report {
        let options = Options::default();
        tree::verify(&self.data, &self.hash, &self.params, &self.geometry, &self.root, &options).unwrap()
    }
}

pub(crate) fn small_params() -> Params {
    Params {
        data_block_size: BlockSize::MIN,
        hash_block_size: BlockSize::MIN,
        salt: Salt::new(b"salt").unwrap(),
        ..Params::default()
    }
}

/// Bytes that look random and are the same each time (xorshift64).
pub(crate) fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut data = Vec::with_capacity(bytes + 8);
    while data.len() < bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        data.extend_from_slice(&state.to_le_bytes());
    }
    data.truncate(bytes);
    // No room behind the end in which a sanitizer would not see a read.
    data.shrink_to_fit();
    data
}

/// The levels of a tree, leaf level first, and its root hash: in memory, by the definition.
pub(crate) fn naive_tree(params: &Params, data: &[u8]) -> (Vec<Vec<u8>>, RootHash) {
    let hasher = BlockHasher::new(params);
    let per_block = usize::try_from(params.digests_per_block()).unwrap();
    let mut blocks: Vec<Vec<u8>> = data.chunks(params.data_block_size.bytes()).map(<[u8]>::to_vec).collect();
    let mut levels = Vec::new();
    while blocks.len() > 1 {
        blocks = blocks
            .chunks(per_block)
            .map(|children| {
                let mut block = Vec::new();
                for child in children {
                    let mut slot = hasher.hash_block(child).as_bytes().to_vec();
                    slot.resize(params.slot_size(), 0);
                    block.extend(slot);
                }
                block.resize(params.hash_block_size.bytes(), 0);
                block
            })
            .collect();
        levels.push(blocks.concat());
    }
    (levels, hasher.hash_block(&blocks[0]))
}

/// The data of the vectors that veritysetup made: SHA256(seed ‖ k) for k = 0, 1, 2, ...
pub(crate) fn vector_data(seed: &str, bytes: usize) -> Vec<u8> {
    use sha2::{Digest, Sha256};
    let mut data = Vec::with_capacity(bytes + 32);
    for k in 0u64.. {
        if data.len() >= bytes {
            break;
        }
        data.extend_from_slice(&Sha256::new_with_prefix(seed).chain_update(k.to_le_bytes()).finalize());
    }
    data.truncate(bytes);
    data
}
