//! `verity image umount`: takes a mounted image away.

use std::path::PathBuf;

use clap::Args;
use verity_core::mount::{self, Unmounted, Until};

use super::mounting;
use crate::cli::help::exit_codes;
use crate::cli::options::Common;
use crate::failure::{Code, Failure};
use crate::output::mounts;
use crate::session::Session;

const HELP: &str = concat!(
    "\
Unmounts, and waits until the devices and loop devices are gone, too; those of layers that other mounted images have stay. umount(8) does the same without \
waiting. A mount that is in use stays, and who uses it is told.

With --lazy it cannot be found any more from now on. Whoever uses it goes on; when the last one is done the devices go.

Examples:
  verity image umount /mnt
  verity image umount --lazy /mnt

",
    exit_codes!()
);

/// Unmount an image, and wait until its devices are gone
#[derive(Args, Debug)]
#[command(disable_help_flag = true, after_long_help = HELP)]
pub(super) struct Arguments {
    /// Where it is mounted
    target: PathBuf,

    /// Detach it now, though it is in use
    #[arg(short, long)]
    lazy: bool,

    #[command(flatten)]
    pub(super) common: Common,
}

/// An image that was unmounted.
pub(crate) struct UnmountedImage {
    pub(crate) target: PathBuf,
    pub(crate) unmounted: Unmounted,
}

pub(super) fn run(arguments: &Arguments, session: &Session) -> Result<Code, Failure> {
    let until = if arguments.lazy { Until::Detached } else { Until::Gone };
    let progress = session.progress();
    let unmounted = mount::unmount(&arguments.target, until, &progress)
        .map_err(|error| mounting::failure(&error, session))?;
    drop(progress);
    let unmounted = UnmountedImage { target: arguments.target.clone(), unmounted };
    session.print(String::new, || mounts::unmounted_json(&unmounted))?;
    Ok(Code::Success)
}
