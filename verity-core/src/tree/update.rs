//! Updating: the tree of changed data from the tree of the data before.
//!
//! Only changed data blocks are hashed, and the hash blocks on their way to the root. Since everything else is taken over,
//! the old tree is first checked against the old root hash, in the bytes that are taken over: a tree that had rotted would
//! otherwise live on under a new root hash. What is *not* checked is whether the data changed only where the caller says.

use std::fmt;
use std::ops::Range;

use super::build::{Builder, hash_top};
use super::report::Collector;
use super::runs::Runs;
use super::verify::{Copy, Tree};
use super::{Error, Options};
use crate::block::RootHash;
use crate::digest::BlockHasher;
use crate::geometry::Geometry;
use crate::io::{ReadAt, Storage};
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
/// [`update_in_place`]. Memory grows with the number of ranges: some 50 bytes for each.
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
    check_old(params, old, Some(Copy { target: hash, geometry }), options)?;
    let builder = Builder { data, hash, params, geometry, hasher: &BlockHasher::new(params), options };
    rebuild(&builder, old.geometry, changed)
}

/// As [`update`], over the old tree itself, whose place and size stay the same.
///
/// The whole old tree is checked against `root` first. What does not change is then left as it is, and what lies on the way from a
/// changed block to the root is read a second time without another check: nobody else may write to `hash` meanwhile.
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
    check_old(params, &Old { hash, geometry, root }, None, options)?;
    let builder = Builder { data, hash, params, geometry, hasher: &BlockHasher::new(params), options };
    rebuild(&builder, geometry, changed)
}

/// Checks the old tree's hash blocks, and copies those that the new tree has too.
fn check_old(
    params: &Params,
    old: &Old<'_>,
    copy: Option<Copy<'_>>,
    options: &Options<'_>,
) -> Result<(), Error> {
    old.geometry.check_params(params)?;
    // Over a single data block there is no tree to take over.
    if old.geometry.levels().is_empty() {
        return Ok(());
    }
    let nothing: Vec<u8> = Vec::new();
    let tree = Tree::new(&nothing, old.hash, params, old.geometry, old.root, copy)?;
    // One finding is enough to refuse.
    let collector = Collector::new(1);
    if tree.check_top(&collector)? {
        for level in (1..old.geometry.levels().len()).rev() {
            let all = Runs::all(old.geometry.digests_in(level));
            tree.check_children(level, &all, &collector, options)?;
        }
    }
    collector.into_report().findings.pop().map_or(Ok(()), |finding| Err(Error::OldTree(Box::new(finding))))
}

fn rebuild(builder: &Builder<'_>, old: &Geometry, changed: &[Range<u64>]) -> Result<RootHash, Error> {
    let Builder { data, hash, params, geometry, hasher, options } = *builder;
    let block_size = params.data_block_size.as_u64();
    let blocks = changed
        .iter()
        .filter(|range| range.start < range.end)
        .map(|range| range.start / block_size..range.end.div_ceil(block_size));
    let mut dirty = Runs::from_ranges(blocks.chain(resized(old, geometry, 0)), geometry.data_blocks());
    options.observer.begin(Phase::Build, Some(dirty.len() * block_size));
    for (level, blocks) in geometry.levels().iter().map(|level| level.blocks).enumerate() {
        builder.build_level(level, &dirty)?;
        let above = resized(old, geometry, level + 1);
        dirty = Runs::from_ranges(dirty.parents(params.digests_per_block()).chain(above), blocks);
    }
    hash_top(data, hash, params, geometry, hasher)
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
