//! `verity update`: brings a hash tree up to date with data that changed.

use std::path::{Path, PathBuf};

use clap::Args;
use verity_core::block::RootHash;
use verity_core::geometry::Geometry;
use verity_core::io::{Storage, WriteAt};
use verity_core::superblock::Superblock;
use verity_core::tree::{self, Device, Old, Options};

use super::changes::ChangeArguments;
use super::format::Formatted;
use super::layout::{Layout, bad_geometry};
use super::root::{self, RootArguments};
use super::{engine, format};
use crate::cli::help::exit_codes;
use crate::cli::options::{AreaOptions, Common, TreeOptions, WorkOptions};
use crate::cli::values;
use crate::failure::Code;
use crate::failure::Failure;
use crate::files::{self, Input, Plan, Role, check_apart};
use crate::output::{human, json};
use crate::session::{Session, engine_options};

const HELP: &str = concat!(
    "\
Only changed data blocks are hashed, and the hash blocks above them; the result is what 'format' makes of the whole \
data with the same salt and UUID. The old tree is checked against its root hash first. Whether the data changed only \
where it is said to have is not checked: --old-data finds out by comparing.

The data may have grown or shrunk. With --in-place a journal (HASH.verity-journal) lies beside the hash device until the \
change is complete; if it was cut off, 'verity recover HASH' finishes it.

Examples:
  verity update image.img image.verity ROOT_HASH --old-data image.old --output image.new.verity
  verity update image.img image.verity ROOT_HASH --ranges changed.txt --in-place
  echo '8192 4096' | verity update image.img image.verity ROOT_HASH --ranges - --output new.verity
  verity update image.img image.verity ROOT_HASH --delta changes.sparse --output new.verity

",
    exit_codes!()
);

/// Bring a hash tree up to date with data that changed
///
/// Makes the tree of DATA from HASH, the tree of the data before, by hashing what changed, and prints the new root hash.
#[derive(Args, Debug)]
#[command(disable_help_flag = true, after_long_help = HELP)]
pub(crate) struct Arguments {
    /// The data as it is now: a file or a block device
    data: PathBuf,

    /// The hash tree of the data before: a file or a block device
    hash: PathBuf,

    #[command(flatten)]
    root: RootArguments,

    #[command(flatten)]
    changes: ChangeArguments,
    #[command(flatten)]
    result: ResultArguments,

    /// The number of data blocks that the old tree covers, without a superblock to read it from
    #[arg(long, value_name = "BLOCKS", value_parser = values::number, help_heading = "The tree", requires = "no_superblock")]
    old_data_blocks: Option<u64>,

    #[command(flatten)]
    tree: TreeOptions,
    #[command(flatten)]
    area: AreaOptions,
    #[command(flatten)]
    work: WorkOptions,
    #[command(flatten)]
    pub(super) common: Common,
}

/// Where the new tree goes. One of the first two has to be given.
#[derive(Args, Debug)]
#[command(next_help_heading = "The new tree")]
struct ResultArguments {
    /// Write the new tree to another file or device
    #[arg(long, value_name = "PATH", required_unless_present = "in_place", conflicts_with = "in_place")]
    output: Option<PathBuf>,

    /// Change HASH itself
    #[arg(long)]
    in_place: bool,

    /// Where the journal of --in-place lies [default: HASH.verity-journal]
    #[arg(long, value_name = "PATH", requires = "in_place")]
    journal: Option<PathBuf>,
}

/// An update, with everything opened and checked.
struct Update<'a> {
    arguments: &'a Arguments,
    data: Input,
    hash: Input,
    old: Layout,
    root: RootHash,
    geometry: Geometry,
}

pub(super) fn run(arguments: &Arguments, session: &Session) -> Result<Code, Failure> {
    let text = arguments.root.text(session)?;
    let hash = Input::open(&arguments.hash, Role::Hash)?;
    let data = Input::open(&arguments.data, Role::Data)?;
    let old = old_layout(arguments, &data, &hash, session)?;
    let data_blocks = arguments.tree.data_blocks_of(&data, &old.params, session)?;
    let geometry = Geometry::new(&old.params, data_blocks, arguments.area.area()?)
        .map_err(|error| bad_geometry(&error))?;
    let root = root::parse(&text, old.params.algorithm)?;
    let update = Update { arguments, data, hash, old, root, geometry };

    let progress = session.progress();
    let options = engine_options(&progress, arguments.work.threads);
    let root = match &arguments.result.output {
        Some(output) => update.to_new_file(output, &options)?,
        None => update.in_place(&options)?,
    };
    drop(progress);

    let Update { old, geometry, .. } = update;
    let hash = arguments.result.output.as_ref().unwrap_or(&arguments.hash);
    let layout = Layout { geometry, ..old };
    let updated = Formatted { data: arguments.data.clone(), hash: hash.clone(), layout, parity: None, root };
    session.print(
        || if session.quiet { format!("{root}\n") } else { human::formatted(&updated) },
        || json::formatted("update", &updated),
    )?;
    Ok(Code::Success)
}

