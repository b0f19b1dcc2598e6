//! `verity fec encode`: makes parity for a tree that there is already.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use verity_core::fec;
use verity_core::tree::Device;

use super::engine;
use super::layout::Layout;
use super::parity::Parity;
use super::root::{self, RootArguments};
use super::verify::Check;
use crate::cli::help::exit_codes;
use crate::cli::options::{AreaOptions, Common, FecOptions, TreeOptions, WorkOptions};
use crate::failure::{Code, Failure};
use crate::files::{Input, Plan, Role};
use crate::output::{human, json};
use crate::session::{Session, engine_options};

const HELP: &str = concat!(
    "\
With a root hash, data and tree are verified first: parity over damaged blocks would restore the damage. Parity that was there is made anew, \
which is also how damaged parity is mended.

A parity file that does not exist is made, with mode 0600, and appears only when it is complete. On a device that holds more it is written in \
place, behind the tree for example.

Examples:
  verity fec encode image.erofs image.verity ROOT_HASH --fec-device image.fec
  verity fec encode image.erofs image.verity --root-hash-file image.roothash --fec-device image.fec --fec-roots 24
  verity fec encode image.img image.img ROOT_HASH --hash-offset 8388608 --fec-device image.img --fec-offset 8519680

",
    exit_codes!()
);

/// Make parity for data and a hash tree that exist
///
/// The kernel and 'verity repair' restore damaged blocks from it.
#[derive(Args, Debug)]
#[command(disable_help_flag = true, after_long_help = HELP)]
pub(crate) struct Arguments {
    /// What to do
    #[arg(value_enum)]
    action: Action,

    /// The data: a file or a block device
    data: PathBuf,

    /// Where the hash tree is: a file or a block device
    hash: PathBuf,

    #[command(flatten)]
    root: RootArguments,
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

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Action {
    /// Make the parity
    Encode,
}

pub(super) fn run(arguments: &Arguments, session: &Session) -> Result<Code, Failure> {
    let Action::Encode = arguments.action;
    let text = if arguments.root.is_given() { Some(arguments.root.text(session)?) } else { None };
    let Some(device) = arguments.fec.device(session)? else {
        return Err(Failure::argument("--fec-device is missing").hint("say where the parity goes"));
    };
    let hash = Input::open(&arguments.hash, Role::Hash)?;
    let data = Input::open(&arguments.data, Role::Data)?;
    let layout = Layout::of_existing(&data, &hash, &arguments.area, &arguments.tree, session)?;
    let Layout { params, geometry, .. } = &layout;
    let root = text.map(|text| root::parse(&text, params.algorithm)).transpose()?;
    let plan = Plan::inspect(device, Role::Parity)?;
    let with_hash = plan.extent() == Some(hash.extent);
    let parity = Parity::new(device, &arguments.fec, params, geometry, with_hash, hash.size)?;
    if let Some(own) = plan.extent() {
        parity.check_apart(own, Some(data.extent), Some(hash.extent), geometry)?;
    }

    let progress = session.progress();
    let options = engine_options(&progress, arguments.work.threads);
    match &root {
        Some(root) => {
            let report = Check { data: &data, hash: &hash, layout: &layout }.run(root, &options)?;
            if !report.is_intact() {
                return Err(Failure::new(Code::Refused, "data or hash tree do not match the root hash")
                    .hint("'verity verify' lists the bad blocks; parity is made of an intact image"));
            }
        }
        None => session.note("no root hash was given: nothing says whether data and tree are intact"),
    }
    let shared =
        plan.extent().is_some_and(|own| own.same_storage(data.extent) || own.same_storage(hash.extent));
    let target = plan.open(&parity.bytes(), false, shared)?;
    fec::encode(&data.file, &hash.file, target.file(), &parity.places, &options).map_err(|error| {
        engine::failure(&error, |device| {
            let path = match device {
                Device::Data => &arguments.data,
                Device::Parity => &parity.device,
                _ => &arguments.hash,
            };
            format!("{path:?}")
        })
    })?;
    drop(progress);
    target.finish(None)?;

    let root = root.as_ref();
    session.print(
        || {
            if session.quiet {
                String::new()
            } else {
                human::header(&hash.path, &layout, Some(&parity), root)
            }
        },
        || json::encoded(&data.path, &hash.path, &layout, &parity, root),
    )?;
    Ok(Code::Success)
}
