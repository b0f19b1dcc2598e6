//! Writing tars: ustar headers, and PAX records for what these have no room for.
//!
//! The same entries make the same bytes: there are no times or process numbers of the writer in them.

use std::io::{self, Read, Write};
use std::ops::Range;

use super::EntryKind;
use super::header::{BLOCK, GID, MAJOR, MINOR, MODE, MTIME, SIZE, UID};
use crate::erofs::write::Attributes;
use crate::io::usize_of;

/// The room for a name in a header, in bytes.
const NAME: usize = 100;

/// Writes an archive.
#[derive(Debug)]
pub struct Writer<W> {
    out: W,
    buffer: Vec<u8>,
}

/// Bytes of content that are copied at once.
const BUFFER_BYTES: usize = 256 * 1024;

impl<W: Write> Writer<W> {
    /// A writer of an archive to `out`. Each header is written by itself: put a buffer around a file.
    pub fn new(out: W) -> Self {
        Self { out, buffer: vec![0; BUFFER_BYTES] }
    }

    /// Adds an entry. `content` is read for files alone: as many bytes as the kind says are data.
    ///
    /// # Errors
    /// What `out` or `content` says; `UnexpectedEof` if that ends early; `InvalidInput` if the name of an extended attribute has a `=`, where
    /// PAX records have their value.
    pub fn add(
        &mut self,
        path: &[u8],
        attributes: &Attributes,
        kind: &EntryKind,
        content: &mut dyn Read,
    ) -> io::Result<()> {
        if !attributes.xattrs.keys().all(|name| can_name(name)) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "an extended attribute with '=' in its name",
            ));
        }
        let (letter, link, size, data): (_, &[u8], _, &[Range<u64>]) = match kind {
            EntryKind::Directory => (b'5', b"", 0, &[]),
            EntryKind::File { size, data } => (b'0', b"", *size, data),
            EntryKind::Symlink(target) => (b'2', target, 0, &[]),
            EntryKind::HardLink(target) => (b'1', target, 0, &[]),
            EntryKind::CharDevice { .. } => (b'3', b"", 0, &[]),
            EntryKind::BlockDevice { .. } => (b'4', b"", 0, &[]),
            EntryKind::Fifo => (b'6', b"", 0, &[]),
        };
        let mut records = Vec::new();
        let stored: u64 = data.iter().map(|piece| piece.end - piece.start).sum();
        let map = if stored < size { map(data, size) } else { Vec::new() };
        let mut name = match path {
            b"" => b"./".to_vec(),
            path if letter == b'5' => [path, b"/"].concat(),
            path => path.to_vec(),
        };
        let length = stored + map.len() as u64;
        if !map.is_empty() {
            record(&mut records, b"GNU.sparse.major", b"1");
            record(&mut records, b"GNU.sparse.minor", b"0");
            record(&mut records, b"GNU.sparse.name", &name);
            record(&mut records, b"GNU.sparse.realsize", size.to_string().as_bytes());
        }
        if name.len() > NAME {
            if map.is_empty() {
                record(&mut records, b"path", &name);
            }
            name.truncate(NAME);
        }
        if link.len() > NAME {
            record(&mut records, b"linkpath", link);
        }
        let Attributes { mode, uid, gid, mtime, mtime_nsec, xattrs } = attributes;
        let mut header = [0; BLOCK];
        header[..name.len()].copy_from_slice(&name);
        put(&mut header, MODE.range(), (*mode).into());
        for (key, field, value) in
            [(&b"uid"[..], UID, u64::from(*uid)), (b"gid", GID, u64::from(*gid)), (b"size", SIZE, length)]
        {
            if !put(&mut header, field.range(), value) {
                record(&mut records, key, value.to_string().as_bytes());
            }
        }
        let seconds = u64::try_from(*mtime).ok().filter(|_| *mtime_nsec == 0);
        if !seconds.is_some_and(|seconds| put(&mut header, MTIME.range(), seconds)) {
            put(&mut header, MTIME.range(), 0);
            record(&mut records, b"mtime", time(*mtime, *mtime_nsec).as_bytes());
        }
        for (name, value) in xattrs {
            record(&mut records, &[b"SCHILY.xattr.", &name[..]].concat(), value);
        }
        let link = &link[..link.len().min(NAME)];
        header[157..157 + link.len()].copy_from_slice(link);
        if let EntryKind::CharDevice { major, minor } | EntryKind::BlockDevice { major, minor } = kind {
            put(&mut header, MAJOR.range(), (*major).into());
            put(&mut header, MINOR.range(), (*minor).into());
        }
        if !records.is_empty() {
            let mut extension = [0; BLOCK];
            extension[..9].copy_from_slice(b"PaxHeader");
            put(&mut extension, MODE.range(), 0o644);
            put(&mut extension, SIZE.range(), records.len() as u64);
            self.header(extension, b'x')?;
            self.padded(&records)?;
        }
        self.header(header, letter)?;
        self.out.write_all(&map)?;
        let mut left = stored;
        while left > 0 {
            let room = BUFFER_BYTES.min(usize_of(left));
            content.read_exact(&mut self.buffer[..room])?;
            self.out.write_all(&self.buffer[..room])?;
            left -= room as u64;
        }
        self.fill(stored)
    }

    /// Writes the end marker.
    ///
    /// # Errors
    /// What `out` says.
    pub fn finish(mut self) -> io::Result<W> {
        self.out.write_all(&[0; 2 * BLOCK])?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn header(&mut self, mut header: [u8; BLOCK], letter: u8) -> io::Result<()> {
        header[156] = letter;
        header[257..265].copy_from_slice(b"ustar\x0000");
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.out.write_all(&header)
    }

    fn padded(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        self.fill(bytes.len() as u64)
    }

    fn fill(&mut self, length: u64) -> io::Result<()> {
        let padding = length.next_multiple_of(BLOCK as u64) - length;
        self.out.write_all(&[0; BLOCK][..usize_of(padding)])
    }
}

