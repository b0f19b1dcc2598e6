//! Writing a partition table around an image and its tree.

use std::collections::BTreeMap;
use std::ops::Range;

use gpt::disk::LogicalBlockSize;
use gpt::mbr::ProtectiveMBR;
use gpt::partition_types::{OperatingSystem, Type};
use sha2::{Digest, Sha256};
use uuid::{Builder, Uuid};

use super::device::Positioned;
use super::types::{Kind, Part};
use super::{Error, SECTOR, WHAT, field};
use crate::block::RootHash;
use crate::geometry::{GeometryError, MAX_OFFSET};
use crate::io::Storage;

/// Where the first partition begins, as everywhere.
const FIRST: u64 = 1 << 20;

/// What partitions and the whole are multiples of.
const ALIGNMENT: u64 = 4096;

/// What lies behind the last partition: entries and header once more, in whole units of the alignment.
const BACKUP: u64 = 5 * ALIGNMENT;

/// The flag of a partition that may only be read.
const READ_ONLY: u64 = 1 << 60;

/// The places of the partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The image.
    pub data: Range<u64>,
    /// Superblock and tree.
    pub verity: Range<u64>,
    /// The signature.
    pub signature: Option<Range<u64>>,
    /// How many bytes the whole has.
    pub length: u64,
}

impl Layout {
    /// Lays out partitions for so many bytes each.
    ///
    /// # Errors
    /// [`GeometryError::TooLarge`] if the whole would pass 2^63 bytes.
    pub fn new(data: u64, verity: u64, signature: Option<u64>) -> Result<Self, GeometryError> {
        let mut next = FIRST;
        let mut place = |bytes: u64| {
            let start = next;
            next = bytes
                .max(1)
                .checked_next_multiple_of(ALIGNMENT)
                .and_then(|bytes| bytes.checked_add(start))
                .filter(|&end| end <= MAX_OFFSET - BACKUP)
                .ok_or(GeometryError::TooLarge)?;
            Ok(start..next)
        };
        let (data, verity) = (place(data)?, place(verity)?);
        let signature = signature.map(place).transpose()?;
        let end = signature.as_ref().unwrap_or(&verity).end;
        Ok(Self { data, verity, signature, length: end + BACKUP })
    }
}

/// Writes the partition tables, the first and the last, around what lies in the partitions. The disk's UUID and the signature partition's
/// follow from the root hash, so that the same image always becomes the same disk.
///
/// # Errors
/// [`Error::Field`] for a root hash that has not 32 bytes; [`Error::Io`].
pub fn write(device: &dyn Storage, layout: &Layout, kind: Kind, root: &RootHash) -> Result<(), Error> {
    let Some((first, second)) = root.as_bytes().split_first_chunk::<16>() else { return Err(size(root)) };
    let second: [u8; 16] = second.try_into().map_err(|_| size(root))?;
    let failed = |error: String| Error::Io { what: WHAT, source: std::io::Error::other(error) };

    let mut positioned = Positioned::new(device, layout.length);
    // A disk too large for the field says so with the largest number.
    let sectors = u32::try_from(layout.length / SECTOR - 1).unwrap_or(u32::MAX);
    ProtectiveMBR::with_lb_size(sectors)
        .overwrite_lba0(&mut positioned)
        .map_err(|error| failed(error.to_string()))?;

    let parts = [
        (Part::Data, Some(&layout.data), Uuid::from_bytes(*first), READ_ONLY),
        (Part::Verity, Some(&layout.verity), Uuid::from_bytes(second), READ_ONLY),
        (Part::Signature, layout.signature.as_ref(), derived("signature", root), READ_ONLY),
    ];
    let entries: BTreeMap<u32, gpt::partition::Partition> = (1..)
        .zip(parts)
        .filter_map(|(number, (part, bytes, part_guid, flags))| {
            let bytes = bytes?;
            let guid = Uuid::from_bytes(kind.type_of(part));
            let entry = gpt::partition::Partition {
                part_type_guid: Type { guid, os: OperatingSystem::Linux },
                part_guid,
                first_lba: bytes.start / SECTOR,
                last_lba: bytes.end / SECTOR - 1,
                flags,
                name: kind.label_of(part),
            };
            Some((number, entry))
        })
        .collect();
    let mut disk = gpt::GptConfig::new()
        .writable(true)
        .logical_block_size(LogicalBlockSize::Lb512)
        .create_from_device(positioned, Some(derived("disk", root)))
        .map_err(|error| failed(error.to_string()))?;
    disk.update_partitions(entries).map_err(|error| failed(error.to_string()))?;
    disk.write().map_err(|error| failed(error.to_string()))?;
    Ok(())
}

fn size(root: &RootHash) -> Error {
    let problem = format_args!(
        "{} bytes, but two UUIDs hold 32: take a hash algorithm with digests of that size",
        root.as_bytes().len()
    );
    field(WHAT, "root hash", problem)
}

