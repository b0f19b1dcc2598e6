//! The image on its way out: written on threads of their own, and hashed there, as far as it was not before, while it is still in the cache.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use super::error::Error;
use crate::erofs::write::{self, Target};
use crate::io::WriteAt;
use crate::params::Params;
use crate::tree::{Leaves, Threads};

/// More would only wait for each other: a file is written by one thread at a time, while the other hashes.
const THREADS: usize = 2;

/// A piece of the image.
struct Piece {
    blocks: Vec<u8>,
    /// Where it belongs, in bytes.
    offset: u64,
    /// The digests of its first blocks, if they are known.
    digests: Vec<u8>,
}

/// What the threads share.
struct Shared<'a> {
    output: &'a dyn WriteAt,
    leaves: Option<&'a Leaves>,
    /// In bytes.
    block_size: u64,
    failed: AtomicBool,
    failure: Mutex<Option<write::Error>>,
}

/// Lets `work` make an image, which is written to `output`, and hashed if there are `leaves` for it. When this returns, all was written.
///
/// Memory: some six pieces of 1 MiB.
pub(super) fn run<T>(
    output: &dyn WriteAt,
    leaves: Option<&Leaves>,
    block_size: u64,
    threads: Threads,
    work: impl FnOnce(Box<dyn Target + '_>) -> Result<T, Error>,
) -> Result<T, Error> {
    let threads = threads.get().min(THREADS);
    let (give, pieces) = sync_channel(threads);
    // There is room for every buffer that there can be: none waits to be given back.
    let (give_back, spent) = sync_channel(2 * threads + 1);
    let shared =
        Shared { output, leaves, block_size, failed: AtomicBool::new(false), failure: Mutex::new(None) };
    thread::scope(|scope| {
        // The threads' alone, so that the queue has no end any more when none of them is left.
        let pieces = Arc::new(Mutex::new(pieces));
        let mut started = Vec::new();
        for _ in 0..threads {
            let (shared, pieces, give_back) = (&shared, Arc::clone(&pieces), give_back.clone());
            let work = move || shared.work(&pieces, &give_back);
            started.push(thread::Builder::new().spawn_scoped(scope, work).map_err(|_| Error::Thread)?);
        }
        drop(pieces);
        // However it ends, the queue does: it is gone with the writer that it is given to.
        let result = work(Box::new(Handover { give, spent, shared: &shared }));
        let ended_well = started.into_iter().filter_map(|thread| thread.join().err()).count() == 0;
        let result = result?;
        match shared.failure.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(failure) => Err(failure.into()),
            None if ended_well => Ok(result),
            None => Err(Error::Thread),
        }
    })
}

impl Shared<'_> {
    /// A thread's life: pieces until there are no more.
    fn work(&self, pieces: &Mutex<Receiver<Piece>>, give_back: &SyncSender<Vec<u8>>) {
        let leaves = self.leaves.map(|leaves| (leaves, leaves.hasher()));
        loop {
            let next = pieces.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(Piece { blocks, offset, digests }) = next else { return };
            // After a failure the queue is still emptied, so that nobody waits for it.
            if !self.failed.load(Ordering::Relaxed) {
                if let Some((leaves, hasher)) = &leaves {
                    leaves.take(hasher, offset / self.block_size, &blocks, digests);
                }
                if let Err(source) = self.output.write_all_at(&blocks, offset) {
                    let failure = write::Error::Write { offset, source };
                    self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(failure);
                    self.failed.store(true, Ordering::Relaxed);
                }
            }
            // Whoever made the image may be gone already, and then nobody needs the buffer.
            let _ = give_back.try_send(blocks);
        }
    }
}

/// The end of the queue that pieces are put into.
struct Handover<'a> {
    give: SyncSender<Piece>,
    spent: Receiver<Vec<u8>>,
    shared: &'a Shared<'a>,
}

impl Target for Handover<'_> {
    fn wants(&self) -> Option<&Params> {
        self.shared.leaves.and_then(Leaves::for_digests)
    }

    fn take(&mut self, blocks: Vec<u8>, offset: u64, digests: Vec<u8>) -> Result<Vec<u8>, write::Error> {
        let ended = || write::Error::Write { offset, source: std::io::Error::other("a thread ended early") };
        if self.shared.failed.load(Ordering::Relaxed) {
            let failure = self.shared.failure.lock().unwrap_or_else(PoisonError::into_inner).take();
            return Err(failure.unwrap_or_else(ended));
        }
        self.give.send(Piece { blocks, offset, digests }).map_err(|_| ended())?;
        Ok(self.spent.try_recv().unwrap_or_default())
    }
}
