//! Verified data, as `cat` and `extract` read them.

use std::path::PathBuf;

use clap::Args;
use verity_core::block::RootHash;
use verity_core::reader::{self, VerityReader};
use verity_core::tree::{Device, Options, Place};

use super::engine;
use super::layout::Layout;
use super::parity::Parity;
use super::root::{self, RootArguments};
use super::verify::Check;
use crate::cli::options::{AreaOptions, FecOptions, TreeOptions};
use crate::failure::{Code, Failure};
use crate::files::{Input, Role};
use crate::session::Session;

/// What is read, and what it is checked against.
#[derive(Args, Clone, Debug)]
pub(super) struct SourceArguments {
    /// The data: a file or a block device
    pub(super) data: PathBuf,

    /// Where the hash tree is: a file or a block device
    pub(super) hash: PathBuf,

    #[command(flatten)]
    pub(super) root: RootArguments,
}

/// Where tree and parity are, and what they are made with.
#[derive(Args, Clone, Debug)]
pub(super) struct TreeArguments {
    #[command(flatten)]
    tree: TreeOptions,
    #[command(flatten)]
    area: AreaOptions,
    #[command(flatten)]
    fec: FecOptions,
}

/// Data with their tree and, as the case may be, parity, open for reading.
pub(super) struct Source {
    pub(super) data: Input,
    pub(super) hash: Input,
    pub(super) layout: Layout,
    pub(super) root: RootHash,
    parity: Option<(Parity, Input)>,
}

impl Source {
    pub(super) fn open(
        source: &SourceArguments,
        tree: &TreeArguments,
        session: &Session,
    ) -> Result<Self, Failure> {
        let text = source.root.text(session)?;
        let hash = Input::open(&source.hash, Role::Hash)?;
        let data = Input::open(&source.data, Role::Data)?;
        let layout = Layout::of_existing(&data, &hash, &tree.area, &tree.tree, session)?;
        let root = root::parse(&text, layout.params.algorithm)?;
        let parity = Parity::open(&tree.fec, &layout, &data, &hash, session)?;
        Ok(Self { data, hash, layout, root, parity })
    }

    pub(super) fn reader(&self) -> Result<VerityReader<'_>, Failure> {
        let Layout { params, geometry, .. } = &self.layout;
        let (data, hash) = (&self.data.file, &self.hash.file);
        let reader = VerityReader::new(data, hash, params.clone(), geometry.clone(), self.root);
        let reader = match &self.parity {
            None => reader,
            Some((parity, device)) => {
                reader.and_then(|reader| reader.with_parity(&device.file, parity.places.clone()))
            }
        };
        reader.map_err(|error| Failure::new(Code::General, error))
    }

    /// The failure that a reader's error is. `name` is what the user called a device.
    pub(super) fn failure(
        &self,
        error: &reader::Error,
        options: &Options<'_>,
        name: impl Fn(Device) -> String,
    ) -> Failure {
        match error {
            reader::Error::Corrupted { place, .. } if self.is_top(*place) => {
                let check = Check { data: &self.data, hash: &self.hash, layout: &self.layout };
                check.refuse_other_root(&self.root, options).err().unwrap_or_else(|| corrupted(error))
            }
            reader::Error::Corrupted { .. } => corrupted(error),
            reader::Error::Tree(error) => engine::failure(error, name),
            error => Failure::new(Code::General, error),
        }
    }

    /// What the user called the devices that are read.
    pub(super) fn name(&self, device: Device) -> String {
        let path = match (device, &self.parity) {
            (Device::Data, _) => &self.data.path,
            (Device::Parity, Some((parity, _))) => &parity.device,
            _ => &self.hash.path,
        };
        format!("{path:?}")
    }

    /// Tells that blocks were restored, which they will have to be again.
    pub(super) fn tell_repairs(&self, reader: &VerityReader<'_>, session: &Session) {
        let repairs = reader.repairs();
        if repairs > 0 {
            session.note(&format!(
                "{repairs} blocks were restored from parity; 'verity repair' mends the files"
            ));
        }
    }

    /// Whether it is the root hash itself that a block there is compared with.
    fn is_top(&self, place: Place) -> bool {
        let levels = self.layout.geometry.levels().len();
        match place {
            Place::Data => levels == 0,
            Place::Hash { level } => level + 1 == levels,
        }
    }
}

pub(super) fn corrupted(error: &reader::Error) -> Failure {
    Failure::new(Code::Refused, error)
        .hint("do not use this image; fetch or build it anew ('verity verify' lists every bad block)")
}
