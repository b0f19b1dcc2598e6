//! What EROFS has on disk: structures and constants, little-endian, as they lie there.
//!
//! Source: the kernel's `fs/erofs/erofs_fs.h` and the format's pages on erofs.docs.kernel.org. Nothing is checked or
//! followed here; every number is what some image says.

/// Where the superblock lies, in bytes. What comes before is not the file system's.
pub const SUPERBLOCK_OFFSET: u64 = 1024;
/// The superblock's first field.
pub const MAGIC: u32 = 0xe0f5_e1e2;
/// Inodes begin at multiples of so many bytes, counted from the metadata's first block.
pub const SLOT_SIZE: u64 = 32;
/// The longest file name, in bytes.
pub const NAME_MAX: usize = 255;
/// A block address that stands for a hole.
pub const NULL_ADDRESS: u32 = u32::MAX;
/// What the superblock is followed by, for each bit in its field `compression`, has at most so many bytes.
pub const COMPRESSION_RECORD_SIZE: u64 = 16;
/// An entry in the table of further devices, and what its position is counted in, in bytes.
pub const DEVICE_SLOT_SIZE: u64 = 128;
/// Positions of shared extended attributes and of name prefixes are counted in so many bytes.
pub const XATTR_UNIT: u64 = 4;

/// Bits of `feature_incompat`: what a reader has to know.
pub mod incompatible {
    /// Compressed data is padded at its beginning.
    pub const ZERO_PADDING: u32 = 0x01;
    /// Records about compression follow the superblock; compressed units may have several blocks.
    pub const COMPRESSION_RECORDS: u32 = 0x02;
    /// Some files are chunk-based.
    pub const CHUNKED: u32 = 0x04;
    /// There are further devices (or a second compression algorithm).
    pub const DEVICE_TABLE: u32 = 0x08;
    /// Ends of compressed files lie beside their inodes.
    pub const TAIL_PACKING: u32 = 0x10;
    /// Ends of files lie together in one packed inode (or files share compressed data).
    pub const FRAGMENTS: u32 = 0x20;
    /// There is a table of long prefixes of attribute names.
    pub const XATTR_PREFIXES: u32 = 0x40;
}

/// Bits of `feature_compat`: what a reader need not know.
pub mod compatible {
    /// The superblock has a checksum.
    pub const CHECKSUM: u32 = 0x01;
    /// Times are those of the last change of content.
    pub const MTIME: u32 = 0x02;
    /// The table of attribute name prefixes lies in the image itself, not in the packed inode.
    pub const PLAIN_XATTR_PREFIXES: u32 = 0x10;
}

/// The superblock.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Superblock {
    /// [`MAGIC`].
    pub magic: u32,
    /// CRC-32C of the superblock's block, from the superblock on.
    pub checksum: u32,
    /// Bits of [`compatible`].
    pub feature_compat: u32,
    /// The block size, as a power of two.
    pub block_bits: u8,
    /// How many times 16 bytes the superblock has beyond [`Superblock::SIZE`].
    pub extension_slots: u8,
    /// The root directory's number.
    pub root_nid: u16,
    /// How many inodes there are.
    pub inodes: u64,
    /// Seconds since 1970.
    pub build_time: u64,
    /// And nanoseconds.
    pub build_time_ns: u32,
    /// How many blocks the image has.
    pub blocks: u32,
    /// The metadata's first block: inode numbers count from there.
    pub meta_block: u32,
    /// The first block of shared extended attributes.
    pub xattr_block: u32,
    /// The UUID.
    pub uuid: [u8; 16],
    /// The label, padded with NUL.
    pub volume_name: [u8; 16],
    /// Bits of [`incompatible`].
    pub feature_incompat: u32,
    /// A bit for each compression algorithm, where [`incompatible::COMPRESSION_RECORDS`] is set.
    pub compression: u16,
    /// How many further devices there are.
    pub extra_devices: u16,
    /// Where they are listed, in [`DEVICE_SLOT_SIZE`].
    pub device_slot: u16,
    /// The size of directory blocks in blocks, as a power of two; always 0.
    pub directory_block_bits: u8,
    /// How many attribute name prefixes there are.
    pub xattr_prefix_count: u8,
    /// Where they begin, in [`XATTR_UNIT`].
    pub xattr_prefix_start: u32,
    /// The packed inode's number.
    pub packed_nid: u64,
}

