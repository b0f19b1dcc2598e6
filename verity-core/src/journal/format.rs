//! The journal's bytes: the header, and the entries behind it.

use std::io;
use std::ops::RangeInclusive;

use sha2::{Digest, Sha256};

use super::error::JournalError;
use crate::block::BlockSize;
use crate::geometry::MAX_OFFSET;
use crate::io::{ReadAt, usize_of};

const MAGIC: &[u8; 16] = b"verity-journal\0\0";
const VERSION: u32 = 2;
/// Bytes of the header without its own digest.
const FIELDS_SIZE: usize = 88;
pub(super) const HEADER_SIZE: usize = FIELDS_SIZE + 32;
pub(super) const FIRST_ENTRY: u64 = 512;
/// Bytes of which a device writes all or none, through a power cut: the part of a block that is either old or new.
pub(super) const SECTOR: usize = 512;

pub(super) type SectorDigest = [u8; 32];

/// Stands for a sector that could not be read.
pub(super) const UNREADABLE: SectorDigest = [0; 32];

pub(super) fn sector_digest(sector: &[u8]) -> SectorDigest {
    Sha256::digest(sector).into()
}

/// Bytes of an entry before the block's new content.
pub(super) fn entry_head(block_size: u64) -> u64 {
    8 + block_size / SECTOR as u64 * 32
}

/// What a journal is before its header: begun, and not committed.
pub(super) fn mark() -> [u8; HEADER_SIZE] {
    let mut mark = [0; HEADER_SIZE];
    mark[..MAGIC.len()].copy_from_slice(MAGIC);
    mark
}

pub(super) struct Header {
    pub(super) block_size: u64,
    pub(super) count: u64,
    /// Of the entries.
    pub(super) digest: [u8; 32],
    pub(super) identity: u64,
    /// The device's lengths while the changes are made: as it was, to as it will be.
    pub(super) lengths: RangeInclusive<u64>,
}

impl Header {
    pub(super) fn encode(&self) -> [u8; HEADER_SIZE] {
        let mut header = mark();
        header[16..20].copy_from_slice(&VERSION.to_le_bytes());
        // A block size has at most 20 bits.
        header[20..24].copy_from_slice(&self.block_size.to_le_bytes()[..4]);
        header[24..32].copy_from_slice(&self.count.to_le_bytes());
        header[32..64].copy_from_slice(&self.digest);
        let numbers = [self.identity, *self.lengths.start(), *self.lengths.end()];
        for (field, number) in header[64..FIELDS_SIZE].chunks_mut(8).zip(numbers) {
            field.copy_from_slice(&number.to_le_bytes());
        }
        let check = Sha256::digest(&header[..FIELDS_SIZE]);
        header[FIELDS_SIZE..].copy_from_slice(&check);
        header
    }

    /// Reads the header of a journal that was committed; `None` if it was only begun.
    pub(super) fn read(log: &dyn ReadAt) -> Result<Option<Self>, JournalError> {
        let mut header = [0; HEADER_SIZE];
        match log.read_exact_at(&mut header, 0) {
            Ok(()) if header == mark() => Ok(None),
            Ok(()) => Self::parse(&header).map(Some),
            // Cut off before there was a mark. Anything else without one is no journal, and somebody's.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                match log.read_at(&mut [0], 0).map_err(JournalError::Log)? {
                    0 => Ok(None),
                    _ => Err(JournalError::Damaged("it is too short for a journal")),
                }
            }
            Err(error) => Err(JournalError::Log(error)),
        }
    }

    fn parse(header: &[u8; HEADER_SIZE]) -> Result<Self, JournalError> {
        let (content, check) = header.split_at(FIELDS_SIZE);
        if content[..16] != MAGIC[..] {
            return Err(JournalError::Damaged("it is no journal: the magic bytes are missing"));
        }
        if Sha256::digest(content)[..] != *check {
            return Err(JournalError::Damaged("its header does not match its digest"));
        }
        let number =
            |at: usize| u32::from_le_bytes(content[at..at + 4].first_chunk().copied().unwrap_or_default());
        let long =
            |at: usize| u64::from_le_bytes(content[at..at + 8].first_chunk().copied().unwrap_or_default());
        if number(16) != VERSION {
            return Err(JournalError::Damaged("its version is unknown (known: 2)"));
        }
        let block_size =
            BlockSize::new(number(20)).map_err(|_| JournalError::Damaged("its block size is none"))?;
        Ok(Self {
            block_size: block_size.as_u64(),
            count: long(24),
            digest: content[32..64].first_chunk().copied().unwrap_or_default(),
            identity: long(64),
            lengths: long(72)..=long(80),
        })
    }
}

/// A block that is to change.
pub(super) struct Entry<'a> {
    /// Where it begins on the device, in bytes.
    pub(super) offset: u64,
    /// The digests of the sectors that it had.
    pub(super) old: &'a [u8],
    /// Its new content.
    pub(super) content: &'a [u8],
    /// The whole entry.
    pub(super) bytes: &'a [u8],
}

/// The digest of one entry.
pub(super) type EntryDigest = [u8; 32];

/// The digest of an entry with all of its bytes. A header vouches for the digest of these, so that threads can share the work.
pub(super) fn entry_digest(bytes: &[u8]) -> EntryDigest {
    Sha256::digest(bytes).into()
}

/// The digest of the entry in a log whose content lies there.
pub(super) fn digest_at(log: &dyn ReadAt, header: &Header, content: u64) -> io::Result<EntryDigest> {
    let head = entry_head(header.block_size);
    let mut bytes = vec![0; usize_of(head + header.block_size)];
    log.read_exact_at(&mut bytes, content - head)?;
    Ok(entry_digest(&bytes))
}

/// Visits every entry, and returns the digest of their digests.
pub(super) fn digest_entries(
    log: &dyn ReadAt,
    header: &Header,
    mut visit: impl FnMut(&Entry<'_>),
) -> Result<[u8; 32], JournalError> {
    let mut all = Sha256::new();
    for_each_entry(log, header, |entry| {
        all.update(entry_digest(entry.bytes));
        visit(&entry);
        Ok(())
    })?;
    Ok(all.finalize().into())
}

/// Visits every entry. Each is at a place that the device has.
pub(super) fn for_each_entry(
    log: &dyn ReadAt,
    &Header { block_size, count, ref lengths, .. }: &Header,
    mut visit: impl FnMut(Entry<'_>) -> Result<(), JournalError>,
) -> Result<(), JournalError> {
    let head = entry_head(block_size);
    let mut bytes = vec![0; usize_of(head + block_size)];
    let mut position = FIRST_ENTRY;
    for _ in 0..count {
        log.read_exact_at(&mut bytes, position).map_err(JournalError::Log)?;
        let (number, rest) = bytes.split_at(8);
        let (old, content) = rest.split_at(usize_of(head - 8));
        let block = u64::from_le_bytes(number.first_chunk().copied().unwrap_or_default());
        let end = block.checked_add(1).and_then(|blocks| blocks.checked_mul(block_size));
        if end.is_none_or(|end| end > MAX_OFFSET.min(*lengths.end())) {
            return Err(JournalError::Damaged("a block lies beyond the end of the device"));
        }
        visit(Entry { offset: block * block_size, old, content, bytes: &bytes })?;
        position = position
            .checked_add(head + block_size)
            .ok_or(JournalError::Damaged("it has too many entries"))?;
    }
    Ok(())
}
