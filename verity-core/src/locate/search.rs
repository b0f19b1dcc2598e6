//! The walk through an image's names, on which damage is matched with what it hits.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use super::files::{Files, Owner, Part};
use super::ledger::{Hit, Ledger};
use super::map::{Span, State};
use super::metadata;
use crate::erofs::format::{InodeHead, SUPERBLOCK_OFFSET, Superblock, incompatible};
use crate::erofs::{Budget, Error, Extent, FileKind, Image, Inode, Name, Place, Told, names};
use crate::progress::Observer;

/// No path that a program could open is longer, in bytes.
const PATH_MAX: usize = 4096;
/// What a name costs, and what it costs to remember an inode or a directory, for which the memory counts.
const NAME_COST: u64 = 4;
const INODE_COST: u64 = 32;
const DIRECTORY_COST: u64 = 64;

/// A walk through an image.
pub(super) struct Search<'s> {
    image: &'s Image<'s>,
    budget: &'s Budget,
    observer: &'s dyn Observer,
    ledger: Ledger<'s>,
    /// In the order in which they were found: a directory's parent comes before it.
    directories: Vec<Directory>,
    /// Inodes that may come again under another name, and where they are listed.
    seen: HashMap<u64, Option<usize>>,
    /// Which bytes of the packed inode's content are bad.
    packed: Vec<(Range<u64>, State)>,
    /// What has been found of shared extended attributes.
    shared: Hit,
}

struct Directory {
    nid: u64,
    /// Which directory it is in, unless it is the root.
    parent: Option<usize>,
    name: Box<[u8]>,
    path_length: usize,
}

/// What an inode looks like.
struct Examined {
    /// None if it cannot be read.
    inode: Option<Inode>,
    hit: Hit,
    /// What kept it from being looked at to the end.
    error: Option<Error>,
}

impl<'s> Search<'s> {
    pub(super) fn new(
        image: &'s Image<'s>,
        budget: &'s Budget,
        ledger: Ledger<'s>,
        observer: &'s dyn Observer,
    ) -> Self {
        Self {
            image,
            budget,
            observer,
            ledger,
            directories: Vec::new(),
            seen: HashMap::new(),
            packed: Vec::new(),
            shared: Hit::new(),
        }
    }

    pub(super) fn run(mut self) -> Result<Files, Error> {
        match self.walk() {
            Ok(()) => {}
            Err(Error::Cancelled) => return Err(Error::Cancelled),
            Err(error) => self.ledger.gap(PathBuf::new, error),
        }
        self.ledger.add(self.shared, Owner::SharedXattrs);
        Ok(self.ledger.finish())
    }

    fn walk(&mut self) -> Result<(), Error> {
        metadata::claim(self.image, &mut self.ledger)?;
        let superblock = self.image.superblock();
        if superblock.feature_incompat & incompatible::FRAGMENTS != 0 && superblock.packed_nid != 0 {
            let mut lost = Vec::new();
            let Examined { hit, error, .. } =
                self.examine(superblock.packed_nid, |content, state| lost.push((content, state)))?;
            self.packed = lost;
            self.ledger.add(hit, Owner::PackedInode);
            if let Some(error) = error {
                self.ledger.gap(PathBuf::new, error);
            }
        }
        let root = Name { name: b"", nid: superblock.root_nid.into(), kind: FileKind::Directory };
        self.visit(root, None)?;
        let mut next = 0;
        while next < self.directories.len() {
            if self.observer.cancelled() {
                return Err(Error::Cancelled);
            }
            self.list(next)?;
            next += 1;
        }
        Ok(())
    }

