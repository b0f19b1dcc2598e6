//! The way back: from an EROFS image to a tar, or to one file's content.

use std::collections::{HashMap, HashSet};
use std::io::{self, Read, Write};

use super::tar::{self, EntryKind, Text};
use super::whiteout::{Marker, Whiteouts, marker};
use crate::erofs::write::Attributes;
use crate::erofs::{self, Budget, Content, FileKind, Image, Inode, Names};
use crate::progress::{Observer, Phase};

/// The longest path that a system call takes, in bytes.
const PATH_MAX: usize = 4095;
/// The longest name of a file, in bytes.
const NAME_MAX: usize = 255;
/// What remembering an inode costs, for which the memory counts.
const INODE_COST: u64 = 32;

/// Why an image cannot be unpacked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// The image cannot be read, or is not a sound one.
    #[error("{:?}: {source}", Text(path))]
    Image {
        /// What was read.
        path: Vec<u8>,
        /// What is wrong.
        #[source]
        source: erofs::Error,
    },
    /// The content of a file cannot be read.
    #[error("{:?}: its content cannot be read: {source}", Text(path))]
    Content {
        /// The file.
        path: Vec<u8>,
        /// What the image answers.
        source: io::Error,
    },
    /// An entry that a tar has no type for, or that cannot be.
    #[error("{:?} {problem}", Text(path))]
    Entry {
        /// Its path.
        path: Vec<u8>,
        /// What is wrong.
        problem: &'static str,
    },
    /// What was unpacked cannot be written.
    #[error("writing failed: {0}")]
    Write(#[source] io::Error),
    /// The observer asked to stop.
    #[error("cancelled")]
    Cancelled,
}

/// What was unpacked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Exported {
    /// How many entries the tar has.
    pub entries: u64,
    /// How many bytes of content were written, without holes.
    pub bytes: u64,
}

/// Writes all that is in an image as a tar: directories before what is in them, names in order, whiteouts as OCI has them, sparse files as such.
///
/// The tar is another one than the image was made of, though it says the same: the same tree makes the same tar.
///
/// # Errors
/// [`ExportError`]. What was written till then is of no use.
pub fn export(image: &Image<'_>, out: impl Write, observer: &dyn Observer) -> Result<Exported, ExportError> {
    observer.begin(Phase::Extract, None);
    let mut export = Export {
        image,
        budget: Budget::default(),
        out: tar::Writer::new(out),
        observer,
        names: HashMap::new(),
        directories: HashSet::new(),
        exported: Exported::default(),
    };
    // Directories that are listed, each with the names that are left.
    let mut open = Vec::new();
    if let Some(names) = export.add(b"", image.superblock().root_nid.into())? {
        open.push((Vec::new(), names.into_iter()));
    }
    while let Some((folder, names)) = open.last_mut() {
        if observer.cancelled() {
            return Err(ExportError::Cancelled);
        }
        let Some((name, nid)) = names.next() else {
            open.pop();
            continue;
        };
        let path: Vec<u8> =
            if folder.is_empty() { name.to_vec() } else { [&folder[..], b"/", &name].concat() };
        if let Some(names) = export.add(&path, nid)? {
            open.push((path, names.into_iter()));
        }
    }
    export.out.finish().map_err(ExportError::Write)?;
    Ok(export.exported)
}

