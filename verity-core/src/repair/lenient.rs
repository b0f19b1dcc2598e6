//! Reading what can be read: a block that cannot is damaged, like one that is wrong.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::block::BlockSize;
use crate::io::ReadAt;

/// Stands for what cannot be read. Not zeros, which are what many a block should be.
const FILLER: u8 = 0xa5;

/// A device of which every block can be read.
pub(super) struct Lenient<'a> {
    device: &'a dyn ReadAt,
    block_size: BlockSize,
    failed: AtomicBool,
}

impl<'a> Lenient<'a> {
    pub(super) fn new(device: &'a dyn ReadAt, block_size: BlockSize) -> Self {
        Self { device, block_size, failed: AtomicBool::new(false) }
    }

    /// Whether there was a block that could not be read.
    pub(super) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }
}

impl ReadAt for Lenient<'_> {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        if self.device.read_exact_at(buffer, offset).is_err() {
            self.failed.store(true, Ordering::Relaxed);
            let mut at = offset;
            // All reads here begin where a block begins.
            for block in buffer.chunks_mut(self.block_size.bytes()) {
                if self.device.read_exact_at(block, at).is_err() {
                    block.fill(FILLER);
                }
                at += block.len() as u64;
            }
        }
        Ok(buffer.len())
    }

    fn zeros_until(&self, offset: u64) -> io::Result<u64> {
        self.device.zeros_until(offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_that_is_missing_hides_no_other() {
        let device = vec![1; 1100];
        let lenient = Lenient::new(&device, BlockSize::MIN);
        let mut blocks = [0; 1024];
        lenient.read_exact_at(&mut blocks, 0).unwrap();
        assert!(!lenient.has_failed());
        lenient.read_exact_at(&mut blocks, 512).unwrap();
        assert!(lenient.has_failed());
        assert!(blocks[..512] == [1; 512] && blocks[512..] == [FILLER; 512]);
    }
}