    /// Looks at all names in a directory.
    fn list(&mut self, directory: usize) -> Result<(), Error> {
        let image = self.image;
        let mut places = Vec::new();
        let found = image.inode(self.directories[directory].nid).and_then(|inode| {
            image.extents(&inode, self.budget, |extent| match extent {
                // In blocks, and behind the inode: no directory's content lies in more places.
                Extent { content, place: Place::Stored(place) } if places.len() < 2 => {
                    if place.end > image.size() {
                        return Err(Error::Invalid { field: "the end of a directory", value: place.end });
                    }
                    places.push((place.start, content.end - content.start));
                    Ok(())
                }
                _ => Err(Error::Invalid {
                    field: "the layout of the directory at byte",
                    value: inode.position,
                }),
            })
        });
        if let Err(error) = found {
            self.gap(Some(directory), error);
        }
        let mut block = vec![0; usize::try_from(image.block_size()).unwrap_or_default()];
        for (start, length) in places {
            let mut done = 0;
            while done < length {
                self.budget.spend(NAME_COST)?;
                let size = usize::try_from(length - done).unwrap_or(usize::MAX).min(block.len());
                let position = start.saturating_add(done);
                done += size as u64;
                let block = &mut block[..size];
                match image.read(block, position).and_then(|()| names(block)) {
                    Ok(names) => self.visit_all(names, directory)?,
                    Err(error) => self.gap(Some(directory), error),
                }
            }
        }
        Ok(())
    }

    fn visit_all<'n>(
        &mut self,
        names: impl Iterator<Item = Result<Name<'n>, Error>>,
        directory: usize,
    ) -> Result<(), Error> {
        for name in names {
            match name {
                Ok(name) if matches!(name.name, b"." | b"..") => {}
                Ok(name) => self.visit(name, Some(directory))?,
                Err(error) => self.gap(Some(directory), error),
            }
        }
        Ok(())
    }

    /// Looks at a name, and at what it names unless that is known.
    fn visit(&mut self, name: Name<'_>, parent: Option<usize>) -> Result<(), Error> {
        self.budget.spend(NAME_COST)?;
        let Name { name, nid, mut kind } = name;
        if let Some(&known) = self.seen.get(&nid) {
            let path = || path(&self.directories, parent, name);
            if kind == FileKind::Directory {
                // No directory has two names, and one that is within itself has no end.
                let field = "the number of a directory that has another name";
                self.ledger.gap(path, Error::Invalid { field, value: nid });
            } else if let Some(known) = known {
                self.ledger.add_path(known, path());
            }
            return Ok(());
        }
        let Examined { inode, hit, error } = self.examine(nid, |_, _| {})?;
        let path = || path(&self.directories, parent, name);
        if let Some(error) = error {
            self.ledger.gap(path, error);
        }
        kind = inode.as_ref().map_or(kind, |inode| inode.kind);
        let size = inode.as_ref().map(|inode| inode.size);
        let affected =
            self.ledger.add(hit, Owner::Inode { kind, paths: Vec::new(), unlisted_paths: 0, size });
        if let Some(affected) = affected {
            self.ledger.add_path(affected, path());
        }
        if kind == FileKind::Directory || inode.as_ref().is_none_or(|inode| inode.links != 1) {
            self.budget.spend(INODE_COST)?;
            self.seen.insert(nid, affected);
        }
        if kind == FileKind::Directory && inode.is_some() {
            let before = parent.map_or(0, |parent| self.directories[parent].path_length);
            let path_length = before + name.len() + 1;
            if path_length > PATH_MAX {
                let error = Error::Invalid { field: "the length of a path", value: path_length as u64 };
                self.ledger.gap(path, error);
                return Ok(());
            }
            self.budget.spend(DIRECTORY_COST + name.len() as u64)?;
            self.directories.push(Directory { nid, parent, name: name.into(), path_length });
        }
        Ok(())
    }

    /// Claims all that belongs to an inode, and tells which of its content is bad.
    ///
    /// # Errors
    /// [`Error::Budget`] alone; what else is wrong is in the answer.
    fn examine(&mut self, nid: u64, mut lost: impl FnMut(Range<u64>, State)) -> Result<Examined, Error> {
        let Self { image, budget, ledger, packed, shared, .. } = self;
        let mut hit = Hit::new();
        let inode = match image.inode(nid) {
            Ok(inode) => inode,
            Err(error) => {
                if let Ok(start) = image.inode_position(nid) {
                    let end = start + InodeHead::SIZE as u64;
                    let end =
                        if unreadable_behind(&error, end) { start + InodeHead::EXTENDED_SIZE } else { end };
                    ledger.claim(&mut hit, Some(Part::Inode), start..end, |_, _| {})?;
                }
                return Ok(Examined { inode: None, hit, error: Some(error) });
            }
        };
        ledger.claim(&mut hit, Some(Part::Inode), inode.position..inode.xattrs, |_, _| {})?;
        ledger.claim(&mut hit, Some(Part::Attributes), inode.xattrs..inode.body, |_, _| {})?;
        let described = metadata::shared_xattrs(image, &inode, budget, ledger, shared).and_then(|()| {
            image.describe(&inode, budget, &mut |told| {
                match told {
                    Told::Index(bytes) => ledger.claim(&mut hit, Some(Part::Index), bytes, |_, _| {})?,
                    Told::Extent(Extent { content, place: Place::Stored(place) }) => {
                        let part = Some(Part::Content);
                        ledger.claim(&mut hit, part, place.clone(), |hit, Span { bytes, state, .. }| {
                            let bad = same_part(&bytes, &place, &content);
                            hit.lose(bad.clone(), state);
                            lost(bad, state);
                        })?;
                    }
                    Told::Extent(Extent { content, place: Place::Encoded { bytes, .. } }) => {
                        ledger.claim(&mut hit, Some(Part::Content), bytes, |hit, Span { state, .. }| {
                            hit.lose(content.clone(), state);
                            lost(content.clone(), state);
                        })?;
                    }
                    Told::Extent(Extent { content, place: Place::Packed(place) }) => {
                        for (bad, state) in packed.iter() {
                            budget.spend(1)?;
                            let bytes = bad.start.max(place.start)..bad.end.min(place.end);
                            if bytes.start < bytes.end {
                                hit.lose(same_part(&bytes, &place, &content), *state);
                            }
                        }
                    }
                }
                Ok(())
            })
        });
        match described {
            Err(Error::Budget) => Err(Error::Budget),
            described => Ok(Examined { inode: Some(inode), hit, error: described.err() }),
        }
    }

    fn gap(&mut self, directory: Option<usize>, error: Error) {
        let directories = &self.directories;
        self.ledger.gap(|| path(directories, directory, b""), error);
    }
}

