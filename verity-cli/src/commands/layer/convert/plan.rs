//! Which tree a dialect wants, and where.

use verity_core::algorithm::Algorithm;
use verity_core::block::BlockSize;
use verity_core::dialect::{Dialect, containerd, kata, nydus, vhd};
use verity_core::geometry::{Geometry, GeometryError, HashArea};
use verity_core::params::{HashType, Params};

use super::super::making::parity_behind;
use super::super::source::Layer;
use super::Arguments;
use crate::commands::Parity;
use crate::commands::layout::bad_geometry;
use crate::failure::{Code, Failure};

/// The tree of a layer that is to be made.
pub(super) struct Plan {
    pub(super) params: Params,
    pub(super) geometry: Geometry,
    /// Whether it is the tree that there is, at another place at most: then the root hash stays.
    pub(super) kept: bool,
    /// What is put behind the tree.
    pub(super) parity: Option<Parity>,
}

impl Plan {
    pub(super) fn new(arguments: &Arguments, layer: &Layer) -> Result<Self, Failure> {
        let to = arguments.to;
        let old = &layer.layout.params;
        let image_bytes = layer.layout.geometry.data_bytes();
        let params = params(to, old)?;
        let block_size = params.data_block_size.as_u64();
        let data_blocks = image_bytes.div_ceil(block_size);
        let lay_out = || {
            let data_bytes = data_blocks.checked_mul(block_size).ok_or(GeometryError::TooLarge)?;
            let area = match to {
                Dialect::Systemd | Dialect::Ddi => HashArea::with_superblock(0)?,
                Dialect::Nydus | Dialect::Kata => {
                    let next = data_bytes.checked_next_multiple_of(params.hash_block_size.as_u64());
                    HashArea::bare(next.ok_or(GeometryError::TooLarge)?)
                }
                _ => HashArea::with_superblock(data_bytes)?,
            };
            Geometry::new(&params, data_blocks, area)
        };
        let geometry = lay_out().map_err(|error| bad_geometry(&error))?;
        let kept = params == *old;
        let parity =
            arguments.fec_roots.map(|roots| parity_behind(&arguments.output, roots, &params, &geometry));
        let parity = parity.transpose()?;
        Ok(Self { params, geometry, kept, parity })
    }
}

/// The parameters that a dialect has for a tree like `old`: as few others as possible.
fn params(to: Dialect, old: &Params) -> Result<Params, Failure> {
    // As large as the old ones, where it has two sizes of blocks.
    let block_size =
        if old.data_block_size < BlockSize::default() { BlockSize::MIN } else { BlockSize::default() };
    let sha256 = Params { hash_type: HashType::Normal, algorithm: Algorithm::Sha256, ..old.clone() };
    match to {
        Dialect::Plain | Dialect::Systemd => Ok(old.clone()),
        Dialect::Containerd => {
            containerd::params(block_size).map_err(|error| Failure::new(Code::General, error))
        }
        Dialect::Vhd => Ok(vhd::params()),
        Dialect::Nydus => Ok(nydus::params(block_size)),
        Dialect::Kata => Ok(kata::params(old)),
        Dialect::Stacker | Dialect::Notation => Ok(sha256),
        // Two UUIDs hold 32 bytes.
        Dialect::Ddi if old.algorithm.digest_size() == 32 => Ok(old.clone()),
        Dialect::Ddi => Ok(sha256),
        other => Err(Failure::argument(format_args!("--to {other}: such a layer cannot be made here"))
            .hint("its EROFS metadata are made by 'mkfs.erofs --tar=i'; it can be read with --from")),
    }
}
