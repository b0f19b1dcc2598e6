//! What the image holds already.

use std::collections::HashMap;

use ::sha2::{Digest as _, Sha256};

use crate::block::{BlockSize, Salt};
use crate::digest::BlockHasher;
use crate::params::Params;

/// How many units are remembered, some 50 bytes each: those of the first 16 GiB.
const CAPACITY: usize = 1 << 18;
/// SHA-256's.
const DIGEST: usize = 32;

/// A unit's digest. Only a digest that nobody can make collide may say that two files are the same.
pub(super) type Key = [u8; DIGEST];

/// Where units of content lie, by their digests.
pub(super) struct Known {
    hasher: BlockHasher,
    block_size: BlockSize,
    digests: Vec<u8>,
    blocks: HashMap<Key, u32>,
}

impl Known {
    /// `params` say what is hashed with, SHA-256 with some salt, or none.
    pub(super) fn new(block_size: BlockSize, params: Option<&Params>) -> Self {
        let unsalted = Params { salt: Salt::default(), ..Params::default() };
        let hasher = BlockHasher::new(params.unwrap_or(&unsalted));
        Self { hasher, block_size, digests: Vec::new(), blocks: HashMap::new() }
    }

    /// The digest of whole blocks: that of their digests, since many blocks at once are hashed faster than one after the other.
    pub(super) fn key(&mut self, blocks: &[u8]) -> Key {
        self.digests.resize(blocks.len() / self.block_size.bytes() * DIGEST, 0);
        self.hasher.hash_blocks(blocks, self.block_size, &mut self.digests, DIGEST);
        Sha256::digest(&self.digests).into()
    }

    /// The digests of the blocks that the last key is of.
    pub(super) fn digests(&self) -> &[u8] {
        &self.digests
    }

    /// The first block of the same bytes.
    pub(super) fn find(&self, key: &Key) -> Option<u32> {
        self.blocks.get(key).copied()
    }

    /// Remembers where bytes lie, as long as there is room.
    pub(super) fn insert(&mut self, key: Key, block: u32) {
        if self.blocks.len() < CAPACITY {
            self.blocks.insert(key, block);
        }
    }
}
