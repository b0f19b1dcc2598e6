//! Restoring blocks from the others and the parity.
//!
//! The blocks of a round, one a row, hold whole codewords: byte `c` of each is a codeword of its own. Where a row is missing it is
//! missing from all of them, so one set of factors ([`weights`]) restores the whole block, as a sum of products over the other rows: as
//! fast as making parity. Only where damage hides in places that nobody knows of is each codeword looked at by itself.
//!
//! What comes out is a guess until it was checked against something else than the parity, which anyone can forge.

use std::fmt;

use super::codeword::{Corrector, weights};
use super::field::power;
use super::layout::{CODEWORD, Layout};
use super::message::{Rows, Segment};
use super::multiplier::{Kernel, Multiplier, kernel};
use crate::io::{ReadAt, usize_of};
use crate::tree::{Device, Error};

/// Restores blocks of the message (data, then tree) from the others and the parity.
///
/// ```
/// use verity_core::fec::{self, Decoder, Layout, Roots};
/// use verity_core::geometry::{Geometry, HashArea};
/// use verity_core::io::MemoryDevice;
/// use verity_core::{params::Params, tree::Options};
///
/// let mut data: Vec<u8> = (0..20 * 4096u32).map(|at| at.to_le_bytes()[1]).collect();
/// let params = Params::default();
/// let geometry = Geometry::new(&params, 20, HashArea::bare(0))?;
/// let layout = Layout::new(&params, &geometry, geometry.hash_blocks(), Roots::default(), 0)?;
/// let (hash, parity) = (MemoryDevice::default(), MemoryDevice::default());
/// fec::build(&data, &hash, &parity, &params, &geometry, &layout, &Options::default())?;
///
/// let lost = data[7 * 4096..][..4096].to_vec();
/// data[7 * 4096..][..4096].fill(0xee);
/// let mut block = vec![0; 4096];
/// // Where there is a tree, `accept` compares the candidate's digest.
/// let decoder = Decoder::new(&data, &hash, &parity, &layout);
/// assert!(decoder.restore(7, &|_| false, &|candidate| candidate == lost, &mut block)?);
/// assert_eq!(block, lost);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Decoder<'a> {
    segments: [Segment<'a>; 2],
    parity: &'a dyn ReadAt,
    layout: &'a Layout,
    kernel: &'static Kernel,
}

/// The codewords of one round, as far as correcting errors needs them.
struct Received {
    /// One syndrome after the other, each for all codewords.
    syndromes: Vec<u8>,
    /// The rows that are wanted, as they were read.
    wanted: Vec<u8>,
    /// Rows that could not be read, and count as zeros.
    unreadable: Vec<usize>,
}

impl<'a> Decoder<'a> {
    /// A decoder over devices that are laid out so.
    #[must_use]
    pub fn new(
        data: &'a dyn ReadAt,
        hash: &'a dyn ReadAt,
        parity: &'a dyn ReadAt,
        layout: &'a Layout,
    ) -> Self {
        let segments = [Segment::data(data, layout), Segment::hash(hash, layout)];
        Self { segments, parity, layout, kernel: kernel() }
    }

    /// Restores message block `block` into `out`. Blocks are counted through the message: data blocks first, then hash blocks from
    /// [`Layout::hash_start`] on.
    ///
    /// `known_bad` tells which blocks of the message are damaged; `block` itself always counts as such, and so do blocks that cannot be
    /// read. `accept` decides whether a candidate is right: it hashes to what vouches for it. Candidates are, in this order: what follows
    /// if the known places are all that is damaged, at most [`roots`](Layout::roots) of them in a codeword; if there are errors
    /// elsewhere, two of which count as much as three known ones less one; and if the known places are no more damaged
    /// than others, as where a block has but one wrong byte.
    ///
    /// True if `out` was accepted; else its content is of no meaning. A block that the parity does not cover is never restored.
    ///
    /// Memory: for each parity byte of a codeword a block, and three more.
    ///
    /// # Errors
    /// [`Error::Read`] if the parity cannot be read.
    ///
    /// # Panics
    /// If `out` is not one block long.
    pub fn restore(
        &self,
        block: u64,
        known_bad: &dyn Fn(u64) -> bool,
        accept: &dyn Fn(&[u8]) -> bool,
        out: &mut [u8],
    ) -> Result<bool, Error> {
        assert_eq!(out.len(), self.layout.block_size().bytes(), "`out` is one block");
        if block >= self.layout.covered_blocks() {
            return Ok(false);
        }
        let rounds = self.layout.rounds();
        let (round, row) = (block % rounds, usize_of(block / rounds));
        let others = (0..self.covered_rows(round)).filter(|&other| other != row);
        let bad = others.filter(|&other| known_bad(round + other as u64 * rounds));
        let mut erased = [[row].into_iter().chain(bad).collect()];
        let mut candidates = [Vec::new()];
        self.fill_in(round, &mut erased, &mut candidates)?;
        let ([erased], [blocks]) = (&erased, &mut candidates);
        let mut accepted = !blocks.is_empty() && accept(&blocks[..out.len()]);
        if !accepted {
            self.correct(round, erased, 1, blocks, |candidates| {
                accepted = accept(candidates);
                accepted
            })?;
        }
        if accepted {
            out.copy_from_slice(&blocks[..out.len()]);
        }
        Ok(accepted)
    }

