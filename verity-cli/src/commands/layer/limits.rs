//! How much may come of a layer, as options say.

use clap::Args;
use verity_core::layer::Limits;

use crate::cli::values;

/// How much content there may be, which is all that matters where nothing is made of it.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Limits")]
pub(in crate::commands) struct ContentLimits {
    /// How many times as large as the file its content may be [default: 200]
    #[arg(long, value_name = "N", value_parser = values::number)]
    max_ratio: Option<u64>,

    /// How many bytes of content are allowed whatever the ratio [default: 1073741824]
    #[arg(long, value_name = "BYTES", value_parser = values::number)]
    max_bytes: Option<u64>,
}

/// Limits, the same for making a layer and for unpacking it.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Limits")]
pub(in crate::commands) struct LimitArguments {
    #[command(flatten)]
    content: ContentLimits,

    /// How many entries there may be [default: 8000000]
    #[arg(long, value_name = "N", value_parser = values::number)]
    max_entries: Option<u64>,

    /// How many bytes of memory names and attributes of entries may take [default: 1073741824]
    #[arg(long, value_name = "BYTES", value_parser = values::number)]
    max_memory: Option<u64>,
}

/// What to do about too much content.
pub(in crate::commands) const TRUSTED_CONTENT: &str =
    "if the layer is to be trusted, allow more with --max-ratio or --max-bytes";
/// What to do about too many entries, or too long ones.
pub(super) const TRUSTED_NAMES: &str =
    "if the layer is to be trusted, allow more with --max-entries or --max-memory; or split it";

impl ContentLimits {
    pub(in crate::commands) fn limits(&self) -> Limits {
        let mut limits = Limits::default();
        limits.ratio = self.max_ratio.unwrap_or(limits.ratio);
        limits.allowance = self.max_bytes.unwrap_or(limits.allowance);
        limits
    }
}

impl LimitArguments {
    pub(in crate::commands) fn limits(&self) -> Limits {
        let mut limits = self.content.limits();
        limits.entries = self.max_entries.unwrap_or(limits.entries);
        limits.memory = self.max_memory.unwrap_or(limits.memory);
        limits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The help says what the library does.
    #[test]
    fn defaults_are_as_told() {
        let Limits { ratio, allowance, entries, memory, .. } = Limits::default();
        assert_eq!((ratio, allowance, entries, memory), (200, 1_073_741_824, 8_000_000, 1_073_741_824));
    }
}
