//! The message that parity is over: data, then tree, cut into rows.

use std::ops::Range;

use super::layout::Layout;
use crate::io::{ReadAt, usize_of};
use crate::tree::{Device, Error};

/// A part of the message, and where it is read.
#[derive(Clone, Copy)]
pub(super) struct Segment<'a> {
    source: &'a dyn ReadAt,
    device: Device,
    /// Where the part begins on its device.
    offset: u64,
    /// Where it begins in the message, and its length.
    start: u64,
    length: u64,
}

impl<'a> Segment<'a> {
    pub(super) fn data(source: &'a dyn ReadAt, layout: &Layout) -> Self {
        Self { source, device: Device::Data, offset: 0, start: 0, length: layout.data_bytes() }
    }

    pub(super) fn hash(source: &'a dyn ReadAt, layout: &Layout) -> Self {
        let (offset, start) = (layout.hash_start(), layout.data_bytes());
        Self { source, device: Device::Hash, offset, start, length: layout.hash_bytes() }
    }

    /// The bytes of `range` of the message that are this segment's.
    pub(super) fn common(&self, range: &Range<u64>) -> Option<Range<u64>> {
        let common = range.start.max(self.start)..range.end.min(self.start + self.length);
        (common.start < common.end).then_some(common)
    }

    /// Reads its part of `range` to where it belongs in `row`, which is as long as `range`. False if there is none, or only a hole.
    pub(super) fn read(&self, range: &Range<u64>, row: &mut [u8]) -> Result<bool, Error> {
        let Some(common) = self.common(range) else { return Ok(false) };
        let offset = self.offset + (common.start - self.start);
        let length = common.end - common.start;
        if self.source.zeros_until(offset).is_ok_and(|end| end >= offset + length) {
            return Ok(false);
        }
        let at = usize_of(common.start - range.start);
        let buffer = &mut row[at..at + usize_of(length)];
        self.source.read_exact_at(buffer, offset).map_err(|source| Error::Read {
            device: self.device,
            offset,
            length: buffer.len(),
            source,
        })?;
        Ok(true)
    }

    /// Fails if the source has become shorter than the segment: one that ends in a hole is otherwise never read there.
    pub(super) fn check_end(&self) -> Result<(), Error> {
        let Some(last) = self.length.checked_sub(1) else { return Ok(()) };
        let offset = self.offset + last;
        self.source.read_exact_at(&mut [0], offset).map_err(|source| Error::Read {
            device: self.device,
            offset,
            length: 1,
            source,
        })
    }
}
