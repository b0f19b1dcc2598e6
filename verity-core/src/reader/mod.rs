//! Reading data as the kernel would through dm-verity, without it and without privilege: no byte is returned that was not checked
//! against the root hash.
//!
//! # What is guaranteed
//!
//! - Every byte that is returned belongs to a block whose digest was compared with the one in its hash block, and that with the one
//!   above, up to the root hash. What was checked is what is returned: data are read once and hashed where they are handed out; hash blocks
//!   are hashed in this process' memory and stay there. A source that answers differently each time gains nothing.
//! - A buffer that a failed read leaves behind holds nothing that was not checked: it is wiped.
//! - A block that does not match is an error that names it, each time it is read. Blocks before and behind it can be read. Whether a byte
//!   that is not read is good is not known: [`verify`](crate::tree::verify) looks at all of them.
//! - What the kernel does not look at is not looked at here: spare bytes of hash blocks, a superblock.
//!
//! # Memory
//!
//! [`DEFAULT_CACHE_BYTES`] of checked hash blocks, or what [`with_cache_bytes`](VerityReader::with_cache_bytes) says, with some dozens of
//! bytes of index for each; and for each read under way at most a data block, and a hash block for each level. The default holds the leaf
//! blocks of 1 GiB of data (sha256, blocks of 4096 bytes): where reads go all over more than that, a larger cache saves reading
//! a hash block for each.
//!
//! # Reading
//!
//! ```
//! use std::io::{Read, Seek, SeekFrom};
//!
//! use verity_core::geometry::{Geometry, HashArea};
//! use verity_core::io::{FnReader, MemoryDevice};
//! use verity_core::{params::Params, reader::VerityReader, tree};
//!
//! # let image = vec![7_u8; 100 * 4096];
//! # let params = Params::default();
//! # let geometry = Geometry::new(&params, 100, HashArea::with_superblock(0)?)?;
//! # let hash = MemoryDevice::default();
//! # let root = tree::build(&image, &hash, &params, &geometry, &tree::Options::default())?;
//! # fn get(image: &[u8], buffer: &mut [u8], offset: u64) -> std::io::Result<usize> {
//! #     verity_core::io::ReadAt::read_at(image, buffer, offset)
//! # }
//! // Any source that reads at a position does: a file, memory, ranges of a blob in a registry.
//! let blob = FnReader::new(|buffer: &mut [u8], offset| get(&image, buffer, offset));
//! let reader = VerityReader::new(blob, hash, params, geometry, root)?;
//!
//! // From several threads at once,
//! let mut bytes = [0; 10];
//! assert_eq!(reader.read_at(&mut bytes, 5000)?, 10);
//! // or as a stream, one for each thread.
//! let mut cursor = reader.cursor();
//! cursor.seek(SeekFrom::End(-3))?;
//! let mut rest = Vec::new();
//! cursor.read_to_end(&mut rest)?;
//! assert_eq!(rest, [7; 3]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod ancestors;
mod cache;
mod cursor;
mod data;
mod error;
mod extract;
mod repair;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub use cursor::Cursor;
pub use error::{Error, Repair};
pub use extract::Extracted;

use ancestors::Effort;
use cache::Cache;
use repair::Parity;

use crate::block::RootHash;
use crate::digest::BlockHasher;
use crate::fec::Layout;
use crate::geometry::Geometry;
use crate::io::{ReadAt, usize_of};
use crate::params::Params;
use crate::tree;

/// How many bytes of checked hash blocks a reader keeps if it is not told otherwise: 8 MiB.
pub const DEFAULT_CACHE_BYTES: usize = 8 * 1024 * 1024;

/// Verified data, read at any position from any number of threads. See the [module](self).
pub struct VerityReader<'a> {
    data: Box<dyn ReadAt + 'a>,
    hash: Box<dyn ReadAt + 'a>,
    params: Params,
    geometry: Geometry,
    root: RootHash,
    hasher: BlockHasher,
    cache: Cache,
    parity: Option<Parity<'a>>,
    repairs: AtomicU64,
}

