//! What a verification found.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use super::bad::{BadRun, BadRuns};
use crate::block::RootHash;

/// Which blocks a finding is about. Hash levels sort from the top down, then the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Hash blocks of a level; 0 is the leaf level.
    Hash {
        /// The level.
        level: usize,
    },
    /// Data blocks.
    Data,
}

impl Ord for Place {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        let key = |place: &Self| match *place {
            Self::Hash { level } => (false, Reverse(level)),
            Self::Data => (true, Reverse(0)),
        };
        key(self).cmp(&key(other))
    }
}

impl PartialOrd for Place {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Data => f.write_str("data"),
            Self::Hash { level } => write!(f, "hash level {level}"),
        }
    }
}

/// What is wrong with blocks.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// The block does not hash to what the verified block above it (or the root hash) says.
    Digest {
        /// The digest that was vouched for.
        expected: RootHash,
        /// The block's own.
        found: RootHash,
    },
    /// The block is what it should be, but bytes that hold no digest are not zero. veritysetup refuses such a
    /// tree; the kernel does not look.
    Spare {
        /// Byte offset in the hash block of the first such byte.
        offset: usize,
    },
    /// The hash block above is bad, so nothing vouches for these.
    Unverifiable,
}

/// Blocks, one after the other, with the same fault. Only unverifiable blocks come more than one at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// Data, or which level.
    pub place: Place,
    /// The first block, counted in its level or in the data.
    pub first_block: u64,
    /// How many blocks.
    pub blocks: u64,
    /// Where they lie on the data device or the hash device.
    pub bytes: Range<u64>,
    /// What is wrong.
    pub fault: Fault,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { place, first_block, blocks, bytes, fault } = self;
        if *blocks == 1 {
            write!(f, "{place} block {first_block} (bytes {} to {}) ", bytes.start, bytes.end - 1)?;
        } else {
            let last = first_block + blocks - 1;
            write!(
                f,
                "{place} blocks {first_block} to {last} (bytes {} to {}) ",
                bytes.start,
                bytes.end - 1
            )?;
        }
        match fault {
            Fault::Digest { expected, found } => {
                write!(f, "is corrupted: its digest is {found}, not {expected}")
            }
            Fault::Spare { offset } => {
                write!(f, "has a byte other than zero at {offset}, where no digest lies")
            }
            Fault::Unverifiable => f.write_str("cannot be verified: the hash block above is corrupted"),
        }
    }
}

/// The result of a verification.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// What is wrong, hash levels from the top down, then data, each in order of position.
    pub findings: Vec<Finding>,
    /// How many findings were counted but not listed, because there were more than
    /// [`max_findings`](super::Options::max_findings).
    pub unlisted: u64,
    /// Data blocks whose digest is wrong.
    pub bad_data_blocks: u64,
    /// Hash blocks whose digest is wrong or whose spare bytes are not zero.
    pub bad_hash_blocks: u64,
    /// Data blocks and hash blocks that nothing vouches for.
    pub unverifiable_blocks: u64,
    /// Where all of these blocks are, listed as findings or not, in the order of the findings.
    pub bad_runs: Vec<BadRun>,
    /// How many of them are in none of the runs, because there were more than 262144 runs.
    pub unplaced_blocks: u64,
}

impl Report {
    /// Whether every block is what the root hash says, and every spare byte is zero.
    #[must_use]
    pub fn is_intact(&self) -> bool {
        self.bad_data_blocks == 0 && self.bad_hash_blocks == 0 && self.unverifiable_blocks == 0
    }
}

/// Collects findings from all threads, in memory that is bounded by the number it lists.
pub(crate) struct Collector<'a> {
    most: usize,
    found: Mutex<Found>,
    witness: &'a dyn Witness,
}

/// Hears of each finding, listed or not.
pub(crate) trait Witness: Sync {
    fn found(&self, finding: &Finding) {
        let _ = finding;
    }

    /// Whether it wants to know what [`suspected`](Self::suspected) tells.
    fn suspects(&self) -> bool {
        false
    }

    /// A block that is unverifiable does not match the block above it, either of which may be the bad one. A hint and no more.
    fn suspected(&self, place: Place, block: u64) {
        let _ = (place, block);
    }
}

