//! `verity image mount`: the root file system of an image.

use std::path::{Path, PathBuf};

use clap::{ArgAction, Args, ValueEnum};
use verity_core::layer::Digest;
use verity_core::mount::{self, Layer, Mounted, Options, Until};
use verity_core::oci::{Image, ImageName, Images, LayerKind, Platform, Source};

use super::mounting;
use super::source::{self, PlatformOptions};
use crate::cli::help::exit_codes;
use crate::cli::options::Common;
use crate::failure::{Code, Failure};
use crate::output::mounts;
use crate::session::Session;

const HELP: &str = concat!(
    "\
Every layer becomes a device that the kernel checks on every read, its EROFS image is mounted, and all of them are stacked, read-only, at TARGET. A wrong \
root hash is refused before there is a device. After that there is one mount and nothing else to look after: whoever unmounts it, with any tool, removes \
devices and loop devices, too. Layers that two mounted images have in common share their devices.

The image is one that 'verity image build' made, in a layout in a directory. What is read is what the manifest's root hashes vouch for; who may write to the \
layout can put another manifest into it, unless --digest says which one it has to be.

1 to 500 layers; docs/mounting.md tells how, and what is left if something fails.

Examples:
  verity image build oci:images:debian oci:verity:debian
  verity image mount oci:verity:debian /mnt
  verity image mount oci:verity:debian /mnt --digest sha256:...
  verity image mount oci:verity:debian /srv/root -o nosuid,nodev
  verity image umount /mnt

",
    exit_codes!()
);

/// Mount an image's root file system, every read of it checked by the kernel
#[derive(Args, Debug)]
#[command(disable_help_flag = true, after_long_help = HELP)]
pub(super) struct Arguments {
    /// The image: oci:DIR, with :REFERENCE for one of several
    #[arg(value_name = "IMAGE")]
    image: ImageName,

    #[command(flatten)]
    platforms: PlatformOptions,

    /// Where: a directory on which nothing is mounted
    target: PathBuf,

    /// The digest that the image's manifest has to have; of several images it selects one
    #[arg(long, value_name = "DIGEST", value_parser = digest)]
    digest: Option<Digest>,

    /// What files of the image may not do, separated by commas
    #[arg(short, long, value_name = "OPTIONS", value_delimiter = ',', action = ArgAction::Append)]
    options: Vec<MountOption>,

    #[command(flatten)]
    pub(super) common: Common,
}

/// As mount(8) has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum MountOption {
    /// Set-user-ID bits and file capabilities do nothing
    Nosuid,
    /// Device nodes cannot be opened
    Nodev,
    /// Nothing can be executed
    Noexec,
    /// As always
    Ro,
}

fn digest(text: &str) -> Result<Digest, String> {
    text.parse().map_err(|error: verity_core::layer::DigestError| error.to_string())
}

/// An image that is mounted.
pub(crate) struct MountedImage {
    pub(crate) name: ImageName,
    pub(crate) image: Image,
    pub(crate) mounted: Mounted,
}

pub(super) fn run(arguments: &Arguments, session: &Session) -> Result<Code, Failure> {
    let name = &arguments.image;
    if !matches!(name, ImageName::OciLayout { .. }) {
        return Err(Failure::argument(format_args!(
            "{name}: only an image in a layout can be mounted, as its layers have to be files"
        ))
        .hint(format_args!("'verity image build {name} oci:DIRECTORY' makes one")));
    }
    let source = source::open_files(name)?;
    let images = source::images(&*source, name, &arguments.platforms.wanted())?;
    let image = choose(images, arguments)?;
    let layers = layers(&image, &*source, name)?;
    let has = |option| arguments.options.contains(&option);
    let options = Options {
        label: Some(image.manifest.digest.to_string()),
        no_suid: has(MountOption::Nosuid),
        no_dev: has(MountOption::Nodev),
        no_exec: has(MountOption::Noexec),
    };
    session.debug(|| format!("Manifest {}, {} layers.", image.manifest.digest, layers.len()));
    let progress = session.progress();
    let mounted = mount::mount(&layers, &arguments.target, &options, &progress)
        .map_err(|error| mounting::failure(&error, session))?;
    drop(progress);
    let mounted = MountedImage { name: name.clone(), image, mounted };
    session
        .print(|| mounts::mounted(&mounted, session.quiet), || mounts::mounted_json(&mounted))
        .map_err(|failure| unreported(&mounted.mounted.target, failure, session))?;
    Ok(Code::Success)
}

/// Unmounts what could not be reported: whoever sees the command fail takes nothing for mounted.
fn unreported(target: &Path, mut failure: Failure, session: &Session) -> Failure {
    if let Err(error) = mount::unmount(target, Until::Gone, &session.progress()) {
        let left = mounting::failure(&error, session);
        failure.message =
            format!("{}; nor could what was mounted be removed: {}", failure.message, left.message);
        failure.hint = left.hint;
    }
    failure
}

/// The one image that is meant: with several, the one for this machine.
fn choose(images: Images, arguments: &Arguments) -> Result<Image, Failure> {
    let name = &arguments.image;
    let mut images = images.images;
    if let Some(digest) = &arguments.digest {
        let found = images.first().map(|image| image.manifest.digest.clone());
        images.retain(|image| image.manifest.digest == *digest);
        if let (true, Some(found)) = (images.is_empty(), found) {
            let message = format!("{name}: no image has the manifest {digest}; the first one is {found}");
            return Err(Failure::new(Code::Refused, message)
                .hint("do not mount it: it is another image than the one that was asked for"));
        }
    }
    let several = images.len() > 1;
    if several {
        let host = Platform::host();
        let fits = |image: &Image| image.platform.as_ref().is_some_and(|platform| platform.is_one_of(&host));
        images.retain(fits);
    }
    let problem = match (images.pop(), images.len()) {
        (Some(image), 0) => return Ok(image),
        (Some(_), _) => "there are several images for this machine",
        (None, _) if several => "there are several images, and none is for this machine",
        (None, _) => {
            return Err(Failure::argument(format_args!("{name}: there is no image that can be mounted"))
                .hint("'verity image ls' shows what there is"));
        }
    };
    Err(Failure::argument(format_args!("{name}: {problem}"))
        .hint("select one with --platform or --digest; 'verity image ls' shows them"))
}

fn layers(image: &Image, source: &dyn Source, name: &ImageName) -> Result<Vec<Layer>, Failure> {
    let layer = |(index, layer): (usize, &verity_core::oci::Layer)| {
        let place = format!("{name}: layer {} ({})", index + 1, layer.descriptor.digest);
        let LayerKind::Verity(tree) = &layer.kind else {
            let what = match layer.kind {
                LayerKind::Tar(_) => "a tar",
                _ => "something else",
            };
            let message = format!(
                "{place} is {what} ({}), and no file system with a tree",
                layer.descriptor.media_type
            );
            return Err(Failure::argument(message).hint(format_args!(
                "'verity image build {name} oci:DIRECTORY' makes an image that can be mounted"
            )));
        };
        let bad =
            |error: verity_core::oci::annotations::AnnotationError| Failure::argument(error).within(&place);
        let missing = || {
            Failure::new(Code::NoDevice, format_args!("{place}: its blob is missing"))
                .hint("the copy is not whole: copy the image again")
        };
        Ok(Layer {
            blob: source.blob_path(&layer.descriptor).ok_or_else(missing)?,
            params: tree.params(),
            geometry: tree.geometry().map_err(bad)?,
            root_hash: tree.root_hash,
            parity: tree.parity().map_err(bad)?,
        })
    };
    image.layers.iter().enumerate().map(layer).collect()
}
