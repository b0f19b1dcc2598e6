//! Building: each level from the one below it.

use std::ops::Range;

use super::known::LevelHasher;
use super::level::{Children, Slots, read};
use super::runs::Runs;
use super::{Device, Error, Options};
use crate::block::RootHash;
use crate::digest::BlockHasher;
use crate::geometry::Geometry;
use crate::io::{ReadAt, Storage, WriteAt, usize_of};
use crate::params::Params;
use crate::progress::Phase;
use crate::workers;

/// Builds the tree over `data` into `hash` and returns the root hash.
///
/// Every byte of the hash blocks is written, unused slots as zeros; nothing else is, the superblock neither: write it
/// when the tree is complete, so that what bears a superblock has a tree. Nothing is synced.
///
/// # Errors
/// [`Error::Read`] if `data` cannot be read or ends too early, [`Error::Write`], [`Error::Cancelled`]; [`Error::Geometry`] if
/// the geometry is not one for the parameters.
pub fn build(
    data: &dyn ReadAt,
    hash: &dyn Storage,
    params: &Params,
    geometry: &Geometry,
    options: &Options<'_>,
) -> Result<RootHash, Error> {
    geometry.check_params(params)?;
    let builder = Builder { data, hash, params, geometry, hasher: &BlockHasher::new(params), options };
    options.observer.begin(Phase::Build, Some(geometry.data_bytes()));
    if geometry.levels().is_empty() {
        options.observer.advance(geometry.data_bytes());
    } else {
        builder.build_level(0, &Runs::all(geometry.data_blocks()))?;
    }
    builder.build_upper_levels()
}

/// What building needs throughout.
pub(crate) struct Builder<'a> {
    pub(crate) data: &'a dyn ReadAt,
    pub(crate) hash: &'a dyn Storage,
    pub(crate) params: &'a Params,
    pub(crate) geometry: &'a Geometry,
    pub(crate) hasher: &'a BlockHasher,
    pub(crate) options: &'a Options<'a>,
}

/// A thread's own.
#[derive(Default)]
struct Scratch {
    blocks: Vec<u8>,
    digests: Vec<u8>,
    /// Data children before this one are zeros.
    zeros_until: u64,
}

impl Builder<'_> {
    /// Builds what lies above the leaf level, and hashes the top block.
    pub(crate) fn build_upper_levels(&self) -> Result<RootHash, Error> {
        for level in 1..self.geometry.levels().len() {
            self.build_level(level, &Runs::all(self.geometry.digests_in(level)))?;
        }
        hash_top(self.data, self.hash, self.params, self.geometry, self.hasher)
    }

    /// What of the leaf level the slots of some whole data blocks are, `first` and those after it, for a caller that reads the data in an order of its own.
    /// `None` over a single data block, which has no leaf level.
    pub(crate) fn leaves_of(&self, first: u64, blocks: &[u8]) -> Option<Range<u64>> {
        let count = (blocks.len() / self.params.data_block_size.bytes()) as u64;
        let slots = Slots::of(self.params);
        let region = slots.region(&(first..first + count), self.geometry.data_blocks());
        (!self.geometry.levels().is_empty()).then_some(region)
    }

    /// Hashes such blocks into their slots.
    pub(crate) fn hash_leaves(&self, hasher: &LevelHasher<'_>, first: u64, blocks: &[u8], leaves: &mut [u8]) {
        let slots = Slots::of(self.params);
        slots.fill(hasher, blocks, first, leaves, slots.position(first));
    }

    /// Writes slots of the leaf level, from its byte `start` on.
    pub(crate) fn write_leaves(&self, start: u64, leaves: &[u8]) -> Result<(), Error> {
        write(self.hash, Device::Hash, leaves, self.geometry.hash_block_offset(0, 0) + start)
    }

    /// Writes the slots in `level` of the children in `runs`; those of the last child with the zeros behind them.
    pub(super) fn build_level(&self, level: usize, runs: &Runs) -> Result<(), Error> {
        let children = Children::of_level(level, self.params, self.geometry, self.data, self.hash);
        let slots = Slots::of(self.params);
        let jobs = runs.jobs(children.per_job(self.options.threads));
        let level_offset = self.geometry.hash_block_offset(level, 0);
        let block_size = children.block_size;
        let hasher = LevelHasher::new(self.hasher, level, self.params);

        workers::run(jobs.len(), self.options, Scratch::default, |scratch, job| {
            let Scratch { blocks, digests, zeros_until } = scratch;
            let run = jobs.range(job);
            let region = slots.region(&run, children.count);
            digests.clear();
            digests.resize(usize_of(region.end - region.start), 0);

            let mut child = run.start;
            if level == 0 {
                // A thread's jobs come in order, so that what was seen to be a hole still is one.
                if *zeros_until <= child {
                    *zeros_until = children.zeros_until(child);
                }
                let end = (*zeros_until).clamp(child, run.end);
                slots.fill_known(&hasher, usize_of(end - child), child, digests, region.start);
                child = end;
            }
            while child < run.end {
                let count = usize_of(run.end - child).min(children.per_read());
                blocks.resize(count * block_size.bytes(), 0);
                children.read(blocks, child)?;
                slots.fill(&hasher, blocks, child, digests, region.start);
                child += count as u64;
            }
            write(self.hash, Device::Hash, digests, level_offset + region.start)?;
            if level == 0 {
                self.options.observer.advance((run.end - run.start) * block_size.as_u64());
            }
            Ok(())
        })?;
        if level == 0 { children.check_end() } else { Ok(()) }
    }
}

/// Hashes the top block, or the data block where there is only one.
pub(super) fn hash_top(
    data: &dyn ReadAt,
    hash: &dyn ReadAt,
    params: &Params,
    geometry: &Geometry,
    hasher: &BlockHasher,
) -> Result<RootHash, Error> {
    let Some(top) = geometry.levels().len().checked_sub(1) else {
        let mut block = vec![0; params.data_block_size.bytes()];
        read(data, Device::Data, &mut block, 0)?;
        return Ok(hasher.hash_block(&block));
    };
    let mut block = vec![0; params.hash_block_size.bytes()];
    read(hash, Device::Hash, &mut block, geometry.hash_block_offset(top, 0))?;
    Ok(hasher.hash_block(&block))
}

/// Writes all, or says what could not be written.
pub(super) fn write(
    target: &(impl WriteAt + ?Sized),
    device: Device,
    bytes: &[u8],
    offset: u64,
) -> Result<(), Error> {
    target.write_all_at(bytes, offset).map_err(|source| Error::Write {
        device,
        offset,
        length: bytes.len(),
        source,
    })
}
