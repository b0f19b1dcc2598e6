//! Where bad blocks are, in runs: all of them, however few findings are listed.

use std::collections::BTreeMap;
use std::ops::Range;

use super::report::{Fault, Finding, Place};

/// A report has at most so many runs, about 16 MiB of them: damage that is scattered over more places than that is no
/// longer told apart.
const MOST_RUNS: usize = 1 << 18;

/// Blocks that are not good, one after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadRun {
    /// Data, or which level.
    pub place: Place,
    /// Which blocks, counted in their level or in the data.
    pub blocks: Range<u64>,
    /// Whether nothing vouches for them. If something does, it says that they are bad.
    pub unverifiable: bool,
}

/// Collects runs, in any order.
#[derive(Default)]
pub(super) struct BadRuns {
    /// By place and first block: the block behind the last one, and whether they are unverifiable.
    runs: BTreeMap<(Place, u64), (u64, bool)>,
    /// Blocks of runs that were too many.
    pub(super) left_out: u64,
}

impl BadRuns {
    pub(super) fn add(&mut self, finding: &Finding) {
        let Finding { place, first_block, blocks, .. } = *finding;
        let unverifiable = finding.fault == Fault::Unverifiable;
        let (mut start, mut end) = (first_block, first_block + blocks);
        if let Some(&(next_end, other)) = self.runs.get(&(place, end))
            && other == unverifiable
        {
            self.runs.remove(&(place, end));
            end = next_end;
        }
        if let Some((&(_, before), &(before_end, other))) =
            self.runs.range((place, 0)..(place, start)).next_back()
            && before_end == start
            && other == unverifiable
        {
            start = before;
        } else if self.runs.len() >= MOST_RUNS {
            self.left_out += end - start;
            return;
        }
        self.runs.insert((place, start), (end, unverifiable));
    }

    pub(super) fn into_runs(self) -> Vec<BadRun> {
        let run = |((place, start), (end, unverifiable))| BadRun { place, blocks: start..end, unverifiable };
        self.runs.into_iter().map(run).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(place: Place, block: u64, fault: Fault) -> Finding {
        Finding { place, first_block: block, blocks: 1, bytes: 0..0, fault }
    }

    #[test]
    fn neighbours_become_one_run_in_any_order() {
        for order in [[0, 1, 2], [2, 1, 0], [0, 2, 1], [1, 0, 2]] {
            let mut bad = BadRuns::default();
            for block in order {
                bad.add(&finding(Place::Data, 7 + block, Fault::Spare { offset: 0 }));
            }
            bad.add(&finding(Place::Data, 10, Fault::Unverifiable));
            bad.add(&finding(Place::Hash { level: 0 }, 10, Fault::Unverifiable));
            let runs: Vec<_> =
                bad.into_runs().into_iter().map(|run| (run.place, run.blocks, run.unverifiable)).collect();
            assert_eq!(
                runs,
                [
                    (Place::Hash { level: 0 }, 10..11, true),
                    (Place::Data, 7..10, false),
                    (Place::Data, 10..11, true)
                ]
            );
        }
    }

    #[test]
    fn runs_are_bounded_and_the_rest_is_counted() {
        let mut bad = BadRuns::default();
        let most = MOST_RUNS as u64;
        for run in 0..most + 3 {
            bad.add(&finding(Place::Data, run * 2, Fault::Unverifiable));
        }
        // What joins a run is none of its own.
        bad.add(&finding(Place::Data, 1, Fault::Unverifiable));
        assert_eq!(bad.left_out, 3);
        let runs = bad.into_runs();
        assert_eq!((runs.len() as u64, runs[0].blocks.clone()), (most - 1, 0..3));
    }
}
