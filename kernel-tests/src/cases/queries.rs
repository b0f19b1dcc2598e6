//! What the library says of devices, and which it leaves alone.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use nix::mount::{MsFlags, mount, umount};
use nix::sys::stat::{major, minor};
use verity_core::device::{
    Deactivated, DeviceInfo, DeviceName, DeviceRef, Error, Removal, TableOptions, Verdict, backing_file,
    cancel_deferred, deactivate, list, node_of, query,
};
use verity_core::geometry::HashArea;
use verity_core::params::Params;

use crate::case::Case;
use crate::guest::{Context, Program, device_mapper_devices, loop_devices};

use super::image::{Image, Place, expect_absent, remove};

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::new("queries/facts", "a query gives name, UUID, number, size, table, status and files", facts),
        Case::new(
            "queries/open-count",
            "a query counts who has the device open, and a mount once",
            open_count,
        ),
        Case::new("queries/read-only", "a device cannot be written to", read_only),
        Case::new(
            "queries/deferred",
            "a removal that is put off is told, can be taken back, and happens",
            deferred,
        ),
        Case::new("queries/list", "the list has every verity device, whoever made it, and no other", listed),
        Case::new(
            "queries/odd-names",
            "names that only other tools can make hide nothing in the list",
            odd_names,
        ),
        Case::new("queries/unfinished", "a device without a table is told and can be removed", unfinished),
        Case::new("queries/suspended", "a suspended device is told and can be removed", suspended),
        Case::new(
            "queries/foreign",
            "a device that is not dm-verity's is neither described nor touched",
            foreign,
        ),
        Case::new("queries/absent", "a device that is not there is told from other failures", absent),
        Case::new(
            "queries/node",
            "without udev a node is there as long as its device, of the usual kind",
            node,
        ),
    ]
}

const NAME: &str = "queried";

fn name() -> anyhow::Result<DeviceName> {
    Ok(NAME.parse()?)
}

fn active(context: &Context) -> anyhow::Result<(Image, DeviceInfo)> {
    let image = Image::new(context, Params::default(), 40)?;
    image.activate(NAME, TableOptions::default())?;
    let info = query(&name()?)?;
    Ok((image, info))
}

/// The file behind a device of the table.
fn file_behind(device: &DeviceRef) -> anyhow::Result<PathBuf> {
    match device {
        DeviceRef::Number(number) => {
            backing_file(*number).with_context(|| format!("no file behind {number}"))
        }
        DeviceRef::Path(path) => bail!("the kernel names a device by its path, {}", path.as_path().display()),
    }
}

fn facts(context: &mut Context) -> anyhow::Result<()> {
    let (image, info) = active(context)?;
    let uuid = "CRYPT-VERITY-6b65726e656c2d746573747300000001-queried";
    ensure!(info.name == name()? && info.uuid.as_deref() == Some(uuid), "{info:?}");
    ensure!((info.open_count, info.suspended, info.deferred_remove) == (0, false, false), "{info:?}");
    ensure!(info.read_only, "not read-only: {info:?}");
    ensure!(
        node_of(info.number) == Some(info.node()),
        "the node of {} is not {:?}",
        info.number,
        info.node()
    );
    let mapping = info.mapping.context("no table")?;
    ensure!(mapping.sectors == 40 * 8 && mapping.table.sectors() == 40 * 8, "{mapping:?}");
    ensure!(mapping.status.verdict == Verdict::Verified, "{mapping:?}");
    let table = &mapping.table;
    ensure!(*table.params() == image.params && *table.root_hash() == image.root, "{table}");
    for (device, file) in [(table.data(), &image.data), (table.hash(), &image.hash)] {
        let behind = file_behind(device)?;
        ensure!(behind == *file, "{} is not {}", behind.display(), file.display());
    }
    remove(NAME)
}

fn open_count(context: &mut Context) -> anyhow::Result<()> {
    let (_, info) = active(context)?;
    let expect = |count: u32, what: &str| {
        let found = query(&name()?)?.open_count;
        ensure!(found == count, "open {found} times {what}");
        Ok(())
    };
    let node = info.node();
    let first = File::open(&node)?;
    expect(1, "by one file")?;
    // The kernel opens a device once for all files.
    let second = File::open(&node)?;
    let both = query(&name()?)?.open_count;
    ensure!((1..=2).contains(&both), "open {both} times by two files");
    drop(first);
    expect(1, "by the other file")?;
    drop(second);
    expect(0, "by nobody")?;
    remove(NAME)?;

    let (tree, image) = (context.path("tree"), context.path("image"));
    fs::create_dir(&tree).context("a folder for an image")?;
    fs::write(tree.join("greeting"), "hello")?;
    Program::new("mkfs.erofs").arg(&image).arg(&tree).succeed()?;
    let mounted = Image::build(
        context,
        Params::default(),
        fs::read(&image)?,
        Place::Apart(HashArea::with_superblock(0)?),
    )?;
    mounted.activate(NAME, TableOptions::default())?;
    let target = context.path("mounted");
    fs::create_dir(&target).context("a folder to mount on")?;
    let flags = MsFlags::MS_RDONLY;
    mount(Some(&node), &target, Some("erofs"), flags, None::<&str>).context("mounting")?;
    ensure!(fs::read_to_string(target.join("greeting"))? == "hello", "not what was put into the image");
    expect(1, "by a mount")?;
    match deactivate(&name()?, Removal::Now) {
        Err(Error::Busy { open_count: 1, device, .. }) if device == info.number => {}
        other => bail!("expected a mounted device to be busy, got {other:?}"),
    }
    umount(&target).context("unmounting")?;
    expect(0, "by nobody")?;
    remove(NAME)
}

