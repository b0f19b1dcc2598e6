//! Which blocks a file's content lies in.

use crate::erofs::format::NULL_ADDRESS;

/// Chunks are no larger than this power of two of bytes: some readers count them in 32 bits.
const MOST_CHUNK_BITS: u32 = 30;

/// Some of a file's blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    /// How many blocks.
    pub(super) blocks: u64,
    /// The first one, or [`NULL_ADDRESS`] if it is a hole.
    pub(super) start: u32,
}

/// All of a file's blocks, in order.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Runs(Vec<Run>);

impl Runs {
    /// Appends blocks.
    pub(super) fn push(&mut self, blocks: u64, start: u32) {
        match self.0.last_mut() {
            Some(last) if last.start == NULL_ADDRESS && start == NULL_ADDRESS => last.blocks += blocks,
            Some(last) if last.start != NULL_ADDRESS && last.next() == u64::from(start) => {
                last.blocks += blocks;
            }
            _ => self.0.push(Run { blocks, start }),
        }
    }

    /// Whether all blocks are consecutive, and none is a hole.
    pub(super) fn flat(&self) -> bool {
        match self.0.as_slice() {
            [] => true,
            [run] => run.start != NULL_ADDRESS,
            _ => false,
        }
    }

    /// Whether they still are with blocks that begin at `start`.
    pub(super) fn flat_with(&self, start: u32) -> bool {
        self.flat() && self.0.first().is_none_or(|run| run.next() == u64::from(start))
    }

    /// The first block; [`NULL_ADDRESS`] if there is none.
    pub(super) fn start(&self) -> u32 {
        self.0.first().map_or(NULL_ADDRESS, |run| run.start)
    }

    /// As chunks, the largest possible.
    pub(super) fn chunks(self, block_bits: u32) -> Chunks {
        let total: u64 = self.0.iter().map(|run| run.blocks).sum();
        let whole = total.next_power_of_two().trailing_zeros();
        let mut bits = whole.min(MOST_CHUNK_BITS.saturating_sub(block_bits));
        let mut position = 0;
        for run in &self.0 {
            // A chunk begins where a run begins; of the first one's zero all bits are.
            bits = bits.min(u64::trailing_zeros(position));
            position += run.blocks;
        }
        Chunks { bits, runs: self.0.into() }
    }
}

impl Run {
    /// The block behind the last one.
    fn next(self) -> u64 {
        u64::from(self.start) + self.blocks
    }
}

/// A file's blocks as chunks of one size, which have consecutive blocks each.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Chunks {
    /// The number of blocks in a chunk, as a power of two.
    pub(super) bits: u32,
    runs: Box<[Run]>,
}

impl Chunks {
    /// How many bytes they take in memory.
    pub(super) fn memory(&self) -> u64 {
        size_of_val(&*self.runs) as u64
    }

    /// How many there are.
    pub(super) fn count(&self) -> u64 {
        self.runs.iter().map(|run| run.blocks.div_ceil(1 << self.bits)).sum()
    }

    /// The first block of each.
    pub(super) fn starts(&self) -> impl Iterator<Item = u32> {
        let step = 1_u64 << self.bits;
        self.runs.iter().flat_map(move |run| {
            (0..run.blocks.div_ceil(step)).map(move |chunk| match run.start {
                NULL_ADDRESS => NULL_ADDRESS,
                // No run goes beyond the blocks that have numbers.
                start => u32::try_from(u64::from(start) + chunk * step).unwrap_or(NULL_ADDRESS),
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(list: &[(u64, u32)]) -> Runs {
        let mut runs = Runs::default();
        list.iter().for_each(|&(blocks, start)| runs.push(blocks, start));
        runs
    }

    #[test]
    fn neighbours_are_one_run() {
        let consecutive = runs(&[(16, 5), (16, 21), (3, 37)]);
        assert_eq!(consecutive.0, [Run { blocks: 35, start: 5 }]);
        assert!(consecutive.flat() && consecutive.flat_with(40) && !consecutive.flat_with(41));
        assert!(!runs(&[(16, NULL_ADDRESS)]).flat());
        assert!(!runs(&[(16, 5), (16, NULL_ADDRESS)]).flat());
        assert!(!runs(&[(16, 5), (16, 5)]).flat());
        assert_eq!(runs(&[(16, NULL_ADDRESS), (16, NULL_ADDRESS)]).0.len(), 1);
    }

    #[test]
    fn chunks_are_as_large_as_runs_allow() {
        let hole = NULL_ADDRESS;
        for (list, bits, starts) in [
            (&[(5, hole)][..], 3, &[hole][..]),
            (&[(16, 1), (16, hole)], 4, &[1, hole]),
            (&[(32, 1), (16, hole), (16, 33)], 4, &[1, 17, hole, 33]),
            (&[(64, hole), (3, 7)], 6, &[hole, 7]),
            (&[(1 << 20, hole)], 18, &[hole; 4]),
        ] {
            let chunks = runs(list).chunks(12);
            assert_eq!(chunks.bits, bits, "{list:?}");
            assert_eq!(chunks.starts().collect::<Vec<_>>(), starts, "{list:?}");
            assert_eq!(chunks.count(), starts.len() as u64);
        }
    }

    /// More than 2^32 blocks of a hole are counted, not stored one by one.
    #[test]
    fn a_file_may_be_larger_than_any_image() {
        let chunks = runs(&[(1 << 51, NULL_ADDRESS)]).chunks(12);
        assert_eq!(chunks.count(), 1 << 33);
    }
}