/// The layout of the old tree: by its superblock, or by the options.
fn old_layout(
    arguments: &Arguments,
    data: &Input,
    hash: &Input,
    session: &Session,
) -> Result<Layout, Failure> {
    if !arguments.area.no_superblock {
        return Layout::from_superblock(hash, &arguments.area, session);
    }
    let Some(salt) = arguments.tree.salt.clone() else {
        return Err(Failure::argument(
            "without a superblock the salt is stored nowhere, and --salt is missing",
        )
        .hint("give --salt as format printed it, or '--salt -' if there was none"));
    };
    let params = arguments.tree.params(salt);
    let data_blocks = match arguments.old_data_blocks {
        Some(blocks) => blocks,
        None => arguments.tree.data_blocks_of(data, &params, session)?,
    };
    let geometry =
        Geometry::new(&params, data_blocks, arguments.area.area()?).map_err(|error| bad_geometry(&error))?;
    Ok(Layout { uuid: None, params, geometry })
}

impl Update<'_> {
    fn changed(&self, options: &Options<'_>) -> Result<Vec<std::ops::Range<u64>>, Failure> {
        let common = self.old.geometry.data_blocks().min(self.geometry.data_blocks());
        self.arguments.changes.find(&self.data, self.old.params.data_block_size, common, options)
    }

    fn superblock(&self) -> Option<Superblock> {
        let data_blocks = self.geometry.data_blocks();
        self.old.uuid.map(|uuid| Superblock { uuid, params: self.old.params.clone(), data_blocks })
    }

    /// Makes the new tree in `target`, which can be the old one seen through a journal.
    fn rebuild(&self, target: &dyn Storage, options: &Options<'_>) -> Result<RootHash, Failure> {
        let changed = self.changed(options)?;
        let old = Old { hash: &self.hash.file, geometry: &self.old.geometry, root: &self.root };
        let params = &self.old.params;
        tree::update(&self.data.file, target, params, &self.geometry, &old, &changed, options)
            .map_err(|error| self.failure(&error))
    }

    fn failure(&self, error: &tree::Error) -> Failure {
        match error {
            tree::Error::OldTree(finding) => {
                let path = &self.arguments.hash;
                Failure::new(
                    Code::Refused,
                    format_args!("hash device {path:?} does not match the old root hash: {finding}"),
                )
                .hint("check the root hash; if it is right, the tree is corrupted: format the data anew")
            }
            error => engine::failure(error, |device| match device {
                Device::Data => format!("{:?}", self.arguments.data),
                _ => format!("{:?}", self.arguments.hash),
            }),
        }
    }

    fn to_new_file(&self, output: &Path, options: &Options<'_>) -> Result<RootHash, Failure> {
        let plan = Plan::inspect(output, Role::Hash)?;
        if let Some(extent) = plan.extent() {
            if extent.same_storage(self.hash.extent) {
                return Err(Failure::argument(format_args!("--output {output:?} is the old tree itself"))
                    .hint("give another file, or --in-place"));
            }
            let area = self.geometry.area().offset()..self.geometry.hash_area_end();
            check_apart((self.data.extent, self.geometry.data_bytes()), (extent, area))?;
        }
        let shared = plan.extent().is_some_and(|extent| extent.same_storage(self.data.extent));
        let area = self.geometry.area();
        let target =
            plan.open(&(area.offset()..self.geometry.hash_area_end()), area.has_superblock(), shared)?;
        let root =
            self.rebuild(target.file(), options).map_err(|failure| format::unfinished(failure, &target))?;
        target.finish(self.superblock().as_ref())?;
        Ok(root)
    }

    fn in_place(&self, options: &Options<'_>) -> Result<RootHash, Failure> {
        let area = self.geometry.area().offset()..self.geometry.hash_area_end();
        check_apart((self.data.extent, self.geometry.data_bytes()), (self.hash.extent, area))?;
        let log = files::journal_path(
            &self.arguments.hash,
            Role::Hash,
            self.arguments.result.journal.as_deref(),
            "--journal",
        )?;
        let place = files::InPlace::open(&self.arguments.hash, Role::Hash, log)?;
        place.change(
            |journal| {
                let root = if self.geometry == self.old.geometry {
                    let changed = self.changed(options)?;
                    let params = &self.old.params;
                    tree::update_in_place(
                        &self.data.file,
                        journal,
                        params,
                        &self.geometry,
                        &self.root,
                        &changed,
                        options,
                    )
                    .map_err(|error| self.failure(&error))?
                } else {
                    self.rebuild(journal, options)?
                };
                if let Some(superblock) = self.superblock() {
                    journal
                        .write_all_at(&superblock.encode(), self.geometry.area().offset())
                        .map_err(|error| Failure::system("journal", &error))?;
                }
                Ok(root)
            },
            self.old.params.hash_block_size,
        )
    }
}
