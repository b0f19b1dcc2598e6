//! Restoring the bad blocks of many rounds: neighbouring rounds are read together, and threads take such groups in turn.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use super::bad::{self, Key};
use super::map::{Block, Map, Restored};
use super::{Image, Report};
use crate::fec::Decoder;
use crate::progress::Phase;
use crate::tree::{self, Ancestors, Device, Error, Options, Tree};
use crate::workers;

/// Bytes of a row that are read at once.
const ROW_BYTES: usize = 64 * 1024;

/// So many rounds without a bad block are read along, rather than to read twice.
const GAP: u64 = 4;

/// Restores blocks.
pub(super) struct Sweep<'a> {
    pub(super) map: &'a Map<'a>,
    pub(super) tree: &'a Tree<'a>,
    pub(super) decoder: &'a Decoder<'a>,
    pub(super) image: &'a Image<'a>,
    /// Blocks that may be bad.
    pub(super) suspects: &'a [Key],
}

/// What has been restored so far.
pub(super) struct Gains {
    most: usize,
    report: Mutex<Report>,
}

impl Gains {
    /// Lists at most `most` blocks.
    pub(super) fn new(most: usize) -> Self {
        Self { most, report: Mutex::default() }
    }

    fn add(&self, block: &Block, size: u64, wrong_bytes: u64) {
        let mut report = self.report.lock().unwrap_or_else(PoisonError::into_inner);
        match block.device {
            Device::Data => report.data_blocks += 1,
            _ => report.hash_blocks += 1,
        }
        report.bytes += wrong_bytes;
        if report.restored.len() < self.most {
            let bytes = block.offset..block.offset + size;
            report.restored.push(Restored { place: block.place(), block: block.index, bytes });
        }
    }

    pub(super) fn into_report(self, remaining: tree::Report) -> Report {
        let mut report = self.report.into_inner().unwrap_or_else(PoisonError::into_inner);
        report.restored.sort_unstable_by_key(|restored| (restored.place, restored.block));
        Report { remaining, ..report }
    }
}

impl Sweep<'_> {
    /// Restores what it can of `bad`, in the rounds of which nothing else is known to be bad. Returns what it restored.
    pub(super) fn run(&self, bad: &[Key], gains: &Gains, options: &Options<'_>) -> Result<Vec<Key>, Error> {
        let layout = self.image.layout;
        let groups = groups(bad, (ROW_BYTES / layout.block_size().bytes()).max(1) as u64);
        let restored = Mutex::new(Vec::new());
        let size = layout.block_size().as_u64();
        options.observer.begin(Phase::Repair, Some(bad.len() as u64 * size));
        let scratch = || Ancestors::new(self.image.geometry);
        workers::run(groups.len() as u64, options, scratch, |ancestors, job| {
            let group =
                usize::try_from(job).ok().and_then(|job| groups.get(job)).cloned().unwrap_or_default();
            let group = &bad[group];
            let mut round = Round { sweep: self, ancestors, gains, restored: Vec::new() };
            round.restore_group(group)?;
            restored.lock().unwrap_or_else(PoisonError::into_inner).append(&mut round.restored);
            options.observer.advance(group.len() as u64 * size);
            Ok(())
        })?;
        let mut restored = restored.into_inner().unwrap_or_else(PoisonError::into_inner);
        restored.sort_unstable();
        Ok(restored)
    }
}

/// Cuts the blocks into groups of neighbouring rounds, at most `most` with those between them.
fn groups(bad: &[Key], most: u64) -> Vec<Range<usize>> {
    let mut groups: Vec<Range<usize>> = Vec::new();
    for (index, &key) in bad.iter().enumerate() {
        let joins = |group: &&mut Range<usize>| {
            let (first, last) = (bad::round(bad[group.start]), bad::round(bad[group.end - 1]));
            bad::round(key) - last <= GAP && bad::round(key) - first < most || bad::round(key) == last
        };
        match groups.last_mut().filter(joins) {
            Some(group) => group.end = index + 1,
            None => groups.push(index..index + 1),
        }
    }
    groups
}

/// A thread's work on a group of rounds.
struct Round<'a> {
    sweep: &'a Sweep<'a>,
    ancestors: &'a mut Ancestors,
    gains: &'a Gains,
    restored: Vec<Key>,
}

