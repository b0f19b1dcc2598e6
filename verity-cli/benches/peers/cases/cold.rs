//! Data that is on the disk and not in the page cache, against reading it and against veritysetup.

use std::path::Path;
use std::process::Command;

use super::{Bench, Case, Ratio, compared};
use crate::child::{self, Finished};
use crate::goals::Goal;
use crate::programs::{Program, Tree};
use crate::report::Measured;
use crate::stop::{Result, Stop};
use crate::units::{seconds, size};
use crate::workspace::{forget, remove};

pub(super) fn cases(bench: &Bench) -> Vec<Case> {
    let data = size(bench.sizes.data);
    vec![
        Case::new(
            "cold-read",
            format!("format, {data} cold: time against reading alone"),
            Goal::COLD,
            against_reading,
        ),
        Case::new("cold-format", format!("format, {data} cold"), None, against_veritysetup),
    ]
}

fn against_reading(bench: &Bench) -> Result<Measured> {
    let data = noise(bench)?;
    let scratch = bench.disk.scratch()?;
    let hash = scratch.path("hash");
    let ours = || Ok((format(bench, &Program::verity(), data, &hash)?.0.sample, ()));
    let peer = || {
        forget(data)?;
        let mut dd = Command::new("dd");
        dd.arg("if=".to_owned() + path(data)?).args(["of=/dev/null", "bs=1M", "status=none"]);
        Ok((was_cold(bench, child::run(&mut dd)?)?.sample, ()))
    };
    let pairs = bench.repetition.pairs(ours, peer)?;
    compared(&pairs, Ratio::Cost, "dd", seconds)
}

fn against_veritysetup(bench: &Bench) -> Result<Measured> {
    let peer = Program::veritysetup()?;
    let data = noise(bench)?;
    let scratch = bench.disk.scratch()?;
    let run = |program: &Program, name: &str| {
        let (finished, tree) = format(bench, program, data, &scratch.path(name))?;
        Ok((finished.sample, tree))
    };
    let pairs = bench.repetition.pairs(|| run(&Program::verity(), "ours"), || run(&peer, "peer"))?;
    compared(&pairs, Ratio::SpeedUp, "veritysetup", seconds)
}

fn noise(bench: &Bench) -> Result<&Path> {
    if bench.disk.is_memory()? {
        return Err(Stop::skipped("--dir is in memory: nothing there is ever cold"));
    }
    bench.disk.noise()
}

fn format(bench: &Bench, program: &Program, data: &Path, hash: &Path) -> Result<(Finished, Tree)> {
    remove(hash)?;
    forget(data)?;
    let (finished, tree) = program.format(data, hash)?;
    Ok((was_cold(bench, finished)?, tree))
}

/// The kernel only takes advice about its cache: that the data came from the disk is seen in what was read from there.
fn was_cold(bench: &Bench, finished: Finished) -> Result<Finished> {
    // A little may have come back by itself.
    if finished.bytes_from_disk >= bench.sizes.data / 10 * 9 {
        return Ok(finished);
    }
    Err(Stop::skipped(format_args!(
        "only {} MiB came from the disk: this file system keeps its cache, or does not count",
        finished.bytes_from_disk >> 20
    )))
}

fn path(path: &Path) -> Result<&str> {
    path.to_str().ok_or_else(|| Stop::failed(format_args!("{path:?} is no UTF-8")))
}
