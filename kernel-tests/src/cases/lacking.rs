//! Kernels without a part that is needed.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use anyhow::{Context as _, ensure};
use nix::mount::{MsFlags, mount, umount};
use nix::sys::stat::{Mode, SFlag, mknod};

use crate::case::{Case, OwnBoot};
use crate::guest::{Context, in_root};

use super::tools::{Image, Tool, expect_refused, expect_silence};

pub(super) fn cases() -> Vec<Case> {
    let without = |modules| OwnBoot { without_modules: modules, ..OwnBoot::default() };
    vec![
        Case::new("lacking/device-mapper", "without device-mapper every command names it", device_mapper)
            .own_boot(without(&["dm_mod"])),
        Case::new("lacking/verity-target", "without the verity target open names it", verity_target)
            .own_boot(without(&["dm_verity"])),
        Case::new(
            "lacking/loop-devices",
            "without loop devices open names them, and takes disks",
            loop_devices,
        )
        .own_boot(OwnBoot { disks_mib: &[1, 1], ..without(&["loop"]) }),
        Case::new(
            "lacking/loop-nodes",
            "where /dev has no loop device, as in a container, open says so",
            loop_nodes,
        ),
    ]
}

fn device_mapper(context: &mut Context) -> anyhow::Result<()> {
    let image = Image::new(context)?;
    expect_silence(image.verify(Tool::Verity)).context("which needs no device-mapper")?;
    for program in [
        image.open(Tool::Verity, "layer"),
        Tool::Verity.run("close layer"),
        Tool::Verity.run("status layer"),
        Tool::Verity.run("list"),
    ] {
        expect_refused(program, 1, "dm_mod")?;
    }
    Ok(())
}

fn verity_target(context: &mut Context) -> anyhow::Result<()> {
    let image = Image::new(context)?;
    expect_refused(image.open(Tool::Verity, "layer"), 1, "dm_verity")?;
    let list = Tool::Verity.run("list").succeed()?;
    ensure!(list.stdout.is_empty(), "unexpected devices of {list}");
    Ok(())
}

fn loop_devices(context: &mut Context) -> anyhow::Result<()> {
    let image = Image::new(context)?;
    expect_refused(image.open(Tool::Verity, "layer"), 1, "loop")?;
    let [data, hash] = ["/dev/vda", "/dev/vdb"].map(Path::new);
    for (file, disk) in [(&image.data, data), (&image.hash, hash)] {
        let bytes = fs::read(file).context("reading the image")?;
        fs::write(disk, bytes).with_context(|| disk.display().to_string())?;
    }
    let open =
        |data: &Path, hash: &Path| Tool::Verity.run("open").arg(data).arg("layer").arg(hash).arg(&image.root);
    expect_refused(open(data, &image.hash), 1, "loop")?;
    expect_silence(open(data, hash))?;
    image.expect_whole("layer")?;
    expect_silence(Tool::Verity.run("close layer"))
}

/// Whatever number the kernel gives, there is no such node: the loop devices are exhausted before the first one.
fn loop_nodes(context: &mut Context) -> anyhow::Result<()> {
    let image = Image::new(context)?;
    let root = context.path("root");
    for folder in ["bin", "dev/mapper", "proc", "sys"] {
        fs::create_dir_all(root.join(folder)).with_context(|| folder.to_owned())?;
    }
    for file in [Path::new("/bin/verity"), &image.data, &image.hash] {
        let name = file.file_name().unwrap_or_default();
        fs::copy(file, root.join("bin").join(name)).with_context(|| file.display().to_string())?;
    }
    for node in ["dev/loop-control", "dev/mapper/control"] {
        let number = fs::metadata(Path::new("/").join(node)).with_context(|| node.to_owned())?.rdev();
        mknod(&root.join(node), SFlag::S_IFCHR, Mode::S_IRUSR | Mode::S_IWUSR, number)
            .with_context(|| node.to_owned())?;
    }
    for (folder, kind) in [("proc", "proc"), ("sys", "sysfs")] {
        mount(Some(kind), &root.join(folder), Some(kind), MsFlags::MS_RDONLY, None::<&str>)
            .with_context(|| format!("mounting {kind}"))?;
    }
    let line = format!("/bin/verity open /bin/data layer /bin/hash {}", image.root);
    let result = expect_refused(in_root(&root.to_string_lossy(), &line), 4, "/dev/loop");
    for folder in ["proc", "sys"] {
        umount(&root.join(folder)).with_context(|| format!("unmounting {folder}"))?;
    }
    result.map(drop)
}