impl Superblock {
    /// The size in bytes, without extensions.
    pub const SIZE: usize = 128;

    /// Takes the fields from their places.
    #[must_use]
    pub fn decode(bytes: &[u8; Self::SIZE]) -> Self {
        Self {
            magic: u32_at(bytes, 0),
            checksum: u32_at(bytes, 4),
            feature_compat: u32_at(bytes, 8),
            block_bits: bytes[12],
            extension_slots: bytes[13],
            root_nid: u16_at(bytes, 14),
            inodes: u64_at(bytes, 16),
            build_time: u64_at(bytes, 24),
            build_time_ns: u32_at(bytes, 32),
            blocks: u32_at(bytes, 36),
            meta_block: u32_at(bytes, 40),
            xattr_block: u32_at(bytes, 44),
            uuid: array_at(bytes, 48),
            volume_name: array_at(bytes, 64),
            feature_incompat: u32_at(bytes, 80),
            compression: u16_at(bytes, 84),
            extra_devices: u16_at(bytes, 86),
            device_slot: u16_at(bytes, 88),
            directory_block_bits: bytes[90],
            xattr_prefix_count: bytes[91],
            xattr_prefix_start: u32_at(bytes, 92),
            packed_nid: u64_at(bytes, 96),
        }
    }

    /// Puts the fields in their places.
    #[must_use]
    pub fn encode(&self) -> [u8; Self::SIZE] {
        let mut bytes = [0; Self::SIZE];
        put(&mut bytes, 0, &self.magic.to_le_bytes());
        put(&mut bytes, 4, &self.checksum.to_le_bytes());
        put(&mut bytes, 8, &self.feature_compat.to_le_bytes());
        put(&mut bytes, 12, &[self.block_bits, self.extension_slots]);
        put(&mut bytes, 14, &self.root_nid.to_le_bytes());
        put(&mut bytes, 16, &self.inodes.to_le_bytes());
        put(&mut bytes, 24, &self.build_time.to_le_bytes());
        put(&mut bytes, 32, &self.build_time_ns.to_le_bytes());
        put(&mut bytes, 36, &self.blocks.to_le_bytes());
        put(&mut bytes, 40, &self.meta_block.to_le_bytes());
        put(&mut bytes, 44, &self.xattr_block.to_le_bytes());
        put(&mut bytes, 48, &self.uuid);
        put(&mut bytes, 64, &self.volume_name);
        put(&mut bytes, 80, &self.feature_incompat.to_le_bytes());
        put(&mut bytes, 84, &self.compression.to_le_bytes());
        put(&mut bytes, 86, &self.extra_devices.to_le_bytes());
        put(&mut bytes, 88, &self.device_slot.to_le_bytes());
        put(&mut bytes, 90, &[self.directory_block_bits, self.xattr_prefix_count]);
        put(&mut bytes, 92, &self.xattr_prefix_start.to_le_bytes());
        put(&mut bytes, 96, &self.packed_nid.to_le_bytes());
        bytes
    }
}

/// The two forms of an inode have these bytes in common, and differ in what comes behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InodeHead {
    /// Bit 0: the extended form. Bits 1 to 3: the [`layout`].
    pub format: u16,
    /// The size of the extended attributes beside the inode: 0, or their 12 bytes and so many times 4, less one.
    pub xattr_count: u16,
    /// Type and permissions, as `stat` has them.
    pub mode: u16,
    /// How many names a compact inode has.
    pub compact_links: u16,
    /// The content's size in bytes.
    pub size: u64,
    /// The first block, the number of compressed blocks, the form of the chunks, or a device number.
    pub payload: u32,
}

impl InodeHead {
    /// The size of a compact inode, and of the bytes that are read here.
    pub const SIZE: usize = 32;
    /// The size of an extended inode.
    pub const EXTENDED_SIZE: u64 = 64;
    /// Where an extended inode has its number of names (32 bits).
    pub const EXTENDED_LINKS: u64 = 44;

