//! What threads hand on to each other: pieces of a stream, in buffers that are used again and again.

use std::io::{self, BufRead, Read};
use std::ops::Deref;
use std::sync::mpsc::{Receiver, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};

use super::error::Error;

/// What several threads read.
pub(super) type Bytes = Arc<Buffer>;
/// What comes through a queue.
pub(super) type Piece = Result<Bytes, Error>;

/// Buffers that nobody reads any more. A new one costs a system call, and each of its pages a fault.
pub(super) struct Pool {
    /// How many bytes a piece has.
    piece: usize,
    spare: Arc<Spare>,
}

type Spare = Mutex<Vec<Box<[u8]>>>;

/// A piece. When the last one who has it lets go, its memory is used for another.
#[derive(Default)]
pub(super) struct Buffer {
    bytes: Box<[u8]>,
    length: usize,
    spare: Arc<Spare>,
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        self.spare.lock().unwrap_or_else(PoisonError::into_inner).push(bytes);
    }
}

impl Pool {
    /// Of buffers of `piece` bytes.
    pub(super) fn new(piece: usize) -> Self {
        Self { piece, spare: Arc::default() }
    }

    /// Reads a piece: less than a whole one only at the end. `check` is asked before each read, and `failed` tells what an error of the source is.
    pub(super) fn fill(
        &self,
        source: &mut impl Read,
        check: impl Fn() -> Result<(), Error>,
        failed: impl Fn(io::Error) -> Error,
    ) -> Piece {
        let spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut bytes = spare.unwrap_or_else(|| vec![0; self.piece].into_boxed_slice());
        let mut length = 0;
        while length < bytes.len() {
            check()?;
            match source.read(&mut bytes[length..]) {
                Ok(0) => break,
                Ok(count) => length += count,
                // A source that waits may let go from time to time, so that it is seen whether it still should.
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => {}
                Err(error) => return Err(failed(error)),
            }
        }
        Ok(Bytes::new(Buffer { bytes, length, spare: Arc::clone(&self.spare) }))
    }
}

/// The receiving end of a queue.
pub(super) struct Pieces {
    queue: Receiver<Piece>,
    /// Who else has to have what comes.
    listener: Option<SyncSender<Bytes>>,
    bytes: Bytes,
    at: usize,
}

impl Pieces {
    pub(super) fn new(queue: Receiver<Piece>) -> Self {
        Self { queue, listener: None, bytes: Bytes::default(), at: 0 }
    }

    /// Passes every piece on to `listener`, too: waking a thread takes time, and whoever fills the queue may have less of it than whoever reads.
    pub(super) fn told_to(self, listener: SyncSender<Bytes>) -> Self {
        Self { listener: Some(listener), ..self }
    }
}

impl BufRead for Pieces {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at == self.bytes.len() {
            // A queue that nobody fills any more is the end.
            self.bytes =
                self.queue.recv().unwrap_or_else(|_| Ok(Bytes::default())).map_err(Error::into_io)?;
            self.at = 0;
            if let Some(listener) = &self.listener {
                // One that is gone panicked, which is seen when it is waited for.
                let _ = listener.send(Arc::clone(&self.bytes));
            }
        }
        Ok(&self.bytes[self.at..])
    }

    fn consume(&mut self, count: usize) {
        self.at = self.bytes.len().min(self.at + count);
    }
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.fill_buf()?;
        let count = bytes.len().min(buffer.len());
        buffer[..count].copy_from_slice(&bytes[..count]);
        self.consume(count);
        Ok(count)
    }
}
