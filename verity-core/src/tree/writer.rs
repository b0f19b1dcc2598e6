//! Hashing data while it is written, when its length is not known yet.
//!
//! The tree's levels lie before the leaf level, so where the leaf level belongs is known only at the end: until then
//! it is kept in a store of its own (a file, for anything large), and moved when the data is complete.

use std::fmt;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use super::build::{Builder, write};
use super::known::LevelHasher;
use super::level::{Slots, read};
use super::{Device, Error, Options, Threads};
use crate::block::RootHash;
use crate::digest::BlockHasher;
use crate::geometry::{Geometry, HashArea};
use crate::io::{Storage, usize_of};
use crate::params::Params;

/// Bytes that are hashed by one thread at a time, unless a block is larger.
const CHUNK_BYTES: usize = 512 * 1024;

/// Bytes of the leaf level that are moved at once.
const MOVE_BYTES: u64 = 256 * 1024;

/// A `Write` that passes data on and builds the tree over it, on several threads.
///
/// Memory: two chunks of 512 KiB for each thread and one more, whatever the length.
///
/// An error of a write is final: what was written cannot be completed to a tree any more. Dropped unfinished, the writer waits for
/// its threads, so that nothing touches the store after that.
///
/// ```
/// use std::io::Write;
/// use verity_core::{geometry::HashArea, io::MemoryDevice, params::Params};
/// use verity_core::tree::{Options, Threads, TreeWriter};
///
/// let mut image = Vec::new();
/// let mut writer = TreeWriter::new(&mut image, MemoryDevice::default(), &Params::default(), Threads::available());
/// writer.write_all(&[7; 3 * 4096])?;
/// let hash = MemoryDevice::default();
/// let built = writer.finish(&hash, HashArea::bare(0), &Options::default())?;
/// assert_eq!(built.geometry.data_blocks(), 3);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct TreeWriter<W, S> {
    inner: W,
    params: Params,
    length: u64,
    chunk: Vec<u8>,
    chunk_size: usize,
    pool: Pool<S>,
}

/// What [`TreeWriter::finish`] made.
#[derive(Debug)]
#[non_exhaustive]
pub struct Built<W> {
    /// The writer that the data was passed on to.
    pub inner: W,
    /// Where the tree lies.
    pub geometry: Geometry,
    /// The root hash.
    pub root: RootHash,
}

impl<W: Write, S: Storage + 'static> TreeWriter<W, S> {
    /// Passes data on to `inner` and keeps the leaf level in `store`, from its first byte on.
    ///
    /// `store` needs room for one digest a data block: 1/128 of the data with the default parameters.
    #[must_use]
    pub fn new(inner: W, store: S, params: &Params, threads: Threads) -> Self {
        let block_size = params.data_block_size.bytes();
        let chunk_size = CHUNK_BYTES.max(block_size);
        Self {
            inner,
            params: params.clone(),
            length: 0,
            chunk: Vec::with_capacity(chunk_size),
            chunk_size,
            pool: Pool::new(store, params, threads),
        }
    }

    /// Completes the tree in `hash`; the data must be a whole number of blocks by now. Neither `hash` is synced nor is the inner
    /// writer flushed.
    ///
    /// The options' observer hears nothing (whoever writes knows how much was written), but can cancel.
    ///
    /// # Errors
    /// [`Error::PartialBlock`], [`Error::Geometry`] (no data at all, among others), [`Error::Read`] and [`Error::Write`].
    pub fn finish(
        mut self,
        hash: &dyn Storage,
        area: HashArea,
        options: &Options<'_>,
    ) -> Result<Built<W>, Error> {
        let block_size = self.params.data_block_size;
        let surplus = self.length % block_size.as_u64();
        if surplus != 0 {
            return Err(Error::PartialBlock { length: self.length, surplus, block_size: block_size.get() });
        }
        let geometry = Geometry::new(&self.params, self.length / block_size.as_u64(), area)?;
        self.pool.hash(std::mem::take(&mut self.chunk))?;
        let store = self.pool.finish()?;
        let root = if geometry.levels().is_empty() {
            store.first_digest()?
        } else {
            store.move_to(hash, &geometry, options)?;
            let (data, hasher) = (Vec::new(), &store.hasher);
            let builder =
                Builder { data: &data, hash, params: &self.params, geometry: &geometry, hasher, options };
            builder.build_upper_levels()?
        };
        Ok(Built { inner: self.inner, geometry, root })
    }
}

