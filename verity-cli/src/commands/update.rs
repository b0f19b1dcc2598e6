//! `verity update`: brings a hash tree up to date with data that changed.

use std::ops::Range;
use std::path::{Path, PathBuf};

use clap::Args;
use verity_core::block::RootHash;
use verity_core::geometry::Geometry;
use verity_core::io::{Storage, WriteAt};
use verity_core::superblock::Superblock;
use verity_core::tree::{self, Device, Old, Options};

use super::changes::{ChangeArguments, Changes};
use super::format::Formatted;
use super::layout::{Layout, bad_geometry};
use super::root::{self, RootArguments};
use super::{engine, format};
use crate::cli::help::exit_codes;
use crate::cli::options::{AreaOptions, Common, TreeOptions, WorkOptions};
use crate::cli::values;
use crate::failure::Code;
use crate::failure::Failure;
use crate::files::{self, Extent, Input, Plan, Role, check_apart};
use crate::output::{human, json};
use crate::session::{Session, engine_options};

const HELP: &str = concat!(
    "\
Only changed data blocks are hashed, and the hash blocks above them; the result is what 'format' makes of the whole \
data with the same salt and UUID. The old tree is checked against its root hash first. Whether the data changed only \
where it is said to have is not checked: --old-data finds out by comparing.

If the data has grown or shrunk, --data-blocks says how much of it the new tree covers (0 is all). With --in-place a journal (HASH.verity-journal) lies beside the hash device until the \
change is complete; if it was cut off, 'verity recover HASH' finishes it.

Examples:
  verity update image.img image.verity ROOT_HASH --old-data image.old --output image.new.verity
  verity update image.img image.verity ROOT_HASH --ranges changed.txt --in-place
  verity update grown.img image.verity ROOT_HASH --ranges changed.txt --data-blocks 0 --output new.verity
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
    #[arg(long, value_name = "PATH", conflicts_with = "in_place")]
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
    changes: Changes,
}

pub(super) fn run(arguments: &Arguments, session: &Session) -> Result<Code, Failure> {
    if arguments.result.output.is_none() && !arguments.result.in_place {
        return Err(Failure::argument("update: --output or --in-place is missing")
            .hint("--output PATH makes a new tree, --in-place changes HASH itself"));
    }
    let text = arguments.root.text(session)?;
    let hash = Input::open(&arguments.hash, Role::Hash)?;
    let data = Input::open(&arguments.data, Role::Data)?;
    let old = old_layout(arguments, &data, &hash, session)?;
    let data_blocks = new_data_blocks(arguments, &data, &old, session)?;
    let geometry = Geometry::new(&old.params, data_blocks, arguments.area.area()?)
        .map_err(|error| bad_geometry(&error))?;
    let root = root::parse(&text, old.params.algorithm)?;
    let changes = arguments.changes.open(&data)?;
    let update = Update { arguments, data, hash, old, root, geometry, changes };

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
        let layout = Layout::from_superblock(hash, &arguments.area, session)?;
        layout.check_params_against(&arguments.tree)?;
        layout.check_hash_size(hash)?;
        return Ok(layout);
    }
    let params = arguments.tree.params_without_superblock()?;
    let data_blocks = match arguments.old_data_blocks {
        Some(blocks) => blocks,
        None => arguments.tree.data_blocks_of(data, &params, session)?,
    };
    let geometry =
        Geometry::new(&params, data_blocks, arguments.area.area()?).map_err(|error| bad_geometry(&error))?;
    let layout = Layout { uuid: None, params, geometry };
    layout.check_hash_size(hash)?;
    Ok(layout)
}

/// How many data blocks the new tree covers: as many as the old one, unless something else is asked for. A device of another size than
/// the old tree says may have grown, or may be one of which only a part was ever covered.
fn new_data_blocks(
    arguments: &Arguments,
    data: &Input,
    old: &Layout,
    session: &Session,
) -> Result<u64, Failure> {
    let covered = old.geometry.data_blocks();
    let block_size = old.params.data_block_size;
    let whole = data.size / block_size.as_u64();
    if arguments.tree.data_blocks.is_some() {
        return arguments.tree.data_blocks_of(data, &old.params, session);
    }
    if whole == covered {
        return Ok(covered);
    }
    let hint = if whole > covered {
        format!(
            "give --data-blocks={covered} to cover what the old tree covers, or --data-blocks=0 to cover all of it"
        )
    } else {
        "give --data-blocks=0 if the data was made shorter on purpose".to_owned()
    };
    Err(Failure::argument(format_args!(
        "data device {:?} has {whole} blocks of {block_size} bytes, and the old tree covers {covered}",
        data.path
    ))
    .hint(hint))
}

impl Update<'_> {
    fn changed(&self, options: &Options<'_>) -> Result<Vec<Range<u64>>, Failure> {
        let common = self.old.geometry.data_blocks().min(self.geometry.data_blocks());
        self.changes.find(&self.data, self.old.params.data_block_size, common, options)
    }

    /// The input that has some of these bytes, of which no one may be written. The new tree can lie behind the data in one file.
    fn input_at(&self, extent: Extent, bytes: &Range<u64>) -> Result<Option<&'static str>, Failure> {
        let mut inputs = vec![
            ("the old tree itself", self.hash.extent, self.hash.bytes()),
            ("the data", self.data.extent, 0..self.geometry.data_bytes()),
        ];
        let (option, place, taken) = self.changes.place()?;
        inputs.push((option, place, taken));
        if let Some(file) = self.arguments.root.file()
            && let Ok(metadata) = file.metadata()
        {
            inputs.push(("--root-hash-file", Extent::of(&metadata), 0..u64::MAX));
        }
        let found = inputs.into_iter().find(|(_, place, taken)| extent.overlaps(bytes, *place, taken));
        Ok(found.map(|(what, ..)| what))
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
            let area = self.geometry.area().offset()..self.geometry.hash_area_end();
            check_apart((self.data.extent, self.geometry.data_bytes()), (extent, area.clone()))?;
            if let Some(what) = self.input_at(extent, &area)? {
                return Err(Failure::argument(format_args!("--output {output:?} is {what}"))
                    .hint("give another file; --in-place changes the old tree"));
            }
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
        if let Ok(metadata) = log.metadata()
            && let extent = Extent::of(&metadata)
            && let Some(what) = self.input_at(extent, &(0..u64::MAX))?
        {
            return Err(
                Failure::argument(format_args!("--journal {log:?} is {what}")).hint("give another file")
            );
        }
        let place = files::InPlace::open(&self.hash, log)?;
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
