//! A guest that runs cases, from its boot to its end.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::case::{Case, Ending, OwnBoot};
use crate::protocol::{Finished, FromGuest, ToGuest, Verdict};

use super::accel::Accelerator;
use super::firmware::Firmware;
use super::kernels::Kernel;
use super::monitor::Report;
use super::qemu::{Disk, Event, Machine, Plan};
use super::report::Outcome;

/// A boot takes 3 s under emulation on a machine that does nothing else, through UEFI 7 s. On one with other work it has
/// taken twenty times as long.
const BOOT: Duration = Duration::from_secs(300);

/// To save or to restore a guest's state takes a fraction of a second.
const STATE: Duration = Duration::from_secs(60);

/// The guest ends a case at its limit. This much later, the guest itself hangs.
const GRACE: Duration = Duration::from_secs(30);

/// A power-off takes a fraction of a second.
const POWER_OFF: Duration = Duration::from_secs(30);

/// A kernel with the initramfs that was made for it.
#[derive(Debug)]
pub(super) struct Bootable {
    /// The kernel.
    pub(super) kernel: Kernel,
    /// The archive.
    pub(super) initramfs: PathBuf,
}

/// How guests are run.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    /// How their processors are.
    pub(super) accelerator: Accelerator,
    /// For those that start through UEFI.
    pub(super) firmware: Firmware,
    /// No guest may run longer.
    pub(super) guest_limit: Duration,
    /// Where each guest gets a folder.
    pub(super) folder: PathBuf,
}

/// A booted guest.
pub(super) struct Session {
    machine: Machine,
    deadline: Instant,
}

/// What became of one case.
pub(super) struct Ran {
    /// For the report, without a console.
    pub(super) outcome: Outcome,
    /// Whether the guest can run another case.
    pub(super) usable: bool,
}

impl Session {
    /// Boots a guest and waits until it takes cases.
    pub(super) fn boot(
        bootable: &Bootable,
        own: &OwnBoot,
        mut disks: Vec<Disk>,
        settings: &Settings,
        name: &str,
    ) -> anyhow::Result<Self> {
        let folder = settings.folder.join(name);
        fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        for (index, mib) in own.disks_mib.iter().enumerate() {
            let image = folder.join(format!("disk{index}"));
            let file = fs::File::create(&image).with_context(|| image.display().to_string())?;
            file.set_len(mib << 20).with_context(|| image.display().to_string())?;
            disks.push(Disk { image, read_only: false });
        }
        let mut arguments: Vec<String> = own.arguments.iter().map(|&argument| argument.to_owned()).collect();
        if !own.without_modules.is_empty() {
            arguments.push(format!("kernel_tests.without={}", own.without_modules.join(",")));
        }
        let plan = Plan {
            kernel: &bootable.kernel.image,
            initramfs: &bootable.initramfs,
            arguments,
            disks,
            accelerator: settings.accelerator,
            firmware: own.uefi.then(|| settings.firmware.for_guest(&folder)).transpose()?,
            state: None,
        };
        let mut session = Self::start(&plan, settings, &folder)?;
        let started = Instant::now();
        let limit = session.deadline.min(started + BOOT);
        let first = loop {
            match session.machine.next(limit) {
                Some(Event::Machine(Report::Running)) => {}
                // UEFI's console is every serial port.
                Some(Event::Garbage(_)) if own.uefi => {}
                other => break other,
            }
        };
        match first {
            Some(Event::Guest(FromGuest::Hello { kernel })) if kernel == bootable.kernel.version => {
                Ok(session)
            }
            Some(Event::Guest(FromGuest::Hello { kernel })) => {
                bail!("expected Linux {}, but {kernel} booted", bootable.kernel.version)
            }
            Some(Event::Guest(FromGuest::Broken { detail })) => bail!("the guest cannot run cases: {detail}"),
            Some(other) => bail!("the guest did not come up: {other:?}"),
            None => bail!("the guest did not come up within {} s", (limit - started).as_secs()),
        }
    }

    /// Saves the state of a guest that has run no case, for [`restore`](Self::restore).
    pub(super) fn save(self, to: &Path) -> anyhow::Result<()> {
        let limit = self.deadline.min(Instant::now() + STATE);
        self.machine.save(to, limit).context("saving the state of a booted guest")
    }

    /// Starts a guest from the state of one that was booted with as many disks and nothing else of its own: as good
    /// as a boot, in a tenth of the time.
    pub(super) fn restore(
        bootable: &Bootable,
        state: &Path,
        disks: Vec<Disk>,
        settings: &Settings,
        name: &str,
    ) -> anyhow::Result<Self> {
        let plan = Plan {
            kernel: &bootable.kernel.image,
            initramfs: &bootable.initramfs,
            arguments: Vec::new(),
            disks,
            accelerator: settings.accelerator,
            firmware: None,
            state: Some(state),
        };
        let mut session = Self::start(&plan, settings, &settings.folder.join(name))?;
        let limit = session.deadline.min(Instant::now() + STATE);
        session.machine.wait_for(&Report::Running, limit).context("restoring the state of a booted guest")?;
        Ok(session)
    }

    fn start(plan: &Plan<'_>, settings: &Settings, folder: &Path) -> anyhow::Result<Self> {
        let deadline = Instant::now() + settings.guest_limit;
        Ok(Self { machine: Machine::start(plan, folder)?, deadline })
    }

