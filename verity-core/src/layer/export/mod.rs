//! The way back: from an EROFS image to a tar, or to one file's content.

mod dense;
mod file;
mod places;

use std::io::{self, Read, Write};

pub(super) use dense::Dense;
pub use file::{export_file, export_file_at};
use places::Places;

use super::Limits;
use super::tar::{self, EntryKind, Text};
use super::walk::walk;
use super::whiteout::{Marker, Whiteouts, marker};
use crate::erofs::write::Attributes;
use crate::erofs::{self, Budget, FileKind, Image, Inode, Names};
use crate::progress::{Observer, Phase};

/// The longest path that a system call takes, in bytes.
const PATH_MAX: usize = 4095;
/// The longest name of a file, in bytes.
const NAME_MAX: usize = 255;
/// What an inode may cost of the budget for indexes: two pieces of content.
const INODE_COST: u64 = 8;
/// What an inode may cost of the budget for directories: two names of it, and if it is a directory its `.` and `..` and the blocks of these.
const NAME_COST: u64 = 8;
/// How many bytes of memory an extended attribute took of an inode when the image was made, at least.
const XATTR_MEMORY: u64 = 16;

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
    /// More in the image than allowed.
    #[error("the image has more than {0} files, or more than {0} further names of them")]
    Entries(u64),
    /// The names to be remembered are longer than allowed.
    #[error("the names of directories and of files with several names have more than {0} bytes")]
    Memory(u64),
    /// The content is much larger than its image.
    #[error(
        "{:?}: {expanded} bytes of content with it, from an image of {input} bytes: more than {ratio} times as much, and more \
         than {allowance} bytes",
        Text(path)
    )]
    Expansion {
        /// The file with which it is too much.
        path: Vec<u8>,
        /// How much content there is with it, in bytes, holes among them.
        expanded: u64,
        /// How many bytes the image has.
        input: u64,
        /// The limit: [`Limits::ratio`].
        ratio: u64,
        /// What is allowed in any case, in bytes: [`Limits::allowance`].
        allowance: u64,
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
/// `limits` bound what comes of the image, as they bind [`build`](super::build): holes count as content, and what could be built
/// with them is unpacked with them, unless its content repeats so much that the image is much smaller than the blob was.
///
/// # Errors
/// [`ExportError`]. What was written till then is of no use.
pub fn export(
    image: &Image<'_>,
    out: impl Write,
    limits: &Limits,
    observer: &dyn Observer,
) -> Result<Exported, ExportError> {
    write_tar(image, out, limits, Form::Layer, observer)
}

/// Writes all that is in an image as a tar of the same files, for programs that make images of tars: whiteouts and opaque directories stay
/// in overlayfs's words, devices 0/0 and an attribute, and holes are zeros.
///
/// # Errors
/// As [`export`].
pub fn export_as_it_is(
    image: &Image<'_>,
    out: impl Write,
    limits: &Limits,
    observer: &dyn Observer,
) -> Result<Exported, ExportError> {
    write_tar(image, out, limits, Form::AsItIs, observer)
}

/// What the tar is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// A layer: markers of whiteouts, and sparse files.
    Layer,
    /// The files themselves.
    AsItIs,
}

fn write_tar(
    image: &Image<'_>,
    out: impl Write,
    limits: &Limits,
    form: Form,
    observer: &dyn Observer,
) -> Result<Exported, ExportError> {
    observer.begin(Phase::Extract, None);
    let budgets = Budgets::new(limits);
    let mut export = Export {
        image,
        limits,
        form,
        budgets,
        out: tar::Writer::new(out),
        observer,
        places: Places::new(limits),
        expanded: 0,
        exported: Exported::default(),
    };
    walk(image.superblock().root_nid.into(), |path, folder, nid| export.add(path, (folder, nid)))?;
    export.out.finish().map_err(ExportError::Write)?;
    Ok(export.exported)
}

/// How much work an image may cause that limits allow.
pub(super) struct Budgets {
    /// For extended attributes, and where content lies.
    pub(super) indexes: Budget,
    /// For what directories hold, which is in memory while they are listed.
    pub(super) directories: Budget,
}

impl Budgets {
    pub(super) fn new(limits: &Limits) -> Self {
        let inodes = limits.entries.saturating_add(2);
        let indexes = inodes.saturating_mul(INODE_COST).saturating_add(limits.memory / XATTR_MEMORY);
        Self {
            indexes: Budget::new(indexes.saturating_add(Budget::STANDARD)),
            directories: Budget::new(inodes.saturating_mul(NAME_COST)),
        }
    }
}

