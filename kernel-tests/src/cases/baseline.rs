//! What every later case takes for granted: the guest, its kernel, and the C tool in it.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, ensure};

use crate::case::{Case, Ending, OwnBoot, version_of};
use crate::guest::{Context, Program, flip, read_direct};

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::new("baseline/kernel", "the kernel is one of the supported series", kernel),
        Case::new("baseline/target", "device-mapper is there, with a verity target", target),
        Case::new("baseline/loop", "a file becomes a loop device and stops being one", loop_device),
        Case::new("baseline/filesystems", "EROFS and overlayfs can be mounted", filesystems),
        Case::new("baseline/veritysetup", "the C tool formats, opens, reads and closes here", veritysetup),
        Case::new("baseline/flip", "the kernel refuses a block with a flipped bit", flipped),
        Case::new("baseline/restart", "a restart is told from other ends", restart)
            .own_boot(OwnBoot { ending: Ending::Restart, ..OwnBoot::default() }),
        Case::new("baseline/panic", "a panic is told from other ends", panic)
            .own_boot(OwnBoot { ending: Ending::Panic, ..OwnBoot::default() }),
        Case::new("baseline/disk", "a disk of the machine can be read and written", disk)
            .own_boot(OwnBoot { disks_mib: &[3], ..OwnBoot::default() }),
    ]
}

fn kernel(context: &mut Context) -> anyhow::Result<()> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").context("osrelease")?;
    let version = version_of(&release).with_context(|| format!("no version in {release:?}"))?;
    ensure!(version >= (6, 1), "Linux {release} is older than any kernel that is supported");
    context.say(format!("Linux {}", release.trim()))
}

fn target(_: &mut Context) -> anyhow::Result<()> {
    ensure!(Path::new("/dev/mapper/control").exists(), "no /dev/mapper/control");
    let targets = Program::new("dmsetup").arg("targets").succeed()?;
    let version = targets.field("verity")?.trim_start_matches('v');
    let version = version_of(version).with_context(|| format!("no version in {version:?}"))?;
    ensure!(version >= (1, 8), "dm-verity {version:?} is older than Linux 6.1's");
    Ok(())
}

fn loop_device(context: &mut Context) -> anyhow::Result<()> {
    let file = context.pattern("file", 1 << 20, 5)?;
    let device = Program::new("losetup").words("--find --show --read-only").arg(&file).succeed()?;
    let device = Path::new(device.stdout.trim());
    let read = read_direct(device, 4096, 8192).context("reading the loop device")?;
    ensure!(read == fs::read(&file)?[4096..12288], "the loop device does not hold what its file holds");
    Program::new("losetup").arg("--detach").arg(device).succeed()?;
    Ok(())
}

fn filesystems(_: &mut Context) -> anyhow::Result<()> {
    let known = fs::read_to_string("/proc/filesystems").context("/proc/filesystems")?;
    for name in ["erofs", "overlay", "tmpfs"] {
        ensure!(
            known.lines().any(|line| line.split('\t').next_back() == Some(name)),
            "no {name} in this kernel"
        );
    }
    Ok(())
}

/// Formats `data` with the C tool and returns the root hash.
fn format(context: &Context, data: &Path) -> anyhow::Result<String> {
    let made = Program::new("veritysetup").arg("format").arg(data).arg(context.path("hash")).succeed()?;
    Ok(made.field("Root hash:")?.to_owned())
}

fn veritysetup(context: &mut Context) -> anyhow::Result<()> {
    let data = context.pattern("data", 1 << 20, 1)?;
    let root = format(context, &data)?;
    let tool = || Program::new("veritysetup");
    tool().arg("verify").arg(&data).arg(context.path("hash")).arg(&root).succeed()?;
    tool().arg("open").arg(&data).arg("c-tool").arg(context.path("hash")).arg(&root).succeed()?;
    let read = read_direct(Path::new("/dev/mapper/c-tool"), 0, 1 << 20).context("reading the device")?;
    ensure!(read == fs::read(&data)?, "the device does not hold what its data file holds");
    let status = tool().words("status c-tool").succeed()?;
    ensure!(status.field("status:")? == "verified", "not verified: {status}");
    tool().words("close c-tool").succeed()?;
    Ok(())
}

fn flipped(context: &mut Context) -> anyhow::Result<()> {
    let data = context.pattern("data", 1 << 20, 2)?;
    let root = format(context, &data)?;
    let tool = || Program::new("veritysetup");
    tool().arg("open").arg(&data).arg("flipped").arg(context.path("hash")).arg(&root).succeed()?;
    let device = Path::new("/dev/mapper/flipped");
    flip(&data, 5 * 4096 + 17, 3)?;
    read_direct(device, 4 * 4096, 4096).context("the block before the flipped one")?;
    let refused = read_direct(device, 5 * 4096, 4096);
    ensure!(
        refused.as_ref().is_err_and(|error| error.raw_os_error() == Some(nix::libc::EIO)),
        "expected EIO of the flipped block, got {:?}",
        refused.map(|bytes| bytes.len())
    );
    let status = tool().words("status flipped").run()?;
    ensure!(status.field("status:")? == "corrupted", "not corrupted: {status}");
    tool().words("close flipped").succeed()?;
    Ok(())
}

fn restart(context: &mut Context) -> anyhow::Result<()> {
    context.arm()?;
    fs::write("/proc/sysrq-trigger", "b").context("asking the kernel to restart")
}

fn panic(context: &mut Context) -> anyhow::Result<()> {
    context.arm()?;
    fs::write("/proc/sysrq-trigger", "c").context("asking the kernel to crash")
}

fn disk(context: &mut Context) -> anyhow::Result<()> {
    let disk = Path::new("/dev/vda");
    ensure!(read_direct(disk, 0, 3 << 20)?.iter().all(|&byte| byte == 0), "the new disk is not empty");
    context.flip_on_disk(0, 8192 + 5)?;
    let read = read_direct(disk, 8192, 4096)?;
    ensure!(read[5].count_ones() == 1, "the bit that was flipped in the image is not seen on the disk");
    Ok(())
}
