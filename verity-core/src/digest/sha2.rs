//! SHA-2 by kernels: which there are, and which a backend is made of.

use super::lanes::{Compression, Kernel, Lanes, Step, single};
use super::sha2_constants::{SHA224_INITIAL, SHA256_INITIAL, SHA384_INITIAL, SHA512_INITIAL};
use super::{Backend, BackendKind, avx2, avx512, sha_ni};
use crate::algorithm::Algorithm;
use crate::params::Params;

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

/// The kernels of `kind` for the parameters' algorithm, if it has any.
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
fn sha256_steps(kind: BackendKind) -> Option<&'static [Step<Sha256>]> {
    static TWO_GROUPS: [Step<Sha256>; 5] = [
        step(32, 24, avx512::sha256_x32),
        step(16, 9, avx512::sha256_x16),
        step(4, 3, sha_ni::sha256_x4),
        step(2, 2, sha_ni::sha256_x2),
        step(1, 1, sha_ni::sha256_x1),
    ];
    static ONE_GROUP: [Step<Sha256>; 4] = [
        step(16, 9, avx512::sha256_x16),
        step(4, 3, sha_ni::sha256_x4),
        step(2, 2, sha_ni::sha256_x2),
        step(1, 1, sha_ni::sha256_x1),
    ];
    // Without SHA extensions; those processors have two vector units.
    static ALONE: [Step<Sha256>; 2] = [step(16, 2, avx512::sha256_x16), step(1, 1, single::<Sha256>)];
    static SHA: [Step<Sha256>; 3] =
        [step(4, 3, sha_ni::sha256_x4), step(2, 2, sha_ni::sha256_x2), step(1, 1, sha_ni::sha256_x1)];
    static AVX2: [Step<Sha256>; 2] = [step(8, 2, avx2::sha256_x8), step(1, 1, single::<Sha256>)];
    match kind {
        BackendKind::Avx512 if !sha_ni::is_available() => Some(&ALONE),
        BackendKind::Avx512 if avx512::gains_from_two_groups() => Some(&TWO_GROUPS),
        BackendKind::Avx512 => Some(&ONE_GROUP),
        BackendKind::ShaNi => Some(&SHA),
        BackendKind::Avx2 => Some(&AVX2),
        BackendKind::Portable => None,
    }
}

fn sha512_steps(kind: BackendKind) -> Option<&'static [Step<Sha512>]> {
    static TWO_GROUPS: [Step<Sha512>; 3] =
        [step(16, 12, avx512::sha512_x16), step(8, 2, avx512::sha512_x8), step(1, 1, single::<Sha512>)];
    static ONE_GROUP: [Step<Sha512>; 2] = [step(8, 2, avx512::sha512_x8), step(1, 1, single::<Sha512>)];
    static AVX2: [Step<Sha512>; 2] = [step(4, 3, avx2::sha512_x4), step(1, 1, single::<Sha512>)];
    match kind {
        BackendKind::Avx512 if avx512::gains_from_two_groups() => Some(&TWO_GROUPS),
        BackendKind::Avx512 => Some(&ONE_GROUP),
        BackendKind::Avx2 => Some(&AVX2),
        BackendKind::ShaNi | BackendKind::Portable => None,
    }
}

#[cfg(test)]
mod tests {
    use ::sha2::Digest;

    use super::*;
    use crate::block::Salt;
    use crate::params::HashType;

    /// Every kernel by itself, whichever this machine would choose: all counts up to twice its lanes and one, with idle lanes,
    /// unaligned blocks and salts around the edges of a compression block.
    fn check<C: Compression>(
        name: &str,
        available: bool,
        steps: &'static [Step<C>],
        initial: [C::Word; 8],
        digest_size: usize,
        oracle: fn(&[u8]) -> Vec<u8>,
    ) {
        if !available {
            eprintln!("kernel {name}: skipped, this processor lacks its instructions");
            return;
        }
        let noise: Vec<u8> =
            (0..70 * 512 + 300).map(|at: u32| at.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
        for salt_size in [0, 1, 32, 55, 56, 64, 111, 112, 127, 128, 200, 256] {
            for hash_type in [HashType::Normal, HashType::ChromeOs] {
                let salt = Salt::new(&noise[..salt_size]).unwrap();
                let lanes = Lanes::new(steps, initial, digest_size, hash_type, &salt);
                for count in 0..=2 * steps[0].lanes + 1 {
                    // To the end of memory of its own: a sanitizer sees what is read behind it.
                    let memory: Box<[u8]> = noise[..count % 64 + count * 512].into();
                    let blocks = &memory[count % 64..];
                    let mut digests = vec![0; count * digest_size];
                    lanes.hash(blocks, 512, &mut digests, digest_size);
                    let message = |block: &[u8]| match hash_type {
                        HashType::Normal => [salt.as_bytes(), block].concat(),
                        HashType::ChromeOs => [block, salt.as_bytes()].concat(),
                    };
                    let expected: Vec<u8> =
                        blocks.chunks(512).flat_map(|block| oracle(&message(block))).collect();
                    assert_eq!(
                        digests, expected,
                        "{name}: {count} blocks, salt of {salt_size}, {hash_type:?}"
                    );
                }
            }
        }
        eprintln!("kernel {name}: ran");
    }

    macro_rules! kernel_tests {
        ($($test:ident: $hash:ty, $lanes:literal, $module:ident, $initial:ident, $oracle:ty;)*) => {$(
            #[test]
            fn $test() {
                static STEPS: [Step<$hash>; 1] = [step($lanes, 1, $module::$test)];
                let oracle = |message: &[u8]| <$oracle>::digest(message).to_vec();
                let size = <$oracle>::output_size();
                check(concat!(stringify!($module), "::", stringify!($test)), $module::is_available(), &STEPS, $initial, size, oracle);
            }
        )*};
    }

    kernel_tests! {
        sha256_x32: Sha256, 32, avx512, SHA256_INITIAL, ::sha2::Sha256;
        sha256_x16: Sha256, 16, avx512, SHA256_INITIAL, ::sha2::Sha256;
        sha512_x16: Sha512, 16, avx512, SHA512_INITIAL, ::sha2::Sha512;
        sha512_x8: Sha512, 8, avx512, SHA512_INITIAL, ::sha2::Sha512;
        sha256_x8: Sha256, 8, avx2, SHA256_INITIAL, ::sha2::Sha256;
        sha512_x4: Sha512, 4, avx2, SHA512_INITIAL, ::sha2::Sha512;
        sha256_x4: Sha256, 4, sha_ni, SHA256_INITIAL, ::sha2::Sha256;
        sha256_x2: Sha256, 2, sha_ni, SHA256_INITIAL, ::sha2::Sha256;
        sha256_x1: Sha256, 1, sha_ni, SHA256_INITIAL, ::sha2::Sha256;
    }
}
