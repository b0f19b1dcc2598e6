//! Builds, verifies and activates dm-verity hash trees.
//!
//! A block image gets a tree of digests; the digest of the tree's top block, the root hash, vouches for every
//! byte of the image, and the kernel refuses each block that does not match. This library makes and checks such
//! trees, byte for byte as veritysetup and the kernel do, and (feature `device`, on by default, Linux only)
//! activates them through device-mapper.
//!
//! Four floors, each of which imports only those below:
//!
//! 1. Values, without I/O: [`algorithm`], [`block`], [`params`], [`superblock`], [`geometry`], [`signature`]. A
//!    value that exists is valid.
//! 2. Engines: [`digest`], [`tree`], [`fec`], [`repair`], [`reader`], [`erofs`], [`locate`], [`journal`], over the positions of [`io`], watched through
//!    [`progress`].
//! 3. Kernel: `device`; `mount`, which makes one root file system of layers.
//! 4. Products that put these together: `veritytab`; [`dialect`], the forms in which other projects describe layers; `layer` (feature `layer`, on by
//!    default), which makes layers from tars; and `oci` (feature `oci`, on by default), which reads whole images.
//!
//! # Building and verifying in memory
//!
//! ```
//! use verity_core::geometry::{Geometry, HashArea};
//! use verity_core::io::MemoryDevice;
//! use verity_core::{params::Params, tree};
//!
//! let data = vec![7; 1000 * 4096];
//! let params = Params::default();
//! let geometry = Geometry::new(&params, 1000, HashArea::bare(0))?;
//! let hash = MemoryDevice::default();
//! let root = tree::build(&data, &hash, &params, &geometry, &tree::Options::default())?;
//! let report = tree::verify(&data, &hash, &params, &geometry, &root, &tree::Options::default())?;
//! assert!(report.is_intact());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

// Input decides nothing here by a panic.
#![warn(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr)]

pub mod algorithm;
mod aligned;
pub mod block;
#[cfg(feature = "device")]
pub mod device;
pub mod dialect;
pub mod digest;
pub mod erofs;
pub mod fec;
pub mod geometry;
pub mod io;
pub mod journal;
#[cfg(feature = "layer")]
pub mod layer;
pub mod locate;
#[cfg(feature = "device")]
pub mod mount;
#[cfg(feature = "oci")]
pub mod oci;
pub mod params;
pub mod progress;
pub mod reader;
pub mod repair;
pub mod signature;
pub mod superblock;
pub mod tree;
#[cfg(feature = "device")]
pub mod veritytab;
mod workers;
