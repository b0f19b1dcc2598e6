//! Digests of blobs: files, parts of files, and streams.

use std::io::{self, Read};

use crate::io::ReadAt;
use crate::layer::{Digest, Hasher};
use crate::progress::Observer;

/// Bytes that are digested at a time.
const PIECE: usize = 256 * 1024;

/// The digest and size of a file, whoever else reads it; else as [`digest_stream`].
pub(super) fn digest(
    file: &impl ReadAt,
    expected: Option<&Digest>,
    observer: &dyn Observer,
) -> io::Result<Option<(Digest, u64)>> {
    digest_stream(Positioned { file, offset: 0 }, expected, observer)
}

/// A file, read on from a position of its own.
struct Positioned<'f, F> {
    file: &'f F,
    offset: u64,
}

impl<F: ReadAt> Read for Positioned<'_, F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = ReadAt::read_at(self.file, buffer, self.offset)?;
        self.offset += count as u64;
        Ok(count)
    }
}

/// The digest and size of a blob; `None` if the observer cancelled. The digest is sha256, or of the algorithm of `expected`.
pub(super) fn digest_stream(
    mut blob: impl Read,
    expected: Option<&Digest>,
    observer: &dyn Observer,
) -> io::Result<Option<(Digest, u64)>> {
    let mut hasher = Hasher::new(expected);
    let mut buffer = vec![0; PIECE];
    let mut size = 0;
    loop {
        if observer.cancelled() {
            return Ok(None);
        }
        match blob.read(&mut buffer) {
            Ok(0) => {
                let digests = hasher.finish();
                let digest = expected.map_or(&digests.sha256, |expected| digests.like(expected)).clone();
                return Ok(Some((digest, size)));
            }
            Ok(count) => {
                hasher.update(&buffer[..count]);
                size += count as u64;
            }
            // Nothing came yet, which is an occasion to ask whether to go on.
            Err(error) if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => {}
            Err(error) => return Err(error),
        }
    }
}
