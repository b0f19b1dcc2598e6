//! `verity close`: removes a verity device.

use clap::Args;
use verity_core::device::{self, Deactivated, DeviceName, Error, NameError, Removal};

use super::kernel;
use crate::cli::help::exit_codes;
use crate::cli::options::Common;
use crate::failure::{Code, Failure};
use crate::output::json;
use crate::session::Session;

const HELP: &str = concat!(
    "\
Loop devices that 'open' made go with the device. One that is only open for a moment, as udev does with a new one, is \
waited for.

Examples:
  verity close layer
  verity close --deferred layer
  verity close --cancel-deferred layer

",
    exit_codes!()
);

/// Remove a verity device
#[derive(Args, Debug)]
#[command(disable_help_flag = true, after_long_help = HELP)]
pub(crate) struct Arguments {
    /// The device's name, or its path below /dev/mapper
    name: String,

    /// Remove the device when it is last closed, if it is in use now
    #[arg(long, conflicts_with = "cancel_deferred")]
    deferred: bool,

    /// Take a deferred removal back
    #[arg(long)]
    cancel_deferred: bool,

    #[command(flatten)]
    pub(super) common: Common,
}

/// What became of the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Closed {
    Removed,
    Deferred,
    Kept,
}

pub(super) fn run(arguments: &Arguments, session: &Session) -> Result<Code, Failure> {
    let name = kernel::parse(&arguments.name).map_err(|error| {
        let text = match error {
            NameError::TooLong { .. } => kernel::too_long(&arguments.name),
            _ => format!("Device {} is not active.", arguments.name),
        };
        kernel::bad_name(&error, &arguments.name).veritysetup(Code::NoDevice, text)
    })?;
    let closed =
        close(arguments, &name, session).map_err(|error| failure(&error, &arguments.name, session))?;
    let human = || match closed {
        Closed::Deferred if !session.quiet => {
            format!("Device {name} is still active and scheduled for deferred removal.\n")
        }
        _ => String::new(),
    };
    session.print(human, || json::closed(&name, closed))?;
    Ok(Code::Success)
}

fn close(arguments: &Arguments, name: &DeviceName, session: &Session) -> Result<Closed, Error> {
    if arguments.cancel_deferred {
        device::cancel_deferred(name)?;
        return Ok(Closed::Kept);
    }
    let removal = if arguments.deferred { Removal::Deferred } else { Removal::Now };
    match device::deactivate(name, removal)? {
        Deactivated::Deferred => Ok(Closed::Deferred),
        Deactivated::Removed { attached } => {
            for loop_device in attached {
                session
                    .note(&format!("loop device {loop_device} below it stays: something else has it open"));
            }
            Ok(Closed::Removed)
        }
    }
}

/// veritysetup's `close` has another code where there is no device-mapper, and words of its own.
fn failure(error: &Error, name: &str, session: &Session) -> Failure {
    let failure = kernel::failure(error, session);
    match error {
        Error::NoDeviceMapper { .. } | Error::Permission { .. } => {
            let (_, text) = failure.as_veritysetup();
            failure.veritysetup(Code::NoDevice, text)
        }
        // As it was given, though it be a path.
        Error::NotActive { .. } => {
            failure.veritysetup(Code::NoDevice, format_args!("Device {name} is not active."))
        }
        _ => failure,
    }
}
