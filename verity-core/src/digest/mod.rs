//! The seam between trees and digests: many equal blocks with one salt, hashed in one call.
//!
//! Everything that hashes asks a [`BlockHasher`]; what stands behind it is chosen once, when it is made.
//! A kernel that hashes several blocks at a time fits behind [`Backend`] without a change elsewhere.

mod rustcrypto;

use std::fmt;

use crate::algorithm::{Algorithm, MAX_DIGEST_SIZE};
use crate::block::{BlockSize, RootHash};
use crate::params::Params;

/// What a digest implementation provides.
trait Backend: Send + Sync {
    /// Hashes each `block_size` bytes of `blocks` and writes the digest of block `i` to
    /// `out[i * stride..]`, touching nothing between digests.
    fn hash(&self, blocks: &[u8], block_size: usize, out: &mut [u8], stride: usize);
}

/// Hashes blocks with one algorithm, hash type and salt. Cheap to share between threads.
///
/// ```
/// use verity_core::{block::BlockSize, digest::BlockHasher, params::Params};
/// let hasher = BlockHasher::new(&Params::default());
/// let mut digests = [0; 64];
/// hasher.hash_blocks(&[0; 8192], BlockSize::default(), &mut digests, 32);
/// assert_eq!(digests[..32], digests[32..]);
/// ```
pub struct BlockHasher {
    algorithm: Algorithm,
    backend: Box<dyn Backend>,
}

impl BlockHasher {
    /// Prepares hashing: the salt is digested once, here.
    #[must_use]
    pub fn new(params: &Params) -> Self {
        Self { algorithm: params.algorithm, backend: rustcrypto::backend(params) }
    }

    /// The digest's size in bytes.
    #[must_use]
    pub fn digest_size(&self) -> usize {
        self.algorithm.digest_size()
    }

    /// Hashes every block of `blocks` and writes digest `i` at `out[i * stride..]`. Bytes between one digest
    /// and the next are left as they are.
    ///
    /// # Panics
    /// If `blocks` is no whole number of blocks, `stride` is less than the digest, or `out` is too short:
    /// each is a caller's mistake and none depends on input.
    pub fn hash_blocks(&self, blocks: &[u8], block_size: BlockSize, out: &mut [u8], stride: usize) {
        let size = self.digest_size();
        let count = blocks.len() / block_size.bytes();
        assert_eq!(count * block_size.bytes(), blocks.len(), "a whole number of blocks");
        assert!(stride >= size, "digests would overlap");
        assert!(count == 0 || (count - 1) * stride + size <= out.len(), "room for every digest");
        self.backend.hash(blocks, block_size.bytes(), out, stride);
    }

    /// Hashes one block of any size.
    ///
    /// # Panics
    /// Never: the digest of an algorithm has the algorithm's size.
    #[must_use]
    pub fn hash_block(&self, block: &[u8]) -> RootHash {
        let mut digest = [0; MAX_DIGEST_SIZE];
        self.backend.hash(block, block.len(), &mut digest, MAX_DIGEST_SIZE);
        RootHash::from_digest(&digest[..self.digest_size()])
    }
}

impl fmt::Debug for BlockHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlockHasher").field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}
