//! Restoring single blocks: how much damage there may be, of which kind, and where.

mod common;

use std::io;

use common::{Fixture, small_params};
use verity_core::fec::{self, Decoder, Layout, Roots};
use verity_core::io::{MemoryDevice, ReadAt};
use verity_core::params::Params;
use verity_core::tree::Options;

/// A tree with its parity.
struct Coded {
    tree: Fixture,
    layout: Layout,
    parity: Vec<u8>,
    size: usize,
}

impl Coded {
    fn new(params: &Params, data_blocks: u64, roots: Roots) -> Self {
        let tree = Fixture::new(params, data_blocks);
        let layout = Layout::new(params, &tree.geometry, tree.geometry.hash_blocks(), roots, 0).unwrap();
        let parity = MemoryDevice::default();
        fec::encode(&tree.data, &tree.hash, &parity, &layout, &Options::default()).unwrap();
        Self { tree, layout, parity: parity.into_bytes(), size: params.data_block_size.bytes() }
    }

    /// A block of the message, as it is now.
    fn block(&mut self, block: u64) -> &mut [u8] {
        let at = usize::try_from(block).unwrap() * self.size;
        match at.checked_sub(self.tree.data.len()) {
            None => &mut self.tree.data[at..][..self.size],
            Some(at) => {
                let start = usize::try_from(self.layout.hash_start()).unwrap();
                &mut self.tree.hash[start + at..][..self.size]
            }
        }
    }

    /// Changes every byte, differently in each block: equal errors can cancel each other out.
    fn damage(&mut self, block: u64) {
        let mut state = 77 + block;
        for byte in self.block(block) {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            *byte ^= 1 + u8::try_from((state >> 33) % 255).unwrap();
        }
    }

    /// Restores `block`, which should become `right`, and tells whether it did.
    fn restores(&self, block: u64, bad: &[u64], right: &[u8]) -> bool {
        let Self { tree, layout, parity, .. } = self;
        let mut out = vec![0; self.size];
        let restored = Decoder::new(&tree.data, &tree.hash, parity, layout)
            .restore(block, &|block| bad.contains(&block), &|candidate| candidate == right, &mut out)
            .unwrap();
        assert!(!restored || out == right);
        restored
    }
}

/// As many places as there are parity bytes, one more, and all that only where they are told.
#[test]
fn as_many_lost_blocks_as_parity_bytes_are_restored_and_not_one_more() {
    for roots in 2..=24 {
        let roots = Roots::new(roots).unwrap();
        let mut coded = Coded::new(&small_params(), 1500, roots);
        let rounds = coded.layout.rounds();
        let right = coded.block(3).to_vec();
        // All in the codewords of block 3.
        let lost: Vec<u64> = (0..=roots.get() as u64).map(|row| 3 + row * 5 * rounds).collect();
        let covered = coded.layout.covered_blocks();
        assert!(lost.iter().all(|&block| block < covered), "{roots}");
        let (all_but_one, all) = (&lost[..roots.get()], &lost);
        for &block in all_but_one {
            coded.damage(block);
        }
        assert!(coded.restores(3, all_but_one, &right), "{roots}");
        // The block itself is known; the others are errors, two parity bytes each.
        assert!(!coded.restores(3, &[], &right), "{roots}");
        coded.damage(all[roots.get()]);
        assert!(!coded.restores(3, all, &right), "{roots}");
    }
}

/// Damage that nobody knows of counts twice, wherever it is.
#[test]
fn errors_in_unknown_places_are_corrected_up_to_half_the_parity_bytes() {
    for roots in 2..=24 {
        let roots = Roots::new(roots).unwrap();
        let mut coded = Coded::new(&small_params(), 300, roots);
        let rounds = coded.layout.rounds();
        let right = coded.block(0).to_vec();
        for row in 0..roots.get() as u64 / 2 {
            coded.damage(row * 3 * rounds);
        }
        // One of them is known at least: the block itself.
        assert!(coded.restores(0, &[], &right), "{roots}");
        coded.damage(100 * rounds);
        let odd = roots.get() % 2 == 1;
        assert_eq!(coded.restores(0, &[], &right), odd, "{roots}: the known place leaves room for one more");
        assert!(coded.restores(0, &[0, 100 * rounds], &right) || roots.get() < 4, "{roots}");
    }
}

