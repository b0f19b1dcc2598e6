//! `verity image verify`: an image against what its documents say.

use std::sync::Arc;

use clap::Args;
use verity_core::oci::verify::{self, Error, Verified};
use verity_core::oci::{Image, ImageName, Images};
use verity_core::tree::Threads;

use super::registry;
use super::source::{self, SourceArguments};
use crate::cli::help::exit_codes;
use crate::cli::options::{Common, WorkOptions};
use crate::cli::values;
use crate::commands::engine;
use crate::commands::layer::{ContentLimits, TRUSTED_CONTENT};
use crate::failure::{Code, Failure};
use crate::output::{self, images, images_made};
use crate::session::Session;

const HELP: &str = concat!(
    "\
Checks all that there is: manifests against the index, the configuration against the manifest, each layer's blob against its digest, each tree against the root hash in \
the layer's annotations, each tar against its diffID in the configuration. What was asked for by name is as trustworthy as the index; to know that it is a certain \
image, give its digest: oci:DIR@sha256:...

Nothing is printed if all is well. Else it is said what is wrong with which layer, and the exit code is 2.

Examples:
  verity image verify oci:verity:debian
  verity image verify oci:verity@sha256:4f06... --json | jq .intact
  verity image verify docker://registry.example/debian:verity
  verity image verify oci-archive:images.tar --platform linux/arm64

",
    exit_codes!()
);

/// Check every blob and every tree of an image
#[derive(Args, Debug)]
#[command(disable_help_flag = true, after_long_help = HELP)]
pub(super) struct Arguments {
    #[command(flatten)]
    source: SourceArguments,

    /// List at most so many findings for each layer; the others are counted
    #[arg(long, value_name = "N", value_parser = values::count, default_value = "10000")]
    max_findings: usize,

    /// Layers that are checked at once, 1 to 1024 [default: one for each processor]
    #[arg(long, value_name = "N", value_parser = values::threads, help_heading = "Work")]
    jobs: Option<Threads>,

    #[command(flatten)]
    limits: ContentLimits,

    #[command(flatten)]
    work: WorkOptions,
    #[command(flatten)]
    pub(super) common: Common,
}

/// Images that were verified.
pub(crate) struct VerifiedImages {
    pub(crate) source: ImageName,
    pub(crate) images: Vec<VerifiedImage>,
    pub(crate) artifacts: u64,
}

/// An image, and what was found in its layers.
pub(crate) struct VerifiedImage {
    pub(crate) image: Image,
    pub(crate) layers: Vec<Arc<Verified>>,
}

impl VerifiedImages {
    pub(crate) fn is_intact(&self) -> bool {
        self.images.iter().flat_map(|image| &image.layers).all(|layer| layer.is_intact())
    }
}

pub(super) fn run(arguments: &Arguments, session: &Session) -> Result<Code, Failure> {
    let name = &arguments.source.image;
    let source = arguments.source.open()?;
    let Images { images, artifacts, .. } =
        source::images(&*source, name, &arguments.source.platforms.wanted())?;
    if artifacts > 0 {
        session.note(&images::passed_over(artifacts));
    }
    let progress = session.layers_progress();
    let (limits, scratch) = (arguments.limits.limits(), std::env::temp_dir());
    let mut options = verify::Options::new(&scratch, &limits, &progress);
    options.max_findings = arguments.max_findings;
    options.threads = arguments.work.threads.unwrap_or_default();
    options.jobs = arguments.jobs.unwrap_or_default();
    let found = verify::verify(&*source, &images, &options).map_err(|error| failure(&error).within(name))?;
    drop(progress);
    let images = images.into_iter().zip(found).map(|(image, layers)| VerifiedImage { image, layers });
    let verified = VerifiedImages { source: name.clone(), images: images.collect(), artifacts };
    session.print(
        || if session.quiet { String::new() } else { images_made::problems(&verified) },
        || images_made::verified_json(&verified),
    )?;
    if verified.is_intact() {
        return Ok(Code::Success);
    }
    let bad = verified.images.iter().flat_map(|image| &image.layers).filter(|layer| !layer.is_intact());
    let failure = Failure::new(
        Code::Refused,
        format_args!("{name}: verification failed: {} layers are bad", bad.count()),
    )
    .hint("do not use this image; copy or build it anew");
    // Where a document was asked for it has been printed.
    Ok(output::failure(&failure, session.personality, false))
}

/// What went wrong, with what to do.
fn failure(error: &Error) -> Failure {
    match error {
        Error::Work(error) => engine::failure(error, |_| "of a layer".to_owned()),
        Error::Source { layer, source } => source::failed(source).within(format_args!("layer {layer}")),
        Error::Read { layer, source } => match registry::reading_failure(source) {
            Some(failure) => failure.within(format_args!("layer {layer}")),
            None => {
                Failure::system(format_args!("layer {layer} cannot be read"), source).hint(source::CHANGED)
            }
        },
        Error::Limit { .. } => Failure::new(Code::General, error).hint(TRUSTED_CONTENT),
        Error::Scratch { layer, source } => Failure::system(
            format_args!("there is no room for layer {layer} in {:?}", std::env::temp_dir()),
            source,
        )
        .hint("set TMPDIR to a folder with more room, or copy the image to a layout"),
        _ => Failure::new(Code::General, error),
    }
}