/// Writes the content of one regular file, with its holes as zeros.
///
/// # Errors
/// [`ExportError`]: there is no such file, or it is something else.
pub fn export_file(
    image: &Image<'_>,
    path: &[u8],
    mut out: impl Write,
    observer: &dyn Observer,
) -> Result<Exported, ExportError> {
    let budget = Budget::default();
    let failed = |source| ExportError::Image { path: path.to_vec(), source };
    let entry = |problem| ExportError::Entry { path: path.to_vec(), problem };
    let mut inode = image.inode(image.superblock().root_nid.into()).map_err(failed)?;
    for name in path.split(|&byte| byte == b'/').filter(|name| !matches!(*name, b"" | b".")) {
        if inode.kind != FileKind::Directory {
            return Err(entry("is not there: its path goes through something that is no directory"));
        }
        let names = image.list(&inode, &budget).map_err(failed)?;
        let found = names.into_iter().find(|(found, _)| **found == *name);
        let (_, nid) = found.ok_or_else(|| entry("is not there"))?;
        inode = image.inode(nid).map_err(failed)?;
    }
    if inode.kind != FileKind::File {
        return Err(entry("is no regular file"));
    }
    let mut content = image.content(&inode, &budget).map_err(failed)?;
    let mut position = 0;
    for piece in content.data() {
        write_zeros(&mut out, piece.start - position, observer)?;
        copy(&mut content, &mut out, piece.end - piece.start, observer, path)?;
        position = piece.end;
    }
    write_zeros(&mut out, content.size() - position, observer)?;
    out.flush().map_err(ExportError::Write)?;
    Ok(Exported { entries: 1, bytes: content.size() })
}

const BUFFER_BYTES: usize = 256 * 1024;

fn write_zeros(out: &mut impl Write, length: u64, observer: &dyn Observer) -> Result<(), ExportError> {
    copy(&mut io::repeat(0), out, length, observer, b"")
}

fn copy(
    from: &mut impl Read,
    out: &mut impl Write,
    length: u64,
    observer: &dyn Observer,
    path: &[u8],
) -> Result<(), ExportError> {
    let mut buffer = vec![0; BUFFER_BYTES.min(crate::io::usize_of(length))];
    let mut left = length;
    while left > 0 {
        if observer.cancelled() {
            return Err(ExportError::Cancelled);
        }
        let room = buffer.len().min(crate::io::usize_of(left));
        let piece = &mut buffer[..room];
        from.read_exact(piece).map_err(|source| ExportError::Content { path: path.to_vec(), source })?;
        out.write_all(piece).map_err(ExportError::Write)?;
        left -= room as u64;
    }
    Ok(())
}

struct Export<'e, W> {
    image: &'e Image<'e>,
    budget: Budget,
    out: tar::Writer<W>,
    observer: &'e dyn Observer,
    /// The first names of inodes that have several.
    names: HashMap<u64, Vec<u8>>,
    directories: HashSet<u64>,
    exported: Exported,
}

