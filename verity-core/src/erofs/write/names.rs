//! Directories as they lie on disk.

use super::node::Id;
use super::tree::Tree;
use crate::erofs::format::DirectoryEntry;

/// A name in a directory, and what it names.
pub(super) type Named<'t> = (&'t [u8], Id);

/// What is in a directory, itself and its parent included, in the order of the names' bytes: readers search by halving.
pub(super) fn entries(tree: &Tree, id: Id) -> Vec<Named<'_>> {
    let Some(directory) = tree.directory(id) else { return Vec::new() };
    let mut entries = Vec::with_capacity(directory.children.len() + 2);
    entries.extend(directory.children.iter().map(|(name, &id)| (&**name, id)));
    for (name, id) in [(&b"."[..], id), (b"..", directory.parent)] {
        let place = entries.partition_point(|&(other, _)| other < name);
        entries.insert(place, (name, id));
    }
    entries
}

/// The entries of each block: as many as it has room for.
pub(super) fn blocks<'e, 't>(
    mut entries: &'e [Named<'t>],
    block_size: usize,
) -> impl Iterator<Item = &'e [Named<'t>]> {
    std::iter::from_fn(move || {
        let mut used = 0;
        let fitting = entries.iter().take_while(|(name, _)| {
            used += DirectoryEntry::SIZE + name.len();
            used <= block_size
        });
        let (block, rest) = entries.split_at(fitting.count());
        entries = rest;
        // A block has room for the longest name.
        (!block.is_empty()).then_some(block)
    })
}

/// How many bytes a block's entries have.
pub(super) fn size_of(block: &[Named<'_>]) -> usize {
    block.iter().map(|(name, _)| DirectoryEntry::SIZE + name.len()).sum()
}

/// A block's entries, and nothing behind them.
pub(super) fn encode(tree: &Tree, block: &[Named<'_>]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(size_of(block));
    let mut offset = block.len() * DirectoryEntry::SIZE;
    for &(name, id) in block {
        let (nid, file_type) = tree.node(id).map_or((0, 0), |node| (node.nid, node.file_type()));
        // Blocks have at most 65536 bytes, and names at least one.
        let name_offset = u16::try_from(offset).unwrap_or(u16::MAX);
        bytes.extend(DirectoryEntry { nid, name_offset, file_type }.encode());
        offset += name.len();
    }
    block.iter().for_each(|(name, _)| bytes.extend_from_slice(name));
    bytes
}
