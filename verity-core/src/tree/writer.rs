//! Hashing data while it is written, when its length is not known yet.
//!
//! The tree's levels lie before the leaf level, so where the leaf level belongs is known only at the end: until then
//! it is kept in a store of its own (a file, for anything large), and moved when the data is complete.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use super::build::{Builder, write};
use super::known::LevelHasher;
use super::level::{Slots, usize_of};
use super::{Device, Error, Options, Threads};
use crate::block::RootHash;
use crate::digest::BlockHasher;
use crate::geometry::{Geometry, HashArea};
use crate::io::Storage;
use crate::params::Params;

/// Bytes that are hashed by one thread at a time, unless a block is larger.
const CHUNK_BYTES: usize = 512 * 1024;

/// Bytes of the leaf level that are moved at once.
const MOVE_BYTES: u64 = 256 * 1024;

/// A `Write` that passes data on and builds the tree over it, on several threads.
///
/// Memory: two chunks of 512 KiB (or one block) for each thread, whatever the length.
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
    /// Passes data on to `inner` and keeps the leaf level in `store`, which should be empty.
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

    /// Completes the tree in `hash`; the data must be a whole number of blocks by now.
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
        // The only data block is the top of its tree, and has not been hashed into any level.
        let first = std::mem::take(&mut self.chunk);
        let only_block = if geometry.levels().is_empty() { first.clone() } else { Vec::new() };
        self.pool.hash(first)?;
        let store = self.pool.finish()?;
        move_leaf_level(&store.storage, hash, &geometry, options)?;
        let hasher = BlockHasher::new(&self.params);
        let builder = Builder {
            data: &only_block,
            hash,
            params: &self.params,
            geometry: &geometry,
            hasher: &hasher,
            options,
        };
        let root = builder.build_upper_levels()?;
        Ok(Built { inner: self.inner, geometry, root })
    }
}

fn move_leaf_level(
    store: &dyn Storage,
    hash: &dyn Storage,
    geometry: &Geometry,
    options: &Options<'_>,
) -> Result<(), Error> {
    if geometry.levels().is_empty() {
        return Ok(());
    }
    let start = geometry.hash_block_offset(0, 0);
    let length = geometry.hash_area_end() - start;
    let mut buffer = vec![0; usize_of(MOVE_BYTES.min(length))];
    let mut done = 0;
    while done < length {
        if options.observer.cancelled() {
            return Err(Error::Cancelled);
        }
        let count = usize_of((length - done).min(MOVE_BYTES));
        read_padded(store, &mut buffer[..count], done)?;
        write(hash, Device::Hash, &buffer[..count], start + done)?;
        done += count as u64;
    }
    Ok(())
}

/// Reads from the store, which ends with the last digest and not with the last block.
fn read_padded(store: &dyn Storage, buffer: &mut [u8], offset: u64) -> Result<(), Error> {
    let mut filled = 0;
    while filled < buffer.len() {
        match store.read_at(&mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(source) => {
                return Err(Error::Read { device: Device::LeafStore, offset, length: buffer.len(), source });
            }
        }
    }
    buffer[filled..].fill(0);
    Ok(())
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
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
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
            None => self.store.hash(&chunk, first, &mut Vec::new())?,
        }
        let mut next = self.spent.try_recv().unwrap_or_default();
        next.clear();
        Ok(next)
    }

    /// Waits for all that was handed over.
    fn finish(mut self) -> Result<Arc<Store<S>>, Error> {
        self.queue = None;
        for thread in self.threads.drain(..) {
            thread.join().map_err(|_| Error::Thread)?;
        }
        if self.store.failed.load(Ordering::Relaxed) {
            Err(self.store.take_failure())
        } else {
            Ok(self.store)
        }
    }
}

impl<S: Storage> Store<S> {
    /// A thread's life: chunks until there are no more.
    fn work(&self, chunks: &Mutex<Receiver<(Vec<u8>, u64)>>, give_back: &SyncSender<Vec<u8>>) {
        let mut digests = Vec::new();
        loop {
            let next = chunks.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok((chunk, first)) = next else { break };
            // After a failure the queue is still emptied, so that the writer never waits for nobody.
            if !self.failed.load(Ordering::Relaxed)
                && let Err(error) = self.hash(&chunk, first, &mut digests)
            {
                self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                self.failed.store(true, Ordering::Relaxed);
            }
            // Whoever wrote may be gone already, and then nobody needs the buffer.
            let _ = give_back.try_send(chunk);
        }
    }

    fn hash(&self, chunk: &[u8], first: u64, digests: &mut Vec<u8>) -> Result<(), Error> {
        let block_size = self.params.data_block_size;
        let blocks = (chunk.len() / block_size.bytes()) as u64;
        if blocks == 0 {
            return Ok(());
        }
        // Which block is the last is not known yet: what is missing at the end of the store counts as zeros.
        let region = self.slots.region(&(first..first + blocks), u64::MAX);
        digests.clear();
        digests.resize(usize_of(region.end - region.start), 0);
        let hasher = LevelHasher::new(&self.hasher, 0, &self.params);
        self.slots.fill(&hasher, chunk, first, digests, region.start);
        write(&self.storage, Device::LeafStore, digests, region.start)
    }

    fn take_failure(&self) -> Error {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or(Error::Thread)
    }
}
