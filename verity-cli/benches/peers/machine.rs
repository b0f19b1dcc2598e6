//! What the figures were measured on, and how busy that was.

use std::fmt::Write;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use verity_core::algorithm::Algorithm;
use verity_core::digest::BackendKind;

use crate::child::own_cpu_seconds;
use crate::stop::{Result, Stop};
use crate::units::GIB;

/// Processor features that one of the programs could use for hashing.
const FEATURES: [&str; 9] =
    ["sha_ni", "avx2", "avx512f", "avx512bw", "avx512vl", "avx512ifma", "gfni", "vaes", "sha512"];

/// From here on a busy machine is worth a warning: this share of all processors' time.
const BUSY: f64 = 0.03;

pub(crate) struct Machine {
    processor: String,
    features: Vec<&'static str>,
    /// Processors that this process may use.
    pub(crate) cores: usize,
    memory: u64,
    kernel: String,
    load: String,
    /// The share of all processors' time that was in use before anything was measured.
    busy: f64,
}

impl Machine {
    /// Looks around; takes a second, in which nothing else is done.
    pub(crate) fn look() -> Result<Self> {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo")?;
        let field = |name: &str| {
            let line = cpuinfo.lines().find(|line| line.starts_with(name));
            line.and_then(|line| line.split_once(':')).map_or("", |(_, value)| value.trim())
        };
        let flags: Vec<&str> = field("flags").split_whitespace().collect();
        let before = Moment::now()?;
        thread::sleep(Duration::from_secs(1));
        Ok(Self {
            processor: field("model name").to_owned(),
            features: FEATURES.into_iter().filter(|feature| flags.contains(feature)).collect(),
            cores: thread::available_parallelism()?.get(),
            memory: meminfo("MemTotal")?,
            // What follows the version is a builder's own mark.
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")?
                .trim()
                .split('-')
                .next()
                .unwrap_or_default()
                .to_owned(),
            load: fs::read_to_string("/proc/loadavg")?
                .split_whitespace()
                .take(3)
                .collect::<Vec<_>>()
                .join(" "),
            busy: before.others_since()?,
        })
    }

    /// Whether it is one that the floors were set for.
    pub(crate) fn has_avx512_and_sha_ni() -> bool {
        BackendKind::Avx512.is_available() && BackendKind::ShaNi.is_available()
    }

    /// One line about what it is.
    pub(crate) fn description(&self) -> String {
        let Self { processor, features, cores, memory, kernel, .. } = self;
        let mut text = format!("{processor}, {cores} cores");
        let features =
            if features.is_empty() { "no vector extensions".to_owned() } else { features.join(" ") };
        let gib = *memory as f64 / GIB as f64;
        let _ = write!(text, " ({features}), {gib:.0} GiB of memory, Linux {kernel}");
        text
    }

    /// Fewer words about what it is.
    pub(crate) fn short(&self) -> String {
        format!("{}, {} cores", self.processor, self.cores)
    }

    pub(crate) fn load(&self) -> String {
        format!(
            "load average {} at the start, processors {:.0} % busy in the second before",
            self.load,
            self.busy * 100.0
        )
    }

    /// What makes the figures doubtful, if anything does.
    pub(crate) fn warning(&self) -> Option<String> {
        (self.busy > BUSY).then(|| {
            format!(
                "this machine is not idle ({:.0} % of its processors is in use): the figures will be worse than they \
                 could be",
                self.busy * 100.0
            )
        })
    }
}

/// The backends for an algorithm that this machine runs, the fastest first, all but the portable one.
pub(crate) fn kernels(algorithm: Algorithm) -> impl Iterator<Item = BackendKind> {
    BackendKind::ALL
        .into_iter()
        .filter(move |kind| *kind != BackendKind::Portable && kind.covers(algorithm) && kind.is_available())
}

/// A field of `/proc/meminfo`, in bytes.
pub(crate) fn meminfo(name: &str) -> Result<u64> {
    let text = fs::read_to_string("/proc/meminfo")?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok())
        .and_then(|kib| kib.checked_mul(1024))
        .ok_or_else(|| Stop::failed(format_args!("/proc/meminfo says nothing of {name}")))
}

/// The processors' time up to a point.
pub(crate) struct Moment {
    at: Instant,
    /// Ticks, of all processors together.
    busy: u64,
    all: u64,
    own: f64,
    processors: u32,
}

impl Moment {
    pub(crate) fn now() -> Result<Self> {
        let stat = fs::read_to_string("/proc/stat")?;
        let total = stat.lines().next().and_then(|line| line.strip_prefix("cpu "));
        let total = total.ok_or_else(|| Stop::failed("/proc/stat is not understood"))?;
        let ticks: Vec<u64> = total.split_whitespace().map_while(|field| field.parse().ok()).collect();
        // user nice system idle iowait irq softirq steal; guests' time is within the first two.
        let all = ticks.iter().take(8).sum();
        let idle: u64 = ticks.iter().skip(3).take(2).sum();
        let processors = stat.lines().skip(1).take_while(|line| line.starts_with("cpu")).count();
        Ok(Self {
            at: Instant::now(),
            busy: all - idle,
            all,
            own: own_cpu_seconds()?,
            processors: u32::try_from(processors).unwrap_or(u32::MAX).max(1),
        })
    }

    /// The share of all processors' time since then that went to others: other programs, the kernel's own threads, and
    /// the host of a virtual machine.
    pub(crate) fn others_since(&self) -> Result<f64> {
        let now = Self::now()?;
        let all = now.all.saturating_sub(self.all).max(1);
        let busy = now.busy.saturating_sub(self.busy) as f64 / all as f64;
        let elapsed = (now.at - self.at).as_secs_f64() * f64::from(self.processors);
        Ok((busy - (now.own - self.own) / elapsed).max(0.0))
    }
}

/// While it lives, this thread and what it starts run on one core.
pub(crate) struct Pinned(CpuSet);

impl Pinned {
    /// Takes the last core: the first one has most of a machine's interrupts.
    pub(crate) fn to_one_core() -> Result<Self> {
        let this_thread = Pid::from_raw(0);
        let before = sched_getaffinity(this_thread)?;
        let last = (0..CpuSet::count()).rev().find(|&core| before.is_set(core) == Ok(true));
        let mut one = CpuSet::new();
        one.set(last.ok_or_else(|| Stop::failed("this thread may run nowhere"))?)?;
        sched_setaffinity(this_thread, &one)?;
        Ok(Self(before))
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // It was allowed there before.
        let _ = sched_setaffinity(Pid::from_raw(0), &self.0);
    }
}
