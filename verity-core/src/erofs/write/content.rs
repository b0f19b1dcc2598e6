//! The content of files, on its way into the image.

use std::io::{self, Read};
use std::ops::Range;

use super::error::path_of;
use super::known::Known;
use super::node::Body;
use super::runs::Runs;
use super::sink::Sink;
use super::{Error, Summary};
use crate::erofs::format::NULL_ADDRESS;
use crate::io::is_zero;

/// What is looked at as one, in bytes: as a hole, or as something that the image holds already. A multiple of the block size.
const LEAST_UNIT: u64 = 64 << 10;
/// The largest one, which the sink has room for.
const MOST_UNIT: u64 = 1 << 20;

/// What is read of a file.
pub(super) struct Source<'s> {
    /// Whose it is, for messages.
    pub(super) path: &'s [u8],
    /// Its size in bytes.
    pub(super) size: u64,
    /// Which bytes are data; the rest is holes.
    pub(super) data: &'s [Range<u64>],
    /// These bytes.
    pub(super) content: &'s mut dyn Read,
}

impl Source<'_> {
    /// Whether the data are where they can be.
    pub(super) fn check(&self) -> Result<(), Error> {
        let mut last = 0;
        for &Range { start, end } in self.data {
            if start < last || end < start || end > self.size {
                return Err(Error::Sparse { path: path_of(self.path), start, end });
            }
            last = end;
        }
        Ok(())
    }

    /// Fills a unit that begins at `offset`: with data, and with zeros where there are none.
    fn fill(&mut self, unit: &mut [u8], offset: u64) -> Result<(), Error> {
        let length = unit.len();
        let within = |position: u64| crate::io::usize_of(position - offset).min(length);
        let mut filled = 0;
        while let [first, rest @ ..] = self.data {
            let (from, to) = (within(first.start.max(offset)), within(first.end));
            unit[filled..from].fill(0);
            self.content.read_exact(&mut unit[from..to]).map_err(|source| match source.kind() {
                io::ErrorKind::UnexpectedEof => {
                    Error::ContentEnds { path: path_of(self.path), size: self.size }
                }
                _ => Error::Content { path: path_of(self.path), source },
            })?;
            filled = to;
            if first.end - offset > length as u64 {
                break;
            }
            self.data = rest;
        }
        unit[filled..].fill(0);
        Ok(())
    }
}

/// Stores content.
pub(super) struct Store<'a> {
    pub(super) sink: Sink<'a>,
    known: Known,
    /// Its figures about content.
    pub(super) summary: Summary,
}

impl<'a> Store<'a> {
    pub(super) fn new(sink: Sink<'a>) -> Self {
        let known = Known::new(sink.block_size(), sink.wants());
        Self { sink, known, summary: Summary::default() }
    }

    /// Stores a file, but for its last bytes if these are a part of a block, at most `inline` of them.
    pub(super) fn store(&mut self, mut source: Source<'_>, inline: usize) -> Result<Body, Error> {
        // The index has 4 bytes for each, so that of a large file, most of which is often a hole, they are better larger.
        let unit = source.size.saturating_mul(4).isqrt().next_power_of_two().clamp(LEAST_UNIT, MOST_UNIT);
        let mut runs = Runs::default();
        let mut offset = 0;
        while offset < source.size {
            offset += self.skip(&mut source, offset, unit, &mut runs);
            let length = crate::io::usize_of(unit.min(source.size - offset));
            if length == 0 {
                break;
            }
            let stored = length.next_multiple_of(self.sink.block_size().bytes());
            source.fill(&mut self.sink.room(stored)?[..length], offset)?;
            offset += length as u64;
            let inline = if offset == source.size { inline } else { 0 };
            if let Some(tail) = self.take(length, inline, &mut runs)? {
                return Ok(Body::Flat { start: runs.start(), tail });
            }
        }
        if runs.flat() {
            return Ok(Body::Flat { start: runs.start(), tail: Box::default() });
        }
        let chunks = runs.chunks(self.sink.block_size().get().ilog2());
        Ok(Body::Chunks(chunks))
    }

    /// Makes a hole of the units in which no data begin, and tells how many bytes these have.
    fn skip(&mut self, source: &mut Source<'_>, offset: u64, unit: u64, runs: &mut Runs) -> u64 {
        while let [first, rest @ ..] = source.data
            && first.is_empty()
        {
            source.data = rest;
        }
        let start = source.data.first().map_or(source.size, |data| data.start);
        let whole = start.saturating_sub(offset) / unit * unit;
        let length = if start == source.size { start - offset } else { whole };
        if length > 0 {
            self.hole(length, runs);
        }
        length
    }

    fn hole(&mut self, length: u64, runs: &mut Runs) {
        runs.push(length.div_ceil(self.sink.block_size().as_u64()), NULL_ADDRESS);
        self.summary.holes += length;
    }

    /// Takes a unit of so many bytes, which are in the sink's room. If it is the last one of a file, and up to `inline` bytes of its last
    /// block may be kept, returns those that are.
    fn take(&mut self, length: usize, inline: usize, runs: &mut Runs) -> Result<Option<Box<[u8]>>, Error> {
        let block_size = self.sink.block_size();
        let tail = length % block_size.bytes();
        let head = length - tail;
        let may_be_kept = tail != 0 && tail <= inline && runs.flat();
        let stored = length.next_multiple_of(block_size.bytes());
        let next = self.sink.block();
        let unit = self.sink.room(stored)?;
        unit[length..].fill(0);
        if may_be_kept && head == 0 {
            return Ok(Some(unit[..length].into()));
        }
        if is_zero(unit) {
            self.hole(length as u64, runs);
            return Ok(None);
        }
        if may_be_kept {
            let kept = Box::from(&unit[head..length]);
            let key = self.known.key(&unit[..head]);
            let found = self.known.find(&key).filter(|&start| runs.flat_with(start));
            if found.is_some() || runs.flat_with(next) {
                self.place(key, head, found, runs)?;
                return Ok(Some(kept));
            }
        }
        let key = self.known.key(self.sink.room(stored)?);
        let found = self.known.find(&key);
        self.place(key, stored, found, runs)?;
        Ok(None)
    }

    /// Makes the first bytes of the room, whole blocks, the file's next ones, unless the same were found already. `key`, of these bytes, is the last one
    /// that was made.
    fn place(
        &mut self,
        key: super::known::Key,
        length: usize,
        found: Option<u32>,
        runs: &mut Runs,
    ) -> Result<(), Error> {
        let start = match found {
            Some(start) => {
                self.summary.deduplicated += length as u64;
                start
            }
            None => {
                let start = self.sink.block();
                self.sink.commit(length)?;
                self.sink.hashed(self.known.digests());
                self.known.insert(key, start);
                start
            }
        };
        runs.push((length / self.sink.block_size().bytes()) as u64, start);
        Ok(())
    }
}
