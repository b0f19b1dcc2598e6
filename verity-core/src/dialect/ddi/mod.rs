//! A discoverable disk image (DDI): a GPT with a partition for the image, one for superblock and tree, and one for the root hash's signature.
//!
//! Source: the Discoverable Partitions Specification of the UAPI Group, and systemd's `dissect-image.c`. The UUID of the data partition is the first
//! half of the root hash, that of the verity partition the second: a root hash of 32 bytes is found in the table. The partition table is
//! read and written by the `gpt` crate, whose bounds are checked here before it is let at a table.

mod device;
mod types;
mod write;

use std::ops::Range;

use gpt::disk::LogicalBlockSize;
use gpt::header::Header;

use super::systemd::SignaturePartition;
use super::{Error, field};
use crate::io::{ReadAt, usize_of};
use device::Positioned;
pub use types::{Architecture, Designator, Kind, Part, UnknownArchitecture};
pub use write::{Layout, write};

const WHAT: &str = "disk image";

/// The size of a logical block in bytes: of an image in a file, which is no disk with larger ones.
const SECTOR: u64 = 512;

/// What the partition table's header begins with, in the second sector.
const MAGIC: &[u8; 8] = b"EFI PART";

/// The size of an entry in bytes: the smallest that the format allows, and the only one in use.
const ENTRY_SIZE: u32 = 128;

/// More entries than any table has: the usual number is 128.
const MOST_ENTRIES: u32 = 1024;

/// A partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Its UUID, as it is printed.
    pub uuid: [u8; 16],
    /// Its bytes on the disk.
    pub bytes: Range<u64>,
    /// Its name.
    pub label: String,
}

/// The partitions that belong to a hash tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// What the image is.
    pub kind: Kind,
    /// The image itself.
    pub data: Partition,
    /// Superblock and tree.
    pub verity: Partition,
    /// The root hash's signature.
    pub signature: Option<Partition>,
}

impl Image {
    /// Whether a device has a partition table.
    ///
    /// # Errors
    /// What the device answers.
    pub fn is_one(device: &dyn ReadAt, length: u64) -> std::io::Result<bool> {
        let mut magic = [0; 8];
        if length < 2 * SECTOR {
            return Ok(false);
        }
        device.read_exact_at(&mut magic, SECTOR)?;
        Ok(magic == *MAGIC)
    }

    /// Reads the partition table of a device of `length` bytes.
    ///
    /// # Errors
    /// [`Error::Absent`] without a table, or without data and verity partition; [`Error::Contradiction`] where several could be meant;
    /// [`Error::Field`] where a number in the table cannot be.
    pub fn read(device: &dyn ReadAt, length: u64) -> Result<Self, Error> {
        let io = |source| Error::Io { what: WHAT, source };
        if !Self::is_one(device, length).map_err(io)? {
            return Err(Error::Absent { what: WHAT, why: "no GUID partition table is in its second sector" });
        }
        let mut positioned = Positioned::new(device, length);
        let header = gpt::header::read_header_from_arbitrary_device(&mut positioned, LogicalBlockSize::Lb512)
            .map_err(|error| field(WHAT, "partition table", error))?;
        check_table(&header, device, length)?;
        let entries = gpt::partition::file_read_partitions(&mut positioned, &header, LogicalBlockSize::Lb512)
            .map_err(io)?;
        let mut kinds: Vec<(Kind, [Option<Partition>; 3])> = Vec::new();
        for entry in entries.values() {
            let Some((kind, part)) = Kind::of(entry.part_type_guid.guid.into_bytes()) else { continue };
            let partition = Partition {
                uuid: entry.part_guid.into_bytes(),
                bytes: range(entry.first_lba, entry.last_lba, &header, length)?,
                label: entry.name.clone(),
            };
            let place = kinds.iter().position(|(known, _)| *known == kind).unwrap_or_else(|| {
                kinds.push((kind, [None, None, None]));
                kinds.len() - 1
            });
            let slot = &mut kinds[place].1[part as usize];
            if slot.is_some() {
                let problem = format!("there are two partitions of type {}", kind.label_of(part));
                return Err(Error::Contradiction { what: WHAT, problem });
            }
            *slot = Some(partition);
        }
        let mut complete = kinds.into_iter().filter_map(|(kind, [data, verity, signature])| {
            Some(Self { kind, data: data?, verity: verity?, signature })
        });
        let why = "it has no data partition with a verity partition of the same kind";
        let image = complete.next().ok_or(Error::Absent { what: WHAT, why })?;
        if let Some(other) = complete.next() {
            let label = |kind: Kind| kind.label_of(Part::Verity);
            let problem = format!("both {} and {} are there", label(image.kind), label(other.kind));
            return Err(Error::Contradiction { what: WHAT, problem });
        }
        image.check_apart()?;
        Ok(image)
    }

