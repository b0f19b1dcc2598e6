//! Images against what their documents say: each blob against its digest, each tree against its root hash, each tar against its diffID.
//!
//! The documents themselves are checked when they are read, by [`images`](super::images): the manifests against the indexes, the configurations against the
//! manifests, and the diffIDs of layers with trees against the configurations.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use super::annotations::LayerAnnotations;
use super::descriptor::Descriptor;
use super::error::Error as ReadError;
use super::hashing::digest;
use super::image::{Image, Layer, LayerKind};
use super::source::Source;
use super::watcher::{Stop, Watcher};
use crate::erofs;
use crate::io::ReadAt;
use crate::layer::{self, Digest, Limits};
use crate::progress::Observer;
use crate::superblock::Superblock;
use crate::tree::{self, Report, Threads};
use crate::workers;

/// How images are verified.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct Options<'a> {
    /// How many threads hash one layer's tree; one for each usable processor by default.
    pub threads: Threads,
    /// How many layers are verified at once; as many as there are usable processors by default.
    pub jobs: Threads,
    /// How many findings are listed for a tree; the others are counted.
    pub max_findings: usize,
    /// Where a layer goes that is no file of its own, without a name and as long as it is looked at: those in archives and registries.
    pub scratch: &'a Path,
    /// How much a tar may make of its blob.
    pub limits: &'a Limits,
    /// Who hears about progress and can cancel.
    pub watcher: &'a dyn Watcher,
}

impl<'a> Options<'a> {
    /// The defaults, with this directory for nameless files; `&()` hears nothing and never cancels.
    #[must_use]
    pub fn new(scratch: &'a Path, limits: &'a Limits, watcher: &'a dyn Watcher) -> Self {
        Self {
            threads: Threads::available(),
            jobs: Threads::available(),
            max_findings: tree::Options::default().max_findings,
            scratch,
            limits,
            watcher,
        }
    }
}

/// What was found in a layer.
#[derive(Debug)]
#[non_exhaustive]
pub struct Verified {
    /// What is wrong; nothing, if the layer is what the documents say.
    pub problems: Vec<Problem>,
}

impl Verified {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_intact(&self) -> bool {
        self.problems.is_empty()
    }
}

/// What is wrong with a layer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// The blob is missing, or of another size.
    #[error(transparent)]
    Blob(ReadError),
    /// The blob has another digest.
    #[error("the blob's digest is {found}, and {expected} was expected")]
    Digest {
        /// What the manifest says.
        expected: Digest,
        /// What it is.
        found: Digest,
    },
    /// The blob has another size than its annotations say.
    #[error("the annotations tell of {annotated} bytes, and the blob has {size}")]
    Size {
        /// The end of the last part.
        annotated: u64,
        /// How many there are.
        size: u64,
    },
    /// The superblock is not what the annotations say.
    #[error("the superblock at byte {offset}: {problem}")]
    Superblock {
        /// Where it is looked for.
        offset: u64,
        /// What is wrong.
        problem: String,
    },
    /// Blocks are not what the root hash says.
    #[error("{} data blocks and {} hash blocks are not what the root hash says", .0.bad_data_blocks, .0.bad_hash_blocks)]
    Tree(Box<Report>),
    /// The image takes content from elsewhere, so nothing vouches for what it shows.
    #[error(transparent)]
    Devices(erofs::Error),
    /// The tar is not what the configuration says, or no sound one.
    #[error(transparent)]
    Tar(layer::Error),
}

/// Why nothing is known of an image.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A blob cannot be read, though it is there.
    #[error("layer {layer}: {source}")]
    Read {
        /// The blob.
        layer: Digest,
        /// What the system answered.
        source: io::Error,
    },
    /// There is no room for a layer that is no file of its own.
    #[error("layer {layer} cannot be copied: {source}")]
    Scratch {
        /// The blob.
        layer: Digest,
        /// What the system answered.
        source: io::Error,
    },
    /// The work itself failed.
    #[error(transparent)]
    Work(#[from] tree::Error),
}

