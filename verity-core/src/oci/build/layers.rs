//! The layers of an image, made in parallel: each once, whoever else makes some of them at the same time.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use super::parents::Search;
use super::{Error, Options};
use crate::layer::{self, Answer, Digest, Parents};
use crate::oci::annotations::{LAYER_MEDIA_TYPE, LayerAnnotations};
use crate::oci::descriptor::Descriptor;
use crate::oci::image::{Image, Layer, LayerKind};
use crate::oci::source::Source;
use crate::oci::store::{LayerKey, LayerLock, Store, StoreError};
use crate::progress::{Observer, Phase};
use crate::tree;

/// How long a thread waits before it asks again for a layer that another process is making, or whether it should stop.
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

/// A layer to be made, with all that is below it.
struct Task<'a> {
    layer: &'a Layer,
    /// The next lower layer: a task before this one.
    below: Option<usize>,
}

/// How it stands with a task.
enum State {
    Waiting,
    /// It takes what the lower layers have, and cannot be made before them.
    Early,
    /// A thread of this process works at it.
    Running,
    Made(Arc<Made>),
}

/// What came of a task.
enum Outcome {
    Made(Arc<Made>),
    /// Another process is making this layer, or another task.
    Busy,
    /// Lower layers have to be made before.
    Early,
}

/// The layers to be made: of those with the same layers below them, the first.
pub(super) struct Plan<'a> {
    tasks: Vec<Task<'a>>,
    /// Which of them the layers of the images are.
    layers: Vec<usize>,
}

impl<'a> Plan<'a> {
    pub(super) fn new(images: impl Iterator<Item = &'a Image>) -> Result<Self, Error> {
        let mut known = HashMap::new();
        let mut plan = Self { tasks: Vec::new(), layers: Vec::new() };
        for image in images {
            let mut below = None;
            for layer in &image.layers {
                let digest = || layer.descriptor.digest.clone();
                match &layer.kind {
                    LayerKind::Tar(_) => {}
                    LayerKind::Verity(_) => return Err(Error::HasTree { layer: digest() }),
                    LayerKind::Other => {
                        let media_type = layer.descriptor.media_type.clone();
                        return Err(Error::NoTar { layer: digest(), media_type });
                    }
                }
                let task = *known.entry((below, &layer.diff_id)).or_insert_with(|| {
                    plan.tasks.push(Task { layer, below });
                    plan.tasks.len() - 1
                });
                plan.layers.push(task);
                below = Some(task);
            }
        }
        Ok(plan)
    }

    /// Makes all of them; answers them in the order of the images and their layers.
    pub(super) fn make(
        &self,
        source: &dyn Source,
        store: &Store,
        options: &Options<'_>,
    ) -> Result<Vec<Arc<Made>>, Error> {
        let sizes = self.tasks.iter().map(|task| task.layer.descriptor.size);
        let total = sizes.fold(0, u64::saturating_add);
        options.watcher.plan(total);
        let work = Work {
            source,
            store,
            options,
            tasks: &self.tasks,
            waiting: Mutex::new((0..self.tasks.len()).collect()),
            states: Mutex::new(self.tasks.iter().map(|_| State::Waiting).collect()),
            changed: Condvar::new(),
            forgotten: Mutex::default(),
            failure: Mutex::new(None),
            stop: AtomicBool::new(false),
        };
        thread::scope(|scope| {
            for _ in 1..options.jobs.get().min(self.tasks.len()) {
                // A system that grants fewer threads gets the work done with those it grants.
                if thread::Builder::new().spawn_scoped(scope, || work.run()).is_err() {
                    break;
                }
            }
            work.run();
        });
        if let Some(error) = work.failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
            return Err(error);
        }
        let states = work.states.into_inner().unwrap_or_else(PoisonError::into_inner);
        let made = |&task: &usize| match &states[task] {
            State::Made(made) => Ok(Arc::clone(made)),
            _ => Err(Error::Thread),
        };
        self.layers.iter().map(made).collect()
    }
}

/// What the threads share.
struct Work<'a> {
    source: &'a dyn Source,
    store: &'a Store,
    options: &'a Options<'a>,
    tasks: &'a [Task<'a>],
    /// Those that no thread has.
    waiting: Mutex<VecDeque<usize>>,
    states: Mutex<Vec<State>>,
    /// Says that a task is not running any more.
    changed: Condvar,
    /// Layers whose records of earlier builds are gone, where these do not count.
    forgotten: Mutex<HashSet<Digest>>,
    /// The first error; what fails after it may be no more than its consequence.
    failure: Mutex<Option<Error>>,
    stop: AtomicBool,
}

