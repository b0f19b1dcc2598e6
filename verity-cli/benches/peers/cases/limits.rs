//! How far a whole format is from what its parts allow: hashing in the cache, and reading and writing alone.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Barrier;
use std::thread;
use std::time::Instant;

use super::hashing::Hashing;
use super::{Bench, Case, Ratio, compared};
use crate::goals::{Figure, Goal, Unit};
use crate::machine::Pinned;
use crate::programs::Program;
use crate::report::Measured;
use crate::statistics::Sample;
use crate::stop::{Result, Stop};
use crate::units::{GIB, seconds, size, speed};
use crate::workspace::remove;

/// As much as `verity` reads at once.
const PIECE: usize = 256 << 10;

pub(super) fn cases(bench: &Bench) -> Vec<Case> {
    let data = size(bench.sizes.data);
    let cores = bench.machine.cores;
    vec![
        Case::new(
            "overhead",
            format!("format, {data} warm, one core: time against hashing in L2 + I/O alone"),
            Goal::OVERHEAD,
            overhead,
        ),
        Case::new(
            "efficiency",
            format!("format, {data} warm, {cores} cores: speed against hashing in L2 on {cores} threads"),
            Goal::EFFICIENCY,
            efficiency,
        ),
    ]
}

fn overhead(bench: &Bench) -> Result<Measured> {
    let data = bench.memory.noise()?;
    let scratch = bench.memory.scratch()?;
    let (hash, copy) = (scratch.path("hash"), scratch.path("copy"));
    let verity = Program::verity().threads(1);
    let mut kernel = Hashing::chosen()?;
    let _pinned = Pinned::to_one_core()?;
    let ours = || {
        remove(&hash)?;
        Ok((verity.format(data, &hash)?.0.sample, ()))
    };
    let peer = || {
        // Every data block is hashed, and every hash block.
        let tree = fs::metadata(&hash)?.len();
        let gib = (bench.sizes.data + tree) as f64 / GIB as f64;
        let hashing = kernel.seconds_a_gib(bench.sizes.sample) * gib;
        remove(&copy)?;
        Ok((Sample { wall: hashing + reading_and_writing(data, &copy, tree)?, cpu: None }, ()))
    };
    let pairs = bench.repetition.pairs(ours, peer)?;
    compared(&pairs, Ratio::Cost, "parts", seconds)
}

/// Seconds to read the data and to write as much as its tree.
fn reading_and_writing(data: &Path, copy: &Path, tree: u64) -> Result<f64> {
    let mut buffer = vec![0; PIECE];
    let begin = Instant::now();
    let file = File::open(data)?;
    let mut offset = 0;
    loop {
        match file.read_at(&mut buffer, offset)? {
            0 => break,
            count => offset += count as u64,
        }
    }
    let file = File::create_new(copy)?;
    let mut written = 0;
    while written < tree {
        let count = usize::try_from(tree - written).map_or(PIECE, |rest| rest.min(PIECE));
        file.write_all_at(&buffer[..count], written)?;
        written += count as u64;
    }
    Ok(begin.elapsed().as_secs_f64())
}

fn efficiency(bench: &Bench) -> Result<Measured> {
    let data = bench.memory.noise()?;
    let scratch = bench.memory.scratch()?;
    let hash = scratch.path("hash");
    let gib = bench.sizes.data as f64 / GIB as f64;
    let ours = || {
        remove(&hash)?;
        let sample = Program::verity().format(data, &hash)?.0.sample;
        // Both sides as seconds a GiB.
        Ok((Sample { wall: sample.wall / gib, cpu: None }, ()))
    };
    let peer = || Ok((Sample { wall: all_cores(bench.machine.cores, bench.sizes.sample)?, cpu: None }, ()));
    let pairs = bench.repetition.pairs(ours, peer)?;
    let measured = compared(&pairs, Ratio::SpeedUp, "kernel", speed)?;
    Ok(Measured { figure: Figure { unit: Unit::Share, ..measured.figure }, ..measured })
}

/// Seconds a GiB with a thread for each core, each with data of its own.
fn all_cores(cores: usize, seconds: f64) -> Result<f64> {
    let kernels: Vec<Hashing> = (0..cores).map(|_| Hashing::chosen()).collect::<Result<_>>()?;
    let start = Barrier::new(kernels.len());
    let speeds: Vec<f64> = thread::scope(|scope| {
        let threads: Vec<_> = kernels
            .into_iter()
            .map(|mut kernel| {
                let start = &start;
                scope.spawn(move || {
                    start.wait();
                    1.0 / kernel.seconds_a_gib(seconds)
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().map_err(|_| Stop::failed("a thread panicked")))
            .collect::<Result<_>>()
    })?;
    Ok(1.0 / speeds.iter().sum::<f64>())
}