impl Witness for () {}

#[derive(Default)]
struct Found {
    report: Report,
    /// Spare bytes sort behind a wrong digest at the same place; both can only be of different blocks.
    listed: BTreeMap<(Place, u64), Finding>,
    bad: BadRuns,
}

impl<'a> Collector<'a> {
    pub(crate) fn new(most: usize) -> Self {
        Self::with_witness(most, &())
    }

    pub(crate) fn with_witness(most: usize, witness: &'a dyn Witness) -> Self {
        Self { most, found: Mutex::default(), witness }
    }

    pub(super) fn witness(&self) -> &'a dyn Witness {
        self.witness
    }

    pub(super) fn add(&self, finding: Finding) {
        self.witness.found(&finding);
        let mut guard = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let Found { report, listed, bad } = &mut *guard;
        bad.add(&finding);
        match (&finding.fault, finding.place) {
            (Fault::Unverifiable, _) => report.unverifiable_blocks += finding.blocks,
            (_, Place::Data) => report.bad_data_blocks += finding.blocks,
            (_, Place::Hash { .. }) => report.bad_hash_blocks += finding.blocks,
        }
        if let Some(finding) = merge(listed, finding) {
            if listed.len() < self.most {
                listed.insert((finding.place, finding.first_block), finding);
            } else {
                report.unlisted += 1;
            }
        }
    }

    pub(crate) fn into_report(self) -> Report {
        let Found { mut report, listed, bad } =
            self.found.into_inner().unwrap_or_else(PoisonError::into_inner);
        report.findings = listed.into_values().collect();
        report.unplaced_blocks = bad.left_out;
        report.bad_runs = bad.into_runs();
        report
    }
}

/// Joins unverifiable blocks to listed neighbours, so that a bad block high up in the tree is one line and not
/// millions. Returns what could not be joined.
fn merge(listed: &mut BTreeMap<(Place, u64), Finding>, mut finding: Finding) -> Option<Finding> {
    if finding.fault != Fault::Unverifiable {
        return Some(finding);
    }
    let place = finding.place;
    let end = finding.first_block + finding.blocks;
    let follows = listed.get(&(place, end)).is_some_and(|next| next.fault == Fault::Unverifiable);
    let next = if follows { listed.remove(&(place, end)) } else { None };
    if let Some(next) = next {
        finding.blocks += next.blocks;
        finding.bytes.end = next.bytes.end;
    }
    let before = listed.range_mut((place, 0)..(place, finding.first_block)).next_back();
    if let Some((_, before)) = before
        && before.fault == Fault::Unverifiable
        && before.first_block + before.blocks == finding.first_block
    {
        before.blocks += finding.blocks;
        before.bytes.end = finding.bytes.end;
        return None;
    }
    Some(finding)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unverifiable(first_block: u64, blocks: u64) -> Finding {
        let bytes = first_block * 4096..(first_block + blocks) * 4096;
        Finding { place: Place::Data, first_block, blocks, bytes, fault: Fault::Unverifiable }
    }

    #[test]
    fn unverifiable_neighbours_become_one_finding_in_any_order() {
        for order in [[0, 1, 2], [2, 1, 0], [0, 2, 1], [1, 0, 2]] {
            let collector = Collector::new(3);
            for part in order {
                collector.add(unverifiable(part * 128, 128));
            }
            let report = collector.into_report();
            assert_eq!(report.findings, [unverifiable(0, 384)]);
            assert_eq!((report.unverifiable_blocks, report.unlisted), (384, 0));
        }
    }

    #[test]
    fn what_is_not_listed_is_counted() {
        let collector = Collector::new(2);
        for block in 0..5 {
            collector.add(Finding {
                fault: Fault::Spare { offset: 1 },
                place: Place::Hash { level: 0 },
                ..unverifiable(block, 1)
            });
        }
        let report = collector.into_report();
        assert_eq!((report.findings.len(), report.unlisted, report.bad_hash_blocks), (2, 3, 5));
        assert!(!report.is_intact());
    }

    #[test]
    fn levels_sort_from_the_top_down_and_data_last() {
        let hash = |level| Place::Hash { level };
        assert!(hash(2) < hash(1) && hash(0) < Place::Data && Place::Data == Place::Data);
    }
}