    /// Runs one case, and does for it what it asks for. `say` hears what it says.
    pub(super) fn run(
        &mut self,
        case: &Case,
        facts: Vec<(String, String)>,
        mut say: impl FnMut(&str),
    ) -> anyhow::Result<Ran> {
        let started = Instant::now();
        let expected = case.own_boot.as_ref().map_or(Ending::PowerOff, |own| own.ending);
        let limit = (started + case.limit + GRACE).min(self.deadline);
        let message = ToGuest::Run { case: case.name.clone(), limit_seconds: case.limit.as_secs(), facts };
        self.machine.send(&message)?;
        let mut armed = false;
        let mut said = Vec::new();
        let (verdict, millis, usable) = loop {
            let failed = |why: String| (Verdict::Failed(why), elapsed(started), false);
            match self.machine.next(limit) {
                Some(Event::Guest(FromGuest::Say { line })) => {
                    say(&line);
                    said.push(line);
                }
                Some(Event::Guest(FromGuest::Armed)) => {
                    armed = true;
                    self.machine.send(&ToGuest::Done)?;
                }
                Some(Event::Guest(FromGuest::FlipByte { disk, offset })) => {
                    self.machine.flip(disk, offset)?;
                    self.machine.send(&ToGuest::Done)?;
                }
                Some(Event::Guest(FromGuest::Finished(finished))) if finished.case == case.name => {
                    break settle(finished, expected);
                }
                Some(Event::Guest(FromGuest::Broken { detail })) => {
                    break failed(format!("the guest gave up: {detail}"));
                }
                Some(Event::Guest(other)) => {
                    break failed(format!("the guest says {other:?} in the middle of it"));
                }
                Some(Event::Garbage(line)) => break failed(format!("the guest's port: {line}")),
                Some(Event::Machine(Report::Stopped(_) | Report::Running)) => {}
                Some(Event::Machine(other)) => {
                    break failed(format!("QEMU reports {other:?} in the middle of it"));
                }
                Some(Event::Gone) => {
                    let ending = self.machine.ending()?;
                    break match (armed, ending == expected) {
                        (true, true) => (Verdict::Passed, elapsed(started), false),
                        (true, false) => {
                            failed(format!("expected a {expected} of the guest, but got a {ending}"))
                        }
                        (false, _) => failed(format!("the guest ended with a {ending} in the middle of it")),
                    };
                }
                None => {
                    break failed(format!(
                        "the guest hangs: no verdict after {} s",
                        started.elapsed().as_secs()
                    ));
                }
            }
        };
        Ok(Ran { outcome: Outcome { verdict, millis, said, console: None }, usable })
    }

    /// Starts a case and kills the guest so long after the case says that it begins.
    pub(super) fn kill_in(mut self, case: &Case, after: Duration) -> anyhow::Result<()> {
        let limit = self.deadline;
        let message =
            ToGuest::Run { case: case.name.clone(), limit_seconds: case.limit.as_secs(), facts: Vec::new() };
        self.machine.send(&message)?;
        loop {
            match self.machine.next(limit) {
                Some(Event::Guest(FromGuest::Say { .. })) => break,
                Some(Event::Machine(Report::Running)) => {}
                other => bail!("{} did not begin: {other:?}", case.name),
            }
        }
        thread::sleep(after);
        Ok(())
    }

    /// Ends the guest the way that it ends by itself; one that does not is killed.
    pub(super) fn power_off(mut self) -> anyhow::Result<()> {
        self.machine.send(&ToGuest::PowerOff)?;
        let deadline = Instant::now() + POWER_OFF;
        loop {
            match self.machine.next(deadline) {
                Some(Event::Gone) => break,
                Some(_) => {}
                None => bail!("the guest did not power off within {} s", POWER_OFF.as_secs()),
            }
        }
        match self.machine.ending()? {
            Ending::PowerOff => Ok(()),
            other => bail!("the guest was told to power off, and ended with a {other}"),
        }
    }
}

/// The verdict on a case that came to its own end.
fn settle(finished: Finished, expected: Ending) -> (Verdict, u64, bool) {
    let Finished { verdict, millis, leaks, clean, .. } = finished;
    let verdict = match verdict {
        Verdict::Passed if expected != Ending::PowerOff => {
            Verdict::Failed(format!("expected a {expected} of the guest, but it goes on"))
        }
        // A case that failed half-way cannot be asked to have tidied up.
        Verdict::Passed if !leaks.is_empty() => {
            Verdict::Failed(format!("it left behind: {}", leaks.join(", ")))
        }
        Verdict::Failed(why) if !leaks.is_empty() => {
            Verdict::Failed(format!("{why}\n  and it left behind: {}", leaks.join(", ")))
        }
        other => other,
    };
    (verdict, millis, clean)
}

fn elapsed(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finished(verdict: Verdict, leaks: &[&str]) -> Finished {
        let leaks: Vec<String> = leaks.iter().map(|&leak| leak.to_owned()).collect();
        Finished { case: "a/b".into(), verdict, millis: 7, clean: leaks.is_empty(), leaks }
    }

    #[test]
    fn a_leak_fails_a_case_that_passed() {
        let (verdict, _, usable) =
            settle(finished(Verdict::Passed, &["loop device loop0"]), Ending::PowerOff);
        assert!(matches!(verdict, Verdict::Failed(why) if why.contains("loop0")));
        assert!(!usable);
        let (verdict, millis, usable) = settle(finished(Verdict::Passed, &[]), Ending::PowerOff);
        assert_eq!((verdict, millis, usable), (Verdict::Passed, 7, true));
    }

    #[test]
    fn going_on_fails_a_case_that_expects_the_end() {
        let (verdict, ..) = settle(finished(Verdict::Passed, &[]), Ending::Restart);
        assert!(matches!(verdict, Verdict::Failed(why) if why.contains("restart")));
        let (verdict, ..) = settle(finished(Verdict::Skipped("x".into()), &[]), Ending::Restart);
        assert_eq!(verdict, Verdict::Skipped("x".into()));
    }
}
