//! Layers stacked and mounted by the library: what is seen, what is refused, and what is left.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use nix::libc::EIO;
use nix::mount::{MntFlags, MsFlags, mount as mount_by_hand, umount, umount2};
use verity_core::device::{Kind, list};
use verity_core::fec::Roots;
use verity_core::mount::{Error, Layer, MAX_LAYERS, Options, Until, mount, unmount};

use crate::case::{Case, OwnBoot};
use crate::guest::{Context, KernelObjects, device_mapper_devices, flip, loop_devices, pattern};

use super::layers::{What, directory, layer, layer_with};

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::new(
            "mount/few",
            "one, two and three layers are one tree, read-only, and go without a trace",
            few,
        ),
        Case::new("mount/hundred", "a hundred layers are one tree", hundred).limit(600),
        Case::new("mount/most", "500 layers are one tree, and 501 are refused", most).limit(1500),
        Case::new(
            "mount/whiteouts",
            "whiteouts and opaque directories hide what is below them, and are not seen themselves",
            whiteouts,
        ),
        Case::new("mount/corrupted", "a bad block below a mount is not read but refused", corrupted),
        Case::new("mount/repaired", "and with parity it is restored", repaired),
        Case::new("mount/damaged", "a layer that is damaged where it is looked at is not mounted", damaged),
        Case::new(
            "mount/shared",
            "two images share the devices of their common layers, and only these",
            shared,
        ),
        Case::new("mount/twice", "a layer that an image has twice counts where it is on top", twice),
        Case::new("mount/targets", "targets that cannot be are refused", targets),
        Case::new("mount/users", "a mount that is in use stays, and who uses it is told", users),
        Case::new("mount/by-hand", "umount(2) leaves nothing, and what others mounted is not ours", by_hand),
        Case::new("mount/without-erofs", "without the file system it is named", without_erofs)
            .own_boot(OwnBoot { without_modules: &["erofs"], ..OwnBoot::default() }),
        Case::new("mount/without-overlay", "and so it is without overlays", without_overlay)
            .own_boot(OwnBoot { without_modules: &["overlay"], ..OwnBoot::default() }),
    ]
}

fn plain() -> Options {
    Options::default()
}

/// Fails unless nothing is there that was not there before.
fn expect_clean(before: &KernelObjects) -> anyhow::Result<()> {
    let left = before.leaks();
    ensure!(left.is_empty(), "left behind: {}", left.join(", "));
    Ok(())
}

/// A layer with a file of its own and one that every layer has.
fn numbered(context: &Context, number: usize) -> anyhow::Result<Layer> {
    let text = number.to_string();
    let own = format!("own/{text}");
    let name = format!("layer-{text}");
    layer(context, &name, &[(&own, What::File(text.as_bytes())), ("top", What::File(text.as_bytes()))])
}

/// Mounts `count` layers, looks whether all are seen in their order, and unmounts them.
fn stacked(context: &Context, layers: &[Layer]) -> anyhow::Result<()> {
    let before = KernelObjects::now()?;
    let count = layers.len();
    let target = directory(context, &format!("target-{count}"))?;
    let mounted = mount(layers, &target, &plain(), &()).with_context(|| format!("{count} layers"))?;
    ensure!(mounted.devices.len() == count, "{} devices", mounted.devices.len());
    let names: BTreeSet<_> =
        fs::read_dir(target.join("own"))?.map(|e| e.map(|e| e.file_name())).collect::<io::Result<_>>()?;
    ensure!(names.len() == count, "{count} layers, {} names", names.len());
    for number in [0, count / 2, count - 1] {
        let read = fs::read_to_string(target.join(format!("own/{number}")))?;
        ensure!(read == number.to_string(), "of {count} layers, number {number} has {read:?}");
    }
    let top = fs::read_to_string(target.join("top"))?;
    ensure!(top == (count - 1).to_string(), "of {count} layers, {top} is on top");
    let written = fs::write(target.join("new"), "");
    ensure!(written.is_err_and(|e| e.kind() == io::ErrorKind::ReadOnlyFilesystem), "it can be written to");
    // What is seen by name is the mount alone.
    let new: Vec<_> =
        fs::read_dir("/dev/mapper")?.map(|e| e.map(|e| e.file_name())).collect::<io::Result<_>>()?;
    ensure!(new == ["control"], "nodes are left: {new:?}");
    let unmounted = unmount(&target, Until::Gone, &())?;
    ensure!(unmounted.removed.len() == count && unmounted.shared.is_empty(), "{unmounted:?}");
    ensure!(device_mapper_devices()?.is_empty(), "devices are left: {:?}", device_mapper_devices()?);
    ensure!(loop_devices()?.is_empty(), "loop devices are left: {:?}", loop_devices()?);
    expect_clean(&before)
}

