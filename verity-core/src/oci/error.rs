//! Why an image cannot be read.

use std::io;
use std::path::PathBuf;

use super::annotations::AnnotationError;
use super::descriptor::Platform;
use crate::layer::{Digest, DigestError, tar};

/// Text that names no image.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no image name: {problem}")]
pub struct NameError {
    pub(super) text: String,
    pub(super) problem: &'static str,
}

/// Why an image cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or directory that cannot be read.
    #[error("{path:?} cannot be read: {source}")]
    Open {
        /// Which one.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// A blob that cannot be read on.
    #[error("blob {digest} cannot be read: {source}")]
    Read {
        /// Which one.
        digest: Digest,
        /// The system's answer.
        source: io::Error,
    },
    /// A directory or an archive that is not what its name says.
    #[error("{path:?} is no {kind}: {problem}")]
    Form {
        /// Which one.
        path: PathBuf,
        /// What it should be.
        kind: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// A tar that cannot be read.
    #[error("archive {path:?}: {source}")]
    Archive {
        /// Which one.
        path: PathBuf,
        /// What is wrong, and where.
        source: tar::Error,
    },
    /// A document lists a blob that the source does not have.
    #[error("blob {digest} is listed, and missing in {place}")]
    Missing {
        /// Which one.
        digest: Digest,
        /// The source.
        place: String,
    },
    /// A blob whose size is not what a document says.
    #[error("blob {digest} has {found} bytes, and should have {expected}")]
    Size {
        /// Which one.
        digest: Digest,
        /// What the document says, in bytes.
        expected: u64,
        /// What there is, in bytes.
        found: u64,
    },
    /// A blob whose digest is not what a document says.
    #[error("blob {expected} has the digest {found}")]
    Mismatch {
        /// What the document says.
        expected: Digest,
        /// What there is.
        found: Digest,
    },
    /// A byte of a blob behind its end was asked for.
    #[error("blob {digest} has {size} bytes, and was to be read from byte {from} on")]
    Position {
        /// Which one.
        digest: Digest,
        /// How many bytes it has.
        size: u64,
        /// From where it was to be read.
        from: u64,
    },
    /// A document that is larger than any sound one.
    #[error("{what} has {size} bytes, more than {limit}")]
    DocumentSize {
        /// Which one.
        what: String,
        /// What it has, in bytes.
        size: u64,
        /// The most that is read.
        limit: u64,
    },
    /// More of something than is read of one source.
    #[error("more than {limit} {what}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// The most that is read.
        limit: u64,
    },
    /// A document that is not JSON, or not of the form that it should have.
    #[error("{what}: {problem}")]
    Document {
        /// Which one.
        what: String,
        /// What is wrong.
        problem: String,
    },
    /// A value that cannot be.
    #[error("{field} {value:?} is {problem}")]
    Field {
        /// Its name.
        field: &'static str,
        /// What it is.
        value: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// Text that should be a digest.
    #[error(transparent)]
    Digest(#[from] DigestError),
    /// A media type that is not known here, or not for this place.
    #[error("{what} is of the media type {media_type:?}, which is not known here")]
    MediaType {
        /// What it is to be: a manifest, a configuration, a layer; and which one.
        what: String,
        /// The media type.
        media_type: String,
    },
    /// A reference that the source does not have.
    #[error("there is no image {reference:?} in {place}{}", list("; there are: ", known))]
    NoReference {
        /// What was asked for.
        reference: String,
        /// The source.
        place: String,
        /// The references that there are, the first ones of them.
        known: Vec<String>,
    },
    /// A reference that several images have.
    #[error("the reference {reference:?} is given to several images in {place}")]
    Ambiguous {
        /// What was asked for.
        reference: String,
        /// The source.
        place: String,
    },
    /// No image for the platforms that were asked for.
    #[error("there is no image for {}; there are: {}", words(wanted), words(found))]
    NoPlatform {
        /// What was asked for.
        wanted: Vec<Platform>,
        /// What there is.
        found: Vec<Platform>,
    },
    /// A source without an image.
    #[error("there is no image in {place}")]
    NoImage {
        /// The source, or what in it was looked at.
        place: String,
    },
    /// Indexes in indexes.
    #[error("indexes are nested more than {limit} deep")]
    Depth {
        /// The most that is followed.
        limit: usize,
    },
    /// A configuration and a manifest that belong to different images.
    #[error("manifest {manifest} lists {layers} layers, and its configuration {diff_ids} diffIDs")]
    LayerCount {
        /// The manifest.
        manifest: Digest,
        /// How many layers it lists.
        layers: usize,
        /// How many diffIDs the configuration lists.
        diff_ids: usize,
    },
    /// A layer whose annotations contradict the configuration.
    #[error("layer {layer} has the diffID {expected} in the configuration, and {found} in its annotations")]
    DiffId {
        /// The layer's blob.
        layer: Digest,
        /// What the configuration says.
        expected: Digest,
        /// What the layer's annotations say.
        found: Digest,
    },
    /// Annotations of a layer with a tree that are wrong.
    #[error("layer {layer}: {source}")]
    Annotations {
        /// The layer's blob.
        layer: Digest,
        /// What is wrong.
        source: AnnotationError,
    },
    /// The observer cancelled.
    #[error("cancelled")]
    Cancelled,
    /// A registry, where only what is on this machine is read.
    #[error("{name} is in a registry, which is not read here")]
    Registry {
        /// The image.
        name: String,
    },
    /// Whatever sources of other kinds answer: registries, stores.
    #[error(transparent)]
    Other(Box<dyn std::error::Error + Send + Sync>),
}

/// As much of a stranger's text as a message shows.
pub(super) fn clip(text: &str) -> String {
    text.chars().take(256).collect()
}

/// How many platforms a message shows.
const PLATFORMS_SHOWN: usize = 20;

fn words(platforms: &[Platform]) -> String {
    let shown = platforms.iter().take(PLATFORMS_SHOWN);
    let words: Vec<_> =
        shown.map(|platform| clip(&platform.to_string()).escape_debug().to_string()).collect();
    match platforms.len().saturating_sub(PLATFORMS_SHOWN) {
        0 => words.join(", "),
        more => format!("{} and {more} more", words.join(", ")),
    }
}

fn list(front: &str, names: &[String]) -> String {
    if names.is_empty() {
        return String::new();
    }
    let names: Vec<_> = names.iter().map(|name| format!("{name:?}")).collect();
    format!("{front}{}", names.join(", "))
}
