//! Progress over several layers: a bar for each that is worked on, and one for all of them.

use std::io::IsTerminal;

use indicatif::{MultiProgress, ProgressBar};
use verity_core::oci::{Descriptor, Watcher};
use verity_core::progress::{Observer, Phase};

use super::progress::{doing, style};
use crate::interrupt;

/// Draws bars on standard error if that is a terminal, and cancels when a signal came.
pub(crate) struct LayersProgress {
    bars: Option<(MultiProgress, ProgressBar)>,
}

impl LayersProgress {
    pub(crate) fn new(wanted: bool) -> Self {
        let bars = (wanted && std::io::stderr().is_terminal()).then(|| {
            let bars = MultiProgress::new();
            let total = bars.add(ProgressBar::new(0).with_style(style(
                "all layers      {bar:40} {percent:>3}% {bytes} of {total_bytes}, {elapsed}",
            )));
            (bars, total)
        });
        Self { bars }
    }
}

impl Watcher for LayersProgress {
    fn plan(&self, total_bytes: u64) {
        if let Some((_, total)) = &self.bars {
            total.set_length(total.length().unwrap_or(0).saturating_add(total_bytes));
        }
    }

    fn layer(&self, layer: &Descriptor) -> Box<dyn Observer + '_> {
        let Some((bars, total)) = &self.bars else { return Box::new(()) };
        let bar = ProgressBar::new(layer.size)
            .with_style(style("{prefix}    {bar:40} {percent:>3}% {bytes} of {total_bytes}, {msg}"))
            .with_prefix(hex_start(layer));
        Box::new(LayerBar(bars.insert_before(total, bar)))
    }

    fn done(&self, blob_bytes: u64) {
        if let Some((_, total)) = &self.bars {
            total.inc(blob_bytes);
        }
    }

    fn cancelled(&self) -> bool {
        interrupt::received().is_some()
    }
}

impl Drop for LayersProgress {
    fn drop(&mut self) {
        if let Some((_, total)) = &self.bars {
            total.finish_and_clear();
        }
    }
}

/// As much of a digest as people look at.
fn hex_start(layer: &Descriptor) -> String {
    layer.digest.as_bytes().iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}

/// The bar of one layer.
struct LayerBar(ProgressBar);

impl Observer for LayerBar {
    fn begin(&self, phase: Phase, total_bytes: Option<u64>) {
        // One piece of work after the other draws the same bar.
        self.0.set_position(0);
        if let Some(total) = total_bytes {
            self.0.set_length(total);
        }
        self.0.set_message(doing(phase));
    }

    fn advance(&self, bytes: u64) {
        self.0.inc(bytes);
    }
}

impl Drop for LayerBar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