    /// Restores the `erased` rows of neighbouring rounds, of which `first` is the first, taking all others for right. The rows of round
    /// `first + n` are in `erased[n]`, where those that cannot be read are added; its blocks go to `restored[n]`, one after the other. None if
    /// there are more than the parity can restore.
    pub(crate) fn fill_in(
        &self,
        first: u64,
        erased: &mut [Vec<usize>],
        restored: &mut [Vec<u8>],
    ) -> Result<(), Error> {
        let (roots, message) = (self.layout.roots().get(), self.layout.roots().message());
        let size = self.layout.block_size().bytes();
        let mut buffer = vec![0; erased.len() * size];
        loop {
            let prepare = |(erased, restored): (&Vec<usize>, &mut Vec<u8>)| {
                restored.clear();
                if erased.is_empty() || erased.len() > roots {
                    return Vec::new();
                }
                restored.resize(erased.len() * size, 0);
                // As many parity bytes as there are rows to restore; the others need not be looked at.
                let missing: Vec<usize> =
                    erased.iter().copied().chain(message + erased.len()..CODEWORD).collect();
                weights(&missing, erased.len())
            };
            let weights: Vec<_> = erased.iter().zip(restored.iter_mut()).map(prepare).collect();
            let mut unreadable = false;
            for row in 0..message {
                let lost = self.read_row(first, row, &mut buffer);
                for (index, block) in buffer.chunks(size).enumerate() {
                    if erased[index].contains(&row) {
                        continue;
                    }
                    if lost.contains(&index) {
                        erased[index].push(row);
                        unreadable = true;
                    }
                    self.add(block, row, &weights[index], &mut restored[index]);
                }
            }
            // Once more, without counting on what is not there.
            if !unreadable {
                let used: Vec<usize> = weights.iter().map(Vec::len).collect();
                return self.each_parity_row(first, &used, |row, index, block| {
                    self.add(block, row, &weights[index], &mut restored[index]);
                });
            }
        }
    }

    /// Adds a row's share to the blocks of a round.
    fn add(&self, block: &[u8], row: usize, weights: &[[u8; CODEWORD]], sums: &mut [u8]) {
        for (sum, weights) in sums.chunks_mut(block.len()).zip(weights) {
            if weights[row] != 0 {
                self.kernel.combine(sum, Multiplier::of(1), &[(block, Multiplier::of(weights[row]))]);
            }
        }
    }

    /// Restores the first `wanted` of the `erased` rows of one round, where damage in other places is to be expected. Puts
    /// candidates for all of them into `blocks`, until one satisfies.
    pub(crate) fn correct(
        &self,
        round: u64,
        erased: &[usize],
        wanted: usize,
        blocks: &mut Vec<u8>,
        mut satisfies: impl FnMut(&[u8]) -> bool,
    ) -> Result<(), Error> {
        let wanted = &erased[..wanted];
        let Received { syndromes, wanted: received, unreadable } = self.receive(round, wanted)?;
        let unreadable_too = unreadable.iter().filter(|row| !erased.contains(row));
        let all_known: Vec<usize> = erased.iter().chain(unreadable_too).copied().collect();
        // Where not even this has an answer, the byte may be right as it is.
        blocks.clone_from(&received);
        for erased in [&all_known, &unreadable] {
            if erased.len() > self.layout.roots().get() {
                continue;
            }
            self.correct_columns(round, &syndromes, erased, wanted, &received, blocks);
            if satisfies(blocks) {
                break;
            }
        }
        Ok(())
    }

