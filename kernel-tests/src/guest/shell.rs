//! A shell on the console, to look around.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::symlink;
use std::process::Command;

use anyhow::Context as _;

/// Where the harness puts busybox.
const BUSYBOX: &str = "/bin/busybox";

/// Runs until the shell exits.
pub(super) fn run() -> anyhow::Result<()> {
    fs::create_dir_all("/root").context("/root")?;
    install()?;
    println!("\nA guest of the kernel tests. `verity` and `veritysetup` are here; `exit` powers off.\n");
    let console = OpenOptions::new().read(true).write(true).open("/dev/ttyS0").context("/dev/ttyS0")?;
    // In a session of its own (busybox's setsid -c) the console is its terminal, and ^C works.
    let status = Command::new(BUSYBOX)
        .args(["setsid", "-c", BUSYBOX, "sh"])
        .env("PATH", "/bin:/sbin:/usr/bin:/usr/sbin")
        .env("HOME", "/root")
        .env("PS1", "guest# ")
        .current_dir("/root")
        .stdin(console.try_clone().context("the console")?)
        .stdout(console.try_clone().context("the console")?)
        .stderr(console)
        .status()
        .context(BUSYBOX)?;
    println!("the shell ended: {status}");
    Ok(())
}

/// One link per command that busybox has, except where a real program is there already.
pub(crate) fn install() -> anyhow::Result<()> {
    let list = Command::new(BUSYBOX).arg("--list").output().context(BUSYBOX)?;
    for name in String::from_utf8_lossy(&list.stdout).lines() {
        let taken = ["/bin", "/sbin", "/usr/bin", "/usr/sbin"]
            .iter()
            .any(|folder| fs::symlink_metadata(format!("{folder}/{name}")).is_ok());
        if !taken {
            symlink(BUSYBOX, format!("/bin/{name}")).with_context(|| format!("linking {name}"))?;
        }
    }
    Ok(())
}
