//! No byte is read that the root hash does not vouch for.

mod common;

use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use common::{Fixture, small_params};
use proptest::prelude::*;
use verity_core::algorithm::Algorithm;
use verity_core::block::{BlockSize, RootHash, Salt};
use verity_core::geometry::{Geometry, HashArea};
use verity_core::io::{FnReader, ReadAt};
use verity_core::params::{HashType, Params};
use verity_core::reader::{Error, Repair, VerityReader};
use verity_core::tree::{self, Place};

const BLOCK: usize = 512;

fn reader(fixture: &Fixture) -> VerityReader<'_> {
    let Fixture { params, geometry, data, hash, root } = fixture;
    VerityReader::new(data, hash, params.clone(), geometry.clone(), *root).unwrap()
}

/// Over other sources than the fixture's own.
fn reader_of<'a>(fixture: &Fixture, data: impl ReadAt + 'a, hash: impl ReadAt + 'a) -> VerityReader<'a> {
    VerityReader::new(data, hash, fixture.params.clone(), fixture.geometry.clone(), fixture.root).unwrap()
}

/// What a source answers that is asked for the `turn`-th time.
fn changing<'a>(
    bytes: &'a [u8],
    answer: impl Fn(u64, &mut [u8], usize) -> io::Result<usize> + Send + Sync + 'a,
) -> impl ReadAt + 'a {
    let turn = AtomicU64::new(0);
    FnReader::new(move |buffer: &mut [u8], offset| {
        let count = bytes.read_at(buffer, offset)?;
        answer(turn.fetch_add(1, Ordering::Relaxed), buffer, count)
    })
}

fn hash_place(level: usize) -> Place {
    Place::Hash { level }
}

#[track_caller]
fn corrupted(result: Result<usize, Error>) -> (Place, u64) {
    match result {
        Err(Error::Corrupted { place, block, expected, found, .. }) => {
            assert_ne!(expected, found);
            (place, block)
        }
        other => panic!("{other:?}"),
    }
}

/// Reads all, some at a time, from an odd position on.
fn check_all(reader: &VerityReader<'_>, data: &[u8]) {
    let mut all = Vec::new();
    reader.cursor().read_to_end(&mut all).unwrap();
    assert!(all == data);
    for (offset, length) in
        [(0, 1), (1, 1), (511, 2), (512, 512), (700, 1700), (3, 70_000), (data.len() - 1, 9)]
    {
        let mut bytes = vec![0; length];
        let count = reader.read_at(&mut bytes, offset as u64).unwrap();
        let expected = data.get(offset..).unwrap_or_default();
        let expected = &expected[..expected.len().min(length)];
        assert!(bytes[..count] == *expected, "{length} bytes at {offset}: {count}");
    }
}

#[test]
fn what_is_read_is_the_data() {
    let size = |bytes| BlockSize::new(bytes).unwrap();
    let params = [
        small_params(),
        Params { hash_type: HashType::ChromeOs, algorithm: Algorithm::Sha1, ..small_params() },
        Params { algorithm: Algorithm::Sha1, ..small_params() },
        Params { hash_block_size: size(1024), algorithm: Algorithm::Sha512, ..small_params() },
        Params { data_block_size: size(4096), salt: Salt::default(), ..small_params() },
        Params { hash_block_size: size(4096), salt: Salt::new(&[7; 256]).unwrap(), ..small_params() },
    ];
    for params in params {
        // 1, the fan-out and its square, each with its neighbours.
        for blocks in [1, 2, 15, 16, 17, 255, 256, 257, 300] {
            let fixture = Fixture::new(&params, blocks);
            for cache in [0, 512, 20_000, 1 << 20] {
                check_all(&reader(&fixture).with_cache_bytes(cache), &fixture.data);
            }
        }
    }
}

#[test]
fn blocks_of_the_largest_size() {
    let params =
        Params { data_block_size: BlockSize::MAX, hash_block_size: BlockSize::MAX, ..Params::default() };
    let fixture = Fixture::new(&params, 3);
    check_all(&reader(&fixture), &fixture.data);
}

