//! Memory for vector instructions.

/// The largest vectors' bytes, and a line of the cache's: a load that straddles two lines takes as long as two.
const ALIGNMENT: usize = 64;

/// Bytes, the first of which lies where a line of the cache begins.
#[derive(Default)]
pub(crate) struct Aligned(Vec<u8>);

impl Aligned {
    /// The first `length` bytes, of which those that were not there before are zeros. The bytes are lost, and others appear, where more are asked for
    /// than ever before.
    pub(crate) fn bytes(&mut self, length: usize) -> &mut [u8] {
        if self.0.len() < length + ALIGNMENT {
            self.0.resize(length + ALIGNMENT, 0);
        }
        // Where that cannot be had, it is only slower.
        let start = self.0.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
        &mut self.0[start..start + length]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_begin_on_a_line_and_stay() {
        let mut buffer = Aligned::default();
        buffer.bytes(1000).fill(7);
        for length in [0, 1, 999, 1000] {
            let bytes = buffer.bytes(length);
            assert_eq!((bytes.as_ptr().addr() % ALIGNMENT, bytes.len()), (0, length));
            assert!(bytes.iter().all(|&byte| byte == 7));
        }
        assert_eq!(buffer.bytes(100_000).as_ptr().addr() % ALIGNMENT, 0);
    }
}