/// Checks that with a file's content there is not too much for the image.
fn check_expansion(
    image: &Image<'_>,
    limits: &Limits,
    expanded: u64,
    path: &[u8],
) -> Result<(), ExportError> {
    let input = image.size();
    if limits.allow(expanded, input) {
        return Ok(());
    }
    let Limits { ratio, allowance, .. } = *limits;
    Err(ExportError::Expansion { path: path.to_vec(), expanded, input, ratio, allowance })
}

struct Export<'e, W> {
    image: &'e Image<'e>,
    limits: &'e Limits,
    form: Form,
    budgets: Budgets,
    out: tar::Writer<W>,
    observer: &'e dyn Observer,
    places: Places,
    /// Bytes of content so far, with holes.
    expanded: u64,
    exported: Exported,
}

impl<W: Write> Export<'_, W> {
    /// Adds an inode by one of its names, in a folder. Returns what is in it, if it is a directory.
    fn add(&mut self, path: &[u8], (folder, nid): (u64, u64)) -> Result<Option<Names>, ExportError> {
        if self.observer.cancelled() {
            return Err(ExportError::Cancelled);
        }
        if path.len() > PATH_MAX {
            // Not longer and longer, where directories never end.
            return Err(entry(&path[..PATH_MAX], "has a path of more than 4095 bytes"));
        }
        if Whiteouts::is_marker(path) {
            return Err(entry(path, "has a name that hides something in a layer's tar (.wh.*)"));
        }
        let failed = |source| ExportError::Image { path: path.to_vec(), source };
        let inode = self.image.inode(nid).map_err(failed)?;
        if inode.kind != FileKind::Directory && inode.links > 1 && self.places.knows(nid) {
            self.places.count_name()?;
        } else {
            self.places.count_inode()?;
        }
        let mut attributes = self.image.attributes(&inode, &self.budgets.indexes).map_err(failed)?;
        if inode.kind == FileKind::Directory {
            if self.places.knows(nid) {
                return Err(entry(path, "is a directory that has another name, too"));
            }
            self.places.remember(nid, folder, path)?;
            let names = self.image.list(&inode, &self.budgets.directories).map_err(failed)?;
            match self.marker(path, &inode, &mut attributes) {
                Some(Marker::Opaque(opaque)) => {
                    self.write(path, &attributes, &EntryKind::Directory, None)?;
                    self.write(&opaque, &attributes, &EMPTY, None)?;
                }
                _ => self.write(path, &attributes, &EntryKind::Directory, None)?,
            }
            return Ok(Some(names));
        }
        // Whiteouts may share an inode, but a link to a marker is none.
        if let Some(Marker::Whiteout(marker)) = self.marker(path, &inode, &mut attributes) {
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
            if let Some(first) = self.places.path(nid) {
                self.write(path, &attributes, &EntryKind::HardLink(first), None)?;
                return Ok(None);
            }
            self.places.remember(nid, folder, path)?;
        }
        self.add_file(path, &inode, &attributes).map(|()| None)
    }

    fn marker(&self, path: &[u8], inode: &Inode, attributes: &mut Attributes) -> Option<Marker> {
        if self.form == Form::AsItIs { None } else { marker(path, inode, attributes) }
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
                self.expanded = self.expanded.saturating_add(inode.size);
                check_expansion(image, self.limits, self.expanded, path)?;
                let content = image.content(inode, &self.budgets.indexes).map_err(failed)?;
                let size = content.size();
                if self.form == Form::AsItIs {
                    let data = (size > 0).then_some(0..size).into_iter().collect();
                    let mut content = Dense::new(content);
                    return self.write(path, attributes, &EntryKind::File { size, data }, Some(&mut content));
                }
                let (data, mut content) = (content.data(), content);
                return self.write(path, attributes, &EntryKind::File { size, data }, Some(&mut content));
            }
            0o12 if inode.size > PATH_MAX as u64 => {
                return Err(entry(path, "is a symbolic link to a path of more than 4095 bytes"));
            }
            0o12 => {
                let mut target = Vec::new();
                let mut content = image.content(inode, &self.budgets.indexes).map_err(failed)?;
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
        content: Option<&mut dyn Read>,
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
struct Watched<'c, 'o> {
    content: Option<&'c mut (dyn Read + 'c)>,
    observer: &'o dyn Observer,
    failure: Option<io::Error>,
    cancelled: bool,
}

impl Read for Watched<'_, '_> {
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
