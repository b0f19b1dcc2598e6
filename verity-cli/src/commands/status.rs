//! `verity status`: shows an active device.

use std::path::Path;

use clap::Args;
use verity_core::device::{self, Error, NameError, Verdict};

use super::kernel;
use crate::cli::help::exit_codes;
use crate::cli::options::Common;
use crate::failure::{Code, Failure};
use crate::output::{self, human, json};
use crate::session::Session;

const HELP: &str = concat!(
    "\
The status is the kernel's: 'verified' as long as every block that was read matched, 'corrupted' after the first that \
did not. A corrupted device is no failure of this command.

Examples:
  verity status layer
  verity status layer --json | jq -r .status

",
    exit_codes!()
);

/// Show an active device
#[derive(Args, Debug)]
#[command(disable_help_flag = true, after_long_help = HELP)]
pub(crate) struct Arguments {
    /// The device's name, or its path below /dev/mapper
    name: String,

    #[command(flatten)]
    pub(super) common: Common,
}

pub(super) fn run(arguments: &Arguments, session: &Session) -> Result<Code, Failure> {
    // What veritysetup makes of a name: of a path, a path.
    let made = format!("/dev/mapper/{}", arguments.name);
    let name = match kernel::parse(&arguments.name) {
        Ok(name) => name,
        Err(error @ NameError::TooLong { .. }) => {
            let text = kernel::too_long(&arguments.name);
            return Err(kernel::bad_name(&error, &arguments.name).veritysetup(Code::General, text));
        }
        Err(_) if session.is_veritysetup() => return inactive(&arguments.name, Path::new(&made), session),
        Err(error) => return Err(kernel::bad_name(&error, &arguments.name)),
    };
    let path = name.node();
    match device::query(&name) {
        Ok(info) => {
            let corrupted =
                info.mapping.as_ref().is_some_and(|mapping| mapping.status.verdict == Verdict::Corrupted);
            session
                .debug(|| format!("Device {name} is {}.", if corrupted { "corrupted" } else { "verified" }));
            session.print(
                || if session.quiet { String::new() } else { human::status(&path, &info) },
                || json::status(&info),
            )?;
            Ok(Code::Success)
        }
        Err(Error::NotActive { .. }) if session.is_veritysetup() => {
            inactive(&name.to_string(), Path::new(&made), session)
        }
        Err(Error::NotActive { .. }) => inactive(&name.to_string(), &path, session),
        Err(Error::NotVerity { found, .. }) if session.is_veritysetup() => {
            // One without a table has no type at all.
            if found != "empty" {
                output::write_result(&format!("{} is active.\n  type:        n/a\n", path.display()))?;
            }
            Ok(Code::General)
        }
        Err(error) => Err(kernel::failure(&error, session)),
    }
}

fn inactive(name: &str, path: &Path, session: &Session) -> Result<Code, Failure> {
    session.print(
        || if session.quiet { String::new() } else { format!("{} is inactive.\n", path.display()) },
        || json::inactive(name, path),
    )?;
    Ok(Code::NoDevice)
}
