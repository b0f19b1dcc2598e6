//! The portable backend: RustCrypto's digests, one block after the other.

use digest::Digest;

use super::Backend;
use crate::algorithm::Algorithm;
use crate::params::{HashType, Params};

struct RustCrypto<D> {
    /// The state after the salt, for hash type 1; the empty state for hash type 0.
    start: D,
    /// The salt behind the block, for hash type 0; empty for hash type 1.
    suffix: Vec<u8>,
}

impl<D: Digest + Clone + Send + Sync> Backend for RustCrypto<D> {
    fn hash(&self, blocks: &[u8], block_size: usize, out: &mut [u8], stride: usize) {
        for (block, slot) in blocks.chunks_exact(block_size).zip(out.chunks_mut(stride)) {
            let mut state = self.start.clone();
            state.update(block);
            if !self.suffix.is_empty() {
                state.update(&self.suffix);
            }
            let digest = state.finalize();
            slot[..digest.len()].copy_from_slice(&digest);
        }
    }
}

fn salted<D: Digest + Clone + Send + Sync + 'static>(params: &Params) -> Box<dyn Backend> {
    let salt = params.salt.as_bytes();
    Box::new(match params.hash_type {
        HashType::Normal => RustCrypto { start: D::new_with_prefix(salt), suffix: Vec::new() },
        HashType::ChromeOs => RustCrypto { start: D::new(), suffix: salt.to_vec() },
    })
}

pub(super) fn backend(params: &Params) -> Box<dyn Backend> {
    match params.algorithm {
        Algorithm::Md5 => salted::<md5::Md5>(params),
        Algorithm::Sha1 => salted::<sha1::Sha1>(params),
        Algorithm::Sha224 => salted::<sha2::Sha224>(params),
        Algorithm::Sha256 => salted::<sha2::Sha256>(params),
        Algorithm::Sha384 => salted::<sha2::Sha384>(params),
        Algorithm::Sha512 => salted::<sha2::Sha512>(params),
        Algorithm::Sha3_224 => salted::<sha3::Sha3_224>(params),
        Algorithm::Sha3_256 => salted::<sha3::Sha3_256>(params),
        Algorithm::Sha3_384 => salted::<sha3::Sha3_384>(params),
        Algorithm::Sha3_512 => salted::<sha3::Sha3_512>(params),
        Algorithm::Blake2b512 => salted::<blake2::Blake2b512>(params),
        Algorithm::Blake2s256 => salted::<blake2::Blake2s256>(params),
        Algorithm::Ripemd160 => salted::<ripemd::Ripemd160>(params),
        Algorithm::Sm3 => salted::<sm3::Sm3>(params),
        Algorithm::Whirlpool => salted::<whirlpool::Whirlpool>(params),
    }
}
