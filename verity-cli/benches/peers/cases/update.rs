//! A tree brought up to date with 1 % of the data changed, against making it anew with the same program.

use std::fmt::Write;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::{Bench, Case, Ratio, compared};
use crate::goals::Goal;
use crate::noise::Noise;
use crate::programs::{Program, Tree, answered};
use crate::report::Measured;
use crate::statistics::Sample;
use crate::stop::Result;
use crate::units::{seconds, size};
use crate::workspace::{Scratch, remove};

const BLOCK: u64 = 4096;

/// Where the changed blocks lie.
#[derive(Clone, Copy)]
enum Changes {
    Contiguous,
    /// As far apart as they can be: nearly every hash block has to be made anew.
    Scattered,
}

/// Where the new tree goes.
#[derive(Clone, Copy)]
enum Way {
    NewFile,
    /// Over the old one, by way of a journal.
    InPlace,
}

pub(super) fn cases(bench: &Bench) -> Vec<Case> {
    let case = |name: &str, how: &str, changes, way| {
        let title = format!("update, 1 % of {} changed, {how}", size(bench.sizes.data));
        Case::new(name, title, Goal::UPDATE, move |bench| update(bench, changes, way))
    };
    vec![
        case("update-contiguous", "contiguous", Changes::Contiguous, Way::NewFile),
        case("update-scattered", "scattered", Changes::Scattered, Way::NewFile),
        case("update-in-place", "contiguous, in place", Changes::Contiguous, Way::InPlace),
        case("update-in-place-scattered", "scattered, in place", Changes::Scattered, Way::InPlace),
    ]
}

/// The tree before the change, and what is known about the change.
struct Before {
    hash: PathBuf,
    tree: Tree,
    ranges: PathBuf,
}

fn update(bench: &Bench, changes: Changes, way: Way) -> Result<Measured> {
    let verity = Program::verity();
    let data = bench.memory.noise()?;
    let scratch = bench.memory.scratch()?;
    let before = change(bench, data, &scratch, changes)?;
    let (updated, formatted) = (scratch.path("updated"), scratch.path("formatted"));
    let ours = || run(&verity, data, &before, &updated, way);
    let peer = || {
        remove(&formatted)?;
        let (finished, tree) = verity.format(data, &formatted)?;
        Ok((finished.sample, tree))
    };
    let pairs = bench.repetition.pairs(ours, peer)?;
    compared(&pairs, Ratio::SpeedUp, "verity format", seconds)
}

fn run(verity: &Program, data: &Path, before: &Before, updated: &Path, way: Way) -> Result<(Sample, Tree)> {
    remove(updated)?;
    let mut command = match way {
        Way::NewFile => {
            let mut command = verity.command("update", data, &before.hash);
            command.arg("--output").arg(updated);
            command
        }
        Way::InPlace => {
            fs::copy(&before.hash, updated)?;
            let mut command = verity.command("update", data, updated);
            command.arg("--in-place");
            command
        }
    };
    command.arg(&before.tree.root).arg("--ranges").arg(&before.ranges);
    let (finished, tree) = answered(&mut command, updated)?;
    Ok((finished.sample, tree))
}

/// Makes a tree, then changes the data under it.
fn change(bench: &Bench, data: &Path, scratch: &Scratch, changes: Changes) -> Result<Before> {
    let hash = scratch.path("before");
    let (_, tree) = Program::verity().format(data, &hash)?;
    let blocks = bench.sizes.data / BLOCK;
    let ranges: Vec<(u64, u64)> = match changes {
        Changes::Contiguous => vec![(blocks / 3 * BLOCK, blocks / 100 * BLOCK)],
        Changes::Scattered => (0..blocks / 100).map(|index| (index * 100 * BLOCK, BLOCK)).collect(),
    };
    let file = OpenOptions::new().write(true).open(data)?;
    // Another seed than the data's, and each time a different one: it has to differ from what is there.
    let mut noise = Noise::new(u64::from_str_radix(&tree.root[..8], 16).unwrap_or(2));
    let mut lines = String::new();
    for (offset, length) in ranges {
        for place in (offset..offset + length).step_by(4096) {
            let mut block = [0; 4096];
            noise.fill(&mut block);
            file.write_all_at(&block, place)?;
        }
        let _ = writeln!(lines, "{offset} {length}");
    }
    let ranges = scratch.path("ranges");
    fs::write(&ranges, lines)?;
    Ok(Before { hash, tree, ranges })
}
