//! Repair: finding bad blocks through the tree, and restoring them from the parity.
//!
//! The tree tells *which* blocks are bad, so their places are known and the parity restores as many of a codeword as it has
//! bytes; who has no tree to ask gets half as far. And it tells what is right: a restored block counts only when it hashes to
//! what the root hash vouches for. So forged parity can at worst restore nothing.
//!
//! Work goes round by round through the parity's codewords, each of which is read once for all of its bad blocks, hash blocks and
//! data blocks alike. Blocks below a bad hash block can be judged only when that is restored: they are checked then, and what is
//! bad among them is next, until nothing more can be restored. Until then those that do not match it are suspects: places to be tried, since
//! what comes of them is checked like everything else. In the end everything is verified again.
//!
//! What is repaired: data blocks and hash blocks. A superblock is not covered by parity, nor are bytes of the hash device behind
//! the tree vouched for by anything; and a spare byte that was not zero when the tree was made cannot become zero.
//!
//! Memory, whatever the image's size: 64 MiB for the places of bad blocks and suspects (above a million they are taken in several batches,
//! each of which costs a verification), and for each thread `roots + 2` pieces of 64 KiB, or blocks where these are larger.

mod bad;
mod lenient;
mod map;
mod sweep;

use std::fmt;

pub use map::Restored;

use bad::BadBlocks;
use lenient::Lenient;
use map::Map;
use sweep::{Gains, Sweep};

use crate::block::RootHash;
use crate::fec::{Decoder, Layout};
use crate::geometry::Geometry;
use crate::io::{ReadAt, Storage};
use crate::params::Params;
use crate::progress::Phase;
use crate::tree::{self, Collector, Error, Fault, Finding, Options, Place, Runs, Tree, Witness};

/// How many places of bad blocks are kept at once.
const MOST_BAD_BLOCKS: usize = 1 << 20;

/// An image with its tree and its parity.
#[derive(Clone, Copy)]
pub struct Image<'a> {
    /// The data, restored blocks of which are written to their places. Nothing else is.
    pub data: &'a dyn Storage,
    /// The hash device, likewise. It can be the same as the data.
    pub hash: &'a dyn Storage,
    /// The parity, which is only read.
    pub parity: &'a dyn ReadAt,
    /// What the tree is made with.
    pub params: &'a Params,
    /// Where the tree lies.
    pub geometry: &'a Geometry,
    /// Where the parity lies.
    pub layout: &'a Layout,
    /// The root hash, from a trusted place.
    pub root: &'a RootHash,
}

impl fmt::Debug for Image<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Image")
            .field("params", self.params)
            .field("geometry", self.geometry)
            .field("layout", self.layout)
            .field("root", self.root)
            .finish_non_exhaustive()
    }
}

/// What a repair did, and what it could not do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// Data blocks that were restored.
    pub data_blocks: u64,
    /// Hash blocks that were restored.
    pub hash_blocks: u64,
    /// Bytes of these that were wrong.
    pub bytes: u64,
    /// The restored blocks, hash levels from the top down, then data. As many as [`max_findings`](Options::max_findings) says.
    pub restored: Vec<Restored>,
    /// What a verification finds now.
    pub remaining: tree::Report,
}

impl Report {
    /// Whether nothing had to be repaired.
    #[must_use]
    pub fn was_intact(&self) -> bool {
        self.restored_blocks() == 0 && self.is_complete()
    }

    /// Whether every block is now what the root hash says.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.remaining.is_intact()
    }

    /// How many blocks were restored.
    #[must_use]
    pub fn restored_blocks(&self) -> u64 {
        self.data_blocks + self.hash_blocks
    }
}

