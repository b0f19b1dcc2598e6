//! Parity made with the tree, against veritysetup and against the tree alone; and damage mended from it, against a verification.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::{Bench, Case, Ratio, compared};
use crate::child;
use crate::goals::Goal;
use crate::machine::Pinned;
use crate::noise::Noise;
use crate::programs::{Program, Tree, answered};
use crate::report::Measured;
use crate::statistics::Sample;
use crate::stop::Result;
use crate::units::{GIB, MIB, seconds, size};
use crate::workspace::{Scratch, remove};

const BLOCK: u64 = 4096;

/// Parity bytes of a codeword, for a repair: enough that 1 % of all blocks, anywhere, are never too many for one.
const ROOTS: &str = "--fec-roots=16";

pub(super) fn cases(bench: &Bench) -> Vec<Case> {
    let encoded = size(encoded_bytes(bench));
    let repaired = size(repaired_bytes(bench));
    let all = format!("{} cores", bench.machine.cores);
    let repair = |name: &str, how: &str, goal, way| {
        let title = format!("repair, 1 % of {repaired} bad, scattered, {how}");
        Case::new(name, title, goal, move |bench| mended(bench, way))
    };
    vec![
        Case::new(
            "fec",
            format!("format with parity, 2 roots, {encoded} warm, {all}"),
            Goal::PARITY,
            |bench| against_veritysetup(bench, &Program::verity()),
        ),
        Case::new(
            "fec-one-core",
            format!("format with parity, 2 roots, {encoded} warm, one core"),
            Goal::PARITY_ONE_CORE,
            |bench| {
                let _pinned = Pinned::to_one_core()?;
                against_veritysetup(bench, &Program::verity().threads(1))
            },
        ),
        Case::new(
            "fec-cost",
            format!("format with parity against format without, {encoded} warm, {all}"),
            Goal::PARITY_COST,
            against_format,
        ),
        repair("repair-in-place", "in place", Some(Goal::REPAIR), Way::InPlace),
        repair("repair-new-files", "to new files", None, Way::NewFiles),
    ]
}

/// What parity is made of: veritysetup needs seconds for it.
fn encoded_bytes(bench: &Bench) -> u64 {
    (512 * MIB).min(bench.sizes.data)
}

fn repaired_bytes(bench: &Bench) -> u64 {
    GIB.min(bench.sizes.data)
}

/// A tree, and the bytes of its parity.
type Coded = (Tree, Option<Vec<u8>>);

/// Makes a tree, and parity where there is a place for it.
fn format(
    program: &Program,
    data: &Path,
    bytes: u64,
    hash: &Path,
    fec: Option<&Path>,
) -> Result<(Sample, Coded)> {
    remove(hash)?;
    let mut command = program.format_command(data, hash);
    command.arg(format!("--data-blocks={}", bytes / BLOCK));
    if let Some(fec) = fec {
        remove(fec)?;
        command.arg("--fec-device").arg(fec);
    }
    let (finished, tree) = answered(&mut command, hash)?;
    Ok((finished.sample, (tree, fec.map(std::fs::read).transpose()?)))
}

fn against_veritysetup(bench: &Bench, ours: &Program) -> Result<Measured> {
    let (data, bytes) = (bench.memory.noise()?, encoded_bytes(bench));
    let peer = Program::veritysetup()?;
    let scratch = bench.memory.scratch()?;
    let run = |program: &Program, side: &str| {
        let (hash, fec) = (scratch.path(side), scratch.path(&format!("{side}-fec")));
        format(program, data, bytes, &hash, Some(&fec))
    };
    let pairs = bench.repetition.pairs(|| run(ours, "ours"), || run(&peer, "peer"))?;
    compared(&pairs, Ratio::SpeedUp, "veritysetup", seconds)
}