/// Verifies every layer of these images, each blob once. Answers for each image what was found in its layers, in their order.
///
/// # Errors
/// [`Error`] where it cannot be told. What is wrong with a layer is no error: it is in the answer.
pub fn verify(
    source: &dyn Source,
    images: &[Image],
    options: &Options<'_>,
) -> Result<Vec<Vec<Arc<Verified>>>, Error> {
    // One blob may be a layer of several images; then it should be the same layer in each.
    let key = |layer: &Layer| (layer.descriptor.digest.clone(), layer.diff_id.clone());
    let all = images.iter().flat_map(|image| &image.layers);
    let mut places = HashMap::new();
    let mut layers = Vec::new();
    for layer in all {
        places.entry(key(layer)).or_insert_with(|| {
            layers.push(layer);
            layers.len() - 1
        });
    }
    let total = layers.iter().map(|layer| layer.descriptor.size).fold(0, u64::saturating_add);
    options.watcher.plan(total);
    let found: Vec<Mutex<Option<Arc<Verified>>>> = layers.iter().map(|_| Mutex::default()).collect();
    let stop = Stop(options.watcher);
    let engine = tree::Options { threads: options.jobs, observer: &stop, ..tree::Options::default() };
    workers::run_with(
        layers.len() as u64,
        &engine,
        || (),
        |(), job| {
            let at = crate::io::usize_of(job);
            let verified = Arc::new(Verified { problems: one(source, layers[at], options)? });
            options.watcher.done(layers[at].descriptor.size);
            *found[at].lock().unwrap_or_else(PoisonError::into_inner) = Some(verified);
            Ok::<_, Error>(())
        },
    )?;
    let answer = |layer: &Layer| {
        let at = *places.get(&key(layer))?;
        found[at].lock().unwrap_or_else(PoisonError::into_inner).clone()
    };
    let answers = images.iter().map(|image| image.layers.iter().filter_map(answer).collect());
    Ok(answers.collect())
}

/// What is wrong with one layer.
fn one(source: &dyn Source, layer: &Layer, options: &Options<'_>) -> Result<Vec<Problem>, Error> {
    let observer = options.watcher.layer(&layer.descriptor);
    let observer = Watched { layer: &*observer, watcher: options.watcher };
    match &layer.kind {
        LayerKind::Verity(annotations) => {
            let file = match file(source, &layer.descriptor, options)? {
                Ok(file) => file,
                Err(problem) => return Ok(vec![problem]),
            };
            with_tree(&file, &layer.descriptor, annotations, options, &observer)
        }
        LayerKind::Tar(_) => {
            let blob = match source.blob(&layer.descriptor, 0) {
                Ok(blob) => blob,
                Err(error) => return Ok(vec![Problem::Blob(error)]),
            };
            let expected = layer::Options {
                digest: Some(layer.descriptor.digest.clone()),
                diff_id: Some(layer.diff_id.clone()),
                blob_bytes: Some(layer.descriptor.size),
                limits: options.limits.clone(),
                engine: tree::Options { observer: &observer, ..tree::Options::default() },
                ..layer::Options::default()
            };
            match layer::check(blob, &expected) {
                Ok(_) => Ok(Vec::new()),
                Err(layer::Error::Cancelled) => Err(tree::Error::Cancelled.into()),
                Err(error) => Ok(vec![Problem::Tar(error)]),
            }
        }
        LayerKind::Other => {
            let file = match file(source, &layer.descriptor, options)? {
                Ok(file) => file,
                Err(problem) => return Ok(vec![problem]),
            };
            Ok(digest_problem(&file, &layer.descriptor, &observer)?.into_iter().collect())
        }
    }
}

/// A blob as a file: its own, or a copy without a name.
fn file(
    source: &dyn Source,
    descriptor: &Descriptor,
    options: &Options<'_>,
) -> Result<Result<File, Problem>, Error> {
    // This also checks that it is there, and its size.
    let mut blob = match source.blob(descriptor, 0) {
        Ok(blob) => blob,
        Err(error) => return Ok(Err(Problem::Blob(error))),
    };
    let layer = || descriptor.digest.clone();
    if let Some(path) = source.blob_path(descriptor) {
        return match File::open(path) {
            Ok(file) => Ok(Ok(file)),
            Err(source) => Err(Error::Read { layer: layer(), source }),
        };
    }
    let scratch = |source| Error::Scratch { layer: layer(), source };
    let mut copy = tempfile::tempfile_in(options.scratch).map_err(scratch)?;
    let mut buffer = vec![0; 256 * 1024];
    loop {
        if options.watcher.cancelled() {
            return Err(tree::Error::Cancelled.into());
        }
        match blob.read(&mut buffer) {
            Ok(0) => return Ok(Ok(copy)),
            Ok(count) => copy.write_all(&buffer[..count]).map_err(scratch)?,
            Err(error) if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => {}
            Err(source) => return Ok(Err(Problem::Blob(ReadError::Read { digest: layer(), source }))),
        }
    }
}

