//! `verity format`: makes a hash tree and prints its root hash.

use std::path::{Path, PathBuf};

use clap::Args;
use nix::unistd::{SysconfVar, sysconf};
use verity_core::block::{RootHash, Salt};
use verity_core::fec;
use verity_core::geometry::{Geometry, HashArea};
use verity_core::params::Params;
use verity_core::superblock::Superblock;
use verity_core::tree::{self, Device};

use super::layout::{Layout, bad_geometry};
use super::parity::Parity;
use super::{engine, stream};
use crate::cli::help::exit_codes;
use crate::cli::options::{AreaOptions, Common, FecOptions, TreeOptions, WorkOptions};
use crate::cli::values;
use crate::failure::{Code, Failure};
use crate::files::{Extent, Input, Plan, Role, RootHashFile, Target, check_apart};
use crate::output::{self, human, json};
use crate::session::{Session, engine_options};

const HELP: &str = concat!(
    "\
A hash file that does not exist is made, with mode 0600, and appears only when it is complete. An existing one is \
replaced as a whole where it holds nothing else; else the hash area is written in place, its superblock last.

With --fec-device parity over data and tree is made in the same read of the data. It takes ROOTS blocks for each 255 less ROOTS of these; the kernel and 'verity repair' restore damaged blocks from it.

Examples:
  verity format image.erofs image.verity
  verity format image.img image.img --data-blocks 2048 --hash-offset 8388608
  mkfs.erofs /dev/stdout tree/ | tee image.erofs | verity format - image.verity
  ROOT=$(verity format --quiet image.erofs image.verity)
  verity format image.erofs image.verity --fec-device image.fec --fec-roots 8

",
    exit_codes!()
);

/// Make a hash tree over data and print its root hash
///
/// Hashes every block of DATA into a tree on HASH, and prints the root hash: the one value that has to be kept where
/// nobody can alter it.
#[derive(Args, Debug)]
#[command(disable_help_flag = true, after_long_help = HELP)]
pub(crate) struct Arguments {
    /// The data: a file, a block device, or '-' for standard input
    pub(super) data: PathBuf,

    /// Where the hash tree goes: a file, which may be new, or a block device
    pub(super) hash: PathBuf,

    /// Write the root hash to a file, too, with mode 0600
    #[arg(long, value_name = "PATH")]
    root_hash_file: Option<PathBuf>,

    #[command(flatten)]
    tree: TreeOptions,

    /// UUID in the superblock [default: random]
    #[arg(long, value_name = "UUID", value_parser = values::uuid, help_heading = "The tree")]
    uuid: Option<[u8; 16]>,

    #[command(flatten)]
    area: AreaOptions,
    #[command(flatten)]
    pub(super) fec: FecOptions,
    #[command(flatten)]
    pub(super) work: WorkOptions,
    #[command(flatten)]
    pub(super) common: Common,
}

/// A finished hash tree.
pub(crate) struct Formatted {
    pub(crate) data: PathBuf,
    pub(crate) hash: PathBuf,
    pub(crate) layout: Layout,
    pub(crate) parity: Option<Parity>,
    pub(crate) root: RootHash,
}

/// What is to be made: valid as far as can be known without opening anything.
pub(super) struct Request {
    pub(super) arguments: Arguments,
    pub(super) params: Params,
    pub(super) area: HashArea,
    uuid: Option<[u8; 16]>,
}

pub(super) fn run(arguments: Arguments, session: &Session) -> Result<Code, Failure> {
    let request = Request::new(arguments, session)?;
    if let Some(weakness) = request.params.algorithm.weakness() {
        session.note(&format!("{} is weak: {weakness}", request.params.algorithm));
    }
    if session.is_veritysetup() {
        warn_of_large_blocks(&request.params);
    }
    // veritysetup knows no standard input: there `-` is a file's name.
    let formatted = if request.arguments.data == Path::new("-") && !session.is_veritysetup() {
        stream::format(&request, session)?
    } else {
        format(&request, session)?
    };
    session.print(
        || if session.quiet { format!("{}\n", formatted.root) } else { human::formatted(&formatted) },
        || json::formatted("format", &formatted),
    )?;
    Ok(Code::Success)
}

