//! `verity recover`: finishes a change in place that was cut off.

use std::path::PathBuf;

use clap::Args;
use verity_core::journal::Recovery;

use crate::cli::help::exit_codes;
use crate::cli::options::Common;
use crate::failure::{Code, Failure};
use crate::files::{self, Role};
use crate::output::json;
use crate::session::Session;

const HELP: &str = concat!(
    "\
'verity update --in-place' and 'verity repair --in-place' keep their changes in a journal beside the hash device, or the data \
device, until they are complete. If one was cut off, this finishes them, or finds that none was begun; then the journal is deleted. Without a journal there is \
nothing to do, and that is no error.

Examples:
  verity recover image.verity
  verity recover image.erofs
  verity recover /dev/vg/hash --journal /var/lib/verity/hash.journal

",
    exit_codes!()
);

/// Finish a change in place that was cut off
#[derive(Args, Debug)]
#[command(disable_help_flag = true, after_long_help = HELP)]
pub(crate) struct Arguments {
    /// The device that was being changed: a file or a block device
    hash: PathBuf,

    /// Where the journal lies [default: the device's name with .verity-journal]
    #[arg(long, value_name = "PATH")]
    journal: Option<PathBuf>,

    #[command(flatten)]
    pub(super) common: Common,
}

pub(super) fn run(arguments: &Arguments, session: &Session) -> Result<Code, Failure> {
    let hash = &arguments.hash;
    let journal = files::journal_path(hash, Role::Hash, arguments.journal.as_deref(), "--journal")?;
    let (outcome, text) = match files::recover(hash, Role::Hash, &journal)? {
        None => ("nothing", format!("{}: no journal, nothing to do\n", hash.display())),
        Some(Recovery::Finished { .. }) => {
            ("finished", format!("{}: the change is complete now\n", hash.display()))
        }
        Some(_) => ("never-begun", format!("{}: the change had not begun, and is dropped\n", hash.display())),
    };
    session.print(|| if session.quiet { String::new() } else { text }, || json::recovered(hash, outcome))?;
    Ok(Code::Success)
}
