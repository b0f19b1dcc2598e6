//! Looking at what was added, and changing it, until the image is finished.

use std::collections::BTreeMap;

use super::error::path_of;
use super::xattrs::{self, Entry};
use super::{Attributes, Error, Kind, Node, Writer, node};
use crate::erofs::FileKind;

impl Writer<'_> {
    /// What a path names now, if it names anything.
    #[must_use]
    pub fn kind(&self, path: &[u8]) -> Option<FileKind> {
        let node = self.tree.node(self.tree.find(path)?)?;
        Some(match node.mode >> 12 {
            0o04 => FileKind::Directory,
            0o10 => FileKind::File,
            0o12 => FileKind::Symlink,
            _ => FileKind::Other,
        })
    }

    /// Gives a directory that is there an extended attribute, in the place of one of the same name.
    ///
    /// # Errors
    /// [`Error::NotADirectory`] if it is none; [`Error::Xattr`] and [`Error::Field`] if it is not possible; [`Error::Memory`].
    pub fn set_xattr(&mut self, path: &[u8], name: &[u8], value: &[u8]) -> Result<(), Error> {
        let xattrs = BTreeMap::from([(name.to_vec(), value.to_vec())]);
        self.change(path, &Attributes { xattrs, ..Attributes::default() }, |_| ())
    }

    /// Makes a directory where there is nothing, which nobody described, as the parents of an entry are. What is there already stays as it is.
    ///
    /// # Errors
    /// What is wrong with the path; [`Error::Inodes`], [`Error::Memory`].
    pub fn imply(&mut self, path: &[u8]) -> Result<(), Error> {
        self.tree.imply(path)?;
        self.check_memory()
    }

    /// Tells the paths of the directories that nobody described, the root (the empty path) among them: sorted by their components.
    ///
    /// # Errors
    /// What `tell` answers; then no more are told.
    pub fn implied<E>(&self, tell: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        self.tree.implied(tell)
    }

    /// Describes a directory that is there. Extended attributes that it has already stay, where there are none of their names.
    ///
    /// # Errors
    /// As [`Writer::set_xattr`].
    pub fn describe(&mut self, path: &[u8], attributes: &Attributes) -> Result<(), Error> {
        let kind = node::check(path, attributes, &Kind::Directory)?;
        self.change(path, attributes, |node| {
            let Attributes { mode, uid, gid, mtime, mtime_nsec, xattrs: _ } = *attributes;
            (node.mode, node.uid, node.gid) = (kind | mode, uid, gid);
            (node.mtime, node.mtime_nsec, node.implied) = (mtime, mtime_nsec, false);
        })
    }

    /// Changes a directory, and adds extended attributes.
    fn change(
        &mut self,
        path: &[u8],
        added: &Attributes,
        change: impl FnOnce(&mut Node),
    ) -> Result<(), Error> {
        let not_there = || Error::NotADirectory { path: path_of(path), parent: path_of(path) };
        let id =
            self.tree.find(path).filter(|&id| self.tree.directory(id).is_some()).ok_or_else(not_there)?;
        let added = self.tree.pool.add(path, added)?;
        let Some(node) = self.tree.node_mut(id) else { return Err(not_there()) };
        change(node);
        let (replaced, kept): (Vec<_>, Vec<_>) = std::mem::take(&mut node.xattrs)
            .into_iter()
            .partition(|old| added.iter().any(|new| name_of(old) == name_of(new)));
        node.xattrs = kept.into_iter().chain(added).collect();
        let size = xattrs::unshared_size(&node.xattrs);
        self.tree.pool.remove(replaced.into());
        xattrs::check_size(path, size)?;
        self.check_memory()
    }

    /// Sets the image's UUID, where it follows from what was added.
    pub const fn set_uuid(&mut self, uuid: [u8; 16]) {
        self.options.uuid = uuid;
    }
}

