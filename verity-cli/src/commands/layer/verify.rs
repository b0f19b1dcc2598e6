//! `verity layer verify`: a layer against a root hash.

use clap::Args;
use verity_core::block::RootHash;
use verity_core::tree::{self, Report};

use super::reading::SourceArguments;
use super::source::{self, Layer};
use crate::cli::help::exit_codes;
use crate::cli::options::{Common, WorkOptions};
use crate::cli::values;
use crate::commands::root::RootArguments;
use crate::commands::verify::refuse_other_root;
use crate::failure::{Code, Failure};
use crate::output::{self, dialects};
use crate::session::{Session, engine_options};

const HELP: &str = concat!(
    "\
Finds the tree by the layer's description, and checks every block of data and tree. Give the root hash from where nobody can alter it. Without \
one, that of the description counts: then it is known that layer and description belong together, and not whose they are. \
A root hash that contradicts the description is refused.

Nothing is printed if all is well. Else every bad block is listed, and the exit code is 2.

Examples:
  verity layer verify layer.erofs ROOT_HASH
  verity layer verify layer.erofs --root-hash-file trusted.roothash
  verity layer verify disk.raw
  verity layer verify layer.erofs ROOT_HASH --json | jq .intact

",
    exit_codes!()
);

/// Check a layer against a root hash
#[derive(Args, Debug)]
#[command(disable_help_flag = true, after_long_help = HELP)]
pub(super) struct Arguments {
    #[command(flatten)]
    source: SourceArguments,

    #[command(flatten)]
    root: RootArguments,

    /// List at most so many findings; the others are counted
    #[arg(long, value_name = "N", value_parser = values::count, default_value = "10000")]
    max_findings: usize,

    #[command(flatten)]
    work: WorkOptions,
    #[command(flatten)]
    pub(super) common: Common,
}

/// The result of a verification.
pub(crate) struct Verified {
    pub(crate) layer: Layer,
    pub(crate) root: RootHash,
    /// Whether the root hash was given, and not taken from the description.
    pub(crate) given: bool,
    pub(crate) report: Report,
}

pub(super) fn run(arguments: &Arguments, session: &Session) -> Result<Code, Failure> {
    let layer = Layer::open(&arguments.source, session)?;
    let (root, given) = layer.root(&arguments.root, session)?;
    let progress = session.progress();
    let options = tree::Options {
        max_findings: arguments.max_findings,
        ..engine_options(&progress, arguments.work.threads)
    };
    let (data, hash) = (layer.data(), layer.hash());
    let report = refuse_other_root(&data, &hash, &layer.layout, &root, &options)
        .and_then(|()| {
            let (params, geometry) = (&layer.layout.params, &layer.layout.geometry);
            tree::verify(&data, &hash, params, geometry, &root, &options)
        })
        .map_err(|error| source::failure(&layer, &error))?;
    drop(progress);
    let verified = Verified { layer, root, given, report };
    let intact = verified.report.is_intact();
    session.print(
        || if intact || session.quiet { String::new() } else { output::human::findings(&verified.report) },
        || dialects::verified_json(&verified),
    )?;
    if intact {
        return Ok(Code::Success);
    }
    let Report { bad_data_blocks, bad_hash_blocks, .. } = verified.report;
    let message = format!(
        "verification failed: {bad_data_blocks} data blocks and {bad_hash_blocks} hash blocks are bad"
    );
    let failure = Failure::new(Code::Refused, message).hint("do not use this layer; fetch or build it anew");
    // Where a document was asked for it has been printed.
    Ok(output::failure(&failure, session.personality, false))
}
