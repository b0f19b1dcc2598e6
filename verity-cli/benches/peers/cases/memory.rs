//! The most memory that a process holds at once, whatever the size of the data.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io;
use std::path::Path;
use std::process::{Command, ExitCode};

use nix::sys::resource::{UsageWho, getrusage};
use verity_core::geometry::{Geometry, HashArea};
use verity_core::io::ReadAt;
use verity_core::params::Params;
use verity_core::tree::{self, Options, Threads};

use super::{Bench, Case};
use crate::child;
use crate::goals::{Figure, Goal, Unit};
use crate::noise::Noise;
use crate::programs::{Program, root_hash};
use crate::report::Measured;
use crate::statistics::Spread;
use crate::stop::{Result, Stop};
use crate::units::{mebibytes, size};
use crate::workspace::Workspace;

const BLOCK: u64 = 4096;
const BLOCK_BYTES: usize = 4096;

/// What the floor was set for.
const THREADS: usize = 4;

/// First arguments of this very program, when it helps itself.
const PEAK: &str = "--peak-of";
const GENERATE: &str = "--generate";

pub(super) fn cases(bench: &Bench) -> Vec<Case> {
    let [small, medium, large] = bench.sizes.peaks;
    let title = |bytes, how: &str| format!("peak memory, {} {how}, {THREADS} threads", size(bytes));
    vec![
        Case::new("memory", title(small, "dense"), Goal::MEMORY, move |bench| dense(bench, small)),
        Case::new("memory-sparse", title(medium, "sparse"), Goal::MEMORY, move |bench| sparse(bench, medium)),
        Case::new("memory-sparse-large", title(large, "sparse"), Goal::MEMORY, move |bench| {
            sparse(bench, large)
        }),
        Case::new(
            "memory-generated",
            title(medium, "dense, generated, library"),
            Goal::MEMORY,
            move |bench| generated(bench, medium),
        ),
        Case::new(
            "memory-generated-large",
            title(large, "dense, generated, library"),
            Goal::MEMORY,
            move |bench| generated(bench, large),
        ),
    ]
}

/// The start of the file of noise, with veritysetup beside it.
fn dense(bench: &Bench, bytes: u64) -> Result<Measured> {
    let data = bench.memory.noise()?;
    let scratch = bench.memory.scratch()?;
    let peak_of =
        |program: &Program, name: &str| format_and_verify(program, data, &scratch.path(name), bytes);
    let ours = peak_of(&Program::verity().threads(THREADS), "ours")?;
    bench.repetition.interrupts.check()?;
    let peer = match Program::veritysetup().and_then(|program| peak_of(&program, "peer")) {
        Ok(peaks) => format!("veritysetup {} MiB", mebibytes(highest(peaks))),
        Err(Stop::Skipped(_)) => "-".to_owned(),
        Err(stop) => return Err(stop),
    };
    Ok(measured(ours, peer))
}

fn sparse(bench: &Bench, bytes: u64) -> Result<Measured> {
    let scratch = room_for_tree(bench, bytes)?.scratch()?;
    let data = scratch.hole(bytes)?;
    let peaks = format_and_verify(&Program::verity().threads(THREADS), &data, &scratch.path("hash"), bytes)?;
    Ok(measured(peaks, "-".to_owned()))
}

/// The peak of each, over the first `bytes` of the data.
fn format_and_verify(program: &Program, data: &Path, hash: &Path, bytes: u64) -> Result<[f64; 2]> {
    let mut format = program.format_command(data, hash);
    let (format, said) = peak(format.arg(format!("--data-blocks={}", bytes / BLOCK)))?;
    let root = root_hash(&said).ok_or_else(|| Stop::failed("format prints no root hash"))?;
    let (verify, _) = peak(program.command("verify", data, hash).arg(root))?;
    Ok([format, verify])
}

/// Dense data as large as any: made while it is read, by the library in a process of its own.
fn generated(bench: &Bench, bytes: u64) -> Result<Measured> {
    let scratch = room_for_tree(bench, bytes)?.scratch()?;
    let mut generate = Command::new(std::env::current_exe()?);
    generate.arg(GENERATE).arg(bytes.to_string()).arg(scratch.path("hash"));
    let (peak, _) = peak(&mut generate)?;
    Ok(measured([peak, peak], "-".to_owned()))
}