/// An encoded attribute's prefix and name.
fn name_of(entry: &Entry) -> Option<(u8, &[u8])> {
    let (&length, &prefix) = (entry.first()?, entry.get(1)?);
    Some((prefix, entry.get(4..4 + usize::from(length))?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::erofs::write::Options;
    use crate::erofs::{Budget, Image};
    use crate::io::MemoryDevice;

    #[test]
    fn directories_that_nobody_described_are_told_and_can_be_described() {
        let device = MemoryDevice::default();
        let mut writer = Writer::new(&device, Options::default()).unwrap();
        let described = Attributes { mode: 0o700, uid: 7, ..Attributes::default() };
        for path in ["a/b/c", "a.b/pipe", "late/in/pipe", "gone/in/pipe"] {
            writer.add(path.as_bytes(), &described, Kind::Fifo).unwrap();
        }
        writer.link(b"linked/to", b"a/b/c").unwrap();
        writer.imply(b"empty/deep").unwrap();
        writer.imply(b"a/b").unwrap();
        // An entry that comes later describes what was implied; one that takes its place takes all below it along.
        writer.add(b"late", &described, Kind::Directory).unwrap();
        writer.add(b"gone", &described, Kind::Fifo).unwrap();
        let told = |writer: &Writer<'_>| {
            let mut told = Vec::new();
            let tell = |path: &[u8]| {
                told.push(String::from_utf8(path.to_vec()).unwrap());
                Ok::<_, ()>(())
            };
            writer.implied(tell).unwrap();
            told
        };
        assert_eq!(told(&writer), ["", "a", "a/b", "a.b", "empty", "empty/deep", "late/in", "linked"]);
        writer.set_xattr(b"a/b", b"trusted.overlay.opaque", b"y").unwrap();
        let xattrs = BTreeMap::from([(b"user.a".to_vec(), b"1".to_vec())]);
        let attributes = Attributes { mtime: -5, mtime_nsec: 3, xattrs, ..described };
        writer.describe(b"a/b", &attributes).unwrap();
        writer.describe(b"", &attributes).unwrap();
        assert!(matches!(writer.describe(b"a/b/c", &attributes), Err(Error::NotADirectory { .. })));
        assert_eq!(told(&writer), ["a", "a.b", "empty", "empty/deep", "late/in", "linked"]);
        let size = writer.finish().unwrap().size;
        let image = Image::open(&device, size).unwrap();
        let root = image.inode(image.superblock().root_nid.into()).unwrap();
        assert_eq!(image.attributes(&root, &Budget::default()).unwrap(), attributes);
        let budget = Budget::default();
        let below = |inode, name: &[u8]| {
            let names = image.list(inode, &budget).unwrap();
            let (_, nid) = names.into_iter().find(|(found, _)| **found == *name).unwrap();
            image.inode(nid).unwrap()
        };
        let found = image.attributes(&below(&below(&root, b"a"), b"b"), &budget).unwrap();
        let mut expected = attributes;
        expected.xattrs.insert(b"trusted.overlay.opaque".to_vec(), b"y".to_vec());
        assert_eq!(found, expected);
    }

    #[test]
    fn an_attribute_of_a_directory_is_added_or_replaced() {
        let device = MemoryDevice::default();
        let mut writer = Writer::new(&device, Options::default()).unwrap();
        let xattrs = [("user.a", "1"), ("user.ab", "2")].map(|(name, value)| (name.into(), value.into()));
        let attributes = Attributes { mode: 0o700, xattrs: xattrs.into(), ..Attributes::default() };
        writer.add(b"", &attributes, Kind::Directory).unwrap();
        writer.add(b"pipe", &Attributes::default(), Kind::Fifo).unwrap();
        writer.set_xattr(b"", b"user.a", b"longer").unwrap();
        writer.set_xattr(b"", b"trusted.a", b"3").unwrap();
        assert_eq!(
            (writer.kind(b""), writer.kind(b"pipe")),
            (Some(FileKind::Directory), Some(FileKind::Other))
        );
        assert_eq!((writer.kind(b"nothing"), writer.kind(b"pipe/below")), (None, None));
        for path in [&b"pipe"[..], b"nothing"] {
            assert!(matches!(writer.set_xattr(path, b"user.a", b""), Err(Error::NotADirectory { .. })));
        }
        assert!(matches!(writer.set_xattr(b"", b"a", b""), Err(Error::Xattr { .. })));
        writer.set_uuid([7; 16]);
        let size = writer.finish().unwrap().size;
        let image = Image::open(&device, size).unwrap();
        assert_eq!(image.superblock().uuid, [7; 16]);
        let root = image.inode(image.superblock().root_nid.into()).unwrap();
        let found = image.attributes(&root, &Budget::default()).unwrap();
        let expected = [("trusted.a", "3"), ("user.a", "longer"), ("user.ab", "2")];
        let expected = expected.map(|(name, value)| (name.into(), value.into()));
        assert_eq!(found, Attributes { xattrs: expected.into(), ..attributes });
    }
}
