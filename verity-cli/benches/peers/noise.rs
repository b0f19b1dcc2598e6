//! Data that no shortcut for zeros or repetitions applies to, made faster than it is hashed.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use crate::units::MIB;

/// A stream of numbers (xorshift64).
pub(crate) struct Noise(u64);

impl Noise {
    /// Different seeds make different streams.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(2) | 1)
    }

    pub(crate) fn fill(&mut self, buffer: &mut [u8]) {
        for bytes in buffer.chunks_mut(8) {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            bytes.copy_from_slice(&self.0.to_le_bytes()[..bytes.len()]);
        }
    }

    /// So many bytes, which are kept in memory.
    pub(crate) fn bytes(mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.fill(&mut bytes);
        bytes
    }
}

/// Makes a file of whole mebibytes and returns it, on its disk if it has one.
pub(crate) fn write_file(path: &Path, mebibytes: u64) -> io::Result<File> {
    let mut file = File::create_new(path)?;
    let mut noise = Noise::new(1);
    let mut chunk = vec![0; usize::try_from(MIB).unwrap_or(usize::MAX)];
    for _ in 0..mebibytes {
        noise.fill(&mut chunk);
        file.write_all(&chunk)?;
    }
    file.sync_all()?;
    Ok(file)
}
