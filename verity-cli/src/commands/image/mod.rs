//! `verity image`: whole images, from layouts, archives and registries. A subcommand a file.

mod inspect;
mod ls;
mod source;

use clap::{ArgAction, Args, Subcommand};

pub(crate) use inspect::{Compared, Inspected, Role};

use crate::cli::help::exit_codes;
use crate::cli::options::Common;
use crate::failure::{Code, Failure};
use crate::session::Session;

const HELP: &str = concat!(
    "\
Images have skopeo's names: oci:DIR[:REFERENCE], oci-archive:FILE[:REFERENCE], docker-archive:FILE[:NAME:TAG], docker://[HOST/]NAME[:TAG]. \
In place of a reference @DIGEST or @NUMBER selects what an index lists. docs/images.md tells what is read, and what is refused. \
'verity help image COMMAND' explains a command.

Examples:
  verity image ls oci:images
  verity image inspect oci:images:debian --platform linux/amd64
  verity image inspect docker-archive:saved.tar --base oci:images:debian

",
    exit_codes!()
);

/// Container images: their layers, made and mounted with hash trees
///
/// Shows images of layouts and archives, and works with them.
#[derive(Args, Debug)]
#[command(disable_help_flag = true, after_long_help = HELP)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,

    /// Show this help
    #[arg(long, short = '?', action = ArgAction::HelpLong)]
    help: Option<bool>,
}

#[derive(Debug, Subcommand)]
enum Command {
    Inspect(inspect::Arguments),
    Ls(ls::Arguments),
}

impl Arguments {
    pub(super) fn common(&self) -> &Common {
        match &self.command {
            Command::Inspect(arguments) => &arguments.common,
            Command::Ls(arguments) => &arguments.common,
        }
    }
}

pub(super) fn run(arguments: &Arguments, session: &Session) -> Result<Code, Failure> {
    match &arguments.command {
        Command::Inspect(arguments) => inspect::run(arguments, session),
        Command::Ls(arguments) => ls::run(arguments, session),
    }
}