#[test]
fn a_read_of_nothing_reads_nothing() {
    let fixture = Fixture::small(300);
    let fail = || FnReader::new(|_: &mut [u8], _| Err(ErrorKind::PermissionDenied.into()));
    let reader = reader_of(&fixture, fail(), fail());
    let end = reader.data_bytes();
    for offset in [0, 1, end - 1, end, end + 1, u64::MAX] {
        assert_eq!(reader.read_at(&mut [], offset).unwrap(), 0);
    }
    for offset in [end, end + 1, u64::MAX] {
        assert_eq!(reader.read_at(&mut [1; 10], offset).unwrap(), 0);
    }
    assert_eq!(reader.cursor().read(&mut []).unwrap(), 0);
}

#[test]
fn a_seek_to_the_end() {
    let fixture = Fixture::small(300);
    let reader = reader(&fixture);
    let mut cursor = reader.cursor();
    let end = reader.data_bytes();
    assert_eq!(cursor.seek(SeekFrom::End(0)).unwrap(), end);
    assert_eq!(cursor.read(&mut [0; 10]).unwrap(), 0);
    let mut last = [0; 10];
    assert_eq!(cursor.seek(SeekFrom::Current(-1)).unwrap(), end - 1);
    assert_eq!(cursor.read(&mut last).unwrap(), 1);
    assert_eq!(last[0], *fixture.data.last().unwrap());
    assert_eq!(cursor.position(), end);
    assert_eq!(cursor.seek(SeekFrom::Start(u64::MAX)).unwrap(), u64::MAX);
    assert_eq!(cursor.read(&mut last).unwrap(), 0);
    for wrong in [SeekFrom::Current(1), SeekFrom::End(-1 - i64::try_from(end).unwrap())] {
        assert_eq!(cursor.seek(wrong).unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(cursor.position(), u64::MAX, "a wrong seek changes nothing");
    }
}

/// The data behind the end of the tree's are not those of the tree.
#[test]
fn data_that_the_tree_does_not_cover_are_not_read() {
    let mut fixture = Fixture::small(3);
    let length = fixture.data.len();
    fixture.data.extend([7; 1000]);
    let mut all = Vec::new();
    reader(&fixture).cursor().read_to_end(&mut all).unwrap();
    assert!(all == fixture.data[..length]);
}

#[test]
fn a_seek_past_damage() {
    let mut fixture = Fixture::small(300);
    let original = fixture.data.clone();
    fixture.data[3 * BLOCK] ^= 1;
    let reader = reader(&fixture);
    let mut cursor = reader.cursor();
    let mut before = Vec::new();
    let error = cursor.read_to_end(&mut before).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidData);
    assert!(before == original[..3 * BLOCK], "what lies before the damage is read");
    // It stays there, however often one tries.
    assert_eq!(cursor.read(&mut [0]).unwrap_err().kind(), ErrorKind::InvalidData);
    cursor.seek(SeekFrom::Start(4 * 512)).unwrap();
    let mut behind = Vec::new();
    cursor.read_to_end(&mut behind).unwrap();
    assert!(behind == original[4 * BLOCK..]);
}

#[test]
fn an_error_names_the_block_and_keeps_its_source() {
    let mut fixture = Fixture::small(300);
    fixture.data[7 * BLOCK + 100] ^= 1;
    let reader = reader(&fixture);
    let error = reader.read_at(&mut [0; 10], 7 * 512 + 5).unwrap_err();
    let Error::Corrupted { place: Place::Data, block: 7, bytes, repair: Repair::NoParity, .. } = &error
    else {
        panic!("{error:?}")
    };
    assert_eq!(*bytes, 3584..4096);
    let text = error.to_string();
    assert!(text.starts_with("data block 7 (bytes 3584 to 4095) is corrupted: its digest is "), "{text}");
    let error = reader.cursor().read_to_end(&mut Vec::new()).unwrap_err();
    let source = error.get_ref().unwrap().downcast_ref::<Error>().unwrap();
    assert!(matches!(source, Error::Corrupted { block: 7, .. }), "{source:?}");
}

