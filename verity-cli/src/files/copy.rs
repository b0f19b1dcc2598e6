//! Copying a device to a new file: holes as holes, and without a stop at what cannot be read.

use std::fs::File;
use std::io;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use nix::unistd::{Whence, lseek};
use verity_core::io::{ReadAt, WriteAt};
use verity_core::tree::Options;

/// Bytes that a thread copies at a time.
const JOB: u64 = 4 * 1024 * 1024;

/// More than these only wait for each other: a file is written by one at a time, while the others read.
const THREADS: usize = 2;

/// Bytes read at once.
const PIECE: usize = 256 * 1024;

/// What is read by itself where a larger piece cannot be: no device has smaller sectors.
const SECTOR: usize = 512;

/// Copies the first `length` bytes of `from`. What cannot be read becomes zeros: this is for damaged devices, and whoever uses the
/// copy checks it.
///
/// # Errors
/// What the system says of writing, and `Interrupted` if the observer cancels.
pub(crate) fn copy(from: &File, to: &File, length: u64, options: &Options<'_>) -> io::Result<()> {
    // By hand: a file system that shares blocks shares those that it cannot read, too, and where it cannot, `copy_file_range` takes
    // four times as long.
    to.set_len(length)?;
    let next = AtomicU64::new(0);
    let failure = Mutex::new(None);
    let work = || {
        let mut copier = Copier { from, to, options, buffer: vec![0; PIECE], data_end: 0 };
        loop {
            let start = next.fetch_add(JOB, Ordering::Relaxed);
            if start >= length {
                return;
            }
            if let Err(error) = copier.copy(start, length.min(start + JOB)) {
                next.store(length, Ordering::Relaxed);
                failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
            }
        }
    };
    thread::scope(|scope| {
        for _ in 1..options.threads.get().min(THREADS) {
            if thread::Builder::new().spawn_scoped(scope, work).is_err() {
                break;
            }
        }
        work();
    });
    failure.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
}

/// A thread's work.
struct Copier<'a> {
    from: &'a File,
    to: &'a File,
    options: &'a Options<'a>,
    buffer: Vec<u8>,
    /// Up to here there are no holes: some file systems look at every page to find that out, so they are asked once.
    data_end: u64,
}

impl Copier<'_> {
    /// Copies a range that lies behind what this was called for before.
    fn copy(&mut self, start: u64, end: u64) -> io::Result<()> {
        let mut offset = start;
        while offset < end {
            if offset >= self.data_end {
                offset = self.from.zeros_until(offset).unwrap_or(offset).clamp(offset, end);
                if offset == end {
                    break;
                }
                self.data_end = self.hole_behind(offset).unwrap_or(u64::MAX);
            }
            let data_end = self.data_end.min(end);
            self.copy_data(offset, data_end)?;
            offset = data_end;
        }
        Ok(())
    }

    /// Where data that begins at `offset` ends in a hole; none if the source does not know of holes.
    fn hole_behind(&self, offset: u64) -> Option<u64> {
        let hole = lseek(self.from, i64::try_from(offset).ok()?, Whence::SeekHole).ok()?;
        // One that was punched in between counts as data.
        u64::try_from(hole).ok().map(|hole| if hole > offset { hole } else { offset + PIECE as u64 })
    }

    fn copy_data(&mut self, start: u64, end: u64) -> io::Result<()> {
        let mut offset = start;
        while offset < end {
            if self.options.observer.cancelled() {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let count = usize::try_from(end - offset).unwrap_or(PIECE).min(PIECE);
            let piece = &mut self.buffer[..count];
            let there = read(self.from, piece, offset);
            self.to.write_all_at(&piece[..there], offset)?;
            // A source that has become shorter: the copy has zeros there as it is.
            if there < count {
                break;
            }
            offset += count as u64;
        }
        Ok(())
    }
}

/// Reads what can be read, and returns where the source ends. What cannot be read becomes zeros.
fn read(from: &File, piece: &mut [u8], offset: u64) -> usize {
    let mut done = 0;
    while done < piece.len() {
        match from.read_at(&mut piece[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) if piece.len() - done <= SECTOR => {
                piece[done..].fill(0);
                done = piece.len();
            }
            // What is around it can be read.
            Err(_) => {
                let sector = SECTOR - (done % SECTOR);
                let there = read(from, &mut piece[done..done + sector], offset + done as u64);
                done += there;
                if there < sector {
                    break;
                }
            }
        }
    }
    done
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
    }
}
