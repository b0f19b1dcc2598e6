//! Verifying: every block against the root hash, from the top down.
//!
//! Level by level, each block is hashed and compared with its digest in the block above. That block is used only if it
//! hashes to its own digest further up, checked again in the very bytes that are used ([`Ancestors`]): no byte is trusted
//! because an earlier pass saw it intact. A block below a bad one is reported as unverifiable, not as bad.

use super::build::hash_top;
use super::level::{Children, usize_of};
use super::report::{Collector, Fault, Finding, Place, Report};
use super::{Error, Options, workers};
use crate::block::RootHash;
use crate::digest::BlockHasher;
use crate::geometry::Geometry;
use crate::io::ReadAt;
use crate::params::Params;
use crate::progress::Phase;

/// Checks every data block and hash block against `root`, and that spare bytes are zero. Writes nothing.
///
/// If the top block itself does not match, the root hash is another tree's or the top block is corrupted: the report
/// says so, and counts all below as unverifiable.
///
/// # Errors
/// [`Error::Read`] if a device cannot be read or ends too early, [`Error::RootHashSize`], [`Error::Cancelled`]. A bad
/// block is no error: it is in the [`Report`].
pub fn verify(
    data: &dyn ReadAt,
    hash: &dyn ReadAt,
    params: &Params,
    geometry: &Geometry,
    root: &RootHash,
    options: &Options<'_>,
) -> Result<Report, Error> {
    check_root_size(params, root)?;
    let tree = Tree { data, hash, params, geometry, root, hasher: BlockHasher::new(params) };
    let collector = Collector::new(options.max_findings);
    options.observer.begin(Phase::Verify, Some(geometry.data_bytes()));
    tree.check_top(&collector)?;
    for level in (0..geometry.levels().len()).rev() {
        tree.check_children(level, &collector, options)?;
    }
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
    check_root_size(params, root)?;
    let found = hash_top(data, hash, params, geometry, &BlockHasher::new(params))?;
    if found == *root { Ok(()) } else { Err(Error::RootHash { expected: *root, found }) }
}

fn check_root_size(params: &Params, root: &RootHash) -> Result<(), Error> {
    let expected = params.algorithm.digest_size();
    let found = root.as_bytes().len();
    if expected == found { Ok(()) } else { Err(Error::RootHashSize { expected, found }) }
}

struct Tree<'a> {
    data: &'a dyn ReadAt,
    hash: &'a dyn ReadAt,
    params: &'a Params,
    geometry: &'a Geometry,
    root: &'a RootHash,
    hasher: BlockHasher,
}

/// The blocks above the one that is being checked, one a level, each verified in place. A thread's own.
struct Ancestors {
    blocks: Vec<Ancestor>,
}

#[derive(Default)]
struct Ancestor {
    index: Option<u64>,
    bytes: Vec<u8>,
    trusted: bool,
}

/// What a thread needs for its jobs.
struct Scratch {
    ancestors: Ancestors,
    children: Vec<u8>,
    digests: Vec<u8>,
}

