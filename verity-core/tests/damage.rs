//! Every damaged block is found and named, and nothing else is.

mod common;

use common::{Fixture, naive_tree, noise, small_params};
use proptest::prelude::*;
use verity_core::algorithm::Algorithm;
use verity_core::block::{BlockSize, RootHash, Salt};
use verity_core::geometry::{Geometry, HashArea};
use verity_core::io::MemoryDevice;
use verity_core::params::{HashType, Params};
use verity_core::tree::{self, Error, Fault, Options, Place, Threads};

fn hash_place(level: usize) -> Place {
    Place::Hash { level }
}

#[test]
fn one_flipped_data_bit_names_its_block() {
    let mut fixture = Fixture::small(300);
    for block in [0, 1, 15, 16, 255, 256, 299] {
        fixture.data[block * 512 + 511] ^= 0x80;
        let report = fixture.verify();
        assert_eq!((report.findings.len(), report.bad_data_blocks, report.bad_hash_blocks), (1, 1, 0));
        let finding = &report.findings[0];
        let start = block as u64 * 512;
        assert_eq!(finding.place, Place::Data);
        assert_eq!((finding.first_block, finding.bytes.clone()), (block as u64, start..start + 512));
        assert!(matches!(finding.fault, Fault::Digest { .. }));
        fixture.data[block * 512 + 511] ^= 0x80;
    }
    assert!(fixture.verify().is_intact());
}

#[test]
fn every_bad_block_is_named_and_not_only_the_first() {
    let mut fixture = Fixture::small(300);
    let bad = [3, 4, 100, 299];
    for block in bad {
        fixture.data[block * 512] ^= 1;
    }
    let found: Vec<_> = fixture.verify().findings.iter().map(|finding| finding.first_block).collect();
    assert_eq!(found, bad.map(|block| block as u64));
}

#[test]
fn a_bad_block_of_each_level_leaves_what_is_below_unverifiable() {
    let mut fixture = Fixture::small(300);
    // 300 data blocks, 19 + 2 + 1 hash blocks. Block 1 of level 0 covers data blocks 16 to 31; block 1 of level 1
    // covers leaf blocks 16 to 18, hence data blocks 256 to 299.
    let cases =
        [(0, 1, vec![(Place::Data, 16, 16)]), (1, 1, vec![(hash_place(0), 16, 3), (Place::Data, 256, 44)])];
    for (level, index, below) in cases {
        let at = usize::try_from(fixture.geometry.hash_block_offset(level, index)).unwrap();
        fixture.hash[at] ^= 1;
        let report = fixture.verify();
        fixture.hash[at] ^= 1;
        let found: Vec<_> = report
            .findings
            .iter()
            .map(|finding| (finding.place, finding.first_block, finding.blocks))
            .collect();
        let expected: Vec<_> = std::iter::once((hash_place(level), index, 1)).chain(below).collect();
        assert_eq!(found, expected);
        assert_eq!((report.bad_hash_blocks, report.bad_data_blocks), (1, 0));
    }
}

#[test]
fn a_bad_top_block_or_a_wrong_root_hash_vouches_for_nothing() {
    let mut fixture = Fixture::small(300);
    fixture.root = RootHash::new(Algorithm::Sha256, &[7; 32]).unwrap();
    let report = fixture.verify();
    assert_eq!((report.bad_hash_blocks, report.unverifiable_blocks), (1, 300 + 19 + 2));
    assert_eq!(report.findings.len(), 4, "the top block, and one line for each level below");
    let top =
        tree::verify_top(&fixture.data, &fixture.hash, &fixture.params, &fixture.geometry, &fixture.root);
    assert!(matches!(top, Err(Error::RootHash { expected, .. }) if expected == fixture.root));
}

#[test]
fn a_root_hash_of_another_size_is_no_root_hash() {
    let fixture = Fixture::small(2);
    let root = RootHash::new(Algorithm::Sha1, &[0; 20]).unwrap();
    let result = tree::verify_top(&fixture.data, &fixture.hash, &fixture.params, &fixture.geometry, &root);
    assert!(matches!(result, Err(Error::RootHashSize { expected: 32, found: 20 })));
}

