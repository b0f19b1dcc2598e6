//! `verity image build`: from an image of tars to one of layers with hash trees.

use clap::Args;
use verity_core::algorithm::Algorithm;
use verity_core::block::BlockSize;
use verity_core::fec::Roots;
use verity_core::oci::build::{self, Built, Error, Wanted};
use verity_core::oci::{Image, ImageName, Images};
use verity_core::tree::{self, Threads};

use super::destination::{self, Destination};
use super::source::{self, SourceArguments};
use crate::cli::help::exit_codes;
use crate::cli::options::{Common, WorkOptions};
use crate::cli::values;
use crate::commands::layer::LimitArguments;
use crate::commands::{engine, layer};
use crate::failure::{Code, Failure};
use crate::output::{images, images_made};
use crate::session::Session;

const HELP: &str = concat!(
    "\
Makes of each layer an EROFS image with its hash tree, as 'verity layer build' does, and of these an image again: with the configuration as it is, the \
root hashes in the manifest, and the image it was made from as its subject. An index stays an index, of all platforms or of those asked for. \
Digests and diffIDs are checked on the way. Directories that are in a layer without an entry of their own have mode, owner, time and attributes from the layers below.

DST is an OCI layout, which is made if there is none: oci:DIR, with a name for the image behind a colon. Without one it has the name that it has in IMAGE, and a registry's its tag. \
An image of the same name in it is replaced. Or it is a new OCI archive, oci-archive:FILE. The same image makes the same bytes everywhere; docs/images.md has the form of the result.

A layer that is in DST already is not made again, unless the layers below it give its directories something else. Several processes may build into one layout at once: each layer is made by one of them. After an error or a \
signal the image is not in DST, but layers that were complete are, and are found by the next build.

Examples:
  verity image build oci:images:debian oci:verity
  verity image build oci:images:debian oci-archive:debian.tar
  verity image build oci:images:debian oci:verity:debian-12 --fec-roots 2
  verity image build docker-archive:saved.tar oci:verity --platform linux/amd64
  verity image build docker://registry.example/team/app:1 oci:verity:app
  verity image build docker://localhost:5000/app oci:verity:app --tls-verify=false
  verity image build oci:images:debian oci:received:debian-verity --no-reuse
  verity image build oci:images oci:verity --json | jq -r '.images[].digest'
  skopeo copy --all --preserve-digests oci:verity:debian docker://registry.example/debian:verity

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

    /// Where the image is made: oci:DIR, or a new oci-archive:FILE, with :REFERENCE to name it
    #[arg(value_name = "DST")]
    destination: ImageName,

    /// Make each layer anew, and replace what DST has recorded of it; for a DST that somebody else has made
    #[arg(long, help_heading = "The layers")]
    no_reuse: bool,

    /// Block size of images, data and trees: 4096, or 512 [default: 4096]
    #[arg(long, value_name = "BYTES", value_parser = layer::block_size, help_heading = "The trees")]
    block_size: Option<BlockSize>,

    /// Hash algorithm of the trees, one of those that 'verity format' has [default: sha256]
    #[arg(short = 'h', long = "hash", value_name = "ALGORITHM", value_parser = values::algorithm, help_heading = "The trees")]
    algorithm: Option<Algorithm>,

    /// Put parity behind each tree, of so many bytes in each codeword, 2 to 24 [default: no parity]
    #[arg(long, value_name = "ROOTS", value_parser = values::roots, help_heading = "Forward error correction")]
    fec_roots: Option<Roots>,

    #[command(flatten)]
    limits: LimitArguments,

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
    let name = destination::name(&arguments.destination)?;
    if let Some(weakness) = arguments.algorithm.and_then(Algorithm::weakness) {
        session.note(&format!("{} is weak: {weakness}", arguments.algorithm.unwrap_or_default()));
    }
    let source_name = &arguments.source.image;
    let source = arguments.source.open()?;
    let Images { images, artifacts, .. } =
        source::images(&*source, source_name, &arguments.source.platforms.wanted())?;
    if artifacts > 0 {
        session.note(&images::passed_over(artifacts));
    }
    let own_names: Vec<_> = images.iter().filter_map(|image| image.reference.clone()).collect();
    let groups = groups(images, name.or(destination::own_name(source_name)), source_name)?;
    for group in &groups {
        let name = group.name.as_deref();
        destination::refuse_own_source(source_name, &arguments.destination, &own_names, name)?;
    }
    let destination = Destination::open(&arguments.destination, &session.progress())?;
    session.debug(|| format!("Building {source_name} in {:?}.", destination.store().dir()));
    if let Some(folder) = destination.store().distrusted().filter(|_| !arguments.no_reuse) {
        session.note(&format!("others can write to {folder:?}: layers that it tells of are made anew"));
    }
    let limits = arguments.limits.limits();
    let progress = session.layers_progress();
    let mut options = build::Options::new(&limits, &progress);
    options.block_size = arguments.block_size.unwrap_or_default();
    options.algorithm = arguments.algorithm.unwrap_or_default();
    options.roots = arguments.fec_roots;
    options.threads = arguments.work.threads.unwrap_or_default();
    options.reuse = !arguments.no_reuse;
    options.jobs = arguments.jobs.unwrap_or_default();
    let wanted: Vec<_> = groups
        .iter()
        .map(|group| Wanted { reference: group.name.as_deref(), images: &group.images })
        .collect();
    let built = build::build(&*source, &wanted, destination.store(), &options)
        .map_err(|error| failure(&error).within(source_name))?;
    let built = groups.into_iter().map(|group| group.name).zip(built).collect();
    drop(progress);
    destination.publish(&session.progress())?;

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

/// What is going to be listed under one name: an image, or several by an index.
struct Group {
    name: Option<String>,
    images: Vec<Image>,
}

/// The images by the names that they are going to have. Those that an index of the source lists under one name stay together.
fn groups(images: Vec<Image>, name: Option<&str>, source: &ImageName) -> Result<Vec<Group>, Failure> {
    let mut groups: Vec<Group> = Vec::new();
    for image in images {
        match groups.iter_mut().find(|group| group.name == image.reference) {
            Some(group) => group.images.push(image),
            None => groups.push(Group { name: image.reference.clone(), images: vec![image] }),
        }
    }
    let Some(name) = name else { return Ok(groups) };
    match &mut groups[..] {
        [group] => group.name = Some(name.to_owned()),
        several => {
            let message = format!("{source} has {} images, and DST has one name", several.len());
            return Err(Failure::argument(message).hint(
                "say which image, or give DST without a name: each then keeps its own; 'verity image ls' shows them",
            ));
        }
    }
    Ok(groups)
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
            let failure = layer::failure(source, output, |error| destination::cannot_write(output, error));
            match path {
                Some(path) => failure.within(format_args!("layer {layer} ({path:?})")),
                None => failure.within(format_args!("layer {layer}")),
            }
        }
        Error::Store(error) => destination::cannot_store(error),
        Error::ManifestSize { .. } => Failure::argument(error)
            .hint("make an image of fewer layers ('podman build --squash-all', or COPY --from in a second stage); without --fec-roots each layer takes fewer bytes"),
        Error::IndexSize { .. } => {
            Failure::argument(error).hint("build the platforms that are needed, with --platform")
        }
        Error::Unreadable(_) => Failure::argument(error)
            .hint("make an image of fewer layers and annotations, or build fewer platforms, with --platform"),
        Error::Cancelled => engine::failure(&tree::Error::Cancelled, |_| String::new()),
        _ => Failure::new(Code::General, error),
    }
}
