//! Data without what is damaged in it.

use std::io;

use super::map::{Area, Map, Strip};
use crate::io::ReadAt;

/// Reads data, but no byte of a block that is not good.
///
/// It relies on what the verification saw: a device that returns other bytes at every read is not found out here.
pub struct Intact<'a> {
    data: &'a dyn ReadAt,
    strip: &'a Strip,
}

impl<'a> Intact<'a> {
    /// The good blocks of `data`.
    #[must_use]
    pub const fn new(data: &'a dyn ReadAt, map: &'a Map) -> Self {
        Self { data, strip: map.strip(Area::Data) }
    }
}

impl ReadAt for Intact<'_> {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let end = offset.saturating_add(buffer.len() as u64);
        match self.strip.bad_in(offset..end).next() {
            None => self.data.read_at(buffer, offset),
            Some(span) => Err(io::Error::new(io::ErrorKind::InvalidData, span.state.name())),
        }
    }
}
