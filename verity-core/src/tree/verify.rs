//! Verifying: every block against the root hash, from the top down.
//!
//! Level by level, each block is hashed and compared with its digest in the block above. That block is used only if it
//! hashes to its own digest further up, checked again in the very bytes that are used ([`Ancestors`]): no byte is trusted
//! because an earlier pass saw it intact. A block below a bad one is reported as unverifiable, not as bad.

use super::build::hash_top;
use super::known::LevelHasher;
use super::level::Children;
use super::report::{Collector, Fault, Finding, Place, Report};
use super::runs::{Jobs, Runs};
use super::{Error, Options};
use crate::block::RootHash;
use crate::digest::BlockHasher;
use crate::geometry::Geometry;
use crate::io::{ReadAt, usize_of};
use crate::params::Params;
use crate::progress::Phase;
use crate::workers;

/// Checks every data block and hash block against `root`, and that spare bytes are zero. Writes nothing.
///
/// If the top block itself does not match, the root hash is another tree's or the top block is corrupted: the report
/// says so, and counts all below as unverifiable, unread.
///
/// # Errors
/// [`Error::Read`] if a device cannot be read or ends too early, [`Error::RootHashSize`], [`Error::Cancelled`],
/// [`Error::Geometry`] if the geometry is not one for the parameters. A bad block is no error: it is in the [`Report`].
pub fn verify(
    data: &dyn ReadAt,
    hash: &dyn ReadAt,
    params: &Params,
    geometry: &Geometry,
    root: &RootHash,
    options: &Options<'_>,
) -> Result<Report, Error> {
    let tree = Tree::new(data, hash, params, geometry, root)?;
    let collector = Collector::new(options.max_findings);
    options.observer.begin(Phase::Verify, Some(geometry.data_bytes()));
    tree.check_all(&collector, options)?;
    Ok(collector.into_report())
}

/// Checks only that the tree's top block hashes to `root`: the cheap test, before a device is made, of whether a root
/// hash belongs to a tree.
///
/// # Errors
/// [`Error::RootHash`] if it does not; else as [`verify`].
pub fn verify_top(
    data: &dyn ReadAt,
    hash: &dyn ReadAt,
    params: &Params,
    geometry: &Geometry,
    root: &RootHash,
) -> Result<(), Error> {
    check_values(params, geometry, root)?;
    let found = hash_top(data, hash, params, geometry, &BlockHasher::new(params))?;
    if found == *root { Ok(()) } else { Err(Error::RootHash { expected: *root, found }) }
}

/// Checks that geometry and root hash are for parameters like these.
pub(crate) fn check_values(params: &Params, geometry: &Geometry, root: &RootHash) -> Result<(), Error> {
    geometry.check_params(params)?;
    let expected = params.algorithm.digest_size();
    let found = root.as_bytes().len();
    if expected == found { Ok(()) } else { Err(Error::RootHashSize { expected, found }) }
}

/// A tree that is being checked.
pub(crate) struct Tree<'a> {
    data: &'a dyn ReadAt,
    hash: &'a dyn ReadAt,
    params: &'a Params,
    geometry: &'a Geometry,
    root: &'a RootHash,
    hasher: BlockHasher,
}

/// The blocks above the one that is being checked, one a level, each verified in place. A thread's own.
pub(crate) struct Ancestors {
    blocks: Vec<Ancestor>,
}

#[derive(Default)]
struct Ancestor {
    index: Option<u64>,
    bytes: Vec<u8>,
    trusted: bool,
}

/// The children of one level, being checked.
struct Checking<'a> {
    level: usize,
    children: Children<'a>,
    hasher: LevelHasher<'a>,
    collector: &'a Collector<'a>,
}

/// What a thread needs for its jobs.
struct Scratch {
    ancestors: Ancestors,
    children: Vec<u8>,
    digests: Vec<u8>,
    /// Data children before this one are zeros.
    zeros_until: u64,
}

impl<'a> Tree<'a> {
    pub(crate) fn new(
        data: &'a dyn ReadAt,
        hash: &'a dyn ReadAt,
        params: &'a Params,
        geometry: &'a Geometry,
        root: &'a RootHash,
    ) -> Result<Self, Error> {
        check_values(params, geometry, root)?;
        Ok(Self { data, hash, params, geometry, root, hasher: BlockHasher::new(params) })
    }

    /// The digest of a block.
    pub(crate) fn digest(&self, block: &[u8]) -> RootHash {
        self.hasher.hash_block(block)
    }

