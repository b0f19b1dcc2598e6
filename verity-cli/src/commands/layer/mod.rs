//! `verity layer`: images with their trees, in the forms that container runtimes keep them in. A subcommand a file.

mod build;
mod extract;

use clap::{ArgAction, Args, Subcommand};

pub(crate) use build::Built;
pub(crate) use extract::Unpacked;

use crate::cli::help::exit_codes;
use crate::cli::options::Common;
use crate::failure::{Code, Failure};
use crate::session::Session;

const HELP: &str = concat!(
    "\
A layer blob is a file system image with superblock and hash tree behind it; docs/layer-format.md describes it. 'verity help layer \
COMMAND' explains a command.

Examples:
  verity layer build layer.tar.gz layer.erofs
  verity layer extract layer.erofs ROOT_HASH layer.tar

",
    exit_codes!()
);

/// Layers of container images: from a tar to a file that the kernel checks, and back
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
}

impl Arguments {
    pub(super) fn common(&self) -> &Common {
        match &self.command {
            Command::Build(arguments) => &arguments.common,
            Command::Extract(arguments) => &arguments.common,
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
    }
}
