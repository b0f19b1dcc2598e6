//! The superblock and the inodes of an image, read with suspicion.

use std::cell::{OnceCell, RefCell};

use super::Error;
use super::format::{
    COMPRESSION_RECORD_SIZE, InodeHead, MAGIC, SLOT_SIZE, SUPERBLOCK_OFFSET, Superblock, incompatible,
    layout, u32_at, xattr,
};
use super::packed::Packed;
use crate::io::ReadAt;

/// Inodes, names and indexes of one file lie close together, and often far from the next one's.
const CACHED_BLOCKS: usize = 64;
/// From one sector to the largest page that Linux has.
const BLOCK_BITS: std::ops::RangeInclusive<u8> = 9..=16;
const KNOWN_FEATURES: u32 = incompatible::ZERO_PADDING
    | incompatible::COMPRESSION_RECORDS
    | incompatible::CHUNKED
    | incompatible::DEVICE_TABLE
    | incompatible::TAIL_PACKING
    | incompatible::FRAGMENTS
    | incompatible::XATTR_PREFIXES;

/// An EROFS image.
///
/// What the source refuses to read stays unknown; give it one that refuses what cannot be trusted.
pub struct Image<'a> {
    source: &'a dyn ReadAt,
    /// In bytes.
    size: u64,
    superblock: Superblock,
    cache: RefCell<Vec<Cached>>,
    pub(super) packed: OnceCell<Packed>,
}

struct Cached {
    /// Which block; none at first.
    block: Option<u64>,
    bytes: Vec<u8>,
}

/// What an inode is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FileKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A device, a pipe or a socket: there is no content.
    Other,
}

/// An inode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inode {
    /// What it is.
    pub kind: FileKind,
    /// Type and permissions, as `stat` has them.
    pub mode: u16,
    /// The size of its content in bytes.
    pub size: u64,
    /// How many names it has.
    pub links: u32,
    /// Where it lies in the image, in bytes.
    pub position: u64,
    /// Where its extended attributes begin, behind it.
    pub xattrs: u64,
    /// Where they end; an index or the end of the content may follow.
    pub body: u64,
    /// How its content lies: a number of [`format::layout`](super::format::layout).
    pub(super) layout: u16,
    pub(super) payload: u32,
    pub(super) extended: bool,
}

impl<'a> Image<'a> {
    /// Reads the superblock of an image of `size` bytes.
    ///
    /// # Errors
    /// [`Error::Magic`] if it is no EROFS image; [`Error::Unreadable`], [`Error::Features`], [`Error::Invalid`].
    pub fn open(source: &'a dyn ReadAt, size: u64) -> Result<Self, Error> {
        let mut bytes = [0; Superblock::SIZE];
        if size < SUPERBLOCK_OFFSET + bytes.len() as u64 {
            return Err(Error::Magic);
        }
        read(source, &mut bytes, SUPERBLOCK_OFFSET)?;
        let superblock = Superblock::decode(&bytes);
        if superblock.magic != MAGIC {
            return Err(Error::Magic);
        }
        let unknown = superblock.feature_incompat & !KNOWN_FEATURES;
        if unknown != 0 {
            return Err(Error::Features(unknown));
        }
        let invalid = |field, value| Err(Error::Invalid { field, value });
        if !BLOCK_BITS.contains(&superblock.block_bits) {
            return invalid("the superblock's power of the block size", superblock.block_bits.into());
        }
        if superblock.directory_block_bits != 0 {
            return invalid(
                "the superblock's power of the directory block size",
                superblock.directory_block_bits.into(),
            );
        }
        Ok(Self { source, size, superblock, cache: RefCell::default(), packed: OnceCell::new() })
    }

