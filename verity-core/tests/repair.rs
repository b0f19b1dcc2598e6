//! Repair: whatever the damage, the result is the original or the report says what is not.

mod common;

use common::{Fixture, noise, small_params};
use proptest::prelude::*;
use verity_core::fec::{self, Layout, Roots};
use verity_core::io::{MemoryDevice, ReadAt, Storage, WriteAt};
use verity_core::params::Params;
use verity_core::repair::{Image, Report, repair};
use verity_core::tree::{Error, Options, Place, Threads};

/// A tree with its parity, over blocks of 512 bytes.
struct Coded {
    tree: Fixture,
    layout: Layout,
    parity: Vec<u8>,
}

/// Which blocks to damage, counted through the message.
type Blocks = Vec<u64>;

impl Coded {
    fn new(data_blocks: u64, roots: u64) -> Self {
        Self::of(Fixture::small(data_blocks), roots)
    }

    fn of(tree: Fixture, roots: u64) -> Self {
        let roots = Roots::new(roots).unwrap();
        let hash_blocks = tree.geometry.hash_blocks();
        let layout = Layout::new(&tree.params, &tree.geometry, hash_blocks, roots, 0).unwrap();
        let parity = MemoryDevice::default();
        fec::encode(&tree.data, &tree.hash, &parity, &layout, &Options::default()).unwrap();
        Self { tree, layout, parity: parity.into_bytes() }
    }

    fn size(&self) -> usize {
        self.layout.block_size().bytes()
    }

    /// Replaces a block of the message by noise.
    fn damage(&mut self, block: u64) {
        let size = self.size();
        let garbage = &noise(size * 300)[usize::try_from(block % 299).unwrap() * size + 1..][..size];
        let at = usize::try_from(block).unwrap() * size;
        let target = match at.checked_sub(self.tree.data.len()) {
            None => &mut self.tree.data[at..][..size],
            Some(at) => {
                let start = usize::try_from(self.layout.hash_start()).unwrap();
                &mut self.tree.hash[start + at..][..size]
            }
        };
        target.copy_from_slice(garbage);
    }

    /// Repairs, and returns what came out.
    fn repair(&self, options: &Options<'_>) -> (Report, Vec<u8>, Vec<u8>) {
        let Fixture { params, geometry, data, hash, root } = &self.tree;
        let devices = (MemoryDevice::new(data.clone()), MemoryDevice::new(hash.clone()));
        let image = Image {
            data: &devices.0,
            hash: &devices.1,
            parity: &self.parity,
            params,
            geometry,
            layout: &self.layout,
            root,
        };
        let report = repair(&image, options).unwrap();
        (report, devices.0.into_bytes(), devices.1.into_bytes())
    }
}

/// Damages an image and repairs it completely.
fn assert_restored(coded: Coded, damage: &[u64]) -> Report {
    let (data, hash) = (coded.tree.data.clone(), coded.tree.hash.clone());
    let mut damaged = coded;
    damage.iter().for_each(|&block| damaged.damage(block));
    let (report, new_data, new_hash) = damaged.repair(&Options::default());
    assert!(report.is_complete(), "{damage:?}: {:?}", report.remaining);
    assert!(new_data == data && new_hash == hash, "{damage:?}");
    assert_eq!(report.restored_blocks(), damage.len() as u64, "{damage:?}");
    report
}

#[test]
fn what_is_intact_is_left_alone() {
    let coded = Coded::new(700, 2);
    let (report, data, hash) = coded.repair(&Options::default());
    assert!(report.was_intact() && report.is_complete());
    assert!(data == coded.tree.data && hash == coded.tree.hash);
}

#[test]
fn a_damaged_block_is_restored_on_every_level() {
    // 700 under 44 under 3 under 1.
    for block in [0, 350, 699, 744, 747, 700, 701, 702, 703, 704] {
        let report = assert_restored(Coded::new(700, 2), &[block]);
        let expected = if block < 700 { (1, 0) } else { (0, 1) };
        assert_eq!((report.data_blocks, report.hash_blocks), expected);
    }
}

/// Each level is unverifiable until the one above is restored.
#[test]
fn a_path_from_the_root_to_the_data_is_restored() {
    let report = assert_restored(Coded::new(700, 5), &[700, 701, 704, 5]);
    let places: Vec<(Place, u64)> = report.restored.iter().map(|it| (it.place, it.block)).collect();
    let hash = |level| Place::Hash { level };
    assert_eq!(places, [(hash(2), 0), (hash(1), 0), (hash(0), 0), (Place::Data, 5)]);
}

