//! Process 1: makes the guest usable, then serves the harness or starts a shell, then powers off.

use std::convert::Infallible;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use nix::libc::O_NOCTTY;
use nix::mount::{MsFlags, mount};
use nix::sys::reboot::{RebootMode, reboot};
use nix::sys::termios::{SetArg, cfmakeraw, tcgetattr, tcsetattr};

use crate::protocol::{self, FromGuest};

use super::{modules, serve, shell};

/// The port on which the harness listens.
const CHANNEL: &str = "/dev/ttyS1";

/// What the harness asks for on the kernel command line.
pub(super) struct Request {
    /// A shell instead of cases.
    pub(super) shell: bool,
    /// Modules not to load.
    pub(super) without: Vec<String>,
    /// The whole line, for module parameters.
    pub(super) line: String,
}

impl Request {
    fn parse(line: String) -> Self {
        let value = |key: &str| line.split_ascii_whitespace().find_map(|word| word.strip_prefix(key));
        let shell = value("kernel_tests.mode=") == Some("shell");
        let without = value("kernel_tests.without=")
            .map(|list| list.split(',').map(str::to_owned).collect())
            .unwrap_or_default();
        Self { shell, without, line }
    }
}

/// Never returns: an init that exits is a kernel panic, which a harness would take for a case's.
pub(super) fn main() -> ExitCode {
    if let Err(error) = start() {
        eprintln!("init: {error:#}");
        if let Ok(channel) = channel() {
            // There is nobody else to tell.
            let _ = protocol::send(&channel, &FromGuest::Broken { detail: format!("{error:#}") });
        }
    }
    let Err(error) = power_off();
    eprintln!("init: cannot power off: {error}");
    loop {
        std::thread::park();
    }
}

fn start() -> anyhow::Result<()> {
    mounts()?;
    let request = Request::parse(fs::read_to_string("/proc/cmdline").context("/proc/cmdline")?);
    modules::load(&request)?;
    if request.shell { shell::run() } else { serve::run(&channel()?) }
}

fn power_off() -> nix::Result<Infallible> {
    nix::unistd::sync();
    reboot(RebootMode::RB_POWER_OFF)
}

/// The file systems that a small Linux system has, without any daemon that would make device nodes: what
/// the kernel's devtmpfs makes is all there is.
fn mounts() -> anyhow::Result<()> {
    for (source, target, kind) in [
        ("proc", "/proc", "proc"),
        ("sysfs", "/sys", "sysfs"),
        ("devtmpfs", "/dev", "devtmpfs"),
        ("tmpfs", "/run", "tmpfs"),
        ("tmpfs", "/tmp", "tmpfs"),
    ] {
        fs::create_dir_all(target).with_context(|| format!("creating {target}"))?;
        mount(Some(source), target, Some(kind), MsFlags::empty(), None::<&str>)
            .with_context(|| format!("mounting {kind} on {target}"))?;
    }
    for (link, target) in [("/dev/fd", "/proc/self/fd"), ("/etc/mtab", "/proc/self/mounts")] {
        if let Some(parent) = Path::new(link).parent() {
            fs::create_dir_all(parent).with_context(|| format!("creating {}", parent.display()))?;
        }
        if fs::symlink_metadata(link).is_err() {
            symlink(target, link).with_context(|| format!("linking {link}"))?;
        }
    }
    Ok(())
}

/// Opens the harness's port as a plain byte pipe: no echo, no line editing, no CR for LF.
fn channel() -> anyhow::Result<File> {
    let port =
        OpenOptions::new().read(true).write(true).custom_flags(O_NOCTTY).open(CHANNEL).context(CHANNEL)?;
    let mut settings = tcgetattr(&port).context("reading the port's settings")?;
    cfmakeraw(&mut settings);
    tcsetattr(&port, SetArg::TCSANOW, &settings).context("setting the port raw")?;
    protocol::begin(&port).context("writing to the port")?;
    Ok(port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_says_what_to_do() {
        let request = Request::parse("console=ttyS0 kernel_tests.without=dm_mod,loop quiet\n".into());
        assert!(!request.shell);
        assert_eq!(request.without, ["dm_mod", "loop"]);
        let request = Request::parse("kernel_tests.mode=shell\n".into());
        assert!(request.shell);
        assert!(request.without.is_empty());
    }
}
