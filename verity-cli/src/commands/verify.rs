//! `verity verify`: checks data and tree against a root hash, in this process.

use std::path::PathBuf;

use clap::Args;
use verity_core::block::RootHash;
use verity_core::io::ReadAt;
use verity_core::tree::{self, Device, Fault, Options, Place, Report};

use super::engine;
use super::layout::Layout;
use super::locate::{LocateOptions, Located, Scene};
use super::mending::{Diagnosis, Finding, Mending};
use super::parity::Parity;
use super::root::{self, RootArguments};
use crate::cli::help::exit_codes;
use crate::cli::options::{AreaOptions, Common, FecOptions, TreeOptions, WorkOptions};
use crate::cli::values;
use crate::failure::{Code, Failure};
use crate::files::{Input, Role};
use crate::output::{self, human, json};
use crate::session::{Session, engine_options};

const HELP: &str = concat!(
    "\
Nothing is written, and nothing is printed if all is well. Else every bad block is listed on standard output: where it \
lies, and what is wrong. The tree's own parameters come from the superblock; options that contradict it are an error.

With --fec-device a damaged image is told to be repairable or beyond repair, by trying: each block that the parity restores has to match the \
root hash. Of an intact one the parity is made again and compared, which takes about as long as the verification. Exit code 2 stands for damage \
of either; 0 only for an image that needs no repair, with parity that could do one.

--map draws data and tree, a character for a block or for some blocks, as wide as the terminal; colours are for terminals \
alone, and for none if NO_COLOR is set. --files reads names and inodes of an EROFS image, as far as they are intact, and \
tells to which files the bad blocks belong, or to which metadata. Neither changes the exit code.

Examples:
  verity verify image.erofs image.verity ROOT_HASH
  verity verify image.erofs image.verity --root-hash-file image.roothash
  verity verify image.erofs image.verity ROOT_HASH --json | jq '.findings[].first_byte'
  verity verify image.erofs image.verity ROOT_HASH --map --files
  verity verify image.erofs image.verity ROOT_HASH --files --json | jq '.files.affected[].paths'
  verity verify image.erofs tree ROOT_HASH --no-superblock --salt -
  verity verify image.erofs image.verity ROOT_HASH --fec-device image.fec

",
    exit_codes!()
);

/// Check data and hash tree against a root hash
///
/// Checks every block of the data and of the tree, and that unused bytes of the tree are zero.
#[derive(Args, Debug)]
#[command(disable_help_flag = true, after_long_help = HELP)]
pub(crate) struct Arguments {
    /// The data: a file or a block device
    data: PathBuf,

    /// Where the hash tree is: a file or a block device
    hash: PathBuf,

    #[command(flatten)]
    root: RootArguments,

    /// List at most so many findings; the others are counted
    #[arg(long, value_name = "N", value_parser = values::count, default_value = "10000")]
    max_findings: usize,

    #[command(flatten)]
    locate: LocateOptions,
    #[command(flatten)]
    tree: TreeOptions,
    #[command(flatten)]
    area: AreaOptions,
    #[command(flatten)]
    fec: FecOptions,
    #[command(flatten)]
    work: WorkOptions,
    #[command(flatten)]
    pub(super) common: Common,
}

/// The result of a verification.
pub(crate) struct Verified {
    pub(crate) data: PathBuf,
    pub(crate) hash: PathBuf,
    pub(crate) layout: Layout,
    pub(crate) root: RootHash,
    pub(crate) report: Report,
    /// With a FEC device.
    pub(crate) diagnosis: Option<Diagnosis>,
    pub(crate) located: Located,
}