impl Round<'_> {
    fn restore_group(&mut self, group: &[Key]) -> Result<(), Error> {
        let (Some(&first), Some(&last)) = (group.first(), group.last()) else { return Ok(()) };
        let (first, last) = (bad::round(first), bad::round(last));
        let mut rounds: Vec<Rows> = (first..=last).map(|round| self.rows(group, round)).collect();
        let mut erased: Vec<Vec<usize>> = rounds.iter().map(Rows::all).collect();
        let mut blocks = vec![Vec::new(); erased.len()];
        self.sweep.decoder.fill_in(first, &mut erased, &mut blocks)?;
        for ((round, rows), blocks) in (first..).zip(&mut rounds).zip(&mut blocks) {
            self.restore_round(round, rows, blocks)?;
        }
        Ok(())
    }

    fn rows(&self, group: &[Key], round: u64) -> Rows {
        let bad: Vec<usize> = bad::rows_in(group, round).collect();
        let suspects = if bad.is_empty() {
            Vec::new()
        } else {
            bad::rows_in(self.sweep.suspects, round).filter(|row| !bad.contains(row)).collect()
        };
        Rows { bad, suspects }
    }

    /// Restores the bad rows of a round. `blocks` is what they are if only they and the suspects are wrong, or empty.
    fn restore_round(&mut self, round: u64, rows: &mut Rows, blocks: &mut Vec<u8>) -> Result<(), Error> {
        while !rows.bad.is_empty() {
            let before = rows.bad.len();
            self.take(round, rows, blocks)?;
            self.try_without_suspects(round, rows, blocks)?;
            self.try_errors(round, rows, blocks)?;
            if rows.bad.is_empty() || rows.bad.len() == before {
                break;
            }
            // What was restored is missing no more, which may help the rest.
            self.fill_in(round, rows.all(), blocks)?;
        }
        Ok(())
    }

    fn try_without_suspects(
        &mut self,
        round: u64,
        rows: &mut Rows,
        blocks: &mut Vec<u8>,
    ) -> Result<(), Error> {
        if rows.bad.is_empty() || rows.suspects.is_empty() {
            return Ok(());
        }
        self.fill_in(round, rows.bad.clone(), blocks)?;
        self.take(round, rows, blocks)
    }

    /// Looks at each codeword by itself: damage can be elsewhere, or in but a few bytes of each block.
    fn try_errors(&mut self, round: u64, rows: &mut Rows, blocks: &mut Vec<u8>) -> Result<(), Error> {
        let decoder = self.sweep.decoder;
        for with_suspects in [true, false] {
            if rows.bad.is_empty() || (rows.suspects.is_empty() && with_suspects) {
                continue;
            }
            let erased = if with_suspects { rows.all() } else { rows.bad.clone() };
            let wanted = rows.bad.clone();
            let mut result = Ok(());
            decoder.correct(round, &erased, wanted.len(), blocks, |candidates| {
                result = self.take_of(round, &wanted, rows, candidates);
                rows.bad.is_empty() || result.is_err()
            })?;
            result?;
        }
        Ok(())
    }

    fn fill_in(&self, round: u64, erased: Vec<usize>, blocks: &mut Vec<u8>) -> Result<(), Error> {
        let (mut erased, mut filled) = ([erased], [std::mem::take(blocks)]);
        self.sweep.decoder.fill_in(round, &mut erased, &mut filled)?;
        let [filled] = filled;
        *blocks = filled;
        Ok(())
    }

    /// Takes what is right of candidates for all bad rows.
    fn take(&mut self, round: u64, rows: &mut Rows, candidates: &[u8]) -> Result<(), Error> {
        let wanted = rows.bad.clone();
        self.take_of(round, &wanted, rows, candidates)
    }

    /// Writes those of the candidates for `wanted` that are right to their places: these rows are bad no more.
    fn take_of(
        &mut self,
        round: u64,
        wanted: &[usize],
        rows: &mut Rows,
        candidates: &[u8],
    ) -> Result<(), Error> {
        let Sweep { map, tree, image, .. } = *self.sweep;
        let size = image.layout.block_size();
        for (&row, candidate) in wanted.iter().zip(candidates.chunks_exact(size.bytes())) {
            let key = bad::key(round, row as u64);
            let block = map.block(key);
            let vouched_for = self.ancestors.expected(tree, block.level, block.index)?;
            if !rows.bad.contains(&row) || vouched_for != Some(tree.digest(candidate)) {
                continue;
            }
            let device = if block.device == Device::Data { image.data } else { image.hash };
            let mut before = vec![0; size.bytes()];
            let wrong = match device.read_exact_at(&mut before, block.offset) {
                Ok(()) => before.iter().zip(candidate).filter(|(before, after)| before != after).count(),
                Err(_) => size.bytes(),
            };
            device.write_all_at(candidate, block.offset).map_err(|source| Error::Write {
                device: block.device,
                offset: block.offset,
                length: candidate.len(),
                source,
            })?;
            rows.bad.retain(|&other| other != row);
            self.restored.push(key);
            self.gains.add(&block, size.as_u64(), wrong as u64);
        }
        Ok(())
    }
}

/// Rows of a round: those that are bad, and those that may be.
struct Rows {
    bad: Vec<usize>,
    suspects: Vec<usize>,
}

impl Rows {
    fn all(&self) -> Vec<usize> {
        [&self.bad[..], &self.suspects].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_neighbours_and_no_round_is_cut() {
        let keys: Vec<Key> = [(0, 1), (0, 2), (3, 0), (7, 0), (8, 5), (30, 0), (30, 9), (31, 0)]
            .map(|(a, b)| bad::key(a, b))
            .into();
        assert_eq!(groups(&keys, 16), [0..5, 5..8]);
        assert_eq!(groups(&keys, 8), [0..4, 4..5, 5..8]);
        assert_eq!(groups(&keys, 1), [0..2, 2..3, 3..4, 4..5, 5..7, 7..8]);
        assert!(groups(&[], 4).is_empty());
    }
}
