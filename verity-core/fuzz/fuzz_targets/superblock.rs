//! What is read as a superblock is written as the same bytes, and can be laid out or is refused.
#![no_main]

use libfuzzer_sys::fuzz_target;
use verity_core::geometry::{Geometry, HashArea};
use verity_core::superblock::Superblock;

fuzz_target!(|bytes: &[u8]| {
    let Ok(superblock) = Superblock::parse(bytes) else { return };
    assert_eq!(Superblock::parse(&superblock.encode()).as_ref(), Ok(&superblock));
    let offset = u64::from(bytes[0]) << 40 | u64::from(bytes[16]) << 9;
    let Ok(area) = HashArea::with_superblock(offset) else { return };
    if let Ok(geometry) = Geometry::new(&superblock.params, superblock.data_blocks, area) {
        assert!(geometry.hash_area_end() > offset);
        assert!(geometry.levels().windows(2).all(|pair| pair[0].blocks >= pair[1].blocks));
    }
});