pub(super) fn run(arguments: Arguments, session: &Session) -> Result<Code, Failure> {
    arguments.fec.device(session)?;
    let text = arguments.root.text(session)?;
    let hash = Input::open(&arguments.hash, Role::Hash)?;
    let data = Input::open(&arguments.data, Role::Data)?;
    let layout = Layout::of_existing(&data, &hash, &arguments.area, &arguments.tree, session)?;
    let root = root::parse(&text, layout.params.algorithm)?;
    let fec = Parity::open(&arguments.fec, &layout, &data, &hash, session)?;

    let check = Check { data: &data, hash: &hash, layout: &layout };
    let progress = session.progress();
    let options =
        Options { max_findings: arguments.max_findings, ..engine_options(&progress, arguments.work.threads) };
    let report = check.run(&root, &options).map_err(|failure| {
        // With parity to try, veritysetup ends in the code of a failed repair.
        let (code, text) = failure.as_veritysetup();
        let code = if fec.is_some() && code == Code::General { Code::Refused } else { code };
        failure.veritysetup(code, text)
    })?;
    let (diagnosis, device) = match fec {
        None => (None, None),
        Some((parity, fec)) => {
            let (layout, root) = (&layout, &root);
            let mending = Mending { data: &data, hash: &hash, fec: &fec, layout, parity: &parity, root };
            let finding = if !report.is_intact() {
                Finding::Damaged(mending.try_repair(&options)?)
            } else if session.is_veritysetup() {
                Finding::Intact { differing: None }
            } else {
                Finding::Intact { differing: Some(mending.differing_parity(&options)?) }
            };
            (Some(Diagnosis { parity, finding }), Some(fec))
        }
    };
    let parity = diagnosis.as_ref().map(|diagnosis| &diagnosis.parity).zip(device.as_ref());
    let scene = Scene { data: &data, hash: &hash, layout: &layout, root, parity };
    let remaining = diagnosis.as_ref().and_then(Diagnosis::remaining);
    let located = arguments.locate.locate(&scene, &report, remaining, &options, session)?;
    drop(progress);

    let Arguments { data, hash, .. } = arguments;
    let verified = Verified { data, hash, layout, root, report, diagnosis, located };
    session.debug(|| format!("{} data blocks were checked.", verified.layout.geometry.data_blocks()));
    let lists = !session.quiet && !session.is_veritysetup();
    // With a map there are ranges in their place.
    let findings = lists && !verified.is_well() && verified.located.map.is_none();
    session.print_styled(
        || {
            let findings = if findings { human::verified(&verified) } else { String::new() };
            findings + &output::locate::text(&verified.located, lists)
        },
        || json::verified(&verified),
    )?;
    if verified.is_well() {
        return Ok(Code::Success);
    }
    if session.is_veritysetup()
        && let Some(Finding::Damaged(repair)) = verified.diagnosis.as_ref().map(|it| &it.finding)
        && repair.is_complete()
    {
        // To veritysetup that is a success.
        let errors = repair.bytes;
        let text = verified.veritysetup_text();
        output::plain(&format!("{text}\nFound {errors} repairable errors with FEC device."));
        return Ok(Code::Success);
    }
    // Where a document was asked for it has been printed.
    Ok(output::failure(&verified.failure(), session.personality, false))
}

/// Data and tree, to be checked.
pub(super) struct Check<'a> {
    pub(super) data: &'a Input,
    pub(super) hash: &'a Input,
    pub(super) layout: &'a Layout,
}

impl Check<'_> {
    pub(super) fn run(&self, root: &RootHash, options: &Options<'_>) -> Result<Report, Failure> {
        let Layout { params, geometry, .. } = self.layout;
        let (data, hash) = (&self.data.file, &self.hash.file);
        self.refuse_other_root(root, options)?;
        tree::verify(data, hash, params, geometry, root, options)
            .map_err(|error| engine::failure(&error, |device| self.name(device)))
    }

    /// As [`refuse_other_root`].
    pub(super) fn refuse_other_root(&self, root: &RootHash, options: &Options<'_>) -> Result<(), Failure> {
        refuse_other_root(&self.data.file, &self.hash.file, self.layout, root, options)
            .map_err(|error| engine::failure(&error, |device| self.name(device)))
    }

    fn name(&self, device: Device) -> String {
        match device {
            Device::Data => format!("{:?}", self.data.path),
            _ => format!("{:?}", self.hash.path),
        }
    }
}

