//! Layers out of a real tar: against mkfs.erofs with veritysetup behind it, against decompressing alone, and several at once.

mod input;
mod peer;

use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Instant;

use self::input::{Input, parts};
use self::peer::{ErofsUtils, tree_digest};
use super::memory::peak;
use super::{Bench, Case, Ratio, compared, no_pairs};
use crate::child::{self, own_cpu_seconds};
use crate::goals::{Figure, Goal, Unit};
use crate::programs::Program;
use crate::report::Measured;
use crate::statistics::{Sample, Spread};
use crate::stop::Result;
use crate::units::{MIB, mebibytes, seconds};
use crate::workspace::{Scratch, remove};

/// How many layers are built at once.
const PARALLEL: usize = 10;

/// What both sides of a comparison with a decompressor read and write at once.
const PIECE: usize = 256 << 10;

/// How a layer is compressed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Compression {
    None,
    Gzip,
    Zstd,
}

impl Compression {
    const ALL: [Self; 3] = [Self::None, Self::Gzip, Self::Zstd];

    /// What the layer is called.
    fn file(self) -> &'static str {
        match self {
            Self::None => "layer.tar",
            Self::Gzip => "layer.tar.gz",
            Self::Zstd => "layer.tar.zst",
        }
    }
}

pub(super) fn cases(bench: &Bench) -> Vec<Case> {
    let cores = bench.machine.cores;
    let against_mkfs = |name: &str, compression: Compression, goal: Option<Goal>| {
        let title = format!("layer from {}, {} cores", &compression.file()["layer.".len()..], cores);
        Case::new(name, title, goal, move |bench| against_peers(bench, compression))
    };
    let against_decompressor = |name: &str, title: &str, compression| {
        Case::new(name, title, Goal::LAYER_DECOMPRESSOR, move |bench| {
            against_decompressor(bench, compression)
        })
    };
    vec![
        against_mkfs("layer-tar", Compression::None, Some(Goal::LAYER_TAR)),
        against_mkfs("layer-tar-gz", Compression::Gzip, Some(Goal::LAYER_TAR_GZ)),
        against_mkfs("layer-tar-zst", Compression::Zstd, None),
        against_decompressor(
            "layer-gz-decompressor",
            "layer from tar.gz: time against decompressing alone (zlib-rs)",
            Compression::Gzip,
        ),
        against_decompressor(
            "layer-zst-decompressor",
            "layer from tar.zst: time against decompressing alone (libzstd)",
            Compression::Zstd,
        ),
        Case::new(
            "layer-memory",
            "peak memory, layer from tar, tar.gz and tar.zst",
            Goal::LAYER_MEMORY,
            memory,
        ),
        Case::new(
            "layer-parallel",
            format!("{PARALLEL} layers from tar.gz at once: share of {cores} cores that is used"),
            Goal::LAYER_PARALLEL,
            parallel,
        ),
    ]
}

/// `verity layer build`, with the diffID checked.
fn build(layer: &Path, output: &Path, diff_id: &str) -> std::process::Command {
    let mut command = Program::verity().other("layer");
    command.args(["build", "--quiet", "--diff-id", diff_id]).arg(layer).arg(output);
    command
}

fn against_peers(bench: &Bench, compression: Compression) -> Result<Measured> {
    let utils = ErofsUtils::find()?;
    let veritysetup = Program::veritysetup()?;
    let input = Input::find(bench, compression)?;
    // Both images, and one of them unpacked.
    let scratch = bench.memory.scratch()?;
    bench.memory.require(input.tar_bytes * 3 + input.tar_bytes / 8)?;
    let (ours, image, hash) = (scratch.path("ours"), scratch.path("peer"), scratch.path("peer-hash"));

    let checked = Checked { utils: &utils, veritysetup: &veritysetup, scratch: &scratch, input: &input };
    let ours = || {
        remove(&ours)?;
        let finished = child::run(&mut build(&input.path, &ours, &input.diff_id))?;
        let tree = checked.ours(&ours, finished.stdout.trim())?;
        remove(&ours)?;
        Ok((finished.sample, tree))
    };
    let peer = || {
        remove(&image)?;
        remove(&hash)?;
        let made = child::run(&mut utils.mkfs(&input.path, compression, &image))?;
        let (formatted, _) = veritysetup.format(&image, &hash)?;
        let tree = checked.tree(&image)?;
        remove(&image)?;
        let cpu = made.sample.cpu.zip(formatted.sample.cpu).map(|(made, formatted)| made + formatted);
        Ok((Sample { wall: made.sample.wall + formatted.sample.wall, cpu }, tree))
    };
    let pairs = bench.repetition.pairs(ours, peer)?;
    compared(&pairs, Ratio::SpeedUp, &format!("mkfs.erofs {} + veritysetup", utils.version), seconds)
}

/// Where results are checked.
struct Checked<'a> {
    utils: &'a ErofsUtils,
    veritysetup: &'a Program,
    scratch: &'a Scratch,
    input: &'a Input,
}

impl Checked<'_> {
    /// Of our layer: the file system is clean, veritysetup finds the tree right, and what is in it comes out.
    fn ours(&self, layer: &Path, root: &str) -> Result<String> {
        let hash_offset = image_bytes(layer)?;
        let mut verify = self.veritysetup.command("verify", layer, layer);
        child::run(verify.arg(root).arg(format!("--hash-offset={hash_offset}")))?;
        self.tree(layer)
    }

    /// What is in an image, in one digest.
    fn tree(&self, image: &Path) -> Result<String> {
        let folder = self.scratch.path("tree");
        let _ = std::fs::remove_dir_all(&folder);
        child::run(self.utils.fsck(image).arg(format!("--extract={}", folder.display())))?;
        let digest = tree_digest(&folder, self.input.entries);
        std::fs::remove_dir_all(&folder)?;
        digest
    }
}