    /// Takes the fields from their places.
    #[must_use]
    pub fn decode(bytes: &[u8; Self::SIZE]) -> Self {
        let format = u16_at(bytes, 0);
        let extended = format & 1 != 0;
        Self {
            format,
            xattr_count: u16_at(bytes, 2),
            mode: u16_at(bytes, 4),
            compact_links: u16_at(bytes, 6),
            size: if extended { u64_at(bytes, 8) } else { u32_at(bytes, 8).into() },
            payload: u32_at(bytes, 16),
        }
    }
}

/// How an inode's content lies on disk: bits 1 to 3 of its format.
pub mod layout {
    /// In consecutive blocks.
    pub const FLAT_PLAIN: u16 = 0;
    /// Compressed, with an index of 8 bytes for each piece.
    pub const COMPRESSED_FULL: u16 = 1;
    /// In consecutive blocks, but for the last one, whose bytes lie behind the inode.
    pub const FLAT_INLINE: u16 = 2;
    /// Compressed, with an index of packed bits.
    pub const COMPRESSED_COMPACT: u16 = 3;
    /// In chunks of consecutive blocks.
    pub const CHUNKS: u16 = 4;
}

/// Bits of the payload of a chunk-based inode.
pub mod chunk {
    /// The chunk size in blocks, as a power of two.
    pub const BITS: u32 = 0x1f;
    /// An index entry has 8 bytes: two unused, the device, the block. Without it has 4: the block.
    pub const INDEXES: u32 = 0x20;
}

/// An entry of a directory block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirectoryEntry {
    /// The inode's number.
    pub nid: u64,
    /// Where in the block its name begins.
    pub name_offset: u16,
    /// What it is, as in [`file_type`].
    pub file_type: u8,
}

impl DirectoryEntry {
    /// The size in bytes.
    pub const SIZE: usize = 12;

    /// Takes the fields from their places.
    #[must_use]
    pub fn decode(bytes: &[u8; Self::SIZE]) -> Self {
        Self { nid: u64_at(bytes, 0), name_offset: u16_at(bytes, 8), file_type: bytes[10] }
    }

    /// Puts the fields in their places.
    #[must_use]
    pub fn encode(&self) -> [u8; Self::SIZE] {
        let mut bytes = [0; Self::SIZE];
        put(&mut bytes, 0, &self.nid.to_le_bytes());
        put(&mut bytes, 8, &self.name_offset.to_le_bytes());
        bytes[10] = self.file_type;
        bytes
    }
}

/// The values of [`DirectoryEntry::file_type`].
pub mod file_type {
    /// A regular file.
    pub const REGULAR: u8 = 1;
    /// A directory.
    pub const DIRECTORY: u8 = 2;
    /// A character device.
    pub const CHAR_DEVICE: u8 = 3;
    /// A block device.
    pub const BLOCK_DEVICE: u8 = 4;
    /// A named pipe.
    pub const FIFO: u8 = 5;
    /// A socket.
    pub const SOCKET: u8 = 6;
    /// A symbolic link.
    pub const SYMLINK: u8 = 7;
}

/// What the extended attributes beside an inode begin with.
pub mod xattr {
    /// The size of the header, in bytes.
    pub const HEADER_SIZE: u64 = 12;
    /// Where in the header the number of shared attributes is (one byte); their positions, of 4 bytes each, follow the
    /// header.
    pub const SHARED_COUNT: usize = 4;
    /// The size of what an attribute begins with: the length of its name, its prefix, the length of its value (16 bits).
    pub const ENTRY_SIZE: usize = 4;
    /// How names begin, and the number that stands for it. What is left of the two names of access lists is empty.
    pub const PREFIXES: [(&[u8], u8); 5] = [
        (b"user.", 1),
        (b"system.posix_acl_access", 2),
        (b"system.posix_acl_default", 3),
        (b"trusted.", 4),
        (b"security.", 6),
    ];
}

/// How content is compressed: 8 bytes behind the inode and its attributes, at a multiple of 8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompressionHeader {
    /// All of it, for what is a single number: bit 63 says that the whole content is a fragment, the others where.
    pub whole: u64,
    /// Where the fragment begins that is the end of the content.
    pub fragment_offset: u32,
    /// How many bytes the end of the content has that lies behind the index.
    pub inline_size: u16,
    /// Bits of [`compression`].
    pub advise: u16,
    /// The low four bits: the first [`algorithm`], the high ones: the second.
    pub algorithms: u8,
    /// The low four bits: by which power of two a piece of content is larger than a block.
    pub cluster_bits: u8,
}

