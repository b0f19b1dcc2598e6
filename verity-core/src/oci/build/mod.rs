//! From an image whose layers are tars to one whose layers the kernel mounts and checks.

mod documents;
mod error;
mod layers;
mod parents;

use std::collections::HashSet;
use std::sync::Arc;

pub use error::Error;

use super::annotations::{ARTIFACT_TYPE, LayerAnnotations};
use super::descriptor::{Descriptor, Platform};
use super::image::Image;
use super::layout;
use super::media;
use super::source::Source;
use super::store::{Store, StoreError};
use super::watcher::{Stop, Watcher};
use crate::algorithm::Algorithm;
use crate::block::BlockSize;
use crate::fec::Roots;
use crate::layer::{Digest, Limits};
use crate::tree::Threads;

/// How images are built.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct Options<'a> {
    /// The block size of images, data and trees. 4096 by default, which every kernel mounts.
    pub block_size: BlockSize,
    /// What trees are hashed with; sha256 by default.
    pub algorithm: Algorithm,
    /// How much parity is put behind the trees; none by default.
    pub roots: Option<Roots>,
    /// How much a layer may make of its blob.
    pub limits: &'a Limits,
    /// How many threads hash one layer's tree; one for each usable processor by default.
    pub threads: Threads,
    /// How many layers are made at once; as many as there are usable processors by default.
    pub jobs: Threads,
    /// Whether layers that were made before are taken as they are; true by default. Otherwise each is made anew, and what the layout recorded of it is replaced.
    pub reuse: bool,
    /// Who hears about progress and can cancel.
    pub watcher: &'a dyn Watcher,
}

impl<'a> Options<'a> {
    /// The defaults, with these limits and this watcher; `&()` hears nothing and never cancels.
    #[must_use]
    pub fn new(limits: &'a Limits, watcher: &'a dyn Watcher) -> Self {
        Self {
            block_size: BlockSize::default(),
            algorithm: Algorithm::default(),
            roots: None,
            limits,
            threads: Threads::available(),
            jobs: Threads::available(),
            reuse: true,
            watcher,
        }
    }
}

/// What was built.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Built {
    /// The manifest, or the index of several, as the layout's index lists it.
    pub root: Descriptor,
    /// The images, in the order of the source.
    pub images: Vec<BuiltImage>,
}

/// An image for one platform.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct BuiltImage {
    /// What it is for.
    pub platform: Option<Platform>,
    /// The manifest that it was made from.
    pub source: Descriptor,
    /// The manifest.
    pub manifest: Descriptor,
    /// The layers, the lowest first.
    pub layers: Vec<BuiltLayer>,
}

/// A layer.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct BuiltLayer {
    /// The blob that it was made from.
    pub source: Descriptor,
    /// The blob that was made.
    pub blob: Descriptor,
    /// What the manifest says of it.
    pub annotations: LayerAnnotations,
    /// Whether it had been made before: by an earlier build, by another process, or for a layer before it.
    pub reused: bool,
}

/// What is to be listed under one name.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// The name.
    pub reference: Option<&'a str>,
    /// The images: one is listed by its manifest, several by an index.
    pub images: &'a [Image],
}

/// Builds images in `store`, and lists them there. Answers what was listed, in the same order.
///
/// Layers are made in parallel, each once, and those that are in the store already are not made again. Directories that a layer has without an entry have what the
/// layers below give them, so that a layer may be another file in another image. The configurations stay as they are, byte for
/// byte; each manifest has the source's as its subject, and its annotations. Nothing depends on the time, the machine or the number of threads: the same source makes
/// the same layout.
///
/// # Errors
/// [`Error`]: which layer, and what is wrong with it. Nothing is listed then, unless it is the listing of a later group that fails: those before it are whole, and
/// stay. Layers that are complete stay, too, and are found by the next build.
pub fn build(
    source: &dyn Source,
    wanted: &[Wanted<'_>],
    store: &Store,
    options: &Options<'_>,
) -> Result<Vec<Built>, Error> {
    if wanted.iter().any(|wanted| wanted.images.is_empty()) {
        return Err(Error::NoImage);
    }
    let plan = layers::Plan::new(wanted.iter().flat_map(|wanted| wanted.images))?;
    documents::check(wanted, options)?;
    let made = plan.make(source, store, options)?;
    let mut seen = HashSet::new();
    let mut made = made.into_iter();
    let mut built = Vec::with_capacity(wanted.len());
    for Wanted { reference, images } in wanted {
        let finished = images.iter().map(|image| finish(image, store, &mut made, &mut seen));
        let finished = finished.collect::<Result<Vec<_>, _>>()?;
        let mut root = match &finished[..] {
            [image] => Descriptor { artifact_type: Some(ARTIFACT_TYPE.to_owned()), ..image.manifest.clone() },
            several => {
                let manifests: Vec<_> = several.iter().map(|image| image.manifest.clone()).collect();
                put(store, &documents::index(images, &manifests)?, media::INDEX)?
            }
        };
        if let Some(reference) = reference {
            root.annotations.insert(layout::NAME.to_owned(), (*reference).to_owned());
        }
        built.push(Built { root, images: finished });
    }
    if options.watcher.cancelled() {
        return Err(Error::Cancelled);
    }
    for image in &built {
        store.set_image(&image.root, &Stop(options.watcher)).map_err(|error| match error {
            StoreError::Cancelled => Error::Cancelled,
            error => error.into(),
        })?;
    }
    Ok(built)
}

/// Writes an image's documents.
fn finish(
    image: &Image,
    store: &Store,
    made: &mut impl Iterator<Item = Arc<layers::Made>>,
    seen: &mut HashSet<Digest>,
) -> Result<BuiltImage, Error> {
    let mut layers = Vec::with_capacity(image.layers.len());
    for layer in &image.layers {
        let made = made.next().ok_or(Error::Thread)?;
        let layers::Made { blob, annotations, reused } = &*made;
        layers.push(BuiltLayer {
            source: layer.descriptor.clone(),
            blob: blob.clone(),
            annotations: annotations.clone(),
            reused: !seen.insert(blob.digest.clone()) || *reused,
        });
    }
    store.put(&image.config.bytes)?;
    let blobs: Vec<_> = layers.iter().map(|layer| layer.blob.clone()).collect();
    let manifest = put(store, &documents::manifest(image, &blobs)?, media::MANIFEST)?;
    let manifest = documents::listed(manifest, image);
    Ok(BuiltImage { platform: image.platform.clone(), source: image.manifest.clone(), manifest, layers })
}

fn put(store: &Store, bytes: &[u8], media_type: &'static str) -> Result<Descriptor, Error> {
    let digest = store.put(bytes)?;
    Ok(Descriptor::new(media_type, digest, bytes.len() as u64))
}
