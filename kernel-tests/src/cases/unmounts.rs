//! What `verity image mount` and `umount` do where others have their part in it: other mount namespaces, signals, a full disk, what was left before.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use devicemapper::{DM, DmName, DmOptions, DmUuid};
use nix::sys::signal::Signal;
use serde_json::Value;
use verity_core::device::{Activation, activate};
use verity_core::mount::Layer;

use crate::case::Case;
use crate::guest::{Context, KernelObjects, Program, Started, device_mapper_devices};

use super::images::{Image, expect_image, expect_nothing, umount};
use super::layers::{What, directory, layer};
use super::tools::{self, Tool, expect_refused, expect_silence};

const BUSYBOX: &str = "/bin/busybox";

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::new(
            "umount/copied",
            "a mount of which another namespace has a copy goes here, and who has the copy is told",
            copied,
        ),
        Case::new(
            "umount/other-namespace",
            "devices that an image in another namespace has, too, stay for it, and that is no failure",
            other_namespace,
        ),
        Case::new(
            "umount/mounted-meanwhile",
            "a device that is mounted again while it is waited for stays, and that is no failure",
            mounted_meanwhile,
        ),
        Case::new(
            "umount/stopped",
            "a signal ends the wait for devices, and which are still going is told",
            stopped,
        ),
        Case::new(
            "umount/left-over",
            "what a killed mount left is removed by the next mount or unmount of another image, what was opened by hand is not",
            left_over,
        ),
        Case::new("mount/unreported", "a mount that cannot be reported does not stay", unreported),
    ]
}

