//! `verity attach-all` and `verity detach-all`: the devices that a veritytab lists.

use std::path::{Path, PathBuf};

use clap::Args;
use verity_core::device::{self, Activation, DeviceName, Error, Removal};
use verity_core::tree;
use verity_core::veritytab::{self, Entry, VeritytabError};

use super::open::Request;
use super::root::RootText;
use super::{engine, kernel};
use crate::cli::help::exit_codes;
use crate::cli::options::{AreaOptions, Common, FecOptions, TreeOptions};
use crate::failure::{Code, Failure};
use crate::files::veritytab as file;
use crate::interrupt;
use crate::output::{self, json};
use crate::session::Session;

const ATTACH_HELP: &str = concat!(
    "\
Each line of the file is a device: name, data device, hash device, root hash, options; docs/veritytab.md lists the \
options. Every device is checked as 'open' checks one. A device that is active already and the same in everything is \
left as it is; one that differs is an error. Entries with 'noauto' are left out. One entry's failure does not keep the \
others from being activated: the exit code is that of the first entry that failed, unless it has 'nofail'.

Examples:
  verity attach-all
  verity attach-all /run/veritytab -q
  verity attach-all --json | jq -r '.entries[] | select(.result == \"failed\") | .error.message'

",
    exit_codes!()
);

const DETACH_HELP: &str = concat!(
    "\
The last line's device goes first. Entries that are not active are left alone, and so are those with \
'x-initrd.attach', which hold the root file system: 'verity close' closes them where it is unmounted.

Examples:
  verity detach-all
  verity detach-all --deferred /run/veritytab

",
    exit_codes!()
);

/// Activate the devices that a veritytab lists
#[derive(Args, Debug)]
#[command(disable_help_flag = true, after_long_help = ATTACH_HELP)]
pub(crate) struct AttachArguments {
    #[command(flatten)]
    table: TableArguments,
}

/// Remove the devices that a veritytab lists
#[derive(Args, Debug)]
#[command(disable_help_flag = true, after_long_help = DETACH_HELP)]
pub(crate) struct DetachArguments {
    /// Remove each device when it is last closed, if it is in use now
    #[arg(long)]
    deferred: bool,

    #[command(flatten)]
    table: TableArguments,
}

#[derive(Args, Debug)]
struct TableArguments {
    /// The veritytab
    #[arg(value_name = "VERITYTAB", default_value = "/etc/veritytab")]
    path: PathBuf,

    #[command(flatten)]
    common: Common,
}

impl AttachArguments {
    pub(super) fn common(&self) -> &Common {
        &self.table.common
    }
}

impl DetachArguments {
    pub(super) fn common(&self) -> &Common {
        &self.table.common
    }
}

/// What became of a line.
pub(crate) struct Attached {
    pub(crate) line: usize,
    /// None for a line that means nothing.
    pub(crate) name: Option<DeviceName>,
    pub(crate) required: bool,
    pub(crate) outcome: Outcome,
}

/// What was done about a device.
pub(crate) enum Outcome {
    Attached,
    AlreadyActive,
    Detached,
    Deferred,
    NotActive,
    LeftOut,
    Failed(Failure),
}

impl Outcome {
    /// A stable name, for machine-readable output.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Attached => "attached",
            Self::AlreadyActive => "already-active",
            Self::Detached => "detached",
            Self::Deferred => "deferred",
            Self::NotActive => "not-active",
            Self::LeftOut => "left-out",
            Self::Failed(_) => "failed",
        }
    }

    const fn text(&self) -> &'static str {
        match self {
            Self::AlreadyActive => "already active",
            Self::Deferred => "in use, detached when it is closed",
            Self::NotActive => "not active",
            Self::LeftOut => "left out",
            other => other.name(),
        }
    }
}

pub(super) fn attach_all(arguments: &AttachArguments, session: &Session) -> Result<Code, Failure> {
    let path = &arguments.table.path;
    let lines = veritytab::parse(&file::read(path)?);
    run(lines, "attach-all", path, session, |entry| {
        if entry.automatic { attach(entry, session) } else { Ok(Outcome::LeftOut) }
    })
}

pub(super) fn detach_all(arguments: &DetachArguments, session: &Session) -> Result<Code, Failure> {
    let path = &arguments.table.path;
    let removal = if arguments.deferred { Removal::Deferred } else { Removal::Now };
    let mut lines = veritytab::parse(&file::read(path)?);
    // A device can be made of those before it.
    lines.reverse();
    run(lines, "detach-all", path, session, |entry| {
        if entry.initrd { Ok(Outcome::LeftOut) } else { detach(&entry.name, removal, session) }
    })
}

