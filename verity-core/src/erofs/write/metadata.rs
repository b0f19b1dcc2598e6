//! What is written when the last entry is there.

use super::layout::Layout;
use super::names;
use super::node::{Body, Node};
use super::sink::Sink;
use super::tree::{ROOT, Tree};
use super::xattrs::Shared;
use super::{Error, Options};
use crate::erofs::format::{
    InodeHead, MAGIC, NULL_ADDRESS, SLOT_SIZE, SUPERBLOCK_OFFSET, Superblock, compatible, incompatible,
    layout,
};
use crate::io::usize_of;

/// How many bytes of an image the superblock's blocks have.
pub(super) fn superblock_area(block_size: u64) -> u64 {
    (SUPERBLOCK_OFFSET + Superblock::SIZE as u64).next_multiple_of(block_size)
}

/// Writes the directories' blocks.
pub(super) fn directories(tree: &Tree, layout: &Layout, sink: &mut Sink<'_>) -> Result<(), Error> {
    for &id in &layout.order {
        let Some(directory) = tree.directory(id).filter(|directory| directory.start != NULL_ADDRESS) else {
            continue;
        };
        let entries = names::entries(tree, id);
        let mut blocks = names::blocks(&entries, sink.block_size().bytes()).peekable();
        while let Some(block) = blocks.next() {
            if blocks.peek().is_some() || directory.tail == 0 {
                sink.write(&names::encode(tree, block))?;
                sink.end_block()?;
            }
        }
    }
    Ok(())
}

/// Writes inodes, what lies beside them, and shared attributes.
pub(super) fn inodes(
    tree: &Tree,
    shared: &Shared,
    layout: &Layout,
    sink: &mut Sink<'_>,
) -> Result<(), Error> {
    let start = sink.position();
    let block_size = sink.block_size().as_u64();
    for (&id, number) in layout.order.iter().zip(1_u32..) {
        let Some(node) = tree.node(id) else { continue };
        sink.zeros_to(start + node.nid * SLOT_SIZE)?;
        let xattrs = shared.body(&node.xattrs, layout.shared % block_size);
        sink.write(&inode(node, layout.time, xattrs.len(), number))?;
        sink.write(&xattrs)?;
        match &node.body {
            Body::Flat { tail, .. } => sink.write(tail)?,
            Body::Chunks(chunks) => {
                for start in chunks.starts() {
                    sink.write(&start.to_le_bytes())?;
                }
            }
            Body::Directory(directory) if directory.tail > 0 => {
                let entries = names::entries(tree, id);
                if let Some(last) = names::blocks(&entries, sink.block_size().bytes()).last() {
                    sink.write(&names::encode(tree, last))?;
                }
            }
            Body::Directory(_) | Body::Device(_) => {}
        }
    }
    sink.zeros_to(start + layout.shared)?;
    for entry in shared.entries() {
        sink.write(entry)?;
    }
    sink.end_block()
}

/// An inode's 32 or 64 bytes.
fn inode(node: &Node, time: (i64, u32), xattr_size: usize, number: u32) -> Vec<u8> {
    let compact = node.inode_size(time) == InodeHead::SIZE as u64;
    let (layout, payload) = match &node.body {
        Body::Flat { start, tail } if tail.is_empty() => (layout::FLAT_PLAIN, *start),
        Body::Flat { start, .. } => (layout::FLAT_INLINE, *start),
        Body::Directory(directory) if directory.tail == 0 => (layout::FLAT_PLAIN, directory.start),
        Body::Directory(directory) => (layout::FLAT_INLINE, directory.start),
        Body::Chunks(chunks) => (layout::CHUNKS, chunks.bits),
        Body::Device(number) => (layout::FLAT_PLAIN, *number),
    };
    let format = layout << 1 | u16::from(!compact);
    // The header counts as one unit; the number is known to have 16 bits.
    let header = usize_of(crate::erofs::format::xattr::HEADER_SIZE);
    let units = xattr_size.checked_sub(header).map_or(0, |own| own / 4 + 1);
    let mut inode = Vec::with_capacity(usize_of(InodeHead::EXTENDED_SIZE));
    inode.extend(format.to_le_bytes());
    inode.extend(u16::try_from(units).unwrap_or(u16::MAX).to_le_bytes());
    inode.extend(node.mode.to_le_bytes());
    if compact {
        // They have 16 and 32 bits, or the inode would not be compact.
        let narrow = |value: u32| u16::try_from(value).unwrap_or(u16::MAX).to_le_bytes();
        inode.extend(narrow(node.links));
        inode.extend(u32::try_from(node.size).unwrap_or(u32::MAX).to_le_bytes());
        inode.extend([0; 4]);
        inode.extend(payload.to_le_bytes());
        inode.extend(number.to_le_bytes());
        inode.extend(narrow(node.uid));
        inode.extend(narrow(node.gid));
        inode.extend([0; 4]);
    } else {
        inode.extend([0; 2]);
        inode.extend(node.size.to_le_bytes());
        inode.extend(payload.to_le_bytes());
        inode.extend(number.to_le_bytes());
        inode.extend(node.uid.to_le_bytes());
        inode.extend(node.gid.to_le_bytes());
        inode.extend(node.mtime.to_le_bytes());
        inode.extend(node.mtime_nsec.to_le_bytes());
        inode.extend(node.links.to_le_bytes());
        inode.extend([0; 16]);
    }
    inode
}

/// Writes the blocks that the superblock lies in. The sink has all others.
pub(super) fn superblock(
    tree: &Tree,
    shared: &Shared,
    layout: &Layout,
    options: &Options,
    sink: &mut Sink<'_>,
) -> Result<(), Error> {
    let block_size = sink.block_size().as_u64();
    let chunked = tree.nodes().any(|node| matches!(node.body, Body::Chunks(_)));
    let root = tree.node(ROOT).map_or(0, |node| node.nid);
    let xattr_block = u64::from(layout.meta_block) + layout.shared / block_size;
    let (build_time, build_time_ns) = layout.time;
    let mut superblock = Superblock {
        magic: MAGIC,
        feature_compat: compatible::CHECKSUM | compatible::MTIME,
        block_bits: u8::try_from(block_size.ilog2()).unwrap_or_default(),
        // The root is the first inode.
        root_nid: u16::try_from(root).unwrap_or_default(),
        inodes: layout.order.len() as u64,
        build_time: build_time.cast_unsigned(),
        build_time_ns,
        // The sink takes no block that has no number.
        blocks: sink.block(),
        meta_block: layout.meta_block,
        xattr_block: if shared.size == 0 { 0 } else { u32::try_from(xattr_block).unwrap_or_default() },
        uuid: options.uuid,
        feature_incompat: if chunked { incompatible::CHUNKED } else { 0 },
        ..Superblock::default()
    };
    let mut area = vec![0; usize_of(superblock_area(block_size))];
    let (_, from_superblock) = area.split_at_mut(usize_of(SUPERBLOCK_OFFSET));
    from_superblock[..Superblock::SIZE].copy_from_slice(&superblock.encode());
    superblock.checksum = crc32c(from_superblock);
    from_superblock[..Superblock::SIZE].copy_from_slice(&superblock.encode());
    sink.superblock(area)
}

/// CRC-32C, which is not inverted at the end here. Of one block of each image, so bit by bit will do.
fn crc32c(bytes: &[u8]) -> u32 {
    bytes.iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ ((crc & 1) * 0x82f6_3b78))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The check value that catalogues of CRCs give, before it is inverted.
    #[test]
    fn the_checksum_is_the_castagnoli_one() {
        assert_eq!(crc32c(b"123456789"), !0xe306_9283);
    }
}
