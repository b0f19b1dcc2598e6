//! A redo journal: changes to a device that happen completely or not at all.
//!
//! While work is under way, changed blocks go to the journal and the device stays as it is; reads see the changes.
//! [`Journal::commit`] makes the journal durable with a header that is written last, then applies it. Whoever finds a journal
//! later calls [`recover`]: with a header it is applied (again), without one the device was never touched.
//!
//! # Format
//!
//! All numbers are little-endian.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 16 | magic `verity-journal\0\0` |
//! | 16 | 4 | version, 1 |
//! | 20 | 4 | block size |
//! | 24 | 8 | number of entries |
//! | 32 | 32 | SHA-256 of all entries |
//! | 64 | 8 | identity of the device, as the caller gave it |
//! | 72 | 8 | length of the device before the changes |
//! | 80 | 8 | and with them, where no entry ends beyond |
//! | 88 | 32 | SHA-256 of the first 88 bytes |
//! | 512 | | entries: block number (8 bytes), then the block |

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Seek};
use std::ops::RangeInclusive;
use std::sync::{PoisonError, RwLock};

use sha2::{Digest, Sha256};

use crate::block::BlockSize;
use crate::geometry::MAX_OFFSET;
use crate::io::{ReadAt, Storage, WriteAt, usize_of};

const MAGIC: &[u8; 16] = b"verity-journal\0\0";
const VERSION: u32 = 1;
/// Bytes of the header without its own digest.
const FIELDS_SIZE: usize = 88;
const HEADER_SIZE: usize = FIELDS_SIZE + 32;
const FIRST_ENTRY: u64 = 512;

/// Storage that can be told to keep what it holds through a power cut.
pub trait Durable: Storage {
    /// Returns when everything written so far is durable.
    ///
    /// # Errors
    /// Whatever the storage answers; what was written may then be lost.
    fn sync(&self) -> io::Result<()>;

    /// The length of a file or a device in bytes.
    ///
    /// # Errors
    /// Whatever the storage answers.
    fn length(&self) -> io::Result<u64>;
}

impl Durable for std::fs::File {
    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn length(&self) -> io::Result<u64> {
        // A block device has no length but where it ends. Nothing here reads from the file's own position.
        let mut file = self;
        file.seek(io::SeekFrom::End(0))
    }
}

impl Durable for crate::io::MemoryDevice {
    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.size())
    }
}

/// A device with changes that it does not have yet. Reads see them.
///
/// Memory: some 40 bytes for each changed block; the blocks themselves are in the log.
pub struct Journal<'a> {
    device: &'a dyn Durable,
    log: &'a dyn Durable,
    block_size: u64,
    identity: u64,
    entries: RwLock<BTreeMap<u64, u64>>,
}

impl<'a> Journal<'a> {
    /// Begins a journal for `device` in `log`, which must be empty (what it held could be taken for a header of this journal's), and
    /// stay there through a power cut: a new file does so when its directory is synced.
    ///
    /// Changes are kept in blocks of `block_size`; a device whose last block is a partial one grows to a whole one if that changes.
    ///
    /// `identity` is any number that tells the device from one that may have taken its place when the journal is found, such as
    /// a file's inode number.
    #[must_use]
    pub fn new(device: &'a dyn Durable, log: &'a dyn Durable, block_size: BlockSize, identity: u64) -> Self {
        Self { device, log, block_size: block_size.as_u64(), identity, entries: RwLock::default() }
    }

