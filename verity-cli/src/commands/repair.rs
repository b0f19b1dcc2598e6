//! `verity repair`: restores damaged blocks from the parity.

use std::path::{Path, PathBuf};

use clap::Args;
use verity_core::block::RootHash;
use verity_core::io::Storage;
use verity_core::repair::Report;
use verity_core::tree::Options;

use super::layout::Layout;
use super::mending::{self, Mending};
use super::parity::Parity;
use super::root::{self, RootArguments};
use super::verify::Check;
use crate::cli::help::exit_codes;
use crate::cli::options::{AreaOptions, Common, FecOptions, TreeOptions, WorkOptions};
use crate::cli::values;
use crate::failure::{Code, Failure};
use crate::files::{self, Decision, InPlace, Input, Role, Temporary};
use crate::output::{self, human, json};
use crate::session::{Session, engine_options};

const HELP: &str = concat!(
    "\
Bad blocks are found through the tree, so that as many of each 255 can be restored as --fec-roots says; of damage in other places half as \
many. A restored block counts only if it hashes to what the root hash vouches for, and in the end everything is verified again. Blocks of the \
tree are restored as those of the data are. The superblock is not covered by parity.

By default DATA and HASH stay as they are, and new files appear when they are complete and on disk. With --in-place only the bad blocks are \
written, through journals (DATA.verity-journal, HASH.verity-journal): a cut in the middle is finished or undone by the next 'verity repair \
--in-place', or by 'verity recover'.

If not all can be restored, the remaining blocks are listed, the exit code is 2 and nothing is written, unless --partial asks for it.

Examples:
  verity repair image.erofs image.verity ROOT_HASH --fec-device image.fec --in-place
  verity repair bad.erofs bad.verity ROOT_HASH --fec-device image.fec --output-data image.erofs --output-hash image.verity
  verity repair image.img image.img ROOT_HASH --hash-offset 8388608 --fec-device image.img --fec-offset 8519680 --in-place
  verity repair bad.erofs image.verity ROOT_HASH --fec-device image.fec --in-place --partial --json

",
    exit_codes!()
);

/// Restore damaged blocks of data and hash tree from the parity
///
/// Mends an image as far as its parity goes, and verifies the result against the root hash.
#[derive(Args, Debug)]
#[command(disable_help_flag = true, after_long_help = HELP)]
pub(crate) struct Arguments {
    /// The damaged data: a file or a block device
    data: PathBuf,

    /// Where the hash tree is: a file or a block device
    hash: PathBuf,

    #[command(flatten)]
    root: RootArguments,
    #[command(flatten)]
    result: ResultArguments,

    /// List at most so many blocks; the others are counted
    #[arg(long, value_name = "N", value_parser = values::count, default_value = "10000")]
    max_findings: usize,

    #[command(flatten)]
    fec: FecOptions,
    #[command(flatten)]
    tree: TreeOptions,
    #[command(flatten)]
    area: AreaOptions,
    #[command(flatten)]
    work: WorkOptions,
    #[command(flatten)]
    pub(super) common: Common,
}

/// Where the repaired image goes.
#[derive(Args, Debug)]
#[command(next_help_heading = "The repaired image")]
struct ResultArguments {
    /// Write the repaired data to a new file
    #[arg(long, value_name = "PATH", required_unless_present = "in_place", conflicts_with = "in_place")]
    output_data: Option<PathBuf>,

    /// Write the repaired hash device to a new file; not where it is the data device
    #[arg(long, value_name = "PATH", conflicts_with = "in_place")]
    output_hash: Option<PathBuf>,

    /// Write the restored blocks to DATA and HASH themselves
    #[arg(long)]
    in_place: bool,

    /// Keep what could be restored, even if other blocks remain bad
    #[arg(long)]
    partial: bool,

    /// Where the data's journal of --in-place lies [default: DATA.verity-journal]
    #[arg(long, value_name = "PATH", requires = "in_place")]
    data_journal: Option<PathBuf>,

    /// Where the hash device's journal of --in-place lies [default: HASH.verity-journal]
    #[arg(long, value_name = "PATH", requires = "in_place")]
    hash_journal: Option<PathBuf>,
}

