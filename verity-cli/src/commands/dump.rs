//! `verity dump`: shows what a superblock says.

use std::path::PathBuf;

use clap::Args;

use super::layout::Layout;
use super::parity::Parity;
use crate::cli::help::exit_codes;
use crate::cli::options::{AreaOptions, Common, FecOptions};
use crate::cli::values;
use crate::failure::{Code, Failure};
use crate::files::{Input, Role};
use crate::output::{human, json};
use crate::session::Session;

const HELP: &str = concat!(
    "\
Nothing in a superblock can be trusted: anyone who can write to the hash device can make it say anything. Only \
'verify' and 'open', with a root hash from elsewhere, say whether the data is what it should be.

Examples:
  verity dump image.verity
  verity dump image.img --hash-offset 8388608
  verity dump image.verity --json | jq .data_blocks
  verity dump image.verity --fec-device image.fec --fec-roots 8

",
    exit_codes!()
);

/// Show what the superblock on a hash device says
#[derive(Args, Debug)]
#[command(disable_help_flag = true, after_long_help = HELP)]
pub(crate) struct Arguments {
    /// Where the hash tree is: a file or a block device
    hash: PathBuf,

    /// Start of the hash area on the hash device, a multiple of 512
    #[arg(long, value_name = "BYTES", value_parser = values::number, default_value = "0")]
    hash_offset: u64,

    #[command(flatten)]
    fec: FecOptions,
    #[command(flatten)]
    pub(super) common: Common,
}

pub(super) fn run(arguments: &Arguments, session: &Session) -> Result<Code, Failure> {
    let area = AreaOptions { hash_offset: arguments.hash_offset, no_superblock: false };
    let hash = Input::open(&arguments.hash, Role::Hash)?;
    let layout = Layout::from_superblock(&hash, &area, session)?;
    let parity = parity(arguments, &hash, &layout, session)?;
    let parity = parity.as_ref();
    session.print(
        || if session.quiet { String::new() } else { human::header(&arguments.hash, &layout, parity, None) },
        || json::dumped(&arguments.hash, &layout, parity),
    )?;
    Ok(Code::Success)
}

/// What the options and the superblock together say of the parity. Whether it is there is not looked at.
fn parity(
    arguments: &Arguments,
    hash: &Input,
    layout: &Layout,
    session: &Session,
) -> Result<Option<Parity>, Failure> {
    let Some(device) = arguments.fec.device(session)? else { return Ok(None) };
    let with_hash = Input::open(device, Role::Parity)?.extent == hash.extent;
    let Layout { params, geometry, .. } = layout;
    Parity::new(device, &arguments.fec, params, geometry, with_hash, hash.size).map(Some)
}
