//! Images, as they are found in a source.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::annotations::LayerAnnotations;
use super::descriptor::{Descriptor, Platform};
use crate::layer::{Compression, Digest};

/// Which images of an index are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Platforms {
    /// Every one.
    #[default]
    All,
    /// Those for the machine that this runs on.
    Host,
    /// Those for one of these.
    These(Vec<Platform>),
}

/// What a source has.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Images {
    /// The images, in the order of the indexes; at least one.
    pub images: Vec<Image>,
    /// How many entries of indexes were passed over since they are no images: attestations, signatures and other artifacts.
    pub artifacts: u64,
}

/// An image for one platform.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Image {
    /// The manifest.
    pub manifest: Descriptor,
    /// Its bytes, which have the digest that they should have.
    pub manifest_bytes: Vec<u8>,
    /// What the image is to be run with.
    pub config: Config,
    /// What it is for: what the index says, or else what the configuration says.
    pub platform: Option<Platform>,
    /// The layers, the lowest first.
    pub layers: Vec<Layer>,
    /// The manifest's own annotations; those of its descriptor are in `manifest`.
    pub annotations: BTreeMap<String, String>,
    /// The annotations of the indexes that led here, where several say the same thing the innermost's. All images of an index share them.
    pub index_annotations: Arc<BTreeMap<String, String>>,
    /// The name that the source's own list gives it, or the index that it is in; what other indexes call it does not count.
    pub reference: Option<String>,
    /// The manifest that this one says something about.
    pub subject: Option<Descriptor>,
    /// What kind of thing the manifest describes, where that is no image to be run.
    pub artifact_type: Option<String>,
}

/// An image's configuration.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// What the manifest says of it.
    pub descriptor: Descriptor,
    /// Its bytes, which have the digest that they should have.
    pub bytes: Vec<u8>,
    /// What it says that the image runs on.
    pub platform: Option<Platform>,
    /// The digests of the layers' tars, the lowest first.
    pub diff_ids: Vec<Digest>,
    /// Remarks.
    pub labels: BTreeMap<String, String>,
}

/// A layer of an image.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Layer {
    /// The blob.
    pub descriptor: Descriptor,
    /// The digest of the uncompressed tar, which the configuration says.
    pub diff_id: Digest,
    /// What the blob is.
    pub kind: LayerKind,
}

/// What a layer's blob is.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum LayerKind {
    /// A tar, compressed as the media type says, which may be wrong: the first bytes decide.
    Tar(Compression),
    /// An image with a tree behind it.
    Verity(Box<LayerAnnotations>),
    /// Something else: its media type is in the descriptor.
    Other,
}