impl Request {
    fn new(arguments: Arguments, session: &Session) -> Result<Self, Failure> {
        arguments.fec.device(session)?;
        if arguments.area.no_superblock && arguments.uuid.is_some() && !session.is_veritysetup() {
            return Err(Failure::argument("--uuid: without a superblock a UUID is stored nowhere")
                .hint("leave out --uuid or --no-superblock"));
        }
        let salt = match &arguments.tree.salt {
            Some(salt) => salt.clone(),
            None => random_salt()?,
        };
        let uuid = match arguments.uuid {
            _ if arguments.area.no_superblock => None,
            Some(uuid) => Some(uuid),
            None => Some(uuid::Uuid::new_v4().into_bytes()),
        };
        let params = arguments.tree.params(salt);
        let area = arguments.area.area()?;
        let data_blocks = arguments.tree.data_blocks.filter(|&blocks| blocks > 0).unwrap_or(1);
        Geometry::new(&params, data_blocks, area).map_err(|error| bad_geometry(&error))?;
        Ok(Self { arguments, params, area, uuid })
    }

    /// How many data blocks were asked for; `None` is all that there are.
    pub(super) fn data_blocks(&self) -> Option<u64> {
        self.arguments.tree.data_blocks.filter(|&blocks| blocks > 0)
    }

    pub(super) fn geometry(&self, data_blocks: u64) -> Result<Geometry, Failure> {
        Geometry::new(&self.params, data_blocks, self.area).map_err(|error| bad_geometry(&error))
    }

    /// Prepares the root hash file, if one was asked for.
    pub(super) fn root_hash_file(
        &self,
        data: Option<Extent>,
        plan: &Plan,
        parity: Option<&Plan>,
    ) -> Result<Option<RootHashFile>, Failure> {
        let Some(path) = &self.arguments.root_hash_file else { return Ok(None) };
        let plans = [Some(("hash device", plan)), parity.map(|parity| ("FEC device", parity))];
        let plans = plans.into_iter().flatten();
        if let Some((what, _)) = plans.clone().find(|(_, plan)| plan.is_new_file(path)) {
            return Err(Failure::argument(format_args!("root hash file {path:?} is the {what}"))
                .hint("give another file"));
        }
        let existing = plans.filter_map(|(what, plan)| Some((what, plan.extent()?)));
        let taken: Vec<_> = data.map(|data| ("data device", data)).into_iter().chain(existing).collect();
        RootHashFile::create(path, &taken).map(Some)
    }

    /// Completes what was begun, when the tree is whole.
    pub(super) fn finish(
        &self,
        geometry: Geometry,
        root: RootHash,
        target: Target,
        root_hash_file: Option<RootHashFile>,
    ) -> Result<Formatted, Failure> {
        let superblock = self.uuid.map(|uuid| Superblock {
            uuid,
            params: self.params.clone(),
            data_blocks: geometry.data_blocks(),
        });
        // What can fail comes first, so that there is a root hash file if there is a hash file.
        let root_hash_file = root_hash_file.map(|file| file.write(&root)).transpose()?;
        target.finish(superblock.as_ref())?;
        root_hash_file.map_or(Ok(()), RootHashFile::publish)?;
        let layout = Layout { uuid: self.uuid, params: self.params.clone(), geometry };
        let Arguments { data, hash, .. } = &self.arguments;
        Ok(Formatted { data: data.clone(), hash: hash.clone(), layout, parity: None, root })
    }
}