#[test]
fn damaged_parity_is_an_error_like_others() {
    let roots = Roots::new(4).unwrap();
    let mut coded = Coded::new(&small_params(), 700, roots);
    let right = coded.block(1).to_vec();
    coded.damage(1);
    // One parity byte of each codeword.
    coded.parity.iter_mut().step_by(4).for_each(|byte| *byte ^= 0x5a);
    assert!(coded.restores(1, &[], &right));
    coded.parity.iter_mut().skip(1).step_by(4).for_each(|byte| *byte ^= 0x17);
    assert!(!coded.restores(1, &[], &right));
}

/// A wrong byte in each of many blocks is less than it seems.
#[test]
fn scattered_bytes_are_corrected_in_more_blocks_than_there_are_parity_bytes() {
    let mut coded = Coded::new(&small_params(), 700, Roots::MIN);
    let rounds = coded.layout.rounds();
    let right = coded.block(2).to_vec();
    let bad: Vec<u64> = (0..100).map(|row| 2 + row * rounds).collect();
    for (at, &block) in bad.iter().enumerate() {
        coded.block(block)[at] ^= 0x80;
    }
    assert!(coded.restores(2, &bad, &right));
    coded.block(bad[1])[0] ^= 1;
    assert!(!coded.restores(2, &bad, &right));
}

#[test]
fn the_tree_is_restored_as_the_data_is() {
    let mut coded = Coded::new(&small_params(), 700, Roots::MIN);
    for block in 700..coded.layout.covered_blocks() {
        let right = coded.block(block).to_vec();
        coded.damage(block);
        assert!(coded.restores(block, &[], &right));
        coded.block(block).copy_from_slice(&right);
    }
    let beyond = coded.layout.covered_blocks();
    assert!(!coded.restores(beyond, &[], &[0; 512]));
}

/// Some blocks of a device that fails.
struct Failing<'a> {
    device: &'a [u8],
    blocks: &'a [u64],
}

impl ReadAt for Failing<'_> {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let end = offset + buffer.len() as u64;
        if self.blocks.iter().any(|&block| block * 512 < end && offset < (block + 1) * 512) {
            return Err(io::ErrorKind::Other.into());
        }
        self.device.read_at(buffer, offset)
    }
}

#[test]
fn blocks_that_cannot_be_read_are_places_that_are_known() {
    let Coded { tree, layout, parity, .. } = Coded::new(&small_params(), 700, Roots::MIN);
    let rounds = layout.rounds();
    let right = &tree.data[..512];
    let mut out = vec![0; 512];
    let mut restores = |blocks: &[u64], known: &[u64]| {
        let data = Failing { device: &tree.data, blocks };
        Decoder::new(&data, &tree.hash, &parity, &layout)
            .restore(0, &|block| known.contains(&block), &|candidate| candidate == right, &mut out)
            .unwrap()
    };
    assert!(restores(&[0], &[]));
    assert!(restores(&[0, rounds], &[]));
    assert!(restores(&[rounds], &[rounds]));
    assert!(!restores(&[0, rounds, 2 * rounds], &[]));
    assert!(restores(&[0, rounds + 1, 2 * rounds + 1, 3 * rounds + 1], &[]), "those are in other codewords");
    let no_parity: &[u8] = &parity[..parity.len() - 1];
    let result = Decoder::new(&tree.data, &tree.hash, &no_parity, &layout).restore(
        rounds - 1,
        &|_| false,
        &|_| true,
        &mut [0; 512],
    );
    assert!(result.is_err());
}
