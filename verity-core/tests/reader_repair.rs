//! Blocks that are restored while they are read, and never believed for that.

mod common;

use std::io;

use common::{Fixture, small_params};
use proptest::prelude::*;
use verity_core::fec::{self, Layout, Roots};
use verity_core::geometry::{Geometry, HashArea};
use verity_core::io::{FnReader, MemoryDevice, ReadAt};
use verity_core::reader::{Error, Repair, VerityReader};
use verity_core::tree::{Options, Place};

const BLOCK: usize = 512;

/// A tree with parity.
struct Protected {
    fixture: Fixture,
    layout: Layout,
    parity: Vec<u8>,
}

impl Protected {
    fn new(data_blocks: u64, roots: u64) -> Self {
        let fixture = Fixture::small(data_blocks);
        let Fixture { params, geometry, data, hash, .. } = &fixture;
        let layout =
            Layout::new(params, geometry, geometry.hash_blocks(), Roots::new(roots).unwrap(), 1024).unwrap();
        let parity = MemoryDevice::default();
        fec::encode(data, hash, &parity, &layout, &Options::default()).unwrap();
        Self { fixture, layout, parity: parity.into_bytes() }
    }

    fn reader(&self) -> VerityReader<'_> {
        self.reader_of(&self.fixture.data)
    }

    fn reader_of<'a>(&'a self, data: impl ReadAt + 'a) -> VerityReader<'a> {
        let Fixture { params, geometry, hash, root, .. } = &self.fixture;
        VerityReader::new(data, hash, params.clone(), geometry.clone(), *root)
            .unwrap()
            .with_parity(&self.parity, self.layout.clone())
            .unwrap()
    }

    /// Blocks that are as far from each other as those of one codeword are.
    fn rounds(&self) -> usize {
        usize::try_from(self.layout.codewords()).unwrap() / BLOCK
    }

    /// Where hash block `index` of `level` lies.
    fn hash_block(&self, level: usize, index: u64) -> usize {
        usize::try_from(self.fixture.geometry.hash_block_offset(level, index)).unwrap()
    }
}

fn all_of(reader: &VerityReader<'_>) -> Result<Vec<u8>, Error> {
    let mut bytes = vec![0; usize::try_from(reader.data_bytes()).unwrap()];
    let mut done = 0;
    while done < bytes.len() {
        done += reader.read_at(&mut bytes[done..], done as u64)?;
    }
    Ok(bytes)
}

#[test]
fn damage_is_restored_while_it_is_read_and_counted() {
    let mut protected = Protected::new(1200, 2);
    let original = protected.fixture.data.clone();
    assert_eq!(all_of(&protected.reader()).unwrap(), original);
    // As many blocks of one codeword as it can restore, and one far away.
    let rounds = protected.rounds();
    for block in [3, 3 + rounds, 8] {
        protected.fixture.data[block * BLOCK..][..BLOCK].fill(0xee);
    }
    let reader = protected.reader();
    assert!(all_of(&reader).unwrap() == original);
    assert_eq!(reader.repairs(), 3);
    // A part of a block, which is restored once more.
    let mut part = [0; 7];
    assert_eq!(reader.read_at(&mut part, 8 * 512 + 100).unwrap(), 7);
    assert!(part == original[8 * BLOCK + 100..][..7]);
    assert_eq!(reader.repairs(), 4);
}

#[test]
fn hash_blocks_of_every_level_are_restored() {
    let mut protected = Protected::new(1200, 4);
    let original = protected.fixture.data.clone();
    for level in 0..protected.fixture.geometry.levels().len() {
        let at = protected.hash_block(level, 0);
        protected.fixture.hash[at..at + BLOCK].fill(0x11);
        let reader = protected.reader();
        assert!(all_of(&reader).unwrap() == original, "level {level}");
        // Each damaged level up to here: a block that was restored is kept.
        assert_eq!(reader.repairs(), level as u64 + 1);
    }
}

#[test]
fn damage_that_nobody_knew_of_is_corrected() {
    let mut protected = Protected::new(1200, 4);
    let original = protected.fixture.data.clone();
    // Block 20 is of no use while its leaf block is bad, and is in a codeword with block 20 + rounds.
    let rounds = protected.rounds();
    let leaf = protected.hash_block(0, 20 / 16);
    protected.fixture.hash[leaf] ^= 1;
    protected.fixture.data[20 * BLOCK + 5] ^= 1;
    protected.fixture.data[(20 + rounds) * BLOCK + 5] ^= 1;
    assert!(all_of(&protected.reader()).unwrap() == original);
}

