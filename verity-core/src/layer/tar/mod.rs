//! Reading tars that strangers wrote: plain ustar, GNU's, PAX and star's dialects, as container layers have them.
//!
//! Wherever readers differ in what an archive means, one of them could be shown another tree than the one that was checked. Such archives are
//! refused: `..` in a name, a file whose name ends in a slash, two extension headers that contradict each other, global PAX
//! records that would change entries, directories and links with content, types that layers do not have. Apart from that what GNU tar, Go's `archive/tar`
//! and hence the container runtimes read, this reads, and to the same effect.
//!
//! Nothing is allocated by a size that the archive states, but for extension headers (1 MiB) and maps of sparse files (2^20 pieces). Content
//! streams by.
//!
//! The library there is, `tar` 0.4, has no sparse files of the PAX formats, no bound on extension headers, and passes over most of what is refused here; a
//! layer is an attacker's until its digest has been checked, and this is read before. Hence this one.

mod error;
mod header;
mod path;
mod pax;
mod sparse;
mod write;

use std::io::{self, Read};
use std::ops::Range;

pub(crate) use error::Text;
pub use error::{Error, Fault, PathProblem};
pub use write::Writer;
pub(crate) use write::can_name;

use crate::erofs::write::Attributes;
use crate::io::usize_of;
use error::clip;
use header::{BLOCK, Flavour, Header};
use pax::Records;
use sparse::{Format, InFront, Map};

/// The most bytes that an extension header may have: 1 MiB.
pub const EXTENSION_MAX: u64 = 1 << 20;

/// Bytes that are passed over at once.
const SKIP_BYTES: usize = 64 * 1024;

/// An entry of an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its components between single slashes, without a slash at the beginning or the end; the root is empty.
    pub path: Vec<u8>,
    /// Mode, owner, time and extended attributes. Those of a hard link are its target's too, and say nothing.
    pub attributes: Attributes,
    /// What it is.
    pub kind: EntryKind,
}

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EntryKind {
    /// A directory.
    Directory,
    /// A regular file.
    File {
        /// Its size in bytes.
        size: u64,
        /// Which of its bytes the archive holds, in order; all others are zeros. [`Reader::content`] reads these, one behind the other.
        data: Vec<Range<u64>>,
    },
    /// A symbolic link, and where it leads.
    Symlink(Vec<u8>),
    /// A further name of an earlier entry, given in the form of [`Entry::path`].
    HardLink(Vec<u8>),
    /// A character device.
    CharDevice {
        /// At most 4095.
        major: u32,
        /// At most 1048575.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// At most 4095.
        major: u32,
        /// At most 1048575.
        minor: u32,
    },
    /// A named pipe.
    Fifo,
}

/// Reads an archive, entry by entry.
///
/// ```
/// use std::io::Read;
/// use verity_core::layer::tar::{EntryKind, Reader};
///
/// # let mut header = [0_u8; 512];
/// # header[..8].copy_from_slice(b"./hello\0");
/// # header[124..136].copy_from_slice(b"00000000005\0");
/// # header[148..156].fill(b' ');
/// # let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
/// # header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
/// # let mut archive = header.to_vec();
/// # archive.extend(b"world");
/// # archive.resize(4 * 512, 0);
/// let mut reader = Reader::new(&archive[..]);
/// while let Some(entry) = reader.next_entry()? {
///     assert_eq!(entry.path, b"hello");
///     assert!(matches!(entry.kind, EntryKind::File { size: 5, .. }));
///     let mut content = String::new();
///     reader.content().read_to_string(&mut content)?;
///     assert_eq!(content, "world");
/// }
/// assert!(reader.is_marked());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Reader<R> {
    source: R,
    /// How many bytes were read.
    position: u64,
    /// Bytes of the current entry's content that were not read yet, and of what fills up its last block.
    left: u64,
    padding: u64,
    /// Where the current entry begins, and its name as far as it is known.
    start: u64,
    name: Option<Vec<u8>>,
    /// What made reading content fail.
    failure: Option<Error>,
    ended: bool,
    marked: bool,
}

/// What the headers in front of an entry's own say.
#[derive(Debug, Default)]
struct Extensions {
    records: Option<Records>,
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
}

impl<R: Read> Reader<R> {
    /// A reader of an uncompressed archive. It reads what it needs and no more: put a buffer around a file.
    pub const fn new(source: R) -> Self {
        Self {
            source,
            position: 0,
            left: 0,
            padding: 0,
            start: 0,
            name: None,
            failure: None,
            ended: false,
            marked: false,
        }
    }