/// The result of a repair.
pub(crate) struct Repaired {
    pub(crate) data: PathBuf,
    pub(crate) hash: PathBuf,
    pub(crate) layout: Layout,
    pub(crate) parity: Parity,
    pub(crate) root: RootHash,
    pub(crate) report: Report,
    /// Whether what was restored has been kept.
    pub(crate) kept: bool,
}

/// A repair, with everything opened and checked.
struct Repair<'a> {
    arguments: &'a Arguments,
    mending: Mending<'a>,
}

pub(super) fn run(arguments: Arguments, session: &Session) -> Result<Code, Failure> {
    let text = arguments.root.text(session)?;
    if arguments.fec.device(session)?.is_none() {
        return Err(Failure::argument("--fec-device is missing")
            .hint("say where the parity is that 'format --fec-device' or 'fec encode' made"));
    }
    if arguments.result.in_place {
        arguments.finish_journals(session)?;
    }
    let hash = Input::open(&arguments.hash, Role::Hash)?;
    let data = Input::open(&arguments.data, Role::Data)?;
    let layout = Layout::of_damaged(&data, &hash, &arguments.area, &arguments.tree, session)?;
    let root = root::parse(&text, layout.params.algorithm)?;
    let Some((parity, fec)) = Parity::open(&arguments.fec, &layout, &data, &hash, session)? else {
        return Err(Failure::argument("--fec-device is missing"));
    };

    let progress = session.progress();
    let options =
        Options { max_findings: arguments.max_findings, ..engine_options(&progress, arguments.work.threads) };
    Check { data: &data, hash: &hash, layout: &layout }.refuse_other_root(&root, &options)?;
    let mending =
        Mending { data: &data, hash: &hash, fec: &fec, layout: &layout, parity: &parity, root: &root };
    let repair = Repair { arguments: &arguments, mending };
    let report =
        if arguments.result.in_place { repair.in_place(&options)? } else { repair.to_new_files(&options)? };
    drop(progress);

    let kept = arguments.keeps(&report);
    let Arguments { data, hash, .. } = arguments;
    let repaired = Repaired { data, hash, layout, parity, root, report, kept };
    session.print(
        || if session.quiet { String::new() } else { human::repaired(&repaired) },
        || json::repaired(&repaired),
    )?;
    if repaired.report.is_complete() {
        return Ok(Code::Success);
    }
    Ok(output::failure(&repaired.failure(), session.personality, false))
}

impl Arguments {
    /// Whether what was restored is kept.
    fn keeps(&self, report: &Report) -> bool {
        report.is_complete() || self.result.partial
    }

    fn journal(&self, role: Role) -> Result<PathBuf, Failure> {
        let ResultArguments { data_journal, hash_journal, .. } = &self.result;
        match role {
            Role::Data => files::journal_path(&self.data, role, data_journal.as_deref(), "--data-journal"),
            _ => files::journal_path(&self.hash, role, hash_journal.as_deref(), "--hash-journal"),
        }
    }

    /// Finishes or drops what an earlier repair left.
    fn finish_journals(&self, session: &Session) -> Result<(), Failure> {
        for (path, role) in [(&self.data, Role::Data), (&self.hash, Role::Hash)] {
            let journal = match self.journal(role) {
                Ok(journal) => journal,
                // A device that is both has one journal.
                Err(_) if role == Role::Hash && self.hash == self.data => continue,
                Err(failure) => return Err(failure),
            };
            if files::recover(path, role, &journal)?.is_some() {
                session
                    .note(&format!("{role} {path:?}: a repair that was cut off has been finished or undone"));
            }
        }
        Ok(())
    }
}

