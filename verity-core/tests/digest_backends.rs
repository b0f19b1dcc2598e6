//! Every backend that this machine runs, against the definition: RustCrypto's digest of salt and block in one piece.
//!
//! A backend that this machine lacks is named on standard error, never passed over in silence.

mod common;

use common::noise;
use digest::DynDigest;
use proptest::prelude::*;
use verity_core::algorithm::Algorithm;
use verity_core::block::{BlockSize, Salt};
use verity_core::digest::{BackendError, BackendKind, BlockHasher};
use verity_core::params::{HashType, Params};

/// The oracle: no lanes, no prepared state.
fn oracle(params: &Params, block: &[u8]) -> Vec<u8> {
    let mut digest: Box<dyn DynDigest> = match params.algorithm {
        Algorithm::Md5 => Box::new(md5::Md5::default()),
        Algorithm::Sha1 => Box::new(sha1::Sha1::default()),
        Algorithm::Sha224 => Box::new(sha2::Sha224::default()),
        Algorithm::Sha256 => Box::new(sha2::Sha256::default()),
        Algorithm::Sha384 => Box::new(sha2::Sha384::default()),
        Algorithm::Sha512 => Box::new(sha2::Sha512::default()),
        Algorithm::Sha3_224 => Box::new(sha3::Sha3_224::default()),
        Algorithm::Sha3_256 => Box::new(sha3::Sha3_256::default()),
        Algorithm::Sha3_384 => Box::new(sha3::Sha3_384::default()),
        Algorithm::Sha3_512 => Box::new(sha3::Sha3_512::default()),
        Algorithm::Blake2b512 => Box::new(blake2::Blake2b512::default()),
        Algorithm::Blake2s256 => Box::new(blake2::Blake2s256::default()),
        Algorithm::Ripemd160 => Box::new(ripemd::Ripemd160::default()),
        Algorithm::Sm3 => Box::new(sm3::Sm3::default()),
        Algorithm::Whirlpool => Box::new(whirlpool::Whirlpool::default()),
        other => panic!("{other} has no oracle"),
    };
    let salt = params.salt.as_bytes();
    let parts = if params.hash_type == HashType::Normal { [salt, block] } else { [block, salt] };
    parts.iter().for_each(|part| digest.update(part));
    digest.finalize().to_vec()
}

/// The backends that run here.
fn backends() -> Vec<BackendKind> {
    let (here, missing): (Vec<_>, Vec<_>) =
        BackendKind::ALL.into_iter().partition(|kind| kind.is_available());
    eprintln!("digest backends that run here: {here:?}; skipped, this processor lacks them: {missing:?}");
    here
}

/// Hashes `count` blocks that begin `shift` bytes into a buffer, and looks at what lies between and behind the digests.
fn check(kind: BackendKind, params: &Params, count: usize, shift: usize, gap: usize) {
    const GUARD: u8 = 0xa5;
    let size = params.data_block_size.bytes();
    let buffer = noise(shift + count * size);
    let blocks = &buffer[shift..];
    let hasher = BlockHasher::with_backend(params, kind).unwrap();
    let digest_size = hasher.digest_size();
    let stride = digest_size + gap;
    let mut out = vec![GUARD; count * stride + 64];
    // The last digest has no gap behind it that may be written.
    let end = if count == 0 { 0 } else { (count - 1) * stride + digest_size };
    hasher.hash_blocks(blocks, params.data_block_size, &mut out[..end], stride);
    for (index, slot) in out[..count * stride].chunks(stride).enumerate() {
        let expected = oracle(params, &blocks[index * size..(index + 1) * size]);
        assert_eq!(slot[..digest_size], expected, "{kind} {params:?}: block {index} of {count}");
        assert!(
            slot[digest_size..].iter().all(|&byte| byte == GUARD),
            "{kind}: gap {index} of {count} was written"
        );
    }
    assert!(out[end..].iter().all(|&byte| byte == GUARD), "{kind}: written behind the last of {count}");
}

#[test]
fn every_count_up_to_twice_the_lanes_and_one() {
    for kind in backends() {
        for algorithm in [Algorithm::Sha224, Algorithm::Sha256, Algorithm::Sha384, Algorithm::Sha512] {
            for count in 0..=65 {
                let salt = Salt::new(&noise(32)).unwrap();
                let params = Params { algorithm, data_block_size: BlockSize::MIN, salt, ..Params::default() };
                check(kind, &params, count, count % 7, count % 3);
            }
        }
    }
}

#[test]
fn every_salt_length_and_hash_type() {
    for kind in backends() {
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            for length in 0..=256 {
                for hash_type in [HashType::ChromeOs, HashType::Normal] {
                    let salt = Salt::new(&noise(length)).unwrap();
                    let params = Params {
                        algorithm,
                        hash_type,
                        data_block_size: BlockSize::MIN,
                        salt,
                        ..Params::default()
                    };
                    check(kind, &params, 17, 1, 0);
                }
            }
        }
    }
}

#[test]
fn every_algorithm_and_block_size() {
    for kind in backends() {
        for algorithm in Algorithm::ALL {
            for shift in 9..=19 {
                let data_block_size = BlockSize::new(1 << shift).unwrap();
                let salt = Salt::new(&noise(48)).unwrap();
                let params = Params { algorithm, data_block_size, salt, ..Params::default() };
                check(kind, &params, if shift < 14 { 5 } else { 1 }, 3, 0);
            }
        }
    }
}

#[test]
fn a_backend_that_has_nothing_for_an_algorithm_gives_way_to_the_portable_one() {
    let params = Params { algorithm: Algorithm::Sm3, ..Params::default() };
    for kind in backends() {
        assert_eq!(BlockHasher::with_backend(&params, kind).unwrap().kind(), BackendKind::Portable);
    }
}

#[test]
fn names_are_read_back_and_others_refused() {
    for kind in BackendKind::ALL {
        assert_eq!(kind.name().parse(), Ok(kind));
    }
    assert!(matches!("avx1024".parse::<BackendKind>(), Err(BackendError::Unknown(_))));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn anything_goes(
        algorithm in prop::sample::select(vec![Algorithm::Sha224, Algorithm::Sha256, Algorithm::Sha384, Algorithm::Sha512]),
        packed in any::<bool>(), salt in prop::collection::vec(any::<u8>(), 0..=256), size in 9u32..13,
        count in 0usize..70, shift in 0usize..64, gap in 0usize..40,
    ) {
        let hash_type = if packed { HashType::ChromeOs } else { HashType::Normal };
        let params = Params {
            algorithm,
            hash_type,
            data_block_size: BlockSize::new(1 << size).unwrap(),
            salt: Salt::new(&salt).unwrap(),
            ..Params::default()
        };
        for kind in BackendKind::ALL.into_iter().filter(|kind| kind.is_available()) {
            check(kind, &params, count, shift, gap);
        }
    }
}
