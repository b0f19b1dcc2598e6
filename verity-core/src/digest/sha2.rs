//! SHA-2 by kernels: which there are, and which a backend is made of.

#[cfg(target_arch = "x86_64")]
use super::lanes::single;
use super::lanes::{Compression, Kernel, Lanes, Step};
use super::sha2_constants::{SHA224_INITIAL, SHA256_INITIAL, SHA384_INITIAL, SHA512_INITIAL};
use super::{Backend, BackendKind};
use crate::algorithm::Algorithm;
use crate::params::Params;

#[cfg(target_arch = "x86_64")]
use super::{avx2, avx512, sha_ni};

/// SHA-224's and SHA-256's compression function.
pub(super) struct Sha256;

/// SHA-384's and SHA-512's compression function.
pub(super) struct Sha512;

impl Compression for Sha256 {
    type Word = u32;
    const BLOCK: usize = 64;
    const LENGTH: usize = 8;

    fn put(word: u32, digest: &mut [u8]) {
        digest.copy_from_slice(&word.to_be_bytes());
    }

    fn compress(state: &mut [u32; 8], blocks: &[u8]) {
        sha2::block_api::compress256(state, blocks.as_chunks().0);
    }
}

impl Compression for Sha512 {
    type Word = u64;
    const BLOCK: usize = 128;
    const LENGTH: usize = 16;

    fn put(word: u64, digest: &mut [u8]) {
        digest.copy_from_slice(&word.to_be_bytes());
    }

    fn compress(state: &mut [u64; 8], blocks: &[u8]) {
        sha2::block_api::compress512(state, blocks.as_chunks().0);
    }
}

/// The kernels of `kind` for the parameters' algorithm, if it has any and this processor runs them.
pub(super) fn backend(kind: BackendKind, params: &Params) -> Option<Box<dyn Backend>> {
    match params.algorithm {
        Algorithm::Sha224 => lanes(sha256_steps(kind)?, SHA224_INITIAL, params),
        Algorithm::Sha256 => lanes(sha256_steps(kind)?, SHA256_INITIAL, params),
        Algorithm::Sha384 => lanes(sha512_steps(kind)?, SHA384_INITIAL, params),
        Algorithm::Sha512 => lanes(sha512_steps(kind)?, SHA512_INITIAL, params),
        _ => None,
    }
}

fn lanes<C: Compression>(
    steps: &'static [Step<C>],
    initial: [C::Word; 8],
    params: &Params,
) -> Option<Box<dyn Backend>> {
    let digest_size = params.algorithm.digest_size();
    Some(Box::new(Lanes::new(steps, initial, digest_size, params.hash_type, &params.salt)))
}

const fn step<C: Compression>(lanes: usize, at_least: usize, kernel: Kernel<C>) -> Step<C> {
    Step { lanes, at_least, kernel }
}

/// Where a kernel pays although lanes stay idle was measured: the time of a full kernel against that of the next step.
#[cfg(target_arch = "x86_64")]
fn sha256_steps(kind: BackendKind) -> Option<&'static [Step<Sha256>]> {
    static AVX512_AND_SHA: [Step<Sha256>; 5] = [
        step(32, 24, avx512::sha256_x32),
        step(16, 9, avx512::sha256_x16),
        step(4, 3, sha_ni::sha256_x4),
        step(2, 2, sha_ni::sha256_x2),
        step(1, 1, sha_ni::sha256_x1),
    ];
    static AVX512: [Step<Sha256>; 3] =
        [step(32, 17, avx512::sha256_x32), step(16, 2, avx512::sha256_x16), step(1, 1, single::<Sha256>)];
    static SHA: [Step<Sha256>; 3] =
        [step(4, 3, sha_ni::sha256_x4), step(2, 2, sha_ni::sha256_x2), step(1, 1, sha_ni::sha256_x1)];
    static AVX2: [Step<Sha256>; 2] = [step(8, 2, avx2::sha256_x8), step(1, 1, single::<Sha256>)];
    match kind {
        BackendKind::Avx512 if sha_ni::is_available() => Some(&AVX512_AND_SHA),
        BackendKind::Avx512 => Some(&AVX512),
        BackendKind::ShaNi => Some(&SHA),
        BackendKind::Avx2 => Some(&AVX2),
        BackendKind::Portable => None,
    }
}

#[cfg(target_arch = "x86_64")]
fn sha512_steps(kind: BackendKind) -> Option<&'static [Step<Sha512>]> {
    static AVX512: [Step<Sha512>; 3] =
        [step(16, 9, avx512::sha512_x16), step(8, 2, avx512::sha512_x8), step(1, 1, single::<Sha512>)];
    static AVX2: [Step<Sha512>; 2] = [step(4, 3, avx2::sha512_x4), step(1, 1, single::<Sha512>)];
    match kind {
        BackendKind::Avx512 => Some(&AVX512),
        BackendKind::Avx2 => Some(&AVX2),
        BackendKind::ShaNi | BackendKind::Portable => None,
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn sha256_steps(_kind: BackendKind) -> Option<&'static [Step<Sha256>]> {
    None
}

#[cfg(not(target_arch = "x86_64"))]
fn sha512_steps(_kind: BackendKind) -> Option<&'static [Step<Sha512>]> {
    None
}