/// How large an EROFS image is by its own word: where the superblock of its tree lies.
fn image_bytes(layer: &Path) -> Result<u64> {
    let file = std::fs::File::open(layer)?;
    let mut superblock = [0; 48];
    std::os::unix::fs::FileExt::read_exact_at(&file, &mut superblock, 1024)?;
    let blocks = superblock[36..40].try_into().map(u32::from_le_bytes).unwrap_or_default();
    Ok(u64::from(blocks) << superblock[12])
}

fn against_decompressor(bench: &Bench, compression: Compression) -> Result<Measured> {
    let input = Input::find(bench, compression)?;
    let scratch = bench.memory.scratch()?;
    bench.memory.require(input.tar_bytes + input.tar_bytes / 8)?;
    let output = scratch.path("layer");
    let ours = || {
        remove(&output)?;
        let finished = child::run(&mut build(&input.path, &output, &input.diff_id))?;
        Ok((finished.sample, input.tar_bytes))
    };
    let peer = || {
        let (cpu, begin) = (own_cpu_seconds()?, Instant::now());
        let bytes = decompress(&input.path, compression)?;
        let wall = begin.elapsed().as_secs_f64();
        Ok((Sample { wall, cpu: Some(own_cpu_seconds()? - cpu) }, bytes))
    };
    let pairs = bench.repetition.pairs(ours, peer)?;
    compared(&pairs, Ratio::Cost, "decompressor", seconds)
}

/// Decompresses to nowhere, with what `verity` has for it, and tells how many bytes there were.
fn decompress(path: &Path, compression: Compression) -> Result<u64> {
    let source = BufReader::with_capacity(PIECE, std::fs::File::open(path)?);
    match compression {
        Compression::None => drain(source),
        Compression::Gzip => drain(flate2::bufread::MultiGzDecoder::new(source)),
        Compression::Zstd => drain(zstd::Decoder::with_buffer(source)?),
    }
}

fn drain(mut source: impl Read) -> Result<u64> {
    let mut buffer = vec![0; PIECE];
    let mut total = 0;
    loop {
        match source.read(&mut buffer)? {
            0 => return Ok(total),
            count => total += count as u64,
        }
    }
}

fn memory(bench: &Bench) -> Result<Measured> {
    let scratch = bench.memory.scratch()?;
    let output = scratch.path("layer");
    let mut peaks = Vec::new();
    for compression in Compression::ALL {
        let input = Input::find(bench, compression)?;
        bench.memory.require(input.tar_bytes + input.tar_bytes / 8)?;
        remove(&output)?;
        peaks.push(peak(&mut build(&input.path, &output, &input.diff_id))?.0);
        bench.repetition.interrupts.check()?;
    }
    let spread = Spread::of(peaks).ok_or_else(no_pairs)?;
    let figure = Figure { unit: Unit::Bytes, spread };
    Ok(Measured { ours: format!("{} MiB", mebibytes(spread.most)), peer: "-".to_owned(), figure })
}

fn parallel(bench: &Bench) -> Result<Measured> {
    let scratch = bench.memory.scratch()?;
    let part = bench.sizes.data.min(64 * MIB);
    bench.memory.require(part * PARALLEL as u64 * 3)?;
    let parts = parts(&Input::find(bench, Compression::None)?, &scratch, PARALLEL, part)?;
    let output = |number: usize| -> Result<PathBuf> {
        let path = scratch.path(&format!("layer-{number}"));
        remove(&path)?;
        Ok(path)
    };
    let one_by_one = || {
        let mut total = Sample { wall: 0.0, cpu: Some(0.0) };
        let mut roots = Vec::new();
        for (number, (path, diff_id)) in parts.iter().enumerate() {
            let finished = child::run(&mut build(path, &output(number)?, diff_id))?;
            total.wall += finished.sample.wall;
            total.cpu = total.cpu.zip(finished.sample.cpu).map(|(total, more)| total + more);
            roots.push(finished.stdout);
        }
        Ok((total, roots))
    };
    let at_once = || {
        let (cpu, begin) = (own_cpu_seconds()?, Instant::now());
        let started: Vec<Child> = parts
            .iter()
            .enumerate()
            .map(|(number, (path, diff_id))| {
                let mut command = build(path, &output(number)?, diff_id);
                Ok(command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?)
            })
            .collect::<Result<_>>()?;
        let roots = started
            .into_iter()
            .map(|child| Ok(String::from_utf8_lossy(&child.wait_with_output()?.stdout).into_owned()))
            .collect::<Result<Vec<_>>>()?;
        let wall = begin.elapsed().as_secs_f64();
        Ok((Sample { wall, cpu: Some(own_cpu_seconds()? - cpu) }, roots))
    };
    let pairs = bench.repetition.pairs(at_once, one_by_one)?;
    let measured = compared(&pairs, Ratio::SpeedUp, "one by one", seconds)?;
    let cores = bench.machine.cores as f64;
    let Spread { least, median, most } = pairs.processors().ok_or_else(no_pairs)?;
    let spread = Spread { least: least / cores, median: median / cores, most: most / cores };
    Ok(Measured { figure: Figure { unit: Unit::Share, spread }, ..measured })
}
