//! Disk images of an attacker: what is found lies on the disk, and nothing overlaps.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use verity_core::algorithm::Algorithm;
use verity_core::block::RootHash;
use verity_core::dialect::ddi::{Architecture, Designator, Image, Kind, Layout, write};
use verity_core::dialect::find;
use verity_core::io::MemoryDevice;

/// A sound disk, to begin with.
static DISK: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let layout = Layout::new(4096, 8192, Some(100)).unwrap();
    let device = MemoryDevice::new(vec![0; usize::try_from(layout.length).unwrap()]);
    let root = RootHash::new(Algorithm::Sha256, &[7; 32]).unwrap();
    let kind = Kind { designator: Designator::Root, architecture: Architecture::X86_64 };
    write(&device, &layout, kind, &root).unwrap();
    device.into_bytes()
});

/// The checksum that a table has to have, so that what it says is looked at.
fn crc(bytes: &[u8]) -> [u8; 4] {
    let step = |sum: u32, byte: &u8| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| (sum >> 1) ^ (0xedb8_8320 & (sum & 1).wrapping_neg()))
    };
    (!bytes.iter().fold(u32::MAX, step)).to_le_bytes()
}

fuzz_target!(|input: (Vec<(u16, u8)>, bool, Vec<u8>)| {
    let (changes, mend, tail) = input;
    let _ = find::superblock(&tail, tail.len() as u64);
    let mut disk = DISK.clone();
    for (at, value) in changes.into_iter().take(256) {
        disk[512 + usize::from(at) % 3072] = value;
    }
    if mend {
        let entries = crc(&disk[1024..1024 + 128 * 128]);
        disk[512 + 88..512 + 92].copy_from_slice(&entries);
        disk[512 + 16..512 + 20].fill(0);
        let header = crc(&disk[512..512 + 92]);
        disk[512 + 16..512 + 20].copy_from_slice(&header);
    }
    let length = disk.len() as u64;
    let Ok(image) = Image::read(&disk, length) else { return };
    let parts: Vec<_> =
        [Some(&image.data), Some(&image.verity), image.signature.as_ref()].into_iter().flatten().collect();
    for (index, one) in parts.iter().enumerate() {
        assert!(one.bytes.start < one.bytes.end && one.bytes.end <= length);
        assert!(
            parts[..index]
                .iter()
                .all(|other| { one.bytes.end <= other.bytes.start || other.bytes.end <= one.bytes.start })
        );
    }
    let _ = image.signature(&disk);
});
