//! Activations that do not succeed, and what is left of them: nothing.

use std::fs::File;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use verity_core::device::{
    Activation, DeviceName, Error, Kind, Step, Steps, TableOptions, activate, activate_with, query,
};
use verity_core::params::Params;

use crate::case::Case;
use crate::guest::{Context, KernelObjects, Program, device_mapper_devices};

use super::image::{Image, expect_absent, remove};

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::new(
            "rollback/every-step",
            "a failure after any step of an activation leaves nothing, and the name is free again",
            every_step,
        ),
        Case::new("rollback/panic", "nor does a panic of whoever watches an activation", panic),
        Case::new(
            "rollback/in-use",
            "a device that someone has opened when its activation fails goes when it is closed, and the error says so",
            in_use,
        ),
        Case::new(
            "rollback/removed-meanwhile",
            "an activation whose device someone else removes fails and leaves nothing",
            removed_meanwhile,
        ),
        Case::new(
            "rollback/replaced-meanwhile",
            "an activation that fails leaves alone what someone else has put in its device's place",
            replaced_meanwhile,
        ),
        Case::new("rollback/one-name", "of many threads that want one name exactly one gets it", one_name),
    ]
}

const NAME: &str = "rolled-back";

/// Does something after a step.
struct After<F> {
    step: Step,
    what: F,
    seen: Mutex<Vec<Step>>,
}

impl<F: Fn() -> io::Result<()>> After<F> {
    fn new(step: Step, what: F) -> Self {
        Self { step, what, seen: Mutex::default() }
    }

    fn seen(self) -> anyhow::Result<Vec<Step>> {
        self.seen.into_inner().map_err(|_| anyhow::anyhow!("the watcher panicked"))
    }
}

impl<F: Fn() -> io::Result<()>> Steps for After<F> {
    fn done(&self, step: Step) -> io::Result<()> {
        self.seen.lock().map_err(|_| io::Error::other("poisoned"))?.push(step);
        if step == self.step { (self.what)() } else { Ok(()) }
    }
}

fn stop() -> io::Result<()> {
    Err(io::Error::other("stopped by the test"))
}

/// Fails unless nothing is there now that was not there before, and the name can be used.
fn expect_rolled_back(before: &KernelObjects, image: &Image) -> anyhow::Result<()> {
    // The device and its node must be gone at once; loop devices are given the moment that they take.
    expect_absent(NAME)?;
    let left = before.leaks();
    ensure!(left.is_empty(), "left behind: {}", left.join(", "));
    let active = image.activate(NAME, TableOptions::default()).context("after the rollback")?;
    image.expect_whole(&active)?;
    remove(NAME)
}

pub(super) fn every_step(context: &mut Context) -> anyhow::Result<()> {
    let image = Image::new(context, Params::default(), 16)?;
    let activation = image.activation(NAME)?;
    let before = KernelObjects::now()?;
    for (index, step) in Step::ALL.into_iter().enumerate() {
        let watcher = After::new(step, stop);
        match activate_with(&activation, &watcher) {
            Err(Error::Stopped { after, source, .. }) if after == step => {
                ensure!(source.to_string() == "stopped by the test", "{step}: {source}");
            }
            Err(error) => bail!("{step}: expected the watcher's error, got: {error}"),
            Ok(active) => bail!("{step}: expected the watcher's error, but it is {}", active.status),
        }
        let seen = watcher.seen()?;
        ensure!(seen == Step::ALL[..=index], "stopped after {step}, but the steps were {seen:?}");
        expect_rolled_back(&before, &image).with_context(|| format!("stopped after {step}"))?;
    }
    Ok(())
}

fn panic(context: &mut Context) -> anyhow::Result<()> {
    let image = Image::new(context, Params::default(), 16)?;
    let activation = image.activation(NAME)?;
    let before = KernelObjects::now()?;
    for step in Step::ALL {
        let watcher = After::new(step, || panic!("the test's"));
        let result = catch_unwind(AssertUnwindSafe(|| activate_with(&activation, &watcher)));
        ensure!(result.is_err(), "{step}: expected a panic, got {result:?}");
        expect_rolled_back(&before, &image).with_context(|| format!("panicked after {step}"))?;
    }
    Ok(())
}

