//! Where everything lies that is written when the last entry is there.
//!
//! Behind the content come the directories' blocks, in the order of their inodes, and then the metadata: the root, what is in it by
//! name, and so on, directory by directory; last the attributes that are shared.

use super::Error;
use super::names;
use super::node::{Body, Id};
use super::sink::Sink;
use super::tree::{ROOT, Tree};
use super::xattrs::Shared;
use crate::block::BlockSize;
use crate::erofs::format::{SLOT_SIZE, XATTR_UNIT, xattr};

/// Where everything lies.
pub(super) struct Layout {
    /// The time that compact inodes have: the one of most inodes.
    pub(super) time: (i64, u32),
    /// The inodes in the order of their positions.
    pub(super) order: Vec<Id>,
    /// The first block of the metadata.
    pub(super) meta_block: u32,
    /// Where the shared attributes begin, in bytes behind the beginning of the metadata.
    pub(super) shared: u64,
}

impl Layout {
    /// Gives everything a place behind what the sink has, which is at the end of a block. Tells the nodes theirs.
    pub(super) fn new(tree: &mut Tree, shared: &Shared, sink: &Sink<'_>) -> Result<Self, Error> {
        let mut places = Places {
            time: common_time(tree),
            block_size: sink.block_size(),
            order: Vec::with_capacity(tree.len()),
            first_block: sink.position() / sink.block_size().as_u64(),
            // No inode has the number 0, which means none.
            end: SLOT_SIZE,
            blocks: 0,
        };
        places.place(tree, shared, ROOT);
        let mut directories = vec![ROOT];
        while let Some(id) = directories.pop() {
            let Some(directory) = tree.directory(id) else { continue };
            let children: Vec<Id> = directory.children.values().copied().collect();
            let known = directories.len();
            for child in children {
                if let Some(directory) = tree.directory_mut(child) {
                    directory.parent = id;
                    directories.push(child);
                }
                // A further name of something has its place already.
                if tree.node(child).is_some_and(|node| node.nid == 0) {
                    places.place(tree, shared, child);
                }
            }
            directories[known..].reverse();
        }
        // fsck.erofs before 1.6 reads the header of extended attributes behind each inode, also where there are none: the last one may
        // not end with the image.
        let shared_start = (places.end + xattr::HEADER_SIZE).next_multiple_of(XATTR_UNIT);
        let meta_size = shared_start + shared.size;
        sink.check((places.blocks * places.block_size.as_u64()).saturating_add(meta_size))?;
        let Places { time, order, first_block, blocks, .. } = places;
        // Within the image, as was just seen.
        let meta_block = u32::try_from(first_block + blocks).unwrap_or(u32::MAX);
        Ok(Self { time, order, meta_block, shared: shared_start })
    }
}

struct Places {
    time: (i64, u32),
    block_size: BlockSize,
    order: Vec<Id>,
    /// The first of the directories' blocks, and how many there are.
    first_block: u64,
    blocks: u64,
    /// The end of the metadata, in bytes from their beginning.
    end: u64,
}

impl Places {
    fn place(&mut self, tree: &mut Tree, shared: &Shared, id: Id) {
        let names = tree.directory(id).map(|_| self.names(tree, id));
        let Some(node) = tree.node_mut(id) else { return };
        if let Some(names) = &names {
            (node.size, node.links) = (names.size, names.links);
        }
        let inode = node.inode_size(self.time);
        let head = inode + shared.size_of(&node.xattrs);
        let block = self.block_size.as_u64();
        let rest = match &mut node.body {
            Body::Directory(directory) => {
                let last = node.size % block;
                let inline = last <= block / 2 && head + last <= block;
                let tail = if inline { last } else { 0 };
                let blocks = (node.size - tail).div_ceil(block);
                if blocks > 0 {
                    // Too large a one is found when all have a place, before anything is written.
                    directory.start = u32::try_from(self.first_block + self.blocks).unwrap_or(u32::MAX);
                    self.blocks += blocks;
                }
                directory.tail = tail;
                tail
            }
            body => body.kept() + body.index_size(),
        };
        // What is kept beside an inode lies in one block with it; an index need not.
        let together = if node.body.index_size() > 0 || rest == 0 { inode } else { head + rest };
        let mut position = self.end.next_multiple_of(SLOT_SIZE);
        if position % block + together > block {
            position = position.next_multiple_of(block);
        }
        node.nid = position / SLOT_SIZE;
        self.end = position + head + rest;
        self.order.push(id);
    }

    /// What the names in a directory come to.
    fn names(&self, tree: &Tree, id: Id) -> Names {
        let entries = names::entries(tree, id);
        let mut size = 0_u64;
        let mut last = 0;
        for block in names::blocks(&entries, self.block_size.bytes()) {
            size += self.block_size.as_u64();
            last = names::size_of(block);
        }
        let unused = (self.block_size.bytes() - last) as u64;
        // Itself and its parent are among them, and each names a directory.
        let directories = entries.iter().filter(|&&(_, id)| tree.directory(id).is_some()).count();
        Names { size: size - unused, links: u32::try_from(directories).unwrap_or(u32::MAX) }
    }
}

struct Names {
    /// In bytes.
    size: u64,
    /// How many names the directory has: in its parent, in itself, and in each directory in it.
    links: u32,
}

/// The time that most inodes have, the earliest of several; not before 1970, which not everyone would understand.
fn common_time(tree: &Tree) -> (i64, u32) {
    let mut times: Vec<_> = tree.nodes().map(|node| (node.mtime, node.mtime_nsec)).collect();
    times.retain(|&(seconds, _)| seconds >= 0);
    times.sort_unstable();
    let same = times.chunk_by(|one, other| one == other);
    // Of several, `max_by_key` takes the last.
    same.rev().max_by_key(|times| times.len()).and_then(|times| times.first().copied()).unwrap_or_default()
}
