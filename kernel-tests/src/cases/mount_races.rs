//! Mounting and unmounting at once, stopped at any moment, and without sysfs.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use nix::mount::{MntFlags, MsFlags, mount as mount_by_hand, umount2};
use nix::sys::signal::Signal;

use crate::case::{Case, OwnBoot};
use crate::guest::{Context, KernelObjects, Output, Program};

use super::images::{Image, expect_image, expect_nothing, umount};
use super::layers::directory;
use super::tools::expect_silence;
use super::unmounts::{expect_gone, is_mounted};

/// So often two images come and go beside each other.
const ROUNDS: usize = 8;

/// So many moments of a command are those at which it is stopped.
const MOMENTS: u32 = 10;

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::new(
            "image/beside",
            "two images with a common layer come and go beside each other without a failure",
            beside,
        )
        .limit(600),
        Case::new(
            "image/terminated",
            "a mount or unmount that is told to stop at any moment leaves nothing but what it says",
            terminated,
        )
        .limit(600),
        Case::new("image/without-sysfs", "without sysfs nothing is made, and it is named", without_sysfs)
            .own_boot(OwnBoot::default()),
    ]
}

fn beside(context: &mut Context) -> anyhow::Result<()> {
    let before = KernelObjects::now()?;
    let images = Image::related(context)?;
    let targets = [directory(context, "target-1")?, directory(context, "target-2")?];
    let come_and_go = |image: &Image, target: &Path| -> anyhow::Result<()> {
        for round in 0..ROUNDS {
            let what = || format!("{}, round {round}", image.name);
            expect_silence(image.mount(target)).with_context(what)?;
            expect_image(target).with_context(what)?;
            expect_silence(umount(target)).with_context(what)?;
        }
        Ok(())
    };
    thread::scope(|scope| {
        let threads: Vec<_> = images
            .iter()
            .zip(&targets)
            .map(|(image, target)| scope.spawn(move || come_and_go(image, target)))
            .collect();
        threads.into_iter().try_for_each(|thread| match thread.join() {
            Ok(result) => result,
            Err(_) => bail!("a thread panicked"),
        })
    })?;
    expect_gone(&before)
}

/// Sends a program that is at work the signal after this time; fails unless it came to its end, or to that of the signal.
fn stop_after(program: Program, time: Duration) -> anyhow::Result<Output> {
    let started = program.start()?;
    thread::sleep(time);
    started.signal(Signal::SIGTERM)?;
    let output = started.wait()?;
    ensure!(output.code == Some(0) || output.signal == Some(15), "expected success or a signal of {output}");
    Ok(output)
}

fn terminated(context: &mut Context) -> anyhow::Result<()> {
    let before = KernelObjects::now()?;
    let image = Image::new(context)?;
    let target = directory(context, "target")?;
    let timed = |program: Program| -> anyhow::Result<Duration> {
        let started = Instant::now();
        expect_silence(program)?;
        Ok(started.elapsed())
    };
    let (mounting, unmounting) = (timed(image.mount(&target))?, timed(umount(&target))?);
    let (mut stopped_mounts, mut stopped_unmounts) = (0, 0);
    for moment in 0..MOMENTS {
        let output = stop_after(image.mount(&target), mounting * moment / MOMENTS)?;
        let done = output.code == Some(0);
        ensure!(is_mounted(&target)? == done, "moment {moment}: mounted or not, unlike what {output} says");
        stopped_mounts += u32::from(!done);
        if !done {
            // It has cleaned up itself: no other command has run since.
            expect_gone(&before).with_context(|| format!("moment {moment} of a mount, {output}"))?;
            expect_silence(image.mount(&target))?;
        }
        expect_image(&target)?;
        let output = stop_after(umount(&target), unmounting * moment / MOMENTS)?;
        stopped_unmounts += u32::from(output.code != Some(0));
        if is_mounted(&target)? {
            ensure!(output.code != Some(0), "moment {moment}: it is mounted, unlike what {output} says");
            expect_image(&target)?;
            expect_silence(umount(&target))?;
        }
        expect_gone(&before).with_context(|| format!("moment {moment} of an unmount, {output}"))?;
    }
    context.say(format!(
        "of {MOMENTS} mounts {stopped_mounts} were stopped, and {stopped_unmounts} of as many unmounts"
    ))
}

fn without_sysfs(context: &mut Context) -> anyhow::Result<()> {
    let before = KernelObjects::now()?;
    let image = Image::new(context)?;
    let target = directory(context, "target")?;
    let without = |program: Program| -> anyhow::Result<Output> {
        umount2("/sys", MntFlags::MNT_DETACH).context("unmounting /sys")?;
        let output = program.run();
        mount_by_hand(Some("sysfs"), "/sys", Some("sysfs"), MsFlags::empty(), None::<&str>)
            .context("mounting /sys")?;
        output
    };
    without(image.mount(&target))?.expect_code(1)?.expect_error("sysfs")?;
    expect_nothing()?;
    expect_silence(image.mount(&target))?;
    expect_image(&target)?;
    // What was mounted can be unmounted all the same.
    without(umount(&target))?.expect_code(0)?;
    expect_gone(&before)
}