impl Tree<'_> {
    fn check_top(&self, collector: &Collector) -> Result<(), Error> {
        let found = hash_top(self.data, self.hash, self.params, self.geometry, &self.hasher)?;
        let top = self.geometry.levels().len();
        let children = self.children(top);
        if found != *self.root {
            collector.add(self.finding(top, &children, 0, 1, Fault::Digest { expected: *self.root, found }));
        } else if top > 0 {
            let mut block = vec![0; self.params.hash_block_size.bytes()];
            children.read(&mut block, 0)?;
            self.check_spare(top, &children, 0, &block, collector);
        }
        Ok(())
    }

    /// The children of `level`; of the level above the last, the top block (or the only data block).
    fn children(&self, level: usize) -> Children<'_> {
        Children::of_level(level, self.params, self.geometry, self.data, self.hash)
    }

    /// Checks all children of `level`.
    fn check_children(
        &self,
        level: usize,
        collector: &Collector,
        options: &Options<'_>,
    ) -> Result<(), Error> {
        let children = self.children(level);
        let jobs = children.jobs(options.threads.get());
        let digest_size = self.hasher.digest_size();
        let scratch = || Scratch {
            ancestors: Ancestors {
                blocks: self.geometry.levels().iter().map(|_| Ancestor::default()).collect(),
            },
            children: vec![0; children.per_read() * children.block_size.bytes()],
            digests: vec![0; children.per_read() * digest_size],
        };
        workers::run(jobs.len(), options, scratch, |scratch, job| {
            let run = jobs.range(job);
            let mut child = run.start;
            while child < run.end {
                let count = usize_of(run.end - child).min(children.per_read());
                self.check_run(level, &children, child, count, scratch, collector)?;
                child += count as u64;
            }
            if level == 0 {
                options.observer.advance((run.end - run.start) * children.block_size.as_u64());
            }
            Ok(())
        })
    }

    /// Checks `count` children from `first` on: as many as are read at once.
    fn check_run(
        &self,
        level: usize,
        children: &Children<'_>,
        first: u64,
        count: usize,
        scratch: &mut Scratch,
        collector: &Collector,
    ) -> Result<(), Error> {
        let block_size = children.block_size;
        let digest_size = self.hasher.digest_size();
        let Scratch { ancestors, children: buffer, digests } = scratch;
        let blocks = &mut buffer[..count * block_size.bytes()];
        children.read(blocks, first)?;
        self.hasher.hash_blocks(blocks, block_size, digests, digest_size);

        let per_block = self.params.digests_per_block();
        for (child, (block, found)) in
            (first..).zip(blocks.chunks_exact(block_size.bytes()).zip(digests.chunks_exact(digest_size)))
        {
            let Some(parent) = ancestors.trusted(self, level, child / per_block)? else {
                collector.add(self.finding(level, children, child, 1, Fault::Unverifiable));
                continue;
            };
            let at = usize_of(child % per_block) * self.params.slot_size();
            let expected = &parent[at..at + digest_size];
            if expected == found {
                if level > 0 {
                    self.check_spare(level, children, child, block, collector);
                }
            } else {
                let fault = Fault::Digest {
                    expected: RootHash::from_digest(expected),
                    found: RootHash::from_digest(found),
                };
                collector.add(self.finding(level, children, child, 1, fault));
            }
        }
        Ok(())
    }

    /// Checks the spare bytes of a hash block that is child `index` of `level`, hence on the level below.
    fn check_spare(
        &self,
        level: usize,
        children: &Children<'_>,
        index: u64,
        block: &[u8],
        collector: &Collector,
    ) {
        let below = level - 1;
        let per_block = self.params.digests_per_block();
        let first = index * per_block;
        let used = usize_of((self.geometry.digests_in(below) - first).min(per_block));
        let (slot, digest) = (self.params.slot_size(), self.hasher.digest_size());
        let spare =
            |&(offset, &byte): &(usize, &u8)| byte != 0 && (offset / slot >= used || offset % slot >= digest);
        if let Some((offset, _)) = block.iter().enumerate().find(spare) {
            collector.add(self.finding(level, children, index, 1, Fault::Spare { offset }));
        }
    }

    fn finding(
        &self,
        level: usize,
        children: &Children<'_>,
        first_block: u64,
        blocks: u64,
        fault: Fault,
    ) -> Finding {
        Finding {
            place: level.checked_sub(1).map_or(Place::Data, Place::hash),
            first_block,
            blocks,
            bytes: children.position(first_block)..children.position(first_block + blocks),
            fault,
        }
    }
}

impl Ancestors {
    /// Hash block `index` of `level`, if it and all above it hash to what the root hash vouches for.
    fn trusted(&mut self, tree: &Tree<'_>, level: usize, index: u64) -> Result<Option<&[u8]>, Error> {
        if self.blocks[level].index != Some(index) {
            self.load(tree, level, index)?;
        }
        let ancestor = &self.blocks[level];
        Ok(ancestor.trusted.then_some(&ancestor.bytes))
    }

    fn load(&mut self, tree: &Tree<'_>, level: usize, index: u64) -> Result<(), Error> {
        let digest_size = tree.hasher.digest_size();
        let above = level + 1;
        let expected = if above == tree.geometry.levels().len() {
            Some(*tree.root)
        } else {
            let per_block = tree.params.digests_per_block();
            let at = usize_of(index % per_block) * tree.params.slot_size();
            let parent = self.trusted(tree, above, index / per_block)?;
            parent.map(|parent| RootHash::from_digest(&parent[at..at + digest_size]))
        };
        let ancestor = &mut self.blocks[level];
        ancestor.index = None;
        ancestor.bytes.resize(tree.params.hash_block_size.bytes(), 0);
        tree.children(above).read(&mut ancestor.bytes, index)?;
        ancestor.trusted = expected == Some(tree.hasher.hash_block(&ancestor.bytes));
        ancestor.index = Some(index);
        Ok(())
    }
}