/// The blocks below a bad hash block cannot be read, and all others can.
#[test]
fn damage_at_every_level() {
    let mut fixture = Fixture::small(300);
    for level in 0..fixture.geometry.levels().len() {
        let below = 16_u64.pow(u32::try_from(level).unwrap() + 1);
        for index in 0..fixture.geometry.levels()[level].blocks {
            let at = usize::try_from(fixture.geometry.hash_block_offset(level, index)).unwrap();
            fixture.hash[at + 1] ^= 0x10;
            let reader = reader(&fixture);
            for block in 0..300 {
                let mut bytes = [0xaa; BLOCK];
                let result = reader.read_at(&mut bytes, block * 512);
                if block / below == index {
                    assert_eq!(corrupted(result), (hash_place(level), index));
                } else {
                    assert_eq!(result.unwrap(), BLOCK);
                    let at = usize::try_from(block).unwrap() * BLOCK;
                    assert!(bytes == fixture.data[at..at + BLOCK]);
                }
            }
            drop(reader);
            fixture.hash[at + 1] ^= 0x10;
        }
    }
}

#[test]
fn a_block_without_a_tree() {
    let mut fixture = Fixture::small(1);
    check_all(&reader(&fixture), &fixture.data);
    fixture.data[9] ^= 1;
    assert_eq!(corrupted(reader(&fixture).read_at(&mut [0; 3], 100)), (Place::Data, 0));
}

#[test]
fn values_that_do_not_fit_each_other_are_refused() {
    let fixture = Fixture::small(300);
    let refusal = |geometry: &Geometry, root: &RootHash| {
        let Fixture { params, data, hash, .. } = &fixture;
        VerityReader::new(data, hash, params.clone(), geometry.clone(), *root).err()
    };
    let other = Geometry::new(&Params::default(), 300, HashArea::bare(0)).unwrap();
    let error = refusal(&other, &fixture.root);
    assert!(matches!(error, Some(Error::Tree(tree::Error::Geometry(_)))), "{error:?}");
    let error = refusal(&fixture.geometry, &RootHash::new(Algorithm::Sha1, &[7; 20]).unwrap());
    assert!(
        matches!(error, Some(Error::Tree(tree::Error::RootHashSize { expected: 32, found: 20 }))),
        "{error:?}"
    );
    // One of the right size is found out when something is read.
    let root = RootHash::new(Algorithm::Sha256, &[7; 32]).unwrap();
    let fixture = Fixture { root, ..fixture };
    assert_eq!(corrupted(reader(&fixture).read_at(&mut [0], 0)), (hash_place(2), 0));
}

/// A caller who reads until the end of the file must not take a truncated image for a whole one.
#[test]
fn data_that_end_early_are_invalid() {
    let mut fixture = Fixture::small(300);
    let original = fixture.data.clone();
    fixture.data.truncate(200 * BLOCK + 100);
    let mut read = Vec::new();
    let error = reader(&fixture).cursor().read_to_end(&mut read).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidData);
    assert!(error.to_string().ends_with("the device ends before that"), "{error}");
    assert!(read == original[..200 * BLOCK], "every whole block before is read");
    fixture.hash.truncate(1024);
    let error = reader(&fixture).read_at(&mut [0; 10], 0).unwrap_err();
    assert!(error.to_string().starts_with("hash device: reading 512 bytes at byte "), "{error}");
}

#[test]
fn one_unreadable_block_takes_no_others_with_it() {
    let fixture = Fixture::small(300);
    let bad = 150 * 512..151 * 512_u64;
    let data = FnReader::new(|buffer: &mut [u8], offset| {
        let touches = offset < bad.end && offset + buffer.len() as u64 > bad.start;
        if touches { Err(io::Error::other("medium error")) } else { fixture.data.read_at(buffer, offset) }
    });
    let reader = reader_of(&fixture, data, &fixture.hash);
    let mut bytes = vec![0; fixture.data.len()];
    assert_eq!(reader.read_at(&mut bytes, 0).unwrap(), 150 * BLOCK);
    assert!(bytes[..150 * BLOCK] == fixture.data[..150 * BLOCK]);
    let error = reader.read_at(&mut bytes, bad.start).unwrap_err().to_string();
    assert_eq!(error, "data device: reading 512 bytes at byte 76800 failed: medium error");
    assert_eq!(reader.read_at(&mut bytes, bad.end).unwrap(), 149 * BLOCK);
}

/// Sources may read less than they are asked for, and be interrupted.
#[test]
fn short_and_interrupted_reads() {
    let fixture = Fixture::small(300);
    let stutter = |turn: u64, _: &mut [u8], count: usize| match turn % 3 {
        0 => Err(ErrorKind::Interrupted.into()),
        1 => Ok(count.min(1 + usize::try_from(turn % 700).unwrap())),
        _ => Ok(count.div_ceil(2)),
    };
    let reader = reader_of(&fixture, changing(&fixture.data, stutter), changing(&fixture.hash, stutter));
    check_all(&reader, &fixture.data);
}

