//! Copying a device to a new file: by all threads, holes as holes, and without a stop at what cannot be read.

use std::fs::File;
use std::io;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use nix::fcntl::copy_file_range;
use nix::unistd::{Whence, lseek};
use verity_core::io::{ReadAt, WriteAt};
use verity_core::tree::Options;

/// Bytes that a thread copies at a time.
const JOB: u64 = 4 * 1024 * 1024;

/// Bytes read at once where the system does not copy by itself.
const PIECE: usize = 256 * 1024;

/// What is read by itself where a larger piece cannot be: no device has smaller sectors.
const SECTOR: usize = 512;

/// Copies the first `length` bytes of `from`. What cannot be read becomes zeros: this is for damaged devices, and whoever uses the
/// copy checks it.
///
/// # Errors
/// What the system says of writing, and `Interrupted` if the observer cancels.
pub(crate) fn copy(from: &File, to: &File, length: u64, options: &Options<'_>) -> io::Result<()> {
    to.set_len(length)?;
    let next = AtomicU64::new(0);
    let failure = Mutex::new(None);
    let work = || {
        let mut buffer = Vec::new();
        loop {
            let start = next.fetch_add(JOB, Ordering::Relaxed);
            if start >= length {
                return;
            }
            let result = if options.observer.cancelled() {
                Err(io::ErrorKind::Interrupted.into())
            } else {
                copy_range(from, to, start, length.min(start + JOB), &mut buffer)
            };
            if let Err(error) = result {
                next.store(length, Ordering::Relaxed);
                failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
            }
        }
    };
    thread::scope(|scope| {
        for _ in 1..options.threads.get() {
            if thread::Builder::new().spawn_scoped(scope, work).is_err() {
                break;
            }
        }
        work();
    });
    failure.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
}

fn copy_range(from: &File, to: &File, start: u64, end: u64, buffer: &mut Vec<u8>) -> io::Result<()> {
    let mut offset = start;
    while offset < end {
        offset = from.zeros_until(offset).unwrap_or(offset).min(end);
        // Sources that do not know of holes are data up to the end.
        let hole = i64::try_from(offset).ok().and_then(|at| lseek(from, at, Whence::SeekHole).ok());
        let data_end = hole.and_then(|hole| u64::try_from(hole).ok()).unwrap_or(end).clamp(offset, end);
        let data_end = if data_end == offset { end } else { data_end };
        let by_system = copy_by_system(from, to, offset, data_end);
        copy_by_hand(from, to, by_system, data_end, buffer)?;
        offset = data_end;
    }
    Ok(())
}

/// Lets the system copy, which may share blocks instead. Returns how far it came.
fn copy_by_system(from: &File, to: &File, start: u64, end: u64) -> u64 {
    let (Ok(mut read_at), Ok(mut write_at)) = (i64::try_from(start), i64::try_from(start)) else {
        return start;
    };
    let mut offset = start;
    while offset < end {
        let left = usize::try_from(end - offset).unwrap_or(usize::MAX);
        match copy_file_range(from, Some(&mut read_at), to, Some(&mut write_at), left) {
            Ok(count) if count > 0 => offset += count as u64,
            _ => break,
        }
    }
    offset
}

fn copy_by_hand(from: &File, to: &File, start: u64, end: u64, buffer: &mut Vec<u8>) -> io::Result<()> {
    let mut offset = start;
    while offset < end {
        let count = usize::try_from(end - offset).unwrap_or(PIECE).min(PIECE);
        buffer.resize(count, 0);
        if from.read_exact_at(buffer, offset).is_err() {
            for (index, sector) in buffer.chunks_mut(SECTOR).enumerate() {
                if from.read_exact_at(sector, offset + (index * SECTOR) as u64).is_err() {
                    sector.fill(0);
                }
            }
        }
        to.write_all_at(buffer, offset)?;
        offset += count as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn a_copy_has_the_same_bytes_and_the_same_holes() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name| {
            File::options().read(true).write(true).create(true).truncate(true).open(folder.path().join(name))
        };
        let from = file("from").unwrap();
        from.set_len(9_000_001).unwrap();
        for (at, byte) in [(0, 1), (4_194_303, 2), (4_194_304, 3), (9_000_000, 4)] {
            from.write_all_at(&[byte], at).unwrap();
        }
        let to = file("to").unwrap();
        copy(&from, &to, 9_000_001, &Options::default()).unwrap();
        assert_eq!(
            std::fs::read(folder.path().join("from")).unwrap(),
            std::fs::read(folder.path().join("to")).unwrap()
        );
        // As few blocks, on file systems that have holes.
        assert!(to.metadata().unwrap().blocks() <= from.metadata().unwrap().blocks());
        let by_hand = file("by hand").unwrap();
        copy_by_hand(&from, &by_hand, 0, 9_000_001, &mut Vec::new()).unwrap();
        assert_eq!(
            std::fs::read(folder.path().join("from")).unwrap(),
            std::fs::read(folder.path().join("by hand")).unwrap()
        );
    }
}
