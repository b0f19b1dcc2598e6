//! Copies of verified data.

mod common;

use std::sync::Mutex;

use common::{Fixture, small_params};
use verity_core::geometry::{Geometry, HashArea};
use verity_core::io::{MemoryDevice, ReadAt, WriteAt};
use verity_core::progress::Observer;
use verity_core::reader::{Error, VerityReader};
use verity_core::tree::{self, Options, Place, Threads};

fn reader(fixture: &Fixture) -> VerityReader<'_> {
    let Fixture { params, geometry, data, hash, root } = fixture;
    VerityReader::new(data, hash, params.clone(), geometry.clone(), *root).unwrap()
}

fn options(threads: usize) -> Options<'static> {
    Options { threads: Threads::new(threads).unwrap(), ..Options::default() }
}

/// A target that notes what is written to it.
#[derive(Default)]
struct Noted(MemoryDevice, Mutex<Vec<u64>>);

impl WriteAt for Noted {
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> std::io::Result<()> {
        assert!(!bytes.is_empty());
        self.1.lock().unwrap().extend((offset..offset + bytes.len() as u64).step_by(512));
        self.0.write_all_at(bytes, offset)
    }
}

/// A source with a hole, or one that claims to have one.
struct Holed<'a>(&'a [u8], std::ops::Range<u64>);

impl ReadAt for Holed<'_> {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> std::io::Result<usize> {
        assert!(!self.1.contains(&offset), "nobody has to read a hole");
        self.0.read_at(buffer, offset)
    }

    fn zeros_until(&self, offset: u64) -> std::io::Result<u64> {
        Ok(if self.1.contains(&offset) { self.1.end } else { offset })
    }
}

#[test]
fn a_copy_is_the_data() {
    for blocks in [1, 2, 300, 5000, 10_000] {
        let fixture = Fixture::small(blocks);
        for threads in [1, 4] {
            let target = MemoryDevice::default();
            let extracted = reader(&fixture).extract(&target, &options(threads)).unwrap();
            assert_eq!((extracted.bytes, extracted.zero_bytes), (blocks * 512, 0));
            assert!(target.into_bytes() == fixture.data);
        }
    }
}

/// Blocks 1000 to 3999 are zeros; of these 2000 to 2999 lie in a hole.
fn with_zeros() -> Fixture {
    let params = small_params();
    let geometry = Geometry::new(&params, 5000, HashArea::with_superblock(0).unwrap()).unwrap();
    let mut data = common::noise(5000 * 512);
    data[1000 * 512..4000 * 512].fill(0);
    let hash = MemoryDevice::default();
    let root = tree::build(&data, &hash, &params, &geometry, &Options::default()).unwrap();
    Fixture { params, geometry, data, hash: hash.into_bytes(), root }
}

#[test]
fn zeros_are_not_written_and_holes_not_read() {
    let fixture = with_zeros();
    let Fixture { params, geometry, data, hash, root } = &fixture;
    let source = Holed(data, 2000 * 512..3000 * 512);
    let reader = VerityReader::new(source, hash, params.clone(), geometry.clone(), *root).unwrap();
    let target = Noted::default();
    let extracted = reader.extract(&target, &options(3)).unwrap();
    assert_eq!((extracted.bytes, extracted.zero_bytes), (5000 * 512, 3000 * 512));
    assert!(target.0.into_bytes() == *data);
    let mut written = target.1.into_inner().unwrap();
    written.sort_unstable();
    assert!(written.iter().copied().eq((0..1000).chain(4000..5000).map(|block| block * 512)));
}

/// A hole where the tree has something else is damage like any other.
#[test]
fn a_hole_in_place_of_data_is_an_error() {
    let fixture = with_zeros();
    let Fixture { params, geometry, data, hash, root } = &fixture;
    let mut damaged = data.clone();
    damaged[999 * 512..1000 * 512].fill(0);
    struct Lying<'a>(&'a [u8]);
    impl ReadAt for Lying<'_> {
        fn read_at(&self, buffer: &mut [u8], offset: u64) -> std::io::Result<usize> {
            self.0.read_at(buffer, offset)
        }
        fn zeros_until(&self, offset: u64) -> std::io::Result<u64> {
            Ok(if offset >= 999 * 512 { u64::MAX } else { offset })
        }
    }
    let target = MemoryDevice::default();
    let extract = |data: &dyn ReadAt| {
        let reader = VerityReader::new(data, hash, params.clone(), geometry.clone(), *root).unwrap();
        reader.extract(&target, &options(1))
    };
    let error = extract(&Lying(&damaged)).unwrap_err();
    assert!(matches!(error, Error::Corrupted { place: Place::Data, block: 999, .. }), "{error}");
    // One that is only claimed is read.
    assert_eq!(extract(&Lying(data)).unwrap().zero_bytes, 3000 * 512);
    assert!(target.into_bytes() == *data);
}

#[test]
fn nothing_that_is_bad_is_copied() {
    let mut fixture = Fixture::small(5000);
    let original = fixture.data.clone();
    fixture.data[4321 * 512 + 1] ^= 1;
    let target = MemoryDevice::default();
    let error = reader(&fixture).extract(&target, &options(4)).unwrap_err();
    assert!(matches!(error, Error::Corrupted { place: Place::Data, block: 4321, .. }), "{error}");
    for (block, copied) in target.into_bytes().chunks(512).enumerate() {
        let good = copied == &original[block * 512..][..512];
        assert!(good || copied.iter().all(|&byte| byte == 0), "block {block}");
    }
}

#[test]
fn a_target_that_fails_is_an_error() {
    struct Full;
    impl WriteAt for Full {
        fn write_all_at(&self, _: &[u8], _: u64) -> std::io::Result<()> {
            Err(std::io::ErrorKind::StorageFull.into())
        }
    }
    let error = reader(&Fixture::small(300)).extract(&Full, &options(2)).unwrap_err();
    assert!(error.to_string().starts_with("output: writing 153600 bytes at byte 0 failed: "), "{error}");
}

#[test]
fn it_can_be_cancelled() {
    struct Stop;
    impl Observer for Stop {
        fn cancelled(&self) -> bool {
            true
        }
    }
    let options = Options { observer: &Stop, ..Options::default() };
    let target = MemoryDevice::default();
    let result = reader(&Fixture::small(300)).extract(&target, &options);
    assert!(matches!(result, Err(Error::Tree(tree::Error::Cancelled))));
    assert!(target.into_bytes().is_empty());
}
