//! Kernels without a part that is needed.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, ensure};

use crate::case::{Case, OwnBoot};
use crate::guest::Context;

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