fn format(request: &Request, session: &Session) -> Result<Formatted, Failure> {
    let arguments = &request.arguments;
    let data = Input::open(&arguments.data, Role::Data)?;
    let data_blocks = arguments.tree.data_blocks_of(&data, &request.params, session)?;
    let geometry = request.geometry(data_blocks)?;
    let plan = Plan::inspect(&arguments.hash, Role::Hash)?;
    let area = request.area.offset()..geometry.hash_area_end();
    if let Some(hash) = plan.extent() {
        check_apart((data.extent, geometry.data_bytes()), (hash, area.clone()))?;
    }
    let shared = |plan: &Plan| plan.extent().is_some_and(|extent| extent.same_storage(data.extent));
    let planned = PlannedParity::new(request, &geometry, data.extent, &plan, session)?;
    let root_hash_file =
        request.root_hash_file(Some(data.extent), &plan, planned.as_ref().map(|planned| &planned.plan))?;
    // One target for both where both lie in one file.
    let with_hash = planned.as_ref().filter(|planned| planned.parity.with_hash);
    let whole = area.start..with_hash.map_or(area.end, |planned| area.end.max(planned.parity.bytes().end));
    let hash_shared = shared(&plan);
    let target = plan.open(&whole, request.area.has_superblock(), hash_shared)?;
    let parity_target = match &planned {
        Some(PlannedParity { plan, parity }) if !parity.with_hash => {
            let shared = shared(plan);
            Some(plan.clone().open(&parity.bytes(), false, shared)?)
        }
        _ => None,
    };

    session.debug(|| {
        format!(
            "Hashing {} data blocks of {} into {} hash blocks of {}.",
            geometry.data_blocks(),
            arguments.data.display(),
            geometry.hash_blocks(),
            arguments.hash.display()
        )
    });
    let progress = session.progress();
    let options = engine_options(&progress, arguments.work.threads);
    let params = &request.params;
    let root = match &planned {
        None => tree::build(&data.file, target.file(), params, &geometry, &options),
        Some(PlannedParity { parity, .. }) => {
            let file = parity_target.as_ref().unwrap_or(&target).file();
            fec::build(&data.file, target.file(), file, params, &geometry, &parity.places, &options)
        }
    };
    let root = root.map_err(|error| {
        unfinished(engine::failure(&error, |device| device_name(arguments, device)), &target)
    })?;
    drop(progress);
    parity_target.map_or(Ok(()), |target| target.finish(None))?;
    let formatted = request.finish(geometry, root, target, root_hash_file)?;
    Ok(Formatted { parity: planned.map(|planned| planned.parity), ..formatted })
}

/// Parity that is to be made, and where.
struct PlannedParity {
    plan: Plan,
    parity: Parity,
}

impl PlannedParity {
    /// Checks that there is room for it, before anything is written.
    fn new(
        request: &Request,
        geometry: &Geometry,
        data: Extent,
        hash: &Plan,
        session: &Session,
    ) -> Result<Option<Self>, Failure> {
        let options = &request.arguments.fec;
        let Some(device) = options.device(session)? else { return Ok(None) };
        let plan = Plan::inspect(device, Role::Parity)?;
        let with_hash = plan.is_same_as(hash);
        let hash_length = hash.length()?.max(geometry.hash_area_end());
        let parity = Parity::new(device, options, &request.params, geometry, with_hash, hash_length)?;
        match plan.extent() {
            Some(own) => parity.check_apart(own, Some(data), hash.extent(), geometry)?,
            None if with_hash => parity.check_apart_from_hash(geometry)?,
            None => {}
        }
        Ok(Some(Self { plan, parity }))
    }
}

/// veritysetup's warning. `verity open` says it where it matters: other machines may have larger pages.
fn warn_of_large_blocks(params: &Params) {
    let page = sysconf(SysconfVar::PAGE_SIZE).ok().flatten().and_then(|page| u64::try_from(page).ok());
    if let Some(page) = page.filter(|page| params.data_block_size.as_u64() > *page) {
        output::plain(&format!(
            "WARNING: Kernel cannot activate device if data block size exceeds page size ({page})."
        ));
    }
}

/// Adds what the user has to know of a hash area that was overwritten and is not complete.
pub(super) fn unfinished(failure: Failure, target: &Target) -> Failure {
    match target.aftermath() {
        Some(aftermath) => failure.hint(aftermath),
        None => failure,
    }
}

pub(super) fn device_name(arguments: &Arguments, device: Device) -> String {
    match device {
        Device::Data => format!("{:?}", arguments.data),
        Device::Parity => format!("{:?}", arguments.fec.fec_device.as_deref().unwrap_or(&arguments.hash)),
        _ => format!("{:?}", arguments.hash),
    }
}

fn random_salt() -> Result<Salt, Failure> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| {
        Failure::new(Code::General, format_args!("no random numbers for a salt: {error}"))
    })?;
    Salt::new(&bytes).map_err(Failure::argument)
}