fn read_only(context: &mut Context) -> anyhow::Result<()> {
    let (_, info) = active(context)?;
    // The kernel lets it be opened for writing, and then refuses to write.
    let written =
        File::options().write(true).open(info.node()).and_then(|node| node.write_all_at(&[0; 4096], 0));
    ensure!(
        written.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied),
        "writing to a verity device gave {written:?}"
    );
    let attribute = format!("/sys/dev/block/{}/ro", info.number);
    let attribute = fs::read_to_string(&attribute).context(attribute)?;
    ensure!(attribute.trim() == "1", "the kernel takes it for writable");
    remove(NAME)
}

fn deferred(context: &mut Context) -> anyhow::Result<()> {
    let (image, info) = active(context)?;
    let user = File::open(info.node())?;
    let put_off = |expected: bool| {
        let found = query(&name()?)?.deferred_remove;
        ensure!(found == expected, "deferred_remove is {found}");
        Ok(())
    };
    let put = deactivate(&name()?, Removal::Deferred)?;
    ensure!(put == Deactivated::Deferred, "{put:?}");
    put_off(true)?;
    // Nobody will be there to remove the node when the device goes.
    ensure!(fs::symlink_metadata(info.node()).is_err(), "the node stayed");
    cancel_deferred(&name()?)?;
    put_off(false)?;
    drop(user);
    image.expect_whole_at(&info.node()).context("after the removal was taken back")?;

    let user = File::open(info.node()).context("opening it again")?;
    ensure!(deactivate(&name()?, Removal::Deferred)? == Deactivated::Deferred, "not put off");
    drop(user);
    let deadline = Instant::now() + Duration::from_secs(20);
    while !(device_mapper_devices()?.is_empty() && loop_devices()?.is_empty()) {
        ensure!(Instant::now() < deadline, "the device or its loop devices outlive its last user");
        thread::sleep(Duration::from_millis(2));
    }
    expect_absent(NAME)?;
    // Of a device that nobody uses the removal is not put off.
    image.activate(NAME, TableOptions::default())?;
    let gone = deactivate(&name()?, Removal::Deferred)?;
    ensure!(gone == Deactivated::Removed { attached: Vec::new() }, "{gone:?}");
    expect_absent(NAME)
}

fn dmsetup(words: &str) -> Program {
    Program::new("dmsetup").words(words)
}

fn listed(context: &mut Context) -> anyhow::Result<()> {
    let (image, info) = active(context)?;
    ensure!(list()?.len() == 1, "{:?}", list()?);
    // The C tool's, one that was made by hand, and one that is no verity device.
    let root = image.root.to_string();
    Program::new("veritysetup")
        .arg("open")
        .args([&image.data, Path::new("ctool"), &image.hash])
        .arg(root)
        .succeed()?;
    let loops: Vec<_> = [&image.data, &image.hash]
        .into_iter()
        .map(|file| {
            Ok(Program::new("losetup").words("--find --show --read-only").arg(file).succeed()?.stdout)
        })
        .collect::<anyhow::Result<_>>()?;
    let table = info.mapping.context("no table")?.table.to_string();
    let mut words: Vec<&str> = table.split(' ').collect();
    (words[1], words[2]) = (loops[0].trim(), loops[1].trim());
    let table = format!("0 320 verity {}", words.join(" "));
    dmsetup("create by-hand --readonly --table").arg(table).succeed()?;
    dmsetup("create other --table").arg("0 8 error").succeed()?;
    let found = list()?.into_iter().collect::<Result<Vec<_>, _>>()?;
    let names: Vec<_> = found.iter().map(|device| device.name.to_string()).collect();
    ensure!(names == ["by-hand", "ctool", NAME], "{names:?}");
    ensure!(found[0].uuid.is_none(), "{:?}", found[0]);
    ensure!(found[1].uuid.as_ref().is_some_and(|uuid| uuid.starts_with("CRYPT-VERITY-")), "{:?}", found[1]);
    for device in &found {
        let mapping = device.mapping.as_ref().context("no table")?;
        ensure!(*mapping.table.root_hash() == image.root, "{device:?}");
        ensure!(*device == query(&device.name)?, "a query says otherwise than {device:?}");
    }
    // All of them are verity devices, and are removed as such.
    for device in &found {
        let gone = deactivate(&device.name, Removal::Now)?;
        ensure!(gone == Deactivated::Removed { attached: Vec::new() }, "{}: {gone:?}", device.name);
    }
    ensure!(device_mapper_devices()? == ["other"], "left: {:?}", device_mapper_devices()?);
    dmsetup("remove other").succeed()?;
    for device in loops {
        Program::new("losetup").arg("--detach").arg(device.trim()).succeed()?;
    }
    Ok(())
}

