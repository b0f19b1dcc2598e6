//! An EROFS image of an attacker's choice, damaged anywhere: looking for files ends, and what it says is within bounds.
#![no_main]

use libfuzzer_sys::fuzz_target;
use verity_core::block::BlockSize;
use verity_core::geometry::{Geometry, HashArea};
use verity_core::locate::{Area, Map, State, files};
use verity_core::params::Params;
use verity_core::tree::Report;

/// A superblock that a reader goes past: magic number, blocks of 512 bytes, the root behind it, all features.
fn superblock(image: &mut [u8]) {
    for (offset, bytes) in [
        (0, &[0xe2, 0xe1, 0xf5, 0xe0][..]),
        (12, &[9]),
        (14, &[36, 0]),
        (40, &[0; 4]),
        (81, &[0; 3]),
        (90, &[0]),
    ] {
        image[1024 + offset..1024 + offset + bytes.len()].copy_from_slice(bytes);
    }
    image[1024 + 80] &= 0x7f;
}

fuzz_target!(|input: (bool, Vec<(u8, u8, u8)>, Vec<u8>)| {
    let (sound_superblock, damage, mut image) = input;
    image.resize(image.len().next_multiple_of(512).max(2048), 0);
    if sound_superblock {
        superblock(&mut image);
    }
    let params = Params { data_block_size: BlockSize::MIN, ..Params::default() };
    let Ok(geometry) = Geometry::new(&params, image.len() as u64 / 512, HashArea::bare(0)) else { return };
    let mut map = Map::new(&params, &geometry, &Report::default());
    map.mark(Area::Data, 0..1, State::Damaged);
    for (start, length, state) in damage.into_iter().take(64) {
        let blocks = u64::from(start)..u64::from(start) + u64::from(length % 8);
        map.mark(Area::Data, blocks, State::ALL[usize::from(state) % State::ALL.len()]);
    }
    let Ok(found) = files(&image, &map, 100, &()) else { return };
    assert!(found.affected.len() <= 100 && found.gaps.len() <= 100);
    for affected in &found.affected {
        assert_ne!(affected.state, State::Good);
        assert!(affected.device.listed.iter().all(|bytes| bytes.end <= image.len() as u64));
        assert!(affected.content.listed.iter().all(|bytes| bytes.start < bytes.end));
    }
});
