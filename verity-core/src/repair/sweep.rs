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
        let rows = |round| -> Vec<usize> {
            let of_round = group.iter().filter(|&&key| bad::round(key) == round);
            of_round.filter_map(|&key| usize::try_from(bad::row(key)).ok()).collect()
        };
        let open: Vec<Vec<usize>> = (first..=last).map(rows).collect();
        let mut erased = open.clone();
        let mut blocks = vec![Vec::new(); open.len()];
        self.sweep.decoder.fill_in(first, &mut erased, &mut blocks)?;
        for ((round, open), blocks) in (first..).zip(open).zip(blocks) {
            self.restore_round(round, open, blocks)?;
        }
        Ok(())
    }

    /// Restores the rows `open` of a round. `blocks` is what they are if nothing else is wrong, or empty.
    fn restore_round(&mut self, round: u64, mut open: Vec<usize>, mut blocks: Vec<u8>) -> Result<(), Error> {
        let decoder = self.sweep.decoder;
        loop {
            let rows = open.clone();
            self.take(round, &rows, &blocks, &mut open)?;
            if open.is_empty() {
                return Ok(());
            }
            let rows = open.clone();
            let mut result = Ok(());
            decoder.correct(round, &rows, rows.len(), &mut blocks, |candidates| {
                result = self.take(round, &rows, candidates, &mut open);
                open.is_empty() || result.is_err()
            })?;
            result?;
            if open.is_empty() || open.len() == rows.len() {
                return Ok(());
            }
            // What was restored is missing no more, which may help the rest.
            let (mut erased, mut again) = ([open.clone()], [std::mem::take(&mut blocks)]);
            decoder.fill_in(round, &mut erased, &mut again)?;
            let [filled] = again;
            blocks = filled;
        }
    }

    /// Writes those of the candidates that are right to their places, and removes them from `open`.
    fn take(
        &mut self,
        round: u64,
        rows: &[usize],
        candidates: &[u8],
        open: &mut Vec<usize>,
    ) -> Result<(), Error> {
        let Sweep { map, tree, image, .. } = *self.sweep;
        let size = image.layout.block_size();
        for (&row, candidate) in rows.iter().zip(candidates.chunks_exact(size.bytes())) {
            let key = bad::key(round, row as u64);
            let block = map.block(key);
            let vouched_for = self.ancestors.expected(tree, block.level, block.index)?;
            if !open.contains(&row) || vouched_for != Some(tree.digest(candidate)) {
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
            open.retain(|&other| other != row);
            self.restored.push(key);
            self.gains.add(&block, size.as_u64(), wrong as u64);
        }
        Ok(())
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