fn few(context: &mut Context) -> anyhow::Result<()> {
    let layers = (0..3).map(|number| numbered(context, number)).collect::<anyhow::Result<Vec<_>>>()?;
    for count in 1..=layers.len() {
        stacked(context, &layers[..count])?;
    }
    Ok(())
}

fn hundred(context: &mut Context) -> anyhow::Result<()> {
    let layers = (0..100).map(|number| numbered(context, number)).collect::<anyhow::Result<Vec<_>>>()?;
    stacked(context, &layers)
}

fn most(context: &mut Context) -> anyhow::Result<()> {
    let layers =
        (0..=MAX_LAYERS).map(|number| numbered(context, number)).collect::<anyhow::Result<Vec<_>>>()?;
    let target = directory(context, "too-many")?;
    match mount(&layers, &target, &plain(), &()) {
        Err(Error::TooManyLayers { found: 501 }) => {}
        other => bail!("501 layers: {other:?}"),
    }
    stacked(context, &layers[..MAX_LAYERS])
}

fn whiteouts(context: &mut Context) -> anyhow::Result<()> {
    let before = KernelObjects::now()?;
    let base = layer(
        context,
        "base",
        &[
            ("kept", What::File(b"kept")),
            ("removed", What::File(b"removed")),
            ("emptied/old", What::File(b"old")),
            ("emptied/older", What::Directory),
            ("merged/old", What::File(b"old")),
            ("folder/inside", What::File(b"inside")),
            ("link", What::Symlink("kept")),
        ],
    )?;
    let patch = layer(
        context,
        "patch",
        &[
            (".wh.removed", What::File(b"")),
            ("emptied/.wh..wh..opq", What::File(b"")),
            ("emptied/new", What::File(b"new")),
            ("merged/new", What::File(b"new")),
            (".wh.folder", What::File(b"")),
            (".wh.never-there", What::File(b"")),
        ],
    )?;
    let target = directory(context, "target")?;
    let names = |path: &str| -> anyhow::Result<Vec<String>> {
        let path = target.join(path);
        let entries = fs::read_dir(&path).with_context(|| path.display().to_string())?;
        let mut names: Vec<_> = entries
            .map(|e| e.map(|e| e.file_name().to_string_lossy().into_owned()))
            .collect::<io::Result<_>>()?;
        names.sort();
        Ok(names)
    };
    let xattrs = |path: &str| -> anyhow::Result<usize> {
        rustix::fs::llistxattr(target.join(path), &mut [0_u8; 0][..]).context("listing attributes")
    };
    mount(&[base.clone(), patch.clone()], &target, &plain(), &())?;
    ensure!(names("")? == ["emptied", "kept", "link", "merged"], "{:?}", names("")?);
    ensure!(names("emptied")? == ["new"] && names("merged")? == ["new", "old"], "{:?}", names("emptied")?);
    ensure!(xattrs("emptied")? == 0, "the overlay's own attribute is seen");
    for hidden in ["removed", "folder", "folder/inside", "emptied/old", "never-there"] {
        let found = fs::symlink_metadata(target.join(hidden));
        ensure!(found.is_err_and(|e| e.kind() == io::ErrorKind::NotFound), "{hidden} is seen");
    }
    unmount(&target, Until::Gone, &())?;
    // By itself the patch hides nothing, and its marks are still not files of its own.
    mount(std::slice::from_ref(&patch), &target, &plain(), &())?;
    ensure!(names("")? == ["emptied", "merged"], "{:?}", names("")?);
    ensure!(names("emptied")? == ["new"] && xattrs("emptied")? == 0, "a single layer shows its marks");
    unmount(&target, Until::Gone, &())?;
    expect_clean(&before)
}

