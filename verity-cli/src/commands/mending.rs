//! What an image's parity is good for: found out without writing, or used.

use verity_core::block::RootHash;
use verity_core::fec;
use verity_core::io::Storage;
use verity_core::journal::Journal;
use verity_core::repair::{self, Image};
use verity_core::tree::{self, Device, Options};

use super::engine;
use super::layout::Layout;
use super::parity::Parity;
use crate::failure::{Code, Failure};
use crate::files::{Input, scratch};

/// An image with tree and parity, open.
pub(super) struct Mending<'a> {
    pub(super) data: &'a Input,
    pub(super) hash: &'a Input,
    pub(super) fec: &'a Input,
    pub(super) layout: &'a Layout,
    pub(super) parity: &'a Parity,
    pub(super) root: &'a RootHash,
}

/// What `verify` finds out with a FEC device.
pub(crate) struct Diagnosis {
    pub(crate) parity: Parity,
    pub(crate) finding: Finding,
}

/// Of an intact image the parity is checked, of another what it can restore.
pub(crate) enum Finding {
    /// So many blocks of parity are not what data and tree make; `None` if that was not looked at.
    Intact { differing: Option<u64> },
    /// What a repair would do.
    Damaged(repair::Report),
}

impl Diagnosis {
    /// What a verification would find after the repair, if there is something to repair.
    pub(super) const fn remaining(&self) -> Option<&tree::Report> {
        match &self.finding {
            Finding::Damaged(report) => Some(&report.remaining),
            Finding::Intact { .. } => None,
        }
    }
}

impl Mending<'_> {
    /// Repairs what is seen through `data` and `hash`, which stand for the devices.
    pub(super) fn repair(
        &self,
        data: &dyn Storage,
        hash: &dyn Storage,
        options: &Options<'_>,
    ) -> Result<repair::Report, Failure> {
        let image = Image {
            data,
            hash,
            parity: &self.fec.file,
            params: &self.layout.params,
            geometry: &self.layout.geometry,
            layout: &self.parity.places,
            root: self.root,
        };
        repair::repair(&image, options).map_err(|error| self.failure(&error))
    }

    /// Finds out what a repair would do. What it restores goes to temporary files, which nobody sees.
    pub(super) fn try_repair(&self, options: &Options<'_>) -> Result<repair::Report, Failure> {
        let (for_data, for_hash) = (scratch()?, scratch()?);
        let block_size = self.parity.places.block_size();
        let begin = |device, log| {
            Journal::begin(device, log, block_size, 0).map_err(|error| Failure::new(Code::General, error))
        };
        let data = begin(&self.data.file, &for_data)?;
        let hash = begin(&self.hash.file, &for_hash)?;
        self.repair(&data, &hash, options)
    }

    /// How many blocks of parity are not what data and tree make.
    pub(super) fn differing_parity(&self, options: &Options<'_>) -> Result<u64, Failure> {
        let (data, hash, fec) = (&self.data.file, &self.hash.file, &self.fec.file);
        fec::count_differing(data, hash, fec, &self.parity.places, options)
            .map_err(|error| self.failure(&error))
    }

    fn failure(&self, error: &tree::Error) -> Failure {
        engine::failure(error, |device| {
            let input = match device {
                Device::Data => self.data,
                Device::Parity => self.fec,
                _ => self.hash,
            };
            format!("{:?}", input.path)
        })
    }
}

impl Diagnosis {
    /// What is told when the image is damaged, or its parity: one sentence more, and what to do. `None` if all is well.
    pub(super) fn advice(&self) -> Option<(String, &'static str)> {
        match &self.finding {
            Finding::Intact { differing: None | Some(0) } => None,
            Finding::Intact { differing: Some(differing) } => Some((
                format!(
                    "data and tree are intact, but {differing} of {} parity blocks are not what they should be",
                    self.parity.blocks()
                ),
                "'verity fec encode' makes the parity anew; data and tree can be used as they are",
            )),
            Finding::Damaged(report) if report.is_complete() => Some((
                format!(
                    "repairable: the parity restores {}",
                    restored(report.data_blocks, report.hash_blocks)
                ),
                "'verity repair' restores them",
            )),
            Finding::Damaged(report) => Some((
                format!(
                    "beyond repair: the parity restores {}, and {}",
                    restored(report.data_blocks, report.hash_blocks),
                    remaining(&report.remaining)
                ),
                "fetch or build the image anew; 'verity repair --partial' restores what can be",
            )),
        }
    }

    /// The round of the first block that cannot be restored, as veritysetup counts what it calls blocks.
    pub(super) fn first_unrepairable_round(&self, layout: &Layout) -> u64 {
        let Finding::Damaged(report) = &self.finding else { return 0 };
        let rounds = self.parity.places.rounds();
        let geometry = &layout.geometry;
        let round = |finding: &tree::Finding| {
            let block = match finding.place {
                tree::Place::Data => finding.first_block,
                tree::Place::Hash { .. } => {
                    let on_device = finding.bytes.start / self.parity.places.block_size().as_u64();
                    geometry.data_blocks() + on_device.saturating_sub(geometry.hash_start_block())
                }
            };
            block % rounds
        };
        let bad = report.remaining.findings.iter().filter(|it| it.fault != tree::Fault::Unverifiable);
        bad.map(round).min().unwrap_or(0)
    }
}

/// Blocks that were or can be restored.
pub(super) fn restored(data_blocks: u64, hash_blocks: u64) -> String {
    let count = |count: u64, what: &str| format!("{count} {what} block{}", if count == 1 { "" } else { "s" });
    format!("{} and {}", count(data_blocks, "data"), count(hash_blocks, "hash"))
}

/// Blocks that were not or cannot be restored.
pub(super) fn remaining(report: &tree::Report) -> String {
    let tree::Report { bad_data_blocks, bad_hash_blocks, unverifiable_blocks, .. } = report;
    let mut text = format!("{} remain bad", restored(*bad_data_blocks, *bad_hash_blocks));
    if *unverifiable_blocks > 0 {
        text += &format!(", below which {unverifiable_blocks} blocks cannot be verified");
    }
    text
}