/// Does `work` for each entry, tells what became of it, and goes on.
fn run(
    lines: Vec<Result<Entry, VeritytabError>>,
    command: &str,
    path: &Path,
    session: &Session,
    work: impl Fn(&Entry) -> Result<Outcome, Failure>,
) -> Result<Code, Failure> {
    let mut all = Vec::with_capacity(lines.len());
    let mut code = Code::Success;
    for line in lines {
        if interrupt::received().is_some() {
            return Err(engine::failure(&tree::Error::Cancelled, |_| String::new()));
        }
        let done = match line {
            Ok(entry) => Attached {
                line: entry.line,
                required: entry.required,
                outcome: work(&entry)
                    .map_err(|failure| failure.within(&entry))
                    .unwrap_or_else(Outcome::Failed),
                name: Some(entry.name),
            },
            // It may be the line of one that is required.
            Err(error) => Attached {
                line: error.line,
                name: None,
                required: true,
                outcome: Outcome::Failed(
                    Failure::argument(format_args!("{path:?}: {error}"))
                        .hint("docs/veritytab.md lists fields and options"),
                ),
            },
        };
        let failed = tell(&done, session)?;
        if code == Code::Success {
            code = failed;
        }
        all.push(done);
    }
    if session.json {
        session.print(String::new, || json::veritytab(command, path, &all))?;
    }
    Ok(code)
}

/// Tells what became of an entry as soon as that is known: its exit code.
fn tell(done: &Attached, session: &Session) -> Result<Code, Failure> {
    match (&done.outcome, &done.name) {
        (Outcome::Failed(failure), _) if done.required => {
            // The document is printed when all is done.
            return Ok(output::failure(failure, session.personality, false));
        }
        (Outcome::Failed(failure), _) => session.note(&format!("{} (nofail)", failure.message)),
        (outcome, Some(name)) if !session.quiet && !session.json => {
            output::write_result(&format!("{name}: {}\n", outcome.text()))?;
        }
        _ => {}
    }
    Ok(Code::Success)
}

fn attach(entry: &Entry, session: &Session) -> Result<Outcome, Failure> {
    let activation = activation(entry, session)?;
    let steps = kernel::DebugSteps { session, name: &entry.name };
    match device::activate_with(&activation, &steps) {
        Ok(_) => Ok(Outcome::Attached),
        Err(exists @ Error::Exists { .. }) => match device::query(&entry.name) {
            Ok(info) => {
                let differences = activation.differences(&info);
                match differences.first() {
                    None => Ok(Outcome::AlreadyActive),
                    Some(first) => Err(Failure::new(
                        Code::Busy,
                        format_args!("device {} is active already, and another one: its {first}", entry.name),
                    )
                    .hint(format_args!(
                        "'verity status {0}' shows it, 'verity close {0}' removes it",
                        entry.name
                    ))),
                }
            }
            // Gone since, or not dm-verity's.
            Err(Error::NotActive { .. }) => Err(kernel::failure(&exists, session)),
            Err(error) => Err(kernel::failure(&error, session)),
        },
        Err(error) => Err(kernel::failure(&error, session)),
    }
}

/// What a line asks for.
fn activation(entry: &Entry, session: &Session) -> Result<Activation, Failure> {
    let said = &entry.tree;
    let tree = TreeOptions {
        data_block_size: said.data_block_size,
        hash_block_size: said.hash_block_size,
        data_blocks: said.data_blocks,
        algorithm: said.algorithm,
        format: said.hash_type,
        salt: said.salt.clone(),
    };
    let area = AreaOptions { hash_offset: said.hash_offset, no_superblock: !said.superblock };
    let fec = FecOptions {
        fec_device: entry.fec.as_ref().map(|fec| fec.device.path().to_owned()),
        fec_offset: entry.fec.as_ref().map(|fec| fec.offset),
        fec_roots: entry.fec.as_ref().map(|fec| fec.roots),
    };
    let request = Request {
        name: &entry.name,
        data: entry.data.path(),
        hash: entry.hash.path(),
        root_hash: &RootText::whole(entry.root_hash.clone()),
        tree: &tree,
        area: &area,
        fec: &fec,
        signature: entry.signature.as_ref(),
        table: entry.table.clone(),
    };
    let mut activation = request.prepare(session)?;
    match (said.uuid, activation.uuid) {
        (Some(given), Some(found)) if given != found => {
            let [given, found] = [given, found].map(output::human::uuid);
            Err(Failure::argument(format_args!("uuid= is {given}, but the superblock says {found}"))
                .hint("leave the option out, or check the hash device"))
        }
        (given, found) => {
            activation.uuid = found.or(given);
            Ok(activation)
        }
    }
}

fn detach(name: &DeviceName, removal: Removal, session: &Session) -> Result<Outcome, Failure> {
    match device::deactivate(name, removal) {
        Ok(device::Deactivated::Deferred) => Ok(Outcome::Deferred),
        Ok(device::Deactivated::Removed { .. }) => Ok(Outcome::Detached),
        Err(Error::NotActive { .. }) => Ok(Outcome::NotActive),
        Err(error) => Err(kernel::failure(&error, session)),
    }
}
