//! Sets of blocks: runs in order, none adjoining or overlapping the next.

use std::ops::Range;

/// A set of blocks of one level, or of the data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Runs(Vec<Range<u64>>);

impl Runs {
    /// All of `count` blocks.
    pub(crate) fn all(count: u64) -> Self {
        Self::from_ranges(std::iter::once(0..count), count)
    }

    /// The blocks of `ranges` that are below `count`; ranges may be empty, overlap, and come in any order.
    pub(crate) fn from_ranges(ranges: impl Iterator<Item = Range<u64>>, count: u64) -> Self {
        let clipped = ranges.map(|range| range.start..range.end.min(count));
        let mut ranges: Vec<_> = clipped.filter(|range| range.start < range.end).collect();
        ranges.sort_unstable_by_key(|range| range.start);
        ranges.dedup_by(|next, before| {
            let joined = next.start <= before.end;
            if joined {
                before.end = before.end.max(next.end);
            }
            joined
        });
        Self(ranges)
    }

    /// The blocks that hold the digests of these, `per_block` in each.
    pub(super) fn parents(&self, per_block: u64) -> impl Iterator<Item = Range<u64>> {
        self.0.iter().map(move |run| run.start / per_block..run.end.div_ceil(per_block))
    }

    /// Those of them that are in `blocks`.
    pub(super) fn within(&self, blocks: Range<u64>) -> impl Iterator<Item = Range<u64>> {
        let first = self.0.partition_point(|run| run.end <= blocks.start);
        let found = self.0[first..].iter().take_while(move |run| run.start < blocks.end);
        found.map(move |run| run.start.max(blocks.start)..run.end.min(blocks.end))
    }

    /// The runs.
    pub(crate) fn into_ranges(self) -> impl Iterator<Item = Range<u64>> {
        self.0.into_iter()
    }

    /// Whether a block is among them.
    pub(crate) fn contains(&self, block: u64) -> bool {
        let next = self.0.partition_point(|run| run.end <= block);
        self.0.get(next).is_some_and(|run| run.start <= block)
    }

    /// How many blocks there are.
    pub(super) fn len(&self) -> u64 {
        self.0.iter().map(|run| run.end - run.start).sum()
    }

    /// Splits the blocks into jobs of at most `per_job`.
    pub(super) fn jobs(&self, per_job: u64) -> Jobs<'_> {
        Jobs::new(&self.0, per_job)
    }
}

/// Numbered pieces of a set of blocks; later jobs have later blocks.
pub(super) struct Jobs<'a> {
    runs: &'a [Range<u64>],
    /// For each run, the number of its first job.
    first_jobs: Vec<u64>,
    per_job: u64,
    len: u64,
}

impl<'a> Jobs<'a> {
    /// Splits runs, in order and none overlapping the next, into jobs of at most `per_job`.
    pub(super) fn new(runs: &'a [Range<u64>], per_job: u64) -> Self {
        let mut len = 0;
        let mut first_jobs = Vec::with_capacity(runs.len());
        for run in runs {
            first_jobs.push(len);
            len += (run.end - run.start).div_ceil(per_job);
        }
        Self { runs, first_jobs, per_job, len }
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// The blocks of one job.
    pub(super) fn range(&self, job: u64) -> Range<u64> {
        let run = self.first_jobs.partition_point(|&first| first <= job) - 1;
        let first = self.runs[run].start + (job - self.first_jobs[run]) * self.per_job;
        first..(first + self.per_job).min(self.runs[run].end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_clipped_sorted_and_joined() {
        let ranges = [7..9, 0..2, 1..4, 4..5, 20..30, 12..12, 15..99];
        let runs = Runs::from_ranges(ranges.into_iter(), 25);
        assert_eq!(runs, Runs(vec![0..5, 7..9, 15..25]));
        assert_eq!(runs.len(), 17);
        assert!((0..30).filter(|&block| runs.contains(block)).eq(runs.0.iter().cloned().flatten()));
        assert_eq!(Runs::from_ranges(runs.parents(4), 7), Runs::all(7));
        assert!(runs.within(4..16).eq([4..5, 7..9, 15..16]));
        assert_eq!(runs.within(9..15).count(), 0);
    }

    #[test]
    fn jobs_cover_every_block_once_and_in_order() {
        let runs = Runs(vec![0..5, 7..9, 15..25]);
        for per_job in 1..12 {
            let jobs = runs.jobs(per_job);
            let covered: Vec<u64> = (0..jobs.len()).flat_map(|job| jobs.range(job)).collect();
            assert_eq!(covered, runs.0.iter().cloned().flatten().collect::<Vec<_>>());
            assert!((0..jobs.len()).all(|job| jobs.range(job).count() as u64 <= per_job));
        }
    }
}
