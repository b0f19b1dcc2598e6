//! Hashing the data while parity is made of it.
//!
//! The data comes in pieces of rows, so that the leaves of neighbouring pieces of a row become known one after the other, with those of all other
//! rows between them. They are kept until they can be written together: a write of a few hundred bytes costs as much as one of a few thousand.

use std::collections::BTreeMap;

use crate::io::usize_of;
use crate::tree::{Builder, Error, LevelHasher};

/// Sees the pieces of the message as they are read: one thread's.
pub(super) trait Visitor {
    /// A piece, and where it begins in the message.
    fn piece(&mut self, start: u64, bytes: &[u8]) -> Result<(), Error>;

    /// A job's last piece was seen.
    fn end(&mut self) -> Result<(), Error>;
}

/// Who need not see them.
impl Visitor for () {
    fn piece(&mut self, _: u64, _: &[u8]) -> Result<(), Error> {
        Ok(())
    }

    fn end(&mut self) -> Result<(), Error> {
        Ok(())
    }
}

/// Hashes what it sees, and writes the leaves at the end of a job.
pub(super) struct Leaves<'a> {
    builder: &'a Builder<'a>,
    hasher: &'a LevelHasher<'a>,
    block_size: u64,
    /// What is to be written, by where in the leaf level it ends: there a row's next piece goes on.
    runs: BTreeMap<u64, Vec<u8>>,
}

impl<'a> Leaves<'a> {
    pub(super) const fn new(builder: &'a Builder<'a>, hasher: &'a LevelHasher<'a>, block_size: u64) -> Self {
        Self { builder, hasher, block_size, runs: BTreeMap::new() }
    }
}

impl Visitor for Leaves<'_> {
    fn piece(&mut self, start: u64, bytes: &[u8]) -> Result<(), Error> {
        let first = start / self.block_size;
        let Some(region) = self.builder.leaves_of(first, bytes) else { return Ok(()) };
        let mut run = self.runs.remove(&region.start).unwrap_or_default();
        let before = run.len();
        run.resize(before + usize_of(region.end - region.start), 0);
        self.builder.hash_leaves(self.hasher, first, bytes, &mut run[before..]);
        self.runs.insert(region.end, run);
        Ok(())
    }

    fn end(&mut self) -> Result<(), Error> {
        let runs = std::mem::take(&mut self.runs);
        runs.iter().try_for_each(|(end, run)| self.builder.write_leaves(end - run.len() as u64, run))
    }
}