#[test]
fn a_source_that_claims_more_than_it_was_asked_for_is_an_error() {
    let fixture = Fixture::small(300);
    let boast = FnReader::new(|buffer: &mut [u8], _| Ok(buffer.len() + 1));
    let error = reader_of(&fixture, boast, &fixture.hash).read_at(&mut [0; 10], 0).unwrap_err().to_string();
    assert!(error.ends_with("the source claims to have read 513 bytes into a buffer of 512"), "{error}");
}

/// A source that tells something else each time is not believed because it was right once.
#[test]
fn a_source_that_changes_between_reads() {
    let fixture = Fixture::small(300);
    for period in 2..7 {
        let lie = move |turn: u64, buffer: &mut [u8], count: usize| {
            if turn % period == period - 1 && count > 0 {
                buffer[count / 2] ^= 0x40;
            }
            Ok(count)
        };
        let (data, hash) = (changing(&fixture.data, lie), changing(&fixture.hash, lie));
        let reader = reader_of(&fixture, data, hash).with_cache_bytes(1024);
        let (mut good, mut bad) = (0, 0);
        for round in 0..2000_usize {
            let block = round * 7919 % 300;
            let mut bytes = [0; 3 * BLOCK];
            match reader.read_at(&mut bytes, block as u64 * 512) {
                Ok(count) => {
                    good += 1;
                    assert!(bytes[..count] == fixture.data[block * BLOCK..][..count]);
                }
                Err(Error::Corrupted { .. }) => bad += 1,
                Err(other) => panic!("{other}"),
            }
        }
        assert!(good > 0 && bad > 0, "{good} {bad}");
    }
}

/// Whatever a read ends with, nothing that was not checked is left in the buffer.
#[test]
fn a_failed_read_leaves_nothing_behind() {
    let mut fixture = Fixture::small(300);
    let original = fixture.data.clone();
    for byte in &mut fixture.data {
        *byte |= 1;
    }
    for (offset, length) in [(0, 512), (0, 100_000), (100, 100), (511, 2000), (299 * 512, 9999)] {
        let mut buffer = vec![0; length];
        reader(&fixture).read_at(&mut buffer, offset).unwrap_err();
        assert!(buffer.iter().all(|&byte| byte == 0), "{length} bytes at {offset}");
    }
    // With a good block before, that is all there is.
    fixture.data[..BLOCK].copy_from_slice(&original[..BLOCK]);
    let mut buffer = vec![0; 10 * BLOCK];
    assert_eq!(reader(&fixture).read_at(&mut buffer, 0).unwrap(), BLOCK);
    assert!(buffer[..BLOCK] == original[..BLOCK] && buffer[BLOCK..].iter().all(|&byte| byte == 0));
}

#[test]
fn a_source_that_panics_leaves_nothing_behind() {
    let fixture = Fixture::small(300);
    let data = FnReader::new(|buffer: &mut [u8], _| {
        buffer.fill(7);
        panic!("in the source")
    });
    let reader = reader_of(&fixture, data, &fixture.hash);
    let mut buffer = [0; 4096];
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| reader.read_at(&mut buffer, 0)));
    assert!(result.is_err() && buffer == [0; 4096]);
}

#[test]
fn a_reader_is_a_source_itself() {
    // An image in an image: the inner tree and its data are both verified data of the outer one.
    let inner = Fixture::small(40);
    let mut bytes = inner.data.clone();
    bytes.extend(&inner.hash);
    let params = small_params();
    let geometry = Geometry::new(&params, bytes.len() as u64 / 512, HashArea::bare(0)).unwrap();
    let hash = verity_core::io::MemoryDevice::default();
    let root = tree::build(&bytes, &hash, &params, &geometry, &tree::Options::default()).unwrap();
    let outer = Arc::new(VerityReader::new(&bytes, &hash, params, geometry, root).unwrap());
    let area = HashArea::with_superblock(inner.data.len() as u64).unwrap();
    let geometry = Geometry::new(&inner.params, 40, area).unwrap();
    let both = Arc::clone(&outer);
    let reader = VerityReader::new(both, &outer, inner.params.clone(), geometry, inner.root).unwrap();
    let mut read = Vec::new();
    Arc::new(reader).into_cursor().read_to_end(&mut read).unwrap();
    assert!(read == inner.data);
}

