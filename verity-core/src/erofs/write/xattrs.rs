//! Extended attributes: as they lie on disk, each kept once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::error::path_of;
use super::{Attributes, Error};
use crate::erofs::format::xattr::{ENTRY_SIZE, HEADER_SIZE, PREFIXES};

/// An attribute as it lies on disk, padded.
pub(super) type Entry = Arc<[u8]>;

/// The most bytes that the attributes of an inode have: their number of units of 4 bytes is a number of 16 bits.
const MOST: u64 = HEADER_SIZE + (u16::MAX as u64 - 1) * ENTRY_SIZE as u64;
/// The most shared attributes of an inode.
const MOST_SHARED: usize = u8::MAX as usize;
/// Where the last shared attribute begins, at most: positions are counted in 4 bytes, with 32 bits.
const MOST_SHARED_SIZE: u64 = 1 << 33;

/// What an inode takes for each of its attributes, besides the attribute.
const REFERENCE: u64 = size_of::<Entry>() as u64;

/// All attributes.
#[derive(Default)]
pub(super) struct Pool {
    entries: BTreeSet<Entry>,
    /// How many bytes they take, and all that refers to them.
    pub(super) memory: u64,
}

impl Pool {
    /// Takes the attributes of an entry.
    pub(super) fn add(&mut self, path: &[u8], attributes: &Attributes) -> Result<Box<[Entry]>, Error> {
        let encoded = attributes.xattrs.iter().map(|(name, value)| encode(path, name, value));
        let encoded = encoded.collect::<Result<Vec<_>, _>>()?;
        check_size(path, HEADER_SIZE + encoded.iter().map(|entry| entry.len() as u64).sum::<u64>())?;
        self.memory += encoded.len() as u64 * REFERENCE;
        Ok(encoded.into_iter().map(|entry| self.intern(entry)).collect())
    }

    fn intern(&mut self, entry: Vec<u8>) -> Entry {
        if let Some(known) = self.entries.get(entry.as_slice()) {
            return Arc::clone(known);
        }
        let entry = Entry::from(entry);
        self.memory += entry.len() as u64;
        self.entries.insert(Arc::clone(&entry));
        entry
    }

    /// Gives the attributes of an entry back.
    pub(super) fn remove(&mut self, entries: Box<[Entry]>) {
        self.memory -= entries.len() as u64 * REFERENCE;
        for entry in entries {
            // The other one is the pool's.
            if Arc::strong_count(&entry) == 2 {
                self.entries.remove(&entry);
                self.memory -= entry.len() as u64;
            }
        }
    }

    /// Decides which attributes are shared: those that several inodes have.
    pub(super) fn share(&self) -> Shared {
        let mut shared = Shared::default();
        for entry in &self.entries {
            if Arc::strong_count(entry) > 2 && shared.size < MOST_SHARED_SIZE {
                shared.positions.insert(Arc::clone(entry), shared.size);
                shared.size += entry.len() as u64;
            }
        }
        shared
    }
}

/// Attributes that lie in one place, and are only pointed to by inodes.
#[derive(Default)]
pub(super) struct Shared {
    /// Where they begin, in bytes from the first one on.
    positions: BTreeMap<Entry, u64>,
    /// How many bytes they have together.
    pub(super) size: u64,
}

impl Shared {
    /// In the order of their positions.
    pub(super) fn entries(&self) -> impl Iterator<Item = &Entry> {
        // That is the order of the pool, too.
        self.positions.keys()
    }

    /// Which attributes of an inode are shared, and which are not.
    fn split<'e>(&self, entries: &'e [Entry]) -> (Vec<u64>, Vec<&'e Entry>) {
        let mut shared = Vec::new();
        let mut own = Vec::new();
        for entry in entries {
            match self.positions.get(entry) {
                Some(&position) if shared.len() < MOST_SHARED => shared.push(position),
                _ => own.push(entry),
            }
        }
        (shared, own)
    }

    /// How many bytes the attributes of an inode take beside it.
    pub(super) fn size_of(&self, entries: &[Entry]) -> u64 {
        if entries.is_empty() {
            return 0;
        }
        let (shared, own) = self.split(entries);
        let own: usize = own.iter().map(|entry| entry.len()).sum();
        HEADER_SIZE + (shared.len() * ENTRY_SIZE + own) as u64
    }

    /// What lies beside an inode with these attributes. Shared ones begin `base` bytes behind the block that they are counted from.
    pub(super) fn body(&self, entries: &[Entry], base: u64) -> Vec<u8> {
        if entries.is_empty() {
            return Vec::new();
        }
        let (shared, own) = self.split(entries);
        let mut body = vec![0; 4];
        body.push(u8::try_from(shared.len()).unwrap_or(u8::MAX));
        body.resize(crate::io::usize_of(HEADER_SIZE), 0);
        for position in shared {
            // Less than 32 bits, as `share` has seen to.
            let unit = u32::try_from((base + position) / ENTRY_SIZE as u64).unwrap_or(u32::MAX);
            body.extend(unit.to_le_bytes());
        }
        own.iter().for_each(|entry| body.extend_from_slice(entry));
        body
    }
}

/// How many bytes attributes take if none is shared.
pub(super) fn unshared_size(entries: &[Entry]) -> u64 {
    Shared::default().size_of(entries)
}

fn encode(path: &[u8], name: &[u8], value: &[u8]) -> Result<Vec<u8>, Error> {
    let found = PREFIXES.iter().find_map(|&(prefix, number)| {
        let rest = name.strip_prefix(prefix)?;
        // Only what ends with a dot is followed by something, and that has to be.
        (prefix.ends_with(b".") != rest.is_empty()).then_some((rest, number))
    });
    let (rest, number) = found
        .filter(|(rest, _)| !rest.contains(&0))
        .ok_or_else(|| Error::Xattr { path: path_of(path), name: path_of(name) })?;
    // Linux has no longer names, prefix included.
    check(path, "the length of the name of an extended attribute", name.len() as u64, 255)?;
    let most = u64::from(u16::MAX);
    check(path, "the length of the value of an extended attribute", value.len() as u64, most)?;
    let length = u8::try_from(rest.len()).unwrap_or(u8::MAX);
    let size = u16::try_from(value.len()).unwrap_or(u16::MAX);
    let mut entry = vec![length, number];
    entry.extend(size.to_le_bytes());
    entry.extend_from_slice(rest);
    entry.extend_from_slice(value);
    entry.resize(entry.len().next_multiple_of(ENTRY_SIZE), 0);
    Ok(entry)
}

/// Whether an inode has room for so many bytes of attributes.
pub(super) fn check_size(path: &[u8], size: u64) -> Result<(), Error> {
    check(path, "the size of its extended attributes", size, MOST)
}

/// Whether a number of an entry is possible.
pub(super) fn check(path: &[u8], field: &'static str, value: u64, most: u64) -> Result<(), Error> {
    if value <= most { Ok(()) } else { Err(Error::Field { path: path_of(path), field, value, most }) }
}