/// Whether a tar can have an extended attribute of that name.
pub(crate) fn can_name(xattr: &[u8]) -> bool {
    !xattr.contains(&b'=')
}

/// Puts a number in octal digits and a NUL, if there is room for it.
fn put(header: &mut [u8; BLOCK], at: Range<usize>, value: u64) -> bool {
    let width = at.len() - 1;
    let digits = format!("{value:0width$o}");
    let fits = digits.len() == width;
    if fits {
        header[at.start..at.end - 1].copy_from_slice(digits.as_bytes());
    }
    fits
}

/// Adds a record, whose length counts its own digits.
fn record(records: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    records.extend_from_slice(length.to_string().as_bytes());
    records.extend([b" ", key, b"=", value, b"\n"].concat());
}

/// The map in front of a sparse file's data, filled up to whole blocks. GNU tar takes the size from the last piece, which may be empty.
fn map(data: &[Range<u64>], size: u64) -> Vec<u8> {
    let end = Some(size..size).filter(|_| data.last().is_none_or(|piece| piece.end < size));
    let mut text = format!("{}\n", data.len() + end.iter().len());
    for piece in data.iter().chain(&end) {
        text += &format!("{}\n{}\n", piece.start, piece.end - piece.start);
    }
    let mut bytes = text.into_bytes();
    bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
    bytes
}

/// A time as PAX has it.
fn time(seconds: i64, nanoseconds: u32) -> String {
    if seconds < 0 && nanoseconds > 0 {
        // One second later, less the rest.
        let (seconds, rest) = ((seconds + 1).unsigned_abs(), 1_000_000_000_u32.saturating_sub(nanoseconds));
        return format!("-{seconds}.{rest:09}");
    }
    if nanoseconds > 0 { format!("{seconds}.{nanoseconds:09}") } else { seconds.to_string() }
}
