//! `verity list`: shows all active verity devices.

use clap::Args;
use verity_core::device;

use super::kernel;
use crate::cli::help::exit_codes;
use crate::cli::options::Common;
use crate::failure::{Code, Failure};
use crate::output::{human, json};
use crate::session::Session;

const HELP: &str = concat!(
    "\
Whoever made them. With --quiet only the names are printed. A device that cannot be described, such as one with an \
option that this version does not know, is listed with the reason.

Examples:
  verity list
  verity list --json | jq '.devices[] | select(.status == \"corrupted\") | .name'

",
    exit_codes!()
);

/// List the active verity devices
#[derive(Args, Debug)]
#[command(disable_help_flag = true, after_long_help = HELP)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(super) common: Common,
}

pub(super) fn run(_: &Arguments, session: &Session) -> Result<Code, Failure> {
    let devices = device::list().map_err(|error| kernel::failure(&error, session))?;
    session.print(
        || if session.quiet { human::names(&devices) } else { human::list(&devices) },
        || json::list(&devices),
    )?;
    Ok(Code::Success)
}
