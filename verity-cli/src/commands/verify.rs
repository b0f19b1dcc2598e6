//! `verity verify`: checks data and tree against a root hash, in this process.

use std::path::PathBuf;

use clap::Args;
use verity_core::block::RootHash;
use verity_core::tree::{self, Device, Fault, Options, Place, Report};

use super::engine;
use super::layout::Layout;
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

Examples:
  verity verify image.erofs image.verity ROOT_HASH
  verity verify image.erofs image.verity --root-hash-file image.roothash
  verity verify image.erofs image.verity ROOT_HASH --json | jq '.findings[].first_byte'
  verity verify image.erofs tree ROOT_HASH --no-superblock --salt -

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
}

pub(super) fn run(arguments: Arguments, session: &Session) -> Result<Code, Failure> {
    arguments.fec.check(session.is_veritysetup())?;
    let text = arguments.root.text(session)?;
    let hash = Input::open(&arguments.hash, Role::Hash)?;
    let data = Input::open(&arguments.data, Role::Data)?;
    let layout = Layout::of_existing(&data, &hash, &arguments.area, &arguments.tree, session)?;
    let root = root::parse(&text, layout.params.algorithm)?;

    let check = Check { data: &data, hash: &hash, layout: &layout };
    let progress = session.progress();
    let options =
        Options { max_findings: arguments.max_findings, ..engine_options(&progress, arguments.work.threads) };
    let report = check.run(&root, &options)?;
    drop(progress);

    let Arguments { data, hash, .. } = arguments;
    let verified = Verified { data, hash, layout, root, report };
    session.debug(|| format!("{} data blocks were checked.", verified.layout.geometry.data_blocks()));
    if verified.report.is_intact() {
        session.print(String::new, || json::verified(&verified))?;
        return Ok(Code::Success);
    }
    let list = !session.quiet && !session.is_veritysetup();
    session.print(
        || if list { human::findings(&verified.report) } else { String::new() },
        || json::verified(&verified),
    )?;
    // Where a document was asked for it has been printed.
    Ok(output::failure(&verified.failure(), session.personality, false))
}

struct Check<'a> {
    data: &'a Input,
    hash: &'a Input,
    layout: &'a Layout,
}

impl Check<'_> {
    fn run(&self, root: &RootHash, options: &Options<'_>) -> Result<Report, Failure> {
        let Layout { params, geometry, .. } = self.layout;
        let (data, hash) = (&self.data.file, &self.hash.file);
        let failed = |error: tree::Error| engine::failure(&error, |device| self.name(device));
        match tree::verify_top(data, hash, params, geometry, root) {
            Ok(()) => tree::verify(data, hash, params, geometry, root, options).map_err(failed),
            Err(tree::Error::RootHash { expected, found }) => {
                // Either the root hash is another image's, or the top block is damaged. A tree that is in itself
                // consistent is no damaged one.
                let own = tree::verify(
                    data,
                    hash,
                    params,
                    geometry,
                    &found,
                    &Options { max_findings: 0, ..*options },
                );
                if own.map_err(failed)?.is_intact() {
                    return Err(failed(tree::Error::RootHash { expected, found }));
                }
                tree::verify(data, hash, params, geometry, root, options).map_err(failed)
            }
            Err(error) => Err(failed(error)),
        }
    }

    fn name(&self, device: Device) -> String {
        match device {
            Device::Data => format!("{:?}", self.data.path),
            _ => format!("{:?}", self.hash.path),
        }
    }
}

impl Verified {
    /// What is told when the verification failed.
    fn failure(&self) -> Failure {
        let Report { bad_data_blocks, bad_hash_blocks, unverifiable_blocks, .. } = self.report;
        let mut message = format!(
            "verification failed: {bad_data_blocks} of {} data blocks and {bad_hash_blocks} of {} hash blocks are bad",
            self.layout.geometry.data_blocks(),
            self.layout.geometry.hash_blocks(),
        );
        if unverifiable_blocks > 0 {
            message += &format!("; {unverifiable_blocks} blocks below bad hash blocks cannot be verified");
        }
        Failure::new(Code::Refused, message)
            .hint("do not use this image; fetch or build it anew")
            .veritysetup(Code::Refused, self.veritysetup_text())
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
