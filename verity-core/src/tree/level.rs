//! One step of a tree: children (data blocks, or the hash blocks of a level) and the level that holds their digests.

use super::known::LevelHasher;
use super::{Device, Error, Threads};
use crate::block::BlockSize;
use crate::geometry::Geometry;
use crate::io::{ReadAt, usize_of};
use crate::params::Params;

/// Bytes read at once: large enough that a system call costs nothing, small enough to stay in a core's cache.
const READ_BYTES: usize = 256 * 1024;

/// Bytes of children in a job, unless there is too little work to share it out in pieces of that size.
const JOB_BYTES: u64 = 1024 * 1024;

/// The children of one level.
#[derive(Clone, Copy)]
pub(super) struct Children<'a> {
    pub(super) source: &'a dyn ReadAt,
    pub(super) device: Device,
    /// Byte offset of the first child on its device.
    pub(super) offset: u64,
    pub(super) block_size: BlockSize,
    pub(super) count: u64,
}

impl<'a> Children<'a> {
    /// What the digests in `level` are of.
    pub(super) fn of_level(
        level: usize,
        params: &Params,
        geometry: &Geometry,
        data: &'a dyn ReadAt,
        hash: &'a dyn ReadAt,
    ) -> Self {
        match level.checked_sub(1) {
            None => Self {
                source: data,
                device: Device::Data,
                offset: 0,
                block_size: params.data_block_size,
                count: geometry.data_blocks(),
            },
            Some(below) => Self {
                source: hash,
                device: Device::Hash,
                offset: geometry.hash_block_offset(below, 0),
                block_size: params.hash_block_size,
                count: geometry.levels()[below].blocks,
            },
        }
    }

    /// The byte offset of child `index` on its device.
    pub(super) fn position(&self, index: u64) -> u64 {
        self.offset + index * self.block_size.as_u64()
    }

    /// How many children make a job: few enough that every thread gets several, unless they are done before another thread has started.
    pub(super) fn per_job(&self, threads: Threads) -> u64 {
        let most = (JOB_BYTES / self.block_size.as_u64()).max(1);
        let shares = u64::try_from(threads.get()).unwrap_or(u64::MAX).saturating_mul(4);
        (self.count / shares).clamp(self.per_read() as u64, most)
    }

    /// How many children are read at once.
    pub(super) fn per_read(&self) -> usize {
        (READ_BYTES / self.block_size.bytes()).max(1)
    }

    /// The first child from `first` on that may hold something else than zeros.
    pub(super) fn zeros_until(&self, first: u64) -> u64 {
        let offset = self.position(first);
        // A source that cannot say is read.
        let end = self.source.zeros_until(offset).unwrap_or(offset);
        let zeros = end.saturating_sub(offset) / self.block_size.as_u64();
        first.saturating_add(zeros).min(self.count)
    }

    /// Fails if the source has become shorter than the children: one that ends in a hole is otherwise never read there.
    pub(super) fn check_end(&self) -> Result<(), Error> {
        let end = self.position(self.count);
        end.checked_sub(1).map_or(Ok(()), |last| read(self.source, self.device, &mut [0], last))
    }

    /// Reads children `first..` until `buffer` (a whole number of them) is full.
    pub(super) fn read(&self, buffer: &mut [u8], first: u64) -> Result<(), Error> {
        let offset = self.position(first);
        read(self.source, self.device, buffer, offset)
    }
}

/// Reads exactly, or says what could not be read.
pub(super) fn read(source: &dyn ReadAt, device: Device, buffer: &mut [u8], offset: u64) -> Result<(), Error> {
    source.read_exact_at(buffer, offset).map_err(|source| Error::Read {
        device,
        offset,
        length: buffer.len(),
        source,
    })
}

/// How digests lie in the blocks of a level.
#[derive(Clone, Copy)]
pub(super) struct Slots {
    per_block: u64,
    slot_size: u64,
    hash_block_size: u64,
    /// Whether slots fill blocks without a gap, so that those of several blocks can be written in one go.
    seamless: bool,
}

impl Slots {
    pub(super) fn of(params: &Params) -> Self {
        let per_block = params.digests_per_block();
        let slot_size = params.slot_size() as u64;
        let hash_block_size = params.hash_block_size.as_u64();
        Self { per_block, slot_size, hash_block_size, seamless: slot_size * per_block == hash_block_size }
    }

    /// The byte offset, within its level, of the digest of `child`.
    pub(super) fn position(self, child: u64) -> u64 {
        child / self.per_block * self.hash_block_size + child % self.per_block * self.slot_size
    }

    /// The bytes of a level that children `first..end` decide: their slots and what is zero behind them. The regions of
    /// adjacent jobs adjoin, and that of a level's `last` child reaches to the end of its block.
    pub(super) fn region(self, children: &std::ops::Range<u64>, count: u64) -> std::ops::Range<u64> {
        let start = self.position(children.start);
        let end = if children.end == count {
            count.div_ceil(self.per_block) * self.hash_block_size
        } else {
            self.position(children.end)
        };
        start..end
    }

    /// Hashes whole blocks, children `first..`, into `region`, whose first byte is that of the level's `region_start`.
    pub(super) fn fill(
        self,
        hasher: &LevelHasher<'_>,
        blocks: &[u8],
        first: u64,
        region: &mut [u8],
        region_start: u64,
    ) {
        let block_size = hasher.block_size().bytes();
        let mut rest = blocks;
        self.each_run(first, blocks.len() / block_size, region_start, |at, count| {
            let (now, later) = std::mem::take(&mut rest).split_at(count * block_size);
            hasher.hash(now, &mut region[at..], usize_of(self.slot_size));
            rest = later;
        });
    }

    /// As [`fill`](Self::fill), for `count` children that are the level's known block.
    pub(super) fn fill_known(
        self,
        hasher: &LevelHasher<'_>,
        count: usize,
        first: u64,
        region: &mut [u8],
        region_start: u64,
    ) {
        self.each_run(first, count, region_start, |at, count| {
            hasher.put_known(count, &mut region[at..], usize_of(self.slot_size));
        });
    }

    /// Splits children into runs whose slots lie at equal distances: everything, unless blocks end in a gap.
    fn each_run(self, first: u64, count: usize, region_start: u64, mut visit: impl FnMut(usize, usize)) {
        let end = first + count as u64;
        let mut child = first;
        while child < end {
            let run = if self.seamless {
                end - child
            } else {
                (end - child).min(self.per_block - child % self.per_block)
            };
            visit(usize_of(self.position(child) - region_start), usize_of(run));
            child += run;
        }
    }
}