/// Restores all bad blocks that can be, writes them to their places, and verifies everything again.
///
/// Nothing is synced. A cut in the middle leaves some blocks restored and none worse than before, unless it tears a block; put a
/// [journal](crate::journal) behind `data` and `hash` where that matters, or where nothing is to be written unless all can be restored.
///
/// Blocks that cannot be read, and those behind the end of a device that is too short, are bad blocks; a storage that grows when it is written
/// behind its end gets them back.
///
/// ```
/// use verity_core::fec::{self, Layout, Roots};
/// use verity_core::geometry::{Geometry, HashArea};
/// use verity_core::io::{MemoryDevice, WriteAt};
/// use verity_core::repair::{Image, repair};
/// use verity_core::{params::Params, tree::Options};
///
/// let data = MemoryDevice::new(vec![7; 1000 * 4096]);
/// let (hash, parity) = (MemoryDevice::default(), MemoryDevice::default());
/// let params = Params::default();
/// let geometry = Geometry::new(&params, 1000, HashArea::bare(0))?;
/// let layout = Layout::new(&params, &geometry, geometry.hash_blocks(), Roots::default(), 0)?;
/// let options = Options::default();
/// let root = fec::build(&data, &hash, &parity, &params, &geometry, &layout, &options)?;
///
/// data.write_all_at(b"rot", 5000)?;
/// let image = Image {
///     data: &data, hash: &hash, parity: &parity,
///     params: &params, geometry: &geometry, layout: &layout, root: &root,
/// };
/// let report = repair(&image, &options)?;
/// assert!(report.is_complete());
/// assert_eq!((report.data_blocks, report.bytes), (1, 3));
/// assert_eq!(data.into_bytes(), vec![7; 1000 * 4096]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`Error::Write`], [`Error::RootHashSize`], [`Error::Cancelled`]; [`Error::Geometry`] if geometry or layout is not one for the
/// parameters; [`Error::Read`] if a block that could not be read still cannot be in the end. Blocks that could not be
/// restored are no error: they are in the [`Report`].
pub fn repair(image: &Image<'_>, options: &Options<'_>) -> Result<Report, Error> {
    repair_in_batches(image, options, MOST_BAD_BLOCKS)
}

fn repair_in_batches(image: &Image<'_>, options: &Options<'_>, most: usize) -> Result<Report, Error> {
    let Image { params, geometry, layout, root, .. } = *image;
    layout.check_geometry(params, geometry)?;
    let lenient = |device| Lenient::new(device, layout.block_size());
    let (data, hash, parity) = (lenient(image.data), lenient(image.hash), lenient(image.parity));
    let work = Work {
        map: Map::new(geometry, layout),
        tree: Tree::new(&data, &hash, params, geometry, root)?,
        // What it cannot read it knows to be missing.
        decoder: Decoder::new(image.data, image.hash, &parity, layout),
        image,
        options,
        most,
    };
    options.observer.begin(Phase::Verify, Some(geometry.data_bytes()));
    let (found, report) = work.check(0, None)?;
    if found.bad.is_empty() && !data.has_failed() && !hash.has_failed() {
        return Ok(Report { remaining: report, ..Report::default() });
    }
    let gains = Gains::new(options.max_findings);
    work.run(found, &gains)?;
    let remaining = tree::verify(image.data, image.hash, params, geometry, root, options)?;
    Ok(gains.into_report(remaining))
}

/// A repair that is under way.
struct Work<'a> {
    map: Map<'a>,
    tree: Tree<'a>,
    decoder: Decoder<'a>,
    image: &'a Image<'a>,
    options: &'a Options<'a>,
    most: usize,
}

