//! The seam between trees and digests: many equal blocks with one salt, hashed in one call.
//!
//! Everything that hashes asks a [`BlockHasher`]; what stands behind it is chosen once, when it is made.
//! A kernel that hashes several blocks at a time fits behind the trait `Backend` without a change elsewhere.

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
mod avx2;
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
mod avx512;
mod kind;
#[cfg(target_arch = "x86_64")]
mod lanes;
mod rustcrypto;
#[cfg(target_arch = "x86_64")]
mod sha2;
#[cfg(target_arch = "x86_64")]
mod sha2_constants;
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
mod sha2_rounds;
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
mod sha_ni;

use std::fmt;

pub use kind::{BACKEND_VARIABLE, BackendError, BackendKind};

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
    kind: BackendKind,
    backend: Box<dyn Backend>,
}

impl BlockHasher {
    /// Prepares hashing with the backend that is [chosen](BackendKind::chosen_for) for the algorithm. The salt is
    /// digested once, here.
    #[must_use]
    pub fn new(params: &Params) -> Self {
        Self::with_kind(params, BackendKind::chosen_for(params.algorithm))
    }

    /// Prepares hashing with one backend.
    ///
    /// # Errors
    /// [`BackendError::Unavailable`] if this processor does not run it.
    pub fn with_backend(params: &Params, kind: BackendKind) -> Result<Self, BackendError> {
        if kind.is_available() {
            Ok(Self::with_kind(params, kind))
        } else {
            Err(BackendError::Unavailable(kind))
        }
    }

    /// The caller has seen that `kind` is available: a kernel panics on a processor that lacks its instructions.
    fn with_kind(params: &Params, kind: BackendKind) -> Self {
        #[cfg(target_arch = "x86_64")]
        let kernels = sha2::backend(kind, params);
        #[cfg(not(target_arch = "x86_64"))]
        let kernels: Option<Box<dyn Backend>> = None;
        let kind = if kernels.is_some() { kind } else { BackendKind::Portable };
        let backend = kernels.unwrap_or_else(|| rustcrypto::backend(params));
        Self { algorithm: params.algorithm, kind, backend }
    }

    /// What hashes: the backend asked for, or the portable one where that has nothing for the algorithm.
    #[must_use]
    pub fn kind(&self) -> BackendKind {
        self.kind
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
        let end = count.checked_sub(1).map_or(Some(0), |last| last.checked_mul(stride)?.checked_add(size));
        assert!(end.is_some_and(|end| end <= out.len()), "room for every digest");
        self.backend.hash(blocks, block_size.bytes(), out, stride);
    }

    /// Hashes one block, a data block or a hash block.
    ///
    /// # Panics
    /// If its length is no block size.
    #[must_use]
    pub fn hash_block(&self, block: &[u8]) -> RootHash {
        assert!(block.len().is_power_of_two(), "a block");
        assert!((BlockSize::MIN.bytes()..=BlockSize::MAX.bytes()).contains(&block.len()), "a block's size");
        let mut digest = [0; MAX_DIGEST_SIZE];
        self.backend.hash(block, block.len(), &mut digest, MAX_DIGEST_SIZE);
        RootHash::from_digest(&digest[..self.digest_size()])
    }
}

impl fmt::Debug for BlockHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { algorithm, kind, backend: _ } = self;
        f.debug_struct("BlockHasher")
            .field("algorithm", algorithm)
            .field("kind", kind)
            .finish_non_exhaustive()
    }
}