    /// The next entry; what was not read of the content of the one before is passed over. `None` is the end.
    ///
    /// # Errors
    /// Whatever is wrong with the archive. After that there are no more entries.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, Error> {
        if let Some(failure) = self.take_failure() {
            return Err(failure);
        }
        if self.ended {
            return Ok(None);
        }
        let entry = self.skip().and_then(|()| {
            self.start = self.position;
            self.name = None;
            self.read_entry()
        });
        entry.map_err(|fault| {
            self.ended = true;
            self.error(fault)
        })
    }

    /// The stored bytes of the entry that was returned last.
    pub const fn content(&mut self) -> Content<'_, R> {
        Content(self)
    }

    /// Where the stored bytes of the entry that was returned last begin, and how many they are: as long as none of them was read.
    pub(crate) const fn content_place(&self) -> (u64, u64) {
        (self.position, self.left)
    }

    /// Passes over the rest of the current entry without reading it, in a source that is at the reader's place.
    pub(crate) fn seek_over(&mut self) -> io::Result<()>
    where
        R: io::Seek,
    {
        let rest = self.left + self.padding;
        let place = self.position.checked_add(rest).and_then(|place| i64::try_from(place).ok());
        let rest = i64::try_from(rest).ok().filter(|_| place.is_some());
        self.source.seek_relative(rest.ok_or(io::ErrorKind::InvalidInput)?)?;
        self.position += self.left + self.padding;
        (self.left, self.padding) = (0, 0);
        Ok(())
    }

    /// Why reading content failed: the `std::io::Error` of [`Content`] says less.
    pub fn take_failure(&mut self) -> Option<Error> {
        let failure = self.failure.take();
        self.ended |= failure.is_some();
        failure
    }

    /// Whether the archive's end was seen, and not only that of its bytes.
    #[must_use]
    pub const fn is_marked(&self) -> bool {
        self.marked
    }

    /// Where the current entry's first header begins, in bytes.
    #[must_use]
    pub const fn entry_offset(&self) -> u64 {
        self.start
    }

    /// The source, which was read up to the end marker.
    pub const fn source(&mut self) -> &mut R {
        &mut self.source
    }

    /// What is wrong, and where.
    pub(crate) fn error(&self, fault: Fault) -> Error {
        Error { name: self.name.clone(), offset: self.start, fault }
    }

    fn read_entry(&mut self) -> Result<Option<Entry>, Fault> {
        let mut extensions = Extensions::default();
        let mut block = [0; BLOCK];
        loop {
            let more = self.read_block(&mut block)?;
            if !more || block == [0; BLOCK] {
                if extensions.any() {
                    return Err(Fault::NoEntry);
                }
                if more && self.read_block(&mut block)? && block != [0; BLOCK] {
                    return Err(Fault::LoneZeroBlock);
                }
                (self.ended, self.marked) = (true, more);
                return Ok(None);
            }
            let header = Header::new(&block)?;
            match header.kind() {
                b'x' => {
                    let records = Records::parse(&self.extension(&header)?)?;
                    set(&mut extensions.records, records, "PAX records")?;
                }
                // Go's reader, and hence the runtimes, forget then what was in front of it.
                b'g' if extensions.any() => return Err(Fault::GlobalBetween),
                b'g' => pax::check_global(&self.extension(&header)?)?,
                b'L' => {
                    let name = header::text(&self.extension(&header)?).to_vec();
                    set(&mut extensions.long_name, name, "name")?;
                }
                b'K' => {
                    let target = header::text(&self.extension(&header)?).to_vec();
                    set(&mut extensions.long_link, target, "link's target")?;
                }
                _ => return self.entry(&header, extensions).map(Some),
            }
        }
    }

    fn entry(&mut self, header: &Header<'_>, extensions: Extensions) -> Result<Entry, Fault> {
        let Extensions { records, long_name, long_link } = extensions;
        let mut records = records.unwrap_or_default();
        let sparse_name = records.sparse.as_mut().and_then(|sparse| sparse.name.take());
        let name = one_of(long_name, records.path.take(), "name")?;
        let name = sparse_name.or(name).unwrap_or_else(|| header.name());
        self.name = Some(name.get(..path::PATH_MAX).unwrap_or(&name).to_vec());
        let path = path::normalise(&name, "name")?;
        let link = one_of(long_link, records.link_path.take(), "link's target")?;
        let link = || link.unwrap_or_else(|| header.link_name());
        let size = match records.size {
            Some(size) => size,
            None => unsigned(header.number_in(&header::SIZE, &(0..=i64::MAX))?),
        };
        let attributes = attributes(header, &mut records)?;
        let slash = name.ends_with(b"/");
        let sparse = records.sparse;
        if sparse.is_some() && !matches!(header.kind(), b'0' | 0 | b'7') {
            return Err(Fault::Sparse("it is no regular file"));
        }
        let kind = match header.kind() {
            // Before there was a type for them, directories were told by their names.
            0 if slash => self.empty(size, "directory", EntryKind::Directory)?,
            b'0' | 0 | b'7' | b'S' if slash => return Err(Fault::FileOrDirectory),
            b'0' | 0 | b'7' => self.file(size, sparse)?,
            b'S' if header.flavour == Flavour::Gnu => self.gnu_sparse_file(header, size)?,
            b'5' => self.empty(size, "directory", EntryKind::Directory)?,
            b'2' => self.empty(size, "symbolic link", EntryKind::Symlink(path::symlink_target(link())?))?,
            // Some programs state the target's size here, and nobody stores content.
            b'1' => EntryKind::HardLink(not_root(
                path::normalise(&link(), "hard link's target")?,
                "hard link's target",
            )?),
            b'3' | b'4' => {
                let major = small(header.number_in(&header::MAJOR, &(0..=4095))?);
                let minor = small(header.number_in(&header::MINOR, &(0..=1_048_575))?);
                let kind = match header.kind() {
                    b'3' => EntryKind::CharDevice { major, minor },
                    _ => EntryKind::BlockDevice { major, minor },
                };
                self.empty(size, "device", kind)?
            }
            b'6' => self.empty(size, "named pipe", EntryKind::Fifo)?,
            other => return Err(Fault::Type(other)),
        };
        let path = if kind == EntryKind::Directory { path } else { not_root(path, "name")? };
        Ok(Entry { path, attributes, kind })
    }

    /// What has no content, and should not claim any.
    fn empty(&self, size: u64, what: &'static str, kind: EntryKind) -> Result<EntryKind, Fault> {
        if size == 0 { Ok(kind) } else { Err(Fault::ContentOf { what, size }) }
    }

    fn file(&mut self, size: u64, sparse: Option<pax::SparseRecords>) -> Result<EntryKind, Fault> {
        let Some(sparse) = sparse else { return Ok(self.stored(size, Map::whole(size))) };
        if sparse.format()? == Format::Records {
            return Ok(self.stored(size, sparse.map(size)?));
        }
        let mut in_front = InFront::default();
        let mut left = size;
        let mut block = [0; BLOCK];
        loop {
            left = left.checked_sub(BLOCK as u64).ok_or(Fault::Sparse("it is longer than the content"))?;
            if !self.read_block(&mut block)? {
                return Err(Fault::Truncated("a sparse file's map"));
            }
            if in_front.take(&block)? {
                return Ok(self.stored(left, in_front.map(sparse.real_size()?, left)?));
            }
        }
    }

    fn gnu_sparse_file(&mut self, header: &Header<'_>, size: u64) -> Result<EntryKind, Fault> {
        let real_size = unsigned(header.number_in(&header::REAL_SIZE, &(0..=i64::MAX))?);
        let mut numbers = Vec::new();
        let mut more = header.sparse_entries(&mut numbers)?;
        let mut block = [0; BLOCK];
        while more {
            if !self.read_block(&mut block)? {
                return Err(Fault::Truncated("a sparse file's map"));
            }
            sparse::add_entries(&block[..504], &mut numbers)?;
            more = block[504] != 0;
        }
        Ok(self.stored(size, Map::new(real_size, &numbers, size)?))
    }

    /// Content follows: `stored` bytes of it.
    fn stored(&mut self, stored: u64, map: Map) -> EntryKind {
        self.left = stored;
        self.padding = stored.next_multiple_of(BLOCK as u64) - stored;
        EntryKind::File { size: map.size, data: map.data }
    }

    /// The content of an extension header.
    fn extension(&mut self, header: &Header<'_>) -> Result<Vec<u8>, Fault> {
        let size = unsigned(header.number_in(&header::SIZE, &(0..=i64::MAX))?);
        if size > EXTENSION_MAX {
            return Err(Fault::ExtensionSize { size, limit: EXTENSION_MAX });
        }
        let mut bytes = vec![0; usize_of(size.next_multiple_of(BLOCK as u64))];
        self.read_exact(&mut bytes, "an extension header")?;
        bytes.truncate(usize_of(size));
        Ok(bytes)
    }

    /// Reads the next block; false at the end.
    fn read_block(&mut self, block: &mut [u8; BLOCK]) -> Result<bool, Fault> {
        match self.read_some(&mut block[..])? {
            0 => Ok(false),
            count => self.read_exact(&mut block[count..], "a header").map(|()| true),
        }
    }

    fn read_exact(&mut self, mut buffer: &mut [u8], within: &'static str) -> Result<(), Fault> {
        while !buffer.is_empty() {
            match self.read_some(buffer)? {
                0 => return Err(Fault::Truncated(within)),
                count => buffer = &mut buffer[count..],
            }
        }
        Ok(())
    }

    fn read_some(&mut self, buffer: &mut [u8]) -> Result<usize, Fault> {
        loop {
            match self.source.read(buffer) {
                Ok(count) => {
                    self.position += count as u64;
                    return Ok(count);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Fault::Read(error)),
            }
        }
    }

    /// Passes over the rest of the current entry.
    fn skip(&mut self) -> Result<(), Fault> {
        if self.left + self.padding == 0 {
            return Ok(());
        }
        let mut buffer = vec![0; SKIP_BYTES.min(usize_of(self.left + self.padding))];
        for (left, within) in
            [(self.left, "a file's content"), (self.padding, "the block that a file ends in")]
        {
            let mut left = left;
            while left > 0 {
                let length = buffer.len().min(usize_of(left));
                self.read_exact(&mut buffer[..length], within)?;
                left -= length as u64;
            }
        }
        (self.left, self.padding) = (0, 0);
        Ok(())
    }
}

