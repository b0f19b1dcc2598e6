//! What is in an image, all of it.

use std::collections::BTreeMap;

use verity_core::erofs::{Attributes, Budget, FileKind, Image, Inode, Place, names};

/// What a path names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Directory,
    File(Vec<u8>),
    Symlink(Vec<u8>),
    CharDevice(u32, u32),
    BlockDevice(u32, u32),
    Fifo,
    Socket,
}

/// An inode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) nid: u64,
    pub(crate) links: u32,
    pub(crate) attributes: Attributes,
    pub(crate) what: What,
    /// How many bytes of content lie in blocks, and how many beside the inode.
    pub(crate) stored: (u64, u64),
    /// Whether some of it is a hole.
    pub(crate) has_holes: bool,
}

/// Everything in an image by its path. The root's is empty.
pub(crate) fn read(bytes: &[u8]) -> BTreeMap<Vec<u8>, Found> {
    let image = Image::open(&bytes, bytes.len() as u64).unwrap();
    let root: u64 = image.superblock().root_nid.into();
    let mut found = BTreeMap::new();
    let mut pending = vec![(Vec::new(), root, root)];
    while let Some((path, nid, parent)) = pending.pop() {
        let inode = image.inode(nid).unwrap();
        let (content, stored) = content(&image, bytes, &inode);
        if inode.kind == FileKind::Directory {
            for (name, child) in directory(&image, &content, nid, parent) {
                let separator: &[u8] = if path.is_empty() { b"" } else { b"/" };
                pending.push(([&path, separator, &name].concat(), child, nid));
            }
        }
        let attributes = image.attributes(&inode, &Budget::default()).unwrap();
        let what = what(&inode, content);
        let links = inode.links;
        let has_holes = stored.0 + stored.1 < inode.size;
        let earlier = found.insert(path, Found { nid, links, attributes, what, stored, has_holes });
        assert!(earlier.is_none(), "a name twice in a directory");
    }
    assert_eq!(image.superblock().inodes, distinct(&found), "the number of inodes");
    found
}

/// The number of what lies in the root.
pub(crate) fn only_child(bytes: &[u8]) -> u64 {
    let image = Image::open(&bytes, bytes.len() as u64).unwrap();
    let root = image.superblock().root_nid.into();
    let (content, _) = content(&image, bytes, &image.inode(root).unwrap());
    directory(&image, &content, root, root)[0].1
}

fn distinct(found: &BTreeMap<Vec<u8>, Found>) -> u64 {
    let nids: std::collections::BTreeSet<_> = found.values().map(|found| found.nid).collect();
    nids.len() as u64
}

fn what(inode: &Inode, content: Vec<u8>) -> What {
    let (major, minor) = inode.device();
    match inode.mode >> 12 {
        0o04 => What::Directory,
        0o10 => What::File(content),
        0o12 => What::Symlink(content),
        0o02 => What::CharDevice(major, minor),
        0o06 => What::BlockDevice(major, minor),
        0o01 => What::Fifo,
        0o14 => What::Socket,
        other => panic!("a file of type {other:o}"),
    }
}

/// An inode's content, and how many of its bytes lie in blocks and beside the inode.
fn content(image: &Image<'_>, bytes: &[u8], inode: &Inode) -> (Vec<u8>, (u64, u64)) {
    let mut content = vec![0; usize::try_from(inode.size).unwrap()];
    let mut stored = (0, 0);
    let each = |extent: verity_core::erofs::Extent| {
        let Place::Stored(place) = extent.place else { panic!("{extent:?}") };
        let target =
            usize::try_from(extent.content.start).unwrap()..usize::try_from(extent.content.end).unwrap();
        let start = usize::try_from(place.start).unwrap();
        content[target.clone()].copy_from_slice(&bytes[start..start + target.len()]);
        if place.start == inode.body {
            let block = image.block_size();
            assert_eq!(
                inode.position / block,
                (place.end - 1) / block,
                "an inode and the end of its content"
            );
            stored.1 += place.end - place.start;
        } else {
            stored.0 += place.end - place.start;
        }
        Ok(())
    };
    image.extents(inode, &Budget::default(), each).unwrap();
    (content, stored)
}

/// The names in a directory, which have the order that readers rely on, and say what their inodes say.
fn directory(image: &Image<'_>, content: &[u8], nid: u64, parent: u64) -> Vec<(Vec<u8>, u64)> {
    let block_size = usize::try_from(image.block_size()).unwrap();
    let all: Vec<_> =
        content.chunks(block_size).flat_map(|block| names(block).unwrap()).map(Result::unwrap).collect();
    assert!(all.is_sorted_by(|one, other| one.name < other.name), "names in order");
    let mut children = Vec::new();
    for name in all {
        match name.name {
            b"." => assert_eq!(name.nid, nid),
            b".." => assert_eq!(name.nid, parent),
            other => {
                assert_eq!(image.inode(name.nid).unwrap().kind, name.kind);
                children.push((other.to_vec(), name.nid));
            }
        }
    }
    children
}
