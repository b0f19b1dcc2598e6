//! The layers of an image, made in parallel: each once, whoever else makes some of them at the same time.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use super::{Error, Options};
use crate::layer::{self, Digest};
use crate::oci::annotations::{LAYER_MEDIA_TYPE, LayerAnnotations};
use crate::oci::descriptor::Descriptor;
use crate::oci::image::{Image, Layer, LayerKind};
use crate::oci::source::Source;
use crate::oci::store::{LayerKey, LayerLock, Slot, Store, StoreError};
use crate::progress::{Observer, Phase};
use crate::tree;

/// How long a thread waits before it asks again for a layer that another process is making.
const PAUSE: Duration = Duration::from_millis(20);

/// A layer that is in the layout.
#[derive(Clone, Debug)]
pub(super) struct Made {
    /// The blob, with its annotations.
    pub(super) blob: Descriptor,
    pub(super) annotations: LayerAnnotations,
    /// It was there already.
    pub(super) reused: bool,
}

/// The layers to be made: of those with one diffID, the first.
pub(super) struct Plan<'a> {
    layers: Vec<&'a Layer>,
}

impl<'a> Plan<'a> {
    pub(super) fn new(images: &'a [Image]) -> Result<Self, Error> {
        let mut seen = BTreeMap::new();
        let mut layers = Vec::new();
        for layer in images.iter().flat_map(|image| &image.layers) {
            let digest = || layer.descriptor.digest.clone();
            match &layer.kind {
                LayerKind::Tar(_) => {}
                LayerKind::Verity(_) => return Err(Error::HasTree { layer: digest() }),
                LayerKind::Other => {
                    let media_type = layer.descriptor.media_type.clone();
                    return Err(Error::NoTar { layer: digest(), media_type });
                }
            }
            if seen.insert(&layer.diff_id, ()).is_none() {
                layers.push(layer);
            }
        }
        Ok(Self { layers })
    }

    /// Makes all of them; answers them by diffID.
    pub(super) fn make(
        &self,
        source: &dyn Source,
        store: &Store,
        options: &Options<'_>,
    ) -> Result<BTreeMap<Digest, Made>, Error> {
        let total = self.layers.iter().map(|layer| layer.descriptor.size).fold(0, u64::saturating_add);
        options.watcher.plan(total);
        let work = Work {
            source,
            store,
            options,
            waiting: Mutex::new(self.layers.iter().copied().collect()),
            made: Mutex::default(),
            failure: Mutex::new(None),
            stop: AtomicBool::new(false),
        };
        thread::scope(|scope| {
            for _ in 1..options.jobs.get().min(self.layers.len()) {
                // A system that grants fewer threads gets the work done with those it grants.
                if thread::Builder::new().spawn_scoped(scope, || work.run()).is_err() {
                    break;
                }
            }
            work.run();
        });
        match work.failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(error) => Err(error),
            None => Ok(work.made.into_inner().unwrap_or_else(PoisonError::into_inner)),
        }
    }
}

/// What the threads share.
struct Work<'a> {
    source: &'a dyn Source,
    store: &'a Store,
    options: &'a Options<'a>,
    waiting: Mutex<VecDeque<&'a Layer>>,
    made: Mutex<BTreeMap<Digest, Made>>,
    /// The first error; what fails after it may be no more than its consequence.
    failure: Mutex<Option<Error>>,
    stop: AtomicBool,
}

impl Work<'_> {
    /// A thread.
    fn run(&self) {
        let _stop = StopOnPanic(&self.stop);
        // How many layers in a row others were making.
        let mut busy = 0;
        while !self.stop.load(Ordering::Relaxed) {
            if self.options.watcher.cancelled() {
                return self.fail(Error::Cancelled);
            }
            let (next, left) = {
                let mut waiting = lock(&self.waiting);
                (waiting.pop_front(), waiting.len())
            };
            let Some(layer) = next else { return };
            match self.layer(layer) {
                Ok(Some(made)) => {
                    busy = 0;
                    self.options.watcher.done(layer.descriptor.size);
                    lock(&self.made).insert(layer.diff_id.clone(), made);
                }
                // Those that nobody makes come first.
                Ok(None) => {
                    lock(&self.waiting).push_back(layer);
                    busy += 1;
                    if busy > left {
                        thread::sleep(PAUSE);
                    }
                }
                Err(error) => return self.fail(error),
            }
        }
    }

    fn fail(&self, error: Error) {
        lock(&self.failure).get_or_insert(error);
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Finds a layer, or makes it; `None` where somebody else is making it.
    fn layer(&self, layer: &Layer) -> Result<Option<Made>, Error> {
        let Options { algorithm, block_size, roots, .. } = *self.options;
        let key = LayerKey { diff_id: layer.diff_id.clone(), algorithm, block_size, roots };
        match self.store.layer(&key)? {
            Slot::Busy => Ok(None),
            Slot::Made(made) => {
                let (blob, annotations) = *made;
                Ok(Some(Made { blob, annotations, reused: true }))
            }
            Slot::Free(lock) => self.make(layer, lock).map(Some),
        }
    }

    fn make(&self, layer: &Layer, lock: LayerLock) -> Result<Made, Error> {
        let Layer { descriptor, diff_id, .. } = layer;
        let digest = || descriptor.digest.clone();
        let watcher = self.options.watcher.layer(descriptor);
        let observer = Stoppable { observer: &*watcher, work: self };
        let output = self.store.begin_blob()?;
        let blob =
            self.source.blob(descriptor, 0).map_err(|source| Error::Source { layer: digest(), source })?;
        let options = layer::Options {
            block_size: self.options.block_size,
            algorithm: self.options.algorithm,
            roots: self.options.roots,
            diff_id: Some(diff_id.clone()),
            digest: Some(digest()),
            blob_bytes: Some(descriptor.size),
            limits: self.options.limits.clone(),
            engine: tree::Options {
                threads: self.options.threads,
                observer: &observer,
                ..tree::Options::default()
            },
        };
        let built = layer::build(blob, output.file(), &options).map_err(|source| match source {
            layer::Error::Cancelled | layer::Error::Tree(tree::Error::Cancelled) => Error::Cancelled,
            source => Error::Layer {
                layer: digest(),
                path: self.source.blob_path(descriptor),
                output: output.path().to_owned(),
                source,
            },
        })?;
        let annotations = LayerAnnotations::of_built(&built, Some(diff_id));
        let (digest, size) = output.finish(&observer).map_err(|error| match error {
            StoreError::Cancelled => Error::Cancelled,
            error => error.into(),
        })?;
        let mut blob = Descriptor::new(LAYER_MEDIA_TYPE, digest, size);
        blob.annotations = annotations.to_map();
        lock.record(&blob)?;
        Ok(Made { blob, annotations, reused: false })
    }
}

/// The observer of one layer, which hears of the others' failures, too.
struct Stoppable<'a, 'w> {
    observer: &'a dyn Observer,
    work: &'a Work<'w>,
}

impl Observer for Stoppable<'_, '_> {
    fn begin(&self, phase: Phase, total_bytes: Option<u64>) {
        self.observer.begin(phase, total_bytes);
    }

    fn advance(&self, bytes: u64) {
        self.observer.advance(bytes);
    }

    fn cancelled(&self) -> bool {
        self.work.stop.load(Ordering::Relaxed) || self.work.options.watcher.cancelled()
    }
}

/// Keeps the other threads from finishing work whose result nobody will see.
struct StopOnPanic<'a>(&'a AtomicBool);

impl Drop for StopOnPanic<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.store(true, Ordering::Relaxed);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
