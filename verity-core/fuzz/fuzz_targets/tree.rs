//! A hash device of an attacker's choice: verifying it ends, and finds it intact only if it is the tree of the data.
#![no_main]

use libfuzzer_sys::fuzz_target;
use verity_core::block::{BlockSize, RootHash};
use verity_core::geometry::{Geometry, HashArea};
use verity_core::io::MemoryDevice;
use verity_core::params::{HashType, Params};
use verity_core::tree::{self, Options, Threads};

fuzz_target!(|input: (u16, bool, bool, Vec<u8>)| {
    let (blocks, packed, own_root, damage) = input;
    let params = Params {
        hash_type: if packed { HashType::ChromeOs } else { HashType::Normal },
        data_block_size: BlockSize::MIN,
        hash_block_size: BlockSize::MIN,
        ..Params::default()
    };
    let Ok(threads) = Threads::new(1) else { return };
    let options = Options { threads, ..Options::default() };
    let Ok(geometry) = Geometry::new(&params, u64::from(blocks % 600) + 1, HashArea::bare(0)) else { return };
    let data: Vec<u8> = (0..geometry.data_bytes()).map(|at| (at / 100).to_le_bytes()[0]).collect();
    let hash = MemoryDevice::default();
    let Ok(root) = tree::build(&data, &hash, &params, &geometry, &options) else { return };
    let genuine = hash.into_bytes();
    let mut forged = genuine.clone();
    for (at, byte) in damage.iter().enumerate() {
        if let Some(target) = forged.get_mut((at * 37) % genuine.len().max(1)) {
            *target ^= byte;
        }
    }
    // The attacker may know a root hash that fits the forged top block.
    let top = geometry.levels().len().checked_sub(1).map(|top| geometry.hash_block_offset(top, 0));
    let forged_root = top.and_then(|_| {
        let digest = verity_core::digest::BlockHasher::new(&params).hash_block(forged.get(..512)?);
        RootHash::new(params.algorithm, digest.as_bytes()).ok()
    });
    let root = if own_root { forged_root.unwrap_or(root) } else { root };
    let Ok(report) = tree::verify(&data, &forged, &params, &geometry, &root, &options) else { return };
    assert_eq!(report.is_intact(), forged == genuine);
});
