//! What layer is meant, and how it is described, as options say.

use std::path::PathBuf;

use clap::Args;
use verity_core::dialect::Dialect;

use super::describe;
use crate::cli::values;
use crate::failure::Failure;

/// What layer is meant, and how it is described.
#[derive(Args, Clone, Debug)]
pub(super) struct SourceArguments {
    /// The layer: a file or a block device
    #[arg(value_name = "LAYER")]
    pub(super) layer: PathBuf,

    #[command(flatten)]
    pub(super) reading: ReadingArguments,
}

/// How the description is found.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "The description")]
pub(super) struct ReadingArguments {
    /// The layer's dialect [default: the one that a description is there of]
    #[arg(long, value_name = "DIALECT", value_parser = values::dialect)]
    pub(super) from: Option<Dialect>,

    /// The file that describes the layer [default: as docs/dialects.md tells, beside the layer]
    #[arg(long, value_name = "PATH", requires = "from")]
    pub(super) description: Option<PathBuf>,

    /// Where the superblock is in the layer, where no description says so [default: it is looked for]
    #[arg(long, value_name = "BYTES", value_parser = values::number)]
    pub(super) hash_offset: Option<u64>,

    /// Which layer of its image a manifest speaks of, by the digest of that layer
    #[arg(long, value_name = "DIGEST")]
    pub(super) layer_digest: Option<String>,

    /// Whether the digest is for what is made, too.
    #[arg(skip)]
    digest_is_written: bool,
}

impl SourceArguments {
    /// The same, for a conversion to a dialect.
    pub(super) fn converted_to(&self, to: Dialect) -> Self {
        let digest_is_written = matches!(to, Dialect::Notation | Dialect::Bundle);
        Self { reading: ReadingArguments { digest_is_written, ..self.reading.clone() }, ..self.clone() }
    }
}

impl ReadingArguments {
    /// An option that means nothing for a layer of this dialect is not ignored.
    pub(super) fn check(&self, dialect: Dialect) -> Result<(), Failure> {
        use Dialect::{Bundle, Containerd, Ddi, Kata, Notation, Nydus, Systemd};
        let hint = "leave it out, or give another --from";
        if self.description.is_some() && describe::path("".as_ref(), dialect).is_none() {
            return Err(
                Failure::argument(format_args!("--description: {dialect} has no file of its own")).hint(hint)
            );
        }
        if self.hash_offset.is_some() && matches!(dialect, Containerd | Nydus | Kata | Systemd | Ddi) {
            return Err(Failure::argument(format_args!(
                "--hash-offset: {dialect} says itself where the tree is"
            ))
            .hint(hint));
        }
        let compared = self.digest_is_written || matches!(dialect, Notation | Bundle);
        if self.layer_digest.is_some() && !compared {
            return Err(Failure::argument(format_args!(
                "--layer-digest: {dialect} says no digest to compare it with"
            ))
            .hint("leave it out; it goes with --from notation or bundle, and with --to notation"));
        }
        Ok(())
    }
}