/// Waits for something that is to come, as long as slow guests may take.
fn until(what: &str, mut is_so: impl FnMut() -> anyhow::Result<bool>) -> anyhow::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(90);
    while !is_so().context(what.to_owned())? {
        ensure!(Instant::now() < deadline, "waited in vain: {what}");
        thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// What `image mount --json` reports.
fn mount_reported(image: &Image, target: &Path) -> anyhow::Result<Value> {
    let report = Tool::Verity.run("image mount --json").arg(&image.name).arg(target).succeed()?;
    Ok(serde_json::from_str(&report.stdout)?)
}

/// The node of a mounted image's lowest layer.
fn lowest_device(report: &Value) -> anyhow::Result<PathBuf> {
    let number = report["layers"][0]["number"].as_str().context("no device in the report")?;
    let minor = number.split(':').nth(1).context("a device's number")?;
    Ok(Path::new("/dev").join(format!("dm-{minor}")))
}

fn length(report: &Value, list: &str) -> Option<usize> {
    report[list].as_array().map(Vec::len)
}

pub(super) fn is_mounted(target: &Path) -> anyhow::Result<bool> {
    let target = format!(" {} ", target.display());
    Ok(fs::read_to_string("/proc/self/mountinfo")?.contains(&target))
}

/// A process in a mount namespace of its own, which does this first.
fn in_namespace(context: &Context, script: &str) -> anyhow::Result<Started> {
    let ready = context.path("ready");
    let script = format!("{script} && : > {} && exec {BUSYBOX} sleep 600", ready.display());
    let started =
        Program::new(BUSYBOX).words("unshare -m").arg(BUSYBOX).words("sh -c").arg(script).start()?;
    until("a process in another namespace", || Ok(ready.exists()))?;
    fs::remove_file(ready)?;
    Ok(started)
}

fn end(started: Started) -> anyhow::Result<()> {
    started.signal(Signal::SIGKILL)?;
    started.wait().map(drop)
}

pub(super) fn expect_gone(before: &KernelObjects) -> anyhow::Result<()> {
    let left = before.leaks();
    ensure!(left.is_empty(), "left behind: {}", left.join(", "));
    Ok(())
}

fn copied(context: &mut Context) -> anyhow::Result<()> {
    let before = KernelObjects::now()?;
    let [image, other] = Image::related(context)?;
    let [one, two] = ["target-1", "target-2"].map(|name| directory(context, name));
    let (one, two) = (one?, two?);
    expect_silence(image.mount(&one))?;
    let copy = in_namespace(context, "true")?;
    // Another image in this one changes nothing about that.
    expect_silence(other.mount(&two))?;
    let output = umount(&one).run()?.expect_code(5)?.expect_error(&format!("process {} ", copy.id()))?;
    let output = output.expect_error(&one.display().to_string())?;
    ensure!(!is_mounted(&one)?, "it is mounted still, after {output}");
    expect_image(&two)?;
    end(copy)?;
    let report = Tool::Verity.run("image umount --json").arg(&two).succeed()?;
    let json: Value = serde_json::from_str(&report.stdout)?;
    ensure!(length(&json, "removed") == Some(2), "expected two devices of {report}");
    expect_gone(&before)
}

fn other_namespace(context: &mut Context) -> anyhow::Result<()> {
    let before = KernelObjects::now()?;
    let [image, other] = Image::related(context)?;
    let [one, two] = ["target-1", "target-2"].map(|name| directory(context, name));
    let (one, two) = (one?, two?);
    let mount = format!("verity image mount --quiet {} {}", other.name, two.display());
    let elsewhere = in_namespace(context, &mount)?;
    ensure!(!is_mounted(&two)?, "it is mounted here, too");
    expect_silence(image.mount(&one))?;
    let report = Tool::Verity.run("image umount --json").arg(&one).succeed()?;
    let json: Value = serde_json::from_str(&report.stdout)?;
    ensure!((length(&json, "removed"), length(&json, "shared")) == (Some(2), Some(1)), "{report}");
    ensure!(device_mapper_devices()?.len() == 2, "{:?}", device_mapper_devices()?);
    // The same image in both is another mount, too.
    expect_silence(other.mount(&one))?;
    let report = Tool::Verity.run("image umount --json").arg(&one).succeed()?;
    let json: Value = serde_json::from_str(&report.stdout)?;
    ensure!((length(&json, "removed"), length(&json, "shared")) == (Some(0), Some(2)), "{report}");
    end(elsewhere)?;
    expect_gone(&before)
}

/// Starts to unmount what is kept by `file`, until it only waits for that.
fn start_umount(target: &Path, options: &str) -> anyhow::Result<Started> {
    let started = Tool::Verity.run("image umount").words(options).arg(target).start()?;
    until("it is unmounted", || Ok(!is_mounted(target)?))?;
    Ok(started)
}

fn mounted_meanwhile(context: &mut Context) -> anyhow::Result<()> {
    let before = KernelObjects::now()?;
    let [image, other] = Image::related(context)?;
    let [one, two] = ["target-1", "target-2"].map(|name| directory(context, name));
    let (one, two) = (one?, two?);
    let kept = File::open(lowest_device(&mount_reported(&image, &one)?)?).context("opening a device")?;
    let waiting = start_umount(&one, "--json")?;
    expect_silence(other.mount(&two))?;
    let report = waiting.wait()?.expect_code(0)?;
    let json: Value = serde_json::from_str(&report.stdout)?;
    ensure!((length(&json, "removed"), length(&json, "shared")) == (Some(2), Some(1)), "{report}");
    drop(kept);
    expect_image(&two)?;
    expect_silence(umount(&two))?;
    expect_gone(&before)
}

fn stopped(context: &mut Context) -> anyhow::Result<()> {
    let before = KernelObjects::now()?;
    let image = Image::new(context)?;
    let target = directory(context, "target")?;
    let report = mount_reported(&image, &target)?;
    let device = report["layers"][0]["device"].as_str().context("no device in the report")?.to_owned();
    let kept = File::open(lowest_device(&report)?).context("opening a device")?;
    let waiting = start_umount(&target, "")?;
    waiting.signal(Signal::SIGTERM)?;
    let output = waiting.wait()?;
    ensure!(output.signal == Some(15), "expected the signal to end {output}");
    output.expect_error("is unmounted")?.expect_error("still going")?.expect_error(&device)?;
    ensure!(device_mapper_devices()?.contains(&device), "what is open is gone");
    drop(kept);
    expect_gone(&before)
}

/// What a device of a mounted image has in the place of its superblock's UUID.
const MARK: [u8; 16] = *b"verity mounts\0\0\x01";

/// Leaves a device as a mount does that is killed in the moment in which it has made it.
fn leave(layer: &Layer) -> anyhow::Result<String> {
    let Layer { blob, params, geometry, root_hash, .. } = layer;
    let name = format!("verity-{root_hash}");
    let mut activation =
        Activation::new(name.parse()?, blob, blob, params.clone(), geometry.clone(), *root_hash);
    activation.uuid = Some(MARK);
    activate(&activation).context("making a device")?;
    Ok(name)
}

/// The same a moment before: it has no table yet.
fn leave_bare(digit: char) -> anyhow::Result<String> {
    let name = format!("verity-{}", digit.to_string().repeat(64));
    let mark: String = MARK.iter().map(|byte| format!("{byte:02x}")).collect();
    let uuid = format!("CRYPT-VERITY-{mark}-{name}");
    let dm = DM::new().context("device-mapper")?;
    dm.device_create(DmName::new(&name)?, Some(DmUuid::new(&uuid)?), DmOptions::default())
        .context("making a device")?;
    Ok(name)
}

fn left_over(context: &mut Context) -> anyhow::Result<()> {
    let image = Image::new(context)?;
    let target = directory(context, "target")?;
    let stray = layer(context, "stray", &[("stray", What::File(b"stray"))])?;
    // Opened under such a name, with a superblock and without.
    let mut by_hand = Vec::new();
    for superblock in [true, false] {
        let folder = format!("by-hand-{superblock}");
        let data = context.pattern(&folder, tools::BLOCKS * tools::BLOCK, 11)?;
        let layout = tools::Layout { superblock, with_data: true, ..tools::Layout::default() };
        let opened = tools::Image::of(context, Tool::Verity, layout, data)?;
        let name = format!("verity-{}", opened.root);
        expect_silence(opened.open(Tool::Verity, &name))?;
        by_hand.push(name);
    }
    let expect_taken = |left: &[String], by: &str| -> anyhow::Result<()> {
        let devices = device_mapper_devices()?;
        for name in left {
            ensure!(!devices.contains(name), "{name} is there after {by}");
        }
        for name in &by_hand {
            ensure!(devices.contains(name), "{name} was taken by {by}");
        }
        Ok(())
    };
    for round in 0..2 {
        let left = [leave(&stray)?, leave_bare('e')?];
        let devices = device_mapper_devices()?;
        ensure!(left.iter().all(|name| devices.contains(name)), "nothing was left to be taken: {devices:?}");
        expect_silence(image.mount(&target))?;
        expect_taken(&left, "a mount").with_context(|| format!("round {round}"))?;
        let left = [leave(&stray)?, leave_bare('e')?];
        expect_silence(umount(&target))?;
        expect_taken(&left, "an unmount").with_context(|| format!("round {round}"))?;
    }
    for name in by_hand {
        expect_silence(Tool::Verity.run("close").arg(name))?;
    }
    expect_nothing()
}

fn unreported(context: &mut Context) -> anyhow::Result<()> {
    let image = Image::new(context)?;
    let target = directory(context, "target")?;
    for options in ["--json", ""] {
        let script =
            format!("exec verity image mount {options} {} {} > /dev/full", image.name, target.display());
        let mount = Program::new(BUSYBOX).words("sh -c").arg(script);
        expect_refused(mount, 1, "standard output")?;
        ensure!(!is_mounted(&target)?, "it is mounted");
        expect_nothing()?;
    }
    Ok(())
}
