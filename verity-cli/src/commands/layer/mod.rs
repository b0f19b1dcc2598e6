//! `verity layer`: images with their trees, in the forms that container runtimes keep them in. A subcommand a file.

mod adopt;
mod convert;
mod describe;
mod inspect;
mod making;
mod source;
mod verify;

use clap::{ArgAction, Args, Subcommand};

pub(crate) use convert::Converted;
pub(crate) use source::Layer;
pub(crate) use verify::Verified;

use crate::cli::help::exit_codes;
use crate::cli::options::Common;
use crate::failure::{Code, Failure};
use crate::session::Session;

const HELP: &str = concat!(
    "\
A layer blob is a file system image with superblock and hash tree behind it. Other projects write down where the tree is and what its root \
hash is, each in its own way; docs/dialects.md has them all. 'verity help layer COMMAND' explains a command.

Examples:
  verity layer adopt image.squashfs layer.squashfs
  verity layer inspect layer.erofs
  verity layer verify layer.erofs ROOT_HASH
  verity layer convert layer.erofs layer.vhd --to vhd

",
    exit_codes!()
);

/// Layers of container images: what they are, and in which dialect
///
/// Makes, describes, checks and converts layers: images with a hash tree.
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
    Adopt(Box<adopt::Arguments>),
    Convert(Box<convert::Arguments>),
    Inspect(inspect::Arguments),
    Verify(verify::Arguments),
}

impl Arguments {
    pub(super) fn common(&self) -> &Common {
        match &self.command {
            Command::Adopt(arguments) => &arguments.common,
            Command::Convert(arguments) => &arguments.common,
            Command::Inspect(arguments) => &arguments.common,
            Command::Verify(arguments) => &arguments.common,
        }
    }
}

pub(super) fn run(arguments: Arguments, session: &Session) -> Result<Code, Failure> {
    match arguments.command {
        Command::Adopt(arguments) => adopt::run(&arguments, session),
        Command::Convert(arguments) => convert::run(&arguments, session),
        Command::Inspect(arguments) => inspect::run(&arguments, session),
        Command::Verify(arguments) => verify::run(&arguments, session),
    }
}