/// Bad blocks in places that the tree tells: as many as there are parity bytes, for every number of these.
#[test]
fn as_many_bad_blocks_of_a_codeword_as_parity_bytes_are_restored_and_not_one_more() {
    for roots in 2..=24 {
        let coded = Coded::new(1500, roots);
        let rounds = coded.layout.rounds();
        // All in the codewords of block 3, and data blocks.
        let mut blocks: Blocks = (0..=roots).map(|row| 3 + row * 5 * rounds).collect();
        assert!(blocks.iter().all(|&block| block < 1500));
        let last = blocks.pop().unwrap();
        assert_restored(Coded::new(1500, roots), &blocks);
        blocks.push(last);
        let mut damaged = Coded::new(1500, roots);
        blocks.iter().for_each(|&block| damaged.damage(block));
        let (report, data, _) = damaged.repair(&Options::default());
        let remaining: Blocks = report.remaining.findings.iter().map(|finding| finding.first_block).collect();
        assert_eq!(remaining, blocks, "{roots}");
        assert_eq!(report.restored_blocks(), 0);
        assert!(data == damaged.tree.data, "nothing is written that is not right");
    }
}

/// Below a bad hash block nothing is vouched for, but what does not match it is where the damage may be.
#[test]
fn damage_below_a_bad_top_block_counts_as_known() {
    for roots in [4, 9, 24] {
        let coded = Coded::new(1500, roots);
        let rounds = coded.layout.rounds();
        // The top block, and as many data blocks of its codewords as there are parity bytes left.
        let blocks: Blocks =
            (0..roots - 1).map(|row| 1500 % rounds + row * 5 * rounds).chain([1500]).collect();
        assert_restored(coded, &blocks);
    }
}

/// A block with one wrong byte is less damaged than it seems: each codeword is looked at by itself.
#[test]
fn single_bytes_are_restored_in_more_blocks_than_there_are_parity_bytes() {
    let mut coded = Coded::new(700, 2);
    let right = coded.tree.data.clone();
    let step = usize::try_from(coded.layout.rounds()).unwrap() * 512;
    for row in 0..100 {
        coded.tree.data[row * step + row] ^= 0x40;
    }
    let (report, data, _) = coded.repair(&Options::default());
    assert!(report.is_complete() && data == right);
    assert_eq!((report.data_blocks, report.bytes), (100, 100));
}

#[test]
fn damaged_parity_does_not_stop_a_repair_that_has_enough_without() {
    let mut coded = Coded::new(700, 4);
    let right = coded.tree.data.clone();
    coded.parity.iter_mut().step_by(4).for_each(|byte| *byte ^= 0x11);
    coded.damage(9);
    let (report, data, _) = coded.repair(&Options::default());
    assert!(report.is_complete() && data == right);
}

/// Where data, tree and parity are another image's, nothing of it gets past the root hash.
#[test]
fn forged_parity_restores_nothing() {
    let genuine = Coded::new(700, 4);
    let mut forged_data = genuine.tree.data.clone();
    forged_data[100_000] ^= 1;
    let hash = MemoryDevice::default();
    let Fixture { params, geometry, .. } = &genuine.tree;
    verity_core::tree::build(&forged_data, &hash, params, geometry, &Options::default()).unwrap();
    let tree = Fixture {
        params: params.clone(),
        geometry: geometry.clone(),
        data: forged_data,
        hash: hash.into_bytes(),
        root: genuine.tree.root,
    };
    let mut forged = Coded::of(tree, 4);
    // One error that the forged parity can repair.
    forged.damage(5);
    let (report, data, hash) = forged.repair(&Options::default());
    assert_eq!(report.restored_blocks(), 0);
    assert_eq!(report.remaining.bad_hash_blocks, 1, "the top block");
    assert_eq!(report.remaining.unverifiable_blocks, 700 + 44 + 3);
    assert!(data == forged.tree.data && hash == forged.tree.hash);
}

/// Spare bytes are part of what is hashed: changed ones come back as zeros.
#[test]
fn spare_bytes_become_zeros_again() {
    let mut coded = Coded::new(700, 2);
    let right = coded.tree.hash.clone();
    let end = right.len();
    coded.tree.hash[end - 1] = 7;
    let (report, _, hash) = coded.repair(&Options::default());
    assert!(report.is_complete() && hash == right);
    assert_eq!((report.hash_blocks, report.bytes), (1, 1));
}