/// Where a tree over so much data fits. In memory there should be twice the room: it is needed for other things.
fn room_for_tree(bench: &Bench, bytes: u64) -> Result<&Workspace> {
    // The tree is the 127th part.
    let tree = bytes / 120;
    if bench.memory.require(tree * 2).is_ok() {
        return Ok(&bench.memory);
    }
    bench.disk.require(tree)?;
    Ok(&bench.disk)
}

fn measured(peaks: [f64; 2], peer: String) -> Measured {
    let [format, verify] = peaks;
    let spread =
        Spread { least: format.min(verify), median: f64::midpoint(format, verify), most: highest(peaks) };
    let figure = Figure { unit: Unit::Bytes, spread };
    Measured { ours: format!("{} MiB", mebibytes(spread.most)), peer, figure }
}

fn highest(peaks: [f64; 2]) -> f64 {
    let [format, verify] = peaks;
    format.max(verify)
}

/// Runs a program to its end, and returns the most bytes that it had in memory, and what it said.
///
/// The kernel tells the highest peak of all children that a process has waited for, so each program gets a parent of
/// its own. That has to be a small one: a child begins with its parent's pages.
pub(super) fn peak(command: &mut Command) -> Result<(f64, String)> {
    let mut parent = Command::new(std::env::current_exe()?);
    parent.arg(PEAK).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => parent.env(name, value),
            None => parent.env_remove(name),
        };
    }
    let said = child::run(&mut parent)?.stdout;
    let (said, peak) = said.trim_end().rsplit_once('\n').unwrap_or(("", &said));
    let peak = peak.trim().parse::<u32>().map_err(|_| Stop::failed("no peak was told"))?;
    // The kernel counts in KiB.
    Ok((f64::from(peak) * 1024.0, said.to_owned()))
}

/// What this program does when it helps itself; `None` when it was started to measure.
pub(crate) fn helper(arguments: &[OsString]) -> Option<ExitCode> {
    let result = match arguments.split_first()? {
        (first, rest) if first == PEAK => be_parent(rest),
        (first, rest) if first == GENERATE => generate(rest),
        _ => return None,
    };
    Some(match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    })
}

fn be_parent(arguments: &[OsString]) -> io::Result<()> {
    let (program, arguments) = arguments.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let status = Command::new(program).args(arguments).status()?;
    if !status.success() {
        return Err(io::Error::other(status.to_string()));
    }
    println!("{}", getrusage(UsageWho::RUSAGE_CHILDREN)?.max_rss());
    Ok(())
}

fn generate(arguments: &[OsString]) -> io::Result<()> {
    let [bytes, hash] = arguments else { return Err(io::ErrorKind::InvalidInput.into()) };
    let bytes: u64 =
        bytes.to_str().and_then(|bytes| bytes.parse().ok()).ok_or(io::ErrorKind::InvalidInput)?;
    let hash = OpenOptions::new().read(true).write(true).create_new(true).open(hash)?;
    let params = Params::default();
    let geometry = Geometry::new(&params, bytes / BLOCK, HashArea::bare(0)).map_err(io::Error::other)?;
    let threads = Threads::new(THREADS).map_err(io::Error::other)?;
    let options = Options { threads, ..Options::default() };
    tree::build(&Generator::new(), &hash, &params, &geometry, &options).map_err(io::Error::other)?;
    Ok(())
}

/// Data without an end, of which no two blocks are the same.
struct Generator(Vec<u8>);

impl Generator {
    fn new() -> Self {
        Self(Noise::new(11).bytes(1 << 16))
    }
}

impl ReadAt for Generator {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        // The same noise over and over, which is as fast as reading from the page cache, and in each block its number.
        for (piece, offset) in buffer.chunks_mut(BLOCK_BYTES).zip((offset..).step_by(BLOCK_BYTES)) {
            let start = usize::try_from(offset % self.0.len() as u64).unwrap_or(0);
            let Some(noise) = self.0.get(start..start + piece.len()) else {
                return Err(io::Error::other("blocks are read as a whole"));
            };
            piece.copy_from_slice(noise);
            let number = (offset / BLOCK).to_le_bytes();
            let length = piece.len().min(number.len());
            piece[..length].copy_from_slice(&number[..length]);
        }
        Ok(buffer.len())
    }
}
