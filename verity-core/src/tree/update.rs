//! Updating: the tree of changed data from the tree of the data before.
//!
//! Only changed data blocks are hashed, and the hash blocks on their way to the root. Since everything else is taken over,
//! the old tree is first checked against the old root hash, in the bytes that are taken over: a tree that had rotted would
//! otherwise live on under a new root hash. What is *not* checked is whether the data changed only where the caller says.

use std::fmt;
use std::ops::Range;

use super::build::{Builder, hash_top, write};
use super::patch::{Patch, Write};
use super::report::Collector;
use super::runs::Runs;
use super::verify::Tree;
use super::{Device, Error, Options};
use crate::block::RootHash;
use crate::digest::BlockHasher;
use crate::geometry::Geometry;
use crate::io::{ReadAt, Storage, usize_of};
use crate::params::Params;
use crate::progress::Phase;

/// A tree as it was before the data changed.
#[derive(Clone, Copy)]
pub struct Old<'a> {
    /// The device that holds it.
    pub hash: &'a dyn ReadAt,
    /// Where it lies there.
    pub geometry: &'a Geometry,
    /// Its root hash.
    pub root: &'a RootHash,
}

impl fmt::Debug for Old<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { hash: _, geometry, root } = self;
        f.debug_struct("Old").field("geometry", geometry).field("root", root).finish_non_exhaustive()
    }
}

/// Makes the tree over `data` in `hash` from `old`, given that no byte outside the ranges `changed` (bytes of the data)
/// differs. Data may have grown or shrunk; what was added need not be among the ranges. The result equals that of
/// [`build`](super::build()), byte for byte.
///
/// The two trees may not overlap, since the old one is read while the new one is written; for the same place there is
/// [`update_in_place`]. Memory grows with the number of ranges: some 70 bytes for each.
///
/// # Errors
/// [`Error::OldTree`] if the old tree is not what its root hash says; else as [`build`](super::build()).
pub fn update(
    data: &dyn ReadAt,
    hash: &dyn Storage,
    params: &Params,
    geometry: &Geometry,
    old: &Old<'_>,
    changed: &[Range<u64>],
    options: &Options<'_>,
) -> Result<RootHash, Error> {
    geometry.check_params(params)?;
    let builder = Builder { data, hash, params, geometry, hasher: &BlockHasher::new(params), options };
    take_over(&builder, old, Write::All, changed)
}

/// As [`update`], over the old tree itself, whose place and size stay the same.
///
/// The whole old tree is checked against `root` before the first byte is written. What does not change is then left as it is, and what lies above the
/// leaf level on the way from a changed block to the root is read a second time without another check: nobody else may write to `hash` meanwhile.
///
/// A cut in the middle leaves neither tree: put a journal behind `hash` where that matters.
///
/// # Errors
/// As [`update`].
pub fn update_in_place(
    data: &dyn ReadAt,
    hash: &dyn Storage,
    params: &Params,
    geometry: &Geometry,
    root: &RootHash,
    changed: &[Range<u64>],
    options: &Options<'_>,
) -> Result<RootHash, Error> {
    let builder = Builder { data, hash, params, geometry, hasher: &BlockHasher::new(params), options };
    take_over(&builder, &Old { hash, geometry, root }, Write::Changed, changed)
}

/// Checks the old tree from the top down, and makes the new one of it from the leaves up.
fn take_over(
    builder: &Builder<'_>,
    old: &Old<'_>,
    write: Write,
    changed: &[Range<u64>],
) -> Result<RootHash, Error> {
    let Builder { data, hash, params, geometry, hasher, options } = *builder;
    old.geometry.check_params(params)?;
    let block_size = params.data_block_size.as_u64();
    let blocks = changed
        .iter()
        .filter(|range| range.start < range.end)
        .map(|range| range.start / block_size..range.end.div_ceil(block_size));
    let blocks = blocks.chain(resized(old.geometry, geometry, 0));
    let mut dirty = Runs::from_ranges(blocks, geometry.data_blocks());
    options.observer.begin(Phase::Build, Some(dirty.len() * block_size));
    let taken = take_levels(builder, old, write, &dirty)?;
    for (level, blocks) in geometry.levels().iter().map(|level| level.blocks).enumerate() {
        if level == 0 {
            let rest = dirty.within(taken..u64::MAX);
            builder.build_level(0, &Runs::from_ranges(rest, geometry.data_blocks()))?;
        } else {
            builder.build_level(level, &dirty)?;
        }
        let above = resized(old.geometry, geometry, level + 1);
        dirty = Runs::from_ranges(dirty.parents(params.digests_per_block()).chain(above), blocks);
    }
    hash_top(data, hash, params, geometry, hasher)
}

