//! Looking at what was added, and changing it, until the image is finished.

use std::collections::BTreeMap;

use super::error::path_of;
use super::xattrs::{self, Entry};
use super::{Attributes, Error, Writer};
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
        let not_there = || Error::NotADirectory { path: path_of(path), parent: path_of(path) };
        let id =
            self.tree.find(path).filter(|&id| self.tree.directory(id).is_some()).ok_or_else(not_there)?;
        let xattrs = BTreeMap::from([(name.to_vec(), value.to_vec())]);
        let added = self.tree.pool.add(path, &Attributes { xattrs, ..Attributes::default() })?;
        let Some(node) = self.tree.node_mut(id) else { return Err(not_there()) };
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
    use crate::erofs::write::{Kind, Options};
    use crate::erofs::{Budget, Image};
    use crate::io::MemoryDevice;

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