/// Tells a root hash that is another image's from a damaged top block: a tree that is in itself consistent is no damaged one.
///
/// What cannot be read is damaged.
pub(super) fn refuse_other_root(
    data: &dyn ReadAt,
    hash: &dyn ReadAt,
    layout: &Layout,
    root: &RootHash,
    options: &Options<'_>,
) -> Result<(), tree::Error> {
    let Layout { params, geometry, .. } = layout;
    match tree::verify_top(data, hash, params, geometry, root) {
        Err(tree::Error::RootHash { expected, found }) => {
            let options = Options { max_findings: 0, ..*options };
            match tree::verify(data, hash, params, geometry, &found, &options) {
                Ok(own) if own.is_intact() => Err(tree::Error::RootHash { expected, found }),
                Ok(_) | Err(tree::Error::Read { .. }) => Ok(()),
                Err(error) => Err(error),
            }
        }
        Ok(()) | Err(tree::Error::Read { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

impl Verified {
    /// Whether there is nothing to tell.
    fn is_well(&self) -> bool {
        self.report.is_intact() && self.diagnosis.as_ref().is_none_or(|it| it.advice().is_none())
    }

    /// What is told when the verification failed.
    fn failure(&self) -> Failure {
        let advice = self.diagnosis.as_ref().and_then(Diagnosis::advice);
        if self.report.is_intact()
            && let Some((message, hint)) = advice
        {
            return Failure::new(Code::Refused, message).hint(hint);
        }
        let Report { bad_data_blocks, bad_hash_blocks, unverifiable_blocks, .. } = self.report;
        let mut message = format!(
            "verification failed: {bad_data_blocks} of {} data blocks and {bad_hash_blocks} of {} hash blocks are bad",
            self.layout.geometry.data_blocks(),
            self.layout.geometry.hash_blocks(),
        );
        if unverifiable_blocks > 0 {
            message += &format!("; {unverifiable_blocks} blocks below bad hash blocks cannot be verified");
        }
        let mut text = self.veritysetup_text();
        let hint = match &self.diagnosis {
            None => "do not use this image; fetch or build it anew",
            Some(diagnosis) => {
                let round = diagnosis.first_unrepairable_round(&self.layout);
                text += &format!(
                    "\nFailed to repair parity for block {round}.\nErrors cannot be repaired with FEC device."
                );
                let (sentence, hint) = advice.unwrap_or_default();
                message += &format!("; {sentence}");
                hint
            }
        };
        Failure::new(Code::Refused, message).hint(hint).veritysetup(Code::Refused, text)
    }

    /// veritysetup stops at the first bad block that it finds, and goes from the data upwards.
    fn veritysetup_text(&self) -> String {
        let findings = &self.report.findings;
        let first = findings.iter().find(|finding| finding.place == Place::Data).or(findings.first());
        let line = first.map(|finding| match (&finding.fault, finding.place) {
            (Fault::Spare { .. }, Place::Hash { level }) => {
                let position = finding.bytes.start + self.used_bytes(level, finding.first_block);
                format!("Spare area is not zeroed at position {position}.\n")
            }
            _ => format!("Verification failed at position {}.\n", finding.bytes.start),
        });
        format!("{}Verification of data area failed.", line.unwrap_or_default())
    }

    /// How many bytes of a hash block hold digests.
    fn used_bytes(&self, level: usize, block: u64) -> u64 {
        let Layout { params, geometry, .. } = &self.layout;
        let per_block = params.digests_per_block();
        let rest = geometry.digests_in(level).saturating_sub(block.saturating_mul(per_block));
        rest.min(per_block) * params.slot_size() as u64
    }
}
