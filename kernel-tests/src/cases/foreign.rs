//! Images of others' making that show more than what their layers hold.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;

use anyhow::{Context as _, bail, ensure};
use verity_core::erofs;
use verity_core::erofs::format::{DEVICE_SLOT_SIZE, SUPERBLOCK_OFFSET, Superblock, compatible, incompatible};
use verity_core::geometry::{Geometry, HashArea};
use verity_core::mount::{Error, Layer, Options, mount};
use verity_core::params::Params;
use verity_core::tree;

use crate::case::{Case, OwnBoot};
use crate::guest::{Context, KernelObjects, Program, pattern};

use super::layers::directory;
use super::tools::{Tool, expect_refused};

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::new(
            "mount/further-devices",
            "an image that names a disk of the machine as its own is refused before the kernel sees it",
            further_devices,
        )
        .own_boot(OwnBoot { disks_mib: &[1], ..OwnBoot::default() }),
    ]
}

/// A layer of an image whoever made it, with a tree that matches.
fn hashed(context: &Context, name: &str, image: &[u8]) -> anyhow::Result<Layer> {
    let blob = context.path(name);
    let file = File::options().read(true).write(true).create_new(true).open(&blob)?;
    file.write_all_at(image, 0).context("writing an image")?;
    let params = Params::default();
    let size = u64::try_from(image.len())?;
    let blocks = size / params.data_block_size.as_u64();
    let geometry = Geometry::new(&params, blocks, HashArea::with_superblock(size)?)?;
    // A tree of a single block is its root hash alone, behind room for a superblock.
    file.set_len(geometry.hash_area_end()).context("enlarging a layer")?;
    let root_hash = tree::build(&file, &file, &params, &geometry, &tree::Options::default())?;
    Ok(Layer { blob, params, geometry, root_hash, parity: None })
}

fn further_devices(context: &mut Context) -> anyhow::Result<()> {
    const DISK: &str = "/dev/vda";
    // In the kernel's fs/erofs/erofs_fs.h: `struct erofs_deviceslot` begins with the tag, of 64 bytes.
    const TAG_SIZE: usize = 64;
    let superblock_at = usize::try_from(SUPERBLOCK_OFFSET)?;
    let tree = directory(context, "tree")?;
    fs::write(tree.join("secret"), pattern(8192, 3))?;
    let (image, content) = (context.path("image"), context.path("content"));
    Program::new("mkfs.erofs")
        .words("--quiet --chunksize=4096")
        .arg(format!("--blobdev={}", content.display()))
        .arg(&image)
        .arg(&tree)
        .succeed()?;
    fs::write(DISK, fs::read(&content)?)?;
    let mut bytes = fs::read(&image)?;
    bytes.resize(bytes.len().next_multiple_of(4096), 0);
    let superblock = Superblock::decode(bytes[superblock_at..][..Superblock::SIZE].try_into()?);
    ensure!(superblock.feature_incompat & incompatible::DEVICE_TABLE != 0, "{superblock:?}");
    ensure!(superblock.extra_devices == 1, "{superblock:?}");
    let slot = usize::from(superblock.device_slot) * usize::try_from(DEVICE_SLOT_SIZE)?;
    let tag = &mut bytes[slot..slot + TAG_SIZE];
    tag.fill(0);
    tag[..DISK.len()].copy_from_slice(DISK.as_bytes());
    let unchecked = Superblock {
        feature_compat: superblock.feature_compat & !compatible::CHECKSUM,
        checksum: 0,
        ..superblock.clone()
    };
    bytes[superblock_at..][..Superblock::SIZE].copy_from_slice(&unchecked.encode());

    let before = KernelObjects::now()?;
    let target = directory(context, "target")?;
    match mount(&[hashed(context, "named", &bytes)?], &target, &Options::default(), &()) {
        Err(Error::Refused { number: 1, source: erofs::Error::Devices(1), .. }) => {}
        other => bail!("an image with a further device: {other:?}"),
    }
    let (named, adopted) = (context.path("named-image"), context.path("adopted"));
    fs::write(&named, &bytes)?;
    expect_refused(Tool::Verity.run("layer adopt").arg(&named).arg(&adopted), 1, "further devices")?;
    ensure!(!adopted.exists(), "a layer was made of an image with a further device");

    // Nor does the kernel see what may mean anything.
    let unknown = Superblock { feature_incompat: 1 << 30, extra_devices: 0, ..unchecked };
    bytes[superblock_at..][..Superblock::SIZE].copy_from_slice(&unknown.encode());
    match mount(&[hashed(context, "unknown", &bytes)?], &target, &Options::default(), &()) {
        Err(Error::Refused { number: 1, source: erofs::Error::Features(bits), .. }) if bits == 1 << 30 => {}
        other => bail!("an image with an unknown feature: {other:?}"),
    }
    let left = before.leaks();
    ensure!(left.is_empty(), "left behind: {}", left.join(", "));
    Ok(())
}