impl<'a> VerityReader<'a> {
    /// A reader of the data that `root` vouches for. Nothing is read yet: a root hash of another tree is found out by the first read, or before by
    /// [`verify_top`](tree::verify_top).
    ///
    /// # Errors
    /// [`tree::Error::RootHashSize`], or [`tree::Error::Geometry`] if the geometry is not one for the parameters.
    pub fn new(
        data: impl ReadAt + 'a,
        hash: impl ReadAt + 'a,
        params: Params,
        geometry: Geometry,
        root: RootHash,
    ) -> Result<Self, Error> {
        tree::check_values(&params, &geometry, &root)?;
        let hasher = BlockHasher::new(&params);
        let cache = Cache::new(DEFAULT_CACHE_BYTES / params.hash_block_size.bytes());
        Ok(Self {
            data: Box::new(data),
            hash: Box::new(hash),
            params,
            geometry,
            root,
            hasher,
            cache,
            parity: None,
            repairs: AtomicU64::new(0),
        })
    }

    /// Keeps at most so many bytes of checked hash blocks. Without any each read begins at the top of the tree.
    #[must_use]
    pub fn with_cache_bytes(self, bytes: usize) -> Self {
        Self { cache: Cache::new(bytes / self.params.hash_block_size.bytes()), ..self }
    }

    /// Restores damaged blocks, of the data and of the tree, from the parity on `source`, while they are read. A restored block is checked as
    /// any other; the sources are not mended.
    ///
    /// # Errors
    /// [`Error::OtherLayout`] if the layout is not one for this tree.
    pub fn with_parity(self, source: impl ReadAt + 'a, layout: Layout) -> Result<Self, Error> {
        let parity = Parity { source: Box::new(source), layout };
        if !parity.fits(&self.params, &self.geometry) {
            return Err(Error::OtherLayout);
        }
        Ok(Self { parity: Some(parity), ..self })
    }

    /// How many bytes there are: those of the data blocks that the tree covers.
    #[must_use]
    pub const fn data_bytes(&self) -> u64 {
        self.geometry.data_bytes()
    }

    /// How many blocks were restored from parity so far. A data block that is read twice is restored and counted twice.
    #[must_use]
    pub fn repairs(&self) -> u64 {
        self.repairs.load(Ordering::Relaxed)
    }

    /// Reads verified bytes from `offset` on: as many as fit, up to the end of the data or the first block that is bad. 0 at the end, or if
    /// `buffer` is empty.
    ///
    /// # Errors
    /// If not one byte can be returned: [`Error::Corrupted`], or [`tree::Error::Read`]. The buffer then holds nothing of what was read.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize, Error> {
        let rest = self.data_bytes().saturating_sub(offset);
        let length = usize_of(rest).min(buffer.len());
        let mut done = 0;
        while done < length {
            match self.read_some(&mut buffer[done..length], offset + done as u64) {
                Ok(count) => done += count,
                Err(error) if done == 0 => return Err(error),
                // The next read begins with the error.
                Err(_) => break,
            }
        }
        Ok(done)
    }

    /// A stream over the data, which borrows this reader.
    pub const fn cursor(&self) -> Cursor<&Self> {
        Cursor::new(self, self.data_bytes())
    }

    /// A stream over the data, which shares this reader.
    pub fn into_cursor(self: Arc<Self>) -> Cursor<Arc<Self>> {
        let length = self.data_bytes();
        Cursor::new(self, length)
    }
}

/// Verified data are a source like any other: a tree within verified data, say.
impl ReadAt for VerityReader<'_> {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        Ok(VerityReader::read_at(self, buffer, offset)?)
    }
}

impl fmt::Debug for VerityReader<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { params, geometry, root, cache, parity, repairs, .. } = self;
        f.debug_struct("VerityReader")
            .field("params", params)
            .field("geometry", geometry)
            .field("root", root)
            .field("cache", cache)
            .field("parity", &parity.as_ref().map(|parity| &parity.layout))
            .field("repairs", repairs)
            .finish_non_exhaustive()
    }
}