/// A layer with a tree: the digest of all of it, and at the same time every block.
fn with_tree(
    file: &File,
    descriptor: &Descriptor,
    annotations: &LayerAnnotations,
    options: &Options<'_>,
    observer: &Watched<'_>,
) -> Result<Vec<Problem>, Error> {
    let quiet = Stop(options.watcher);
    thread::scope(|scope| {
        let hashing = thread::Builder::new()
            .spawn_scoped(scope, || digest_problem(file, descriptor, &quiet))
            .map_err(|_| tree::Error::Thread)?;
        let found = tree_problem(file, descriptor, annotations, options, observer);
        let hashed = hashing.join().map_err(|_| tree::Error::Thread)?;
        Ok(hashed?.into_iter().chain(found?).chain(devices_problem(file, annotations)).collect())
    })
}

fn digest_problem(
    file: &File,
    descriptor: &Descriptor,
    observer: &dyn Observer,
) -> Result<Option<Problem>, Error> {
    let Descriptor { digest: expected, .. } = descriptor;
    let digested = digest(file, Some(expected), observer)
        .map_err(|source| Error::Read { layer: expected.clone(), source })?;
    match digested {
        None => Err(tree::Error::Cancelled.into()),
        Some((found, _)) if found == *expected => Ok(None),
        Some((found, _)) => Ok(Some(Problem::Digest { expected: expected.clone(), found })),
    }
}

fn tree_problem(
    file: &File,
    descriptor: &Descriptor,
    annotations: &LayerAnnotations,
    options: &Options<'_>,
    observer: &Watched<'_>,
) -> Result<Option<Problem>, Error> {
    let offset = annotations.hash_offset;
    let superblock = |problem: String| Ok(Some(Problem::Superblock { offset, problem }));
    // Annotations that were read have a layout.
    let (Ok(annotated), Ok(geometry)) = (annotations.blob_bytes(), annotations.geometry()) else {
        return superblock("the annotations cannot be laid out".to_owned());
    };
    if annotated != descriptor.size {
        return Ok(Some(Problem::Size { annotated, size: descriptor.size }));
    }
    let params = annotations.params();
    let mut bytes = [0; Superblock::SIZE];
    file.read_exact_at(&mut bytes, offset)
        .map_err(|source| Error::Read { layer: descriptor.digest.clone(), source })?;
    match Superblock::parse(&bytes) {
        Err(error) => return superblock(error.to_string()),
        Ok(found) if (&found.params, found.data_blocks) != (&params, annotations.data_blocks) => {
            return superblock("it tells of another tree than the annotations".to_owned());
        }
        Ok(_) => {}
    }
    let engine = tree::Options { threads: options.threads, observer, max_findings: options.max_findings };
    let report = tree::verify(file, file, &params, &geometry, &annotations.root_hash, &engine)?;
    Ok((!report.is_intact()).then(|| Problem::Tree(Box::new(report))))
}

/// Of an image that says that it has further devices; what else is in it is whoever's who mounts it.
fn devices_problem(file: &File, annotations: &LayerAnnotations) -> Option<Problem> {
    let image = erofs::Image::open(file, annotations.geometry().ok()?.data_bytes()).ok()?;
    image.require_one_device().err().map(Problem::Devices)
}

/// A layer's observer, which asks the watcher whether to stop.
struct Watched<'a> {
    layer: &'a dyn Observer,
    watcher: &'a dyn Watcher,
}

impl Observer for Watched<'_> {
    fn begin(&self, phase: crate::progress::Phase, total_bytes: Option<u64>) {
        self.layer.begin(phase, total_bytes);
    }

    fn advance(&self, bytes: u64) {
        self.layer.advance(bytes);
    }

    fn cancelled(&self) -> bool {
        self.watcher.cancelled()
    }
}
