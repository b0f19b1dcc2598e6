//! Layers whose image is hashed while it is written, since their diffID is known: the same file, and the same errors.
#![cfg(feature = "layer")]

mod common;
#[path = "common/layers.rs"]
mod layers;
#[path = "common/raw_tar.rs"]
mod raw_tar;

use std::io::{self, Read};
use std::sync::atomic::{AtomicU64, Ordering};

use layers::{build_with, gzip, zstd};
use raw_tar::RawTar;
use verity_core::algorithm::Algorithm;
use verity_core::block::BlockSize;
use verity_core::erofs::write;
use verity_core::fec::Roots;
use verity_core::io::{MemoryDevice, ReadAt, WriteAt};
use verity_core::layer::{Digest, Error, Options, build};
use verity_core::progress::Observer;
use verity_core::tree::{self, Threads};

fn compressed(tar: &[u8]) -> [Vec<u8>; 3] {
    [tar.to_vec(), gzip(tar), zstd(tar)]
}

/// Some pieces' worth: large and small files, one twice, one of zeros, one with a hole, names enough for directories of several blocks.
fn sample() -> Vec<u8> {
    let noise = common::noise(3 << 20);
    let mut tar = RawTar::default().directory("d").file("large", &noise).file("again", &noise[..1 << 20]);
    for number in 0..400 {
        let length = number * 37 % 9000;
        tar = tar.file(&format!("d/file-with-a-long-name-{number}"), &noise[number..number + length]);
    }
    tar.file("zeros", &vec![0; 300_000])
        .pax(&[("GNU.sparse.map", b"1048576,5000"), ("GNU.sparse.size", b"9000000")])
        .file("sparse", &noise[..5000])
        .link("second-name", "large", b'1')
        .link("symbolic", "large", b'2')
        .file("last", &noise[7..1_500_000])
        .end()
}

/// A digest that is none of this one.
fn sha512_of(tar: &[u8]) -> Digest {
    let zeros: Digest = format!("sha512:{}", "0".repeat(128)).parse().unwrap();
    match build_with(tar, |options| options.diff_id = Some(zeros)) {
        Err(Error::Mismatch { found, .. }) => found,
        other => panic!("{:?}", other.map(|_| ())),
    }
}

#[test]
fn the_file_is_the_same_whether_the_diff_id_is_known_or_not() {
    let tar = sample();
    let blobs = compressed(&tar);
    let sha512 = sha512_of(&tar);
    for (block_size, algorithm, roots) in [
        (4096, Algorithm::Sha256, None),
        (4096, Algorithm::Sha256, Some(2)),
        (512, Algorithm::Sha256, None),
        (512, Algorithm::Sha1, Some(5)),
        (4096, Algorithm::Sha512, None),
    ] {
        let set = |options: &mut Options<'_>| {
            options.block_size = BlockSize::new(block_size).unwrap();
            options.algorithm = algorithm;
            options.roots = roots.map(|roots| Roots::new(roots).unwrap());
        };
        let (unknown, bytes) = build_with(&tar, set).unwrap();
        let intact = tree::verify(
            &bytes,
            &bytes,
            &unknown.params,
            &unknown.geometry,
            &unknown.root,
            &tree::Options::default(),
        );
        assert!(intact.unwrap().is_intact());
        for (blob, threads) in blobs.iter().zip([1, 2, 3]).chain(blobs.iter().zip([4, 1, 16])) {
            for diff_id in [&unknown.diff_id, &sha512] {
                let (known, known_bytes) = build_with(blob, |options| {
                    set(options);
                    options.engine.threads = Threads::new(threads).unwrap();
                    options.diff_id = Some(diff_id.clone());
                })
                .unwrap();
                assert_eq!((known.root, &known.image), (unknown.root, &unknown.image));
                assert!(known_bytes == bytes, "{block_size} {algorithm} {roots:?} {threads}");
            }
        }
    }
}

/// Around what one block, one piece of the image and none at all hold.
#[test]
fn layers_of_every_size_are_the_same() {
    let noise = common::noise((1 << 20) + 5000);
    let blocks = (0..6).map(|count| count * 4096).chain([252 * 4096, 255 * 4096, 256 * 4096, 257 * 4096]);
    let mut tars: Vec<Vec<u8>> = blocks
        .flat_map(|length: usize| [length.saturating_sub(1), length, length + 1])
        .map(|length| RawTar::default().file("file", &noise[..length]).end())
        .collect();
    tars.push(RawTar::default().end());
    for tar in tars {
        for block_size in [512, 4096] {
            let block_size = BlockSize::new(block_size).unwrap();
            let (unknown, bytes) = build_with(&tar, |options| options.block_size = block_size).unwrap();
            let (known, known_bytes) = build_with(&tar, |options| {
                options.block_size = block_size;
                options.diff_id = Some(unknown.diff_id.clone());
            })
            .unwrap();
            assert_eq!(known.root, unknown.root);
            assert!(known_bytes == bytes, "{} {block_size}", tar.len());
        }
    }
}

