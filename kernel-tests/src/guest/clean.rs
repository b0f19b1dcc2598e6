//! What a case may leave behind, and must not.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use devicemapper::DM;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// The kernel takes a moment to let go of a loop device or a key after its last user: so long is waited.
pub(super) const SETTLE: Duration = Duration::from_secs(20);

/// The kernel objects of a guest, one line each.
#[derive(Debug)]
pub(crate) struct KernelObjects(BTreeSet<String>);

impl KernelObjects {
    /// Looks.
    pub(crate) fn now() -> anyhow::Result<Self> {
        let mut found = BTreeSet::new();
        processes(&mut found).context("/proc")?;
        mounts(&mut found).context("/proc/self/mountinfo")?;
        keys(&mut found).context("/proc/keys")?;
        found.extend(device_mapper_devices()?.into_iter().map(|name| format!("device-mapper device {name}")));
        found.extend(loop_devices()?.into_iter().map(|(name, file)| format!("loop device {name} on {file}")));
        if Path::new("/dev/mapper").exists() {
            for entry in fs::read_dir("/dev/mapper").context("/dev/mapper")? {
                let name = entry.context("/dev/mapper")?.file_name();
                found.insert(format!("node /dev/mapper/{}", name.to_string_lossy()));
            }
        }
        Ok(Self(found))
    }

    /// What is there now and was not then, given time to go away by itself. Processes are ended, so that the next
    /// case does not run beside them.
    pub(crate) fn leaks(&self) -> Vec<String> {
        let deadline = Instant::now() + SETTLE;
        loop {
            reap();
            let leaks = match Self::now() {
                Ok(now) => now.0.difference(&self.0).cloned().collect(),
                Err(error) => vec![format!("looking for leaks: {error:#}")],
            };
            if leaks.is_empty() || Instant::now() >= deadline {
                return leaks;
            }
            for line in &leaks {
                if let Some(id) =
                    line.strip_prefix("process ").and_then(|rest| rest.split(' ').next()?.parse().ok())
                {
                    // It may be gone by now.
                    let _ = kill(Pid::from_raw(id), Signal::SIGKILL);
                }
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Orphans of the case are process 1's own, and it has no other child now.
fn reap() {
    while let Ok(WaitStatus::Exited(..) | WaitStatus::Signaled(..)) =
        waitpid(None, Some(WaitPidFlag::WNOHANG))
    {}
}

/// Names of the device-mapper devices that the kernel has, whatever nodes there are. `/sys` shows them only once they
/// have a table.
pub(crate) fn device_mapper_devices() -> anyhow::Result<Vec<String>> {
    if !Path::new("/dev/mapper/control").exists() {
        return Ok(Vec::new());
    }
    let devices = DM::new().and_then(|dm| dm.list_devices()).context("listing device-mapper devices")?;
    let mut names: Vec<_> = devices.into_iter().map(|(name, ..)| name.to_string()).collect();
    names.sort();
    Ok(names)
}

/// Name and file of the loop devices in use.
pub(crate) fn loop_devices() -> anyhow::Result<Vec<(String, String)>> {
    block_devices("loop", "loop/backing_file")
}

/// The block devices whose name starts with `prefix` and that have the attribute, with its value.
fn block_devices(prefix: &str, attribute: &str) -> anyhow::Result<Vec<(String, String)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/sys/block").context("/sys/block")? {
        let name = entry.context("/sys/block")?.file_name().to_string_lossy().into_owned();
        if !name.starts_with(prefix) {
            continue;
        }
        match fs::read_to_string(format!("/sys/block/{name}/{attribute}")) {
            Ok(value) => found.push((name, value.trim_end().to_owned())),
            // Unused, or gone or going since the folder was read.
            Err(error) if gone(&error) => {}
            Err(error) => return Err(error).with_context(|| format!("/sys/block/{name}/{attribute}")),
        }
    }
    found.sort();
    Ok(found)
}

/// Whether an attribute could not be read because its device is going away: the kernels have several words for it.
fn gone(error: &io::Error) -> bool {
    use nix::libc::{EINVAL, EIO, ENODEV, ENXIO};
    error.kind() == io::ErrorKind::NotFound
        || matches!(error.raw_os_error(), Some(EINVAL | EIO | ENODEV | ENXIO))
}

fn processes(found: &mut BTreeSet<String>) -> io::Result<()> {
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(id) = name.to_str().filter(|name| name.parse::<u32>().is_ok()) else { continue };
        // A kernel thread has no command line; nor has a zombie, which process 1 may not have met yet.
        match fs::read(format!("/proc/{id}/cmdline")) {
            Ok(line) if !line.is_empty() => {
                let words = line.split(|&byte| byte == 0).map(String::from_utf8_lossy);
                let line = words.collect::<Vec<_>>().join(" ");
                found.insert(format!("process {id} {}", line.trim_end()));
            }
            _ => {}
        }
    }
    Ok(())
}

fn mounts(found: &mut BTreeSet<String>) -> anyhow::Result<()> {
    for line in fs::read_to_string("/proc/self/mountinfo")?.lines() {
        let target = line.split(' ').nth(4).with_context(|| format!("bad line {line:?}"))?;
        found.insert(format!("mount on {target}"));
    }
    Ok(())
}

/// `/proc/keys`: serial, flags, usage, timeout, permissions, uid, gid, type, description. The kernel may make
/// keyrings for a user or a session whenever it likes; the keys themselves are what counts.
fn keys(found: &mut BTreeSet<String>) -> anyhow::Result<()> {
    let list = match fs::read_to_string("/proc/keys") {
        Ok(list) => list,
        // A kernel without keys cannot leak one.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    for line in list.lines() {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let (Some(serial), Some(kind), Some(description)) = (fields.first(), fields.get(7), fields.get(8))
        else {
            continue;
        };
        if *kind != "keyring" {
            found.insert(format!("key {serial} {kind} {description}"));
        }
    }
    Ok(())
}
