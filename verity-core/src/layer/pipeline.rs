//! From a blob to its tar, on several threads: one reads, one or two digest, one decompresses; whoever called makes something of
//! it. Between them are short queues: some ten megabytes of memory, whatever the layer.

use std::io::{self, BufRead, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::{self, Scope, ScopedJoinHandle};

use super::Options;
use super::compression::Compression;
use super::digest::{Digest, Digests, Hasher};
use super::error::Error;
use super::pieces::{Bytes, Piece, Pieces, Pool};
use crate::progress::Phase;

/// Bytes of the blob that are handed over at a time.
const BLOB_PIECE: usize = 256 * 1024;
/// The same of what was decompressed. Each piece wakes a thread, which is time that the decompressor does not have.
const TAR_PIECE: usize = 1024 * 1024;
/// How many pieces wait for each thread.
const QUEUE: usize = 8;

/// What came through.
#[derive(Clone, Debug)]
pub(super) struct Totals {
    pub(super) compression: Compression,
    pub(super) blob: Digests,
    pub(super) tar: Digests,
}

/// What the threads share.
struct Shared<'a> {
    options: &'a Options<'a>,
    /// The work is over, well or not.
    stop: AtomicBool,
    /// How many bytes of the blob were decompressed.
    taken: AtomicU64,
}

/// The uncompressed tar.
pub(super) struct Stream<'a> {
    pieces: Pieces,
    options: &'a Options<'a>,
    /// Bytes of holes so far.
    holes: u64,
}

/// Reads `source` and lets `work` have what is in it, uncompressed. What `work` leaves is read, too, for the digests.
pub(super) fn run<T>(
    source: impl Read + Send,
    options: &Options<'_>,
    work: impl FnOnce(&mut Stream<'_>) -> Result<T, Error>,
) -> Result<(T, Totals), Error> {
    let shared = Shared { options, stop: AtomicBool::new(false), taken: AtomicU64::new(0) };
    thread::scope(|scope| {
        // However this ends, the threads do.
        let _stop = StopAtEnd(&shared.stop);
        let (blob_hasher, blob_digests) = hash(scope, options.digest.as_ref(), options.diff_id.as_ref())?;
        let (give, pieces) = sync_channel(QUEUE);
        let reader = &shared;
        spawn(scope, move || reader.read(source, &blob_hasher, &give))?;
        let mut pieces = Pieces::new(pieces);
        let start = pieces.fill_buf().map_err(|error| Error::through(error, Error::Source))?;
        let compression = Compression::detect(start).map_err(Error::Unsupported)?;
        if compression == Compression::None {
            let mut stream = Stream { pieces, options, holes: 0 };
            let result = stream.complete(work)?;
            let blob = blob_digests.join().map_err(|_| Error::Thread)?;
            options.limits.check(stream.holes, blob.length)?;
            return Ok((result, Totals { compression, tar: blob.clone(), blob }));
        }
        let (tar_hasher, tar_digests) = hash(scope, options.diff_id.as_ref(), None)?;
        let (give, decoded) = sync_channel(QUEUE);
        let decoder = &shared;
        spawn(scope, move || decoder.decode(compression, pieces, &give))?;
        let pieces = Pieces::new(decoded).told_to(tar_hasher);
        let mut stream = Stream { pieces, options, holes: 0 };
        let result = stream.complete(work)?;
        let holes = stream.holes;
        // The end of the queue to the thread that digests.
        drop(stream);
        let blob = blob_digests.join().map_err(|_| Error::Thread)?;
        options.limits.check(holes, blob.length)?;
        let tar = tar_digests.join().map_err(|_| Error::Thread)?;
        Ok((result, Totals { compression, blob, tar }))
    })
}

struct StopAtEnd<'a>(&'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn spawn<'s, T: Send + 's>(
    scope: &'s Scope<'s, '_>,
    work: impl FnOnce() -> T + Send + 's,
) -> Result<ScopedJoinHandle<'s, T>, Error> {
    thread::Builder::new().spawn_scoped(scope, work).map_err(|_| Error::Thread)
}