/// What can be said of an image whose superblock cannot be read.
pub(super) fn without_superblock(mut ledger: Ledger<'_>, error: Error) -> Files {
    let superblock = SUPERBLOCK_OFFSET..SUPERBLOCK_OFFSET + Superblock::SIZE as u64;
    // No budget is so small.
    let _ = ledger.claim_for(Owner::Superblock, superblock);
    ledger.gap(PathBuf::new, error);
    ledger.finish()
}

/// Whether what could not be read lies behind `end`.
fn unreadable_behind(error: &Error, end: u64) -> bool {
    matches!(error, Error::Unreadable { offset, .. } if *offset >= end)
}

/// The part of the content that `bytes` of its place are; up to the end of its last block a place has more.
fn same_part(bytes: &Range<u64>, place: &Range<u64>, content: &Range<u64>) -> Range<u64> {
    let at = |byte: u64| content.start.saturating_add(byte - place.start).min(content.end);
    at(bytes.start)..at(bytes.end)
}

/// The path of a name in a directory, or of the directory itself.
fn path(directories: &[Directory], directory: Option<usize>, name: &[u8]) -> PathBuf {
    let mut names = vec![name];
    let mut next = directory;
    while let Some(directory) = next.map(|index| &directories[index]) {
        names.push(&directory.name);
        next = directory.parent;
    }
    let mut path = PathBuf::from("/");
    path.extend(names.into_iter().rev().filter(|name| !name.is_empty()).map(OsStr::from_bytes));
    path
}