/// Threads that read at random, with a cache far too small, from sources that lie now and then.
#[test]
fn many_threads_read_nothing_but_the_data() {
    let fixture = Fixture::small(5000);
    let lie = |turn: u64, buffer: &mut [u8], count: usize| {
        if turn.is_multiple_of(11) && count > 0 {
            buffer[usize::try_from(turn).unwrap() % count] ^= 1;
        }
        Ok(count)
    };
    for cache in [0, 4096, 1 << 20] {
        let (data, hash) = (changing(&fixture.data, lie), changing(&fixture.hash, lie));
        let reader = reader_of(&fixture, data, hash).with_cache_bytes(cache);
        let (reader, fixture) = (&reader, &fixture);
        let good: u64 = std::thread::scope(|scope| {
            let read = |seed: u64| {
                let mut cursor = reader.cursor();
                let mut buffer = vec![0; 40 * BLOCK];
                let mut state = seed;
                let mut good = 0;
                for _ in 0..500 {
                    state =
                        state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    let offset = (state >> 20) % reader.data_bytes();
                    let length = usize::try_from(state >> 50).unwrap() % buffer.len() + 1;
                    cursor.seek(SeekFrom::Start(offset)).unwrap();
                    match cursor.read(&mut buffer[..length]) {
                        Ok(count) => {
                            let at = usize::try_from(offset).unwrap();
                            assert!(buffer[..count] == fixture.data[at..at + count]);
                            good += 1;
                        }
                        Err(error) => assert_eq!(error.kind(), ErrorKind::InvalidData, "{error}"),
                    }
                }
                good
            };
            let threads: Vec<_> = (1..=8).map(|seed| scope.spawn(move || read(seed))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert!(good > 1000, "{good} of 4000 reads were good with {cache} bytes of cache");
    }
}

/// Bits to flip: where, in data and hash device one behind the other, and which.
fn damage() -> impl Strategy<Value = Vec<(prop::sample::Index, u8)>> {
    prop::collection::vec((any::<prop::sample::Index>(), 1..=255_u8), 0..12)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// Each block is read if and only if `verify` finds nothing wrong with it or above it, and then it is the original.
    #[test]
    fn random_damage(
        blocks in 1..600_u64,
        packed: bool,
        cache in 0..8000_usize,
        damage in damage(),
        reads in prop::collection::vec((any::<prop::sample::Index>(), 1..9000_usize), 1..12),
    ) {
        let hash_type = if packed { HashType::ChromeOs } else { HashType::Normal };
        let mut fixture = Fixture::new(&Params { hash_type, ..small_params() }, blocks);
        let original = fixture.data.clone();
        let tree_start = usize::try_from(fixture.geometry.hash_start_block()).unwrap() * BLOCK;
        for (index, bits) in damage {
            let at = index.index(fixture.data.len() + fixture.hash.len().saturating_sub(tree_start));
            match at.checked_sub(fixture.data.len()) {
                None => fixture.data[at] ^= bits,
                Some(at) => fixture.hash[tree_start + at] ^= bits,
            }
        }
        let mut bad = vec![false; original.len() / BLOCK];
        for finding in fixture.verify().findings.iter().filter(|finding| finding.place == Place::Data) {
            let first = usize::try_from(finding.first_block).unwrap();
            bad[first..first + usize::try_from(finding.blocks).unwrap()].fill(true);
        }
        let reader = reader(&fixture).with_cache_bytes(cache);
        for (index, length) in reads {
            let offset = index.index(original.len());
            let wanted = length.min(original.len() - offset);
            let first_bad = (offset / BLOCK..bad.len()).find(|&block| bad[block]);
            let expected = first_bad.map_or(wanted, |block| wanted.min((block * BLOCK).saturating_sub(offset)));
            let mut buffer = vec![0; length];
            match reader.read_at(&mut buffer, offset as u64) {
                Ok(count) => {
                    prop_assert_eq!(count, expected);
                    prop_assert!(buffer[..count] == original[offset..offset + count]);
                }
                Err(_) => prop_assert_eq!(expected, 0),
            }
            prop_assert!(buffer[expected..].iter().all(|&byte| byte == 0));
        }
    }
}
