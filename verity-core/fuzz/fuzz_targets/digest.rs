//! Every digest backend that runs here makes the digests of the definition, whatever the salt, size, count and alignment.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sha2::{Digest, Sha256, Sha512};
use verity_core::algorithm::Algorithm;
use verity_core::block::{BlockSize, Salt};
use verity_core::digest::{BackendKind, BlockHasher};
use verity_core::params::{HashType, Params};

fuzz_target!(|input: (u8, u8, u8, bool, bool, Vec<u8>)| {
    let (count, shift, size, packed, wide, bytes) = input;
    let (count, shift) = (usize::from(count % 70), usize::from(shift % 64));
    let block_size = BlockSize::new(512 << (size % 3)).unwrap_or_default();
    let salt = &bytes[..bytes.len().min(256)];
    let params = Params {
        hash_type: if packed { HashType::ChromeOs } else { HashType::Normal },
        algorithm: if wide { Algorithm::Sha512 } else { Algorithm::Sha256 },
        data_block_size: block_size,
        salt: Salt::new(salt).unwrap_or_default(),
        ..Params::default()
    };
    // The input repeated, with a counter so that no two blocks are the same.
    let length = shift + count * block_size.bytes();
    let buffer: Vec<u8> = (0..length)
        .map(|at| bytes.get(at % bytes.len().max(1)).copied().unwrap_or(0) ^ (at / 251).to_le_bytes()[0])
        .collect();
    let blocks = &buffer[shift..];
    let oracle = |block: &[u8]| -> Vec<u8> {
        let parts = if packed { [block, salt] } else { [salt, block] };
        if wide { Sha512::digest(parts.concat()).to_vec() } else { Sha256::digest(parts.concat()).to_vec() }
    };
    let expected: Vec<u8> = blocks.chunks(block_size.bytes()).flat_map(oracle).collect();
    for kind in BackendKind::ALL.into_iter().filter(|kind| kind.is_available()) {
        let Ok(hasher) = BlockHasher::with_backend(&params, kind) else { continue };
        let mut digests = vec![0; expected.len()];
        hasher.hash_blocks(blocks, block_size, &mut digests, hasher.digest_size());
        assert_eq!(digests, expected, "{kind}");
    }
});