/// An attacker may author a tree with something in its spare slots, with a root hash over it.
#[test]
fn spare_bytes_are_zero_or_named() {
    for (hash_type, algorithm, offset) in [
        (HashType::Normal, Algorithm::Sha256, 511), // a spare slot
        (HashType::Normal, Algorithm::Sha1, 20),    // the padding of a digest
        (HashType::ChromeOs, Algorithm::Sha1, 511), // the rest of a packed block
    ] {
        let params = Params { hash_type, algorithm, ..small_params() };
        let mut fixture = Fixture::new(&params, 10);
        let at = usize::try_from(fixture.geometry.hash_block_offset(0, 0)).unwrap();
        fixture.hash[at + offset] = 1;
        fixture.root = verity_core::digest::BlockHasher::new(&params).hash_block(&fixture.hash[at..at + 512]);
        let report = fixture.verify();
        assert_eq!(report.findings.len(), 1, "{report:?}");
        assert_eq!(report.findings[0].fault, Fault::Spare { offset });
        assert!(!report.is_intact());
    }
}

#[test]
fn data_that_ends_early_is_an_error_that_says_where() {
    let mut fixture = Fixture::small(300);
    fixture.data.truncate(299 * 512 + 100);
    let options = Options::default();
    let Fixture { params, geometry, data, hash, root } = &fixture;
    let result = tree::verify(data, hash, params, geometry, root, &options);
    let error = result.unwrap_err().to_string();
    assert!(
        error.starts_with("data device: reading") && error.ends_with("the device ends before that"),
        "{error}"
    );
    assert!(tree::build(data, &MemoryDevice::default(), params, geometry, &options).is_err());
}

#[test]
fn a_long_list_of_findings_is_cut_but_counted() {
    let mut fixture = Fixture::small(300);
    for block in fixture.data.chunks_mut(512) {
        block[0] ^= 1;
    }
    let options = Options { max_findings: 10, ..Options::default() };
    let Fixture { params, geometry, data, hash, root } = &fixture;
    let report = tree::verify(data, hash, params, geometry, root, &options).unwrap();
    assert_eq!((report.findings.len(), report.unlisted, report.bad_data_blocks), (10, 290, 300));
}

#[test]
fn a_stream_that_ends_inside_a_block_is_refused() {
    use std::io::Write;
    let params = Params::default();
    for length in [1, 4095, 4097] {
        let threads = Threads::new(2).unwrap();
        let mut writer = tree::TreeWriter::new(std::io::sink(), MemoryDevice::default(), &params, threads);
        writer.write_all(&vec![1; length]).unwrap();
        let result = writer.finish(&MemoryDevice::default(), HashArea::bare(0), &Options::default());
        assert!(matches!(result, Err(Error::PartialBlock { .. })), "{length}");
    }
}

#[test]
fn an_empty_stream_is_refused() {
    let threads = Threads::new(1).unwrap();
    let writer = tree::TreeWriter::new(std::io::sink(), MemoryDevice::default(), &Params::default(), threads);
    let result = writer.finish(&MemoryDevice::default(), HashArea::bare(0), &Options::default());
    assert!(matches!(result, Err(Error::Geometry(_))));
}

/// A leaf store that fails must stop the writer, not hang it.
#[test]
fn a_full_leaf_store_is_an_error() {
    use std::io::Read;
    struct Full(MemoryDevice);
    impl verity_core::io::ReadAt for Full {
        fn read_at(&self, buffer: &mut [u8], offset: u64) -> std::io::Result<usize> {
            self.0.read_at(buffer, offset)
        }
    }
    impl verity_core::io::WriteAt for Full {
        fn write_all_at(&self, bytes: &[u8], offset: u64) -> std::io::Result<()> {
            if offset > 0 {
                Err(std::io::ErrorKind::StorageFull.into())
            } else {
                self.0.write_all_at(bytes, offset)
            }
        }
    }
    let store = Full(MemoryDevice::default());
    let threads = Threads::new(3).unwrap();
    let mut writer = tree::TreeWriter::new(std::io::sink(), store, &Params::default(), threads);
    // The failure may show in a write or only at the end, but there is no tree afterwards, whoever looked at the write's result or not.
    let _ = std::io::copy(&mut std::io::repeat(0).take(64 << 20), &mut writer);
    let finished = writer.finish(&MemoryDevice::default(), HashArea::bare(0), &Options::default());
    assert!(finished.is_err());
}