/// A UUID that follows from the root hash.
fn derived(purpose: &str, root: &RootHash) -> Uuid {
    let digest = Sha256::new().chain_update("verity ").chain_update(purpose).chain_update(root.as_bytes());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest.finalize()[..16]);
    Builder::from_custom_bytes(bytes).into_uuid()
}

#[cfg(test)]
mod tests {
    use super::super::Image;
    use super::super::types::{Architecture, Designator};
    use super::*;
    use crate::algorithm::Algorithm;
    use crate::io::{MemoryDevice, WriteAt};

    fn disk() -> (Vec<u8>, Layout, Kind, RootHash) {
        let layout = Layout::new(10_000, 4096, None).unwrap();
        let device = MemoryDevice::new(vec![0; usize::try_from(layout.length).unwrap()]);
        let root = RootHash::new(Algorithm::Sha256, &(0..32).collect::<Vec<u8>>()).unwrap();
        let kind = Kind { designator: Designator::Usr, architecture: Architecture::Arm64 };
        write(&device, &layout, kind, &root).unwrap();
        (device.into_bytes(), layout, kind, root)
    }

    #[test]
    fn what_is_written_is_read() {
        let (bytes, layout, kind, root) = disk();
        let image = Image::read(&bytes, layout.length).unwrap();
        assert_eq!((image.kind, &image.root()[..]), (kind, root.as_bytes()));
        assert_eq!((&image.data.bytes, &image.verity.bytes), (&layout.data, &layout.verity));
        assert_eq!((image.verity.label.as_str(), image.signature), ("usr-arm64-verity", None));
        assert_eq!(disk().0, bytes, "the same each time");
    }

    #[test]
    fn damaged_tables_are_refused() {
        let (bytes, layout, ..) = disk();
        let refused = |at: usize, patch: &[u8], said: &str| {
            let mut bytes = bytes.clone();
            bytes[at..at + patch.len()].copy_from_slice(patch);
            // Where the header itself is changed its checksum is mended, so that what it says is looked at.
            if (512..604).contains(&at) && at != 528 {
                bytes[528..532].fill(0);
                let sum = crc::Crc::<u32>::new(&crc::CRC_32_ISO_HDLC).checksum(&bytes[512..604]);
                bytes[528..532].copy_from_slice(&sum.to_le_bytes());
            }
            let error = Image::read(&bytes, layout.length).unwrap_err().to_string();
            assert!(error.contains(said), "{at}: {error}");
        };
        refused(512, b"EFI TRAP", "second sector");
        refused(528, &[1, 2, 3, 4], "CRC32");
        refused(512 + 72, &u64::MAX.to_le_bytes(), "not on the disk");
        refused(512 + 72, &1_u64.to_le_bytes(), "not on the disk");
        refused(512 + 80, &u32::MAX.to_le_bytes(), "at most 1024");
        refused(512 + 84, &256_u32.to_le_bytes(), "256 bytes");
        refused(512 + 84, &0_u32.to_le_bytes(), "0 bytes");
        refused(1024 + 40, &[0xff; 8], "checksum of the partition entries");
        // The first and the last usable sector: partitions lie between them, and the entries before.
        refused(512 + 40, &33_u64.to_le_bytes(), "sector 33 is not behind the partition entries");
        refused(512 + 40, &u64::MAX.to_le_bytes(), "not behind the partition entries");
        let first = layout.data.start / 512;
        refused(512 + 40, &(first + 1).to_le_bytes(), "not among the usable ones");
        refused(512 + 48, &(first + 1).to_le_bytes(), "not among the usable ones");
    }

    #[test]
    fn partitions_must_lie_on_the_disk_and_apart() {
        let layout = Layout::new(4096, 4096, None).unwrap();
        let length = layout.length;
        let kind = Kind { designator: Designator::Root, architecture: Architecture::X86_64 };
        let root = RootHash::new(Algorithm::Sha256, &[7; 32]).unwrap();
        let beyond = Layout { verity: length..length + 4096, ..layout.clone() };
        let overlapping = Layout { verity: layout.data.clone(), ..layout };
        for (layout, said) in [(beyond, "not on the disk"), (overlapping, "overlap")] {
            let device = MemoryDevice::default();
            device.write_all_at(&[0], length - 1).unwrap();
            write(&device, &layout, kind, &root).unwrap();
            let error = Image::read(&device, length).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
    }

    #[test]
    fn root_hashes_of_other_sizes_have_no_place() {
        let layout = Layout::new(1, 1, Some(1)).unwrap();
        let kind = Kind { designator: Designator::Root, architecture: Architecture::X86_64 };
        let root = RootHash::new(Algorithm::Sha512, &[7; 64]).unwrap();
        assert!(write(&MemoryDevice::default(), &layout, kind, &root).is_err());
        assert!(Layout::new(MAX_OFFSET, 1, None).is_err() && Layout::new(u64::MAX, 1, None).is_err());
    }
}
