//! `verity image inspect`: what an image consists of.

use std::collections::BTreeSet;

use clap::Args;
use verity_core::layer::Digest;
use verity_core::oci::{Image, ImageName, Images};

use super::source::{self, SourceArguments};
use crate::cli::help::exit_codes;
use crate::cli::options::Common;
use crate::failure::{Code, Failure};
use crate::output::images;
use crate::session::Session;

const HELP: &str = concat!(
    "\
Shows what the manifest and the configuration say: the layers with their sizes, digests and diffIDs, the root hashes of those that have a tree, and \
what Copacetic left as marks of a patch. Digests of the documents are checked, the layers are not read: 'verity image verify' does that.

With --base the layers are compared with those of another image, by diffID, so that it does not matter how they are stored: 'base' are those that both \
chains begin with, 'patch' what the other image does not have, 'elsewhere' what it has at another place. Without --base the topmost layer of an image \
that Copacetic marked is the patch.

Examples:
  verity image inspect oci:images:debian
  verity image inspect oci:images:patched --base oci:images:debian
  verity image inspect docker://debian:12 --platform linux/amd64
  verity image inspect docker-archive:saved.tar --json | jq -r '.images[0].layers[].diff_id'

",
    exit_codes!()
);

/// Show what an image consists of, and what it shares with another one
#[derive(Args, Debug)]
#[command(disable_help_flag = true, after_long_help = HELP)]
pub(super) struct Arguments {
    #[command(flatten)]
    source: SourceArguments,

    /// Another image that the layers are compared with
    #[arg(long, value_name = "IMAGE")]
    base: Option<ImageName>,

    #[command(flatten)]
    pub(super) common: Common,
}

/// What is known of a source's images.
#[derive(Debug)]
pub(crate) struct Inspected {
    pub(crate) name: ImageName,
    pub(crate) base: Option<ImageName>,
    pub(crate) images: Vec<Compared>,
    pub(crate) artifacts: u64,
}

/// An image beside the one it is compared with.
#[derive(Debug)]
pub(crate) struct Compared {
    pub(crate) image: Image,
    /// A layer each.
    pub(crate) roles: Vec<Option<Role>>,
    /// The manifest of the other image, and how many layers that has.
    pub(crate) base: Option<(Digest, usize)>,
}

/// What a layer is to another image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Both chains begin with it, and with everything below it.
    Base,
    /// The other image has it, at another place.
    Elsewhere,
    /// The other image does not have it.
    Patch,
}

impl Role {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Base => "base",
            Self::Elsewhere => "elsewhere",
            Self::Patch => "patch",
        }
    }
}

impl Compared {
    /// How many layers both chains begin with.
    pub(crate) fn shared(&self) -> usize {
        self.roles.iter().take_while(|role| **role == Some(Role::Base)).count()
    }
}

pub(super) fn run(arguments: &Arguments, session: &Session) -> Result<Code, Failure> {
    let Images { images, artifacts, .. } = arguments.source.images(arguments.base.as_ref())?;
    let bases = match &arguments.base {
        None => None,
        Some(name) => {
            let platforms = arguments.source.platforms.wanted();
            Some((
                name,
                source::images(&*source::open(name, &arguments.source.registry)?, name, &platforms)?.images,
            ))
        }
    };
    let compared = images.into_iter().map(|image| match &bases {
        None => Ok(alone(image)),
        Some((name, bases)) => {
            let base = base_of(&image, bases, name)?;
            Ok(beside(image, base))
        }
    });
    let inspected = Inspected {
        name: arguments.source.image.clone(),
        base: arguments.base.clone(),
        images: compared.collect::<Result<_, Failure>>()?,
        artifacts,
    };
    if artifacts > 0 {
        session.note(&images::passed_over(artifacts));
    }
    session.print(|| images::inspected(&inspected), || images::inspected_json(&inspected))?;
    Ok(Code::Success)
}

/// The image for the same platform.
fn base_of<'b>(image: &Image, bases: &'b [Image], name: &ImageName) -> Result<&'b Image, Failure> {
    let mut fitting = bases.iter().filter(|base| base.platform == image.platform);
    match (fitting.next(), fitting.next()) {
        (Some(base), None) => Ok(base),
        (None, _) => {
            let platform = image.platform.as_ref().map_or("no platform".to_owned(), ToString::to_string);
            Err(Failure::new(Code::NoDevice, format_args!("--base {name}: there is no image for {platform}"))
                .hint("choose an image that both have with --platform"))
        }
        (Some(_), Some(_)) => Err(Failure::argument(format_args!("--base {name}: there are several images"))
            .hint("say which one, by its reference or as @DIGEST; 'verity image ls' shows them")),
    }
}

fn alone(image: Image) -> Compared {
    let mut roles = vec![None; image.layers.len()];
    if images::Copa::of(&image).patched.is_some()
        && let Some(top) = roles.last_mut()
    {
        *top = Some(Role::Patch);
    }
    Compared { image, roles, base: None }
}

fn beside(image: Image, base: &Image) -> Compared {
    let theirs: Vec<_> = base.layers.iter().map(|layer| &layer.diff_id).collect();
    let ours = image.layers.iter().map(|layer| &layer.diff_id);
    let shared = ours.clone().zip(&theirs).take_while(|(our, their)| our == *their).count();
    let anywhere: BTreeSet<_> = theirs.iter().copied().collect();
    let role = |(place, diff_id): (usize, &Digest)| {
        Some(match anywhere.contains(diff_id) {
            _ if place < shared => Role::Base,
            true => Role::Elsewhere,
            false => Role::Patch,
        })
    };
    let roles = ours.enumerate().map(role).collect();
    let base = Some((base.manifest.digest.clone(), theirs.len()));
    Compared { image, roles, base }
}
