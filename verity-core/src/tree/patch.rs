//! The leaf level of changed data from the old one, in one pass: each block is checked, gets the digests of what changed below it, and is
//! written.
//!
//! Changed blocks are hashed many at a time, wherever they lie: one by one they would leave most of a core idle.

use std::ops::Range;

use super::build::{Builder, write};
use super::known::LevelHasher;
use super::level::{Children, Slots};
use super::report::Collector;
use super::runs::{Jobs, Runs};
use super::verify::Tree;
use super::{Device, Error, Options};
use crate::geometry::Geometry;
use crate::io::usize_of;

/// Changed data in one job, but for the last hash block's: a core has some time with it, and others can have the rest.
const JOB_BYTES: u64 = 1024 * 1024;

/// With more jobs of either kind than that they get larger: each takes some memory.
const MOST_JOBS: u64 = 16 * 1024;

/// Shorter runs are read without asking whether they are holes.
const ASKED_FROM: u64 = 16;

/// What of the leaf level is written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Write {
    /// Every block: the new tree lies elsewhere.
    All,
    /// Blocks in which something changed: it takes the old one's place.
    Changed,
}

/// A leaf level that is being taken over.
pub(super) struct Patch<'a> {
    builder: &'a Builder<'a>,
    /// The data blocks that are hashed.
    dirty: &'a Runs,
    /// Leaf blocks in which some of those have their digests.
    dirty_leaves: Runs,
    data: Children<'a>,
    hasher: LevelHasher<'a>,
    slots: Slots,
    write: Write,
}

/// What a thread gathers.
#[derive(Default)]
struct Gathered {
    blocks: Vec<u8>,
    count: u64,
    /// Where they come from.
    runs: Vec<Range<u64>>,
    digests: Vec<u8>,
    /// Data before this block, from the last one that was asked for, are zeros.
    zeros_until: u64,
}

impl<'a> Patch<'a> {
    pub(super) fn new(builder: &'a Builder<'a>, dirty: &'a Runs, write: Write) -> Self {
        let Builder { data, hash, params, geometry, hasher, .. } = *builder;
        let leaves = geometry.levels().first().map_or(0, |level| level.blocks);
        Self {
            builder,
            dirty,
            dirty_leaves: Runs::from_ranges(dirty.parents(params.digests_per_block()), leaves),
            data: Children::of_level(0, params, geometry, data, hash),
            hasher: LevelHasher::new(hasher, 0, params),
            slots: Slots::of(params),
            write,
        }
    }

    /// Takes over the leaf level of `old`, which has `geometry` and at least that level.
    pub(super) fn run(
        &self,
        old: &Tree<'_>,
        geometry: &Geometry,
        collector: &Collector<'_>,
        options: &Options<'_>,
    ) -> Result<(), Error> {
        let blocks = geometry.levels()[0].blocks;
        let jobs = self.jobs(blocks);
        // Each of them is one already.
        let jobs = Jobs::new(&jobs, blocks);
        let take = |gathered: &mut Gathered, first, leaves: &mut [u8]| self.take(gathered, first, leaves);
        old.check_jobs(1, &jobs, collector, options, &Gathered::default, &take)?;
        self.data.check_end()
    }

    /// Takes over the leaf level of an old tree that has no other: its one block, which is checked already.
    pub(super) fn single(&self, mut leaf: Vec<u8>) -> Result<(), Error> {
        self.take(&mut Gathered::default(), 0, &mut leaf)?;
        self.data.check_end()
    }

    /// Brings leaf blocks up to date that were checked, `first` and those after it, and writes them.
    fn take(&self, gathered: &mut Gathered, first: u64, leaves: &mut [u8]) -> Result<(), Error> {
        let leaves = self.kept(first, leaves);
        if leaves.is_empty() {
            return Ok(());
        }
        self.patch(gathered, first, leaves)?;
        self.put(first, leaves)
    }

    /// Splits the old leaf level, or those parts of it in which something changes, so that jobs have some work each, whatever they consist of.
    fn jobs(&self, blocks: u64) -> Vec<Range<u64>> {
        let params = self.builder.params;
        let per_block = params.digests_per_block();
        let leaves = Children { block_size: params.hash_block_size, ..self.data };
        let most = (leaves.per_read() as u64).max(blocks / MOST_JOBS);
        let most_dirty = (JOB_BYTES / params.data_block_size.as_u64()).max(1);
        let most_dirty = most_dirty.max(self.dirty.len() / MOST_JOBS);
        let mut jobs = Vec::new();
        let mut start = 0;
        while start < blocks {
            let first_dirty = self.dirty_leaves.within(start..blocks).next().map_or(blocks, |run| run.start);
            if self.write == Write::Changed {
                start = first_dirty;
            }
            let mut end = blocks.min(start + most);
            if first_dirty < end {
                let all = end;
                let mut dirty = 0;
                end = first_dirty;
                while end < all && dirty < most_dirty {
                    let children = self.dirty.within(end * per_block..(end + 1) * per_block);
                    dirty += children.map(|run| run.end - run.start).sum::<u64>();
                    end += 1;
                }
            }
            if start < end {
                jobs.push(start..end);
            }
            start = end;
        }
        jobs
    }