#[test]
fn the_missing_end_of_a_device_is_restored() {
    let mut coded = Coded::new(1500, 24);
    let right = coded.tree.data.clone();
    // Rows of 7 blocks: 20 rows and a half, and the tree behind them.
    coded.tree.data.truncate(right.len() - 512 * 30 - 100);
    let (report, data, _) = coded.repair(&Options::default());
    assert!(report.is_complete() && data == right);
    assert_eq!(report.data_blocks, 31);
}

#[test]
fn a_single_data_block_needs_no_tree() {
    for block_size in [512, 4096] {
        let size = verity_core::block::BlockSize::new(block_size).unwrap();
        let params = Params { data_block_size: size, hash_block_size: size, ..small_params() };
        let report = assert_restored(Coded::of(Fixture::new(&params, 1), 2), &[0]);
        assert_eq!((report.data_blocks, report.hash_blocks), (1, 0));
    }
}

/// A device that refuses to be written.
struct ReadOnly(MemoryDevice);

impl ReadAt for ReadOnly {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> std::io::Result<usize> {
        self.0.read_at(buffer, offset)
    }
}

impl WriteAt for ReadOnly {
    fn write_all_at(&self, _: &[u8], _: u64) -> std::io::Result<()> {
        Err(std::io::ErrorKind::PermissionDenied.into())
    }
}

#[test]
fn a_block_that_cannot_be_written_is_an_error() {
    let mut coded = Coded::new(700, 2);
    coded.damage(3);
    let Fixture { params, geometry, data, hash, root } = &coded.tree;
    let devices = (ReadOnly(MemoryDevice::new(data.clone())), ReadOnly(MemoryDevice::new(hash.clone())));
    let (data, hash): (&dyn Storage, &dyn Storage) = (&devices.0, &devices.1);
    let (parity, layout) = (&coded.parity, &coded.layout);
    let image = Image { data, hash, parity, params, geometry, layout, root };
    let result = repair(&image, &Options::default());
    assert!(matches!(result, Err(Error::Write { offset: 1536, length: 512, .. })), "{result:?}");
    // What was laid out for another tree is refused before anything is read.
    let other = Layout::new(params, geometry, geometry.hash_blocks(), Roots::MIN, 0).unwrap();
    let geometry = &Fixture::small(701).geometry;
    let result = repair(&Image { geometry, layout: &other, ..image }, &Options::default());
    assert!(matches!(result, Err(Error::Geometry(_))), "{result:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is damaged: what is restored is right, and what is not is told. Codewords with no more bad blocks than parity bytes are
    /// always restored if the tree is whole, and those with half as many in any case.
    #[test]
    fn any_damage_is_repaired_or_told(
        data_blocks in 1u64..900,
        roots in 2u64..=24,
        damage in prop::collection::vec(any::<prop::sample::Index>(), 0..60),
        threads in 1usize..4,
        parity_damage in prop::collection::vec(any::<prop::sample::Index>(), 0..4),
    ) {
        let right = Coded::new(data_blocks, roots);
        let mut coded = Coded::new(data_blocks, roots);
        let covered = usize::try_from(coded.layout.covered_blocks()).unwrap();
        let damage: std::collections::BTreeSet<u64> =
            damage.into_iter().map(|index| index.index(covered) as u64).collect();
        damage.iter().for_each(|&block| coded.damage(block));
        for index in &parity_damage {
            let at = index.index(coded.parity.len());
            coded.parity[at] ^= 0x55;
        }
        let options = Options { threads: Threads::new(threads).unwrap(), ..Options::default() };
        let (report, data, hash) = coded.repair(&options);
        let restored = data == right.tree.data && hash == right.tree.hash;
        prop_assert_eq!(report.is_complete(), restored);
        let rounds = coded.layout.rounds();
        let mut in_round = vec![0; usize::try_from(rounds).unwrap()];
        damage.iter().for_each(|block| in_round[usize::try_from(block % rounds).unwrap()] += 1);
        let most = if damage.iter().all(|&block| block < data_blocks) { roots } else { roots / 2 };
        if parity_damage.is_empty() && in_round.iter().all(|&count| count <= most) {
            prop_assert!(restored, "{:?}", report);
        }
        // No block is worse than it was.
        for (new, (old, right)) in data.chunks(512).zip(coded.tree.data.chunks(512).zip(right.tree.data.chunks(512))) {
            prop_assert!(new == right || new == old);
        }
        for (new, (old, right)) in hash.chunks(512).zip(coded.tree.hash.chunks(512).zip(right.tree.hash.chunks(512))) {
            prop_assert!(new == right || new == old);
        }
    }
}
