//! `verity benchmark`: how fast this machine hashes, builds and verifies, and reads.

use std::fs::File;
use std::hint::black_box;
use std::io::Read;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use verity_core::algorithm::Algorithm;
use verity_core::block::{BlockSize, Salt};
use verity_core::digest::{BackendKind, BlockHasher};
use verity_core::geometry::{Geometry, HashArea};
use verity_core::io::{MemoryDevice, ReadAt};
use verity_core::params::Params;
use verity_core::tree::{self, Options, Threads};

use super::engine;
use super::layout::bad_geometry;
use crate::cli::options::Common;
use crate::cli::values;
use crate::failure::{Code, Failure};
use crate::files::{Input, Role};
use crate::interrupt;
use crate::output::benchmark as output;
use crate::output::progress::Progress;
use crate::session::Session;

const HELP: &str = "\
Figures are medians; other work on the machine makes them worse, so look at ratios. What this machine cannot run is not \
listed. VERITY_DIGEST_BACKEND forces a backend in every command.

Examples:
  verity benchmark
  verity benchmark --hash sha512 --hash sha3-256
  verity benchmark --read /dev/nvme0n1
  verity benchmark --json | jq '.backends[] | {algorithm, backend, gib_per_second}'";

/// Measure digests, trees in memory, and a disk
///
/// Measures each digest backend that this machine runs on one thread, then building and verifying a tree in memory with
/// one thread and with all, and with --read how fast a file or a disk is read.
#[derive(Args, Debug)]
#[command(disable_help_flag = true, after_long_help = HELP)]
pub(crate) struct Arguments {
    /// Hash algorithm to measure; can be given several times [default: sha256 and sha512]
    #[arg(short = 'h', long = "hash", value_name = "ALGORITHM", value_parser = values::algorithm)]
    algorithms: Vec<Algorithm>,

    /// Block size: a power of two from 512 to 524288
    #[arg(long, value_name = "BYTES", value_parser = values::block_size, default_value = "4096")]
    block_size: BlockSize,

    /// Mebibytes of data for the tree, 1 to 65536; that much memory is used
    #[arg(long, value_name = "MIB", value_parser = mebibytes, default_value = "256")]
    size: usize,

    /// Threads for the second column of the tree [default: one for each processor]
    #[arg(long, value_name = "N", value_parser = values::threads)]
    threads: Option<Threads>,

    /// Measure how fast a file or a block device is read from its start, at most 4 GiB of it
    #[arg(long, value_name = "PATH")]
    read: Option<PathBuf>,

    #[command(flatten)]
    pub(super) common: Common,
}

/// One digest backend's speed.
pub(crate) struct BackendSpeed {
    pub(crate) algorithm: Algorithm,
    pub(crate) kind: BackendKind,
    pub(crate) gib_per_second: f64,
    pub(crate) cycles_per_byte: Option<f64>,
}

/// How fast a tree is built and verified, in GiB of data a second.
pub(crate) struct TreeSpeed {
    pub(crate) algorithm: Algorithm,
    pub(crate) threads: usize,
    pub(crate) build: f64,
    pub(crate) verify: f64,
}

/// Everything that was measured.
pub(crate) struct Benchmark {
    pub(crate) processor: Option<String>,
    pub(crate) block_size: BlockSize,
    pub(crate) mebibytes: usize,
    pub(crate) backends: Vec<BackendSpeed>,
    pub(crate) trees: Vec<TreeSpeed>,
    pub(crate) read: Option<(PathBuf, f64)>,
}

const MIB: usize = 1 << 20;
const GIB: f64 = 1_073_741_824.0;

pub(super) fn run(arguments: &Arguments, session: &Session) -> Result<Code, Failure> {
    let algorithms = match arguments.algorithms.as_slice() {
        [] => &[Algorithm::Sha256, Algorithm::Sha512],
        given => given,
    };
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let clock = cpu_field(&cpuinfo, "cpu MHz").and_then(|mhz| mhz.parse::<f64>().ok()).map(|mhz| mhz * 1e6);
    let all = arguments.threads.unwrap_or_default();
    let mut benchmark = Benchmark {
        processor: cpu_field(&cpuinfo, "model name").map(str::to_owned),
        block_size: arguments.block_size,
        mebibytes: arguments.size,
        backends: Vec::new(),
        trees: Vec::new(),
        read: None,
    };
    let data = noise(arguments.size * MIB)?;
    for &algorithm in algorithms {
        let params = params(algorithm, arguments.block_size)?;
        benchmark.backends.extend(backend_speeds(&params, clock)?);
        for threads in [Threads::new(1).map_err(Failure::argument)?, all] {
            if benchmark
                .trees
                .last()
                .is_none_or(|last| (last.algorithm, last.threads) != (algorithm, threads.get()))
            {
                benchmark.trees.push(tree_speed(&data, data.len(), &params, threads)?);
            }
        }
    }
    drop(data);
    if let Some(path) = &arguments.read {
        benchmark.read = Some((path.clone(), read_speed(path)?));
    }
    session.print(|| output::human(&benchmark), || output::json(&benchmark))?;
    Ok(Code::Success)
}

fn params(algorithm: Algorithm, block_size: BlockSize) -> Result<Params, Failure> {
    let salt = Salt::new(&[0x5a; 32]).map_err(Failure::argument)?;
    Ok(Params { algorithm, data_block_size: block_size, salt, ..Params::default() })
}