fn in_use(context: &mut Context) -> anyhow::Result<()> {
    let image = Image::new(context, Params::default(), 16)?;
    let activation = image.activation(NAME)?;
    let before = KernelObjects::now()?;
    for step in [Step::Resumed, Step::Checked] {
        let user = Mutex::new(None);
        let watcher = After::new(step, || {
            let file = File::open(activation.name.node())?;
            *user.lock().map_err(|_| io::Error::other("poisoned"))? = Some(file);
            stop()
        });
        let error = match activate_with(&activation, &watcher) {
            Ok(active) => bail!("expected the watcher's error, but it is {}", active.status),
            Err(error) => error,
        };
        match &error {
            Error::NotUndone { error, source }
                if matches!(**error, Error::Stopped { .. })
                    && matches!(**source, Error::Busy { open_count: 1, .. }) => {}
            other => bail!("{step}: expected to be told of what is left, got: {other}"),
        }
        let left = query(&activation.name).context("what is left")?;
        ensure!(left.deferred_remove && left.open_count == 1, "{step}: what is left is {left:?}");
        drop(user);
        let deadline = Instant::now() + Duration::from_secs(20);
        while device_mapper_devices()?.iter().any(|name| name == NAME) {
            ensure!(Instant::now() < deadline, "{step}: the device outlives its last user");
            thread::sleep(Duration::from_millis(2));
        }
        expect_rolled_back(&before, &image).with_context(|| format!("stopped after {step}"))?;
    }
    Ok(())
}

/// Told to check udev's work, dmsetup makes and removes nodes where there is no udev.
fn dmsetup(words: &str) -> io::Result<()> {
    let run = Program::new("dmsetup").arg("--verifyudev").words(words).succeed();
    run.map(drop).map_err(|error| io::Error::other(format!("{error:#}")))
}

fn removed_meanwhile(context: &mut Context) -> anyhow::Result<()> {
    let image = Image::new(context, Params::default(), 16)?;
    let activation = image.activation(NAME)?;
    let before = KernelObjects::now()?;
    for step in [Step::Created, Step::Loaded, Step::Resumed] {
        let watcher = After::new(step, || dmsetup(&format!("remove {NAME}")));
        let error = match activate_with(&activation, &watcher) {
            Ok(active) => bail!("{step}: expected an error, but it is {}", active.status),
            Err(error) => error,
        };
        ensure!(matches!(error, Error::Vanished { .. }), "{step}: {error}");
        expect_rolled_back(&before, &image).with_context(|| format!("removed after {step}"))?;
    }
    Ok(())
}

fn replaced_meanwhile(context: &mut Context) -> anyhow::Result<()> {
    let image = Image::new(context, Params::default(), 16)?;
    let activation = image.activation(NAME)?;
    let before = KernelObjects::now()?;
    // With its own UUID, which is all that tells it from ours while neither has a table; then with ours and a table.
    for (uuid, table) in [("theirs", None), (&uuid(&activation)?, Some("0 8 error"))] {
        for step in [Step::Created, Step::Loaded, Step::Resumed] {
            let watcher = After::new(step, || {
                // The new device gets the old one's number too: the kernel gives out the lowest that is free.
                dmsetup(&format!("remove {NAME}"))?;
                let create = Program::new("dmsetup").words("create --verifyudev --uuid").arg(uuid);
                let create = match table {
                    None => create.args([NAME, "--notable"]),
                    Some(table) => create.args([NAME, "--table", table]),
                };
                create.succeed().map_err(|error| io::Error::other(format!("{error:#}")))?;
                stop()
            });
            let error = match activate_with(&activation, &watcher) {
                Ok(active) => bail!("{step}: expected an error, but it is {}", active.status),
                Err(error) => error,
            };
            ensure!(matches!(error, Error::Stopped { .. }), "{step}: {error}");
            let left = device_mapper_devices()?;
            ensure!(left == [NAME], "{step}: expected {NAME} ({uuid}) to be left alone, found {left:?}");
            dmsetup(&format!("remove {NAME}"))?;
            expect_rolled_back(&before, &image).with_context(|| format!("replaced after {step}"))?;
        }
    }
    Ok(())
}

/// The UUID that an activation gives its device.
fn uuid(activation: &Activation) -> anyhow::Result<String> {
    activate(activation)?;
    let uuid = query(&activation.name)?.uuid.context("no UUID")?;
    remove(NAME)?;
    Ok(uuid)
}

pub(super) fn one_name(context: &mut Context) -> anyhow::Result<()> {
    const THREADS: usize = 8;
    const ROUNDS: usize = 10;
    let image = Image::new(context, Params::default(), 16)?;
    let activation = image.activation(NAME)?;
    let before = KernelObjects::now()?;
    for round in 0..ROUNDS {
        let winners = AtomicUsize::new(0);
        let compete = || match activate(&activation) {
            Ok(_) => {
                winners.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
            Err(error) if error.kind() == Kind::Exists => Ok(()),
            Err(error) => Err(error),
        };
        thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(compete)).collect();
            threads.into_iter().try_for_each(|thread| match thread.join() {
                Ok(result) => Ok(result?),
                Err(_) => bail!("a thread panicked"),
            })
        })
        .with_context(|| format!("round {round}"))?;
        let winners = winners.into_inner();
        ensure!(winners == 1, "round {round}: {winners} winners");
        let name: DeviceName = NAME.parse()?;
        let found = query(&name)?;
        ensure!(found.mapping.is_some() && !found.deferred_remove, "round {round}: {found:?}");
        remove(NAME)?;
    }
    let left = before.leaks();
    ensure!(left.is_empty(), "left behind: {}", left.join(", "));
    Ok(())
}
