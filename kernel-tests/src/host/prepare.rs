//! All that must be there before a guest can boot.

use std::fs::{self, File};
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use anyhow::{Context as _, bail, ensure};
use nix::sys::signal::{SigSet, Signal};
use tempfile::TempDir;

use super::accel::Accelerator;
use super::arguments::Choice;
use super::firmware::Firmware;
use super::guest_build;
use super::initramfs::{Initramfs, find_program};
use super::kernels::{self, Kernel};
use super::keys::Keys;
use super::modules;
use super::qemu;
use super::session::Bootable;
use super::udev;

/// Programs of this machine that the cases use, and the Debian package of each.
const HOST_PROGRAMS: &[(&str, &str)] = &[
    ("veritysetup", "cryptsetup-bin"),
    ("dmsetup", "dmsetup"),
    ("losetup", "mount"),
    ("mkfs.erofs", "erofs-utils"),
    ("openssl", "openssl"),
    ("keyctl", "keyutils"),
];

/// A working folder, gone with the value, and what was put into it.
pub(super) struct Prepared {
    /// Kernels with their initramfs.
    pub(super) bootables: Vec<Bootable>,
    /// How guests are run here.
    pub(super) accelerator: Accelerator,
    /// For guests that start through UEFI.
    pub(super) firmware: Firmware,
    /// For what a run leaves while it lasts.
    pub(super) folder: TempDir,
    /// The command line under test, for use on this machine.
    pub(super) verity: PathBuf,
}

/// The kernels that the user chose.
pub(super) fn chosen(choice: &Choice) -> anyhow::Result<Vec<Kernel>> {
    match (&choice.kernel_image, &choice.modules) {
        (Some(image), Some(modules)) => Ok(vec![Kernel::own(image, modules)?]),
        _ => kernels::cached(&choice.kernels),
    }
}

/// Builds the guest programs and an initramfs a kernel, and probes KVM meanwhile.
pub(super) fn prepare(kernels: Vec<Kernel>) -> anyhow::Result<Prepared> {
    ensure!(
        cfg!(target_arch = "x86_64"),
        "the guests are x86-64 machines, and building for them from another is not supported"
    );
    qemu::check()?;
    let folder = tempfile::Builder::new().prefix("kernel-tests-").tempdir().context("a temporary folder")?;
    remove_when_interrupted(folder.path().to_owned())?;
    let mut common = Initramfs::new();
    for (name, package) in HOST_PROGRAMS {
        let Some(program) = find_program(name) else {
            bail!("{name} is not on this machine; on Debian: apt-get install {package}");
        };
        common.host_program(&program)?;
    }
    udev::add(&mut common)?;
    let keys = Keys::make(folder.path())?;
    keys.add(&mut common)?;
    let firmware = Firmware::trusting(&keys.trusted()?, folder.path())?;
    common.program("bin/busybox", &busybox()?)?;
    let newest = kernels.last().context("no kernel")?.image.clone();
    let (programs, accelerator) = thread::scope(|scope| {
        let probe = scope.spawn(|| Accelerator::probe(&newest, folder.path()));
        let programs = guest_build::build();
        (programs, probe.join())
    });
    let programs = programs?;
    let accelerator = accelerator.unwrap_or_else(|_| bail!("the probe of KVM panicked"))?;
    common.program("init", &programs.init)?;
    common.program("bin/verity", &programs.verity)?;
    let bootables = kernels
        .into_iter()
        .map(|kernel| {
            let initramfs = folder.path().join(format!("{}.cpio", kernel.label));
            write(&common, &kernel, &initramfs)
                .with_context(|| format!("the initramfs of {}", kernel.version))?;
            Ok(Bootable { kernel, initramfs })
        })
        .collect::<anyhow::Result<Vec<_>>>()?;
    Ok(Prepared { bootables, accelerator, firmware, folder, verity: programs.verity })
}

fn write(common: &Initramfs, kernel: &Kernel, to: &Path) -> anyhow::Result<()> {
    let mut whole = common.clone();
    whole.modules(&modules::collect(&kernel.modules, modules::WANTED)?);
    let file = File::create(to).with_context(|| to.display().to_string())?;
    whole.write(BufWriter::new(file))
}

fn busybox() -> anyhow::Result<PathBuf> {
    let advice = "on Debian: apt-get install busybox-static";
    let Some(path) = find_program("busybox") else {
        bail!("the guests need a busybox without libraries, and there is no busybox; {advice}");
    };
    let output = Command::new("ldd").arg(&path).output().context("starting ldd")?;
    ensure!(
        !output.status.success(),
        "the guests need a busybox without libraries, and {} has some; {advice}",
        path.display()
    );
    Ok(path)
}

/// An interrupted run removes its folder too; its guests are killed by the kernel, since their parent dies.
fn remove_when_interrupted(folder: PathBuf) -> anyhow::Result<()> {
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        signals.add(signal);
    }
    // Blocked before any other thread is started, so that only this one hears of them.
    signals.thread_block().context("blocking signals")?;
    thread::spawn(move || {
        if let Ok(signal) = signals.wait() {
            // Guests that still run may put a file into it meanwhile.
            let _ = (0..10).find(|_| fs::remove_dir_all(&folder).is_ok());
            eprintln!("kernel-tests: ended by {signal}");
            std::process::exit(128 + signal as i32);
        }
    });
    Ok(())
}