/// Blocks that stay in a core's cache, on one thread.
fn backend_speeds(params: &Params, clock: Option<f64>) -> Result<Vec<BackendSpeed>, Failure> {
    const BYTES: usize = 512 * 1024;
    let block_size = params.data_block_size;
    let blocks = noise(BYTES.max(block_size.bytes()))?;
    let covering = BackendKind::ALL.into_iter().filter(|kind| kind.covers(params.algorithm));
    let mut speeds = Vec::new();
    for hasher in covering.filter_map(|kind| BlockHasher::with_backend(params, kind).ok()) {
        let stride = hasher.digest_size();
        let mut digests = vec![0; blocks.len() / block_size.bytes() * stride];
        let bytes_per_second = median_speed(blocks.len(), || {
            hasher.hash_blocks(black_box(&blocks), block_size, &mut digests, stride);
            black_box(&mut digests);
            Ok(())
        })?;
        speeds.push(BackendSpeed {
            algorithm: params.algorithm,
            kind: hasher.kind(),
            gib_per_second: bytes_per_second / GIB,
            cycles_per_byte: clock.map(|clock| clock / bytes_per_second),
        });
    }
    Ok(speeds)
}

fn tree_speed(
    data: &dyn ReadAt,
    bytes: usize,
    params: &Params,
    threads: Threads,
) -> Result<TreeSpeed, Failure> {
    let blocks = bytes / params.data_block_size.bytes();
    let geometry =
        Geometry::new(params, blocks as u64, HashArea::bare(0)).map_err(|error| bad_geometry(&error))?;
    // Sees signals, draws nothing.
    let progress = Progress::new(false);
    let options = Options { threads, observer: &progress, ..Options::default() };
    let failed = |error: tree::Error| engine::failure(&error, |device| format!("({device} in memory)"));
    let hash = MemoryDevice::default();
    let root = tree::build(data, &hash, params, &geometry, &options).map_err(failed)?;
    let build = median_speed(bytes, || {
        tree::build(data, &hash, params, &geometry, &options).map(drop).map_err(failed)
    })?;
    let verify = median_speed(bytes, || {
        let report = tree::verify(data, &hash, params, &geometry, &root, &options).map_err(failed)?;
        // A fast wrong answer is no result.
        if report.is_intact() {
            Ok(())
        } else {
            Err(Failure::new(Code::General, "a tree made in memory is not intact"))
        }
    })?;
    Ok(TreeSpeed {
        algorithm: params.algorithm,
        threads: threads.get(),
        build: build / GIB,
        verify: verify / GIB,
    })
}

/// Bytes a second: the median of several measurements of about a tenth of a second each.
fn median_speed(bytes: usize, mut work: impl FnMut() -> Result<(), Failure>) -> Result<f64, Failure> {
    const SAMPLES: usize = 5;
    const SAMPLE: Duration = Duration::from_millis(100);
    work()?;
    let mut speeds = Vec::with_capacity(SAMPLES);
    for _ in 0..SAMPLES {
        let begin = Instant::now();
        let mut done = 0.0;
        while begin.elapsed() < SAMPLE || done == 0.0 {
            if let Some(signal) = interrupt::received() {
                return Err(Failure::new(Code::General, format_args!("interrupted by signal {signal}")));
            }
            work()?;
            done += bytes as f64;
        }
        speeds.push(done / begin.elapsed().as_secs_f64());
    }
    speeds.sort_by(f64::total_cmp);
    Ok(speeds[SAMPLES / 2])
}

/// Reads from the start, once, as a plain program would: what is in the page cache comes from there.
fn read_speed(path: &PathBuf) -> Result<f64, Failure> {
    const MOST: u64 = 4 << 30;
    let input = Input::open(path, Role::Data)?;
    let mut buffer = vec![0; MIB];
    let begin = Instant::now();
    let mut limited = Read::take(&input.file as &File, MOST);
    let mut done: u64 = 0;
    loop {
        if let Some(signal) = interrupt::received() {
            return Err(Failure::new(Code::General, format_args!("interrupted by signal {signal}")));
        }
        match limited.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => done += count as u64,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Failure::system(format_args!("{path:?} cannot be read"), &error)),
        }
    }
    Ok(done as f64 / begin.elapsed().as_secs_f64() / GIB)
}

/// Bytes that no shortcut for zeros or repetitions applies to (xorshift64).
fn noise(bytes: usize) -> Result<Vec<u8>, Failure> {
    let mut data = Vec::new();
    data.try_reserve_exact(bytes).map_err(|_| {
        Failure::new(Code::Memory, format_args!("no memory for {} MiB of data", bytes / MIB))
            .hint("give a smaller --size")
    })?;
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    while data.len() < bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        data.extend_from_slice(&state.to_le_bytes());
    }
    Ok(data)
}

fn cpu_field<'a>(cpuinfo: &'a str, name: &str) -> Option<&'a str> {
    let line = cpuinfo.lines().find(|line| line.split(':').next().is_some_and(|key| key.trim() == name))?;
    line.split_once(':').map(|(_, value)| value.trim())
}

fn mebibytes(text: &str) -> Result<usize, String> {
    let range = || "not from 1 to 65536".to_owned();
    let size = usize::try_from(values::number(text)?).map_err(|_| range())?;
    if (1..=65536).contains(&size) { Ok(size) } else { Err(range()) }
}
