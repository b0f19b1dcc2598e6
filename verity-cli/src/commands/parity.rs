//! Where the parity of a tree lies: by the options, and by what else is on its devices.

use std::ops::Range;
use std::path::{Path, PathBuf};

use verity_core::device::Fec;
use verity_core::fec::{Layout as Places, LayoutError};
use verity_core::geometry::Geometry;
use verity_core::params::Params;

use super::layout::Layout;
use crate::cli::options::FecOptions;
use crate::failure::{Code, Failure};
use crate::files::{Extent, Input, Role};
use crate::session::Session;

/// A tree's parity.
#[derive(Clone, Debug)]
pub(crate) struct Parity {
    pub(crate) device: PathBuf,
    pub(crate) places: Places,
    /// Whether the tree lies on the same device.
    pub(crate) with_hash: bool,
}

impl FecOptions {
    /// The FEC device, if there is one. The other two options mean nothing without it.
    pub(crate) fn device(&self, session: &Session) -> Result<Option<&Path>, Failure> {
        let lonely = [(self.fec_offset.is_some(), "--fec-offset"), (self.fec_roots.is_some(), "--fec-roots")];
        match (&self.fec_device, lonely.iter().find(|(given, _)| *given)) {
            (None, Some((_, option))) if !session.is_veritysetup() => {
                Err(Failure::argument(format_args!("{option} goes only with --fec-device"))
                    .hint("say with --fec-device where the parity is"))
            }
            (device, _) => Ok(device.as_deref()),
        }
    }
}

impl Parity {
    /// Lays out parity on `device`. What is covered of the hash device: the tree and what is behind it, up to `hash_length` or, on the
    /// same device, up to the parity.
    pub(crate) fn new(
        device: &Path,
        options: &FecOptions,
        params: &Params,
        geometry: &Geometry,
        with_hash: bool,
        hash_length: u64,
    ) -> Result<Self, Failure> {
        let offset = options.fec_offset.unwrap_or(0);
        let end = if with_hash { offset } else { hash_length };
        let covered = (end / params.hash_block_size.as_u64()).saturating_sub(geometry.hash_start_block());
        let hash_blocks = covered.max(geometry.hash_blocks());
        let roots = options.fec_roots.unwrap_or_default();
        let places =
            Places::new(params, geometry, hash_blocks, roots, offset).map_err(|error| bad_layout(&error))?;
        Ok(Self { device: device.to_owned(), places, with_hash })
    }

    /// Opens the FEC device of an existing tree, if the options name one.
    pub(crate) fn open(
        options: &FecOptions,
        tree: &Layout,
        data: &Input,
        hash: &Input,
        session: &Session,
    ) -> Result<Option<(Self, Input)>, Failure> {
        let Some(device) = options.device(session)? else { return Ok(None) };
        let input = Input::open(device, Role::Parity)?;
        let with_hash = input.extent == hash.extent;
        let parity = Self::new(device, options, &tree.params, &tree.geometry, with_hash, hash.size)?;
        parity.check_apart(input.extent, Some(data.extent), Some(hash.extent), &tree.geometry)?;
        let needed = parity.bytes().end;
        if input.size < needed {
            let found = input.size;
            return Err(Failure::new(
                Code::General,
                format_args!("FEC device {device:?} is too short: {found} bytes of {needed}"),
            )
            .hint("check --fec-roots and --fec-offset; a file that was truncated, 'verity fec encode' makes anew"));
        }
        Ok(Some((parity, input)))
    }

    /// The parity's bytes on its device.
    pub(crate) fn bytes(&self) -> Range<u64> {
        self.places.offset()..self.places.offset() + self.places.parity_bytes()
    }

    /// As the kernel takes it.
    pub(crate) fn for_kernel(self) -> Fec<PathBuf> {
        Fec {
            device: self.device,
            start_block: self.places.offset() / self.places.block_size().as_u64(),
            blocks: self.places.covered_blocks(),
            roots: self.places.roots(),
        }
    }

    /// How many blocks of parity there are.
    pub(crate) fn blocks(&self) -> u64 {
        self.places.parity_bytes() / self.places.block_size().as_u64()
    }

    /// Checks that no byte of the parity is another area's. `own`, `data` and `hash` are where the devices lie, as far as they exist.
    pub(crate) fn check_apart(
        &self,
        own: Extent,
        data: Option<Extent>,
        hash: Option<Extent>,
        geometry: &Geometry,
    ) -> Result<(), Failure> {
        let areas = [
            ("data", "Data area", data, 0..geometry.data_bytes()),
            ("hash area", "Hash area", hash, geometry.area().offset()..geometry.hash_area_end()),
        ];
        for (what, name, extent, area) in areas {
            if extent.is_some_and(|extent| own.overlaps(&self.bytes(), extent, &area)) {
                return Err(self.overlap(what, name, &area));
            }
        }
        Ok(())
    }

    /// Checks that it does not overlap the hash area on a device that holds both and does not exist yet.
    pub(crate) fn check_apart_from_hash(&self, geometry: &Geometry) -> Result<(), Failure> {
        let area = geometry.area().offset()..geometry.hash_area_end();
        let (own, overlap) = (self.bytes(), "hash area");
        if own.start < area.end && area.start < own.end {
            return Err(self.overlap(overlap, "Hash area", &area));
        }
        Ok(())
    }

    fn overlap(&self, what: &str, name: &str, area: &Range<u64>) -> Failure {
        let own = self.bytes();
        Failure::new(
            Code::General,
            format_args!(
                "{what} and parity overlap: both lie in the same file, the {what} in bytes {} to {} of its device and the \
                 parity in bytes {} to {} of the FEC device",
                area.start,
                area.end.saturating_sub(1),
                own.start,
                own.end - 1,
            ),
        )
        .hint("give a --fec-offset behind it, or another file for the parity")
        .veritysetup(Code::General, format_args!("{name} overlaps with FEC area."))
    }
}

/// Why parity cannot be laid out.
fn bad_layout(error: &LayoutError) -> Failure {
    let failure = Failure::argument(error);
    match error {
        LayoutError::BlockSizes { .. } => failure
            .hint("give --data-block-size and --hash-block-size the same value")
            .veritysetup(Code::General, "Block sizes must match for FEC."),
        LayoutError::Unaligned { block_size, .. } => failure
            .hint(format_args!("give a multiple of {block_size}: the kernel counts in blocks"))
            .veritysetup(Code::General, "Unsupported VERITY FEC offset."),
        LayoutError::Roots(_) => failure.veritysetup(Code::General, "Invalid number of parity bytes."),
        _ => failure.veritysetup(Code::General, "Device offset overflow."),
    }
}
