//! With udev, which makes the nodes where it runs, opens every new device for a look, and is waited for.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use verity_core::device::{
    Deactivated, DeviceName, Removal, TableOptions, cancel_deferred, deactivate, query,
};
use verity_core::params::Params;

use crate::case::{Body, Case, OwnBoot, Skip};
use crate::guest::{Context, KernelObjects, Program, device_mapper_devices};

use super::image::{Image, expect_absent, remove, side_by_side};
use super::rollback;

pub(super) fn cases() -> Vec<Case> {
    let case =
        |name: &str, claim: &str, body: Body| Case::new(name, claim, body).own_boot(OwnBoot::default());
    vec![
        case(
            "udev/nodes",
            "an activation returns when udev has made the links, a removal when they are gone",
            nodes,
        ),
        case(
            "udev/deferred",
            "the node of a device whose removal is put off stays, and goes with it",
            deferred,
        ),
        case("udev/tools", "the C tool and the library close what the other opened", tools),
        case(
            "udev/rollback",
            "a failure after any step leaves nothing, though udev has the device open",
            |context| with_udev(context, rollback::every_step),
        ),
        case("udev/one-name", "of many threads that want one name exactly one gets it", |context| {
            with_udev(context, rollback::one_name)
        }),
        case(
            "udev/many",
            "50 activations and removals, alone and many at once, fail nowhere and leave nothing",
            many,
        ),
    ]
}

const NAME: &str = "udevs";

/// Runs a case while udev runs.
fn with_udev(context: &mut Context, body: Body) -> anyhow::Result<()> {
    if !Path::new("/bin/udevadm").exists() {
        return Err(Skip("there is no udev in this guest: `./x setup` fetches one".into()).into());
    }
    // One program under two names; and the rules call dmsetup where Debian has it.
    symlink("/bin/udevadm", "/bin/systemd-udevd").context("linking systemd-udevd")?;
    fs::create_dir_all("/sbin").context("/sbin")?;
    symlink("/bin/dmsetup", "/sbin/dmsetup").context("linking dmsetup")?;
    Program::new("systemd-udevd").arg("--daemon").succeed()?;
    Program::new("udevadm").words("trigger --action=add --subsystem-match=block --settle").succeed()?;
    let before = KernelObjects::now()?;
    body(context)?;
    let left = before.leaks();
    ensure!(left.is_empty(), "left behind: {}", left.join(", "));
    let semaphores = fs::read_to_string("/proc/sysvipc/sem").context("/proc/sysvipc/sem")?;
    ensure!(semaphores.lines().count() == 1, "semaphores are left behind:\n{semaphores}");
    Program::new("udevadm").words("control --exit").succeed().map(drop)
}

/// Fails unless the links to the device are udev's.
fn expect_links(name: &str) -> anyhow::Result<()> {
    let info = query(&name.parse()?)?;
    let target = format!("../dm-{}", info.number.minor());
    let found =
        fs::read_link(info.node()).with_context(|| format!("{} is no link", info.node().display()))?;
    ensure!(found == Path::new(&target), "{} leads to {}", info.node().display(), found.display());
    let record =
        fs::read_to_string(format!("/run/udev/data/b{}", info.number)).context("udev's record of it")?;
    ensure!(
        record.lines().any(|line| line == format!("S:mapper/{name}")),
        "the link is not udev's:\n{record}"
    );
    let by_name = format!("/dev/disk/by-id/dm-name-{name}");
    ensure!(fs::symlink_metadata(&by_name).is_ok(), "no {by_name}: udev's rules did not all run");
    Ok(())
}

fn expect_no_links(name: &str) -> anyhow::Result<()> {
    expect_absent(name)?;
    let by_name = format!("/dev/disk/by-id/dm-name-{name}");
    ensure!(fs::symlink_metadata(&by_name).is_err(), "{by_name} outlives its device");
    Ok(())
}

fn nodes(context: &mut Context) -> anyhow::Result<()> {
    with_udev(context, |context| {
        let image = Image::new(context, Params::default(), 40)?;
        for round in 0..10 {
            let activated = image.activate(NAME, TableOptions::default())?;
            expect_links(NAME).with_context(|| format!("round {round}"))?;
            image.expect_whole(&activated)?;
            remove(NAME).with_context(|| format!("round {round}"))?;
            expect_no_links(NAME).with_context(|| format!("round {round}"))?;
        }
        Ok(())
    })
}

fn deferred(context: &mut Context) -> anyhow::Result<()> {
    with_udev(context, |context| {
        let image = Image::new(context, Params::default(), 40)?;
        let name: DeviceName = NAME.parse()?;
        image.activate(NAME, TableOptions::default())?;
        let user = File::open(name.node())?;
        ensure!(deactivate(&name, Removal::Deferred)? == Deactivated::Deferred, "not put off");
        expect_links(NAME).context("while it is put off")?;
        cancel_deferred(&name)?;
        expect_links(NAME).context("after that was taken back")?;
        ensure!(deactivate(&name, Removal::Deferred)? == Deactivated::Deferred, "not put off again");
        drop(user);
        let deadline = Instant::now() + Duration::from_secs(30);
        while !device_mapper_devices()?.is_empty() || fs::symlink_metadata(name.node()).is_ok() {
            ensure!(Instant::now() < deadline, "the device or its node outlives its last user");
            thread::sleep(Duration::from_millis(2));
        }
        Program::new("udevadm").words("settle").succeed()?;
        expect_no_links(NAME)
    })
}

fn tools(context: &mut Context) -> anyhow::Result<()> {
    with_udev(context, |context| {
        let image = Image::new(context, Params::default(), 40)?;
        let root = image.root.to_string();
        let (data, hash) = (image.data.as_path(), image.hash.as_path());
        for _ in 0..5 {
            Program::new("veritysetup")
                .arg("open")
                .args([data, Path::new(NAME), hash])
                .arg(&root)
                .succeed()?;
            expect_links(NAME).context("the C tool's")?;
            remove(NAME).context("the C tool's")?;
            expect_no_links(NAME).context("the C tool's")?;
            image.activate(NAME, TableOptions::default())?;
            Program::new("veritysetup").args(["close", NAME]).succeed()?;
            expect_no_links(NAME).context("after the C tool has closed it")?;
        }
        Ok(())
    })
}

fn many(context: &mut Context) -> anyhow::Result<()> {
    with_udev(context, |context| {
        let image = Image::new(context, Params::default(), 16)?;
        let round = |name: &str| {
            let activated = image.activate(name, TableOptions::default())?;
            image.expect_whole(&activated).with_context(|| name.to_owned())?;
            remove(name)
        };
        let started = Instant::now();
        for _ in 0..10 {
            round(NAME)?;
        }
        let alone = started.elapsed() / 10;
        let names: Vec<_> = (10..50).map(|index| format!("one-of-many-{index}")).collect();
        side_by_side(&names, |name| round(name))?;
        context.say(format!("alone each takes {} ms", alone.as_millis()))
    })
}
