//! Finding the superblock in a file that holds image and tree, where nothing says where the image ends.
//!
//! Two things say so: the image's own file system, and the length of the file, where nothing lies behind the tree. A place counts only where there is
//! a superblock that covers what lies before it.

use std::io;

use crate::block::BlockSize;
use crate::erofs::format as erofs;
use crate::geometry::{Geometry, HashArea};
use crate::io::ReadAt;
use crate::params::Params;
use crate::superblock::Superblock;

/// A file system that is known by its superblock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FileSystem {
    /// EROFS.
    Erofs,
    /// ext2, ext3 or ext4.
    Ext,
    /// squashfs.
    Squashfs,
}

impl FileSystem {
    /// The name by which it is mounted.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Erofs => "erofs",
            Self::Ext => "ext4",
            Self::Squashfs => "squashfs",
        }
    }
}

/// The file system of an image, and how many bytes it says that it has.
///
/// # Errors
/// What the image answers; `None` where nothing that is known begins there.
pub fn file_system(image: &dyn ReadAt) -> io::Result<Option<(FileSystem, u64)>> {
    let mut bytes = [0; 2048];
    match image.read_exact_at(&mut bytes, 0) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    }
    let u16_at = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
    let u32_at = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    let u64_at = |low: usize, high: usize| u64::from(u32_at(low)) | u64::from(u32_at(high)) << 32;
    if u32_at(0) == SQUASHFS {
        return Ok(Some((FileSystem::Squashfs, u64_at(40, 44))));
    }
    if u32_at(1024) == erofs::MAGIC {
        // Blocks of 512 bytes and more; where there are more than 2^32 of them the length of the file decides.
        let bits = u32::from(bytes[1024 + 12]);
        let size = u64::from(u32_at(1024 + 36)).checked_shl(bits).unwrap_or(0);
        return Ok(Some((FileSystem::Erofs, size)));
    }
    if u16_at(1024 + 56) == EXT {
        let high = if u32_at(1024 + 96) & EXT_64BIT == 0 { 0 } else { u64::from(u32_at(1024 + 336)) << 32 };
        let blocks = u64::from(u32_at(1024 + 4)) | high;
        let size = 1024_u64.checked_shl(u32_at(1024 + 24)).and_then(|size| size.checked_mul(blocks));
        return Ok(Some((FileSystem::Ext, size.unwrap_or(0))));
    }
    Ok(None)
}

/// `hsqs`.
const SQUASHFS: u32 = 0x7371_7368;
const EXT: u16 = 0xef53;
/// The number of blocks has a second half.
const EXT_64BIT: u32 = 0x80;

/// Looks for a superblock in a file of `length` bytes that begins with an image.
///
/// ```
/// use verity_core::dialect::find;
/// assert_eq!(find::superblock(&vec![0; 8192], 8192)?, None);
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
/// What the file answers.
pub fn superblock(file: &dyn ReadAt, length: u64) -> io::Result<Option<(u64, Superblock)>> {
    for offset in candidates(file, length)? {
        if let Some(superblock) = superblock_at(file, length, offset)? {
            return Ok(Some((offset, superblock)));
        }
    }
    Ok(None)
}

/// The superblock at an offset, where it covers nothing behind that offset and its tree lies in the file.
fn superblock_at(file: &dyn ReadAt, length: u64, offset: u64) -> io::Result<Option<Superblock>> {
    let mut bytes = [0; Superblock::SIZE];
    let end = offset.checked_add(bytes.len() as u64);
    if offset == 0 || end.is_none_or(|end| end > length) {
        return Ok(None);
    }
    file.read_exact_at(&mut bytes, offset)?;
    let Ok(superblock) = Superblock::parse(&bytes) else { return Ok(None) };
    let area = HashArea::with_superblock(offset);
    let geometry = area.and_then(|area| Geometry::new(&superblock.params, superblock.data_blocks, area));
    let fits = geometry.is_ok_and(|geometry| {
        geometry.data_bytes() <= offset && (geometry.hash_blocks() == 0 || geometry.hash_area_end() <= length)
    });
    Ok(fits.then_some(superblock))
}

/// Where a superblock would be: behind the file system, filled up to whatever the size of a block is, and where a tree of usual parameters would have to begin to end with the file.
fn candidates(file: &dyn ReadAt, length: u64) -> io::Result<Vec<u64>> {
    let mut candidates = Vec::new();
    if let Some((_, size)) = file_system(file)? {
        let units = (BlockSize::MIN.as_u64().ilog2()..=BlockSize::MAX.as_u64().ilog2()).map(|bits| 1 << bits);
        candidates.extend(units.filter_map(|unit| size.checked_next_multiple_of(unit)));
    }
    let large = BlockSize::default();
    for (data_block_size, hash_block_size) in
        [(large, large), (BlockSize::MIN, BlockSize::MIN), (BlockSize::MIN, large)]
    {
        let params = Params { data_block_size, hash_block_size, ..Params::default() };
        candidates.extend(begin_of_tree(&params, length));
    }
    candidates.dedup();
    Ok(candidates)
}