/// The content of an entry. If reading it fails, [`Reader::take_failure`] tells why.
#[derive(Debug)]
pub struct Content<'r, R>(&'r mut Reader<R>);

impl<R: Read> Read for Content<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let reader = &mut *self.0;
        let room = buffer.len().min(usize_of(reader.left));
        if room == 0 {
            return Ok(0);
        }
        let fault = match reader.read_some(&mut buffer[..room]) {
            Ok(0) => Fault::Truncated("a file's content"),
            Ok(count) => {
                reader.left -= count as u64;
                return Ok(count);
            }
            Err(fault) => fault,
        };
        reader.failure = Some(reader.error(fault));
        Err(io::Error::other("the archive cannot be read on"))
    }
}

impl Extensions {
    const fn any(&self) -> bool {
        self.records.is_some() || self.long_name.is_some() || self.long_link.is_some()
    }
}

fn attributes(header: &Header<'_>, records: &mut Records) -> Result<Attributes, Fault> {
    let id = |own: Option<u32>, field| match own {
        Some(id) => Ok(id),
        None => header.number_in(field, &(0..=i64::from(u32::MAX))).map(small),
    };
    let (mtime, mtime_nsec) = match records.mtime {
        Some(mtime) => mtime,
        None => (header.number(&header::MTIME)?, 0),
    };
    // Some programs put the type there, too.
    let mode = header.number(&header::MODE)? & 0o7777;
    Ok(Attributes {
        mode: u16::try_from(mode).unwrap_or_default(),
        uid: id(records.uid, &header::UID)?,
        gid: id(records.gid, &header::GID)?,
        mtime,
        mtime_nsec,
        xattrs: std::mem::take(&mut records.xattrs),
    })
}

/// A number that was seen to be in range.
fn small(number: i64) -> u32 {
    u32::try_from(number).unwrap_or_default()
}

/// A number that was seen not to be negative.
const fn unsigned(number: i64) -> u64 {
    number.unsigned_abs()
}

fn set<T>(place: &mut Option<T>, value: T, what: &'static str) -> Result<(), Fault> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(Fault::Conflict(what)),
    }
}

/// What either of two ways says, unless they differ.
fn one_of(gnu: Option<Vec<u8>>, pax: Option<Vec<u8>>, what: &'static str) -> Result<Option<Vec<u8>>, Fault> {
    match (gnu, pax) {
        (Some(gnu), Some(pax)) if gnu != pax => Err(Fault::Conflict(what)),
        (gnu, pax) => Ok(gnu.or(pax)),
    }
}

fn not_root(path: Vec<u8>, which: &'static str) -> Result<Vec<u8>, Fault> {
    if path.is_empty() {
        return Err(Fault::Path { which, path: clip(&path).to_vec(), problem: PathProblem::Root });
    }
    Ok(path)
}