    /// The root hash that the partitions' UUIDs say.
    #[must_use]
    pub fn root(&self) -> [u8; 32] {
        let mut root = [0; 32];
        root[..16].copy_from_slice(&self.data.uuid);
        root[16..].copy_from_slice(&self.verity.uuid);
        root
    }

    /// Reads the signature partition, if there is one.
    ///
    /// # Errors
    /// Those of [`SignaturePartition::parse`], and [`Error::Contradiction`] where it is of another root hash than the partitions' UUIDs.
    pub fn signature(&self, device: &dyn ReadAt) -> Result<Option<SignaturePartition>, Error> {
        let Some(Partition { bytes, .. }) = &self.signature else { return Ok(None) };
        let (found, most) = (bytes.end - bytes.start, SignaturePartition::MAX_SIZE);
        if found > most {
            return Err(Error::TooLarge { what: "verity signature partition", found, most });
        }
        let mut content = vec![0; usize_of(found)];
        device
            .read_exact_at(&mut content, bytes.start)
            .map_err(|source| Error::Io { what: "verity signature partition", source })?;
        let signature = SignaturePartition::parse(&content)?;
        if signature.root.as_bytes() != self.root() {
            let (signed, uuids) = (signature.root, hex::encode(self.root()));
            let problem = format!("{signed} is signed, but the partitions' UUIDs say {uuids}");
            return Err(Error::Contradiction { what: WHAT, problem });
        }
        Ok(Some(signature))
    }

    fn check_apart(&self) -> Result<(), Error> {
        let parts: Vec<_> = [Some(&self.data), Some(&self.verity), self.signature.as_ref()]
            .into_iter()
            .flatten()
            .map(|partition| &partition.bytes)
            .collect();
        for (index, one) in parts.iter().enumerate() {
            for other in &parts[..index] {
                if one.start < other.end && other.start < one.end {
                    let problem = format!("partitions overlap: bytes {one:?} and {other:?}");
                    return Err(Error::Contradiction { what: WHAT, problem });
                }
            }
        }
        Ok(())
    }
}

/// Checks what the crate takes for granted: the size of entries, that there are not too many of them, that they lie on the device, and
/// their checksum.
fn check_table(header: &Header, device: &dyn ReadAt, length: u64) -> Result<(), Error> {
    let Header { part_start, num_parts, part_size, crc32_parts, .. } = *header;
    if part_size != ENTRY_SIZE {
        let problem = format_args!("{part_size} bytes; entries of {ENTRY_SIZE} are known here");
        return Err(field(WHAT, "size of a partition entry", problem));
    }
    if num_parts > MOST_ENTRIES {
        let problem = format_args!("{num_parts} (at most {MOST_ENTRIES})");
        return Err(field(WHAT, "number of partition entries", problem));
    }
    let size = u64::from(num_parts) * u64::from(part_size);
    let start = part_start
        .checked_mul(SECTOR)
        .filter(|start| *start >= 2 * SECTOR && start.checked_add(size).is_some_and(|end| end <= length));
    let start = start.ok_or_else(|| {
        field(
            WHAT,
            "partition entries",
            format_args!("sector {part_start} and {size} bytes are not on the disk"),
        )
    })?;
    let first_usable = header.first_usable;
    if first_usable.checked_mul(SECTOR).is_none_or(|usable| usable < start + size) {
        let problem = format_args!("sector {first_usable} is not behind the partition entries");
        return Err(field(WHAT, "first usable sector", problem));
    }
    let mut table = vec![0; usize_of(size)];
    device.read_exact_at(&mut table, start).map_err(|source| Error::Io { what: WHAT, source })?;
    let computed = crc::Crc::<u32>::new(&crc::CRC_32_ISO_HDLC).checksum(&table);
    if computed != crc32_parts {
        let problem = format_args!("it is {crc32_parts:08x}, but the bytes give {computed:08x}");
        return Err(field(WHAT, "checksum of the partition entries", problem));
    }
    Ok(())
}

/// The bytes of a partition, which lie within those that the table calls usable.
fn range(first: u64, last: u64, header: &Header, length: u64) -> Result<Range<u64>, Error> {
    let Header { first_usable, last_usable, .. } = *header;
    let end = last.checked_add(1).and_then(|sectors| sectors.checked_mul(SECTOR));
    let bytes = first.checked_mul(SECTOR).zip(end).filter(|&(start, end)| start < end && end <= length);
    let (start, end) = bytes.ok_or_else(|| {
        field(WHAT, "partition", format_args!("sectors {first} to {last} are not on the disk"))
    })?;
    if first < first_usable || last > last_usable {
        let usable = format_args!("the usable ones, {first_usable} to {last_usable}");
        return Err(field(
            WHAT,
            "partition",
            format_args!("sectors {first} to {last} are not among {usable}"),
        ));
    }
    Ok(start..end)
}
