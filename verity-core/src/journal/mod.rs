//! A redo journal: changes to a device that happen completely or not at all.
//!
//! While work is under way, changed blocks go to the journal and the device stays as it is; reads see the changes.
//! [`Journal::commit`] makes the journal durable with a header that is written last, then applies it. Whoever finds a journal
//! later calls [`recover`]: with a header it is applied (again), without one the device was never touched.
//!
//! A journal is bound to what the device held: it is applied only where every sector of every block is still the old one or already
//! the new one. Two kinds of sectors count as either: one that cannot be read, since the cut may have torn it, and one behind the old end of a
//! device that grows, where a file system may have put anything. One that was left behind does nothing to a device that was written to since,
//! or that took the first one's place.
//!
//! # Format
//!
//! All numbers are little-endian.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 16 | magic `verity-journal\0\0`, there from the beginning; the rest of the header is zero until the commit |
//! | 16 | 4 | version, 2 |
//! | 20 | 4 | block size |
//! | 24 | 8 | number of entries |
//! | 32 | 32 | SHA-256 of the SHA-256 of each entry |
//! | 64 | 8 | identity of the device, as the caller gave it |
//! | 72 | 8 | length of the device before the changes |
//! | 80 | 8 | and with them, where no entry ends beyond |
//! | 88 | 32 | SHA-256 of the first 88 bytes |
//! | 512 | | entries |
//!
//! An entry is the block's number (8 bytes), the SHA-256 of each of its old sectors of 512 bytes (zeros for one that could not be
//! read; what lies behind the device's end counts as zeros), and the new block.

mod durable;
mod error;
mod format;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock};

use sha2::{Digest, Sha256};

use crate::block::BlockSize;
use crate::geometry::MAX_OFFSET;
use crate::io::{ReadAt, WriteAt, usize_of};

pub use durable::Durable;
pub use error::JournalError;
use format::{Entry, EntryDigest, FIRST_ENTRY, Header, SECTOR, SectorDigest, UNREADABLE};

/// A device with changes that it does not have yet. Reads see them.
///
/// Several threads can write at once, also to parts of one block. What is read while it is being written is of no meaning.
///
/// Memory: some 70 bytes for each changed block; the blocks themselves are in the log.
pub struct Journal<'a> {
    device: &'a dyn Durable,
    log: &'a dyn Durable,
    block_size: u64,
    identity: u64,
    /// The changes by their blocks' numbers.
    entries: RwLock<BTreeMap<u64, Change>>,
    /// A change did not reach the log, whole or in part: what is there must not be applied.
    failed: AtomicBool,
}

/// What the log has of a block.
#[derive(Clone, Copy)]
struct Change {
    /// Where the block's new content lies.
    content: u64,
    /// The digest of the entry, made by the thread that wrote it; none of one that was written in parts.
    digest: Option<EntryDigest>,
}

impl<'a> Journal<'a> {
    /// Begins a journal for `device` in `log`, which must be empty (what it held could be taken for a header of this journal's), and
    /// stay there through a power cut: a new file does so when its directory is synced.
    ///
    /// Changes are kept in blocks of `block_size`; a device whose last block is a partial one grows to a whole one if that changes.
    ///
    /// `identity` is any number that tells the device from one that may have taken its place when the journal is found, such as
    /// a file's inode number.
    ///
    /// # Errors
    /// [`JournalError::Log`] if the log cannot be marked as this journal's.
    pub fn begin(
        device: &'a dyn Durable,
        log: &'a dyn Durable,
        block_size: BlockSize,
        identity: u64,
    ) -> Result<Self, JournalError> {
        log.write_all_at(&format::mark(), 0).and_then(|()| log.sync()).map_err(JournalError::Log)?;
        let (entries, failed) = (RwLock::default(), AtomicBool::new(false));
        Ok(Self { device, log, block_size: block_size.as_u64(), identity, entries, failed })
    }

