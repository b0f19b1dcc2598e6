//! Images with their trees, made by the library in the guest, and what the cases ask of devices made of them.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::{Context as _, bail, ensure};
use nix::libc::EIO;
use verity_core::block::{BlockSize, RootHash, Salt};
use verity_core::device::{
    Activation, Active, Deactivated, DeviceName, Error, Removal, TableOptions, Verdict, activate, deactivate,
    query,
};
use verity_core::geometry::{Geometry, HashArea};
use verity_core::io::WriteAt as _;
use verity_core::params::Params;
use verity_core::superblock::Superblock;
use verity_core::tree;

use crate::guest::{Context, KernelObjects, pattern, read_direct};

/// The UUID in the superblocks made here, and in the UUIDs of the devices.
pub(super) const UUID: [u8; 16] = *b"kernel-tests\0\0\0\x01";

/// A salt of odd length, so that nothing falls on a boundary by chance.
pub(super) fn salt() -> Salt {
    Salt::new(b"thirty-three bytes, all of them\0\xff").unwrap_or_default()
}

/// Data blocks and hash blocks of these sizes, the rest as usual.
pub(super) fn block_sizes(data: u32, hash: u32) -> anyhow::Result<Params> {
    Ok(Params {
        data_block_size: BlockSize::new(data)?,
        hash_block_size: BlockSize::new(hash)?,
        salt: salt(),
        ..Params::default()
    })
}

/// Where a tree is put.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place {
    /// Into a file of its own.
    Apart(HashArea),
    /// Into the data's file.
    WithData(HashArea),
}

/// Data and its tree, in files.
pub(super) struct Image {
    /// The file with the data.
    pub(super) data: PathBuf,
    /// The file with the tree.
    pub(super) hash: PathBuf,
    /// What the tree was made with.
    pub(super) params: Params,
    /// Where everything is.
    pub(super) geometry: Geometry,
    /// What the tree vouches with.
    pub(super) root: RootHash,
    /// What the data was when the tree was made.
    pub(super) bytes: Vec<u8>,
    uuid: Option<[u8; 16]>,
}

impl Image {
    /// `blocks` blocks, no two of them alike, and their tree behind a superblock in a file of its own.
    pub(super) fn new(context: &Context, params: Params, blocks: u64) -> anyhow::Result<Self> {
        let len = usize::try_from(blocks)? * params.data_block_size.bytes();
        let area = HashArea::with_superblock(0)?;
        Self::build(context, params, pattern(len, blocks), Place::Apart(area))
    }

    /// An image of `bytes`. Files of an earlier image of the same case are overwritten.
    pub(super) fn build(
        context: &Context,
        params: Params,
        bytes: Vec<u8>,
        place: Place,
    ) -> anyhow::Result<Self> {
        let blocks = u64::try_from(bytes.len())? / params.data_block_size.as_u64();
        let data = context.path("data");
        let (hash, area) = match place {
            Place::Apart(area) => (context.path("hash"), area),
            Place::WithData(area) => (data.clone(), area),
        };
        let geometry = Geometry::new(&params, blocks, area)?;
        fs::write(&data, &bytes).context("writing the data")?;
        if matches!(place, Place::Apart(_)) {
            File::create(&hash).context("emptying the hash file")?;
        }
        let file = File::options().read(true).write(true).open(&hash).context("opening the hash file")?;
        let root = tree::build(&bytes, &file, &params, &geometry, &tree::Options::default())?;
        let mut uuid = None;
        if area.has_superblock() {
            let superblock = Superblock { uuid: UUID, params: params.clone(), data_blocks: blocks };
            file.write_all_at(&superblock.encode(), area.offset())?;
            uuid = Some(UUID);
        }
        // Where there is no tree the superblock alone does not fill the hash block that it is in.
        let len = file.metadata().context("the hash file")?.len();
        file.set_len(len.max(geometry.hash_area_end())).context("growing the hash file")?;
        Ok(Self { data, hash, params, geometry, root, bytes, uuid })
    }

    /// What activates it as `name`.
    pub(super) fn activation(&self, name: &str) -> anyhow::Result<Activation> {
        let Self { data, hash, params, geometry, root, .. } = self;
        let (params, geometry) = (params.clone(), geometry.clone());
        let mut activation = Activation::new(name.parse()?, data, hash, params, geometry, *root);
        activation.uuid = self.uuid;
        Ok(activation)
    }

