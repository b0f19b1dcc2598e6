//! Container layers: from a layer's tar, as images have them, to one file that the kernel mounts and checks block by block.
//!
//! [`build`] reads a tar (plain, gzip, zstd), which may come from anybody, makes an EROFS image of it, and puts a hash tree behind that and,
//! if wanted, parity. The source is read once, from front to back; its digests are made on the way. The result is the same
//! bytes whoever makes it, wherever and however often: nothing in it is random, and UUID and salt follow from the diffID. Only [`Options::parents`] brings in something that is
//! not in the tar. The file is described in `docs/layer-format.md`.
//!
//! The tree's salt follows from the diffID. Where that is given, with sha256, the image is hashed while it is written, and what is left for the end are the
//! levels above; where it is not, all of the tree is hashed when the image is complete. The file is the same. Parity is made at the end in any case.
//!
//! Memory: some megabytes for what is on its way, the leaves of the first 4 GiB of the image (32 MiB) where it is hashed while it is written, what the EROFS [writer](crate::erofs::write) keeps of each entry (bounded by [`Limits::entries`] and [`Limits::memory`]), and for zstd the window that the blob asks for, at most 128 MiB.

mod check;
mod compare;
mod compression;
mod digest;
mod error;
mod export;
mod identity;
mod import;
mod limits;
mod output;
mod parents;
mod pieces;
mod pipeline;
pub mod tar;
mod walk;
mod whiteout;

use std::io::Read;

pub use check::{Checked, check};
pub use compare::{Compared, Difference, Unread, compare};
pub use compression::Compression;
#[cfg(feature = "oci")]
pub(crate) use digest::Hasher;
pub use digest::{Digest, DigestError};
pub use error::{Error, Problem};
pub use export::{ExportError, Exported, export, export_as_it_is, export_file, export_file_at};
pub use identity::Identity;
pub use limits::Limits;
pub use parents::{Answer, Inherited, Parents, inherited};
#[cfg(feature = "oci")]
pub(crate) use whiteout::OPAQUE_ATTRIBUTE;

use crate::algorithm::Algorithm;
use crate::block::{BlockSize, RootHash, Salt};
use crate::erofs::write::{self, Writer};
use crate::fec::{self, Roots};
use crate::geometry::{Geometry, HashArea};
use crate::io::Storage;
use crate::params::Params;
use crate::superblock::Superblock;
use crate::tree::{self, Leaves};

/// How a layer is built.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Options<'a> {
    /// The block size of image, data and tree. 4096 by default, which every kernel mounts.
    pub block_size: BlockSize,
    /// What the tree is hashed with; sha256 by default.
    pub algorithm: Algorithm,
    /// How much parity is put behind the tree; none by default.
    pub roots: Option<Roots>,
    /// What the uncompressed tar's digest has to be.
    pub diff_id: Option<Digest>,
    /// What the blob's digest has to be.
    pub digest: Option<Digest>,
    /// How many bytes the blob has, where that is known: for progress, and for the limit on holes.
    pub blob_bytes: Option<u64>,
    /// How much the layer may make of its blob.
    pub limits: Limits,
    /// Who knows what directories have that have no entry in the tar; nobody by default, and the file follows from the tar alone.
    pub parents: Option<&'a dyn Parents>,
    /// Threads that hash, and who hears about progress.
    pub engine: tree::Options<'a>,
}

/// A layer that was built.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Built {
    /// The uncompressed tar's digest, with sha256.
    pub diff_id: Digest,
    /// The blob's digest, with sha256.
    pub digest: Digest,
    /// How the blob is compressed.
    pub compression: Compression,
    /// How many bytes the blob has.
    pub blob_bytes: u64,
    /// How many bytes the uncompressed tar has.
    pub tar_bytes: u64,
    /// How many entries the tar has.
    pub entries: u64,
    /// How many names of lower layers are hidden.
    pub whiteouts: u64,
    /// How many directories hide everything below them.
    pub opaque_directories: u64,
    /// How many extended attributes were left out, of kinds that Linux does not have.
    pub dropped_xattrs: u64,
    /// What directories without an entry were given; nothing where there is nobody to be asked.
    pub inherited: Inherited,
    /// The image.
    pub image: write::Summary,
    /// The UUID of image and tree.
    pub uuid: [u8; 16],
    /// What the tree is made with.
    pub params: Params,
    /// Where it lies.
    pub geometry: Geometry,
    /// Where the parity lies.
    pub parity: Option<fec::Layout>,
    /// What vouches for the image.
    pub root: RootHash,
}