impl Work<'_> {
    /// Finds bad blocks in rounds from `first_round` on: among the children in `runs`, a set for each level, or among all.
    fn check(&self, first_round: u64, runs: Option<&[Runs]>) -> Result<(Found<'_>, tree::Report), Error> {
        let found = Found {
            map: &self.map,
            bad: BadBlocks::new(first_round, self.most),
            suspects: BadBlocks::new(first_round, self.most),
        };
        let collector = Collector::with_witness(self.options.max_findings, &found);
        match runs {
            None => self.tree.check_all(&collector, self.options)?,
            Some(runs) => {
                for (level, runs) in runs.iter().enumerate().rev() {
                    self.tree.check_children(level, runs, &collector, self.options)?;
                }
            }
        }
        let report = collector.into_report();
        Ok((found, report))
    }

    /// Restores what was `found`, and what can be judged after that, until there is nothing more.
    fn run<'f>(&'f self, mut found: Found<'f>, gains: &Gains) -> Result<(), Error> {
        // Bad blocks that could not be restored. They may be, when more is known of their rounds.
        let (mut stuck, mut suspects) = (Vec::new(), Vec::new());
        // Where there are too many for one batch: its first round, and whether anything was restored since the first batch.
        let (mut first_round, mut gained) = (0, false);
        while first_round > 0 || !found.bad.is_empty() {
            let (fresh, next_round) = found.bad.into_keys();
            let known = bad::union(&stuck, &fresh);
            suspects = bad::union(&suspects, &found.suspects.into_keys().0);
            let sweep = Sweep {
                map: &self.map,
                tree: &self.tree,
                decoder: &self.decoder,
                image: self.image,
                suspects: &suspects,
            };
            let restored = sweep.run(&bad::in_rounds_of(&known, &fresh), gains, self.options)?;
            gained |= !restored.is_empty();
            found = if let Some(next) = next_round {
                (stuck, suspects) = (Vec::new(), Vec::new());
                first_round = next;
                self.check(next, None)?.0
            } else if first_round > 0 {
                if !gained {
                    break;
                }
                // Blocks of the batches before can be below what was restored since.
                (stuck, suspects) = (Vec::new(), Vec::new());
                (first_round, gained) = (0, false);
                self.check(0, None)?.0
            } else {
                let Some(runs) = self.map.below(&restored) else { break };
                stuck = bad::without(&known, &restored);
                // Those are judged now, or suspected again.
                suspects.retain(|&key| !self.map.is_in(key, &runs));
                self.check(0, Some(&runs))?.0
            };
        }
        Ok(())
    }
}

/// What a verification found.
struct Found<'a> {
    map: &'a Map<'a>,
    bad: BadBlocks,
    /// Below a bad hash block: what does not match it. A wrong guess costs a parity byte, and is then taken back.
    suspects: BadBlocks,
}

impl Witness for Found<'_> {
    fn found(&self, finding: &Finding) {
        // What is unverifiable may be right, and what is made so cannot be mended.
        if matches!(finding.fault, Fault::Digest { .. }) {
            self.bad.add(self.map.key(finding.place, finding.first_block));
        }
    }

    fn suspects(&self) -> bool {
        true
    }

    fn suspected(&self, place: Place, block: u64) {
        self.suspects.add(self.map.key(place, block));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::BlockSize;
    use crate::fec::{self, Roots};
    use crate::geometry::HashArea;
    use crate::io::{MemoryDevice, WriteAt};

    /// More bad blocks than there is room for, on all levels: every batch finds its own, and what is below a hash block of a later
    /// batch is found in the next cycle.
    #[test]
    fn batches_restore_what_one_would() {
        let params =
            Params { data_block_size: BlockSize::MIN, hash_block_size: BlockSize::MIN, ..Params::default() };
        let geometry = Geometry::new(&params, 20_000, HashArea::bare(0)).unwrap();
        let layout = Layout::new(&params, &geometry, geometry.hash_blocks(), Roots::MAX, 0).unwrap();
        let content: Vec<u8> =
            (0..20_000 * 512u32).map(|at| at.to_le_bytes()[1] ^ at.to_le_bytes()[2]).collect();
        let (data, hash) = (MemoryDevice::new(content.clone()), MemoryDevice::default());
        let parity = MemoryDevice::default();
        let options = Options { max_findings: 10, ..Options::default() };
        let root = fec::build(&data, &hash, &parity, &params, &geometry, &layout, &options).unwrap();
        let tree = hash.contents();

        let mut damaged = 0;
        for block in (0..20_000).step_by(41) {
            data.write_all_at(&[0xee; 512], block * 512).unwrap();
            damaged += 1;
        }
        for block in (0..geometry.hash_blocks()).step_by(23) {
            hash.write_all_at(&[0xdd; 512], block * 512).unwrap();
            damaged += 1;
        }
        let image = Image {
            data: &data,
            hash: &hash,
            parity: &parity,
            params: &params,
            geometry: &geometry,
            layout: &layout,
            root: &root,
        };
        let report = repair_in_batches(&image, &options, 256).unwrap();
        assert!(report.is_complete(), "{:?}", report.remaining);
        assert_eq!((report.restored_blocks(), report.restored.len()), (damaged, 10));
        assert!(data.into_bytes() == content && hash.into_bytes() == tree);
    }
}