    /// Checks everything, from the top down.
    pub(crate) fn check_all(&self, collector: &Collector<'_>, options: &Options<'_>) -> Result<(), Error> {
        // Below a bad top block there are still suspects.
        let goes_on = self.check_top(collector)?.is_some() || collector.witness().suspects();
        if goes_on {
            for level in (0..self.geometry.levels().len()).rev() {
                let all = Runs::all(self.geometry.digests_in(level));
                self.check_children(level, &all, collector, options)?;
            }
        } else {
            self.give_up(collector);
        }
        if !goes_on || self.geometry.levels().is_empty() {
            options.observer.advance(self.geometry.data_bytes());
        }
        Ok(())
    }

    /// The top block, or the only data block, if its digest is the root hash.
    pub(super) fn check_top(&self, collector: &Collector<'_>) -> Result<Option<Vec<u8>>, Error> {
        let top = self.geometry.levels().len();
        let checking = self.checking(top, collector);
        let block_size = checking.children.block_size;
        let mut block = vec![0; block_size.bytes()];
        checking.children.read(&mut block, 0)?;
        let found = self.hasher.hash_block(&block);
        if found != *self.root {
            checking.add(0, 1, Fault::Digest { expected: *self.root, found });
            return Ok(None);
        }
        if top > 0 {
            self.check_spare(&checking, 0, &block);
        }
        Ok(Some(block))
    }

    /// Reports everything below the top block: without that, no block can be told from a forged one.
    fn give_up(&self, collector: &Collector<'_>) {
        for level in 0..self.geometry.levels().len() {
            let checking = self.checking(level, collector);
            checking.add(0, checking.children.count, Fault::Unverifiable);
        }
    }

    /// The children of `level`; of the level above the last, the top block (or the only data block).
    pub(super) fn children(&self, level: usize) -> Children<'_> {
        Children::of_level(level, self.params, self.geometry, self.data, self.hash)
    }

    fn checking<'c>(&'c self, level: usize, collector: &'c Collector<'c>) -> Checking<'c> {
        let hasher = LevelHasher::new(&self.hasher, level, self.params);
        Checking { level, children: self.children(level), hasher, collector }
    }

    /// Checks the children of `level` that are in `runs`.
    pub(crate) fn check_children(
        &self,
        level: usize,
        runs: &Runs,
        collector: &Collector<'_>,
        options: &Options<'_>,
    ) -> Result<(), Error> {
        let jobs = runs.jobs(self.children(level).per_job(options.threads));
        self.check_jobs(level, &jobs, collector, options, &|| (), &|(), _, _| Ok(()))
    }

    /// Checks the children of `level` that are in `jobs`, and lets `take` have them, `first` and those after it: the very bytes that were checked.
    ///
    /// Bad ones, too: if there are any there is a finding, and what was made of them is of no use. Data that is a hole is not read, and what is taken of
    /// it has no meaning.
    pub(super) fn check_jobs<T>(
        &self,
        level: usize,
        jobs: &Jobs<'_>,
        collector: &Collector<'_>,
        options: &Options<'_>,
        state: &(impl Fn() -> T + Sync),
        take: &(impl Fn(&mut T, u64, &mut [u8]) -> Result<(), Error> + Sync),
    ) -> Result<(), Error> {
        let checking = self.checking(level, collector);
        let children = &checking.children;
        let digest_size = self.hasher.digest_size();
        let scratch = || {
            let scratch = Scratch {
                ancestors: Ancestors::new(self.geometry),
                children: vec![0; children.per_read() * children.block_size.bytes()],
                digests: vec![0; children.per_read() * digest_size],
                zeros_until: 0,
            };
            (scratch, state())
        };
        workers::run(jobs.len(), options, scratch, |(scratch, state), job| {
            let run = jobs.range(job);
            let mut child = run.start;
            while child < run.end {
                let count = usize_of(run.end - child).min(children.per_read());
                self.check_run(&checking, child, count, scratch)?;
                take(state, child, &mut scratch.children[..count * children.block_size.bytes()])?;
                child += count as u64;
            }
            if level == 0 {
                options.observer.advance((run.end - run.start) * children.block_size.as_u64());
            }
            Ok(())
        })?;
        if level == 0 { children.check_end() } else { Ok(()) }
    }

    /// Checks `count` children from `first` on: as many as are read at once.
    fn check_run(
        &self,
        checking: &Checking<'_>,
        first: u64,
        count: usize,
        scratch: &mut Scratch,
    ) -> Result<(), Error> {
        let Checking { level, children, hasher, .. } = checking;
        let level = *level;
        let block_size = children.block_size;
        let digest_size = self.hasher.digest_size();
        let Scratch { ancestors, children: buffer, digests, zeros_until } = scratch;
        let blocks = &mut buffer[..count * block_size.bytes()];
        if level == 0 && *zeros_until <= first {
            *zeros_until = children.zeros_until(first);
        }
        if level == 0 && *zeros_until >= first + count as u64 {
            hasher.put_known(count, digests, digest_size);
        } else {
            children.read(blocks, first)?;
            hasher.hash(blocks, digests, digest_size);
        }

        let per_block = self.params.digests_per_block();
        // Reported in one piece: a bad block high up in the tree would otherwise have all threads wait for the collector.
        let mut unverifiable = first..first;
        for (child, (block, found)) in
            (first..).zip(blocks.chunks_exact(block_size.bytes()).zip(digests.chunks_exact(digest_size)))
        {
            let (parent, trusted) = ancestors.block(self, level, child / per_block)?;
            let at = usize_of(child % per_block) * self.params.slot_size();
            let expected = &parent[at..at + digest_size];
            if !trusted {
                if unverifiable.end != child {
                    checking.add_unverifiable(&unverifiable);
                    unverifiable.start = child;
                }
                unverifiable.end = child + 1;
                if expected != found {
                    checking.suspect(child);
                }
                continue;
            }
            if expected == found {
                if level > 0 {
                    self.check_spare(checking, child, block);
                }
            } else {
                let fault = Fault::Digest {
                    expected: RootHash::from_digest(expected),
                    found: RootHash::from_digest(found),
                };
                checking.add(child, 1, fault);
            }
        }
        checking.add_unverifiable(&unverifiable);
        Ok(())
    }

    /// Checks the spare bytes of a hash block that is child `index` of its level, hence on the level below.
    fn check_spare(&self, checking: &Checking<'_>, index: u64, block: &[u8]) {
        let per_block = self.params.digests_per_block();
        let left = self.geometry.digests_in(checking.level - 1) - index * per_block;
        let used = usize_of(left.min(per_block));
        let (slot, digest) = (self.params.slot_size(), self.hasher.digest_size());
        let (slots, rest) = block.split_at(used * slot);
        let set = |bytes: &[u8]| bytes.iter().position(|&byte| byte != 0);
        let in_slots = || {
            (0..)
                .zip(slots.chunks(slot))
                .find_map(|(number, bytes)| Some(number * slot + digest + set(&bytes[digest..])?))
        };
        if let Some(offset) = in_slots().or_else(|| Some(used * slot + set(rest)?)) {
            checking.add(index, 1, Fault::Spare { offset });
        }
    }
}

