//! `verity layer inspect`: what is said of a layer.

use clap::Args;

use super::reading::SourceArguments;
use super::source::Layer;
use crate::cli::help::exit_codes;
use crate::cli::options::Common;
use crate::failure::{Code, Failure};
use crate::output::dialects;
use crate::session::Session;

const HELP: &str = concat!(
    "\
Shows every description of a layer: those beside it, those in it, and what its superblock says. Nothing is checked against the tree, \
and nothing in a description can be trusted: 'verity layer verify' with a root hash from elsewhere says what a layer is worth. \
A description that cannot be read is shown with what is wrong with it; that is a failure only where there is no other.

Examples:
  verity layer inspect layer.erofs
  verity layer inspect layer.vhd --json | jq '.descriptions[].hash_offset'
  verity layer inspect disk.raw
  verity layer inspect layer.erofs --from notation --description manifest.json --layer-digest sha256:...

",
    exit_codes!()
);

/// Show what a layer is, and how it is described
#[derive(Args, Debug)]
#[command(disable_help_flag = true, after_long_help = HELP)]
pub(super) struct Arguments {
    #[command(flatten)]
    source: SourceArguments,
    #[command(flatten)]
    pub(super) common: Common,
}

pub(super) fn run(arguments: &Arguments, session: &Session) -> Result<Code, Failure> {
    let layers = Layer::open_all(&arguments.source, session)?;
    session.print(
        || if session.quiet { String::new() } else { dialects::inspected(&arguments.source.layer, &layers) },
        || dialects::inspected_json(&arguments.source.layer, &layers),
    )?;
    Ok(Code::Success)
}
