//! Parity against that which veritysetup made (`tests/vectors/fec.json`).

mod common;

use common::vector_data;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use verity_core::block::{BlockSize, Salt};
use verity_core::fec::{self, Layout, Roots};
use verity_core::geometry::{Geometry, HashArea};
use verity_core::io::MemoryDevice;
use verity_core::params::{HashType, Params};
use verity_core::tree::{self, Error, Options};

#[derive(Deserialize)]
struct Vectors {
    seed: String,
    cases: Vec<Case>,
}

#[derive(Debug, Deserialize)]
struct Case {
    hash: String,
    hash_type: u32,
    data_block_size: u32,
    hash_block_size: u32,
    data_blocks: u64,
    salt: String,
    fec_roots: u64,
    fec_device_bytes: u64,
    fec_device_sha256: String,
}

#[test]
fn all_vectors_match() {
    let vectors: Vectors = serde_json::from_str(include_str!("vectors/fec.json")).unwrap();
    assert_eq!(vectors.cases.len(), 39);
    for case in &vectors.cases {
        let params = Params {
            hash_type: HashType::try_from(case.hash_type).unwrap(),
            algorithm: case.hash.parse().unwrap(),
            data_block_size: BlockSize::new(case.data_block_size).unwrap(),
            hash_block_size: BlockSize::new(case.hash_block_size).unwrap(),
            salt: if case.salt.is_empty() { Salt::default() } else { case.salt.parse().unwrap() },
        };
        let area = HashArea::with_superblock(0).unwrap();
        let geometry = Geometry::new(&params, case.data_blocks, area).unwrap();
        let roots = Roots::new(case.fec_roots).unwrap();
        let layout = Layout::new(&params, &geometry, geometry.hash_blocks(), roots, 0).unwrap();
        assert_eq!(layout.parity_bytes(), case.fec_device_bytes, "{case:?}");
        let data = vector_data(&vectors.seed, usize::try_from(geometry.data_bytes()).unwrap());
        let options = Options::default();

        let hash = MemoryDevice::default();
        let root = tree::build(&data, &hash, &params, &geometry, &options).unwrap();
        let parity = MemoryDevice::default();
        fec::encode(&data, &hash, &parity, &layout, &options).unwrap();
        assert_eq!(hex::encode(Sha256::digest(parity.contents())), case.fec_device_sha256, "{case:?}");

        // Every changed block of it is noticed, a missing one too.
        let mut changed = parity.contents();
        let size = layout.block_size().bytes();
        let differing =
            |parity: &Vec<u8>| fec::count_differing(&data, &hash, parity, &layout, &options).unwrap();
        assert_eq!(differing(&changed), 0, "{case:?}");
        changed[size / 2] ^= 1;
        changed.pop();
        let blocks = changed.len().div_ceil(size);
        assert_eq!(differing(&changed), if blocks > 1 { 2 } else { 1 }, "{case:?}");

        // Tree and parity in one read of the data.
        let both = (MemoryDevice::default(), MemoryDevice::default());
        let built = fec::build(&data, &both.0, &both.1, &params, &geometry, &layout, &options).unwrap();
        assert_eq!(built, root, "{case:?}");
        assert!(both.0.into_bytes() == hash.into_bytes(), "{case:?}");
        assert_eq!(hex::encode(Sha256::digest(both.1.into_bytes())), case.fec_device_sha256, "{case:?}");
    }
}

/// What was laid out for another image would be parity over something else, and nobody would notice until it is needed.
#[test]
fn a_layout_of_another_image_is_refused_before_anything_is_written() {
    let params = Params::default();
    let (small, large) = (BlockSize::new(1024).unwrap(), BlockSize::new(8192).unwrap());
    let of = |block_size, blocks, offset| {
        let params = Params { data_block_size: block_size, hash_block_size: block_size, ..params.clone() };
        let geometry = Geometry::new(&params, blocks, HashArea::bare(offset)).unwrap();
        let layout = Layout::new(&params, &geometry, geometry.hash_blocks(), Roots::MIN, 0).unwrap();
        (params, geometry, layout)
    };
    let (params, geometry, own) = of(BlockSize::default(), 200, 0);
    let data = vec![7; 200 * 4096];
    let others = [
        of(small, 800, 0),
        of(large, 100, 0),
        of(BlockSize::default(), 199, 0),
        of(BlockSize::default(), 200, 4096),
    ];
    for (_, _, layout) in others {
        let (hash, parity) = (MemoryDevice::default(), MemoryDevice::default());
        let result = fec::build(&data, &hash, &parity, &params, &geometry, &layout, &Options::default());
        assert!(matches!(result, Err(Error::Geometry(_))), "{layout:?}: {result:?}");
        assert_eq!((hash.size(), parity.size()), (0, 0));
    }
    let (hash, parity) = (MemoryDevice::default(), MemoryDevice::default());
    fec::build(&data, &hash, &parity, &params, &geometry, &own, &Options::default()).unwrap();
}