    /// Makes the changes durable, then applies them to the device and makes that durable too. The log can then be deleted, and has to
    /// be before the device is changed in any other way: to apply it again would take that back.
    ///
    /// # Errors
    /// [`JournalError::Log`] and [`JournalError::Length`] leave the device as it was. [`JournalError::Device`] and [`JournalError::Unfinished`] may leave it half
    /// changed, with a journal that [`recover`] applies.
    pub fn commit(self) -> Result<(), JournalError> {
        let entries = self.entries.into_inner().unwrap_or_else(PoisonError::into_inner);
        let before = self.device.length().map_err(JournalError::Length)?;
        let end = entries
            .keys()
            .next_back()
            .map_or(0, |last| last.saturating_add(1).saturating_mul(self.block_size));
        let mut header = Header {
            block_size: self.block_size,
            count: entries.len() as u64,
            digest: [0; 32],
            identity: self.identity,
            lengths: before..=before.max(end),
        };
        header.digest = digest_entries(self.log, &header)?;
        // Entries first: a header vouches for what is already there.
        self.log.sync().map_err(JournalError::Log)?;
        self.log.write_all_at(&header.encode(), 0).map_err(JournalError::Log)?;
        self.log.sync().map_err(JournalError::Log)?;
        apply(self.log, self.device, &header)
    }
}

impl fmt::Debug for Journal<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Journal")
            .field("block_size", &self.block_size)
            .field("identity", &self.identity)
            .finish_non_exhaustive()
    }
}

impl ReadAt for Journal<'_> {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let (block, within) = (offset / self.block_size, offset % self.block_size);
        match self.next_change(block) {
            Some((changed, entry)) if changed == block => {
                let count = buffer.len().min(usize_of(self.block_size - within));
                self.log.read_exact_at(&mut buffer[..count], entry + 8 + within).map(|()| count)
            }
            // Up to the next block that the log has, in one read.
            Some((changed, _)) => {
                let count = buffer.len().min(usize_of(changed.saturating_mul(self.block_size) - offset));
                self.device.read_at(&mut buffer[..count], offset)
            }
            None => self.device.read_at(buffer, offset),
        }
    }

    fn zeros_until(&self, offset: u64) -> io::Result<u64> {
        let end = self.device.zeros_until(offset)?;
        let changed = self.next_change(offset / self.block_size);
        let changed = changed.map_or(u64::MAX, |(block, _)| block.saturating_mul(self.block_size));
        Ok(end.min(changed).max(offset))
    }
}

impl WriteAt for Journal<'_> {
    fn write_all_at(&self, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
        while !bytes.is_empty() {
            let within = offset % self.block_size;
            let count = bytes.len().min(usize_of(self.block_size - within));
            let (now, later) = bytes.split_at(count);
            self.write_in_block(now, offset / self.block_size, within)?;
            bytes = later;
            offset += count as u64;
        }
        Ok(())
    }
}

impl Journal<'_> {
    /// The first changed block from `block` on, and its entry.
    fn next_change(&self, block: u64) -> Option<(u64, u64)> {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        entries.range(block..).next().map(|(&block, &entry)| (block, entry))
    }

    fn write_in_block(&self, bytes: &[u8], block: u64, within: u64) -> io::Result<()> {
        // Held while the block is copied: two threads may change different parts of one.
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(&entry) = entries.get(&block) {
            return self.log.write_all_at(bytes, entry + 8 + within);
        }
        let entry = FIRST_ENTRY + entries.len() as u64 * (8 + self.block_size);
        let mut whole = vec![0; 8 + usize_of(self.block_size)];
        let (number, content) = whole.split_at_mut(8);
        number.copy_from_slice(&block.to_le_bytes());
        if bytes.len() < content.len() {
            read_to_end(self.device, content, block * self.block_size)?;
        }
        content[usize_of(within)..][..bytes.len()].copy_from_slice(bytes);
        self.log.write_all_at(&whole, entry)?;
        entries.insert(block, entry);
        Ok(())
    }
}

