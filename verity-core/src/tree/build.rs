//! Building: each level from the one below it.

use super::known::LevelHasher;
use super::level::{Children, Slots, read, usize_of};
use super::{Device, Error, Options, workers};
use crate::block::RootHash;
use crate::digest::BlockHasher;
use crate::geometry::Geometry;
use crate::io::{ReadAt, Storage, WriteAt};
use crate::params::Params;
use crate::progress::Phase;

/// Builds the tree over `data` into `hash` and returns the root hash.
///
/// Every byte of the hash blocks is written, unused slots as zeros; nothing else is, the superblock neither: write it
/// when the tree is complete, so that what bears a superblock has a tree. Nothing is synced.
///
/// # Errors
/// [`Error::Read`] if `data` cannot be read or ends too early, [`Error::Write`], [`Error::Cancelled`].
pub fn build(
    data: &dyn ReadAt,
    hash: &dyn Storage,
    params: &Params,
    geometry: &Geometry,
    options: &Options<'_>,
) -> Result<RootHash, Error> {
    let hasher = BlockHasher::new(params);
    options.observer.begin(Phase::Build, Some(geometry.data_bytes()));
    if !geometry.levels().is_empty() {
        build_level(0, data, hash, params, geometry, &hasher, options)?;
    }
    build_upper_levels(data, hash, params, geometry, &hasher, options)
}

/// Builds what lies above the leaf level, and hashes the top block.
pub(super) fn build_upper_levels(
    data: &dyn ReadAt,
    hash: &dyn Storage,
    params: &Params,
    geometry: &Geometry,
    hasher: &BlockHasher,
    options: &Options<'_>,
) -> Result<RootHash, Error> {
    for level in 1..geometry.levels().len() {
        build_level(level, data, hash, params, geometry, hasher, options)?;
    }
    hash_top(data, hash, params, geometry, hasher)
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
    let offset = geometry.hash_block_offset(top, 0);
    read(hash, Device::Hash, &mut block, offset)?;
    Ok(hasher.hash_block(&block))
}

fn build_level(
    level: usize,
    data: &dyn ReadAt,
    hash: &dyn Storage,
    params: &Params,
    geometry: &Geometry,
    hasher: &BlockHasher,
    options: &Options<'_>,
) -> Result<(), Error> {
    let children = Children::of_level(level, params, geometry, data, hash);
    let slots = Slots::of(params);
    let jobs = children.jobs(options.threads.get());
    let level_offset = geometry.hash_block_offset(level, 0);
    let block_size = children.block_size;
    let level_hasher = LevelHasher::new(hasher, level, params);

    #[derive(Default)]
    struct Scratch {
        buffer: Vec<u8>,
        digests: Vec<u8>,
        /// Data children before this one are zeros.
        zeros_until: u64,
    }
    workers::run(jobs.len(), options, Scratch::default, |Scratch { buffer, digests, zeros_until }, job| {
        let run = jobs.range(job);
        let region = slots.region(&run, children.count);
        digests.clear();
        digests.resize(usize_of(region.end - region.start), 0);

        let mut child = run.start;
        if level == 0 {
            if *zeros_until <= child {
                *zeros_until = children.zeros_until(child);
            }
            let end = (*zeros_until).clamp(child, run.end);
            slots.fill_known(&level_hasher, usize_of(end - child), child, digests, region.start);
            child = end;
        }
        while child < run.end {
            let count = usize_of(run.end - child).min(children.per_read());
            buffer.resize(children.per_read() * block_size.bytes(), 0);
            let blocks = &mut buffer[..count * block_size.bytes()];
            children.read(blocks, child)?;
            slots.fill(&level_hasher, blocks, child, digests, region.start);
            child += count as u64;
        }
        write(hash, Device::Hash, digests, level_offset + region.start)?;
        if level == 0 {
            options.observer.advance((run.end - run.start) * block_size.as_u64());
        }
        Ok(())
    })
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
