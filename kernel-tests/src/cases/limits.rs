//! Where a tree may lie, what is too small for it, and how many devices there can be.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use verity_core::device::{
    Deactivated, DeviceName, Error, Refusal, Removal, Role, Sharing, TableOptions, Verdict, activate,
    deactivate, list, query,
};
use verity_core::geometry::HashArea;
use verity_core::params::Params;

use crate::case::Case;
use crate::guest::{
    Context, KernelObjects, Program, device_mapper_devices, loop_devices, pattern, read_direct,
};

use super::image::{
    self, Image, Place, block_sizes, expect_absent, expect_eio, expect_refusal, expect_verdict, remove,
    side_by_side,
};

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::new(
            "limits/places",
            "a tree is found wherever it lies: apart or behind the data, with a superblock or without, at any offset",
            places,
        ),
        Case::new(
            "limits/short-files",
            "a file that ends too early is refused by role and both sizes",
            short_files,
        ),
        Case::new("limits/short-devices", "so is a block device", short_devices),
        Case::new(
            "limits/cut-in-use",
            "of a file that is cut while it is in use the rest cannot be read",
            cut,
        ),
        Case::new(
            "limits/block-devices",
            "block devices are used as they are and stay as they were",
            block_devices,
        ),
        Case::new(
            "limits/large-sectors",
            "a block smaller than its device's is refused, both sizes named",
            sectors,
        ),
        Case::new("limits/in-use", "a block device that something else is made of is refused", in_use),
        Case::new(
            "limits/uuid-taken",
            "of two long names that make one UUID the second is refused, and the UUID named",
            uuid_taken,
        ),
        Case::new(
            "limits/thousand",
            "1,000 activations and removals leave no device, loop device, key or descriptor",
            thousand,
        )
        .limit(600),
        Case::new("limits/fifty-open", "50 devices are open and read at once, each as its own", fifty_open),
    ]
}

fn places(context: &mut Context) -> anyhow::Result<()> {
    let apart = |area: HashArea| ("a file of its own", Place::Apart(area));
    let behind = |area: HashArea| ("the data's file", Place::WithData(area));
    // The data ends at 280 KiB.
    let end = 70 * 4096;
    for (file, place) in [
        apart(HashArea::with_superblock(0)?),
        apart(HashArea::with_superblock(512)?),
        apart(HashArea::with_superblock(1 << 20)?),
        apart(HashArea::bare(0)),
        apart(HashArea::bare(3 * 4096)),
        behind(HashArea::with_superblock(end)?),
        behind(HashArea::with_superblock(end + 3 * 512)?),
        behind(HashArea::bare(end)),
        behind(HashArea::bare(end + (1 << 20))),
    ] {
        let what = || format!("{place:?} in {file}");
        // Of many hash blocks, so that one too far is seen.
        let image =
            Image::build(context, block_sizes(4096, 1024)?, pattern(usize::try_from(end)?, 5), place)?;
        let active = image.activate("placed", TableOptions::default()).with_context(what)?;
        image.expect_whole(&active).with_context(what)?;
        let loops = loop_devices()?;
        let expected = if matches!(place, Place::WithData(_)) { 1 } else { 2 };
        ensure!(loops.len() == expected, "{}: expected {expected} loop devices, found {loops:?}", what());
        remove("placed")?;
    }
    Ok(())
}

/// Fails unless the activation is refused because this device has so many bytes and not enough.
fn expect_too_small(image: &Image, data: &Path, hash: &Path, role: Role, size: u64) -> anyhow::Result<()> {
    let mut activation = image.activation("short")?;
    activation.data = data.into();
    activation.hash = hash.into();
    match expect_refusal(&activation)? {
        Error::TooSmall { role: found_role, found, needed, .. } if (found_role, found) == (role, size) => {
            let expected = match role {
                Role::Data => image.geometry.data_bytes(),
                _ => image.geometry.hash_area_end(),
            };
            ensure!(needed == expected, "the {role} needs {expected} bytes, not {needed}");
            Ok(())
        }
        other => bail!("expected the {role} of {size} bytes to be too small, got: {other}"),
    }
}

fn short_files(context: &mut Context) -> anyhow::Result<()> {
    let image = Image::new(context, Params::default(), 200)?;
    for (path, role) in [(&image.data, Role::Data), (&image.hash, Role::Hash)] {
        let whole = fs::read(path)?;
        let file = File::options().write(true).open(path)?;
        for len in [whole.len() - 1, whole.len() - 512, whole.len() - 4096, 512, 1, 0] {
            let len = u64::try_from(len)?;
            file.set_len(len)?;
            expect_too_small(&image, &image.data, &image.hash, role, len)?;
        }
        ensure!(fs::metadata(path)?.len() == 0, "the {role} was written to");
        fs::write(path, whole)?;
    }
    let active = image.activate("short", TableOptions::default()).context("whole again")?;
    image.expect_whole(&active)?;
    remove("short")
}

