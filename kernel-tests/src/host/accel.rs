//! Finds out whether KVM really boots a guest here.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::qemu::QEMU;

/// A kernel under KVM says its first line within a fraction of a second. Where it does not, as on machines whose
/// own hypervisor does not nest, this much time is lost.
const LIMIT: Duration = Duration::from_secs(3);

/// How a guest's processor is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Accelerator {
    /// By the machine's own.
    Kvm,
    /// Emulated.
    Emulation,
}

impl Accelerator {
    /// What QEMU is told.
    pub(super) fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Kvm => &["-accel", "kvm", "-cpu", "host"],
            Self::Emulation => &["-accel", "tcg,thread=multi", "-cpu", "max"],
        }
    }

    /// What the user is told.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Kvm => "KVM",
            Self::Emulation => "emulation",
        }
    }

    /// Boots `kernel`, without a root file system, until its first line. That `/dev/kvm` is there and can be
    /// opened says little: it can be there and hang before the kernel runs.
    pub(super) fn probe(kernel: &Path, folder: &Path) -> anyhow::Result<Self> {
        if fs::File::options().read(true).write(true).open("/dev/kvm").is_err() {
            return Ok(Self::Emulation);
        }
        let console = folder.join("probe.log");
        let mut child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--", QEMU])
            .args([
                "-nodefaults",
                "-no-user-config",
                "-display",
                "none",
                "-machine",
                "q35",
                "-m",
                "256",
                "-no-reboot",
            ])
            .args(Self::Kvm.arguments())
            .args(["-append", "console=ttyS0 panic=-1", "-kernel"])
            .arg(kernel)
            .arg("-serial")
            .arg(format!("file:{}", console.display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("starting setpriv and QEMU")?;
        let deadline = Instant::now() + LIMIT;
        let booted = loop {
            let said = fs::read(&console).unwrap_or_default();
            if String::from_utf8_lossy(&said).contains("Linux version") {
                break true;
            }
            if child.try_wait().context("waiting for QEMU")?.is_some() || Instant::now() >= deadline {
                break false;
            }
            thread::sleep(Duration::from_millis(20));
        };
        // It may have ended by itself.
        let _ = child.kill();
        child.wait().context("waiting for QEMU")?;
        Ok(if booted { Self::Kvm } else { Self::Emulation })
    }
}