#[test]
fn too_much_damage_is_an_error_that_says_so() {
    let mut protected = Protected::new(1200, 2);
    let rounds = protected.rounds();
    for row in 0..3 {
        protected.fixture.data[(3 + row * rounds) * BLOCK..][..BLOCK].fill(0xee);
    }
    let reader = protected.reader();
    let error = reader.read_at(&mut [0; 10], 3 * 512).unwrap_err();
    assert!(
        matches!(error, Error::Corrupted { place: Place::Data, block: 3, repair: Repair::Failed, .. }),
        "{error}"
    );
    assert!(error.to_string().ends_with("; the parity cannot restore it"), "{error}");
    assert_eq!((reader.repairs(), reader.read_at(&mut [0; 512], 4 * 512).unwrap()), (0, 512));
}

/// Who can write the image can write parity that fits it.
#[test]
fn forged_parity_restores_nothing() {
    let genuine = Protected::new(1200, 2);
    let mut forged = Protected::new(1200, 2);
    forged.fixture.data[5 * BLOCK] ^= 1;
    let parity = MemoryDevice::default();
    let Fixture { data, hash, .. } = &forged.fixture;
    fec::encode(data, hash, &parity, &forged.layout, &Options::default()).unwrap();
    forged.parity = parity.into_bytes();
    let reader = forged.reader();
    let mut buffer = [0; BLOCK];
    let error = reader.read_at(&mut buffer, 5 * 512).unwrap_err();
    assert!(matches!(error, Error::Corrupted { repair: Repair::Failed, .. }), "{error}");
    assert_eq!((buffer, reader.repairs()), ([0; BLOCK], 0));
    assert_eq!(genuine.reader().read_at(&mut buffer, 5 * 512).unwrap(), BLOCK);
}

#[test]
fn blocks_that_cannot_be_read_are_restored() {
    let protected = Protected::new(1200, 2);
    let data = FnReader::new(|buffer: &mut [u8], offset| {
        let bad = offset < 101 * 512 && offset + buffer.len() as u64 > 100 * 512;
        if bad {
            Err(io::Error::other("medium error"))
        } else {
            protected.fixture.data.read_at(buffer, offset)
        }
    });
    let reader = protected.reader_of(data);
    assert!(all_of(&reader).unwrap() == protected.fixture.data);
    assert_eq!(reader.repairs(), 1);
}

#[test]
fn parity_that_is_missing_does_not_hide_the_damage() {
    let mut protected = Protected::new(1200, 2);
    protected.fixture.data[0] ^= 1;
    protected.parity.clear();
    let error = protected.reader().read_at(&mut [0; 10], 0).unwrap_err().to_string();
    assert!(error.starts_with("FEC device: reading "), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    /// Damage anywhere, in the parity too: what is read is the data, and what cannot be restored is an error.
    #[test]
    fn random_damage(
        damage in prop::collection::vec((any::<prop::sample::Index>(), 1..=255_u8, 1..700_usize), 0..12),
        roots in 2..6_u64,
    ) {
        let mut protected = Protected::new(700, roots);
        let original = protected.fixture.data.clone();
        let Fixture { data, hash, .. } = &mut protected.fixture;
        let parts = [data, hash, &mut protected.parity];
        let mut all: Vec<&mut u8> = parts.into_iter().flatten().collect();
        for (index, bits, length) in &damage {
            let first = index.index(all.len());
            for byte in all.iter_mut().skip(first).take(*length) {
                **byte ^= bits;
            }
        }
        drop(all);
        let reader = protected.reader();
        for (block, expected) in original.chunks(BLOCK).enumerate() {
            let mut bytes = [0; BLOCK];
            match reader.read_at(&mut bytes, block as u64 * 512) {
                Ok(count) => prop_assert!(count == BLOCK && bytes == expected, "block {}", block),
                Err(error) => {
                    prop_assert!(matches!(error, Error::Corrupted { repair: Repair::Failed, .. }), "{}", error);
                    prop_assert_eq!(bytes, [0; BLOCK]);
                }
            }
        }
        // One short run of damage is always restored: it is in one block of a codeword, or in two of different ones.
        if damage.len() <= 1 {
            prop_assert!(all_of(&reader).unwrap() == original);
        }
    }
}

#[test]
fn the_layout_has_to_be_of_this_tree() {
    let protected = Protected::new(1200, 2);
    let params = small_params();
    for (blocks, offset) in [(1199, 0), (1201, 0), (1200, 4096)] {
        let area = HashArea::with_superblock(offset).unwrap();
        let geometry = Geometry::new(&params, blocks, area).unwrap();
        let layout = Layout::new(&params, &geometry, geometry.hash_blocks(), Roots::default(), 0).unwrap();
        let Fixture { data, hash, geometry, root, .. } = &protected.fixture;
        let reader = VerityReader::new(data, hash, params.clone(), geometry.clone(), *root).unwrap();
        assert!(matches!(reader.with_parity(&protected.parity, layout), Err(Error::OtherLayout)));
    }
}
