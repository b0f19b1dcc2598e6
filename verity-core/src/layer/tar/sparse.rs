//! Sparse files: which bytes of a file are stored.
//!
//! Four ways: in GNU's header and blocks behind it; in PAX records, one for each number (0.0) or one for all (0.1); and in front of the content
//! (1.0). Source: GNU tar's manual, "Storing Sparse Files".

use std::ops::Range;

use super::error::Fault;
use super::header::{BLOCK, number};
use super::pax::{SparseRecords, decimal};

/// The most pieces that a file may have: 16 MiB of memory.
pub(super) const PIECES_MAX: usize = 1 << 20;

/// An entry in GNU's header: offset and length of a piece.
const ENTRY: usize = 24;

/// The stored bytes of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Map {
    /// The file's size with its holes, in bytes.
    pub(super) size: u64,
    /// Which bytes of the file are stored: in order, none empty.
    pub(super) data: Vec<Range<u64>>,
}

impl Map {
    /// Checks that pieces lie in order, within the file, and are as long as what is stored.
    pub(super) fn new(size: u64, numbers: &[u64], stored: u64) -> Result<Self, Fault> {
        let (pairs, rest) = numbers.as_chunks::<2>();
        if !rest.is_empty() {
            return Err(Fault::Sparse("an offset without a length"));
        }
        let (mut data, mut end, mut total) = (Vec::with_capacity(pairs.len()), 0, 0_u64);
        for &[offset, length] in pairs {
            let piece_end = offset.checked_add(length).filter(|&end| end <= size);
            let Some(piece_end) = piece_end else {
                return Err(Fault::Sparse("a piece reaches beyond the end of the file"));
            };
            if offset < end {
                return Err(Fault::Sparse("pieces overlap or are out of order"));
            }
            end = piece_end;
            total = total.saturating_add(length);
            if length > 0 {
                data.push(offset..piece_end);
            }
        }
        if total != stored {
            return Err(Fault::Sparse("the pieces are not as long as what is stored of them"));
        }
        Ok(Self { size, data })
    }

    /// A file without holes.
    pub(super) fn whole(size: u64) -> Self {
        Self { size, data: std::iter::once(0..size).filter(|data| !data.is_empty()).collect() }
    }
}

/// Adds the numbers of entries in GNU's header or in a block behind it.
pub(super) fn add_entries(bytes: &[u8], numbers: &mut Vec<u64>) -> Result<(), Fault> {
    for entry in bytes.chunks_exact(ENTRY) {
        if entry[0] == 0 {
            // Behind the last one.
            return Ok(());
        }
        for half in entry.chunks_exact(ENTRY / 2) {
            let value = number(half).and_then(|value| u64::try_from(value).ok());
            numbers.push(value.ok_or(Fault::Sparse("a number that is none"))?);
        }
        if numbers.len() > 2 * PIECES_MAX {
            return Err(Fault::Sparse("more pieces than any sound file has"));
        }
    }
    Ok(())
}

/// Which of the formats in PAX records it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// The map is in the records.
    Records,
    /// The map is in front of the content.
    InFront,
}

impl SparseRecords {
    pub(super) fn format(&self) -> Result<Format, Fault> {
        match (self.major, self.minor) {
            // Older than the version. Without any of both, it is a sparse file to some readers alone.
            (None, None) if !self.map.is_empty() => Ok(Format::Records),
            (None, _) | (_, None) => Err(Fault::Sparse("there is neither a whole version nor a map")),
            (Some(0), Some(0 | 1)) => Ok(Format::Records),
            (Some(1), Some(0)) => Ok(Format::InFront),
            _ => Err(Fault::Sparse("a version of the format that is not known here")),
        }
    }

    /// The size of the file with its holes.
    pub(super) fn real_size(&self) -> Result<u64, Fault> {
        self.size.ok_or(Fault::Sparse("the file's size is missing"))
    }

    /// The map, where it is in the records.
    pub(super) fn map(&self, stored: u64) -> Result<Map, Fault> {
        if self.count.is_some_and(|count| u64::try_from(self.map.len() / 2) != Ok(count)) {
            return Err(Fault::Sparse("there are not as many pieces as it says"));
        }
        Map::new(self.real_size()?, &self.map, stored)
    }
}

/// Reads the map in front of the content, block by block.
#[derive(Debug, Default)]
pub(super) struct InFront {
    /// How many numbers come; not known before the first line.
    expected: Option<usize>,
    numbers: Vec<u64>,
    /// The beginning of a line that the next block ends.
    line: Vec<u8>,
}

/// More digits than any number has.
const LINE_MAX: usize = 20;

impl InFront {
    /// Takes the next block. True if the map is complete.
    pub(super) fn take(&mut self, block: &[u8; BLOCK]) -> Result<bool, Fault> {
        for &byte in block {
            if byte != b'\n' {
                if self.line.len() == LINE_MAX {
                    return Err(Fault::Sparse("a number that is none"));
                }
                self.line.push(byte);
                continue;
            }
            let value = decimal("GNU.sparse.map", &self.line)?;
            self.line.clear();
            match self.expected {
                None if value > PIECES_MAX as u64 => {
                    return Err(Fault::Sparse("more pieces than any sound file has"));
                }
                None => self.expected = usize::try_from(value).ok().map(|count| 2 * count),
                Some(_) => self.numbers.push(value),
            }
            if self.expected == Some(self.numbers.len()) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    pub(super) fn map(&self, size: u64, stored: u64) -> Result<Map, Fault> {
        Map::new(size, &self.numbers, stored)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_are_checked() {
        let map = Map::new(100, &[0, 10, 50, 0, 90, 10], 20).unwrap();
        assert_eq!(map.data, [0..10, 90..100]);
        assert_eq!(Map::new(1 << 60, &[], 0).unwrap().data, []);
        for (size, numbers, stored) in [
            (100, &[0][..], 0),
            (100, &[0, 101], 101),
            (100, &[u64::MAX, 2], 2),
            (100, &[50, 10, 0, 10], 20),
            (100, &[0, 10, 5, 10], 20),
            (100, &[0, 10], 11),
        ] {
            assert!(Map::new(size, numbers, stored).is_err(), "{numbers:?}");
        }
    }

    #[test]
    fn a_map_in_front_may_have_several_blocks() {
        let mut text = b"200\n".to_vec();
        for number in 0..200 {
            text.extend(format!("{}\n1\n", number * 10).bytes());
        }
        text.resize(text.len().next_multiple_of(BLOCK), 0);
        let mut reader = InFront::default();
        let (blocks, _) = text.as_chunks::<BLOCK>();
        let (last, others) = blocks.split_last().unwrap();
        assert!(others.iter().all(|block| !reader.take(block).unwrap()));
        assert!(reader.take(last).unwrap());
        assert_eq!(reader.map(2000, 200).unwrap().data.len(), 200);
        for text in [&b"x\n"[..], b"9999999\n", b"-1\n", &[b'1'; 30], b"1\n\n"] {
            let mut block = [0; BLOCK];
            block[..text.len()].copy_from_slice(text);
            assert!(InFront::default().take(&block).is_err(), "{text:?}");
        }
    }
}
