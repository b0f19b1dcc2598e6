//! Progress bars, and the observer through which work hears of signals.

use std::io::IsTerminal;
use std::sync::OnceLock;

use indicatif::{ProgressBar, ProgressStyle};
use verity_core::progress::{Observer, Phase};

use crate::interrupt;

/// Draws a bar on standard error if that is a terminal, and cancels when a signal came.
pub(crate) struct Progress {
    draw: bool,
    bar: OnceLock<ProgressBar>,
}

impl Progress {
    pub(crate) fn new(wanted: bool) -> Self {
        Self { draw: wanted && std::io::stderr().is_terminal(), bar: OnceLock::new() }
    }
}

impl Observer for Progress {
    fn begin(&self, phase: Phase, total_bytes: Option<u64>) {
        if !self.draw {
            return;
        }
        let bar = self.bar.get_or_init(|| match total_bytes {
            Some(total) => ProgressBar::new(total).with_style(style(
                "{msg} {bar:40} {percent:>3}% {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left",
            )),
            None => ProgressBar::no_length().with_style(style("{msg} {bytes}, {bytes_per_sec}")),
        });
        // One piece of work after the other draws the same bar.
        bar.set_position(0);
        if let Some(total) = total_bytes {
            bar.set_length(total);
        }
        bar.set_message(doing(phase));
    }

    fn advance(&self, bytes: u64) {
        if let Some(bar) = self.bar.get() {
            bar.inc(bytes);
        }
    }

    fn cancelled(&self) -> bool {
        interrupt::received().is_some()
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = self.bar.get() {
            bar.finish_and_clear();
        }
    }
}

/// A phase in words.
pub(super) const fn doing(phase: Phase) -> &'static str {
    match phase {
        Phase::Verify => "Verifying",
        Phase::Compare => "Comparing",
        Phase::Extract => "Copying",
        Phase::Parity => "Making parity",
        Phase::Repair => "Restoring",
        Phase::Convert => "Reading",
        _ => "Hashing",
    }
}

pub(super) fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