/// The offsets of a superblock right behind the data, whose tree ends with a file of `length` bytes.
fn begin_of_tree(params: &Params, length: u64) -> Vec<u64> {
    let block_size = params.data_block_size.as_u64();
    let end = |blocks: u64| {
        let area = HashArea::with_superblock(blocks.checked_mul(block_size)?).ok()?;
        Geometry::new(params, blocks, area).ok().map(|geometry| geometry.hash_area_end())
    };
    // The end grows with the data: look for the fewest blocks whose tree does not end before the file does.
    let (mut few, mut many) = (1, length / block_size);
    while few < many {
        let middle = few + (many - few) / 2;
        if end(middle).is_some_and(|end| end < length) { few = middle + 1 } else { many = middle }
    }
    // With small data blocks the tree lies at one place for several offsets of the superblock.
    let offsets = (few..).take(8).take_while(|&blocks| end(blocks) == Some(length));
    offsets.map(|blocks| blocks * block_size).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::{MemoryDevice, WriteAt};
    use crate::tree;

    fn blob(params: &Params, data: Vec<u8>) -> Vec<u8> {
        let blocks = data.len() as u64 / params.data_block_size.as_u64();
        let offset = data.len() as u64;
        let geometry = Geometry::new(params, blocks, HashArea::with_superblock(offset).unwrap()).unwrap();
        let device = MemoryDevice::new(data);
        tree::build(&device, &device, params, &geometry, &tree::Options::default()).unwrap();
        let superblock = Superblock { uuid: [1; 16], params: params.clone(), data_blocks: blocks };
        device.write_all_at(&superblock.encode(), offset).unwrap();
        device.into_bytes()
    }

    #[test]
    fn a_tree_that_ends_with_the_file_is_found() {
        for blocks in [1, 2, 127, 128, 129, 1000, 16_385] {
            let params = Params::default();
            let mut bytes = blob(&params, vec![5; blocks * 4096]);
            let length = bytes.len().next_multiple_of(4096);
            bytes.resize(length, 0);
            let found = superblock(&bytes, length as u64).unwrap().map(|(offset, _)| offset);
            assert_eq!(found, Some(blocks as u64 * 4096), "{blocks} blocks");
        }
        let small =
            Params { data_block_size: BlockSize::MIN, hash_block_size: BlockSize::MIN, ..Params::default() };
        let mixed = Params { data_block_size: BlockSize::MIN, ..Params::default() };
        for (params, blocks) in [&small, &mixed]
            .into_iter()
            .flat_map(|params| (2..40).chain([4001]).map(move |blocks| (params, blocks)))
        {
            let bytes = blob(params, vec![5; blocks * 512]);
            let found = superblock(&bytes, bytes.len() as u64).unwrap().map(|(offset, _)| offset);
            assert_eq!(found, Some(blocks as u64 * 512), "{blocks} small blocks");
        }
    }

    /// With something behind the tree only the file system says where the image ends.
    #[test]
    fn a_tree_behind_a_file_system_is_found() {
        let size = 40 * 4096_u64;
        let mut erofs = vec![0; 40 * 4096];
        erofs[1024..1028].copy_from_slice(&erofs::MAGIC.to_le_bytes());
        erofs[1024 + 12] = 12;
        erofs[1024 + 36] = 40;
        let mut ext = vec![0; 40 * 4096];
        ext[1024 + 56..][..2].copy_from_slice(&EXT.to_le_bytes());
        ext[1024 + 4] = 160;
        let mut squashfs = vec![0; 40 * 4096];
        squashfs[..4].copy_from_slice(b"hsqs");
        squashfs[40..48].copy_from_slice(&(size - 4000).to_le_bytes());
        for (image, kind) in
            [(erofs, FileSystem::Erofs), (ext, FileSystem::Ext), (squashfs, FileSystem::Squashfs)]
        {
            assert_eq!(file_system(&image).unwrap().unwrap().0, kind);
            let mut bytes = blob(&Params::default(), image);
            bytes.extend([9; 5000]);
            let found = superblock(&bytes, bytes.len() as u64).unwrap().map(|(offset, _)| offset);
            assert_eq!(found, Some(size), "{}", kind.name());
        }
    }

    /// The image ends where a block of the tree's does, which can be far behind the file system.
    #[test]
    fn a_tree_of_large_blocks_is_found() {
        for bits in 9..=19 {
            let block_size = BlockSize::new(1 << bits).unwrap();
            let params = Params { data_block_size: block_size, ..Params::default() };
            let size = (5 * 4096_usize).next_multiple_of(block_size.bytes()).max(2 * block_size.bytes());
            // The file system fills its last block nearly, or hardly.
            for filled in [size - 300, size - block_size.bytes() + 1] {
                let mut image = vec![0; size];
                image[..4].copy_from_slice(b"hsqs");
                image[40..48].copy_from_slice(&(filled as u64).to_le_bytes());
                let mut bytes = blob(&params, image);
                bytes.extend([9; 5000]);
                let found = superblock(&bytes, bytes.len() as u64).unwrap().map(|(offset, _)| offset);
                assert_eq!(found, Some(size as u64), "{filled} of {size} bytes");
            }
        }
    }

    #[test]
    fn a_superblock_that_covers_itself_is_none() {
        let mut bytes = vec![0; 16 * 4096];
        let superblock_ = Superblock { uuid: [0; 16], params: Params::default(), data_blocks: 15 };
        bytes[14 * 4096..][..512].copy_from_slice(&superblock_.encode());
        assert_eq!(superblock(&bytes, bytes.len() as u64).unwrap(), None);
        for length in [0, 1, 511, 512, 2047] {
            assert_eq!(superblock(&vec![0xff; length], length as u64).unwrap(), None);
        }
    }
}
