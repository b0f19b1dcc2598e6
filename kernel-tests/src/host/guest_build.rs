//! Builds the programs that run in the guest: static, because nothing else is there.

use std::env;
use std::fs;
use std::path::{self, Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};

/// Naming the target keeps `+crt-static` away from build scripts and procedural macros.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// The programs made here.
pub(super) struct Programs {
    /// `/init`.
    pub(super) init: PathBuf,
    /// The command line under test.
    pub(super) verity: PathBuf,
}

/// The workspace that this crate is part of.
pub(super) fn workspace() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

/// Where cargo puts what it builds for this workspace.
pub(super) fn target_folder() -> PathBuf {
    let given = env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    // Relative to where cargo was called, which is not where it is called from here.
    given.and_then(|folder| path::absolute(folder).ok()).unwrap_or_else(|| workspace().join("target"))
}

/// Builds them, quickly where nothing has changed.
pub(super) fn build() -> anyhow::Result<Programs> {
    // A target folder of its own: other flags would rebuild everything each time, and the lock is not shared.
    let folder = target_folder().join("guest");
    let stubs = folder.join("stubs");
    fs::create_dir_all(&stubs).with_context(|| stubs.display().to_string())?;
    // The devicemapper crate asks for libdevmapper and calls nothing in it. There is no static one to
    // be had from Debian, so an empty archive stands in.
    let stub = stubs.join("libdevmapper.a");
    fs::write(&stub, b"!<arch>\n").with_context(|| stub.display().to_string())?;

    let flags = format!("-Ctarget-feature=+crt-static\x1f-Lnative={}", stubs.display());
    let cargo = |arguments: &[&str]| -> anyhow::Result<()> {
        let status = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
            .current_dir(workspace())
            .args(["build", "--quiet", "--release", "--target", TARGET])
            .args(arguments)
            .env("CARGO_TARGET_DIR", &folder)
            .env("CARGO_ENCODED_RUSTFLAGS", &flags)
            .env("CARGO_PROFILE_RELEASE_STRIP", "symbols")
            .stdin(Stdio::null())
            .status()
            .context("starting cargo")?;
        ensure!(status.success(), "cargo build {} failed: {status}", arguments.join(" "));
        Ok(())
    };
    cargo(&["--package", "verity-cli", "--bin", "verity"])?;
    cargo(&["--package", "kernel-tests", "--bin", "kernel-tests-guest", "--no-default-features"])?;
    let built = folder.join(TARGET).join("release");
    Ok(Programs { init: built.join("kernel-tests-guest"), verity: built.join("verity") })
}
