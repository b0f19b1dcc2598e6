//! Root hashes and whole hash devices against those that veritysetup made (`tests/vectors/hash-tree.json`).

mod common;

use common::vector_data;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::io::Write;

use verity_core::block::{BlockSize, RootHash, Salt};
use verity_core::geometry::{Geometry, HashArea};
use verity_core::io::{MemoryDevice, WriteAt};
use verity_core::params::{HashType, Params};
use verity_core::superblock::Superblock;
use verity_core::tree::{self, Options, Threads, TreeWriter};

#[derive(Deserialize)]
struct Vectors {
    seed: String,
    uuid: String,
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
    root: String,
    hash_device_bytes: usize,
    hash_device_sha256: String,
}

fn vectors() -> Vectors {
    let vectors: Vectors = serde_json::from_str(include_str!("vectors/hash-tree.json")).unwrap();
    assert_eq!(vectors.cases.len(), 107);
    vectors
}

struct Input {
    params: Params,
    geometry: Geometry,
    superblock: Superblock,
    data: Vec<u8>,
}

fn input(vectors: &Vectors, case: &Case) -> Input {
    let params = Params {
        hash_type: HashType::try_from(case.hash_type).unwrap(),
        algorithm: case.hash.parse().unwrap(),
        data_block_size: BlockSize::new(case.data_block_size).unwrap(),
        hash_block_size: BlockSize::new(case.hash_block_size).unwrap(),
        salt: if case.salt.is_empty() { Salt::default() } else { case.salt.parse().unwrap() },
    };
    let uuid = hex::decode(vectors.uuid.replace('-', "")).unwrap().try_into().unwrap();
    let area = HashArea::with_superblock(0).unwrap();
    Input {
        geometry: Geometry::new(&params, case.data_blocks, area).unwrap(),
        superblock: Superblock { uuid, params: params.clone(), data_blocks: case.data_blocks },
        data: vector_data(
            &vectors.seed,
            usize::try_from(case.data_blocks).unwrap() * params.data_block_size.bytes(),
        ),
        params,
    }
}

fn check(case: &Case, input: &Input, hash: MemoryDevice, root: &RootHash) {
    hash.write_all_at(&input.superblock.encode(), 0).unwrap();
    let mut bytes = hash.into_bytes();
    // Over one data block there is no tree; veritysetup pads the superblock to a whole block.
    bytes.resize(usize::try_from(input.geometry.hash_area_end()).unwrap(), 0);
    assert_eq!(root.to_string(), case.root, "{case:?}");
    assert_eq!(bytes.len(), case.hash_device_bytes, "{case:?}");
    assert_eq!(hex::encode(Sha256::digest(&bytes)), case.hash_device_sha256, "{case:?}");
}

fn build_and_verify(threads: Threads) {
    let vectors = vectors();
    for case in &vectors.cases {
        let input = input(&vectors, case);
        let options = Options { threads, ..Options::default() };
        // What lay on the device before must not show through.
        let hash = MemoryDevice::new(vec![0xff; case.hash_device_bytes]);
        hash.write_all_at(&vec![0; input.params.hash_block_size.bytes()], 0).unwrap();
        let root = tree::build(&input.data, &hash, &input.params, &input.geometry, &options).unwrap();
        tree::verify_top(&input.data, &hash, &input.params, &input.geometry, &root).unwrap();
        let report =
            tree::verify(&input.data, &hash, &input.params, &input.geometry, &root, &options).unwrap();
        assert!(report.is_intact(), "{case:?}: {report:?}");
        check(case, &input, hash, &root);
    }
}

#[test]
fn all_vectors_match_on_one_thread() {
    build_and_verify(Threads::new(1).unwrap());
}

#[test]
fn all_vectors_match_on_all_cores() {
    build_and_verify(Threads::available());
}

#[test]
fn all_vectors_match_when_hashed_as_written() {
    let vectors = vectors();
    for (index, case) in vectors.cases.iter().enumerate() {
        let input = input(&vectors, case);
        let threads = Threads::new(1 + index % 5).unwrap();
        let mut copy = Vec::new();
        let mut writer = TreeWriter::new(&mut copy, MemoryDevice::default(), &input.params, threads);
        // Pieces that are no multiple of anything.
        for piece in input.data.chunks(100_003) {
            writer.write_all(piece).unwrap();
        }
        let hash = MemoryDevice::default();
        let area = HashArea::with_superblock(0).unwrap();
        let built = writer.finish(&hash, area, &Options::default()).unwrap();
        assert_eq!(built.geometry, input.geometry);
        let root = built.root;
        assert!(copy == input.data, "{case:?}");
        check(case, &input, hash, &root);
    }
}