    /// Those of the old leaf blocks that the new tree has, too.
    fn kept<'b>(&self, first: u64, leaves: &'b mut [u8]) -> &'b mut [u8] {
        let levels = self.builder.geometry.levels();
        let blocks = levels.first().map_or(0, |level| level.blocks.saturating_sub(first));
        let bytes = blocks.saturating_mul(self.builder.params.hash_block_size.as_u64());
        let bytes = usize::try_from(bytes).map_or(leaves.len(), |bytes| bytes.min(leaves.len()));
        &mut leaves[..bytes]
    }

    /// Puts the digests of changed data into leaf blocks.
    fn patch(&self, gathered: &mut Gathered, first: u64, leaves: &mut [u8]) -> Result<(), Error> {
        let Builder { params, geometry, options, .. } = *self.builder;
        let per_block = params.digests_per_block();
        let hash_block = params.hash_block_size.as_u64();
        let start = first * hash_block;
        let blocks = leaves.len() as u64 / hash_block;
        let children = first * per_block..((first + blocks) * per_block).min(geometry.data_blocks());
        // What had a digest there is gone.
        if children.end == geometry.data_blocks() {
            let last = self.slots.position(children.end - 1) + params.slot_size() as u64;
            leaves[usize_of(last - start)..].fill(0);
        }
        let most = self.data.per_read() as u64;
        let mut hashed = 0;
        for run in self.dirty.within(children) {
            hashed += run.end - run.start;
            let mut child = self.skip_hole(gathered, &run, leaves, start);
            while child < run.end {
                let end = run.end.min(child + most - gathered.count);
                gathered.read(&self.data, child..end)?;
                if gathered.count == most {
                    self.hash(gathered, leaves, start);
                }
                child = end;
            }
        }
        self.hash(gathered, leaves, start);
        options.observer.advance(hashed * params.data_block_size.as_u64());
        Ok(())
    }

    /// Puts the digests of a run's first blocks in place, those that lie in a hole, and returns the first that does not.
    fn skip_hole(&self, gathered: &mut Gathered, run: &Range<u64>, leaves: &mut [u8], start: u64) -> u64 {
        if run.end - run.start < ASKED_FROM {
            return run.start;
        }
        if gathered.zeros_until <= run.start {
            gathered.zeros_until = self.data.zeros_until(run.start);
        }
        let end = gathered.zeros_until.clamp(run.start, run.end);
        self.slots.fill_known(&self.hasher, usize_of(end - run.start), run.start, leaves, start);
        end
    }

    /// Hashes what was gathered into the leaf blocks that begin with the level's byte `start`.
    fn hash(&self, gathered: &mut Gathered, leaves: &mut [u8], start: u64) {
        let size = self.builder.params.algorithm.digest_size();
        gathered.digests.resize(usize_of(gathered.count) * size, 0);
        self.hasher.hash(&gathered.blocks, &mut gathered.digests, size);
        let children = gathered.runs.drain(..).flatten();
        for (child, digest) in children.zip(gathered.digests.chunks_exact(size)) {
            let at = usize_of(self.slots.position(child) - start);
            leaves[at..at + size].copy_from_slice(digest);
        }
        gathered.blocks.clear();
        gathered.count = 0;
    }

    /// Writes leaf blocks, `first` and those after it.
    fn put(&self, first: u64, leaves: &[u8]) -> Result<(), Error> {
        let Builder { hash, params, geometry, .. } = *self.builder;
        let size = params.hash_block_size.as_u64();
        let all = first..first + leaves.len() as u64 / size;
        let put = |blocks: Range<u64>| {
            let bytes = usize_of((blocks.start - first) * size)..usize_of((blocks.end - first) * size);
            write(hash, Device::Hash, &leaves[bytes], geometry.hash_block_offset(0, blocks.start))
        };
        match self.write {
            Write::All => put(all),
            Write::Changed => self.dirty_leaves.within(all).try_for_each(put),
        }
    }
}

impl Gathered {
    fn read(&mut self, data: &Children<'_>, run: Range<u64>) -> Result<(), Error> {
        let old = self.blocks.len();
        self.blocks.resize(old + usize_of(run.end - run.start) * data.block_size.bytes(), 0);
        data.read(&mut self.blocks[old..], run.start)?;
        self.count += run.end - run.start;
        self.runs.push(run);
        Ok(())
    }
}