    /// Activates it with these options.
    pub(super) fn activate(&self, name: &str, options: TableOptions) -> anyhow::Result<Active> {
        let mut activation = self.activation(name)?;
        activation.options = options;
        activate(&activation).with_context(|| format!("activating {name}"))
    }

    /// One data block.
    pub(super) fn block(&self, index: u64) -> anyhow::Result<&[u8]> {
        let size = self.params.data_block_size.bytes();
        let start = usize::try_from(index)? * size;
        self.bytes.get(start..start + size).with_context(|| format!("the image has no block {index}"))
    }

    /// Reads one data block of an active device past the page cache.
    pub(super) fn read_block(&self, active: &Active, index: u64) -> io::Result<Vec<u8>> {
        let size = self.params.data_block_size;
        read_direct(&active.node, index * size.as_u64(), size.bytes())
    }

    /// Fails unless the whole device reads as the data was.
    pub(super) fn expect_whole(&self, active: &Active) -> anyhow::Result<()> {
        self.expect_whole_at(&active.node)
    }

    /// Fails unless the whole of what is at `node` reads as the data was.
    pub(super) fn expect_whole_at(&self, node: &Path) -> anyhow::Result<()> {
        let read = read_direct(node, 0, self.bytes.len()).context("reading the whole device")?;
        ensure!(read == self.bytes, "the device does not hold what its data file holds");
        Ok(())
    }
}

/// Fails unless a read was refused with the error that dm-verity gives for a block that it does not let through.
pub(super) fn expect_eio(read: io::Result<Vec<u8>>, what: &str) -> anyhow::Result<()> {
    match read {
        Err(error) if error.raw_os_error() == Some(EIO) => Ok(()),
        Err(error) => bail!("expected EIO of {what}, got {error}"),
        Ok(_) => bail!("expected EIO of {what}, but it was read"),
    }
}

/// Fails unless the kernel says this of the device.
pub(super) fn expect_verdict(name: &str, expected: Verdict) -> anyhow::Result<()> {
    let mapping = query(&name.parse()?)?.mapping.with_context(|| format!("{name} has no table"))?;
    let found = mapping.status.verdict;
    ensure!(found == expected, "expected {name} to be {expected}, it is {found}");
    Ok(())
}

/// Removes a device; fails unless it and the loop devices below it are gone.
pub(super) fn remove(name: &str) -> anyhow::Result<()> {
    let gone = deactivate(&name.parse()?, Removal::Now).with_context(|| format!("removing {name}"))?;
    ensure!(gone == Deactivated::Removed { attached: Vec::new() }, "removing {name} left {gone:?}");
    expect_absent(name)
}

/// Fails if there is a device of this name, or a node.
pub(super) fn expect_absent(name: &str) -> anyhow::Result<()> {
    let name: DeviceName = name.parse()?;
    let left = query(&name);
    ensure!(matches!(left, Err(Error::NotActive { .. })), "expected {name} to be gone, found {left:?}");
    ensure!(fs::symlink_metadata(name.node()).is_err(), "{} outlives its device", name.node().display());
    Ok(())
}

/// Runs an activation that must fail. Fails itself if anything is left behind.
pub(super) fn expect_refusal(activation: &Activation) -> anyhow::Result<Error> {
    let before = KernelObjects::now()?;
    let name = &activation.name;
    let error = match activate(activation) {
        Ok(active) => bail!("expected the activation of {name} to fail, but it is {:?}", active.status),
        Err(error) => error,
    };
    expect_absent(&name.to_string())?;
    let left = before.leaks();
    ensure!(left.is_empty(), "{error}: and left behind: {}", left.join(", "));
    Ok(error)
}

/// Does `work` for each of `items`, several at a time: a device takes milliseconds of work to go, and many more of the
/// kernel's waiting for its own grace periods, which those that go together share.
///
/// All are done even if one fails; the error is the first one's.
pub(super) fn side_by_side<T: Sync>(
    items: &[T],
    work: impl Fn(&T) -> anyhow::Result<()> + Sync,
) -> anyhow::Result<()> {
    const THREADS: usize = 12;
    let next = AtomicUsize::new(0);
    let take = || items.get(next.fetch_add(1, Ordering::Relaxed));
    let worker = || std::iter::from_fn(take).map(&work).fold(Ok(()), anyhow::Result::and);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..THREADS).map(|_| scope.spawn(worker)).collect();
        let results =
            workers.into_iter().map(|worker| worker.join().unwrap_or_else(|_| bail!("a thread panicked")));
        results.fold(Ok(()), anyhow::Result::and)
    })
}
