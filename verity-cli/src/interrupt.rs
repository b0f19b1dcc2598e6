//! Signals that ask this process to stop.
//!
//! The first one is only noted: work sees it through [`received`], stops, and cleans up. The second one ends the
//! process at once.

use std::io;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::flag;

/// The number of the signal that was received, or 0.
static RECEIVED: OnceLock<Arc<AtomicUsize>> = OnceLock::new();

/// Notes signals from now on.
pub(crate) fn watch() -> io::Result<()> {
    let received = Arc::clone(RECEIVED.get_or_init(Arc::default));
    let again = Arc::new(AtomicBool::new(false));
    let ignored = ignored();
    for (signal, number) in [(SIGHUP, 1), (SIGINT, 2), (SIGTERM, 15)] {
        if ignored & 1 << (number - 1) != 0 {
            // As under nohup: whoever started this process wants it to go on.
            continue;
        }
        // In this order: the first signal passes the first line and sets what the second one finds there.
        flag::register_conditional_default(signal, Arc::clone(&again))?;
        flag::register(signal, Arc::clone(&again))?;
        flag::register_usize(signal, Arc::clone(&received), number)?;
    }
    // A write past the file size limit is then an error that can be told, and not the end of this process.
    flag::register(SIGXFSZ, Arc::default())?;
    Ok(())
}

/// The signal that asked this process to stop, if one did.
pub(crate) fn received() -> Option<i32> {
    match RECEIVED.get()?.load(Ordering::Relaxed) {
        0 => None,
        number => i32::try_from(number).ok(),
    }
}

/// Ends the process as the signal would have, or with 128 and its number where it cannot.
pub(crate) fn end_by(signal: i32) -> ExitCode {
    let _ = signal_hook::low_level::emulate_default_handler(signal);
    ExitCode::from(u8::try_from(128 + signal).unwrap_or(u8::MAX))
}

/// The signals that this process was started to ignore, signal 1 in bit 0.
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}
