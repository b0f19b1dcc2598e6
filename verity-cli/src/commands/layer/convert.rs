//! `verity layer convert`: a layer in another dialect.

mod plan;
mod target;

use std::path::PathBuf;

use clap::Args;
use verity_core::block::RootHash;
use verity_core::dialect::Dialect;
use verity_core::dialect::ddi::Architecture;
use verity_core::fec::Roots;
use verity_core::io::{Storage, Window, WriteAt};
use verity_core::reader::VerityReader;
use verity_core::superblock::Superblock;
use verity_core::tree;

use super::making::{Making, uuid_of};
use super::reading::SourceArguments;
use super::source::{self, Layer};
use crate::cli::help::exit_codes;
use crate::cli::options::{Common, WorkOptions};
use crate::cli::values;
use crate::commands::Parity;
use crate::commands::layout::Layout;
use crate::commands::root::RootArguments;
use crate::commands::verify::refuse_other_root;
use crate::failure::{Code, Failure};
use crate::files::NewFile;
use crate::output::dialects;
use crate::session::{Session, engine_options};
use plan::Plan;
use target::Target;

const HELP: &str = concat!(
    "\
Every block of LAYER is verified first, as 'verity layer verify' does, against ROOT_HASH or else the root hash of its description, and again \
while it is read; what does not match is not converted. All \
files that are made are new, with mode 0600. They appear when all are complete, the description last.

Where the other dialect wants another tree (another salt, no superblock, another algorithm) it is made, and the root hash is a new one, which is \
told: signatures and policies need that one.

Parity covers image and tree where they lie, and is no part of any dialect: where there is some behind the tree of LAYER, say whether it is to be left \
out (--without-parity), or made anew behind the new tree (--fec-roots, for plain, containerd, stacker and notation).

  plain       OUTPUT: image, superblock, tree
  containerd  OUTPUT, and OUTPUT.dmverity
  vhd         OUTPUT, with a VHD footer
  nydus       OUTPUT, and its options in OUTPUT.nydus
  kata        OUTPUT, and the volume in OUTPUT.kata.json
  stacker     OUTPUT, and OUTPUT.annotations.json
  notation    OUTPUT, and the manifest in OUTPUT.notation.json
  systemd     OUTPUT: the image; and .verity, .roothash and .roothash.p7s beside it
  ddi         OUTPUT: a disk image with partitions

Examples:
  verity layer convert layer.erofs layer.vhd ROOT_HASH --to vhd
  verity layer convert layer.vhd layer.erofs ROOT_HASH --to containerd
  verity layer convert layer.erofs out.erofs ROOT_HASH --to containerd --fec-roots 2
  verity layer convert layer.erofs /images/layer.erofs ROOT_HASH --to kata --json | jq .root_hash
  verity layer convert layer.erofs app.raw ROOT_HASH --to ddi --root-hash-signature root.p7s --certificate cert.pem
  verity layer convert layer.erofs out.erofs ROOT_HASH --to notation --root-hash-signature root.p7s --layer-digest sha256:... --subject manifest.json

",
    exit_codes!()
);

/// Write a layer in another dialect
#[derive(Args, Debug)]
#[command(disable_help_flag = true, after_long_help = HELP)]
pub(super) struct Arguments {
    #[command(flatten)]
    source: SourceArguments,

    /// The layer that is made
    output: PathBuf,

    #[command(flatten)]
    root: RootArguments,

    /// The dialect of the layer that is made
    #[arg(long, value_name = "DIALECT", value_parser = values::dialect)]
    to: Dialect,

    /// The root hash's signature, in DER: for systemd, ddi and notation
    #[arg(long, value_name = "PATH", help_heading = "What is made")]
    root_hash_signature: Option<PathBuf>,

    /// The certificate of the signature, whose fingerprint a ddi names
    #[arg(long, value_name = "PATH", requires = "root_hash_signature", help_heading = "What is made")]
    certificate: Option<PathBuf>,

    /// The manifest of the image that a notation manifest refers to
    #[arg(long, value_name = "PATH", help_heading = "What is made")]
    subject: Option<PathBuf>,

    /// The architecture of a ddi [default: this machine's]
    #[arg(long, value_name = "NAME", value_parser = values::architecture, help_heading = "What is made")]
    architecture: Option<Architecture>,

    /// A ddi for /usr instead of /
    #[arg(long, help_heading = "What is made")]
    usr: bool,

    /// Make parity behind the tree, of so many bytes in each codeword, 2 to 24
    #[arg(long, value_name = "ROOTS", value_parser = values::roots, help_heading = "What is made")]
    fec_roots: Option<Roots>,

    /// Leave out the parity that lies behind the tree of LAYER
    #[arg(long, conflicts_with = "fec_roots", help_heading = "What is made")]
    without_parity: bool,

    #[command(flatten)]
    work: WorkOptions,
    #[command(flatten)]
    pub(super) common: Common,
}

/// A finished conversion.
pub(crate) struct Converted {
    pub(crate) source: Layer,
    /// What the source was checked against.
    pub(crate) before: RootHash,
    /// Whether that was given, and not taken from a description.
    pub(crate) given: bool,
    pub(crate) to: Dialect,
    pub(crate) layout: Layout,
    pub(crate) parity: Option<Parity>,
    pub(crate) root: RootHash,
    /// All files that were made, the layer first.
    pub(crate) files: Vec<PathBuf>,
}

