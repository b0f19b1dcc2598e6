//! A fixed VHD: the bytes of the disk, and a footer of 512 bytes behind them.
//!
//! Source: Microsoft's "Virtual Hard Disk Image Format Specification" (2006), and `ext4/tar2ext4/vhdfooter.go` and `ext4/dmverity` of hcsshim,
//! which gives layers to confidential containers in this form: image, superblock, tree, footer; SHA-256, blocks of 4096 bytes and 32
//! zero bytes of salt. All numbers are big-endian.
//!
//! | offset | size | field | here |
//! |---|---|---|---|
//! | 0 | 8 | cookie | `conectix` |
//! | 8 | 4 | features | bit 1, always set |
//! | 12 | 4 | format version | 0x00010000 |
//! | 16 | 8 | offset of a dynamic header | all ones: none |
//! | 24 | 4 | seconds since 2000 | |
//! | 28 | 4 | creator | |
//! | 32 | 8 | creator's version and system | |
//! | 40 | 8 | original size in bytes | |
//! | 48 | 8 | size in bytes | |
//! | 56 | 4 | cylinders, heads, sectors | the largest: the size counts |
//! | 60 | 4 | type | 2, fixed |
//! | 64 | 4 | checksum | complement of the sum of all other bytes |
//! | 68 | 16 | unique id | |
//! | 84 | 428 | saved state, reserved | zero |

use super::{Error, containerd, field};
use crate::block::BlockSize;
use crate::params::Params;

const WHAT: &str = "VHD footer";
const COOKIE: &[u8; 8] = b"conectix";
const VERSION: u32 = 0x0001_0000;
const FIXED: u32 = 2;
const CHECKSUM: std::ops::Range<usize> = 64..68;

/// 65535 cylinders, 16 heads, 255 sectors: what stands for "larger than that", and makes readers that go by the geometry take the size.
const GEOMETRY: [u8; 4] = [0xff, 0xff, 0x10, 0xff];

/// The footer of a fixed VHD.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Footer {
    /// The size of the disk in bytes: all that comes before the footer.
    pub size: u64,
    /// The disk's identifier.
    pub unique_id: [u8; 16],
    /// When it was made, in seconds since 2000-01-01 UTC; 0 where nobody was to know.
    pub seconds: u32,
    /// Which program made it, in four letters.
    pub creator: [u8; 4],
}

impl Footer {
    /// The size in bytes.
    pub const SIZE: usize = 512;

    /// A footer that is the same whenever it is made.
    #[must_use]
    pub const fn new(size: u64, unique_id: [u8; 16]) -> Self {
        Self { size, unique_id, seconds: 0, creator: *b"vrty" }
    }

    /// Whether bytes begin as a footer does.
    #[must_use]
    pub fn is_one(bytes: &[u8]) -> bool {
        bytes.starts_with(COOKIE)
    }

    /// Reads the footer behind a disk of `disk_bytes` bytes.
    ///
    /// # Errors
    /// [`Error::Absent`] without the cookie; [`Error::Field`] for a disk that is not fixed, another size or a wrong checksum.
    pub fn parse(bytes: &[u8; Self::SIZE], disk_bytes: u64) -> Result<Self, Error> {
        if !Self::is_one(bytes) {
            return Err(Error::Absent { what: WHAT, why: "the cookie \"conectix\" is not there" });
        }
        let (stored, computed) = (u32_at(bytes, CHECKSUM.start), checksum(bytes));
        if stored != computed {
            let problem = format_args!("it is {stored:08x}, but the bytes give {computed:08x}");
            return Err(field(WHAT, "checksum", problem));
        }
        let version = u32_at(bytes, 12);
        if version != VERSION {
            return Err(field(WHAT, "format version", format_args!("{version:#x} is not {VERSION:#x}")));
        }
        let kind = u32_at(bytes, 60);
        if kind != FIXED || u64_at(bytes, 16) != u64::MAX {
            let problem = format_args!("{kind} is not 2: only a fixed disk holds its bytes as they are");
            return Err(field(WHAT, "disk type", problem));
        }
        let size = u64_at(bytes, 48);
        if size != disk_bytes {
            let problem = format_args!("{size} bytes, but {disk_bytes} lie before the footer");
            return Err(field(WHAT, "size", problem));
        }
        Ok(Self {
            size,
            unique_id: array_at(bytes, 68),
            seconds: u32_at(bytes, 24),
            creator: array_at(bytes, 28),
        })
    }