impl CompressionHeader {
    /// The size in bytes.
    pub const SIZE: usize = 8;
    /// Set in `whole` if all of the content is a fragment.
    pub const ALL_FRAGMENT: u64 = 1 << 63;

    /// Takes the fields from their places.
    #[must_use]
    pub fn decode(bytes: &[u8; Self::SIZE]) -> Self {
        Self {
            whole: u64_at(bytes, 0),
            fragment_offset: u32_at(bytes, 0),
            inline_size: u16_at(bytes, 2),
            advise: u16_at(bytes, 4),
            algorithms: bytes[6],
            cluster_bits: bytes[7],
        }
    }
}

/// Algorithms that content is compressed by.
pub mod algorithm {
    /// LZ4 blocks.
    pub const LZ4: u8 = 0;
    /// LZMA without its header.
    pub const LZMA: u8 = 1;
    /// DEFLATE.
    pub const DEFLATE: u8 = 2;
    /// Zstandard frames.
    pub const ZSTD: u8 = 3;

    /// Its name.
    #[must_use]
    pub const fn name(algorithm: u8) -> &'static str {
        match algorithm {
            LZ4 => "LZ4",
            LZMA => "LZMA",
            DEFLATE => "DEFLATE",
            ZSTD => "Zstandard",
            _ => "an unknown algorithm",
        }
    }
}

/// Bits and values of compressed content and its index.
pub mod compression {
    /// Of a compact index: parts of it have entries of 2 bytes on average.
    pub const ADVISE_TWO_BYTES: u16 = 0x01;
    /// Of a full index: it is a list of extents, of 48-bit images.
    pub const ADVISE_EXTENTS: u16 = 0x01;
    /// Compressed units of the first algorithm may have several blocks.
    pub const ADVISE_BIG_1: u16 = 0x02;
    /// And those of the second one.
    pub const ADVISE_BIG_2: u16 = 0x04;
    /// The end of the content lies behind the index.
    pub const ADVISE_INLINE: u16 = 0x08;
    /// What is stored as it is lies in its block as far behind the beginning as it does in the content, and goes on there.
    pub const ADVISE_INTERLACED: u16 = 0x10;
    /// The end of the content lies in the packed inode.
    pub const ADVISE_FRAGMENT: u16 = 0x20;

    /// A piece where stored content begins.
    pub const PLAIN: u8 = 0;
    /// A piece where a compressed unit of the first algorithm begins.
    pub const HEAD_1: u8 = 1;
    /// A piece in which no unit begins.
    pub const NO_HEAD: u8 = 2;
    /// A piece where a compressed unit of the second algorithm begins.
    pub const HEAD_2: u8 = 3;

    /// In the first piece without a head: the rest of the number is how many blocks the unit has.
    pub const BLOCK_COUNT: u16 = 1 << 11;
}

pub(crate) fn u16_at(bytes: &[u8], offset: usize) -> u16 {
    u16::from_le_bytes(array_at(bytes, offset))
}

pub(crate) fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    u32::from_le_bytes(array_at(bytes, offset))
}

pub(crate) fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    u64::from_le_bytes(array_at(bytes, offset))
}

fn put(bytes: &mut [u8], offset: usize, field: &[u8]) {
    bytes[offset..offset + field.len()].copy_from_slice(field);
}

/// Only for places that every caller's buffer has.
fn array_at<const SIZE: usize>(bytes: &[u8], offset: usize) -> [u8; SIZE] {
    let mut array = [0; SIZE];
    array.copy_from_slice(&bytes[offset..offset + SIZE]);
    array
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every byte that is read is written back where it was, so no field is missing or displaced.
    #[test]
    fn what_is_encoded_is_decoded() {
        let mut numbers = 1..;
        let mut bytes: [u8; Superblock::SIZE] = std::array::from_fn(|_| numbers.next().unwrap_or_default());
        let encoded = Superblock::decode(&bytes).encode();
        bytes[104..].fill(0);
        assert_eq!(encoded, bytes);
        let entry = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 0];
        assert_eq!(DirectoryEntry::decode(&entry).encode(), entry);
    }
}
