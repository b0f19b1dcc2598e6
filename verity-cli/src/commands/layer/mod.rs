//! `verity layer`: images with their trees, in the forms that container runtimes keep them in. A subcommand a file.

mod adopt;
mod build;
mod convert;
mod describe;
mod extract;
mod inspect;
mod limits;
mod making;
mod mkfs;
mod reading;
mod source;
mod verify;

use clap::{ArgAction, Args, Subcommand};

pub(crate) use build::Built;
pub(super) use build::{block_size, failure};
pub(crate) use convert::Converted;
pub(crate) use extract::Unpacked;
pub(super) use limits::{ContentLimits, LimitArguments, TRUSTED_CONTENT};
pub(crate) use source::{Layer, Opened};
pub(crate) use verify::Verified;

use crate::cli::help::exit_codes;
use crate::cli::options::Common;
use crate::failure::{Code, Failure};
use crate::session::Session;

const HELP: &str = concat!(
    "\
A layer blob is a file system image with superblock and hash tree behind it; docs/layer-format.md describes it. Other projects write down where \
the tree is and what its root hash is, each in its own way; docs/dialects.md has them all. 'verity help layer COMMAND' explains a command.

Examples:
  verity layer build layer.tar.gz layer.erofs
  verity layer extract layer.erofs ROOT_HASH layer.tar
  verity layer adopt image.squashfs layer.squashfs
  verity layer inspect layer.erofs
  verity layer verify layer.erofs ROOT_HASH
  verity layer convert layer.erofs layer.vhd ROOT_HASH --to vhd

",
    exit_codes!()
);

/// Layers of container images: from a tar to a file that the kernel checks, and in which dialect
///
/// Makes, describes, checks, converts and unpacks layers: images with a hash tree.
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
    Build(Box<build::Arguments>),
    Extract(Box<extract::Arguments>),
    Adopt(Box<adopt::Arguments>),
    Convert(Box<convert::Arguments>),
    Inspect(inspect::Arguments),
    Verify(verify::Arguments),
}

impl Arguments {
    pub(super) fn common(&self) -> &Common {
        match &self.command {
            Command::Adopt(arguments) => &arguments.common,
            Command::Build(arguments) => &arguments.common,
            Command::Convert(arguments) => &arguments.common,
            Command::Extract(arguments) => &arguments.common,
            Command::Inspect(arguments) => &arguments.common,
            Command::Verify(arguments) => &arguments.common,
        }
    }

    /// Whether standard output is for data.
    pub(super) fn prints_data(&self) -> bool {
        matches!(&self.command, Command::Extract(arguments) if arguments.prints_data())
    }
}

pub(super) fn run(arguments: Arguments, session: &Session) -> Result<Code, Failure> {
    match arguments.command {
        Command::Build(arguments) => build::run(&arguments, session),
        Command::Extract(arguments) => extract::run(*arguments, session),
        Command::Adopt(arguments) => adopt::run(&arguments, session),
        Command::Convert(arguments) => convert::run(&arguments, session),
        Command::Inspect(arguments) => inspect::run(&arguments, session),
        Command::Verify(arguments) => verify::run(&arguments, session),
    }
}