impl<W: Write> Export<'_, W> {
    /// Adds an inode by one of its names. Returns what is in it, if it is a directory.
    fn add(&mut self, path: &[u8], nid: u64) -> Result<Option<Names>, ExportError> {
        if path.len() > PATH_MAX {
            // Not longer and longer, where directories never end.
            return Err(entry(&path[..PATH_MAX], "has a path of more than 4095 bytes"));
        }
        if Whiteouts::is_marker(path) {
            return Err(entry(path, "has a name that hides something in a layer's tar (.wh.*)"));
        }
        let failed = |source| ExportError::Image { path: path.to_vec(), source };
        self.budget.spend(INODE_COST).map_err(failed)?;
        let inode = self.image.inode(nid).map_err(failed)?;
        let mut attributes = self.image.attributes(&inode, &self.budget).map_err(failed)?;
        if inode.kind == FileKind::Directory {
            if !self.directories.insert(nid) {
                return Err(entry(path, "is a directory that has another name, too"));
            }
            let names = self.image.list(&inode, &self.budget).map_err(failed)?;
            match marker(path, &inode, &mut attributes) {
                Some(Marker::Opaque(opaque)) => {
                    self.write(path, &attributes, &EntryKind::Directory, None)?;
                    self.write(&opaque, &attributes, &EMPTY, None)?;
                }
                _ => self.write(path, &attributes, &EntryKind::Directory, None)?,
            }
            return Ok(Some(names));
        }
        // Whiteouts may share an inode, but a link to a marker is none.
        if let Some(Marker::Whiteout(marker)) = marker(path, &inode, &mut attributes) {
            if marker.rsplit(|&byte| byte == b'/').next().is_some_and(|name| name.len() > NAME_MAX) {
                return Err(entry(
                    path,
                    "is a whiteout whose marker (.wh.*) would have a name of more than 255 bytes",
                ));
            }
            self.write(&marker, &attributes, &EMPTY, None)?;
            return Ok(None);
        }
        if inode.links > 1 {
            if let Some(first) = self.names.get(&nid).cloned() {
                self.write(path, &attributes, &EntryKind::HardLink(first), None)?;
                return Ok(None);
            }
            self.names.insert(nid, path.to_vec());
        }
        self.add_file(path, &inode, &attributes).map(|()| None)
    }

    fn add_file(&mut self, path: &[u8], inode: &Inode, attributes: &Attributes) -> Result<(), ExportError> {
        let failed = |source| ExportError::Image { path: path.to_vec(), source };
        let image = self.image;
        let (major, minor) = inode.device();
        let kind = match inode.mode >> 12 {
            0o02 => EntryKind::CharDevice { major, minor },
            0o06 => EntryKind::BlockDevice { major, minor },
            0o01 => EntryKind::Fifo,
            0o10 => {
                let content = image.content(inode, &self.budget).map_err(failed)?;
                let kind = EntryKind::File { size: content.size(), data: content.data() };
                return self.write(path, attributes, &kind, Some(content));
            }
            0o12 if inode.size > PATH_MAX as u64 => {
                return Err(entry(path, "is a symbolic link to a path of more than 4095 bytes"));
            }
            0o12 => {
                let mut target = Vec::new();
                let mut content = image.content(inode, &self.budget).map_err(failed)?;
                content
                    .read_to_end(&mut target)
                    .map_err(|source| ExportError::Content { path: path.to_vec(), source })?;
                EntryKind::Symlink(target)
            }
            0o14 => return Err(entry(path, "is a socket, for which tars have no type")),
            _ => return Err(entry(path, "is of a type that is not known")),
        };
        self.write(path, attributes, &kind, None)
    }

    fn write(
        &mut self,
        path: &[u8],
        attributes: &Attributes,
        kind: &EntryKind,
        content: Option<Content<'_>>,
    ) -> Result<(), ExportError> {
        if let EntryKind::File { data, .. } = kind {
            self.exported.bytes += data.iter().map(|piece| piece.end - piece.start).sum::<u64>();
        }
        if path.len() > PATH_MAX {
            return Err(entry(path, "has a path of more than 4095 bytes"));
        }
        if attributes.xattrs.keys().any(|name| !tar::can_name(name)) {
            return Err(entry(
                path,
                "has an extended attribute with '=' in its name, which tars cannot have",
            ));
        }
        self.exported.entries += 1;
        let mut watched = Watched { content, observer: self.observer, failure: None, cancelled: false };
        let written = self.out.add(path, attributes, kind, &mut watched);
        match watched.failure {
            Some(source) => Err(ExportError::Content { path: path.to_vec(), source }),
            None if watched.cancelled => Err(ExportError::Cancelled),
            None => written.map_err(ExportError::Write),
        }
    }
}

/// A marker file.
const EMPTY: EntryKind = EntryKind::File { size: 0, data: Vec::new() };

/// Content whose errors are told from those of writing, and that ends where the observer says so.
struct Watched<'c> {
    content: Option<Content<'c>>,
    observer: &'c dyn Observer,
    failure: Option<io::Error>,
    cancelled: bool,
}

impl Read for Watched<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(content) = &mut self.content else { return Ok(0) };
        if self.observer.cancelled() {
            self.cancelled = true;
            return Err(io::Error::other("cancelled"));
        }
        let read = content.read(buffer).map_err(|error| {
            self.failure = Some(error);
            io::Error::other("the content cannot be read")
        })?;
        self.observer.advance(read as u64);
        Ok(read)
    }
}

fn entry(path: &[u8], problem: &'static str) -> ExportError {
    ExportError::Entry { path: path.to_vec(), problem }
}
