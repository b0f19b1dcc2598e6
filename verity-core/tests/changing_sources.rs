//! Sources that shrink, grow or fail while they are read: an error that says where, or the result for what was there; never zeros in
//! the place of what could not be read.

mod common;

use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use common::noise;
use verity_core::block::RootHash;
use verity_core::fec::{self, Layout, Roots};
use verity_core::geometry::{Geometry, HashArea};
use verity_core::io::{MemoryDevice, ReadAt, WriteAt};
use verity_core::params::Params;
use verity_core::progress::Observer;
use verity_core::tree::{self, Device, Error, Old, Options, Threads};

const BLOCK: u64 = 4096;
/// Several jobs, and several levels.
const BLOCKS: u64 = 2000;

/// Changes a file's length when the first piece of it is done.
struct Resize<'a> {
    file: &'a File,
    length: u64,
    done: AtomicBool,
}

impl Observer for Resize<'_> {
    fn advance(&self, _: u64) {
        if !self.done.swap(true, Ordering::Relaxed) {
            self.file.set_len(self.length).unwrap();
        }
    }
}

/// A device with a place that cannot be read.
struct Unreadable {
    bytes: Vec<u8>,
    place: Range<usize>,
}

impl ReadAt for Unreadable {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let start = usize::try_from(offset).unwrap();
        let count = buffer.len().min(self.bytes.len() - start);
        if start < self.place.end && self.place.start < start + count {
            // What a broken disk answers.
            return Err(io::Error::from_raw_os_error(5));
        }
        self.bytes.read_at(buffer, offset)
    }
}

/// A device that is a hole all over.
struct Hole;

impl ReadAt for Hole {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let left = usize::try_from((BLOCKS * BLOCK).saturating_sub(offset)).unwrap();
        let count = left.min(buffer.len());
        buffer[..count].fill(0);
        Ok(count)
    }

    fn zeros_until(&self, offset: u64) -> io::Result<u64> {
        Ok(offset.max(BLOCKS * BLOCK))
    }
}

struct Tree {
    params: Params,
    geometry: Geometry,
    hash: Vec<u8>,
    root: RootHash,
}

impl Tree {
    fn over(data: &dyn ReadAt) -> Self {
        let params = Params::default();
        let geometry = Geometry::new(&params, BLOCKS, HashArea::bare(0)).unwrap();
        let hash = MemoryDevice::default();
        let root = tree::build(data, &hash, &params, &geometry, &Options::default()).unwrap();
        Self { params, geometry, hash: hash.into_bytes(), root }
    }
}

type Engine = fn(&dyn ReadAt, &Tree, &Options<'_>) -> Result<(), Error>;

/// All that reads data. Where `data` is what the tree is over, each ends well.
const ENGINES: [(&str, Engine); 5] = [
    ("build", |data, tree, options| {
        let root = tree::build(data, &MemoryDevice::default(), &tree.params, &tree.geometry, options)?;
        assert_eq!(root, tree.root);
        Ok(())
    }),
    ("verify", |data, tree, options| {
        let report = tree::verify(data, &tree.hash, &tree.params, &tree.geometry, &tree.root, options)?;
        assert!(report.is_intact(), "{report:?}");
        Ok(())
    }),
    ("update", |data, tree, options| {
        let Tree { params, geometry, hash, root } = tree;
        let (old, changed) = (Old { hash, geometry, root }, 0..BLOCKS * BLOCK);
        let new = tree::update(data, &MemoryDevice::default(), params, geometry, &old, &[changed], options)?;
        assert_eq!(new, *root);
        Ok(())
    }),
    ("compare", |data, tree, options| {
        let size = tree.params.data_block_size;
        tree::changed_ranges(&Hole, data, size, BLOCKS, options).map(drop)
    }),
    ("parity", |data, tree, options| {
        let Tree { params, geometry, root, .. } = tree;
        let layout = Layout::new(params, geometry, geometry.hash_blocks(), Roots::MIN, 0).unwrap();
        let (hash, parity) = (MemoryDevice::default(), MemoryDevice::default());
        assert_eq!(fec::build(data, &hash, &parity, params, geometry, &layout, options)?, *root);
        Ok(())
    }),
];

/// A file of noise, or one that is a hole.
fn file(sparse: bool) -> File {
    let file = tempfile::tempfile().unwrap();
    if !sparse {
        file.write_all_at(&noise(usize::try_from(BLOCKS * BLOCK).unwrap()), 0).unwrap();
    }
    file.set_len(BLOCKS * BLOCK).unwrap();
    file
}

fn resized_while_it_is_read(length: u64, check: impl Fn(&str, Result<(), Error>)) {
    for sparse in [false, true] {
        let tree = Tree::over(&file(sparse));
        for (name, engine) in ENGINES {
            for threads in [1, 3] {
                let file = file(sparse);
                let observer = Resize { file: &file, length, done: AtomicBool::new(false) };
                let options = Options {
                    threads: Threads::new(threads).unwrap(),
                    observer: &observer,
                    ..Options::default()
                };
                check(&format!("{name}, sparse {sparse}, {threads}"), engine(&file, &tree, &options));
                assert!(observer.done.into_inner(), "{name}: nothing was resized");
            }
        }
    }
}

#[test]
fn a_file_that_shrinks_while_it_is_read_is_an_error() {
    for length in [0, 5 * BLOCK, BLOCKS / 2 * BLOCK, BLOCKS * BLOCK - 1] {
        resized_while_it_is_read(length, |what, result| {
            let Err(error) = result else { panic!("{what}: shrunk to {length}, and no error") };
            assert!(
                matches!(&error, Error::Read { device: Device::Data, source, .. } if source.kind() == io::ErrorKind::UnexpectedEof),
                "{what}: {error:?}"
            );
        });
    }
}

#[test]
fn a_file_that_grows_while_it_is_read_is_what_it_was() {
    resized_while_it_is_read(2 * BLOCKS * BLOCK, |what, result| {
        assert!(result.is_ok(), "{what}: {result:?}");
    });
}

#[test]
fn a_read_error_in_the_middle_says_where() {
    let mut data =
        Unreadable { bytes: noise(usize::try_from(BLOCKS * BLOCK).unwrap()), place: usize::MAX..usize::MAX };
    let tree = Tree::over(&data);
    for place in [0..1, 3_000_000..3_000_512, data.bytes.len() - 1..data.bytes.len()] {
        for (name, engine) in ENGINES {
            data.place = usize::MAX..usize::MAX;
            engine(&data, &tree, &Options::default()).unwrap();
            data.place = place.clone();
            match engine(&data, &tree, &Options::default()) {
                Err(Error::Read { device: Device::Data, offset, length, source }) => {
                    let start = usize::try_from(offset).unwrap();
                    assert!(start < place.end && place.start < start + length, "{name}: {offset} {length}");
                    assert_eq!(source.raw_os_error(), Some(5), "{name}");
                }
                other => panic!("{name}: {other:?}"),
            }
        }
    }
}