    /// Corrects each codeword by itself, and leaves `blocks` as they are where it cannot.
    fn correct_columns(
        &self,
        round: u64,
        syndromes: &[u8],
        erased: &[usize],
        wanted: &[usize],
        received: &[u8],
        blocks: &mut [u8],
    ) {
        let size = self.layout.block_size().bytes();
        let covered = self.covered_rows(round);
        let padding = covered..self.layout.roots().message();
        let corrector = Corrector::new(self.layout.roots(), erased);
        let mut column = vec![0; self.layout.roots().get()];
        for at in 0..size {
            column.iter_mut().zip(syndromes.chunks(size)).for_each(|(value, row)| *value = row[at]);
            let Some(correction) = corrector.correct(&column) else { continue };
            if correction.iter().any(|(row, _)| padding.contains(&row)) {
                continue;
            }
            for (index, &row) in wanted.iter().enumerate() {
                blocks[index * size + at] = received[index * size + at] ^ correction.of(row);
            }
        }
    }

    /// Reads all rows of a round, and sums up the syndromes.
    fn receive(&self, round: u64, wanted: &[usize]) -> Result<Received, Error> {
        let size = self.layout.block_size().bytes();
        let roots = self.layout.roots().get();
        let mut syndromes = vec![0; roots * size];
        let mut received = vec![0; wanted.len() * size];
        let mut unreadable = Vec::new();
        let mut fold = |block: &[u8]| {
            for (point, sum) in syndromes.chunks_mut(size).enumerate() {
                self.kernel.combine(sum, Multiplier::of(power(point)), &[(block, Multiplier::of(1))]);
            }
        };
        let mut buffer = vec![0; size];
        for row in 0..self.layout.roots().message() {
            if !self.read_row(round, row, &mut buffer).is_empty() {
                unreadable.push(row);
            }
            if let Some(index) = wanted.iter().position(|&wanted| wanted == row) {
                received[index * size..][..size].copy_from_slice(&buffer);
            }
            fold(&buffer);
        }
        self.each_parity_row(round, &[roots], |_, _, block| fold(block))?;
        Ok(Received { syndromes, wanted: received, unreadable })
    }

    /// How many rows of a round are blocks of the message; behind them there are zeros.
    fn covered_rows(&self, round: u64) -> usize {
        usize_of((self.layout.covered_blocks() - round).div_ceil(self.layout.rounds()))
    }

    /// Reads `row` of as many rounds as `buffer` has blocks, and tells which of those could not be read. They are zeros.
    fn read_row(&self, first: u64, row: usize, buffer: &mut [u8]) -> Vec<usize> {
        let size = self.layout.block_size().bytes();
        let start = row as u64 * self.layout.codewords() + first * size as u64;
        let read = |start: u64, part: &mut [u8]| {
            part.fill(0);
            Rows::new(&self.segments).read(&(start..start + part.len() as u64), part, |_, _| Ok(()))
        };
        if read(start, buffer).is_ok() {
            return Vec::new();
        }
        let mut lost = Vec::new();
        for (index, block) in buffer.chunks_mut(size).enumerate() {
            if read(start + (index * size) as u64, block).is_err() {
                block.fill(0);
                lost.push(index);
            }
        }
        lost
    }

    /// Reads the parity of neighbouring rounds, and visits as many rows of each as `used` says, with the row and the round's number
    /// among them.
    fn each_parity_row(
        &self,
        first: u64,
        used: &[usize],
        mut visit: impl FnMut(usize, usize, &[u8]),
    ) -> Result<(), Error> {
        let size = self.layout.block_size().bytes();
        let roots = self.layout.roots();
        let mut parity = vec![0; roots.get() * size];
        let mut row = vec![0; size];
        for (index, &used) in used.iter().enumerate().filter(|&(_, &used)| used > 0) {
            let offset = self.layout.offset() + (first + index as u64) * parity.len() as u64;
            self.parity.read_exact_at(&mut parity, offset).map_err(|source| Error::Read {
                device: Device::Parity,
                offset,
                length: parity.len(),
                source,
            })?;
            for number in 0..used {
                let codewords = parity.chunks_exact(roots.get());
                row.iter_mut().zip(codewords).for_each(|(target, parity)| *target = parity[number]);
                visit(roots.message() + number, index, &row);
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Decoder<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decoder").field("layout", self.layout).finish_non_exhaustive()
    }
}