fn against_format(bench: &Bench) -> Result<Measured> {
    let (data, bytes) = (bench.memory.noise()?, encoded_bytes(bench));
    let scratch = bench.memory.scratch()?;
    let verity = Program::verity();
    let (hash, fec) = (scratch.path("hash"), scratch.path("fec"));
    let run = |fec: Option<&Path>| {
        let (sample, (tree, _)) = format(&verity, data, bytes, &hash, fec)?;
        Ok((sample, tree))
    };
    let pairs = bench.repetition.pairs(|| run(Some(&fec)), || run(None))?;
    compared(&pairs, Ratio::Cost, "verity format", seconds)
}

/// Where the repaired image goes.
#[derive(Clone, Copy)]
enum Way {
    InPlace,
    NewFiles,
}

/// An image that is damaged before each repair.
struct Image {
    data: PathBuf,
    hash: PathBuf,
    fec: PathBuf,
    tree: Tree,
    /// The offsets of the blocks that are damaged, and what they should be.
    blocks: Vec<(u64, Vec<u8>)>,
}

fn mended(bench: &Bench, way: Way) -> Result<Measured> {
    let scratch = bench.memory.scratch()?;
    let image = Image::new(bench, &scratch)?;
    let verity = Program::verity();
    let ours = || {
        image.write(false)?;
        let mut command = verity.command("repair", &image.data, &image.hash);
        command.arg(&image.tree.root).arg(ROOTS).arg("--fec-device").arg(&image.fec).arg("--quiet");
        let (data, hash) = (scratch.path("repaired"), scratch.path("repaired-hash"));
        remove(&data)?;
        remove(&hash)?;
        match way {
            Way::InPlace => command.arg("--in-place"),
            Way::NewFiles => command.arg("--output-data").arg(&data).arg("--output-hash").arg(&hash),
        };
        let finished = child::run(&mut command)?;
        if matches!(way, Way::NewFiles) {
            verity.verify(&data, &hash, &image.tree)?;
            image.write(true)?;
        }
        Ok((finished.sample, ()))
    };
    // In place this is also the proof of the repair.
    let peer = || Ok((verity.verify(&image.data, &image.hash, &image.tree)?.sample, ()));
    let pairs = bench.repetition.pairs(ours, peer)?;
    compared(&pairs, Ratio::Cost, "verity verify", seconds)
}

impl Image {
    fn new(bench: &Bench, scratch: &Scratch) -> Result<Self> {
        let bytes = repaired_bytes(bench);
        // Two copies of the data, parity of 7 %, two trees.
        bench.memory.require(bytes * 9 / 4)?;
        let (data, hash, fec) = (scratch.path("data"), scratch.path("hash"), scratch.path("fec"));
        let (from, to) = (File::open(bench.memory.noise()?)?, File::create_new(&data)?);
        std::io::copy(&mut std::io::Read::take(from, bytes), &mut &to)?;
        let mut command = Program::verity().format_command(&data, &hash);
        command.arg(ROOTS).arg("--fec-device").arg(&fec);
        let (_, tree) = answered(&mut command, &hash)?;

        // One of each hundred blocks, wherever.
        let mut noise = Noise::new(3);
        let file = File::open(&data)?;
        let mut blocks = Vec::new();
        for hundred in 0..bytes / BLOCK / 100 {
            let mut byte = [0];
            noise.fill(&mut byte);
            let offset = (hundred * 100 + u64::from(byte[0]) % 100) * BLOCK;
            let mut block = vec![0; 4096];
            file.read_exact_at(&mut block, offset)?;
            blocks.push((offset, block));
        }
        Ok(Self { data, hash, fec, tree, blocks })
    }

    /// Writes the blocks as they should be, or damaged.
    fn write(&self, right: bool) -> Result<()> {
        let file = OpenOptions::new().write(true).open(&self.data)?;
        for (offset, block) in &self.blocks {
            if right {
                file.write_all_at(block, *offset)?;
            } else {
                let damaged: Vec<u8> = block.iter().map(|byte| !byte).collect();
                file.write_all_at(&damaged, *offset)?;
            }
        }
        Ok(())
    }
}