    /// Makes the changes durable, then applies them to the device and makes that durable too. The log can then be deleted.
    ///
    /// # Errors
    /// [`JournalError::Log`], [`JournalError::Length`] and [`JournalError::Room`] leave the device as it was, and the log can be deleted.
    /// [`JournalError::Device`] and [`JournalError::Unfinished`] may leave it half changed, with a journal that [`recover`] applies.
    pub fn commit(self) -> Result<(), JournalError> {
        if self.failed.into_inner() {
            return Err(JournalError::Log(io::Error::other("a change could not be written to it")));
        }
        let entries = self.entries.into_inner().unwrap_or_else(PoisonError::into_inner);
        let count = entries.len() as u64;
        let before = self.device.length().map_err(JournalError::Length)?;
        let blocks: Vec<u64> = entries.keys().copied().collect();
        let after = reserve(self.device, &blocks, self.block_size)?.max(before);
        let mut header = Header {
            block_size: self.block_size,
            count,
            digest: [0; 32],
            identity: self.identity,
            lengths: before..=after,
        };
        let mut in_log: Vec<Change> = entries.into_values().collect();
        in_log.sort_unstable_by_key(|change| change.content);
        let mut all = Sha256::new();
        for change in in_log {
            all.update(match change.digest {
                Some(digest) => digest,
                None => format::digest_at(self.log, &header, change.content).map_err(JournalError::Log)?,
            });
        }
        header.digest = all.finalize().into();
        // Entries first: a header vouches for what is already there.
        self.log.sync().map_err(JournalError::Log)?;
        self.log.write_all_at(&header.encode(), 0).map_err(JournalError::Log)?;
        self.log.sync().map_err(JournalError::Log)?;
        apply(self.log, self.device, &header)
    }

    /// The first changed block from `block` on, and where the log has it.
    fn next_change(&self, block: u64) -> Option<(u64, u64)> {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        entries.range(block..).next().map(|(&block, change)| (block, change.content))
    }

    fn write_to_log(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        self.log.write_all_at(bytes, position).inspect_err(|_| self.failed.store(true, Ordering::Relaxed))
    }

    fn write_in_block(&self, bytes: &[u8], block: u64, within: u64) -> io::Result<()> {
        let content = match self.rewritten(block) {
            Some(content) => content,
            None if bytes.len() == usize_of(self.block_size) => {
                return self.add(block, Some(bytes)).map(drop);
            }
            None => self.add(block, None)?,
        };
        self.write_to_log(bytes, content + within)
    }

    /// Where the log has the content of a block that is written to once more.
    fn rewritten(&self, block: u64) -> Option<u64> {
        self.next_change(block).filter(|&(changed, _)| changed == block)?;
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        let change = entries.get_mut(&block)?;
        change.digest = None;
        Some(change.content)
    }