fn any_params() -> impl Strategy<Value = Params> {
    let sizes = || (9u32..=13).prop_map(|shift| BlockSize::new(1 << shift).unwrap());
    (
        prop::bool::ANY,
        prop::sample::select(Algorithm::ALL.to_vec()),
        sizes(),
        sizes(),
        prop::collection::vec(any::<u8>(), 0..=256),
    )
        .prop_map(|(packed, algorithm, data_block_size, hash_block_size, salt)| Params {
            hash_type: if packed { HashType::ChromeOs } else { HashType::Normal },
            algorithm,
            data_block_size,
            hash_block_size,
            salt: Salt::new(&salt).unwrap(),
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn any_tree_equals_the_naive_one(
        params in any_params(), blocks in 1u64..700, threads in 1usize..6, offset_blocks in 0u64..4,
    ) {
        let offset = offset_blocks * params.hash_block_size.as_u64();
        let geometry = Geometry::new(&params, blocks, HashArea::bare(offset)).unwrap();
        let data = noise(usize::try_from(geometry.data_bytes()).unwrap());
        let hash = MemoryDevice::default();
        let options = Options { threads: Threads::new(threads).unwrap(), ..Options::default() };
        let root = tree::build(&data, &hash, &params, &geometry, &options).unwrap();
        let (levels, naive_root) = naive_tree(&params, &data);
        prop_assert_eq!(root, naive_root);
        let mut expected = vec![0; usize::try_from(offset).unwrap() * usize::from(blocks > 1)];
        expected.extend(levels.into_iter().rev().flatten());
        prop_assert!(hash.into_bytes() == expected);
    }

    #[test]
    fn exactly_the_damaged_data_blocks_are_found(bad in prop::collection::btree_set(0usize..400, 0..40), bit in 0usize..4096) {
        let mut fixture = Fixture::small(400);
        for block in &bad {
            fixture.data[block * 512 + bit / 8] ^= 1 << (bit % 8);
        }
        let report = fixture.verify();
        let found: Vec<_> = report.findings.iter().map(|finding| usize::try_from(finding.first_block).unwrap()).collect();
        prop_assert_eq!(found, bad.into_iter().collect::<Vec<_>>());
    }

    #[test]
    fn any_damage_to_the_tree_is_found(at in 512usize..(512 + 29 * 512), bit in 0u32..8) {
        let mut fixture = Fixture::small(400); // 25 + 2 + 1 hash blocks behind the superblock
        prop_assume!(at < fixture.hash.len());
        fixture.hash[at] ^= 1 << bit;
        let report = fixture.verify();
        prop_assert_eq!(report.bad_hash_blocks, 1);
        let bytes = &report.findings[0].bytes;
        prop_assert!(bytes.contains(&(at as u64)));
    }
}

/// Zeros, stored or not, are hashed once: the tree must be the same, and damage among them must be found.
#[test]
fn sparse_files_and_stored_zeros_make_the_same_tree() {
    use verity_core::io::WriteAt;
    let params = Params::default();
    let geometry = Geometry::new(&params, 5000, HashArea::bare(0)).unwrap();
    let mut data = vec![0; 5000 * 4096];
    let sparse = tempfile::tempfile().unwrap();
    sparse.set_len(data.len() as u64).unwrap();
    for (block, bytes) in [(0, 1), (700, 300_000), (4999, 4096)] {
        let at = block * 4096;
        let end = (at + bytes).min(data.len());
        data[at..end].copy_from_slice(&noise(end - at));
        sparse.write_all_at(&data[at..end], at as u64).unwrap();
    }
    let (levels, naive_root) = naive_tree(&params, &data);
    for threads in [1, 4] {
        let options = Options { threads: Threads::new(threads).unwrap(), ..Options::default() };
        let sources: [&dyn verity_core::io::ReadAt; 2] = [&data, &sparse];
        for source in sources {
            let hash = MemoryDevice::default();
            let root = tree::build(source, &hash, &params, &geometry, &options).unwrap();
            assert_eq!(root, naive_root);
            let report = tree::verify(source, &hash, &params, &geometry, &root, &options).unwrap();
            assert!(report.is_intact(), "{report:?}");
            assert!(hash.into_bytes() == levels.iter().rev().flatten().copied().collect::<Vec<_>>());
        }
    }
    // A byte in a hole is a bad block.
    let hash = MemoryDevice::default();
    let root = tree::build(&sparse, &hash, &params, &geometry, &Options::default()).unwrap();
    sparse.write_all_at(&[1], 2000 * 4096 + 17).unwrap();
    let report = tree::verify(&sparse, &hash, &params, &geometry, &root, &Options::default()).unwrap();
    assert_eq!((report.bad_data_blocks, report.findings[0].first_block), (1, 2000));
}

/// A hole at the end is a hole; behind the end there is nothing.
#[test]
fn a_sparse_file_that_is_too_short_is_an_error() {
    let params = Params::default();
    let geometry = Geometry::new(&params, 100, HashArea::bare(0)).unwrap();
    let sparse = tempfile::tempfile().unwrap();
    sparse.set_len(99 * 4096).unwrap();
    let result = tree::build(&sparse, &MemoryDevice::default(), &params, &geometry, &Options::default());
    assert!(matches!(result, Err(Error::Read { .. })), "{result:?}");
}

/// Writes `data` in pieces of `piece` bytes and completes the tree.
fn write_tree(params: &Params, data: &[u8], piece: usize) -> Result<(RootHash, Vec<u8>), Error> {
    use std::io::Write;
    let mut image = Vec::new();
    let store = MemoryDevice::default();
    let mut writer = tree::TreeWriter::new(&mut image, store, params, Threads::new(3).unwrap());
    data.chunks(piece).for_each(|piece| writer.write_all(piece).unwrap());
    let hash = MemoryDevice::default();
    let built = writer.finish(&hash, HashArea::bare(0), &Options::default())?;
    let root = built.root;
    assert!(image == data);
    Ok((root, hash.into_bytes()))
}

/// A chunk of the writer's is one block of the largest size: the only block may be hashed before the end is known.
#[test]
fn one_block_of_any_size_is_a_tree_for_a_stream_too() {
    for shift in 9..=19 {
        let params = Params { data_block_size: BlockSize::new(1 << shift).unwrap(), ..Params::default() };
        for blocks in 1..=3 {
            let data = noise(blocks << shift);
            let geometry = Geometry::new(&params, blocks as u64, HashArea::bare(0)).unwrap();
            let expected = MemoryDevice::default();
            let root = tree::build(&data, &expected, &params, &geometry, &Options::default()).unwrap();
            let (found, hash) = write_tree(&params, &data, 100_000).unwrap();
            assert_eq!(found, root, "{blocks} blocks of {}", params.data_block_size);
            assert!(hash == expected.into_bytes());
        }
    }
}

/// What a store held before lies in no digest's slot of the tree.
#[test]
fn a_leaf_store_with_something_in_it_makes_the_same_tree() {
    use std::io::Write;
    for hash_type in [HashType::Normal, HashType::ChromeOs] {
        let params = Params { hash_type, algorithm: Algorithm::Sha1, ..small_params() };
        let fixture = Fixture::new(&params, 37);
        let store = MemoryDevice::new(vec![0xee; 4096]);
        let mut writer = tree::TreeWriter::new(std::io::sink(), store, &params, Threads::new(2).unwrap());
        writer.write_all(&fixture.data).unwrap();
        let hash = MemoryDevice::default();
        let built = writer.finish(&hash, fixture.geometry.area(), &Options::default()).unwrap();
        assert_eq!(built.root, fixture.root);
        assert!(hash.into_bytes()[512..] == fixture.hash[512..]);
    }
}

/// A store that loses what it was given is noticed: missing digests are not taken for zeros.
#[test]
fn a_leaf_store_that_forgets_is_an_error() {
    use std::io::Write;
    struct Forgetful;
    impl verity_core::io::ReadAt for Forgetful {
        fn read_at(&self, _: &mut [u8], _: u64) -> std::io::Result<usize> {
            Ok(0)
        }
    }
    impl verity_core::io::WriteAt for Forgetful {
        fn write_all_at(&self, _: &[u8], _: u64) -> std::io::Result<()> {
            Ok(())
        }
    }
    let threads = Threads::new(1).unwrap();
    let mut writer = tree::TreeWriter::new(std::io::sink(), Forgetful, &small_params(), threads);
    writer.write_all(&noise(10 * 512)).unwrap();
    let result = writer.finish(&MemoryDevice::default(), HashArea::bare(0), &Options::default());
    assert!(matches!(result, Err(Error::Read { .. })), "{result:?}");
}

#[test]
fn a_dropped_writer_leaves_no_thread_at_its_store() {
    use std::io::Write;
    let store = std::sync::Arc::new(MemoryDevice::default());
    let threads = Threads::new(4).unwrap();
    let mut writer = tree::TreeWriter::new(std::io::sink(), store.clone(), &Params::default(), threads);
    writer.write_all(&noise(5 << 20)).unwrap();
    drop(writer);
    assert_eq!(std::sync::Arc::strong_count(&store), 1);
}

/// A geometry of other parameters would have every block read from a wrong place.
#[test]
fn a_geometry_of_other_parameters_is_refused() {
    let Fixture { params, geometry, data, hash, root } = Fixture::small(300);
    let other = Params { hash_block_size: BlockSize::default(), ..params };
    let options = Options::default();
    let target = MemoryDevice::default();
    let old = tree::Old { hash: &hash, geometry: &geometry, root: &root };
    let results = [
        tree::build(&data, &target, &other, &geometry, &options).err(),
        tree::verify(&data, &hash, &other, &geometry, &root, &options).err(),
        tree::verify_top(&data, &hash, &other, &geometry, &root).err(),
        tree::update(&data, &target, &other, &geometry, &old, &[], &options).err(),
        tree::update_in_place(&data, &target, &other, &geometry, &root, &[], &options).err(),
    ];
    for result in results {
        assert!(matches!(result, Some(Error::Geometry(_))), "{result:?}");
    }
    assert!(target.into_bytes().is_empty());
}

/// A wrong root hash is told at once, and nothing below the top block is read.
#[test]
fn below_a_bad_top_block_nothing_is_read() {
    let fixture = Fixture::small(300);
    let root = RootHash::new(Algorithm::Sha256, &[7; 32]).unwrap();
    let no_data: Vec<u8> = Vec::new();
    let Fixture { params, geometry, hash, .. } = &fixture;
    let report = tree::verify(&no_data, hash, params, geometry, &root, &Options::default()).unwrap();
    assert_eq!((report.bad_hash_blocks, report.unverifiable_blocks), (1, 300 + 19 + 2));
}

/// Whoever shows progress gets to see the end of it, whatever the tree's shape.
#[test]
fn all_of_the_data_is_reported_as_progress() {
    use std::sync::atomic::{AtomicU64, Ordering};
    #[derive(Default)]
    struct Sum(AtomicU64);
    impl verity_core::progress::Observer for Sum {
        fn advance(&self, bytes: u64) {
            self.0.fetch_add(bytes, Ordering::Relaxed);
        }
    }
    for blocks in [1, 2, 300] {
        let Fixture { params, geometry, data, hash, root } = Fixture::small(blocks);
        let wrong = RootHash::new(Algorithm::Sha256, &[7; 32]).unwrap();
        let sum = Sum::default();
        let options = Options { observer: &sum, ..Options::default() };
        tree::build(&data, &MemoryDevice::default(), &params, &geometry, &options).unwrap();
        tree::verify(&data, &hash, &params, &geometry, &root, &options).unwrap();
        tree::verify(&data, &hash, &params, &geometry, &wrong, &options).unwrap();
        assert_eq!(sum.0.into_inner(), 3 * blocks * 512);
    }
}
