//! Making parity.
//!
//! The code is linear: parity over data and tree is that over the data, with the tree counted as zeros, plus that over the tree,
//! with the data counted as zeros. So the data needs to be read only once, by whoever hashes it into the tree, and no remainders
//! are kept meanwhile but in the parity device itself.
//!
//! A thread takes some columns of all rows at a time. For each parity byte it keeps a sum, to which every row is added by Horner's rule:
//! the values of the codeword's polynomial at the powers of the generator. From these the parity follows by a matrix.

use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use super::field::{self, power};
use super::layout::Layout;
use super::leaves::{Leaves, Visitor};
use super::message::{Rows, Segment};
use super::multiplier::{Kernel, Multiplier, kernel};
use crate::aligned::Aligned;
use crate::block::RootHash;
use crate::digest::BlockHasher;
use crate::geometry::Geometry;
use crate::io::{ReadAt, Storage, WriteAt, usize_of};
use crate::params::Params;
use crate::progress::Phase;
use crate::tree::{Builder, Device, Error, LevelHasher, Options};
use crate::workers;

/// Columns that a thread takes at a time: enough blocks of a row for all lanes of the hashing kernels, few enough for the sums to stay in the core's
/// cache. With half of it hashing takes twice as long, with twice of it the sums do.
const COLUMNS: usize = 64 * 1024;

/// The most strips in a job: leaves of neighbouring strips are written together.
const STRIPS: u64 = 4;

/// Each thread gets so many jobs at least, where there is enough work: at the end of it few wait for one.
const JOBS_OF_A_THREAD: u64 = 8;

/// How many rows are read before they are added to the sums.
const ROWS: usize = Kernel::TERMS;

/// Columns that are added to every sum while they are in the innermost cache.
const TILE: usize = 4 * 1024;

/// Makes the parity over data and tree, and writes it to its place on `parity`. Nothing is synced.
///
/// Memory: for each thread `2 * roots + 4` pieces of 64 KiB, or of a block if that is larger, whatever the image's size.
///
/// # Errors
/// [`Error::Read`] if a device cannot be read or ends too early, [`Error::Write`], [`Error::Cancelled`].
pub fn encode(
    data: &dyn ReadAt,
    hash: &dyn ReadAt,
    parity: &dyn Storage,
    layout: &Layout,
    options: &Options<'_>,
) -> Result<(), Error> {
    let segments = [Segment::data(data, layout), Segment::hash(hash, layout)];
    options.observer.begin(Phase::Parity, Some(layout.data_bytes() + layout.hash_bytes()));
    Encoder::new(parity, layout, options).run(&segments, Onto::Nothing, || ())
}

/// Makes the parity again, and counts the blocks of `parity` that differ from it. Blocks that cannot be read, and missing ones, differ.
///
/// This says whether the parity is any good only where data and tree are known to be.
///
/// Memory: as [`encode`].
///
/// # Errors
/// As [`encode`].
pub fn count_differing(
    data: &dyn ReadAt,
    hash: &dyn ReadAt,
    parity: &dyn ReadAt,
    layout: &Layout,
    options: &Options<'_>,
) -> Result<u64, Error> {
    let segments = [Segment::data(data, layout), Segment::hash(hash, layout)];
    options.observer.begin(Phase::Parity, Some(layout.data_bytes() + layout.hash_bytes()));
    let comparison = Comparison { parity, layout, differing: AtomicU64::new(0) };
    Encoder::new(&comparison, layout, options).run(&segments, Onto::Nothing, || ())?;
    Ok(comparison.differing.into_inner())
}

/// Builds the tree over `data` into `hash` and the parity over both into `parity`, in one read of the data.
///
/// As [`tree::build`](crate::tree::build()), this writes no superblock. Where the layout covers more of the hash device than the tree, that must be there already.
///
/// Memory: as [`encode`], and for each thread the digests of as many data as four pieces of each row are: half a MiB with SHA-256.
///
/// # Errors
/// As [`encode`]; [`Error::Geometry`] if the layout is not one for the parameters and the geometry.
pub fn build(
    data: &dyn ReadAt,
    hash: &dyn Storage,
    parity: &dyn Storage,
    params: &Params,
    geometry: &Geometry,
    layout: &Layout,
    options: &Options<'_>,
) -> Result<RootHash, Error> {
    layout.check_geometry(params, geometry)?;
    let hasher = BlockHasher::new(params);
    let hasher_of_leaves = LevelHasher::new(&hasher, 0, params);
    let builder = Builder { data, hash, params, geometry, hasher: &hasher, options };
    let block_size = layout.block_size().as_u64();
    options.observer.begin(Phase::Build, Some(layout.data_bytes() + layout.hash_bytes()));

    // Rows and jobs are whole blocks, and so is the data: each piece is.
    let encoder = Encoder::new(parity, layout, options);
    let over_data = [Segment::data(data, layout)];
    encoder.run(&over_data, Onto::Nothing, || Leaves::new(&builder, &hasher_of_leaves, block_size))?;

    let root = builder.build_upper_levels()?;
    let over_tree = [Segment::hash(hash, layout)];
    encoder.run(&over_tree, Onto::Parity, || ())?;
    Ok(root)
}

