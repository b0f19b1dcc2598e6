//! `verity dump`: shows what a superblock says.

use std::path::PathBuf;

use clap::Args;

use super::layout::Layout;
use crate::cli::help::exit_codes;
use crate::cli::options::{AreaOptions, Common};
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
    pub(super) common: Common,
}

pub(super) fn run(arguments: &Arguments, session: &Session) -> Result<Code, Failure> {
    let area = AreaOptions { hash_offset: arguments.hash_offset, no_superblock: false };
    let hash = Input::open(&arguments.hash, Role::Hash)?;
    let layout = Layout::from_superblock(&hash, &area, session)?;
    session.print(
        || if session.quiet { String::new() } else { human::header(&arguments.hash, &layout, None) },
        || json::dumped(&arguments.hash, &layout),
    )?;
    Ok(Code::Success)
}
