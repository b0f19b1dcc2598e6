//! `verity image`: whole images, from layouts, archives and registries. A subcommand a file.

mod build;
mod destination;
mod inspect;
mod ls;
mod mount;
mod mounting;
mod registry;
mod source;
mod umount;
mod verify;

use clap::{ArgAction, Args, Subcommand};

pub(crate) use build::BuiltImages;
pub(crate) use inspect::{Compared, Inspected, Role};
pub(crate) use mount::MountedImage;
pub(crate) use registry::reading_failure;
pub(crate) use umount::UnmountedImage;
pub(crate) use verify::{VerifiedImage, VerifiedImages};

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
  verity image inspect docker://registry.example/team/app:1 --platform linux/amd64
  verity image build oci:images:debian oci:verity
  verity image verify oci:verity:debian
  verity image mount oci:verity:debian /mnt
  verity image umount /mnt

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
    Build(Box<build::Arguments>),
    Inspect(inspect::Arguments),
    Ls(ls::Arguments),
    Mount(mount::Arguments),
    #[command(alias = "unmount")]
    Umount(umount::Arguments),
    Verify(verify::Arguments),
}

impl Arguments {
    pub(super) fn common(&self) -> &Common {
        match &self.command {
            Command::Build(arguments) => &arguments.common,
            Command::Inspect(arguments) => &arguments.common,
            Command::Ls(arguments) => &arguments.common,
            Command::Mount(arguments) => &arguments.common,
            Command::Umount(arguments) => &arguments.common,
            Command::Verify(arguments) => &arguments.common,
        }
    }
}

pub(super) fn run(arguments: &Arguments, session: &Session) -> Result<Code, Failure> {
    match &arguments.command {
        Command::Build(arguments) => build::run(arguments, session),
        Command::Inspect(arguments) => inspect::run(arguments, session),
        Command::Ls(arguments) => ls::run(arguments, session),
        Command::Mount(arguments) => mount::run(arguments, session),
        Command::Umount(arguments) => umount::run(arguments, session),
        Command::Verify(arguments) => verify::run(arguments, session),
    }
}