/// Builds a layer from the blob `source` in `output`, which holds nothing but zeros yet. Nothing is synced, and what was written before an error is of no use.
///
/// `source` may answer `WouldBlock` where it waits (after waiting a while, a tenth of a second say): it is then asked again, unless the observer
/// cancelled, or the work is over because of an error. A source that does not is waited for.
///
/// A tar without an end marker is refused, unless a digest that is asked for says that it is whole.
///
/// # Errors
/// [`Error`]: what is wrong with the blob, its entries or its digests, and what failed.
pub fn build(source: impl Read + Send, output: &dyn Storage, options: &Options<'_>) -> Result<Built, Error> {
    let image_options = write::Options {
        block_size: options.block_size,
        // The root may have no entry.
        max_inodes: options.limits.entries.saturating_add(1),
        max_memory: options.limits.memory,
        ..write::Options::default()
    };
    let known = options.diff_id.is_some() || options.digest.is_some();
    // What the salt follows from: known now, or when the tar was read.
    let promised = options.diff_id.as_ref().filter(|digest| digest.algorithm() == Algorithm::Sha256);
    let leaves = promised.map(|diff_id| Leaves::new(&params(options, Identity::of(diff_id).salt)));
    let block_size = options.block_size.as_u64();
    let (image, imported, inherited, totals) =
        output::run(output, leaves.as_ref(), block_size, options.engine.threads, |target| {
            let mut writer = Writer::handing_to(target, image_options)?;
            let (imported, totals) = pipeline::run(source, options, |stream| {
                import::import(stream, &mut writer, &options.limits, known)
            })?;
            check_digests(options, &totals)?;
            writer.set_uuid(Identity::of(&totals.tar.sha256).uuid);
            // All of the blob was read: whoever has to wait for the answers keeps no connection waiting.
            let inherited = match options.parents {
                Some(parents) => parents::inherit(&mut writer, &imported.cut, parents, &options.limits)?,
                None => Inherited::default(),
            };
            Ok((writer.finish()?, imported, inherited, totals))
        })?;
    let Identity { uuid, salt } = Identity::of(&totals.tar.sha256);
    let params = params(options, salt);
    let area = HashArea::with_superblock(image.size)?;
    let geometry = Geometry::new(&params, image.blocks, area)?;
    let (root, parity) = seal(output, &params, &geometry, leaves, options)?;
    let superblock = Superblock { uuid, params: params.clone(), data_blocks: image.blocks };
    // A whole block, so that the file ends with one where there is no tree.
    let mut block = vec![0; options.block_size.bytes()];
    block[..Superblock::SIZE].copy_from_slice(&superblock.encode());
    let (device, offset, length) = (tree::Device::Hash, image.size, block.len());
    let written = output.write_all_at(&block, offset);
    written.map_err(|source| tree::Error::Write { device, offset, length, source })?;
    Ok(Built {
        diff_id: totals.tar.sha256,
        digest: totals.blob.sha256,
        compression: totals.compression,
        blob_bytes: totals.blob.length,
        tar_bytes: totals.tar.length,
        entries: imported.entries,
        whiteouts: imported.hidden.whiteouts,
        opaque_directories: imported.hidden.opaque_directories,
        dropped_xattrs: imported.dropped_xattrs,
        inherited,
        image,
        uuid,
        params,
        geometry,
        parity,
        root,
    })
}

/// Refuses a blob that is not the one that was asked for.
fn check_digests(options: &Options<'_>, totals: &pipeline::Totals) -> Result<(), Error> {
    for (what, expected, found) in
        [("digest", &options.digest, &totals.blob), ("diffID", &options.diff_id, &totals.tar)]
    {
        if let Some(expected) = expected
            && found.like(expected) != expected
        {
            let (expected, found) = (expected.clone(), found.like(expected).clone());
            return Err(Error::Mismatch { what, expected, found });
        }
    }
    Ok(())
}

fn params(options: &Options<'_>, salt: Salt) -> Params {
    Params {
        algorithm: options.algorithm,
        data_block_size: options.block_size,
        hash_block_size: options.block_size,
        salt,
        ..Params::default()
    }
}

/// Makes the tree, of `leaves` where these were hashed with the image, and the parity behind it.
fn seal(
    output: &dyn Storage,
    params: &Params,
    geometry: &Geometry,
    leaves: Option<Leaves>,
    options: &Options<'_>,
) -> Result<(RootHash, Option<fec::Layout>), Error> {
    let engine = &options.engine;
    let layout =
        |roots| fec::Layout::new(params, geometry, geometry.hash_blocks(), roots, geometry.hash_area_end());
    let layout = options.roots.map(layout).transpose()?;
    let root = match (leaves, &layout) {
        (Some(leaves), layout) => {
            let root = leaves.build(&output, output, geometry, engine)?;
            if let Some(layout) = layout {
                fec::encode(&output, &output, output, layout, engine)?;
            }
            root
        }
        (None, Some(layout)) => fec::build(&output, output, output, params, geometry, layout, engine)?,
        (None, None) => tree::build(&output, output, params, geometry, engine)?,
    };
    Ok((root, layout))
}