fn odd_names(context: &mut Context) -> anyhow::Result<()> {
    active(context)?;
    let odd = ["odd name", "gr\u{f6}\u{df}e"];
    for name in odd {
        dmsetup("--manglename none create").arg(name).args(["--table", "0 8 error"]).succeed()?;
    }
    let found = list()?.into_iter().collect::<Result<Vec<_>, _>>()?;
    for name in odd {
        dmsetup("--manglename none remove").arg(name).succeed()?;
    }
    ensure!(found.len() == 1 && found[0].name == name()?, "{found:?}");
    remove(NAME)
}

fn unfinished(_: &mut Context) -> anyhow::Result<()> {
    dmsetup("create queried --notable --uuid CRYPT-VERITY-queried").succeed()?;
    let info = query(&name()?)?;
    ensure!(info.mapping.is_none(), "{info:?}");
    ensure!(list()?.len() == 1, "{:?}", list()?);
    remove(NAME)
}

fn suspended(context: &mut Context) -> anyhow::Result<()> {
    let (_, before) = active(context)?;
    dmsetup("suspend queried").succeed()?;
    let info = query(&name()?)?;
    ensure!(info == DeviceInfo { suspended: true, ..before }, "{info:?}");
    remove(NAME)
}

fn foreign(_: &mut Context) -> anyhow::Result<()> {
    dmsetup("create queried --table").arg("0 8 error").succeed()?;
    let name = name()?;
    for (what, result) in [
        ("query", query(&name).map(drop)),
        ("removal", deactivate(&name, Removal::Now).map(drop)),
        ("deferred removal", deactivate(&name, Removal::Deferred).map(drop)),
        ("cancelling", cancel_deferred(&name)),
    ] {
        match result {
            Err(Error::NotVerity { found, .. }) if found == "error" => {}
            other => bail!("{what} of a device that is not dm-verity's: {other:?}"),
        }
    }
    ensure!(device_mapper_devices()? == [NAME], "{:?}", device_mapper_devices()?);
    ensure!(list()?.is_empty(), "{:?}", list()?);
    dmsetup("remove queried").succeed().map(drop)
}

fn absent(_: &mut Context) -> anyhow::Result<()> {
    let name = name()?;
    for (what, result) in [
        ("query", query(&name).map(drop)),
        ("removal", deactivate(&name, Removal::Now).map(drop)),
        ("deferred removal", deactivate(&name, Removal::Deferred).map(drop)),
        ("cancelling", cancel_deferred(&name)),
    ] {
        ensure!(matches!(result, Err(Error::NotActive { .. })), "{what} of no device: {result:?}");
    }
    ensure!(list()?.is_empty(), "{:?}", list()?);
    Ok(())
}

fn node(context: &mut Context) -> anyhow::Result<()> {
    let path = name()?.node();
    // What an earlier device may have left, when it was removed by a tool that does not know of nodes.
    fs::write(&path, "stale").context("a file in the node's place")?;
    let (_, info) = active(context)?;
    let node = fs::symlink_metadata(&path).context("the node")?;
    ensure!(node.file_type().is_block_device(), "the node is a {:?}", node.file_type());
    let (mode, owner) = (node.permissions().mode() & 0o7777, (node.uid(), node.gid()));
    // There is no group `disk` in the guest.
    ensure!(mode == 0o660 && owner == (0, 0), "the node has mode {mode:o} and belongs to {owner:?}");
    let number = (major(node.rdev()), minor(node.rdev()));
    let expected = (u64::from(info.number.major()), u64::from(info.number.minor()));
    ensure!(number == expected, "the node is that of {number:?}");
    remove(NAME)?;
    ensure!(fs::symlink_metadata(&path).is_err(), "the node outlives its device");
    let names: Vec<_> = fs::read_dir("/dev/mapper")?.flatten().map(|entry| entry.file_name()).collect();
    ensure!(names == ["control"], "more than the control node in /dev/mapper: {names:?}");
    Ok(())
}
