//! LZ4 blocks, as <https://github.com/lz4/lz4/blob/dev/doc/lz4_Block_format.md> describes them.
//!
//! EROFS takes of a block as many bytes as the content has, which may be fewer than it makes, where files share it. The crates that there are
//! (`lz4_flex` 0.11, `lz4` 1.28) decode whole blocks, and take that for an error.

/// A length of 15, or a match length of 19, goes on in the bytes behind.
const LONG: usize = 15;
/// No match is shorter.
const SHORTEST_MATCH: usize = 4;

/// Decodes `block` until `out` is full. `None` if it is no LZ4 block, or makes less.
pub(super) fn decode(block: &[u8], out: &mut [u8]) -> Option<()> {
    let mut block = Bytes(block);
    let mut done = 0;
    loop {
        let token = block.next()?;
        let literals = block.length(usize::from(token >> 4))?;
        let count = literals.min(out.len() - done);
        out[done..done + count].copy_from_slice(block.take(count)?);
        done += count;
        if done == out.len() {
            return Some(());
        }
        let distance = usize::from(u16::from_le_bytes([block.next()?, block.next()?]));
        let length = block.length(usize::from(token & 15))?.checked_add(SHORTEST_MATCH)?;
        let start = done.checked_sub(distance).filter(|_| distance > 0)?;
        let end = done + length.min(out.len() - done);
        // What is copied may be what was copied just before: each turn doubles that.
        while done < end {
            let count = (done - start).min(end - done);
            out.copy_within(start..start + count, done);
            done += count;
        }
        if done == out.len() {
            return Some(());
        }
    }
}

/// What is left of a block.
struct Bytes<'b>(&'b [u8]);

impl<'b> Bytes<'b> {
    fn next(&mut self) -> Option<u8> {
        let (&first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(first)
    }

    fn take(&mut self, count: usize) -> Option<&'b [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    /// A length that begins in a token.
    fn length(&mut self, start: usize) -> Option<usize> {
        let mut length = start;
        if start == LONG {
            loop {
                let more = self.next()?;
                length = length.checked_add(more.into())?;
                if more != u8::MAX {
                    break;
                }
            }
        }
        Some(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(block: &[u8], length: usize) -> Option<Vec<u8>> {
        let mut out = vec![0xaa; length];
        decode(block, &mut out).map(|()| out)
    }

    #[test]
    fn blocks_as_the_description_has_them() {
        // Literals, and nothing behind them.
        assert_eq!(decoded(b"\x50hello", 5).unwrap(), b"hello");
        // A match that overlaps itself, then the last literals.
        assert_eq!(decoded(b"\x32abc\x03\x00\x10d", 10).unwrap(), b"abcabcabcd");
        assert_eq!(decoded(b"\x1fx\x01\x00\x01\x00", 21).unwrap(), [b'x'; 21]);
        // Lengths that go on.
        let mut long = b"\xf0\xff\x02".to_vec();
        long.extend_from_slice(&[7; 272]);
        assert_eq!(decoded(&long, 272).unwrap(), [7; 272]);
        // Less than all of it: within literals, and within a match.
        for length in 0..10 {
            assert_eq!(decoded(b"\x32abc\x03\x00\x10d", length).unwrap(), b"abcabcabcd"[..length]);
        }
    }

    #[test]
    fn what_is_no_block_is_refused() {
        for (block, length) in [
            (&b""[..], 1),
            // Makes too little.
            (b"\x50hello", 6),
            (b"\x32abc\x03\x00", 10),
            // Ends early.
            (b"\x50hell", 5),
            (b"\xf0", 100),
            (b"\xf0\xff", 1000),
            (b"\x32abc\x03", 10),
            // Matches before the beginning, and none.
            (b"\x32abc\x04\x00\x10d", 10),
            (b"\x32abc\x00\x00\x10d", 10),
            (b"\x00\x01\x00\x10d", 5),
        ] {
            assert_eq!(decoded(block, length), None, "{block:?}");
        }
    }
}