impl Work<'_> {
    /// A thread.
    fn run(&self) {
        let _stop = StopOnPanic(&self.stop);
        // How many layers in a row could not be made.
        let mut busy = 0;
        while !self.stop.load(Ordering::Relaxed) {
            if self.options.watcher.cancelled() {
                return self.fail(Error::Cancelled);
            }
            let (next, left) = {
                let mut waiting = lock(&self.waiting);
                (waiting.pop_front(), waiting.len())
            };
            let Some(task) = next else { return };
            match self.attempt(task) {
                Ok(true) => {
                    busy = 0;
                    self.options.watcher.done(self.tasks[task].layer.descriptor.size);
                }
                // Those that nobody makes come first.
                Ok(false) => {
                    lock(&self.waiting).push_back(task);
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

    /// Does a task, if it can be done now.
    fn attempt(&self, task: usize) -> Result<bool, Error> {
        {
            let mut states = lock(&self.states);
            // What was made in vain once is not made again before it comes to something.
            if matches!(states[task], State::Early) && !self.is_due(task, &states) {
                return Ok(false);
            }
            states[task] = State::Running;
        }
        let outcome = self.layer(task);
        let (state, result) = match outcome {
            Ok(Outcome::Made(made)) => (State::Made(made), Ok(true)),
            Ok(Outcome::Busy) => (State::Waiting, Ok(false)),
            Ok(Outcome::Early) => (State::Early, Ok(false)),
            Err(error) => (State::Waiting, Err(error)),
        };
        lock(&self.states)[task] = state;
        self.changed.notify_all();
        result
    }

    /// Whether all lower layers are made.
    fn is_due(&self, task: usize, states: &[State]) -> bool {
        let below = |&task: &usize| self.tasks[task].below;
        let mut lower = std::iter::successors(below(&task), below);
        lower.all(|task| matches!(states[task], State::Made(_)))
    }

    /// A layer that is made, or is being made by another thread and `may_wait`.
    ///
    /// Whoever waits holds the lock of a layer, and waits for the holder of another one. That is somebody in this process, who can only wait for a task further down: no process
    /// waits for another one here, and no circle comes of it.
    fn made(&self, task: usize, may_wait: bool) -> Result<Arc<Made>, layer::Error> {
        let mut states = lock(&self.states);
        loop {
            match &states[task] {
                State::Made(made) => return Ok(Arc::clone(made)),
                State::Running if may_wait => {}
                _ => return Err(layer::Error::ParentsUnknown),
            }
            if self.is_over() {
                return Err(layer::Error::Cancelled);
            }
            let waited = self.changed.wait_timeout(states, PAUSE);
            states = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || self.options.watcher.cancelled()
    }

    /// Finds a layer, or makes it.
    fn layer(&self, task: usize) -> Result<Outcome, Error> {
        let Options { algorithm, block_size, roots, .. } = *self.options;
        let key = LayerKey { diff_id: self.tasks[task].layer.diff_id.clone(), algorithm, block_size, roots };
        let Some(mut lock) = self.store.lock_layer(&key)? else { return Ok(Outcome::Busy) };
        if self.is_to_forget(&key.diff_id) {
            lock.forget();
        }
        if let Some(paths) = lock.parents() {
            let lower = Lower { work: self, task, may_wait: false };
            match layer::inherited(&lower, &paths) {
                Ok(answers) => {
                    if let Some((blob, annotations)) = lock.made(&answers) {
                        return Ok(Outcome::Made(Made { blob, annotations, reused: true }.into()));
                    }
                }
                Err(layer::Error::ParentsUnknown) => return Ok(Outcome::Early),
                // Whoever makes the layer meets it again, and says what it is about.
                Err(_) => {}
            }
        }
        self.make(task, lock)
    }

    /// Whether what earlier builds recorded of a layer does not count; what this one records does.
    fn is_to_forget(&self, diff_id: &Digest) -> bool {
        !self.options.reuse && lock(&self.forgotten).insert(diff_id.clone())
    }

    fn make(&self, task: usize, lock: LayerLock<'_>) -> Result<Outcome, Error> {
        let Layer { descriptor, diff_id, .. } = self.tasks[task].layer;
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
            parents: Some(&Lower { work: self, task, may_wait: true }),
            engine: tree::Options {
                threads: self.options.threads,
                observer: &observer,
                ..tree::Options::default()
            },
        };
        let built = match layer::build(blob, output.file(), &options) {
            Ok(built) => built,
            Err(layer::Error::ParentsUnknown) => return Ok(Outcome::Early),
            Err(layer::Error::Cancelled | layer::Error::Tree(tree::Error::Cancelled)) => {
                return Err(Error::Cancelled);
            }
            Err(source) => {
                let (path, output) = (self.source.blob_path(descriptor), output.path().to_owned());
                return Err(Error::Layer { layer: digest(), path, output, source });
            }
        };
        let annotations = LayerAnnotations::of_built(&built, Some(diff_id));
        let (digest, size) = output.finish(&observer).map_err(|error| match error {
            StoreError::Cancelled => Error::Cancelled,
            error => error.into(),
        })?;
        let mut blob = Descriptor::new(LAYER_MEDIA_TYPE, digest, size);
        blob.annotations = annotations.to_map();
        lock.record(&built.inherited, &blob)?;
        Ok(Outcome::Made(Made { blob, annotations, reused: false }.into()))
    }
}

/// The layers below one that is made.
struct Lower<'a, 'w> {
    work: &'a Work<'w>,
    task: usize,
    /// Whether it is worth it to wait for what other threads are making.
    may_wait: bool,
}

impl Parents for Lower<'_, '_> {
    fn ask(&self, paths: &[Vec<u8>], answer: &mut Answer<'_>) -> Result<(), layer::Error> {
        let Self { work, task, may_wait } = *self;
        let mut search = Search::new(paths, work.options.limits.memory);
        let mut next = work.tasks[task].below;
        while let Some(below) = next.filter(|_| search.goes_on()) {
            let made = work.made(below, may_wait)?;
            let layer = &made.blob.digest;
            search
                .look_into(work.store, &made)
                .map_err(|error| layer::Error::Parents(format!("layer {layer}: {error}").into()))?;
            next = work.tasks[below].below;
        }
        search.into_found().try_for_each(|(path, attributes)| answer(path, attributes))
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
        self.work.is_over()
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