    /// Makes an entry with the block's new content, or with the old one, and returns where that is.
    fn add(&self, block: u64, new: Option<&[u8]>) -> io::Result<u64> {
        // Not under the lock: the device does not change, whoever looks at it.
        let found = Found::at(self.device, block * self.block_size, self.block_size);
        let mut entry = block.to_le_bytes().to_vec();
        entry.extend(found.digests.iter().flatten());
        let head = entry.len() as u64;
        match new {
            Some(new) => entry.extend(new),
            None => {
                found.error.map_or(Ok(()), Err)?;
                entry.extend(&found.content);
            }
        }
        let digest = new.map(|_| format::entry_digest(&entry));
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        // Two threads may change different parts of one block.
        if let Some(change) = entries.get_mut(&block) {
            change.digest = None;
            let content = change.content;
            drop(entries);
            new.map_or(Ok(()), |new| self.write_to_log(new, content))?;
            return Ok(content);
        }
        let start = FIRST_ENTRY + entries.len() as u64 * entry.len() as u64;
        if new.is_none() {
            // Old content must not come later than another thread's part of the block, which can be written once the lock is free.
            self.write_to_log(&entry, start)?;
        }
        entries.insert(block, Change { content: start + head, digest });
        drop(entries);
        if new.is_some() {
            self.write_to_log(&entry, start)?;
        }
        Ok(start + head)
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
            Some((changed, content)) if changed == block => {
                let count = buffer.len().min(usize_of(self.block_size - within));
                self.log.read_exact_at(&mut buffer[..count], content + within).map(|()| count)
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

/// Gets room for all blocks, which are in order, and returns where the last one ends.
fn reserve(device: &dyn Durable, blocks: &[u64], block_size: u64) -> Result<u64, JournalError> {
    let end = blocks.last().map_or(0, |last| last.saturating_add(1).saturating_mul(block_size));
    if end > MAX_OFFSET {
        return Err(JournalError::Room { bytes: end, source: io::ErrorKind::FileTooLarge.into() });
    }
    for run in blocks.chunk_by(|block, next| block + 1 == *next) {
        let start = run[0] * block_size;
        device
            .reserve(start..start + run.len() as u64 * block_size)
            .map_err(|source| JournalError::Room { bytes: end, source })?;
    }
    Ok(end)
}

/// What a device holds in the place of a block.
struct Found {
    /// Zeros behind the device's end.
    content: Vec<u8>,
    digests: Vec<SectorDigest>,
    /// Why not all of it could be read.
    error: Option<io::Error>,
}

impl Found {
    fn at(device: &dyn ReadAt, offset: u64, block_size: u64) -> Self {
        let mut content = vec![0; usize_of(block_size)];
        let error = read_to_end(device, &mut content, offset).err();
        let digests = content
            .chunks_mut(SECTOR)
            .zip((offset..).step_by(SECTOR))
            .map(|(sector, offset)| {
                // One sector that cannot be read, and is to be written anew, does not hide the others.
                if error.is_some() {
                    sector.fill(0);
                    if read_to_end(device, sector, offset).is_err() {
                        return UNREADABLE;
                    }
                }
                format::sector_digest(sector)
            })
            .collect();
        Self { content, digests, error }
    }

    /// Whether each sector is what it was before a change or what it is after it, on a device that has `length` bytes and had
    /// `length_before`.
    fn is_from(&self, entry: &Entry<'_>, length: u64, length_before: u64) -> bool {
        // A sector is written whole or not at all, a block of several perhaps in part. One that was being written when the power was cut may
        // be unreadable, and what is behind the old end is nobody's, whatever a file system has put there.
        let sectors = self.content.chunks(SECTOR).zip(entry.content.chunks(SECTOR));
        let offsets = (entry.offset..).step_by(SECTOR);
        entry.old.chunks(32).zip(&self.digests).zip(sectors.zip(offsets)).all(
            |((old, found), ((content, new), offset))| {
                let there = usize_of(length.saturating_sub(offset)).min(SECTOR);
                // A file that grows can end anywhere.
                let grown = there < SECTOR && content[..there] == new[..there] || offset >= length_before;
                old == found || grown || *found == UNREADABLE || format::sector_digest(new) == *found
            },
        )
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
/// [`JournalError::OtherDevice`] if it was made for a device of another identity or length, [`JournalError::OtherContent`] if the device
/// was written to since; it is not touched then.
pub fn recover(log: &dyn ReadAt, device: &dyn Durable, identity: u64) -> Result<Recovery, JournalError> {
    let Some(header) = Header::read(log)? else { return Ok(Recovery::NeverBegun) };
    // A device that grows may have done so in part.
    let length = device.length().map_err(JournalError::Length)?;
    if header.identity != identity || !header.lengths.contains(&length) {
        return Err(JournalError::OtherDevice);
    }
    let mut other = None;
    let digest = format::digest_entries(log, &header, |entry| {
        if other.is_none() {
            let found = Found::at(device, entry.offset, header.block_size);
            other = (!found.is_from(entry, length, *header.lengths.start())).then_some(entry.offset);
        }
    })
    .map_err(|error| match error {
        JournalError::Log(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            JournalError::Damaged("it ends before its last entry")
        }
        other => other,
    })?;
    if digest != header.digest {
        return Err(JournalError::Damaged("its entries do not match their digest"));
    }
    if let Some(offset) = other {
        return Err(JournalError::OtherContent { offset });
    }
    apply(log, device, &header)?;
    Ok(Recovery::Finished { blocks: header.count })
}

fn apply(log: &dyn ReadAt, device: &dyn Durable, header: &Header) -> Result<(), JournalError> {
    format::for_each_entry(log, header, |entry| {
        device.write_all_at(entry.content, entry.offset).map_err(JournalError::Device)
    })
    .map_err(|error| match error {
        JournalError::Log(error) => JournalError::Unfinished(error),
        // It was whole a moment ago.
        JournalError::Damaged(what) => {
            JournalError::Unfinished(io::Error::new(io::ErrorKind::InvalidData, what))
        }
        other => other,
    })?;
    device.sync().map_err(JournalError::Device)
}