/// A layer with a large file, and where that file lies in it.
fn large(context: &Context, name: &str, roots: Option<Roots>) -> anyhow::Result<(Layer, u64, Vec<u8>)> {
    let bytes = pattern(64 * 4096, 5);
    let layer = layer_with(context, name, &[("large", What::File(&bytes))], roots)?;
    let blob = fs::read(&layer.blob)?;
    let block = blob.chunks(4096).position(|block| block == &bytes[8 * 4096..9 * 4096]);
    let block = block.context("the file does not lie in the image")?;
    Ok((layer, u64::try_from(block)? * 4096, bytes))
}

fn corrupted(context: &mut Context) -> anyhow::Result<()> {
    let before = KernelObjects::now()?;
    let (layer, place, bytes) = large(context, "large", None)?;
    let target = directory(context, "target")?;
    flip(&layer.blob, place + 5, 3)?;
    mount(std::slice::from_ref(&layer), &target, &plain(), &())?;
    let read = fs::read(target.join("large"));
    ensure!(
        read.as_ref().is_err_and(|e| e.raw_os_error() == Some(EIO)),
        "expected EIO, got {:?}",
        read.map(|b| b.len())
    );
    // Its device has seen it, so nobody else gets it.
    let other = directory(context, "other")?;
    match mount(std::slice::from_ref(&layer), &other, &plain(), &()) {
        Err(error @ Error::Corrupted { number: 1, .. }) => {
            ensure!(error.kind() == Kind::Verification, "{error}");
        }
        other => bail!("expected the device to be refused, got {other:?}"),
    }
    unmount(&target, Until::Gone, &())?;
    expect_clean(&before)?;
    // As it was, it is read.
    flip(&layer.blob, place + 5, 3)?;
    mount(std::slice::from_ref(&layer), &target, &plain(), &())?;
    ensure!(fs::read(target.join("large"))? == bytes, "the file differs");
    unmount(&target, Until::Gone, &())?;
    expect_clean(&before)
}

fn repaired(context: &mut Context) -> anyhow::Result<()> {
    let before = KernelObjects::now()?;
    let (layer, place, bytes) = large(context, "large", Some(Roots::MIN))?;
    let target = directory(context, "target")?;
    flip(&layer.blob, place + 5, 3)?;
    mount(&[layer], &target, &plain(), &())?;
    ensure!(fs::read(target.join("large"))? == bytes, "the file differs");
    unmount(&target, Until::Gone, &())?;
    expect_clean(&before)
}

fn damaged(context: &mut Context) -> anyhow::Result<()> {
    let before = KernelObjects::now()?;
    let good = numbered(context, 1)?;
    let target = directory(context, "target")?;
    let (layer, _, _) = large(context, "large", None)?;
    let hash_offset = layer.geometry.hash_start_block() * 4096;
    let refused = |layer: &Layer, what: &str| -> anyhow::Result<Error> {
        match mount(&[good.clone(), layer.clone()], &target, &plain(), &()) {
            Err(error) => Ok(error),
            Ok(mounted) => bail!("{what}: it is mounted: {mounted:?}"),
        }
    };
    // The image's superblock, in the first block; the tree's top block.
    for (what, place) in [("first block", 1024), ("top block", hash_offset)] {
        flip(&layer.blob, place, 1)?;
        let error = refused(&layer, what)?;
        ensure!(error.kind() == Kind::Verification, "{what}: {error}");
        ensure!(error.to_string().contains("layer 2"), "{what}: {error}");
        flip(&layer.blob, place, 1)?;
        expect_clean(&before)?;
    }
    let length = fs::metadata(&layer.blob)?.len();
    File::options().write(true).open(&layer.blob)?.set_len(length - 4096)?;
    let error = refused(&layer, "truncated")?;
    ensure!(error.to_string().contains("bytes"), "{error}");
    fs::remove_file(&layer.blob)?;
    let error = refused(&layer, "missing")?;
    ensure!(error.kind() == Kind::NotFound, "{error}");
    expect_clean(&before)?;

    // A tree over something that is no EROFS is in order, and is not mounted.
    let mut other = super::layers::built(&context.path("other"), &super::layers::tar(&[])?, None)?;
    let blob = context.path("no-image");
    let file = File::options().read(true).write(true).create_new(true).open(&blob)?;
    let data = pattern(usize::try_from(other.geometry.data_bytes())?, 9);
    verity_core::io::WriteAt::write_all_at(&file, &data, 0)?;
    other.root = verity_core::tree::build(&data, &file, &other.params, &other.geometry, &Default::default())?;
    let layer =
        Layer { blob, params: other.params, geometry: other.geometry, root_hash: other.root, parity: None };
    match refused(&layer, "no image")? {
        Error::Refused { number: 2, .. } => {}
        error => bail!("no image: {error}"),
    }
    expect_clean(&before)
}

