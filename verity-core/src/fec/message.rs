//! The message that parity is over: data, then tree, cut into rows.

use std::ops::Range;

use super::layout::Layout;
use crate::io::{ReadAt, is_zero, usize_of};
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
    fn common(&self, range: &Range<u64>) -> Option<Range<u64>> {
        let common = range.start.max(self.start)..range.end.min(self.start + self.length);
        (common.start < common.end).then_some(common)
    }

    /// Whether `part` of the message, all of which is this segment's, is known to be a hole.
    fn is_hole(&self, part: &Range<u64>) -> bool {
        let offset = self.position(part.start);
        self.source.zeros_until(offset).is_ok_and(|end| end >= self.position(part.end))
    }

    /// Fills `buffer` from `start` of the message on, which is all of this segment's.
    fn read(&self, start: u64, buffer: &mut [u8]) -> Result<(), Error> {
        let (offset, length) = (self.position(start), buffer.len());
        self.source.read_exact_at(buffer, offset).map_err(|source| Error::Read {
            device: self.device,
            offset,
            length,
            source,
        })
    }

    /// Where a byte of the message lies on the segment's device.
    fn position(&self, at: u64) -> u64 {
        self.offset + (at - self.start)
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

/// Reads pieces of rows.
pub(super) struct Rows<'a> {
    segments: &'a [Segment<'a>],
    /// Whether the last piece was zeros. Only then the next one may well be a hole: to ask costs a call, to read one piece of a hole
    /// little more.
    zeros: bool,
}

impl<'a> Rows<'a> {
    pub(super) const fn new(segments: &'a [Segment<'a>]) -> Self {
        Self { segments, zeros: false }
    }

    /// Reads the bytes of `range` of the message into `row`, which is as long, and shows each segment's part to `visit`, with its place in
    /// the message. False if they are all zeros, of which those that are no segment's were not put into `row`.
    pub(super) fn read(
        &mut self,
        range: &Range<u64>,
        row: &mut [u8],
        mut visit: impl FnMut(u64, &[u8]) -> Result<(), Error>,
    ) -> Result<bool, Error> {
        let mut any = false;
        let common = |segment: &'a Segment<'a>| Some((segment, segment.common(range)?));
        let mut parts = self.segments.iter().filter_map(common).peekable();
        // Most rows are one segment's from end to end, which fills them.
        if parts.peek().is_some_and(|(_, part)| part != range) {
            row.fill(0);
        }
        for (segment, common) in parts {
            let part = &mut row[usize_of(common.start - range.start)..usize_of(common.end - range.start)];
            if self.zeros && segment.is_hole(&common) {
                part.fill(0);
            } else {
                segment.read(common.start, part)?;
                any |= !is_zero(part);
            }
            visit(common.start, part)?;
        }
        self.zeros = !any;
        Ok(any)
    }
}
