//! `power-cuts`: guests that are killed in the middle of `verity repair --in-place`.
//!
//! Each cut has a disk of its own, with a damaged image on an ext4 file system. One guest repairs it and is killed at a random moment; the
//! next one mounts what is left, repairs again, and must find the image intact then.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail, ensure};

use crate::case::{Case, OwnBoot};
use crate::cases;
use crate::guest::pattern;
use crate::protocol::Verdict;

use super::accel::Accelerator;
use super::arguments::PowerCuts;
use super::initramfs::find_program;
use super::prepare;
use super::qemu::Disk;
use super::report::Counts;
use super::session::{Bootable, Session, Settings};

/// Bytes of data on the disk.
const DATA: usize = 24 << 20;
const BLOCK: usize = 4096;

/// Parity bytes of a codeword.
const ROOTS: usize = 8;

/// A guest works for seconds; more than this, and it hangs.
const GUEST_LIMIT: Duration = Duration::from_secs(300);

/// Cuts the power as often as was asked for. A failure is an image that is not intact afterwards.
pub(super) fn run(arguments: &PowerCuts) -> anyhow::Result<ExitCode> {
    let kernel = prepare::chosen(&arguments.choice)?.pop().context("no kernel")?;
    let prepared = prepare::prepare(vec![kernel])?;
    let bootable = prepared.bootables.first().context("no kernel")?;
    let folder = prepared.folder.path();
    let disk = make_disk(&prepared.verity, folder)?;
    let settings = Settings {
        accelerator: prepared.accelerator,
        firmware: prepared.firmware.clone(),
        guest_limit: GUEST_LIMIT,
        folder: folder.to_owned(),
    };
    let power = Power::new(bootable, &settings, disk)?;
    let duration = power.uncut().context("without a cut")?;
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let seed = arguments.seed.unwrap_or_else(now);
    eprintln!(
        "{} cuts within {:.1} s of a repair, Linux {} under {}, --seed {seed}",
        arguments.cuts,
        duration.as_secs_f64(),
        bootable.kernel.version,
        prepared.accelerator.name()
    );

    let next = AtomicU32::new(0);
    let cuts = Mutex::new((Counts::default(), BTreeSet::new()));
    let worker = || {
        while let Some(cut) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|cut| *cut < arguments.cuts) {
            let after = duration.mul_f64(fraction(seed, cut) * 1.1);
            let result = power.cut(cut, after);
            let Ok(mut cuts) = cuts.lock() else { return };
            match result {
                Ok(found) => {
                    println!("cut {cut:>3} after {:>6.3} s: intact; {found}", after.as_secs_f64());
                    cuts.0.passed += 1;
                    cuts.1.insert(found);
                }
                Err(error) => {
                    println!("cut {cut:>3} after {:>6.3} s: FAILED: {error:#}", after.as_secs_f64());
                    cuts.0.failed += 1;
                }
            }
        }
    };
    let jobs =
        arguments.jobs.map_or_else(|| thread::available_parallelism().map_or(1, usize::from), usize::from);
    thread::scope(|scope| (0..jobs).for_each(|_| drop(scope.spawn(worker))));
    let (counts, found) = cuts.into_inner().unwrap_or_default();
    println!("{}", counts.line());
    if counts.passed >= 20 {
        // Else the cuts came too early or too late to say anything.
        ensure!(found.len() > 1, "every cut left the same behind: {found:?}");
    }
    Ok(if counts.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A number from 0 to 1 that depends on the seed and the cut alone: splitmix64.
#[allow(clippy::cast_precision_loss)] // It need not be exact.
fn fraction(seed: u64, cut: u32) -> f64 {
    let mut number = seed.wrapping_add(u64::from(cut).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (number ^ (number >> 31)) as f64 / u64::MAX as f64
}

/// An ext4 file system with data that is damaged as far as can be restored, its tree and its parity.
fn make_disk(verity: &Path, folder: &Path) -> anyhow::Result<PathBuf> {
    let (tree, disk) = (folder.join("on-disk"), folder.join("disk"));
    fs::create_dir(&tree).context("a folder for the image")?;
    let mut data = pattern(DATA, 17);
    fs::write(tree.join("data"), &data).context("writing the data")?;
    let format = format!("format data hash --fec-device parity --fec-roots {ROOTS} --root-hash-file root");
    run_program(Command::new(verity).args(format.split(' ')).current_dir(&tree))?;
    // Neighbours are in different codewords: so many of them hit each as often as it can bear.
    let rounds = (DATA / BLOCK).div_ceil(255 - ROOTS);
    let first = 1000;
    for block in first..first + rounds * (ROOTS - 2) {
        data[block * BLOCK + block % BLOCK] ^= 0xff;
    }
    fs::write(tree.join("data"), &data).context("damaging the data")?;
    let mkfs =
        find_program("mkfs.ext4").context("there is no mkfs.ext4; on Debian: apt-get install e2fsprogs")?;
    // Without checksums, for which some kernels would load one more module.
    let mkfs_words = "-q -O ^metadata_csum -E nodiscard -d";
    run_program(Command::new(mkfs).args(mkfs_words.split(' ')).arg(&tree).arg(&disk).arg("80M"))?;
    Ok(disk)
}

fn run_program(command: &mut Command) -> anyhow::Result<()> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {}", said.trim());
    Ok(())
}

/// What every cut needs.
struct Power<'a> {
    bootable: &'a Bootable,
    settings: &'a Settings,
    disk: PathBuf,
    /// The state of a booted guest, where that is quicker than booting.
    state: Option<PathBuf>,
    repair: Case,
    finish: Case,
}

