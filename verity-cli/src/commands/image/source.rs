//! Which images are meant, as options say, and what is said when they cannot be read.

use clap::Args;
use verity_core::oci::{self, Error, ImageName, Images, Platform, Platforms, Source};

use crate::cli::values;
use crate::failure::{Code, Failure};

/// Which images of a source are meant.
#[derive(Args, Clone, Debug)]
pub(super) struct SourceArguments {
    /// The image: oci:DIR[:REFERENCE], oci-archive:FILE[:REFERENCE], docker-archive:FILE[:NAME:TAG], docker://[HOST/]NAME[:TAG]
    #[arg(value_name = "IMAGE")]
    pub(super) image: ImageName,

    #[command(flatten)]
    pub(super) platforms: PlatformOptions,
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
    /// Opens the source and finds the images in it.
    pub(super) fn images(&self) -> Result<Images, Failure> {
        images(&*open(&self.image)?, &self.image, &self.platforms.wanted())
    }
}

/// Opens what a name names.
pub(super) fn open(name: &ImageName) -> Result<Box<dyn Source>, Failure> {
    oci::open(name).map_err(|error| failed(&error).within(name))
}

/// Finds the images of a source.
pub(super) fn images(
    source: &dyn Source,
    name: &ImageName,
    platforms: &Platforms,
) -> Result<Images, Failure> {
    oci::images(source, platforms).map_err(|error| failed(&error).within(name))
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
        Error::Read { digest, source } => {
            Failure::system(format_args!("blob {digest} cannot be read"), source)
        }
        Error::Missing { .. } => {
            failure.code(Code::NoDevice).hint("the copy is not whole: copy the image again")
        }
        Error::Mismatch { .. } | Error::Size { .. } => failure
            .code(Code::Refused)
            .hint("the copy is damaged, or was changed while it was read: copy the image again"),
        Error::NoReference { .. } | Error::NoImage { .. } => failure
            .code(Code::NoDevice)
            .hint("'verity image ls' with the name as far as the path shows what there is"),
        Error::NoPlatform { .. } => {
            failure.code(Code::NoDevice).hint("give one of these as --platform, or none")
        }
        Error::Ambiguous { .. } => failure.hint("select one with @DIGEST in place of the reference"),
        _ => failure,
    }
}
