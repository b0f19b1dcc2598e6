//! Why an image cannot be built.

use std::path::PathBuf;

use crate::layer::{self, Digest};
use crate::oci;
use crate::oci::store::StoreError;

/// Why an image cannot be built. It is not listed in the layout then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is nothing to be built.
    #[error("no image was given")]
    NoImage,
    /// A layer that has a tree already.
    #[error("layer {layer} has a hash tree already: the image was made by an earlier build")]
    HasTree {
        /// The layer's blob.
        layer: Digest,
    },
    /// A layer that is no tar.
    #[error("layer {layer} is of the media type {media_type:?}, and no tar")]
    NoTar {
        /// The layer's blob.
        layer: Digest,
        /// Its media type.
        media_type: String,
    },
    /// A layer cannot be read.
    #[error("layer {layer}: {source}")]
    Source {
        /// The layer's blob.
        layer: Digest,
        /// What is wrong.
        source: oci::Error,
    },
    /// A layer cannot be built.
    #[error("layer {layer}: {source}")]
    Layer {
        /// The layer's blob.
        layer: Digest,
        /// The blob's file, where there is one.
        path: Option<PathBuf>,
        /// The file that was being written; it is gone.
        output: PathBuf,
        /// What is wrong.
        source: layer::Error,
    },
    /// The layout cannot be written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A document cannot be written.
    #[error("a document cannot be written: {0}")]
    Document(#[source] serde_json::Error),
    /// An image whose manifest nobody would read. No layer has been made.
    #[error(
        "image {manifest} has {layers} layers: what is made of it could have a manifest of {size} bytes, and readers take {limit}, which are enough for {most} layers"
    )]
    ManifestSize {
        /// The image's manifest.
        manifest: Digest,
        /// How many layers it has.
        layers: usize,
        /// How many it may have at least.
        most: usize,
        /// How many bytes the manifest has at most.
        size: u64,
        /// How many it may have.
        limit: u64,
    },
    /// Images whose index nobody would read. No layer has been made.
    #[error(
        "an index of {images} images, with their platforms and annotations, could have {size} bytes, and readers take {limit}"
    )]
    IndexSize {
        /// How many there are.
        images: usize,
        /// How many bytes it has at most.
        size: u64,
        /// How many it may have.
        limit: u64,
    },
    /// A document that would be refused by its readers, this library among them, though it is not too large. No layer has been made.
    #[error("nobody would read {0}")]
    Unreadable(#[source] oci::Error),
    /// A thread that makes layers is gone, and has not said why.
    #[error("a thread ended early")]
    Thread,
    /// The watcher asked to stop.
    #[error("cancelled")]
    Cancelled,
}