impl<'a> Power<'a> {
    fn new(bootable: &'a Bootable, settings: &'a Settings, disk: PathBuf) -> anyhow::Result<Self> {
        let [repair, finish] = cases::power();
        let mut power = Self { bootable, settings, disk, state: None, repair, finish };
        if settings.accelerator == Accelerator::Emulation {
            let disk = power.copy("boot")?;
            let session = power.start(&disk, "boot")?;
            let state = settings.folder.join("boot").join("state");
            session.save(&state)?;
            power.state = Some(state);
        }
        Ok(power)
    }

    fn copy(&self, name: &str) -> anyhow::Result<PathBuf> {
        let copy = self.settings.folder.join(format!("{name}.disk"));
        run_program(Command::new("cp").args(["--sparse=always"]).arg(&self.disk).arg(&copy))?;
        Ok(copy)
    }

    fn start(&self, disk: &Path, name: &str) -> anyhow::Result<Session> {
        let disks = vec![Disk { image: disk.to_owned(), read_only: false }];
        match &self.state {
            Some(state) => Session::restore(self.bootable, state, disks, self.settings, name),
            None => Session::boot(self.bootable, &OwnBoot::default(), disks, self.settings, name),
        }
    }

    /// A repair to its end; how long it takes.
    fn uncut(&self) -> anyhow::Result<Duration> {
        let disk = self.copy("uncut")?;
        let mut session = self.start(&disk, "uncut")?;
        let mut said = Vec::new();
        let ran = session.run(&self.repair, Vec::new(), |_| said.push(Instant::now()))?;
        expect_passed(ran.outcome.verdict)?;
        let [begun, done] = said.as_slice() else { bail!("the repair did not say when it began and ended") };
        let duration = *done - *begun;
        session.power_off()?;
        self.finish(&disk, "uncut-finish")?;
        Ok(duration)
    }

    /// A repair that is cut; what the next one found.
    fn cut(&self, number: u32, after: Duration) -> anyhow::Result<String> {
        let disk = self.copy(&format!("cut{number}"))?;
        self.start(&disk, &format!("cut{number}"))?.kill_in(&self.repair, after)?;
        let found = self.finish(&disk, &format!("finish{number}"))?;
        fs::remove_file(&disk).with_context(|| disk.display().to_string())?;
        Ok(found)
    }

    fn finish(&self, disk: &Path, name: &str) -> anyhow::Result<String> {
        let mut session = self.start(disk, name)?;
        let mut found = String::new();
        let ran = session.run(&self.finish, Vec::new(), |line| found = line.to_owned())?;
        expect_passed(ran.outcome.verdict)?;
        session.power_off()?;
        Ok(found)
    }
}

fn expect_passed(verdict: Verdict) -> anyhow::Result<()> {
    match verdict {
        Verdict::Passed => Ok(()),
        Verdict::Failed(why) | Verdict::Skipped(why) => bail!("{why}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_anywhere_and_repeatable() {
        let moments: Vec<f64> = (0..1000).map(|cut| fraction(7, cut)).collect();
        assert!(moments.iter().all(|moment| (0.0..=1.0).contains(moment)));
        for tenth in 0..10 {
            let range = f64::from(tenth) / 10.0..f64::from(tenth + 1) / 10.0;
            assert!(moments.iter().filter(|moment| range.contains(moment)).count() > 50, "{range:?}");
        }
        assert!((fraction(7, 3) - fraction(7, 3)).abs() < f64::EPSILON);
    }
}
