//! Blocks restored while they are read.

use std::sync::atomic::Ordering;

use super::{Effort, Error, VerityReader};
use crate::fec::{Decoder, Layout};
use crate::geometry::Geometry;
use crate::io::ReadAt;
use crate::params::Params;
use crate::tree::Place;

/// Where damaged blocks are restored from.
pub(super) struct Parity<'a> {
    pub(super) source: Box<dyn ReadAt + 'a>,
    pub(super) layout: Layout,
}

impl Parity<'_> {
    /// Whether the parity covers the data and the whole tree where they are.
    pub(super) fn fits(&self, params: &Params, geometry: &Geometry) -> bool {
        let size = self.layout.block_size();
        size == params.data_block_size
            && size == params.hash_block_size
            && self.layout.data_bytes() == geometry.data_bytes()
            && self.layout.hash_start() == geometry.hash_start_block() * size.as_u64()
            && self.layout.hash_bytes() >= geometry.hash_blocks() * size.as_u64()
    }
}

impl VerityReader<'_> {
    /// Puts a block into `out` that could not be read, or is not what is vouched for, as the parity has it. `error` is what to say if there
    /// is none, or it does not help.
    ///
    /// What the parity says counts for nothing by itself: whoever forged the data forged that, too.
    pub(super) fn restore(
        &self,
        place: Place,
        index: u64,
        error: Error,
        out: &mut [u8],
    ) -> Result<(), Error> {
        let Some(parity) = &self.parity else { return Err(error) };
        let (above, message_block) = match place {
            Place::Data => (0, index),
            Place::Hash { level } => {
                let number = self.geometry.levels()[level].first_block + index;
                let in_tree = number - self.geometry.hash_start_block();
                (level + 1, self.geometry.data_blocks() + in_tree)
            }
        };
        let expected = self.expected(above, index, Effort::Restore)?;
        let vouched_for = |candidate: &[u8]| self.hasher.hash_block(candidate) == expected;
        let decoder = Decoder::new(&*self.data, &*self.hash, &*parity.source, &parity.layout);
        decoder.restore(message_block, &|other| self.is_bad(other), &vouched_for, out)?;
        // Asked once more, of the bytes that are returned.
        if !vouched_for(out) {
            return Err(error.beyond_repair());
        }
        self.repairs.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Whether a block of the message is known not to be what is vouched for. Where nothing vouches for it, that is not known.
    fn is_bad(&self, message_block: u64) -> bool {
        let data_blocks = self.geometry.data_blocks();
        let (above, index, source, offset, size) = if message_block < data_blocks {
            let size = self.params.data_block_size;
            (0, message_block, &self.data, message_block * size.as_u64(), size)
        } else {
            let number = self.geometry.hash_start_block() + (message_block - data_blocks);
            let levels = self.geometry.levels().iter();
            let found = (1..).zip(levels).find_map(|(above, level)| {
                let index = number.checked_sub(level.first_block)?;
                (index < level.blocks).then_some((above, index))
            });
            // Behind the tree lies what nothing vouches for.
            let Some((above, index)) = found else { return false };
            let size = self.params.hash_block_size;
            (above, index, &self.hash, number * size.as_u64(), size)
        };
        let Ok(expected) = self.expected(above, index, Effort::AsItIs) else { return false };
        let mut block = vec![0; size.bytes()];
        source.read_exact_at(&mut block, offset).is_err() || self.hasher.hash_block(&block) != expected
    }
}