/// A wrong diffID has a wrong salt, and is seen when all was written.
#[test]
fn a_wrong_diff_id_is_an_error_at_the_end() {
    let tar = sample();
    let wrong: Digest = format!("sha256:{}", "1".repeat(64)).parse().unwrap();
    for blob in compressed(&tar) {
        for threads in [1, 4] {
            let result = build_with(&blob, |options| {
                options.engine.threads = Threads::new(threads).unwrap();
                options.diff_id = Some(wrong.clone());
            });
            let error = result.unwrap_err();
            assert!(matches!(&error, Error::Mismatch { what: "diffID", expected, .. } if *expected == wrong));
        }
    }
}

/// A device that takes some writes, and then none.
struct Full {
    device: MemoryDevice,
    left: AtomicU64,
    panics: bool,
}

impl ReadAt for Full {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.device.read_at(buffer, offset)
    }
}

impl WriteAt for Full {
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let less = |left: u64| left.checked_sub(1);
        if self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_err() {
            assert!(!self.panics, "a panic of the test's own");
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.device.write_all_at(bytes, offset)
    }
}

#[test]
fn a_write_that_fails_is_the_error_wherever_it_is() {
    let tar = sample();
    let diff_id = build_with(&tar, |_| ()).unwrap().0.diff_id;
    let build_on = |left, threads, known: bool, panics| {
        let output = Full { device: MemoryDevice::default(), left: AtomicU64::new(left), panics };
        let mut options = Options::default();
        options.diff_id = known.then(|| diff_id.clone());
        options.engine.threads = Threads::new(threads).unwrap();
        let result = build(&tar[..], &output, &options);
        (result.map(|_| ()), left - output.left.into_inner())
    };
    for threads in [1, 2, 4] {
        for known in [true, false] {
            let (result, writes) = build_on(u64::MAX, threads, known, false);
            result.unwrap();
            for left in 0..writes {
                let error = build_on(left, threads, known, false).0.unwrap_err();
                let source = match &error {
                    Error::Image(write::Error::Write { source, .. }) => source,
                    Error::Tree(tree::Error::Write { source, .. }) => source,
                    other => panic!("{other}"),
                };
                assert_eq!(source.kind(), io::ErrorKind::StorageFull, "{left} of {writes}");
            }
            // A storage with a flaw is an error as well, and nobody waits for whoever is gone.
            assert!(build_on(1, threads, known, true).0.is_err());
        }
    }
}

#[test]
fn it_is_cancelled_wherever_it_is() {
    struct After(AtomicU64);
    impl Observer for After {
        fn cancelled(&self) -> bool {
            self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_err()
        }
    }
    let tar = sample();
    let diff_id = build_with(&tar, |_| ()).unwrap().0.diff_id;
    for blob in compressed(&tar) {
        let build_until = |asked: u64| {
            let observer = After(AtomicU64::new(asked));
            let mut options = Options::default();
            options.diff_id = Some(diff_id.clone());
            options.roots = Some(Roots::new(2).unwrap());
            options.engine.observer = &observer;
            let result = build(&blob[..], &MemoryDevice::default(), &options);
            (result.map(|_| ()), asked - observer.0.load(Ordering::Relaxed))
        };
        let (result, asked) = build_until(u64::MAX);
        result.unwrap();
        for after in (0..asked).step_by(usize::try_from(asked / 20).unwrap().max(1)) {
            let error = build_until(after).0.unwrap_err();
            assert!(matches!(error, Error::Cancelled | Error::Tree(tree::Error::Cancelled)), "{error}");
        }
    }
}

/// A source that fails in the middle, while everything else is busy.
#[test]
fn a_source_that_fails_is_the_error() {
    struct Broken<'a>(&'a [u8]);
    impl Read for Broken<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            match self.0.read(buffer)? {
                0 => Err(io::ErrorKind::ConnectionReset.into()),
                count => Ok(count),
            }
        }
    }
    let tar = sample();
    let diff_id = build_with(&tar, |_| ()).unwrap().0.diff_id;
    for blob in compressed(&tar) {
        let mut options = Options::default();
        options.diff_id = Some(diff_id.clone());
        let cut = &blob[..blob.len() * 2 / 3];
        let error = build(Broken(cut), &MemoryDevice::default(), &options).unwrap_err();
        assert!(
            matches!(&error, Error::Source(error) if error.kind() == io::ErrorKind::ConnectionReset),
            "{error}"
        );
    }
}