fn shared(context: &mut Context) -> anyhow::Result<()> {
    let before = KernelObjects::now()?;
    let layers = (0..4).map(|number| numbered(context, number)).collect::<anyhow::Result<Vec<_>>>()?;
    // The same content in another file.
    let copy = Layer { blob: context.path("copy"), ..layers[3].clone() };
    fs::copy(&layers[3].blob, &copy.blob)?;
    let [one, two, three] = ["one", "two", "three"].map(|name| directory(context, name));
    let (one, two, three) = (one?, two?, three?);
    let first = mount(&layers[..3], &one, &plain(), &())?;
    let second = mount(&[&layers[..2], &layers[3..]].concat(), &two, &plain(), &())?;
    let shares: Vec<_> = second.devices.iter().map(|layer| layer.shared).collect();
    ensure!(shares == [true, true, false], "shared: {shares:?}");
    ensure!(
        first.devices[..2].iter().zip(&second.devices).all(|(a, b)| a.number == b.number),
        "{first:?} {second:?}"
    );
    let third = mount(&[copy], &three, &plain(), &())?;
    ensure!(third.devices[0].device.to_string().ends_with("-2"), "{third:?}");
    ensure!(device_mapper_devices()?.len() == 5, "{:?}", device_mapper_devices()?);
    let unmounted = unmount(&one, Until::Gone, &())?;
    ensure!((unmounted.removed.len(), unmounted.shared.len()) == (1, 2), "{unmounted:?}");
    ensure!(
        fs::read_to_string(two.join("own/0"))? == "0" && fs::read_to_string(two.join("top"))? == "3",
        "the second image"
    );
    // What was shared is taken up again.
    let again = mount(&layers[..3], &one, &plain(), &())?;
    let shares: Vec<_> = again.devices.iter().map(|layer| layer.shared).collect();
    ensure!(shares == [true, true, false], "shared: {shares:?}");
    for target in [&three, &two, &one] {
        unmount(target, Until::Gone, &())?;
    }
    ensure!(device_mapper_devices()?.is_empty(), "{:?}", device_mapper_devices()?);
    expect_clean(&before)
}

fn twice(context: &mut Context) -> anyhow::Result<()> {
    let before = KernelObjects::now()?;
    let [a, b] = [0, 1].map(|number| numbered(context, number));
    let (a, b) = (a?, b?);
    let target = directory(context, "target")?;
    let mounted = mount(&[a.clone(), b, a], &target, &plain(), &())?;
    let places: Vec<_> = mounted.devices.iter().map(|layer| layer.index).collect();
    ensure!(places == [1, 2], "{places:?}");
    ensure!(fs::read_to_string(target.join("top"))? == "0", "the wrong layer is on top");
    unmount(&target, Until::Gone, &())?;
    expect_clean(&before)
}