    /// The footer's bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; Self::SIZE] {
        let mut bytes = [0; Self::SIZE];
        let mut put =
            |offset: usize, value: &[u8]| bytes[offset..offset + value.len()].copy_from_slice(value);
        put(0, COOKIE);
        put(8, &2_u32.to_be_bytes());
        put(12, &VERSION.to_be_bytes());
        put(16, &u64::MAX.to_be_bytes());
        put(24, &self.seconds.to_be_bytes());
        put(28, &self.creator);
        put(40, &self.size.to_be_bytes());
        put(48, &self.size.to_be_bytes());
        put(56, &GEOMETRY);
        put(60, &FIXED.to_be_bytes());
        put(68, &self.unique_id);
        let sum = checksum(&bytes);
        bytes[CHECKSUM].copy_from_slice(&sum.to_be_bytes());
        bytes
    }
}

/// The parameters that hcsshim makes trees with.
#[must_use]
pub fn params() -> Params {
    containerd::zero_salt(BlockSize::default())
}

/// The complement of the sum of all bytes but the checksum's own; 512 of them do not overflow.
fn checksum(bytes: &[u8; Footer::SIZE]) -> u32 {
    let (before, after) = (&bytes[..CHECKSUM.start], &bytes[CHECKSUM.end..]);
    !before.iter().chain(after).map(|&byte| u32::from(byte)).sum::<u32>()
}

fn u32_at(bytes: &[u8; Footer::SIZE], offset: usize) -> u32 {
    u32::from_be_bytes(array_at(bytes, offset))
}

fn u64_at(bytes: &[u8; Footer::SIZE], offset: usize) -> u64 {
    u64::from_be_bytes(array_at(bytes, offset))
}

fn array_at<const N: usize>(bytes: &[u8; Footer::SIZE], offset: usize) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&bytes[offset..offset + N]);
    array
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `qemu-img create -f vpc -o subformat=fixed,force_size=on t.vhd 1M` (10.0.2) wrote, field by field.
    fn by_qemu() -> [u8; Footer::SIZE] {
        let parts = [
            "636f6e6563746978",
            "00000002",
            "00010000",
            "ffffffffffffffff",
            "32940cf2",
            "71656d32",
            "000500035769326b",
            "0000000000100000",
            "0000000000100000",
            "ffff10ff",
            "00000002",
            "ffffe46a",
            "e2aec7756e61437c85c94a847668b26a",
        ];
        let head = hex::decode(parts.concat()).unwrap();
        let mut bytes = [0; Footer::SIZE];
        bytes[..head.len()].copy_from_slice(&head);
        bytes
    }

    #[test]
    fn a_footer_of_qemu_is_read() {
        let footer = Footer::parse(&by_qemu(), 1 << 20).unwrap();
        assert_eq!((footer.size, &footer.creator, footer.seconds), (1 << 20, b"qem2", 0x3294_0cf2));
        // What differs from one that is written here: who made it with what, and thus the checksum.
        let mut own = footer.encode();
        own[32..40].copy_from_slice(&by_qemu()[32..40]);
        let sum = checksum(&own);
        own[CHECKSUM].copy_from_slice(&sum.to_be_bytes());
        assert_eq!(own, by_qemu());
    }

    #[test]
    fn a_footer_as_hcsshim_writes_it_is_read() {
        // No creator, no time, no geometry.
        let mut bytes = Footer { creator: [0; 4], ..Footer::new(8192, [7; 16]) }.encode();
        bytes[56..60].fill(0);
        let sum = checksum(&bytes);
        bytes[CHECKSUM].copy_from_slice(&sum.to_be_bytes());
        assert_eq!(Footer::parse(&bytes, 8192).unwrap().unique_id, [7; 16]);
    }

    #[test]
    fn no_changed_byte_is_overlooked() {
        let good = Footer::new(1 << 30, *b"0123456789abcdef").encode();
        assert_eq!(Footer::parse(&good, 1 << 30).unwrap().encode(), good);
        for at in 0..Footer::SIZE {
            let mut bytes = good;
            bytes[at] ^= 1;
            assert!(Footer::parse(&bytes, 1 << 30).is_err(), "byte {at}");
        }
        let error = Footer::parse(&good, (1 << 30) - 512).unwrap_err().to_string();
        assert!(error.contains("1073741824") && error.contains("1073741312"), "{error}");
    }

    #[test]
    fn a_dynamic_disk_is_refused() {
        let mut bytes = Footer::new(4096, [0; 16]).encode();
        bytes[60..64].copy_from_slice(&3_u32.to_be_bytes());
        let sum = checksum(&bytes);
        bytes[CHECKSUM].copy_from_slice(&sum.to_be_bytes());
        let error = Footer::parse(&bytes, 4096).unwrap_err().to_string();
        assert!(error.contains("fixed"), "{error}");
    }
}