impl<W: Write, S: Storage + 'static> Write for TreeWriter<W, S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Only what the next one took may be hashed.
        let room = self.chunk_size - self.chunk.len();
        let count = self.inner.write(&bytes[..bytes.len().min(room)])?;
        self.chunk.extend_from_slice(&bytes[..count]);
        self.length = self
            .length
            .checked_add(count as u64)
            .ok_or_else(|| io::Error::from(io::ErrorKind::FileTooLarge))?;
        if self.chunk.len() == self.chunk_size {
            let chunk = std::mem::take(&mut self.chunk);
            self.chunk = self.pool.hash(chunk).map_err(io::Error::other)?;
            // Exactly: grown by and by it could take twice as much.
            self.chunk.reserve_exact(self.chunk_size);
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<W, S> fmt::Debug for TreeWriter<W, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TreeWriter")
            .field("params", &self.params)
            .field("length", &self.length)
            .finish_non_exhaustive()
    }
}

/// Threads that hash chunks. They own what they work on, since a writer outlives the call that started them.
struct Pool<S> {
    store: Arc<Store<S>>,
    queue: Option<SyncSender<(Vec<u8>, u64)>>,
    /// Chunks that were hashed, to be filled again.
    spent: Receiver<Vec<u8>>,
    threads: Vec<JoinHandle<()>>,
    block_size: u64,
    next_block: u64,
}

/// What the threads share.
struct Store<S> {
    storage: S,
    hasher: BlockHasher,
    slots: Slots,
    params: Params,
    failed: AtomicBool,
    failure: Mutex<Option<Error>>,
}

impl<S: Storage + 'static> Pool<S> {
    fn new(storage: S, params: &Params, threads: Threads) -> Self {
        let store = Arc::new(Store {
            storage,
            hasher: BlockHasher::new(params),
            slots: Slots::of(params),
            params: params.clone(),
            failed: AtomicBool::new(false),
            failure: Mutex::new(None),
        });
        // A rendezvous would let the writer wait for each hand-over; a longer queue would only cost memory.
        let (queue, chunks) = sync_channel(threads.get());
        let (give_back, spent) = sync_channel(2 * threads.get() + 1);
        let chunks = Arc::new(Mutex::new(chunks));
        let threads: Vec<_> = (0..threads.get())
            .map_while(|_| {
                let (store, chunks, give_back) = (Arc::clone(&store), Arc::clone(&chunks), give_back.clone());
                std::thread::Builder::new().spawn(move || store.work(&chunks, &give_back)).ok()
            })
            .collect();
        let queue = (!threads.is_empty()).then_some(queue);
        Self { store, queue, spent, threads, block_size: params.data_block_size.as_u64(), next_block: 0 }
    }

    /// Has the blocks of `chunk` hashed, and returns an empty one. Waits if all threads have enough to do.
    fn hash(&mut self, chunk: Vec<u8>) -> Result<Vec<u8>, Error> {
        if self.store.failed.load(Ordering::Relaxed) {
            return Err(self.store.take_failure());
        }
        let first = self.next_block;
        self.next_block += chunk.len() as u64 / self.block_size;
        match &self.queue {
            Some(queue) => queue.send((chunk, first)).map_err(|_| Error::Thread)?,
            // The system granted no thread at all.
            None => {
                self.store.hash_or_fail(&self.store.level_hasher(), &chunk, first, &mut Vec::new());
                if self.store.failed.load(Ordering::Relaxed) {
                    return Err(self.store.take_failure());
                }
            }
        }
        let mut next = self.spent.try_recv().unwrap_or_default();
        next.clear();
        Ok(next)
    }

    /// Waits for all that was handed over.
    fn finish(mut self) -> Result<Arc<Store<S>>, Error> {
        let all_ended_well = self.join();
        if self.store.failed.load(Ordering::Relaxed) {
            Err(self.store.take_failure())
        } else if all_ended_well {
            Ok(Arc::clone(&self.store))
        } else {
            Err(Error::Thread)
        }
    }
}

