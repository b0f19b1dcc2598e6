//! `verity image build`: from an image of tars to one of layers with hash trees.

use std::io;
use std::path::Path;

use clap::Args;
use verity_core::algorithm::Algorithm;
use verity_core::block::BlockSize;
use verity_core::fec::Roots;
use verity_core::layer::Limits;
use verity_core::oci::build::{self, Built, Error};
use verity_core::oci::store::{Store, StoreError};
use verity_core::oci::{Image, ImageName, Images, Reference, Source};
use verity_core::tree::{self, Threads};

use super::source::{self, SourceArguments};
use crate::cli::help::exit_codes;
use crate::cli::options::{Common, WorkOptions};
use crate::cli::values;
use crate::commands::{engine, layer};
use crate::failure::{Code, Failure};
use crate::output::{images, images_made};
use crate::session::Session;

const HELP: &str = concat!(
    "\
Makes of each layer an EROFS image with its hash tree, as 'verity layer build' does, and of these an image again: with the configuration as it is, the \
root hashes in the manifest, and the image it was made from as its subject. An index stays an index, of all platforms or of those asked for. \
Digests and diffIDs are checked on the way.

DST is an OCI layout, which is made if there is none: oci:DIR, with a name for the image behind a colon. Without one it has the name that it has in IMAGE. \
An image of the same name in it is replaced. The same image makes the same bytes everywhere; docs/images.md has the form of the result.

A layer that is in DST already is not made again. Several processes may build into one layout at once: each layer is made by one of them. After an error or a \
signal the image is not in DST, but layers that were complete are, and are found by the next build.

Examples:
  verity image build oci:images:debian oci:verity
  verity image build oci:images:debian oci:verity:debian-12 --fec-roots 2
  verity image build docker-archive:saved.tar oci:verity --platform linux/amd64
  verity image build oci:images oci:verity --json | jq -r '.images[].digest'
  skopeo copy --preserve-digests oci:verity:debian docker://registry.example/debian:verity

",
    exit_codes!()
);

/// Make an image whose layers the kernel mounts and checks
///
/// Makes of each layer an EROFS image with its hash tree, and of these an image again, in an OCI layout.
#[derive(Args, Debug)]
#[command(disable_help_flag = true, after_long_help = HELP)]
pub(super) struct Arguments {
    #[command(flatten)]
    source: SourceArguments,

    /// Where the image is made: oci:DIR[:REFERENCE]
    #[arg(value_name = "DST")]
    destination: ImageName,

    /// How many times as large as its blob a layer's content may be [default: 200]
    #[arg(long, value_name = "N", value_parser = values::number, help_heading = "The layers")]
    max_ratio: Option<u64>,

    /// How many bytes of content a layer may have whatever the ratio [default: 1073741824]
    #[arg(long, value_name = "BYTES", value_parser = values::number, help_heading = "The layers")]
    max_bytes: Option<u64>,

    /// Block size of images, data and trees: 4096, or 512 [default: 4096]
    #[arg(long, value_name = "BYTES", value_parser = layer::block_size, help_heading = "The trees")]
    block_size: Option<BlockSize>,

    /// Hash algorithm of the trees, one of those that 'verity format' has [default: sha256]
    #[arg(short = 'h', long = "hash", value_name = "ALGORITHM", value_parser = values::algorithm, help_heading = "The trees")]
    algorithm: Option<Algorithm>,

    /// Put parity behind each tree, of so many bytes in each codeword, 2 to 24 [default: no parity]
    #[arg(long, value_name = "ROOTS", value_parser = values::roots, help_heading = "Forward error correction")]
    fec_roots: Option<Roots>,

    /// Layers that are made at once, 1 to 1024 [default: one for each processor]
    #[arg(long, value_name = "N", value_parser = values::threads, help_heading = "Work")]
    jobs: Option<Threads>,

    #[command(flatten)]
    work: WorkOptions,
    #[command(flatten)]
    pub(super) common: Common,
}

/// Images that were built.
pub(crate) struct BuiltImages {
    pub(crate) source: ImageName,
    pub(crate) destination: ImageName,
    /// What is listed in the layout, by its name: an image, or an index of several.
    pub(crate) built: Vec<(Option<String>, Built)>,
    pub(crate) artifacts: u64,
}

