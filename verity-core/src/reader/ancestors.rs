//! The tree from the top down: no hash block is looked into before it was checked.

use super::{Error, Repair, VerityReader};
use crate::block::RootHash;
use crate::io::usize_of;
use crate::tree::{self, Device, Place};

/// What may be done to get a hash block that is not what it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effort {
    /// It may be restored from parity.
    Restore,
    /// It is taken as it is. Restoring asks in this way which other blocks are bad, and does not go round in circles.
    AsItIs,
}

impl VerityReader<'_> {
    /// How many of the data blocks `first..first + count`, from the first on, have the digests that are vouched for. `digest_of` counts from 0.
    ///
    /// It is an error if nothing vouches for the first block.
    pub(super) fn matching<'d>(
        &self,
        first: u64,
        count: usize,
        digest_of: impl Fn(usize) -> &'d [u8],
    ) -> Result<usize, Error> {
        if self.geometry.levels().is_empty() {
            // The only block.
            return Ok(usize::from(count > 0 && digest_of(0) == self.root.as_bytes()));
        }
        let per_block = self.params.digests_per_block();
        let mut good = 0;
        while good < count {
            let child = first + good as u64;
            let left = usize_of(per_block - child % per_block);
            let run = left.min(count - good);
            let matching = |block: &[u8]| {
                (0..run)
                    .take_while(|&index| {
                        self.digest_in(block, child + index as u64) == digest_of(good + index)
                    })
                    .count()
            };
            match self.with_block(0, child / per_block, Effort::Restore, matching) {
                Ok(count) => {
                    good += count;
                    if count < run {
                        break;
                    }
                }
                Err(error) if good == 0 => return Err(error),
                // What was checked counts; the next read begins with the error.
                Err(_) => break,
            }
        }
        Ok(good)
    }

    /// The digest of child `index` of `level`, which is a data block (level 0) or a hash block of the level below.
    pub(super) fn expected(&self, level: usize, index: u64, effort: Effort) -> Result<RootHash, Error> {
        if level == self.geometry.levels().len() {
            return Ok(self.root);
        }
        let digest = |block: &[u8]| RootHash::from_digest(self.digest_in(block, index));
        self.with_block(level, index / self.params.digests_per_block(), effort, digest)
    }

    /// What `look` makes of hash block `index` of `level`, which was checked up to the root hash.
    fn with_block<T>(
        &self,
        level: usize,
        index: u64,
        effort: Effort,
        look: impl Fn(&[u8]) -> T,
    ) -> Result<T, Error> {
        // A number that no other block of any level has.
        let number = self.geometry.levels()[level].first_block + index;
        if let Some(seen) = self.cache.get(number, &look) {
            return Ok(seen);
        }
        let bytes = self.load(level, index, effort)?;
        let seen = look(&bytes);
        self.cache.insert(number, bytes);
        Ok(seen)
    }

    /// Reads a hash block and checks it.
    fn load(&self, level: usize, index: u64, effort: Effort) -> Result<Box<[u8]>, Error> {
        let expected = self.expected(level + 1, index, effort)?;
        let mut bytes = vec![0; self.params.hash_block_size.bytes()].into_boxed_slice();
        let offset = self.geometry.hash_block_offset(level, index);
        let error = match self.hash.read_exact_at(&mut bytes, offset) {
            Ok(()) => {
                let found = self.hasher.hash_block(&bytes);
                if found == expected {
                    return Ok(bytes);
                }
                self.corrupted(Place::Hash { level }, index, expected, found)
            }
            Err(source) => {
                let length = bytes.len();
                tree::Error::Read { device: Device::Hash, offset, length, source }.into()
            }
        };
        match effort {
            Effort::AsItIs => Err(error),
            Effort::Restore => {
                self.restore(Place::Hash { level }, index, error, &mut bytes)?;
                Ok(bytes)
            }
        }
    }

    /// The digest of child `index` in its hash block.
    fn digest_in<'b>(&self, block: &'b [u8], index: u64) -> &'b [u8] {
        let slot = usize_of(index % self.params.digests_per_block());
        let start = slot * self.params.slot_size();
        &block[start..start + self.params.algorithm.digest_size()]
    }

    /// The error that a block with a wrong digest is.
    pub(super) fn corrupted(&self, place: Place, block: u64, expected: RootHash, found: RootHash) -> Error {
        let (start, size) = match place {
            Place::Data => {
                let size = self.params.data_block_size.as_u64();
                (block * size, size)
            }
            Place::Hash { level } => {
                (self.geometry.hash_block_offset(level, block), self.params.hash_block_size.as_u64())
            }
        };
        let bytes = start..start + size;
        Error::Corrupted { place, block, bytes, expected, found, repair: Repair::NoParity }
    }
}