/// What is on the parity device already.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Onto {
    /// Nothing that counts.
    Nothing,
    /// Parity over other segments, to which that over these is added.
    Parity,
}

struct Encoder<'a> {
    parity: &'a dyn Storage,
    layout: &'a Layout,
    options: &'a Options<'a>,
    kernel: &'static Kernel,
    /// How many columns are a strip: what is read of a row at a time.
    columns: usize,
}

/// A thread's own.
#[derive(Default)]
struct Scratch {
    /// Rows that are read and not yet added to the sums, one after the other.
    rows: Aligned,
    /// One sum after the other.
    sums: Aligned,
    parity: Vec<u8>,
}

impl<'a> Encoder<'a> {
    fn new(parity: &'a dyn Storage, layout: &'a Layout, options: &'a Options<'a>) -> Self {
        // Whole blocks, whatever their size.
        let columns = COLUMNS.max(layout.block_size().bytes());
        Self { parity, layout, options, kernel: kernel(), columns }
    }

    /// Adds `segments` to the parity. Each thread has a visitor of its own, which sees what it reads of the message.
    fn run<V: Visitor>(
        &self,
        segments: &[Segment<'_>],
        onto: Onto,
        visitor: impl Fn() -> V + Sync,
    ) -> Result<(), Error> {
        let width = self.columns as u64;
        let strips = self.layout.codewords().div_ceil(width);
        // Strips that lie side by side make a job, but for what would leave threads without work.
        let jobs = JOBS_OF_A_THREAD.saturating_mul(self.options.threads.get() as u64);
        let per_job = (strips / jobs).clamp(1, STRIPS);
        let state = || (Scratch::default(), visitor());
        workers::run(strips.div_ceil(per_job), self.options, state, |(scratch, visitor), job| {
            for strip in job * per_job..((job + 1) * per_job).min(strips) {
                let columns = strip * width..((strip + 1) * width).min(self.layout.codewords());
                self.add_columns(segments, &columns, scratch, visitor)?;
                self.write(&columns, onto, scratch)?;
            }
            visitor.end()
        })?;
        segments.iter().try_for_each(Segment::check_end)
    }

    /// Sums up the columns over all rows, and turns the sums into parity.
    fn add_columns(
        &self,
        segments: &[Segment<'_>],
        columns: &Range<u64>,
        scratch: &mut Scratch,
        visitor: &mut impl Visitor,
    ) -> Result<(), Error> {
        let roots = self.layout.roots();
        let width = usize_of(columns.end - columns.start);
        let Scratch { rows, sums, parity } = scratch;
        let rows = rows.bytes(width * ROWS);
        let sums = sums.bytes(width * roots.get());
        sums.fill(0);
        let (mut reader, mut steps) = (Rows::new(segments), Steps::default());
        for index in 0..roots.message() {
            let start = index as u64 * self.layout.codewords() + columns.start;
            let row = &mut rows[steps.rows * width..][..width];
            let any = reader.read(&(start..start + width as u64), row, |start, part| {
                visitor.piece(start, part)?;
                self.options.observer.advance(part.len() as u64);
                Ok(())
            })?;
            steps.take(any);
            if steps.rows == ROWS {
                self.fold(sums, rows, width, &steps);
                steps = Steps::default();
            }
        }
        self.fold(sums, rows, width, &steps);
        self.solve(sums, width, steps.zeros, parity);
        Ok(())
    }

    /// Adds rows to each sum, by Horner's rule: after that has been multiplied by its point for each of the rows, those of zeros among them.
    fn fold(&self, sums: &mut [u8], rows: &[u8], width: usize, steps: &Steps) {
        for start in (0..width).step_by(TILE) {
            let tile = start..(start + TILE).min(width);
            for (point, sum) in sums.chunks_mut(width).enumerate() {
                let constant = |steps: usize| Multiplier::of(power(point * steps));
                let mut terms = [(&[][..], constant(0)); ROWS];
                for ((term, row), &behind) in terms.iter_mut().zip(rows.chunks(width)).zip(&steps.behind) {
                    *term = (&row[tile.clone()], constant(behind));
                }
                self.kernel.combine(&mut sum[tile.clone()], constant(steps.all), &terms[..steps.rows]);
            }
        }
    }

    /// Finds the parity whose codeword has the value 0 at each point. `pending` rows of zeros are still to be counted.
    fn solve(&self, sums: &[u8], width: usize, pending: usize, parity: &mut Vec<u8>) {
        let roots = self.layout.roots().get();
        // The parity's own powers lie below the message's.
        let shift = pending + roots;
        // The highest power comes first.
        let mut matrix = parity_matrix(roots);
        matrix.reverse();
        parity.resize(width * roots, 0);
        let mut bytes = vec![0; TILE * roots];
        for start in (0..width).step_by(TILE) {
            let tile = start..(start + TILE).min(width);
            bytes.fill(0);
            for (bytes, coefficients) in bytes.chunks_mut(TILE).zip(&matrix) {
                for (point, (sum, &coefficient)) in sums.chunks(width).zip(coefficients).enumerate() {
                    let constant = Multiplier::of(field::multiply(coefficient, power(point * shift)));
                    let term = (&sum[tile.clone()], constant);
                    self.kernel.combine(&mut bytes[..tile.len()], Multiplier::of(1), &[term]);
                }
            }
            interleave(&bytes, &mut parity[tile.start * roots..tile.end * roots]);
        }
    }

    fn write(&self, columns: &Range<u64>, onto: Onto, scratch: &mut Scratch) -> Result<(), Error> {
        let roots = self.layout.roots().get() as u64;
        let offset = self.layout.offset() + columns.start * roots;
        let Scratch { parity, sums, .. } = scratch;
        let length = parity.len();
        if onto == Onto::Parity {
            let before = sums.bytes(length);
            self.parity.read_exact_at(before, offset).map_err(|source| Error::Read {
                device: Device::Parity,
                offset,
                length,
                source,
            })?;
            parity.iter_mut().zip(before).for_each(|(byte, before)| *byte ^= *before);
        }
        self.parity.write_all_at(parity, offset).map_err(|source| Error::Write {
            device: Device::Parity,
            offset,
            length,
            source,
        })
    }
}

/// What is known of the rows that were read since rows were last added to the sums.
#[derive(Default)]
struct Steps {
    /// Rows that are kept: those that are not zeros.
    rows: usize,
    /// For each of them, how many rows came after it, up to the last one kept.
    behind: [usize; ROWS],
    /// How many rows there were up to the last one kept. Rows of zeros only multiply what is there.
    all: usize,
    /// How many rows of zeros came after it.
    zeros: usize,
}

impl Steps {
    /// Counts a row, which is `kept` unless it is zeros.
    fn take(&mut self, kept: bool) {
        self.zeros += 1;
        if kept {
            self.behind[..self.rows].iter_mut().for_each(|behind| *behind += self.zeros);
            self.all += self.zeros;
            self.rows += 1;
            self.zeros = 0;
        }
    }
}

/// Puts the bytes of each codeword side by side, from tiles that have one byte of each.
fn interleave(tiles: &[u8], codewords: &mut [u8]) {
    match tiles.len() / TILE {
        // What nearly everybody has; the compiler sees how to do it with vectors.
        2 => {
            let (first, second) = tiles.split_at(TILE);
            for ((codeword, &first), &second) in codewords.as_chunks_mut().0.iter_mut().zip(first).zip(second)
            {
                *codeword = [first, second];
            }
        }
        roots => {
            for (position, tile) in tiles.chunks(TILE).enumerate() {
                for (target, &byte) in codewords[position..].iter_mut().step_by(roots).zip(tile) {
                    *target = byte;
                }
            }
        }
    }
}

/// Compares what is written with what is there.
struct Comparison<'a> {
    parity: &'a dyn ReadAt,
    layout: &'a Layout,
    differing: AtomicU64,
}

impl ReadAt for Comparison<'_> {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.parity.read_at(buffer, offset)
    }
}

impl WriteAt for Comparison<'_> {
    fn write_all_at(&self, bytes: &[u8], mut offset: u64) -> io::Result<()> {
        let mut found = vec![0; self.layout.block_size().bytes()];
        for expected in bytes.chunks(found.len()) {
            let found = &mut found[..expected.len()];
            if self.parity.read_exact_at(found, offset).is_err() || found != expected {
                self.differing.fetch_add(1, Ordering::Relaxed);
            }
            offset += expected.len() as u64;
        }
        Ok(())
    }
}

/// Row `m` gives the coefficient of `x^m` of the polynomial below degree `roots` from its values at the first `roots` powers of the
/// generator.
fn parity_matrix(roots: usize) -> Vec<Vec<u8>> {
    let values: Vec<Vec<u8>> =
        (0..roots).map(|point| (0..roots).map(|degree| power(point * degree)).collect()).collect();
    // Different points make a Vandermonde matrix, which has an inverse.
    field::invert(&values).unwrap_or_default()
}