/// Checks the old tree's hash blocks, and puts them where the new tree has them: those of the leaf level brought up to date, the others as they
/// are. Returns how many data blocks those leaves have room for.
fn take_levels(builder: &Builder<'_>, old: &Old<'_>, mode: Write, dirty: &Runs) -> Result<u64, Error> {
    let Builder { params, geometry, hash, options, .. } = *builder;
    // Over a single data block there is no tree to take over.
    let Some(leaves) = old.geometry.levels().first() else { return Ok(0) };
    let block_size = params.hash_block_size;
    let copy = |level: usize, first: u64, blocks: &[u8]| {
        let there = geometry.levels().get(level).map_or(0, |level| level.blocks.saturating_sub(first));
        let bytes = usize_of(there.saturating_mul(block_size.as_u64())).min(blocks.len());
        if mode == Write::Changed || bytes == 0 {
            return Ok(());
        }
        write(hash, Device::Hash, &blocks[..bytes], geometry.hash_block_offset(level, first))
    };
    let nothing: Vec<u8> = Vec::new();
    let tree = Tree::new(&nothing, old.hash, params, old.geometry, old.root)?;
    let levels = old.geometry.levels().len();
    let top = sound(|collector| {
        let top = tree.check_top(collector)?.unwrap_or_default();
        if levels > 1 {
            copy(levels - 1, 0, &top)?;
        }
        Ok(top)
    })?;
    for level in (2..levels).rev() {
        let all = Runs::all(old.geometry.digests_in(level));
        let jobs = all.jobs(tree.children(level).per_job(options.threads));
        let take = |(): &mut (), first, blocks: &mut [u8]| copy(level - 1, first, blocks);
        sound(|collector| tree.check_jobs(level, &jobs, collector, options, &|| (), &take))?;
    }
    let patch = Patch::new(builder, dirty, mode);
    if levels == 1 {
        patch.single(top)?;
    } else {
        if mode == Write::Changed {
            let all = Runs::all(leaves.blocks);
            sound(|collector| tree.check_children(1, &all, collector, options))?;
        }
        sound(|collector| patch.run(&tree, old.geometry, collector, options))?;
    }
    Ok(leaves.blocks * params.digests_per_block())
}

/// Does some checking of the old tree, of which one finding is enough to refuse.
fn sound<T>(check: impl FnOnce(&Collector<'_>) -> Result<T, Error>) -> Result<T, Error> {
    let collector = Collector::new(1);
    let result = check(&collector)?;
    let finding = collector.into_report().findings.pop();
    finding.map_or(Ok(result), |finding| Err(Error::OldTree(Box::new(finding))))
}

/// The children of `level` that are new because data was added or, where children are gone, the last one, with which
/// the slots behind it are cleared. All of them where the old tree had no such level.
fn resized(old: &Geometry, new: &Geometry, level: usize) -> Option<Range<u64>> {
    if level >= new.levels().len() {
        return None;
    }
    let after = new.digests_in(level);
    if level >= old.levels().len() {
        return Some(0..after);
    }
    let before = old.digests_in(level);
    match before.cmp(&after) {
        std::cmp::Ordering::Less => Some(before..after),
        std::cmp::Ordering::Equal => None,
        std::cmp::Ordering::Greater => Some(after - 1..after),
    }
}
