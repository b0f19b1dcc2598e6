//! An updated tree is the tree that a full build makes, byte for byte.

mod common;

use std::ops::Range;

use common::{Fixture, noise, small_params};
use proptest::prelude::*;
use verity_core::geometry::{Geometry, HashArea};
use verity_core::io::MemoryDevice;
use verity_core::params::{HashType, Params};
use verity_core::tree::{self, Error, Old, Options};

/// Changes the bytes in the ranges, as far as they lie in the data.
fn change(data: &mut [u8], ranges: &[Range<u64>]) {
    for range in ranges {
        let end = usize::try_from(range.end).unwrap().min(data.len());
        for byte in data.iter_mut().take(end).skip(usize::try_from(range.start).unwrap()) {
            *byte ^= 0x5a;
        }
    }
}

/// Resizes and changes the data, updates the tree, and compares with a full build.
fn check(params: &Params, before: u64, after: u64, ranges: &[Range<u64>]) {
    let old = Fixture::new(params, before);
    let mut data = noise(usize::try_from(before.max(after)).unwrap() * params.data_block_size.bytes());
    data.truncate(usize::try_from(after).unwrap() * params.data_block_size.bytes());
    change(&mut data, ranges);
    let area = HashArea::with_superblock(0).unwrap();
    let geometry = Geometry::new(params, after, area).unwrap();
    let options = Options::default();

    let expected = MemoryDevice::default();
    let expected_root = tree::build(&data, &expected, params, &geometry, &options).unwrap();
    let expected = expected.into_bytes();

    let hash = MemoryDevice::default();
    let tree_before = Old { hash: &old.hash, geometry: &old.geometry, root: &old.root };
    let root = tree::update(&data, &hash, params, &geometry, &tree_before, ranges, &options).unwrap();
    assert_eq!(root, expected_root, "{before} -> {after}: {ranges:?}");
    assert!(hash.into_bytes() == expected, "{before} -> {after}: {ranges:?}");

    if before == after {
        let hash = MemoryDevice::new(old.hash);
        let root =
            tree::update_in_place(&data, &hash, params, &geometry, &old.root, ranges, &options).unwrap();
        assert_eq!(root, expected_root);
        assert!(hash.into_bytes() == expected);
    }
}

#[test]
fn growing_and_shrinking_through_every_edge() {
    // 16 digests a block: 1, the fan-out and its square, each with its neighbours.
    let edges = [1, 2, 15, 16, 17, 18, 255, 256, 257, 300];
    for hash_type in [HashType::Normal, HashType::ChromeOs] {
        let params =
            Params { hash_type, algorithm: verity_core::algorithm::Algorithm::Sha1, ..small_params() };
        for before in edges {
            for after in edges {
                check(&params, before, after, &[]);
                check(&params, before, after, &[100..600, 5_000..5_001]);
            }
        }
    }
}

/// More than the threads' jobs can hold at once: changes here and there, and some that lie together.
#[test]
fn large_trees_are_taken_over_in_many_jobs() {
    let mut ranges: Vec<_> = (0..700).map(|number| number * 51_200..number * 51_200 + 1).collect();
    ranges.push(2_000_000..5_000_000);
    for after in [60_000, 70_001, 41_234] {
        check(&small_params(), 60_000, after, &ranges);
    }
}

#[test]
fn comparing_finds_the_blocks_that_changed() {
    let before = noise(300 * 512);
    let mut after = before.clone();
    change(&mut after, &[0..1, 5_000..6_200, 153_599..153_600]);
    let block_size = verity_core::block::BlockSize::MIN;
    let found = tree::changed_ranges(&before, &after, block_size, 300, &Options::default()).unwrap();
    assert_eq!(found, [0..512, 4_608..6_656, 153_088..153_600]);
    let none = tree::changed_ranges(&before, &before, block_size, 300, &Options::default()).unwrap();
    assert_eq!(none, []);
    let absurd = tree::changed_ranges(&before, &after, block_size, u64::MAX, &Options::default());
    assert!(matches!(absurd, Err(Error::Geometry(_))), "{absurd:?}");
}

#[test]
fn a_rotten_tree_is_not_taken_over() {
    let mut old = Fixture::small(300);
    let options = Options::default();
    // The last leaf block, too: what is before it could have been written by then.
    let last = old.geometry.levels()[0].blocks - 1;
    for (level, block) in [(0, 0), (0, last), (1, 0), (2, 0)] {
        let at = usize::try_from(old.geometry.hash_block_offset(level, block)).unwrap();
        old.hash[at] ^= 1;
        let before = Old { hash: &old.hash, geometry: &old.geometry, root: &old.root };
        let hash = MemoryDevice::default();
        let result =
            tree::update(&old.data, &hash, &old.params, &old.geometry, &before, &[0..1, 7..9], &options);
        assert!(matches!(result, Err(Error::OldTree(_))), "level {level}: {result:?}");
        // In place it stays as it was, whatever comes before the bad block.
        let hash = MemoryDevice::new(old.hash.clone());
        let ranges = [0..1, 153_599..153_600];
        let result =
            tree::update_in_place(&old.data, &hash, &old.params, &old.geometry, &old.root, &ranges, &options);
        assert!(matches!(result, Err(Error::OldTree(_))), "level {level}: {result:?}");
        assert!(hash.into_bytes() == old.hash, "level {level}");
        old.hash[at] ^= 1;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn any_change_set(
        before in 1u64..400, growth in -200i64..200,
        ranges in prop::collection::vec((0u64..220_000, 0u64..5_000), 0..8), packed in any::<bool>(),
    ) {
        let params = Params { hash_type: if packed { HashType::ChromeOs } else { HashType::Normal }, ..small_params() };
        let after = before.saturating_add_signed(growth).max(1);
        let ranges: Vec<_> = ranges.into_iter().map(|(start, length)| start..start + length).collect();
        check(&params, before, after, &ranges);
    }
}