impl<S> Pool<S> {
    /// Lets the threads end, and waits until they have. False if one of them panicked.
    fn join(&mut self) -> bool {
        self.queue = None;
        // Counted, so that none is left out after the first.
        self.threads.drain(..).filter_map(|thread| thread.join().err()).count() == 0
    }
}

impl<S> Drop for Pool<S> {
    fn drop(&mut self) {
        // What still waits to be hashed is no longer needed.
        self.store.failed.store(true, Ordering::Relaxed);
        self.join();
    }
}

impl<S: Storage> Store<S> {
    /// A thread's life: chunks until there are no more.
    fn work(&self, chunks: &Mutex<Receiver<(Vec<u8>, u64)>>, give_back: &SyncSender<Vec<u8>>) {
        let (hasher, mut digests) = (self.level_hasher(), Vec::new());
        loop {
            let next = chunks.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok((chunk, first)) = next else { break };
            // After a failure the queue is still emptied, so that the writer never waits for nobody.
            if !self.failed.load(Ordering::Relaxed) {
                self.hash_or_fail(&hasher, &chunk, first, &mut digests);
            }
            // Whoever wrote may be gone already, and then nobody needs the buffer.
            let _ = give_back.try_send(chunk);
        }
    }

    fn level_hasher(&self) -> LevelHasher<'_> {
        LevelHasher::new(&self.hasher, 0, &self.params)
    }

    /// Hashes a chunk, or keeps the first failure.
    fn hash_or_fail(&self, hasher: &LevelHasher<'_>, chunk: &[u8], first: u64, digests: &mut Vec<u8>) {
        if let Err(error) = self.hash(hasher, chunk, first, digests) {
            self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
            self.failed.store(true, Ordering::Relaxed);
        }
    }

    fn hash(
        &self,
        hasher: &LevelHasher<'_>,
        chunk: &[u8],
        first: u64,
        digests: &mut Vec<u8>,
    ) -> Result<(), Error> {
        let block_size = self.params.data_block_size;
        let blocks = (chunk.len() / block_size.bytes()) as u64;
        if blocks == 0 {
            return Ok(());
        }
        // Which block is the last is not known yet: what is missing at the end of the store counts as zeros.
        let region = self.slots.region(&(first..first + blocks), u64::MAX);
        digests.clear();
        digests.resize(usize_of(region.end - region.start), 0);
        self.slots.fill(hasher, chunk, first, digests, region.start);
        write(&self.storage, Device::LeafStore, digests, region.start)
    }

    /// The digest of the first data block: where that is the only one, it has no level to be moved to, and is the root hash.
    fn first_digest(&self) -> Result<RootHash, Error> {
        let mut digest = vec![0; self.hasher.digest_size()];
        read(&self.storage, Device::LeafStore, &mut digest, 0)?;
        Ok(RootHash::from_digest(&digest))
    }

    /// Moves the leaf level to its place.
    fn move_to(&self, hash: &dyn Storage, geometry: &Geometry, options: &Options<'_>) -> Result<(), Error> {
        let start = geometry.hash_block_offset(0, 0);
        let length = geometry.hash_area_end() - start;
        // The store ends with the last digest, the level with the block that this lies in.
        let stored = self.slots.position(geometry.data_blocks());
        let mut buffer = vec![0; usize_of(MOVE_BYTES.min(length))];
        let mut done = 0;
        while done < length {
            if options.observer.cancelled() {
                return Err(Error::Cancelled);
            }
            let count = usize_of((length - done).min(MOVE_BYTES));
            let piece = &mut buffer[..count];
            let (digests, spare) = piece.split_at_mut(usize_of(stored.saturating_sub(done)).min(count));
            read(&self.storage, Device::LeafStore, digests, done)?;
            spare.fill(0);
            write(hash, Device::Hash, piece, start + done)?;
            done += count as u64;
        }
        Ok(())
    }

    fn take_failure(&self) -> Error {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or(Error::Thread)
    }
}