    /// Fails if content of the image may lie on further devices.
    ///
    /// The image names them itself: several kernels (5.16 to 6.3 at least) open such a name as a path, so that whoever makes an image that is mounted
    /// could have any disk of the machine shown in it. A root hash says nothing of what lies there.
    ///
    /// # Errors
    /// [`Error::Devices`].
    pub fn require_one_device(&self) -> Result<(), Error> {
        // The feature's bit stands for a second compression algorithm, too; no program is known that makes such an image.
        let Superblock { feature_incompat, extra_devices, .. } = self.superblock;
        if feature_incompat & incompatible::DEVICE_TABLE == 0 && extra_devices == 0 {
            return Ok(());
        }
        Err(Error::Devices(extra_devices))
    }

    /// The superblock.
    #[must_use]
    pub fn superblock(&self) -> &Superblock {
        &self.superblock
    }

    /// The size of a block, in bytes.
    #[must_use]
    pub fn block_size(&self) -> u64 {
        1 << self.superblock.block_bits
    }

    /// The image's size, in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The byte behind the superblock, its extensions and the records about compression.
    #[must_use]
    pub fn superblock_end(&self) -> u64 {
        let superblock = &self.superblock;
        let records = if superblock.feature_incompat & incompatible::COMPRESSION_RECORDS == 0 {
            0
        } else {
            u64::from(superblock.compression.count_ones()) * COMPRESSION_RECORD_SIZE
        };
        SUPERBLOCK_OFFSET + Superblock::SIZE as u64 + u64::from(superblock.extension_slots) * 16 + records
    }

    /// Where an inode lies, in bytes.
    ///
    /// # Errors
    /// [`Error::Invalid`] if that is outside of the image.
    pub fn inode_position(&self, nid: u64) -> Result<u64, Error> {
        let start = self.address(self.superblock.meta_block);
        nid.checked_mul(SLOT_SIZE)
            .and_then(|offset| start.checked_add(offset))
            .filter(|&position| {
                position.checked_add(InodeHead::SIZE as u64).is_some_and(|end| end <= self.size)
            })
            .ok_or(Error::Invalid { field: "an inode number", value: nid })
    }

    /// Reads an inode.
    ///
    /// # Errors
    /// [`Error::Unreadable`] or [`Error::Invalid`].
    pub fn inode(&self, nid: u64) -> Result<Inode, Error> {
        let position = self.inode_position(nid)?;
        let mut bytes = [0; InodeHead::SIZE];
        self.read(&mut bytes, position)?;
        let head = InodeHead::decode(&bytes);
        let invalid = |field, value| Error::Invalid { field, value };
        let extended = head.format & 1 != 0;
        let layout = head.format >> 1 & 7;
        if head.format >> 4 != 0 || layout > layout::CHUNKS {
            return Err(invalid("an inode's format", head.format.into()));
        }
        let (inode_size, links) = if extended {
            let mut links = [0; 4];
            self.read(&mut links, position + InodeHead::EXTENDED_LINKS)?;
            (InodeHead::EXTENDED_SIZE, u32_at(&links, 0))
        } else {
            (InodeHead::SIZE as u64, head.compact_links.into())
        };
        // No content is larger than what a system call can name.
        if head.size > crate::geometry::MAX_OFFSET {
            return Err(invalid("an inode's size", head.size));
        }
        let xattrs = position + inode_size;
        let xattr_size = match head.xattr_count {
            0 => 0,
            count => xattr::HEADER_SIZE + u64::from(count - 1) * XATTR_ENTRY,
        };
        Ok(Inode {
            kind: FileKind::of_mode(head.mode),
            mode: head.mode,
            size: head.size,
            links,
            position,
            xattrs,
            body: xattrs + xattr_size,
            layout,
            payload: head.payload,
            extended,
        })
    }

    /// Whether an inode's content is cut into units.
    pub(super) fn is_in_units(inode: &Inode) -> bool {
        matches!(inode.layout, layout::COMPRESSED_FULL | layout::COMPRESSED_COMPACT)
    }

    /// Reads some bytes of content.
    pub(super) fn read_content(&self, buffer: &mut [u8], position: u64) -> std::io::Result<usize> {
        self.source.read_at(buffer, position)
    }