impl Checking<'_> {
    fn place(&self) -> Place {
        self.level.checked_sub(1).map_or(Place::Data, |level| Place::Hash { level })
    }

    fn suspect(&self, block: u64) {
        self.collector.witness().suspected(self.place(), block);
    }

    fn add_unverifiable(&self, blocks: &std::ops::Range<u64>) {
        if !blocks.is_empty() {
            self.add(blocks.start, blocks.end - blocks.start, Fault::Unverifiable);
        }
    }

    fn add(&self, first_block: u64, blocks: u64, fault: Fault) {
        self.collector.add(Finding {
            place: self.place(),
            first_block,
            blocks,
            bytes: self.children.position(first_block)..self.children.position(first_block + blocks),
            fault,
        });
    }
}

impl Ancestors {
    pub(crate) fn new(geometry: &Geometry) -> Self {
        Self { blocks: geometry.levels().iter().map(|_| Ancestor::default()).collect() }
    }

    /// The digest that child `index` of `level` should have, if that is vouched for up to the root hash.
    pub(crate) fn expected(
        &mut self,
        tree: &Tree<'_>,
        level: usize,
        index: u64,
    ) -> Result<Option<RootHash>, Error> {
        if level == tree.geometry.levels().len() {
            return Ok(Some(*tree.root));
        }
        let per_block = tree.params.digests_per_block();
        let at = usize_of(index % per_block) * tree.params.slot_size();
        let (parent, trusted) = self.block(tree, level, index / per_block)?;
        let digest = || RootHash::from_digest(&parent[at..at + tree.hasher.digest_size()]);
        Ok(trusted.then(digest))
    }

    /// Hash block `index` of `level`, and whether it and all above it hash to what the root hash vouches for.
    fn block(&mut self, tree: &Tree<'_>, level: usize, index: u64) -> Result<(&[u8], bool), Error> {
        if self.blocks[level].index != Some(index) {
            self.load(tree, level, index)?;
        }
        let ancestor = &self.blocks[level];
        Ok((&ancestor.bytes, ancestor.trusted))
    }

    fn load(&mut self, tree: &Tree<'_>, level: usize, index: u64) -> Result<(), Error> {
        let above = level + 1;
        let expected = self.expected(tree, above, index)?;
        let ancestor = &mut self.blocks[level];
        ancestor.index = None;
        ancestor.bytes.resize(tree.params.hash_block_size.bytes(), 0);
        tree.children(above).read(&mut ancestor.bytes, index)?;
        ancestor.trusted = expected == Some(tree.hasher.hash_block(&ancestor.bytes));
        ancestor.index = Some(index);
        Ok(())
    }
}
