//! Finding where data changed, by comparing it with what it was.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use super::level::Children;
use super::runs::Runs;
use super::{Device, Error, Options};
use crate::block::BlockSize;
use crate::geometry::GeometryError;
use crate::io::{ReadAt, usize_of};
use crate::progress::Phase;
use crate::workers;

/// The blocks in which the first `blocks` of `before` and `after` differ, as ranges of bytes for
/// [`update`](super::update()).
///
/// Reads both, skipping what is a hole in both.
///
/// # Errors
/// [`Error::Read`] if one of them cannot be read or ends too early, [`Error::Cancelled`]; [`Error::Geometry`] if so many blocks
/// are more than a device can have.
pub fn changed_ranges(
    before: &dyn ReadAt,
    after: &dyn ReadAt,
    block_size: BlockSize,
    blocks: u64,
    options: &Options<'_>,
) -> Result<Vec<Range<u64>>, Error> {
    let total = blocks.checked_mul(block_size.as_u64()).ok_or(GeometryError::TooLarge)?;
    let of = |source| Children { source, device: Device::Data, offset: 0, block_size, count: blocks };
    let (before, after) = (of(before), of(after));
    let runs = Runs::all(blocks);
    let jobs = runs.jobs(before.per_job(options.threads));
    let size = block_size.bytes();
    options.observer.begin(Phase::Compare, Some(total));

    let changed = Mutex::new(Vec::new());
    workers::run(jobs.len(), options, Default::default, |buffers: &mut (Vec<u8>, Vec<u8>), job| {
        let run = jobs.range(job);
        let holes = before.zeros_until(run.start).min(after.zeros_until(run.start));
        let mut found = Vec::new();
        let mut block = holes.clamp(run.start, run.end);
        while block < run.end {
            let count = usize_of(run.end - block).min(before.per_read());
            let (old, new) = buffers;
            old.resize(count * size, 0);
            new.resize(count * size, 0);
            before.read(old, block)?;
            after.read(new, block)?;
            let differ =
                (block..).zip(old.chunks(size).zip(new.chunks(size))).filter(|(_, (old, new))| old != new);
            found.extend(differ.map(|(index, _)| index..index + 1));
            block += count as u64;
        }
        options.observer.advance((run.end - run.start) * block_size.as_u64());
        if !found.is_empty() {
            let found = Runs::from_ranges(found.into_iter(), blocks);
            changed.lock().unwrap_or_else(PoisonError::into_inner).extend(found.into_ranges());
        }
        Ok(())
    })?;
    before.check_end()?;
    after.check_end()?;
    let changed = changed.into_inner().unwrap_or_else(PoisonError::into_inner);
    let bytes = |block: u64| block * block_size.as_u64();
    let runs = Runs::from_ranges(changed.into_iter(), blocks);
    Ok(runs.into_ranges().map(|run| bytes(run.start)..bytes(run.end)).collect())
}