pub(super) fn run(arguments: &Arguments, session: &Session) -> Result<Code, Failure> {
    target::check_options(arguments)?;
    let layer = Layer::open(&arguments.source.converted_to(arguments.to), session)?;
    let (before, given) = layer.root(&arguments.root, session)?;
    let plan = Plan::new(arguments, &layer)?;
    let target = Target::new(arguments, &layer, &plan, &before)?;
    let output = NewFile::create(&arguments.output, target.length(&plan))?;
    let tree_file = target.tree_file(&plan)?;
    let descriptions = target.descriptions()?;

    let progress = session.progress();
    let options = engine_options(&progress, arguments.work.threads);
    refuse_parity(arguments, &layer, &options)?;
    refuse_damage(&layer, &before, &options)?;
    let (params, geometry) = (layer.layout.params.clone(), layer.layout.geometry.clone());
    let image = VerityReader::new(layer.data(), layer.hash(), params, geometry, before)
        .map_err(|error| Failure::new(Code::General, error))?;
    let copy = Window::new(output.file(), target.data_bytes(&plan));
    let hash_file = tree_file.as_ref().unwrap_or(&output);
    let hash = Window::new(hash_file.file(), target.hash_bytes(&plan));
    let making = Making {
        image: &image,
        image_bytes: image.data_bytes(),
        copy: Some(&copy),
        hash: &hash,
        params: &plan.params,
        geometry: &plan.geometry,
        parity: plan.parity.as_ref().map(|parity| (output.file() as &dyn Storage, &parity.places)),
    };
    let root = making.run(&options, &output, |device| layer.name(device))?;
    if plan.kept && root != before {
        return Err(Failure::new(
            Code::Refused,
            format_args!("layer {:?} changed while it was read", layer.path),
        )
        .hint("try again when nothing writes to it"));
    }
    drop(progress);

    let uuid = layer.layout.uuid.filter(|_| plan.kept).unwrap_or_else(|| uuid_of(&root));
    let area = plan.geometry.area();
    if area.has_superblock() {
        let data_blocks = plan.geometry.data_blocks();
        let superblock = Superblock { uuid, params: plan.params.clone(), data_blocks };
        hash.write_all_at(&superblock.encode(), area.offset())
            .map_err(|error| hash_file.cannot_write(&error))?;
    }
    target.complete(&plan, &root, &output)?;
    target.describe(&plan, &root, &descriptions)?;

    let files: Vec<_> = [output].into_iter().chain(tree_file).chain(descriptions).collect();
    let paths = files.iter().map(|file| file.path().to_owned()).collect();
    NewFile::publish_all(files)?;
    let layout =
        Layout { uuid: area.has_superblock().then_some(uuid), params: plan.params, geometry: plan.geometry };
    drop(image);
    let to = arguments.to;
    let parity = plan.parity;
    let converted = Converted { source: layer, before, given, to, layout, parity, root, files: paths };
    session.print(
        || if session.quiet { format!("{root}\n") } else { dialects::converted(&converted) },
        || dialects::converted_json(&converted),
    )?;
    Ok(Code::Success)
}

/// What lies behind the tree is not dropped in silence.
fn refuse_parity(arguments: &Arguments, layer: &Layer, options: &tree::Options<'_>) -> Result<(), Failure> {
    let decided = arguments.without_parity || arguments.fec_roots.is_some();
    if decided || !layer.goes_on(|| options.observer.cancelled())? {
        return Ok(());
    }
    let message = format_args!(
        "layer {:?} goes on behind its tree: parity, if it is that, which holds for this layer alone",
        layer.path
    );
    let hint = if target::WITH_PARITY.contains(&arguments.to) {
        "make it anew with --fec-roots, or leave it out with --without-parity"
    } else {
        "leave it out with --without-parity: this dialect has no place for it"
    };
    Err(Failure::new(Code::General, message).hint(hint))
}

/// Every block of the source has to be what the root hash says, before anything is made of it.
///
/// What is read for the new layer is verified again, but that goes only as far as the data are said to go: what tells a
/// shortened image are the digests that are left over in its tree, in slots that have to be zeros.
fn refuse_damage(layer: &Layer, root: &RootHash, options: &tree::Options<'_>) -> Result<(), Failure> {
    let (data, hash) = (layer.data(), layer.hash());
    let options = tree::Options { max_findings: 1, ..*options };
    let report = refuse_other_root(&data, &hash, &layer.layout, root, &options)
        .and_then(|()| {
            let Layout { params, geometry, .. } = &layer.layout;
            tree::verify(&data, &hash, params, geometry, root, &options)
        })
        .map_err(|error| source::failure(layer, &error))?;
    if report.is_intact() {
        return Ok(());
    }
    let path = &layer.path;
    let failure = match report.findings.first() {
        Some(finding) => Failure::new(Code::Refused, format_args!("layer {path:?}: {finding}")),
        None => Failure::new(Code::Refused, format_args!("layer {path:?} does not match its root hash")),
    };
    let only_spare = report.findings.first().is_some_and(|it| matches!(it.fault, tree::Fault::Spare { .. }));
    Err(failure.hint(if only_spare {
        "its number of data blocks was changed, or something is hidden there: do not use this layer"
    } else {
        "do not use this layer; fetch or build it anew"
    }))
}