/// A loop device of a user's own making, which stays until it is detached.
struct ByHand(PathBuf);

impl ByHand {
    fn attach(options: &str, file: &Path) -> anyhow::Result<Self> {
        let made =
            Program::new("losetup").words("--find --show --read-only").words(options).arg(file).succeed()?;
        Ok(Self(made.stdout.trim().into()))
    }

    fn detach(self) -> anyhow::Result<()> {
        Program::new("losetup").arg("--detach").arg(self.0).succeed().map(drop)
    }
}

fn short_devices(context: &mut Context) -> anyhow::Result<()> {
    let image = Image::new(context, Params::default(), 200)?;
    let [data, hash] = [&image.data, &image.hash].map(|file| ByHand::attach("", file));
    let (data, hash) = (data?, hash?);
    for (file, role) in [(&image.data, Role::Data), (&image.hash, Role::Hash)] {
        let len = fs::metadata(file)?.len() - 512;
        let short = ByHand::attach(&format!("--sizelimit {len}"), file)?;
        match role {
            Role::Data => expect_too_small(&image, &short.0, &hash.0, role, len)?,
            _ => expect_too_small(&image, &data.0, &short.0, role, len)?,
        }
        short.detach()?;
    }
    data.detach()?;
    hash.detach()
}

fn cut(context: &mut Context) -> anyhow::Result<()> {
    let image = Image::new(context, Params::default(), 64)?;
    let active = image.activate("cut", TableOptions::default())?;
    File::options().write(true).open(&image.data)?.set_len(32 * 4096)?;
    let kept = read_direct(&active.node, 0, 32 * 4096).context("what is left of the data")?;
    ensure!(kept == image.bytes[..kept.len()], "what is left of the data is not what it was");
    for block in [32, 40, 63] {
        expect_eio(image.read_block(&active, block), &format!("block {block}, which is gone"))?;
    }
    remove("cut")
}

fn block_devices(context: &mut Context) -> anyhow::Result<()> {
    let image = Image::new(context, Params::default(), 200)?;
    let [data, hash] = [&image.data, &image.hash].map(|file| ByHand::attach("", file));
    let (data, hash) = (data?, hash?);
    let before = loop_devices()?;
    ensure!(before.len() == 2, "expected two loop devices, found {before:?}");
    let mut activation = image.activation("devices")?;
    activation.data.clone_from(&data.0);
    activation.hash.clone_from(&hash.0);
    let active = activate(&activation)?;
    image.expect_whole(&active)?;
    ensure!(loop_devices()? == before, "the loop devices became {:?}", loop_devices()?);
    remove("devices")?;
    ensure!(loop_devices()? == before, "the loop devices became {:?}", loop_devices()?);

    // One of each kind.
    activation.hash.clone_from(&image.hash);
    let active = activate(&activation)?;
    image.expect_whole(&active)?;
    ensure!(loop_devices()?.len() == 3, "the loop devices became {:?}", loop_devices()?);
    remove("devices")?;
    data.detach()?;
    hash.detach()?;

    // Data and tree on one device.
    let area = HashArea::with_superblock(image.geometry.data_bytes())?;
    let image = Image::build(context, Params::default(), image.bytes, Place::WithData(area))?;
    let both = ByHand::attach("", &image.data)?;
    let mut activation = image.activation("devices")?;
    activation.data.clone_from(&both.0);
    activation.hash.clone_from(&both.0);
    let active = activate(&activation)?;
    image.expect_whole(&active)?;
    remove("devices")?;
    both.detach()
}

fn sectors(context: &mut Context) -> anyhow::Result<()> {
    let image = Image::new(context, block_sizes(1024, 2048)?, 200)?;
    for (file, role, block) in [(&image.data, Role::Data, 1024), (&image.hash, Role::Hash, 2048)] {
        let device = ByHand::attach("--sector-size 4096", file)?;
        let mut activation = image.activation("sectors")?;
        match role {
            Role::Data => activation.data.clone_from(&device.0),
            _ => activation.hash.clone_from(&device.0),
        }
        let error = expect_refusal(&activation)?;
        let expected = Refusal::BlockBelowSector { role, block, sector: 4096 };
        ensure!(
            matches!(&error, Error::Refused { refusal, .. } if *refusal == expected),
            "expected {expected}, got: {error}"
        );
        device.detach()?;
    }
    Ok(())
}