    /// Where a block begins, in bytes.
    pub(super) fn address(&self, block: u32) -> u64 {
        u64::from(block) << self.superblock.block_bits
    }

    /// Reads metadata.
    ///
    /// # Errors
    /// [`Error::Unreadable`].
    pub fn read(&self, mut buffer: &mut [u8], mut position: u64) -> Result<(), Error> {
        while !buffer.is_empty() {
            let within = usize::try_from(position % self.block_size()).unwrap_or_default();
            let room = usize::try_from(self.block_size()).unwrap_or(usize::MAX) - within;
            let (piece, rest) = buffer.split_at_mut(room.min(buffer.len()));
            self.read_in_block(piece, position, within)?;
            position = position.saturating_add(piece.len() as u64);
            buffer = rest;
        }
        Ok(())
    }

    /// Reads bytes of one block, which they begin `within` of.
    fn read_in_block(&self, piece: &mut [u8], position: u64, within: usize) -> Result<(), Error> {
        let block = position / self.block_size();
        let mut cache = self.cache.borrow_mut();
        let slot = usize::try_from(block % CACHED_BLOCKS as u64).unwrap_or_default();
        if cache.len() <= slot {
            cache.resize_with(slot + 1, || Cached { block: None, bytes: Vec::new() });
        }
        let cached = &mut cache[slot];
        if cached.block != Some(block) {
            cached.block = None;
            let start = position - within as u64;
            let length = self.block_size().min(self.size.saturating_sub(start));
            cached.bytes.resize(usize::try_from(length).unwrap_or_default(), 0);
            // Where only a part of the block can be read, that part may be the one that is wanted.
            if self.source.read_exact_at(&mut cached.bytes, start).is_err() {
                return read(self.source, piece, position);
            }
            cached.block = Some(block);
        }
        match cached.bytes.get(within..within + piece.len()) {
            Some(bytes) => {
                piece.copy_from_slice(bytes);
                Ok(())
            }
            None => read(self.source, piece, position),
        }
    }
}

/// Attributes are counted in units of their smallest entry.
const XATTR_ENTRY: u64 = xattr::ENTRY_SIZE as u64;

fn read(source: &dyn ReadAt, buffer: &mut [u8], offset: u64) -> Result<(), Error> {
    let length = buffer.len();
    source.read_exact_at(buffer, offset).map_err(|source| Error::Unreadable { offset, length, source })
}

impl FileKind {
    fn of_mode(mode: u16) -> Self {
        match mode & 0o170_000 {
            0o100_000 => Self::File,
            0o040_000 => Self::Directory,
            0o120_000 => Self::Symlink,
            _ => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(feature_incompat: u32, extra_devices: u16) -> Vec<u8> {
        let superblock = Superblock {
            magic: MAGIC,
            block_bits: 12,
            feature_incompat,
            extra_devices,
            ..Superblock::default()
        };
        let mut image = vec![0; 4096];
        image[1024..1024 + Superblock::SIZE].copy_from_slice(&superblock.encode());
        image
    }

    #[test]
    fn further_devices_are_seen_by_bit_and_by_number() {
        let required = |incompat, devices| {
            let bytes = with(incompat, devices);
            let image = Image::open(&bytes, 4096)?;
            image.require_one_device()
        };
        assert!(required(0, 0).is_ok());
        let others = KNOWN_FEATURES & !incompatible::DEVICE_TABLE;
        assert!(required(others, 0).is_ok());
        for (incompat, devices) in [(incompatible::DEVICE_TABLE, 1), (incompatible::DEVICE_TABLE, 0), (0, 7)]
        {
            let error = required(incompat, devices).unwrap_err();
            assert!(matches!(error, Error::Devices(found) if found == devices), "{error}");
        }
        assert!(matches!(required(0x80, 0), Err(Error::Features(0x80))));
    }
}
