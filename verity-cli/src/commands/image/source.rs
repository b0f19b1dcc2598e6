//! Which images are meant, as options say, and what is said when they cannot be read.

use clap::Args;
use verity_core::oci::{self, Error, ImageName, Images, Platform, Platforms, Source};
use verity_core::progress::Observer;
use verity_core::tree;

use super::registry::{self, RegistryOptions};
use crate::cli::values;
use crate::commands::engine;
use crate::failure::{Code, Failure};
use crate::interrupt;

/// What to do about what is not as its documents say, or ends early.
pub(super) const CHANGED: &str =
    "the copy is damaged, or was changed while it was read: copy the image again";

/// Which images of a source are meant.
#[derive(Args, Clone, Debug)]
pub(super) struct SourceArguments {
    /// The image: oci:DIR, oci-archive:FILE or docker-archive:FILE, with :REFERENCE for one of several, or docker://NAME
    #[arg(value_name = "IMAGE")]
    pub(super) image: ImageName,

    #[command(flatten)]
    pub(super) platforms: PlatformOptions,

    #[command(flatten)]
    pub(super) registry: RegistryOptions,
}

/// For which machines.
#[derive(Args, Clone, Debug)]
pub(super) struct PlatformOptions {
    /// Only images for this platform, like linux/arm64 or linux/arm/v7; 'host' is this machine's; several times for several [default: all]
    #[arg(long = "platform", value_name = "PLATFORM", value_parser = values::platform)]
    wanted: Vec<Platform>,
}

impl PlatformOptions {
    pub(super) fn wanted(&self) -> Platforms {
        if self.wanted.is_empty() { Platforms::All } else { Platforms::These(self.wanted.clone()) }
    }
}

impl SourceArguments {
    /// Opens the source and finds the images in it; `other` is an image that is going to be opened with the same options.
    pub(super) fn images(&self, other: Option<&ImageName>) -> Result<Images, Failure> {
        self.registry.refuse_unused(std::iter::once(&self.image).chain(other))?;
        images(&*open(&self.image, &self.registry)?, &self.image, &self.platforms.wanted())
    }

    /// Opens the source.
    pub(super) fn open(&self) -> Result<Box<dyn Source>, Failure> {
        self.registry.refuse_unused(std::iter::once(&self.image))?;
        open(&self.image, &self.registry)
    }
}

/// Opens what a name names.
pub(super) fn open(name: &ImageName, registry: &RegistryOptions) -> Result<Box<dyn Source>, Failure> {
    match name {
        ImageName::Registry(name) => Ok(Box::new(registry.open(name)?)),
        _ => open_files(name),
    }
}

/// Stops at a signal.
struct Interruptible;

impl Observer for Interruptible {
    fn cancelled(&self) -> bool {
        interrupt::received().is_some()
    }
}

/// Opens a layout or an archive.
pub(super) fn open_files(name: &ImageName) -> Result<Box<dyn Source>, Failure> {
    oci::open_with(name, &Interruptible).map_err(|error| failed(&error).within(name))
}

/// Finds the images of a source.
pub(super) fn images(
    source: &dyn Source,
    name: &ImageName,
    platforms: &Platforms,
) -> Result<Images, Failure> {
    oci::images(source, platforms).map_err(|error| match error {
        // A registry's errors say themselves what they are about.
        Error::Other(_) => failed(&error),
        _ => failed(&error).within(name),
    })
}

/// What went wrong with an image, with an exit code and what to do.
pub(super) fn failed(error: &Error) -> Failure {
    let failure = Failure::argument(error);
    match error {
        Error::Open { path, source } => {
            let failure = Failure::system(format_args!("{path:?} cannot be read"), source);
            match failure.code {
                Code::Refused => failure.hint("check the permissions, or run as another user"),
                _ => failure.code(Code::NoDevice).hint("check the path"),
            }
        }
        Error::Read { digest, source } => registry::reading_failure(source).unwrap_or_else(|| {
            Failure::system(format_args!("blob {digest} cannot be read"), source).hint(CHANGED)
        }),
        Error::Other(other) => other.downcast_ref().map_or(failure, registry::failure),
        Error::Cancelled => engine::failure(&tree::Error::Cancelled, |_| String::new()),
        Error::Missing { .. } => {
            failure.code(Code::NoDevice).hint("the copy is not whole: copy the image again")
        }
        Error::Mismatch { .. } | Error::Size { .. } => failure.code(Code::Refused).hint(CHANGED),
        Error::NoImage { .. } => failure
            .code(Code::NoDevice)
            .hint("check the name; 'umoci new' and 'skopeo copy' put images into a layout"),
        Error::NoReference { .. } => failure
            .code(Code::NoDevice)
            .hint("'verity image ls' with the name as far as the path shows what there is"),
        Error::NoPlatform { .. } => {
            failure.code(Code::NoDevice).hint("give one of these as --platform, or none")
        }
        Error::Ambiguous { .. } => failure.hint("select one with @DIGEST in place of the reference"),
        _ => failure.hint("docs/images.md tells what is read, and what is refused"),
    }
}
