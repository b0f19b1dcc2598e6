//! `verity image ls`: which images there are.

use clap::Args;

use super::source::SourceArguments;
use crate::cli::help::exit_codes;
use crate::cli::options::Common;
use crate::failure::{Code, Failure};
use crate::output::images;
use crate::session::Session;

const HELP: &str = concat!(
    "\
Shows a line for each image: its reference, its platform, how many layers it has, how many bytes these have as they are stored, and the digest of \
its manifest. Indexes are followed. What indexes list beside images (attestations, signatures) is counted and passed over.

Examples:
  verity image ls oci:images
  verity image ls oci-archive:images.tar --platform linux/arm64
  verity image ls docker://registry.example/team/app:1 --authfile auth.json
  verity image ls docker-archive:saved.tar --json | jq -r '.images[].reference'

",
    exit_codes!()
);

/// List the images of a layout or an archive
#[derive(Args, Debug)]
#[command(disable_help_flag = true, after_long_help = HELP)]
pub(super) struct Arguments {
    #[command(flatten)]
    source: SourceArguments,
    #[command(flatten)]
    pub(super) common: Common,
}

pub(super) fn run(arguments: &Arguments, session: &Session) -> Result<Code, Failure> {
    let name = &arguments.source.image;
    let found = arguments.source.images(None)?;
    if found.artifacts > 0 {
        session.note(&images::passed_over(found.artifacts));
    }
    session.print(|| images::listed(&found), || images::listed_json(name, &found))?;
    Ok(Code::Success)
}