impl Repair<'_> {
    /// Whether one device holds both.
    fn is_one_device(&self) -> bool {
        self.mending.data.extent == self.mending.hash.extent
    }

    /// Repairs copies, which get their names when all is done.
    fn to_new_files(&self, options: &Options<'_>) -> Result<Report, Failure> {
        let ResultArguments { output_data, output_hash, .. } = &self.arguments.result;
        let Some(output_data) = output_data else {
            return Err(Failure::argument("--output-data is missing"));
        };
        let output_hash = match (output_hash, self.is_one_device()) {
            (Some(path), true) if path != output_data => {
                return Err(Failure::argument("--output-hash: data and hash tree are one device")
                    .hint("leave it out: --output-data gets both"));
            }
            (_, true) => None,
            (Some(path), false) if path == output_data => {
                return Err(Failure::argument("--output-data and --output-hash are the same file")
                    .hint("give each its own"));
            }
            (Some(path), false) => Some(path),
            (None, false) => {
                return Err(Failure::argument("--output-hash is missing")
                    .hint("give a new file for the hash device, too, or --in-place"));
            }
        };
        let data = copy(self.mending.data, output_data, options)?;
        let hash = output_hash.map(|path| copy(self.mending.hash, path, options)).transpose()?;
        let hash_file = hash.as_ref().unwrap_or(&data).as_file();
        let report = self.mending.repair(data.as_file(), hash_file, options)?;
        if self.arguments.keeps(&report) {
            if let (Some(hash), Some(path)) = (hash, output_hash) {
                hash.persist().map_err(|error| cannot_create(path, &error))?;
            }
            data.persist().map_err(|error| cannot_create(output_data, &error))?;
        }
        Ok(report)
    }

    /// Repairs the devices themselves. Each restored block is right, whichever of the others is: so one device's changes may be made before
    /// the other's.
    fn in_place(&self, options: &Options<'_>) -> Result<Report, Failure> {
        let block_size = self.mending.parity.places.block_size();
        let repair = |data: &dyn Storage, hash: &dyn Storage| {
            let report = self.mending.repair(data, hash, options)?;
            let useful = report.restored_blocks() > 0 && self.arguments.keeps(&report);
            Ok((report, if useful { Decision::Make } else { Decision::Drop }))
        };
        let data = InPlace::open(self.mending.data, self.arguments.journal(Role::Data)?)?;
        if self.is_one_device() {
            return data.change_if(|journal| repair(journal, journal), block_size);
        }
        let hash = InPlace::open(self.mending.hash, self.arguments.journal(Role::Hash)?);
        let hash = match hash {
            Ok(hash) => hash,
            Err(failure) => {
                data.abandon()?;
                return Err(failure);
            }
        };
        hash.change_if(
            |hash| {
                let mut decision = Decision::Drop;
                let report = data.change_if(
                    |data| {
                        let (report, decided) = repair(data, hash)?;
                        decision = decided;
                        Ok((report, decided))
                    },
                    block_size,
                )?;
                Ok((report, decision))
            },
            block_size,
        )
    }
}

impl Repaired {
    /// What is told when blocks remain.
    fn failure(&self) -> Failure {
        let Report { data_blocks, hash_blocks, remaining, .. } = &self.report;
        let restored = mending::restored(*data_blocks, *hash_blocks);
        let remaining = mending::remaining(remaining);
        if self.kept {
            Failure::new(
                Code::Refused,
                format_args!("repaired in part: {restored} were restored, {remaining}"),
            )
            .hint("do not use this image as it is; fetch or build it anew")
        } else {
            let message =
                format!("beyond repair: {restored} can be restored, {remaining}; nothing was written");
            Failure::new(Code::Refused, message)
                .hint("fetch or build the image anew; --partial restores what can be")
        }
    }
}

/// Copies a device to a file that has no name yet.
fn copy(from: &Input, path: &Path, options: &Options<'_>) -> Result<Temporary, Failure> {
    if path.symlink_metadata().is_ok() {
        return Err(Failure::new(Code::Busy, format_args!("{path:?} exists already"))
            .hint("give a new file; --in-place repairs the devices themselves"));
    }
    let file = Temporary::new_file(path).map_err(|error| cannot_create(path, &error))?;
    files::copy(&from.file, file.as_file(), from.size, options).map_err(|error| {
        if options.observer.cancelled() {
            super::engine::failure(&verity_core::tree::Error::Cancelled, |_| String::new())
        } else {
            Failure::system(format_args!("{path:?} cannot be written"), &error)
        }
    })?;
    Ok(file)
}

fn cannot_create(path: &Path, error: &std::io::Error) -> Failure {
    let failure = Failure::system(format_args!("{path:?} cannot be created"), error);
    let code = match failure.code {
        // The folder is missing; the file itself is to be made.
        Code::NoDevice => Code::General,
        other => other,
    };
    failure.code(code).hint("give a path in a folder that can be written to")
}
