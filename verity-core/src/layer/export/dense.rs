//! A file's content with its holes.

use std::io::{self, Read};
use std::ops::Range;

use crate::erofs::Content;
use crate::io::usize_of;

/// Reads all of a file, holes as zeros.
pub(in crate::layer) struct Dense<'i> {
    content: Content<'i>,
    /// What is left of the data.
    data: std::vec::IntoIter<Range<u64>>,
    /// The data that come next, or are read.
    piece: Option<Range<u64>>,
    position: u64,
}

impl<'i> Dense<'i> {
    pub(in crate::layer) fn new(content: Content<'i>) -> Self {
        let mut data = content.data().into_iter();
        let piece = data.next();
        Self { content, data, piece, position: 0 }
    }
}

impl Read for Dense<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let hole_end = self.piece.as_ref().map_or(self.content.size(), |piece| piece.start);
        if self.position < hole_end {
            let count = buffer.len().min(usize_of(hole_end - self.position));
            buffer[..count].fill(0);
            self.position += count as u64;
            return Ok(count);
        }
        let Some(piece) = &self.piece else { return Ok(0) };
        let room = buffer.len().min(usize_of(piece.end - self.position));
        let count = self.content.read(&mut buffer[..room])?;
        self.position += count as u64;
        if self.position == piece.end {
            self.piece = self.data.next();
        }
        Ok(count)
    }
}
