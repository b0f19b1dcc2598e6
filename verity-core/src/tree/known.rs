//! Blocks that come again and again: zeros in the data, and above them hash blocks full of one digest.
//!
//! Sparse and half-empty images consist of little else. Each level has one such block, whose digest is made once; a
//! block is compared with it first, which ends at the first bytes of any other block.

use crate::block::{BlockSize, RootHash};
use crate::digest::BlockHasher;
use crate::params::Params;

/// Hashes the children of one level, those that are its known block without hashing.
pub(crate) struct LevelHasher<'a> {
    hasher: &'a BlockHasher,
    block_size: BlockSize,
    block: Vec<u8>,
    digest: RootHash,
}

impl<'a> LevelHasher<'a> {
    /// For the children of `level`: data blocks for 0, hash blocks for the others.
    pub(crate) fn new(hasher: &'a BlockHasher, level: usize, params: &Params) -> Self {
        let mut block = vec![0; params.data_block_size.bytes()];
        let mut digest = hasher.hash_block(&block);
        for _ in 0..level {
            let slots = usize::try_from(params.digests_per_block()).unwrap_or(usize::MAX);
            block.clear();
            block.resize(params.hash_block_size.bytes(), 0);
            for slot in block.chunks_mut(params.slot_size()).take(slots) {
                slot[..digest.as_bytes().len()].copy_from_slice(digest.as_bytes());
            }
            digest = hasher.hash_block(&block);
        }
        let block_size = if level == 0 { params.data_block_size } else { params.hash_block_size };
        Self { hasher, block_size, block, digest }
    }

    pub(super) fn block_size(&self) -> BlockSize {
        self.block_size
    }

    /// As [`BlockHasher::hash_blocks`].
    pub(super) fn hash(&self, blocks: &[u8], out: &mut [u8], stride: usize) {
        let size = self.block_size.bytes();
        let hash = |first: usize, end: usize, out: &mut [u8]| {
            if first < end {
                let blocks = &blocks[first * size..end * size];
                self.hasher.hash_blocks(blocks, self.block_size, &mut out[first * stride..], stride);
            }
        };
        let mut first = 0;
        for (index, block) in blocks.chunks_exact(size).enumerate() {
            if block == self.block {
                hash(first, index, out);
                self.put_known(1, &mut out[index * stride..], stride);
                first = index + 1;
            }
        }
        hash(first, blocks.len() / size, out);
    }

    /// Writes the known block's digest `count` times.
    pub(super) fn put_known(&self, count: usize, out: &mut [u8], stride: usize) {
        let digest = self.digest.as_bytes();
        for slot in out.chunks_mut(stride).take(count) {
            slot[..digest.len()].copy_from_slice(digest);
        }
    }
}
