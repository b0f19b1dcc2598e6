//! Runs a program and takes its time.

use std::process::{Command, Stdio};
use std::time::Instant;

use nix::sys::resource::{Usage, UsageWho, getrusage};
use nix::sys::time::{TimeVal, TimeValLike};

use crate::statistics::Sample;
use crate::stop::{Result, Stop};

/// A program that has ended well.
#[derive(Debug)]
pub(crate) struct Finished {
    /// From before it was started until it was waited for.
    pub(crate) sample: Sample,
    pub(crate) stdout: String,
    /// What came from a disk and not from the page cache.
    pub(crate) bytes_from_disk: u64,
}

/// Runs to the end. Anything but success stops the benchmark, with what the program had to say.
pub(crate) fn run(command: &mut Command) -> Result<Finished> {
    match attempt(command)? {
        Ok(finished) => Ok(finished),
        Err(said) => Err(Stop::failed(format_args!("{command:?} failed: {said}"))),
    }
}

/// Runs to the end; the inner error is what a program said that failed.
pub(crate) fn attempt(command: &mut Command) -> Result<std::result::Result<Finished, String>> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let before = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let begin = Instant::now();
    let output = command
        .spawn()
        .and_then(std::process::Child::wait_with_output)
        .map_err(|error| Stop::failed(format_args!("{command:?}: {error}")))?;
    let wall = begin.elapsed().as_secs_f64();
    // No other child is waited for meanwhile: the difference is this one's.
    let after = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Ok(Err(format!("{} ({said})", output.status)));
    }
    let blocks = after.block_reads().saturating_sub(before.block_reads());
    Ok(Ok(Finished {
        sample: Sample { wall, cpu: Some(cpu_seconds(&after) - cpu_seconds(&before)) },
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        // The kernel counts in units of 512 bytes.
        bytes_from_disk: u64::try_from(blocks).unwrap_or(0).saturating_mul(512),
    }))
}

/// Processor time over all cores, of this process and of the children that it has waited for.
pub(crate) fn own_cpu_seconds() -> Result<f64> {
    let own = getrusage(UsageWho::RUSAGE_SELF)?;
    let children = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    Ok(cpu_seconds(&own) + cpu_seconds(&children))
}

fn cpu_seconds(usage: &Usage) -> f64 {
    let seconds = |time: TimeVal| time.num_microseconds() as f64 / 1e6;
    seconds(usage.user_time()) + seconds(usage.system_time())
}