/// Reads what there is; behind the device's end, where a grown one will have blocks, `buffer` stays as it is.
fn read_to_end(device: &dyn ReadAt, mut buffer: &mut [u8], mut offset: u64) -> io::Result<()> {
    while !buffer.is_empty() {
        match device.read_at(buffer, offset) {
            Ok(0) => break,
            Ok(count) => {
                buffer = &mut buffer[count..];
                offset += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// What [`recover`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Recovery {
    /// A whole journal; its blocks are on the device now.
    Finished {
        /// How many blocks it had.
        blocks: u64,
    },
    /// The work was cut off before the device was touched.
    NeverBegun,
}

/// Finishes what a journal began, or finds that nothing was begun. The log can be deleted after either.
///
/// # Errors
/// [`JournalError::Damaged`] if the journal has a header but is not what that says: the device may be half changed.
/// [`JournalError::OtherDevice`] if it was made for a device of another identity or length.
pub fn recover(log: &dyn ReadAt, device: &dyn Durable, identity: u64) -> Result<Recovery, JournalError> {
    let mut header = [0; HEADER_SIZE];
    match log.read_exact_at(&mut header, 0) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(Recovery::NeverBegun),
        Err(error) => return Err(JournalError::Log(error)),
    }
    // Before the header is written there are zeros.
    if header == [0; HEADER_SIZE] {
        return Ok(Recovery::NeverBegun);
    }
    let header = Header::parse(&header)?;
    // A device that grows may have done so in part.
    let length = device.length().map_err(JournalError::Length)?;
    if header.identity != identity || !header.lengths.contains(&length) {
        return Err(JournalError::OtherDevice);
    }
    let found = digest_entries(log, &header).map_err(|error| match error {
        JournalError::Log(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            JournalError::Damaged("it ends before its last entry")
        }
        other => other,
    })?;
    if found != header.digest {
        return Err(JournalError::Damaged("its entries do not match their digest"));
    }
    apply(log, device, &header)?;
    Ok(Recovery::Finished { blocks: header.count })
}

fn apply(log: &dyn ReadAt, device: &dyn Durable, header: &Header) -> Result<(), JournalError> {
    for_each_entry(log, header, |block, content| {
        device.write_all_at(content, block * header.block_size).map_err(JournalError::Device)
    })
    .map_err(|error| match error {
        JournalError::Log(error) => JournalError::Unfinished(error),
        other => other,
    })?;
    device.sync().map_err(JournalError::Device)
}

/// The digest of the entries, each of which lies at a place that the device has: all are looked at before one is applied.
fn digest_entries(log: &dyn ReadAt, header: &Header) -> Result<[u8; 32], JournalError> {
    let mut digest = Sha256::new();
    for_each_entry(log, header, |block, content| {
        digest.update(block.to_le_bytes());
        digest.update(content);
        Ok(())
    })?;
    Ok(digest.finalize().into())
}

fn for_each_entry(
    log: &dyn ReadAt,
    &Header { block_size, count, ref lengths, .. }: &Header,
    mut visit: impl FnMut(u64, &[u8]) -> Result<(), JournalError>,
) -> Result<(), JournalError> {
    let mut entry = vec![0; 8 + usize_of(block_size)];
    let mut offset = FIRST_ENTRY;
    for _ in 0..count {
        log.read_exact_at(&mut entry, offset).map_err(JournalError::Log)?;
        let (number, content) = entry.split_at(8);
        let block = u64::from_le_bytes(number.first_chunk().copied().unwrap_or_default());
        let end = block.checked_add(1).and_then(|blocks| blocks.checked_mul(block_size));
        if end.is_none_or(|end| end > MAX_OFFSET.min(*lengths.end())) {
            return Err(JournalError::Damaged("a block lies beyond the end of the device"));
        }
        visit(block, content)?;
        offset =
            offset.checked_add(8 + block_size).ok_or(JournalError::Damaged("it has too many entries"))?;
    }
    Ok(())
}

struct Header {
    block_size: u64,
    count: u64,
    /// Of the entries.
    digest: [u8; 32],
    identity: u64,
    /// The device's lengths while the changes are made: as it was, to as it will be.
    lengths: RangeInclusive<u64>,
}

impl Header {
    fn encode(&self) -> [u8; HEADER_SIZE] {
        let mut header = [0; HEADER_SIZE];
        header[..16].copy_from_slice(MAGIC);
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
            return Err(JournalError::Damaged("its version is unknown (known: 1)"));
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

/// Why a change could not be made, or finished.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// The journal could not be read or written. By that nothing was changed on the device.
    #[error("journal: {0}")]
    Log(#[source] io::Error),
    /// The journal could not be read while it was applied. The device may be half changed until that is tried again.
    #[error("journal: {0}, while it was applied; the device may be half changed until it is applied again")]
    Unfinished(#[source] io::Error),
    /// The device could not be written. The journal is whole, and will be applied when that is tried again.
    #[error("device: {0}; the journal is complete and can be applied again")]
    Device(#[source] io::Error),
    /// The device does not say how long it is. Nothing was changed on it.
    #[error("length of the device: {0}")]
    Length(#[source] io::Error),
    /// The journal was made for a device of another identity, or of another length.
    #[error("journal was made for another device, whose place this one has taken")]
    OtherDevice,
    /// The journal is not what its header says.
    #[error("journal is damaged: {0}")]
    Damaged(&'static str),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::MemoryDevice;

    fn device() -> MemoryDevice {
        MemoryDevice::new((0..4096u32).map(|at| at.to_le_bytes()[0]).collect())
    }

    #[test]
    fn changes_are_seen_before_they_are_made() {
        let (device, log) = (device(), MemoryDevice::default());
        let before = device.contents();
        let journal = Journal::new(&device, &log, BlockSize::MIN, 7);
        journal.write_all_at(&[7; 700], 400).unwrap();
        journal.write_all_at(&[8; 2], 511).unwrap();
        let mut seen = vec![0; 4096];
        journal.read_exact_at(&mut seen, 0).unwrap();
        let mut part = vec![0; 1500];
        journal.read_exact_at(&mut part, 300).unwrap();
        assert!(part == seen[300..1800]);
        let mut expected = before.clone();
        expected[400..1100].fill(7);
        expected[511..513].fill(8);
        assert!(seen == expected);
        assert!(device.contents() == before, "nothing has happened yet");
        journal.commit().unwrap();
        assert!(device.contents() == expected);
        assert!(matches!(recover(&log, &device, 8), Err(JournalError::OtherDevice)));
        // A second time, as after a cut.
        assert_eq!(recover(&log, &device, 7).unwrap(), Recovery::Finished { blocks: 3 });
        assert!(device.contents() == expected);
    }

    /// Cut the log anywhere: either nothing was begun, or all is finished, or the damage is named. Never half.
    #[test]
    fn a_journal_that_is_cut_off_changes_nothing() {
        let (changed, log) = (device(), MemoryDevice::default());
        let journal = Journal::new(&changed, &log, BlockSize::MIN, 7);
        journal.write_all_at(&[7; 700], 400).unwrap();
        journal.commit().unwrap();
        let whole = log.into_bytes();
        for length in 0..whole.len() {
            let target = device();
            let result = recover(&whole[..length].to_vec(), &target, 7);
            match result {
                Ok(Recovery::NeverBegun) => assert!(length < HEADER_SIZE),
                Err(JournalError::Damaged(_)) => assert!(length >= HEADER_SIZE),
                other => panic!("{length}: {other:?}"),
            }
            assert!(target.contents() == device().contents());
        }
        let mut without_header = whole.clone();
        without_header[..HEADER_SIZE].fill(0);
        assert_eq!(recover(&without_header, &device(), 7).unwrap(), Recovery::NeverBegun);
    }

    /// Whoever writes a journal can compute digests: what it says must still be possible before any of it is done.
    #[test]
    fn a_journal_with_an_impossible_block_changes_nothing() {
        let header = |digest, lengths| Header { block_size: 512, count: 2, digest, identity: 7, lengths };
        for block in [u64::MAX, u64::MAX / 512, 1 << 54, 8] {
            let log = MemoryDevice::default();
            for (index, number) in [0, block].into_iter().enumerate() {
                let entry = [&number.to_le_bytes()[..], &[7; 512]].concat();
                log.write_all_at(&entry, FIRST_ENTRY + index as u64 * 520).unwrap();
            }
            let mut digest = Sha256::new();
            digest.update(&log.contents()[512..]);
            let digest = digest.finalize().into();
            log.write_all_at(&header(digest, 4096..=4096).encode(), 0).unwrap();
            let target = device();
            assert!(matches!(recover(&log, &target, 7), Err(JournalError::Damaged(_))), "{block}");
            assert!(target.contents() == device().contents());
            // With a length at which it is possible, it is made for another device.
            log.write_all_at(&header(digest, 9 * 512..=u64::MAX).encode(), 0).unwrap();
            assert!(matches!(recover(&log, &target, 7), Err(JournalError::OtherDevice)), "{block}");
            assert!(target.contents() == device().contents());
        }
    }

    /// A device that grows is recovered from each length on the way, and one of any other length is not touched.
    #[test]
    fn a_device_of_another_length_is_another_device() {
        let (changed, log) = (device(), MemoryDevice::default());
        let journal = Journal::new(&changed, &log, BlockSize::MIN, 7);
        journal.write_all_at(&[7; 700], 4000).unwrap();
        journal.commit().unwrap();
        assert_eq!(changed.size(), 5120);
        for length in [4096, 4100, 4608, 5120] {
            let target = MemoryDevice::new(changed.contents()[..length].to_vec());
            assert_eq!(recover(&log, &target, 7).unwrap(), Recovery::Finished { blocks: 3 });
            assert!(target.contents() == changed.contents(), "{length}");
        }
        for length in [0, 512, 4095, 5121, 8192] {
            let target = MemoryDevice::new(vec![1; length]);
            assert!(matches!(recover(&log, &target, 7), Err(JournalError::OtherDevice)), "{length}");
            assert!(target.into_bytes() == vec![1; length]);
        }
    }

    /// Entries are counted by their bytes, never by what the header says of them.
    #[test]
    fn a_journal_with_an_absurd_count_is_damaged() {
        let log = MemoryDevice::new(vec![0; 4096]);
        let header =
            Header { block_size: 512, count: u64::MAX, digest: [0; 32], identity: 7, lengths: 4096..=4096 };
        log.write_all_at(&header.encode(), 0).unwrap();
        assert!(matches!(recover(&log, &device(), 7), Err(JournalError::Damaged(_))));
    }

    #[test]
    fn a_journal_that_cannot_be_read_back_says_whether_the_device_was_touched() {
        /// Fails after so many reads.
        struct Failing<'a>(&'a MemoryDevice, std::sync::atomic::AtomicU32);
        impl ReadAt for Failing<'_> {
            fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
                use std::sync::atomic::Ordering::Relaxed;
                match self.1.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)) {
                    Ok(_) => self.0.read_at(buffer, offset),
                    Err(_) => Err(io::ErrorKind::Other.into()),
                }
            }
        }
        let (changed, log) = (device(), MemoryDevice::default());
        let journal = Journal::new(&changed, &log, BlockSize::MIN, 7);
        journal.write_all_at(&[7; 700], 400).unwrap();
        journal.commit().unwrap();
        // The header, three entries to check, three to apply.
        for reads in 0..7 {
            let target = device();
            let result = recover(&Failing(&log, reads.into()), &target, 7);
            let untouched = target.contents() == device().contents();
            match result {
                Err(JournalError::Log(_)) => assert!(reads < 4 && untouched),
                Err(JournalError::Unfinished(_)) => assert!(reads >= 4 && untouched == (reads == 4)),
                other => panic!("{reads}: {other:?}"),
            }
        }
    }

    #[test]
    fn no_flipped_bit_of_a_journal_reaches_the_device() {
        let (changed, log) = (device(), MemoryDevice::default());
        let journal = Journal::new(&changed, &log, BlockSize::MIN, 7);
        journal.write_all_at(&[7; 3], 400).unwrap();
        journal.commit().unwrap();
        let whole = log.into_bytes();
        for byte in (0..HEADER_SIZE).chain(512..whole.len()) {
            let mut damaged = whole.clone();
            damaged[byte] ^= 0x10;
            let target = device();
            assert!(matches!(recover(&damaged, &target, 7), Err(JournalError::Damaged(_))), "byte {byte}");
            assert!(target.contents() == device().contents());
        }
    }
}
