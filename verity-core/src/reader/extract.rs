//! Copying verified data, on all threads, without its zeros.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use super::data::READ_BYTES;
use super::{Error, VerityReader};
use crate::block::RootHash;
use crate::io::{WriteAt, is_zero, usize_of};
use crate::progress::Phase;
use crate::tree::{self, Device, Options};
use crate::workers;

/// Bytes of data in a job: a few reads, and whole blocks of any size.
const JOB_BYTES: u64 = 1024 * 1024;

/// What was copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Extracted {
    /// Bytes of verified data.
    pub bytes: u64,
    /// As many of them were in blocks of zeros, and not written.
    pub zero_bytes: u64,
}

/// The copying of data to a target.
struct Extraction<'a> {
    reader: &'a VerityReader<'a>,
    target: &'a dyn WriteAt,
    /// The digest of a block of zeros.
    zero_digest: RootHash,
    zero_bytes: AtomicU64,
}

/// A thread's own.
struct Scratch {
    buffer: Vec<u8>,
    /// Up to here the source says that there are only zeros.
    zeros_until: u64,
}

impl VerityReader<'_> {
    /// Copies all of the data to `target`, after it was checked, on as many threads as the options say. Nothing is synced.
    ///
    /// Blocks of zeros are not written: a target that is to be the data, byte for byte, reads as zeros before, as a new file does that
    /// was given its length. Holes of the source are not read either, where the tree says that they are to be zeros.
    ///
    /// # Errors
    /// The [`Error`] of a block that is corrupted, which need not be the first one; what was written till then is good, but not all. And
    /// [`tree::Error::Write`] and [`tree::Error::Cancelled`].
    pub fn extract(&self, target: &dyn WriteAt, options: &Options<'_>) -> Result<Extracted, Error> {
        let length = self.data_bytes();
        options.observer.begin(Phase::Extract, Some(length));
        let zero_digest = self.hasher.hash_block(&vec![0; self.params.data_block_size.bytes()]);
        let extraction = Extraction { reader: self, target, zero_digest, zero_bytes: AtomicU64::new(0) };
        let scratch = || Scratch {
            buffer: vec![0; READ_BYTES.max(self.params.data_block_size.bytes())],
            zeros_until: 0,
        };
        workers::run_with::<_, Error>(length.div_ceil(JOB_BYTES), options, scratch, |scratch, job| {
            let start = job * JOB_BYTES;
            let end = (start + JOB_BYTES).min(length);
            extraction.copy(start..end, scratch)?;
            options.observer.advance(end - start);
            Ok(())
        })?;
        Ok(Extracted { bytes: length, zero_bytes: extraction.zero_bytes.into_inner() })
    }
}

impl Extraction<'_> {
    fn copy(&self, range: Range<u64>, scratch: &mut Scratch) -> Result<(), Error> {
        let mut offset = range.start;
        while offset < range.end {
            if scratch.zeros_until <= offset {
                // A source that cannot say is read.
                scratch.zeros_until = self.reader.data.zeros_until(offset).unwrap_or(offset);
            }
            let zeros = self.check_zeros(offset..scratch.zeros_until.min(range.end))?;
            if zeros > 0 {
                self.zero_bytes.fetch_add(zeros, Ordering::Relaxed);
                offset += zeros;
                continue;
            }
            let rest = usize_of(range.end - offset);
            let length = rest.min(scratch.buffer.len());
            let count = self.reader.read_at(&mut scratch.buffer[..length], offset)?;
            self.write(&scratch.buffer[..count], offset)?;
            offset += count as u64;
        }
        Ok(())
    }

    /// How many bytes from the start of `range` are whole blocks that have to be zeros, whatever the source holds.
    fn check_zeros(&self, range: Range<u64>) -> Result<u64, Error> {
        let size = self.reader.params.data_block_size.as_u64();
        let count = range.end.saturating_sub(range.start) / size;
        if count == 0 {
            return Ok(0);
        }
        let zeros =
            self.reader.matching(range.start / size, usize_of(count), |_| self.zero_digest.as_bytes())?;
        Ok(zeros as u64 * size)
    }

    /// Writes whole blocks, but those of zeros.
    fn write(&self, bytes: &[u8], offset: u64) -> Result<(), Error> {
        let size = self.reader.params.data_block_size.bytes();
        let put = |from: usize, to: usize| {
            let (run, offset) = (&bytes[from..to], offset + from as u64);
            self.target.write_all_at(run, offset).map_err(|source| {
                let (device, length) = (Device::Output, run.len());
                tree::Error::Write { device, offset, length, source }
            })
        };
        // Where the blocks begin that are to be written with the next.
        let mut from = 0;
        for (at, block) in (0..).step_by(size).zip(bytes.chunks(size)) {
            if is_zero(block) {
                self.zero_bytes.fetch_add(block.len() as u64, Ordering::Relaxed);
                if from < at {
                    put(from, at)?;
                }
                from = at + block.len();
            }
        }
        if from < bytes.len() { Ok(put(from, bytes.len())?) } else { Ok(()) }
    }
}