/// A thread that digests what it is given. Where a blob is its own tar, its digest may be asked for by either name.
fn hash<'s>(
    scope: &'s Scope<'s, '_>,
    expected: Option<&Digest>,
    other: Option<&Digest>,
) -> Result<(SyncSender<Bytes>, ScopedJoinHandle<'s, Digests>), Error> {
    let (give, pieces) = sync_channel::<Bytes>(QUEUE);
    let sha512 = |digest: &&Digest| digest.algorithm() == crate::algorithm::Algorithm::Sha512;
    let mut hasher = Hasher::new(expected.filter(sha512).or(other));
    let thread = spawn(scope, move || {
        while let Ok(bytes) = pieces.recv() {
            hasher.update(&bytes);
        }
        hasher.finish()
    })?;
    Ok((give, thread))
}

impl Shared<'_> {
    /// The thread that reads the blob.
    fn read(&self, mut source: impl Read, hasher: &SyncSender<Bytes>, give: &SyncSender<Piece>) {
        let observer = self.options.engine.observer;
        observer.begin(Phase::Convert, self.options.blob_bytes);
        let pool = Pool::new(BLOB_PIECE);
        loop {
            let check = || {
                let over = observer.cancelled() || self.stop.load(Ordering::Relaxed);
                if over { Err(Error::Cancelled) } else { Ok(()) }
            };
            let read = pool.fill(&mut source, check, |error| Error::through(error, Error::Source));
            match read {
                Ok(bytes) if bytes.is_empty() => return,
                Ok(bytes) => {
                    observer.advance(bytes.len() as u64);
                    // Whoever does not listen any more has failed, and says so himself.
                    if hasher.send(Arc::clone(&bytes)).is_err() || give.send(Ok(bytes)).is_err() {
                        return;
                    }
                }
                Err(error) => {
                    let _ = give.send(Err(error));
                    return;
                }
            }
        }
    }

    /// The thread that decompresses.
    fn decode(&self, compression: Compression, pieces: Pieces, give: &SyncSender<Piece>) {
        let taken = || self.taken.load(Ordering::Relaxed);
        let failed = |source| {
            Error::through(source, |source| Error::Compression { compression, offset: taken(), source })
        };
        let mut decoder = match compression.decoder(Counted { pieces, taken: &self.taken }) {
            Ok(decoder) => decoder,
            Err(error) => {
                let _ = give.send(Err(failed(error)));
                return;
            }
        };
        let mut expanded = 0;
        let pool = Pool::new(TAR_PIECE);
        loop {
            let piece = pool.fill(&mut decoder, || Ok(()), failed).and_then(|bytes| {
                expanded += bytes.len() as u64;
                self.options.limits.check(expanded, taken())?;
                Ok(bytes)
            });
            let ended = piece.as_ref().map_or(true, |bytes| bytes.is_empty());
            // Whoever does not listen any more has failed, and says so himself.
            if give.send(piece).is_err() || ended {
                return;
            }
        }
    }
}

/// Compressed pieces, of which it is known how much was taken.
struct Counted<'a> {
    pieces: Pieces,
    taken: &'a AtomicU64,
}

impl BufRead for Counted<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.pieces.fill_buf()
    }

    fn consume(&mut self, count: usize) {
        self.taken.fetch_add(count as u64, Ordering::Relaxed);
        self.pieces.consume(count);
    }
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.pieces.read(buffer)?;
        self.taken.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

impl Stream<'_> {
    /// Does the work, and reads what it leaves.
    fn complete<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T, Error>) -> Result<T, Error> {
        let result = work(self)?;
        loop {
            let rest = self.pieces.fill_buf().map_err(|error| Error::through(error, Error::Source))?.len();
            if rest == 0 {
                return Ok(result);
            }
            self.pieces.consume(rest);
        }
    }

    /// Takes account of holes, and refuses what is too much for the blob.
    ///
    /// Of how many bytes these are made is known when all of the blob was read. A hole costs nothing until then, so that
    /// where the blob's size is not known before, they are checked when it is: how fast a pipe is filled, and how far the threads have come,
    /// makes no difference.
    pub(super) fn expand(&mut self, holes: u64) -> Result<(), Error> {
        self.holes = self.holes.saturating_add(holes);
        let Options { blob_bytes, limits, .. } = self.options;
        blob_bytes.map_or(Ok(()), |blob_bytes| limits.check(self.holes, blob_bytes))
    }
}

impl Read for Stream<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.pieces.read(buffer)
    }
}