pub(super) fn run(arguments: &Arguments, session: &Session) -> Result<Code, Failure> {
    let ImageName::OciLayout { dir, reference } = &arguments.destination else {
        return Err(Failure::argument(format_args!(
            "DST {}: images are made in layouts",
            arguments.destination
        ))
        .hint("give oci:DIR[:REFERENCE]; 'skopeo copy --preserve-digests' puts the result elsewhere"));
    };
    let name = match reference {
        None => None,
        Some(Reference::Name(name)) => Some(name.as_str()),
        Some(_) => {
            return Err(Failure::argument(format_args!(
                "DST {}: an image cannot be given a digest or a number",
                arguments.destination
            ))
            .hint("give a name, or none"));
        }
    };
    if let Some(weakness) = arguments.algorithm.and_then(Algorithm::weakness) {
        session.note(&format!("{} is weak: {weakness}", arguments.algorithm.unwrap_or_default()));
    }
    let source_name = &arguments.source.image;
    let source = source::open(source_name)?;
    let Images { images, artifacts, .. } =
        source::images(&*source, source_name, &arguments.source.platforms.wanted())?;
    if artifacts > 0 {
        session.note(&images::passed_over(artifacts));
    }
    let groups = groups(images, name, source_name)?;
    for (name, _) in &groups {
        refuse_own_source(source_name, dir, name.as_deref())?;
    }
    let store = Store::open(dir).map_err(|error| cannot_store(&error))?;
    session.debug(|| format!("Building {source_name} in {dir:?}."));
    let mut limits = Limits::default();
    limits.ratio = arguments.max_ratio.unwrap_or(limits.ratio);
    limits.allowance = arguments.max_bytes.unwrap_or(limits.allowance);
    let progress = session.layers_progress();
    let mut options = build::Options::new(&limits, &progress);
    options.block_size = arguments.block_size.unwrap_or_default();
    options.algorithm = arguments.algorithm.unwrap_or_default();
    options.roots = arguments.fec_roots;
    options.threads = arguments.work.threads.unwrap_or_default();
    options.jobs = arguments.jobs.unwrap_or_default();
    let mut built = Vec::with_capacity(groups.len());
    for (name, images) in groups {
        let one = build_one(&*source, &images, &store, name.as_deref(), &options)
            .map_err(|failure| failure.within(source_name))?;
        built.push((name, one));
    }
    drop((progress, store));

    let built = BuiltImages {
        source: source_name.clone(),
        destination: arguments.destination.clone(),
        built,
        artifacts,
    };
    session.print(
        || if session.quiet { images_made::digests(&built) } else { images_made::built(&built) },
        || images_made::built_json(&built),
    )?;
    Ok(Code::Success)
}

fn build_one(
    source: &dyn Source,
    images: &[Image],
    store: &Store,
    name: Option<&str>,
    options: &build::Options<'_>,
) -> Result<Built, Failure> {
    build::build(source, images, store, name, options).map_err(|error| failure(&error))
}

/// The images by the names that they are going to have. Those that an index of the source lists under one name stay together.
fn groups(
    images: Vec<Image>,
    name: Option<&str>,
    source: &ImageName,
) -> Result<Vec<(Option<String>, Vec<Image>)>, Failure> {
    let mut groups: Vec<(Option<String>, Vec<Image>)> = Vec::new();
    for image in images {
        match groups.iter_mut().find(|(name, _)| *name == image.reference) {
            Some((_, images)) => images.push(image),
            None => groups.push((image.reference.clone(), vec![image])),
        }
    }
    let Some(name) = name else { return Ok(groups) };
    if groups.len() > 1 {
        let several = format_args!("{source} has {} images, and DST has one name", groups.len()).to_string();
        return Err(Failure::argument(several)
            .hint("say which image, or give DST without a name: each then keeps its own; 'verity image ls' shows them"));
    }
    Ok(groups.into_iter().map(|(_, images)| (Some(name.to_owned()), images)).collect())
}

/// A source is never written to: in its own layout the result has to have a name of its own.
fn refuse_own_source(source: &ImageName, dir: &Path, name: Option<&str>) -> Result<(), Failure> {
    let ImageName::OciLayout { dir: other, reference } = source else { return Ok(()) };
    let same_layout = match (dir.canonicalize(), other.canonicalize()) {
        (Ok(dir), Ok(other)) => dir == other,
        _ => false,
    };
    let own_name = match (reference, name) {
        (Some(Reference::Name(source)), Some(name)) => source == name,
        // By a digest, or all that there is: whatever is called that.
        _ => name.is_none() || reference.is_none(),
    };
    if same_layout && own_name {
        return Err(Failure::new(
            Code::Busy,
            format_args!("{source} would be replaced by what is made of it"),
        )
        .hint("give DST another name, or another directory"));
    }
    Ok(())
}

/// What went wrong, with what to do.
fn failure(error: &Error) -> Failure {
    match error {
        Error::HasTree { .. } => {
            Failure::argument(error).hint("use it as it is; 'verity image verify' checks it")
        }
        Error::NoTar { .. } => Failure::argument(error).hint(
            "only layers that are tars can be built; 'verity layer adopt' takes images of file systems",
        ),
        Error::Source { layer, source: error } => source::failed(error).within(format_args!("layer {layer}")),
        Error::Layer { layer, path, output, source } => {
            let failure = layer::failure(source, output, |error| cannot_write(output, error));
            match path {
                Some(path) => failure.within(format_args!("layer {layer} ({path:?})")),
                None => failure.within(format_args!("layer {layer}")),
            }
        }
        Error::Store(error) => cannot_store(error),
        Error::Cancelled => engine::failure(&tree::Error::Cancelled, |_| String::new()),
        _ => Failure::new(Code::General, error),
    }
}

fn cannot_store(error: &StoreError) -> Failure {
    match error {
        StoreError::NotALayout { .. } => {
            Failure::new(Code::Busy, error).hint("give a directory that is empty or does not exist yet")
        }
        StoreError::Write { path, source } => cannot_write(path, source),
        StoreError::Read { path, source } => Failure::system(format_args!("{path:?} cannot be read"), source),
        StoreError::Cancelled => engine::failure(&tree::Error::Cancelled, |_| String::new()),
        _ => Failure::new(Code::General, error),
    }
}

fn cannot_write(path: &Path, error: &io::Error) -> Failure {
    let failure = Failure::system(format_args!("output {path:?} cannot be written"), error);
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            failure.hint("make room; layers that are complete are not made again")
        }
        io::ErrorKind::NotFound => failure.code(Code::General).hint("give a directory in one that exists"),
        _ => failure.hint("give a directory that can be written to"),
    }
}
