//! Digests of blobs that are files, or parts of files.

use std::io;

use crate::io::ReadAt;
use crate::layer::{Digest, Hasher};
use crate::progress::Observer;

/// Bytes that are digested at a time.
const PIECE: usize = 256 * 1024;

/// The digest and size of a file; `None` if the observer cancelled. The digest is sha256, or of the algorithm of `expected`.
pub(super) fn digest(
    file: &impl ReadAt,
    expected: Option<&Digest>,
    observer: &dyn Observer,
) -> io::Result<Option<(Digest, u64)>> {
    let mut hasher = Hasher::new(expected);
    let mut buffer = vec![0; PIECE];
    let mut offset = 0;
    loop {
        if observer.cancelled() {
            return Ok(None);
        }
        match ReadAt::read_at(file, &mut buffer, offset) {
            Ok(0) => {
                let digests = hasher.finish();
                let digest = expected.map_or(&digests.sha256, |expected| digests.like(expected)).clone();
                return Ok(Some((digest, offset)));
            }
            Ok(count) => {
                hasher.update(&buffer[..count]);
                offset += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