fn in_use(context: &mut Context) -> anyhow::Result<()> {
    let image = Image::new(context, Params::default(), 16)?;
    let device = ByHand::attach("", &image.data)?;
    let table = format!("0 8 linear {} 0", device.0.display());
    Program::new("dmsetup").words("create --readonly user --table").arg(table).succeed()?;
    let mut activation = image.activation("second")?;
    activation.data.clone_from(&device.0);
    match expect_refusal(&activation)? {
        Error::InUse { role: Role::Data, path, .. } if path == device.0 => {}
        other => bail!("expected {} to be in use, got: {other}", device.0.display()),
    }
    activation.sharing = Sharing::Shared;
    let active = activate(&activation).context("shared")?;
    image.expect_whole(&active)?;
    remove("second")?;
    Program::new("dmsetup").words("remove user").succeed()?;
    device.detach()
}

fn uuid_taken(context: &mut Context) -> anyhow::Result<()> {
    let image = Image::new(context, Params::default(), 16)?;
    // A UUID holds 128 bytes: not both the tree's UUID and a name of 127.
    let [first, second] = ["1", "2"].map(|end| format!("{}{end}", "n".repeat(DeviceName::MAX_SIZE - 1)));
    image.activate(&first, TableOptions::default())?;
    let taken = query(&first.parse()?)?.uuid.context("no UUID")?;
    match expect_refusal(&image.activation(&second)?)? {
        Error::UuidExists { name, uuid } if name.to_string() == second && uuid == taken => {}
        other => bail!("expected the UUID to be taken, got: {other}"),
    }
    remove(&first)?;
    image.activate(&second, TableOptions::default())?;
    remove(&second)
}

/// How many files this process has open.
fn descriptors() -> anyhow::Result<usize> {
    Ok(fs::read_dir("/proc/self/fd").context("/proc/self/fd")?.count())
}

fn thousand(context: &mut Context) -> anyhow::Result<()> {
    let image = Image::new(context, Params { salt: image::salt(), ..Params::default() }, 16)?;
    let (before, descriptors_before) = (KernelObjects::now()?, descriptors()?);
    let round = |name: &str| {
        let active = image.activate(name, TableOptions::default())?;
        ensure!(image.read_block(&active, 7)? == image.block(7)?, "{name} does not hold what it should");
        let gone = deactivate(&name.parse()?, Removal::Now).with_context(|| format!("removing {name}"))?;
        ensure!(gone == Deactivated::Removed { attached: Vec::new() }, "removing {name} left {gone:?}");
        ensure!(fs::symlink_metadata(&active.node).is_err(), "the node of {name} outlives it");
        Ok(())
    };
    // Under one name, so that each needs what the one before it had; then many names at a time.
    for _ in 0..50 {
        round("again")?;
    }
    let names: Vec<_> = (50..1000).map(|index| format!("one-of-many-{index}")).collect();
    side_by_side(&names, |name| round(name))?;
    let left = before.leaks();
    ensure!(left.is_empty(), "left behind: {}", left.join(", "));
    let descriptors = descriptors()?;
    ensure!(descriptors == descriptors_before, "{descriptors_before} descriptors became {descriptors}");
    Ok(())
}

fn fifty_open(context: &mut Context) -> anyhow::Result<()> {
    let image = Image::new(context, Params::default(), 16)?;
    let names: Vec<_> = (0..50).map(|index| format!("open{index:02}")).collect();
    side_by_side(&names, |name| image.activate(name, TableOptions::default()).map(drop))?;
    let files: Vec<_> = names.iter().map(|name| File::open(Path::new("/dev/mapper").join(name))).collect();
    let files = files.into_iter().collect::<Result<Vec<_>, _>>().context("opening all")?;
    ensure!(loop_devices()?.len() == 100, "expected 100 loop devices, found {}", loop_devices()?.len());

    let listed = list()?.into_iter().collect::<Result<Vec<_>, _>>()?;
    ensure!(
        listed.iter().map(|device| device.name.to_string()).eq(names.iter().cloned()),
        "listed: {listed:?}"
    );
    let mut below = BTreeSet::new();
    for device in &listed {
        ensure!(device.open_count == 1, "{} is open {} times", device.name, device.open_count);
        let table = &device.mapping.as_ref().context("no table")?.table;
        below.extend([table.data().to_string(), table.hash().to_string()]);
        image.expect_whole_at(&device.node()).with_context(|| device.name.to_string())?;
        expect_verdict(&device.name.to_string(), Verdict::Verified)?;
    }
    ensure!(below.len() == 100, "the devices share loop devices: {below:?}");

    // A busy one stays, and nothing about it changes.
    let busy = deactivate(&names[0].parse()?, Removal::Now);
    ensure!(matches!(busy, Err(Error::Busy { open_count: 1, .. })), "expected it to be busy, got {busy:?}");
    ensure!(query(&names[0].parse()?)? == listed[0], "{} changed", names[0]);
    drop(files);
    side_by_side(&names, |name| remove(name))?;
    names.iter().try_for_each(|name| expect_absent(name))?;
    ensure!(device_mapper_devices()?.is_empty(), "left: {:?}", device_mapper_devices()?);
    Ok(())
}
