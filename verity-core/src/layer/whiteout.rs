//! What a layer hides of those below it: OCI's marker files, in the form that overlayfs has for them.
//!
//! `.wh.NAME` becomes a character device 0/0 with the name NAME; `.wh..wh..opq` gives its directory the attribute `trusted.overlay.opaque`.
//! Both say something about lower layers only: where the layer has a NAME of its own, that is there, and if it is a directory,
//! it is opaque. Hence they take effect when all entries are known, in whatever order they come.
//!
//! Source: OCI's image specification, "Representing Changes"; the kernel's `Documentation/filesystems/overlayfs.rst`.

use std::collections::{BTreeMap, BTreeSet};

use super::error::{Error, Problem};
use super::tar::{Entry, EntryKind};
use crate::erofs::write::{Attributes, Kind, Writer};
use crate::erofs::{FileKind, Inode};

const PREFIX: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
const AUFS: &[u8] = b".wh..wh.";
pub(crate) const OPAQUE_ATTRIBUTE: &[u8] = b"trusted.overlay.opaque";

/// What the layer hides.
#[derive(Debug, Default)]
pub(super) struct Whiteouts {
    /// Paths, with the attributes of their markers.
    hidden: BTreeMap<Vec<u8>, Attributes>,
    /// Directories, of which nothing shows from below.
    opaque: BTreeSet<Vec<u8>>,
    /// How many bytes all these paths have.
    memory: u64,
}

impl Whiteouts {
    /// Takes note of an entry, if it is a marker.
    pub(super) fn take(&mut self, entry: &Entry) -> Result<bool, Error> {
        let refused = |problem| Err(Error::Entry { path: entry.path.clone(), problem });
        let (folder, name) = split(&entry.path);
        if folder.split(|&byte| byte == b'/').any(|component| component.starts_with(PREFIX)) {
            return refused(Problem::WhiteoutDirectory);
        }
        let Some(hidden) = name.strip_prefix(PREFIX) else { return Ok(false) };
        if entry.kind == EntryKind::Directory {
            return refused(Problem::WhiteoutDirectory);
        }
        if name == OPAQUE {
            if self.opaque.insert(folder.to_vec()) {
                self.memory += folder.len() as u64;
            }
        } else if name.starts_with(AUFS) {
            return refused(Problem::AufsFile);
        } else if matches!(hidden, b"" | b"." | b"..") {
            return refused(Problem::WhiteoutName);
        } else {
            // Of a marker only owner and time are kept: it is no file that could be run or read.
            let attributes = Attributes { mode: 0, xattrs: BTreeMap::new(), ..entry.attributes.clone() };
            let path = within(folder, hidden);
            let length = path.len() as u64;
            if self.hidden.insert(path, attributes).is_none() {
                self.memory += length;
            }
        }
        Ok(true)
    }

    /// How many bytes of memory the paths take.
    pub(super) const fn memory(&self) -> u64 {
        self.memory
    }

    /// Whether a path is one of a marker.
    pub(super) fn is_marker(path: &[u8]) -> bool {
        path.split(|&byte| byte == b'/').any(|component| component.starts_with(PREFIX))
    }

    /// Refuses a marker in a folder that the layer hides, or has as something else: what is left of such a thing hangs on which of the two a
    /// runtime takes first.
    fn check_folders(&self, folder: &[u8], marker: &[u8], writer: &Writer<'_>) -> Result<(), Error> {
        let ends = folder.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        for end in ends.chain([folder.len()]) {
            let folder = &folder[..end];
            let problem = match writer.kind(folder) {
                Some(FileKind::Directory) => continue,
                Some(_) => Problem::BelowFile(folder.to_vec()),
                None if self.hidden.contains_key(folder) => Problem::BelowHidden(folder.to_vec()),
                None => continue,
            };
            return Err(Error::Entry { path: marker.to_vec(), problem });
        }
        Ok(())
    }

    /// Puts them into the image.
    pub(super) fn apply(self, writer: &mut Writer<'_>) -> Result<(Hidden, Cut), Error> {
        for path in self.hidden.keys() {
            let (folder, name) = split(path);
            self.check_folders(folder, &within(folder, &[PREFIX, name].concat()), writer)?;
        }
        for path in &self.opaque {
            self.check_folders(split(path).0, &within(path, OPAQUE), writer)?;
        }
        let Self { hidden, mut opaque, .. } = self;
        let mut removed = BTreeSet::new();
        let mut whiteouts = 0;
        for (path, attributes) in hidden {
            match writer.kind(&path) {
                None => {
                    writer.add(&path, &attributes, Kind::CharDevice { major: 0, minor: 0 })?;
                    whiteouts += 1;
                }
                Some(FileKind::Directory) => {
                    opaque.insert(path.clone());
                    removed.insert(path);
                }
                // It hides what is below by itself.
                Some(_) => {}
            }
        }
        let opaque_directories = opaque.len() as u64;
        for path in &opaque {
            match writer.kind(path) {
                Some(FileKind::Directory) => {}
                None => writer.imply(path)?,
                Some(_) => {
                    return Err(Error::Entry { path: path.clone(), problem: Problem::OpaqueFile });
                }
            }
            writer.set_xattr(path, OPAQUE_ATTRIBUTE, b"y")?;
        }
        Ok((Hidden { whiteouts, opaque_directories }, Cut { opaque, removed }))
    }
}

/// Where the layer has nothing in common with lower ones.
#[derive(Debug, Default)]
pub(super) struct Cut {
    /// Directories of which nothing shows from below.
    opaque: BTreeSet<Vec<u8>>,
    /// Those of them that are themselves removed, and new in this layer.
    removed: BTreeSet<Vec<u8>>,
}

impl Cut {
    /// Whether a directory of the layer is one that lower layers may have, too.
    pub(super) fn is_shared(&self, path: &[u8]) -> bool {
        let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        let mut above = (!path.is_empty()).then_some(0).into_iter().chain(ends);
        !self.removed.contains(path) && !above.any(|end| self.opaque.contains(&path[..end]))
    }
}

/// How much is hidden.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Hidden {
    pub(super) whiteouts: u64,
    pub(super) opaque_directories: u64,
}

/// What is hidden, as layers say it.
pub(super) enum Marker {
    /// The path of a whiteout's marker.
    Whiteout(Vec<u8>),
    /// The path of an opaque directory's marker.
    Opaque(Vec<u8>),
}

/// The marker for something in an image, if it is that; what overlayfs has for it is taken from the attributes.
pub(super) fn marker(path: &[u8], inode: &Inode, attributes: &mut Attributes) -> Option<Marker> {
    let (folder, name) = split(path);
    if inode.mode >> 12 == 0o02 && inode.device() == (0, 0) {
        return Some(Marker::Whiteout(within(folder, &[PREFIX, name].concat())));
    }
    let opaque = inode.kind == FileKind::Directory
        && attributes.xattrs.get(OPAQUE_ATTRIBUTE).is_some_and(|value| value == b"y");
    opaque.then(|| {
        attributes.xattrs.remove(OPAQUE_ATTRIBUTE);
        Marker::Opaque(within(path, OPAQUE))
    })
}

/// The path of a name in a folder.
fn within(folder: &[u8], name: &[u8]) -> Vec<u8> {
    if folder.is_empty() { name.to_vec() } else { [folder, b"/", name].concat() }
}

/// The folder of a path, and the name in it.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (&[], path),
    }
}