fn targets(context: &mut Context) -> anyhow::Result<()> {
    let before = KernelObjects::now()?;
    let layers = [numbered(context, 0)?];
    let refused = |target: &Path| -> anyhow::Result<Error> {
        match mount(&layers, target, &plain(), &()) {
            Err(error) => Ok(error),
            Ok(_) => bail!("{} is taken", target.display()),
        }
    };
    let file = context.path("file");
    fs::write(&file, "")?;
    ensure!(matches!(refused(&file)?, Error::NotADirectory { .. }), "a file");
    ensure!(refused(&context.path("missing"))?.kind() == Kind::NotFound, "nothing");
    ensure!(matches!(refused("/proc".as_ref())?, Error::AlreadyMounted { .. }), "another's mount");
    let target = directory(context, "target")?;
    ensure!(
        matches!(unmount(&target, Until::Gone, &()), Err(Error::NotMounted { .. })),
        "nothing is mounted"
    );
    mount(&layers, &target, &plain(), &())?;
    ensure!(matches!(refused(&target)?, Error::AlreadyMounted { .. }), "our own mount");
    unmount(&target, Until::Gone, &())?;
    match mount(&[], &target, &plain(), &()) {
        Err(Error::NoLayers) => {}
        other => bail!("no layers: {other:?}"),
    }
    ensure!(
        matches!(unmount("/proc".as_ref(), Until::Gone, &()), Err(Error::NotOurs { .. })),
        "/proc is not ours"
    );
    // Powers that an image's files may not have.
    let options = Options { no_suid: true, no_dev: true, no_exec: true, label: Some("label".into()) };
    mount(&layers, &target, &options, &())?;
    let info = fs::read_to_string("/proc/self/mountinfo")?;
    let line = info.lines().find(|line| line.contains(" verity:label ")).context("no such source")?;
    ensure!(["ro", "nosuid", "nodev", "noexec"].iter().all(|word| line.contains(word)), "{line}");
    unmount(&target, Until::Gone, &())?;
    expect_clean(&before)
}

fn users(context: &mut Context) -> anyhow::Result<()> {
    let before = KernelObjects::now()?;
    let layers = [numbered(context, 0)?, layer(context, "folder", &[("folder", What::Directory)])?];
    let target = directory(context, "target")?;
    mount(&layers, &target, &plain(), &())?;
    let file = File::open(target.join("top"))?;
    let busy = |what: &str| match unmount(&target, Until::Gone, &()) {
        Err(error @ Error::Busy { .. }) if error.to_string().contains(what) => Ok(()),
        other => bail!("expected to be told {what:?}, got {other:?}"),
    };
    busy(&format!("process {} ", std::process::id()))?;
    busy("target/top open")?;
    drop(file);
    mount_by_hand(Some("tmpfs"), &target.join("folder"), Some("tmpfs"), MsFlags::empty(), None::<&str>)?;
    busy("mounted at")?;
    umount(&target.join("folder"))?;
    // Whoever has a file open goes on.
    let file = File::open(target.join("top"))?;
    let unmounted = unmount(&target, Until::Detached, &())?;
    ensure!(unmounted.pending.len() == 2, "{unmounted:?}");
    ensure!(io::read_to_string(&file)? == "0", "the file");
    ensure!(device_mapper_devices()?.len() == 2, "{:?}", device_mapper_devices()?);
    drop(file);
    expect_clean(&before)
}

fn by_hand(context: &mut Context) -> anyhow::Result<()> {
    let before = KernelObjects::now()?;
    let layers = [numbered(context, 0)?, numbered(context, 1)?];
    let target = directory(context, "target")?;
    for flags in [MntFlags::empty(), MntFlags::MNT_DETACH] {
        mount(&layers, &target, &plain(), &())?;
        umount2(&target, flags)?;
        expect_clean(&before)?;
    }
    ensure!(list()?.is_empty(), "devices are left");
    Ok(())
}

fn lacks(context: &Context, module: &str) -> anyhow::Result<()> {
    let before = KernelObjects::now()?;
    let layers = [numbered(context, 0)?];
    let target = directory(context, "target")?;
    match mount(&layers, &target, &plain(), &()) {
        Err(Error::NoFileSystem { kind }) if kind == module => expect_clean(&before),
        other => bail!("expected {module} to be named, got {other:?}"),
    }
}

fn without_erofs(context: &mut Context) -> anyhow::Result<()> {
    lacks(context, "erofs")
}

fn without_overlay(context: &mut Context) -> anyhow::Result<()> {
    lacks(context, "overlay")
}
