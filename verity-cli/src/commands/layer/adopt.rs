//! `verity layer adopt`: a layer of an image as it is.

use std::path::{Path, PathBuf};

use clap::Args;
use verity_core::block::Salt;
use verity_core::erofs;
use verity_core::fec::Roots;
use verity_core::geometry::{Geometry, HashArea};
use verity_core::io::{Storage, WriteAt};
use verity_core::params::Params;
use verity_core::superblock::Superblock;

use super::making::{Making, parity_behind, uuid_of};
use crate::cli::help::exit_codes;
use crate::cli::options::{Common, TreeOptions, WorkOptions};
use crate::cli::values;
use crate::commands::Formatted;
use crate::commands::layout::{Layout, bad_geometry};
use crate::failure::{Code, Failure};
use crate::files::{Input, NewFile, Role};
use crate::output::{human, json};
use crate::session::{Session, engine_options};

const HELP: &str = concat!(
    "\
OUTPUT is a new file, with mode 0600: the image, then superblock and hash tree at the next hash block, then the parity if --fec-roots asks for it. \
With --beside it holds superblock and tree alone, and the image stays where it is. IMAGE is only read. OUTPUT appears when it is complete.

The same image always becomes the same layer: the salt is 32 zero bytes, as containerd and confidential containers have it, and the UUID \
follows from the root hash. An image that ends inside a block is followed by zeros.

Examples:
  verity layer adopt image.squashfs layer.squashfs
  verity layer adopt rootfs.ext4 layer.ext4 --fec-roots 2
  verity layer adopt image.raw image.verity --beside
  ROOT=$(verity layer adopt --quiet image.erofs layer.erofs)

",
    exit_codes!()
);

/// Make a layer of an image of any file system, as it is
#[derive(Args, Debug)]
#[command(disable_help_flag = true, after_long_help = HELP)]
pub(super) struct Arguments {
    /// The image: a file or a block device
    image: PathBuf,

    /// The file that is made
    output: PathBuf,

    /// Write superblock and tree alone, and leave the image where it is
    #[arg(long)]
    beside: bool,

    #[command(flatten)]
    tree: TreeOptions,

    /// UUID in the superblock [default: it follows from the root hash]
    #[arg(long, value_name = "UUID", value_parser = values::uuid, help_heading = "The tree")]
    uuid: Option<[u8; 16]>,

    /// Add parity behind the tree: bytes of each codeword, 2 to 24
    #[arg(long, value_name = "ROOTS", value_parser = values::roots, conflicts_with = "beside", help_heading = "The tree")]
    fec_roots: Option<Roots>,

    #[command(flatten)]
    work: WorkOptions,
    #[command(flatten)]
    pub(super) common: Common,
}

pub(super) fn run(arguments: &Arguments, session: &Session) -> Result<Code, Failure> {
    let salt = match &arguments.tree.salt {
        Some(salt) => salt.clone(),
        None => Salt::new(&[0; 32]).map_err(Failure::argument)?,
    };
    let params = arguments.tree.params(salt);
    if let Some(weakness) = params.algorithm.weakness() {
        session.note(&format!("{} is weak: {weakness}", params.algorithm));
    }
    let image = Input::open(&arguments.image, Role::Data)?;
    require_one_device(&image, &arguments.image)?;
    let (data_blocks, image_bytes) = size(arguments, &image, &params, session)?;
    let geometry = geometry(arguments, &params, data_blocks)?;
    let parity = arguments.fec_roots.map(|roots| parity_behind(&arguments.output, roots, &params, &geometry));
    let parity = parity.transpose()?;
    let length = parity.as_ref().map_or(geometry.hash_area_end(), |parity| parity.bytes().end);
    let output = NewFile::create(&arguments.output, length)?;

    let progress = session.progress();
    let options = engine_options(&progress, arguments.work.threads);
    let file = output.file();
    let making = Making {
        image: &image.file,
        image_bytes,
        copy: (!arguments.beside).then_some(file as &dyn WriteAt),
        hash: file,
        params: &params,
        geometry: &geometry,
        parity: parity.as_ref().map(|parity| (file as &dyn Storage, &parity.places)),
    };
    let root = making.run(&options, &output, |_| format!("{:?}", arguments.image))?;
    let uuid = arguments.uuid.unwrap_or_else(|| uuid_of(&root));
    let superblock = Superblock { uuid, params: params.clone(), data_blocks };
    file.write_all_at(&superblock.encode(), geometry.area().offset())
        .map_err(|error| output.cannot_write(&error))?;
    output.publish()?;
    drop(progress);

    let Arguments { image, output, beside, .. } = arguments;
    let formatted = Formatted {
        data: if *beside { image.clone() } else { output.clone() },
        hash: output.clone(),
        layout: Layout { uuid: Some(uuid), params, geometry },
        parity,
        root,
    };
    session.print(
        || if session.quiet { format!("{root}\n") } else { human::formatted(&formatted) },
        || json::formatted("layer adopt", &formatted),
    )?;
    Ok(Code::Success)
}

/// An EROFS image with content on other devices is no layer. Other file systems are not looked at.
fn require_one_device(image: &Input, path: &Path) -> Result<(), Failure> {
    let Ok(erofs) = erofs::Image::open(&image.file, image.size) else { return Ok(()) };
    erofs.require_one_device().map_err(|error| {
        Failure::argument(format_args!("{path:?}: {error}"))
            .hint("merge them into one image first (mkfs.erofs without --blobdev)")
    })
}

/// How many data blocks there are, and how many bytes of the image are in them.
fn size(
    arguments: &Arguments,
    image: &Input,
    params: &Params,
    session: &Session,
) -> Result<(u64, u64), Failure> {
    let block_size = params.data_block_size.as_u64();
    let asked = arguments.tree.data_blocks.filter(|&blocks| blocks > 0);
    if asked.is_none() && !arguments.beside && image.size > 0 && !image.size.is_multiple_of(block_size) {
        let blocks = image.size.div_ceil(block_size);
        session.note(&format!(
            "the image ends inside a block of {block_size} bytes: {} zero bytes follow it",
            blocks * block_size - image.size
        ));
        return Ok((blocks, image.size));
    }
    let blocks = arguments.tree.data_blocks_of(image, params, session)?;
    // It is not more than the image has.
    Ok((blocks, blocks * block_size))
}

fn geometry(arguments: &Arguments, params: &Params, data_blocks: u64) -> Result<Geometry, Failure> {
    let data_bytes = data_blocks.saturating_mul(params.data_block_size.as_u64());
    let offset = if arguments.beside { 0 } else { data_bytes };
    let geometry =
        HashArea::with_superblock(offset).and_then(|area| Geometry::new(params, data_blocks, area));
    geometry.map_err(|error| bad_geometry(&error))
}
