//! Data blocks: read once, into the caller's buffer, and checked there.

use super::{Effort, Error, VerityReader};
use crate::algorithm::MAX_DIGEST_SIZE;
use crate::io::usize_of;
use crate::tree::{self, Device, Place};

/// Bytes read at once: large enough that a system call costs nothing, small enough to stay in a core's cache.
pub(super) const READ_BYTES: usize = 256 * 1024;

/// Blocks hashed at once: more than any kernel has lanes, few enough that their digests lie on the stack.
const BATCH: usize = 64;

/// Bytes that nothing vouches for yet, in a buffer that is somebody else's. What is not released by the end is wiped,
/// whatever that end is.
struct Unverified<'b> {
    bytes: &'b mut [u8],
    verified: usize,
}

impl<'b> Unverified<'b> {
    const fn new(bytes: &'b mut [u8]) -> Self {
        Self { bytes, verified: 0 }
    }

    /// Lets the first `count` bytes be seen, and no others.
    fn release(mut self, count: usize) -> usize {
        self.verified = count;
        count
    }
}

impl Drop for Unverified<'_> {
    fn drop(&mut self) {
        self.bytes[self.verified..].fill(0);
    }
}

impl VerityReader<'_> {
    /// Reads and checks some bytes from `offset` on, at least one: `buffer` is not empty and ends within the data.
    ///
    /// No byte of `buffer` is left that was not checked, in case of an error either.
    pub(super) fn read_some(&self, buffer: &mut [u8], offset: u64) -> Result<usize, Error> {
        let size = self.params.data_block_size.bytes();
        let block = offset / self.params.data_block_size.as_u64();
        let within = usize_of(offset % self.params.data_block_size.as_u64());
        if within == 0 && buffer.len() >= size {
            let most = READ_BYTES.max(size).min(buffer.len());
            return self.read_blocks(block, &mut buffer[..most - most % size]);
        }
        let mut whole = vec![0; size];
        self.read_blocks(block, &mut whole)?;
        let part = &whole[within..];
        let count = part.len().min(buffer.len());
        buffer[..count].copy_from_slice(&part[..count]);
        Ok(count)
    }

    /// Reads and checks data blocks from `first` on, and returns how many bytes are good: at least a block.
    fn read_blocks(&self, first: u64, buffer: &mut [u8]) -> Result<usize, Error> {
        let size = self.params.data_block_size.bytes();
        let offset = first * self.params.data_block_size.as_u64();
        let unverified = Unverified::new(buffer);
        let error = match self.data.read_exact_at(unverified.bytes, offset) {
            Ok(()) => {
                let good = self.count_good(first, unverified.bytes)?;
                if good > 0 {
                    return Ok(unverified.release(good * size));
                }
                let expected = self.expected(0, first, Effort::Restore)?;
                let found = self.hasher.hash_block(&unverified.bytes[..size]);
                self.corrupted(Place::Data, first, expected, found)
            }
            // One block that cannot be read takes no others with it.
            Err(_) if unverified.bytes.len() > size => {
                let half = unverified.bytes.len() / size / 2;
                let good = self.read_blocks(first, &mut unverified.bytes[..half * size])?;
                return Ok(unverified.release(good));
            }
            Err(source) => tree::Error::Read { device: Device::Data, offset, length: size, source }.into(),
        };
        self.restore(Place::Data, first, error, &mut unverified.bytes[..size])?;
        Ok(unverified.release(size))
    }

    /// How many of the data blocks in `blocks`, from the first on, are what is vouched for.
    fn count_good(&self, first: u64, blocks: &[u8]) -> Result<usize, Error> {
        let block_size = self.params.data_block_size;
        let digest_size = self.hasher.digest_size();
        let mut digests = [0; BATCH * MAX_DIGEST_SIZE];
        let mut good = 0;
        for batch in blocks.chunks(BATCH * block_size.bytes()) {
            let count = batch.len() / block_size.bytes();
            self.hasher.hash_blocks(batch, block_size, &mut digests, digest_size);
            let digest_of = |index: usize| &digests[index * digest_size..][..digest_size];
            match self.matching(first + good as u64, count, digest_of) {
                Ok(matching) => {
                    good += matching;
                    if matching < count {
                        break;
                    }
                }
                Err(error) if good == 0 => return Err(error),
                Err(_) => break,
            }
        }
        Ok(good)
    }
}
