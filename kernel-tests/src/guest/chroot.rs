//! Runs a program with another folder as its root: `kernel-tests-guest chroot FOLDER PROGRAM ARGUMENT...`.
//!
//! A process of its own, since the standard library can change the root of this process only, and for good.

use std::env::{self, Args};
use std::os::unix::fs::chroot;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use anyhow::Context as _;

use super::Program;

/// The first argument that makes this program do it.
pub(super) const CHROOT: &str = "chroot";

/// As shells have it: the program was found and could not be started.
pub(crate) const CANNOT_START: i32 = 126;

/// What runs `line`, a program and its arguments, in `root`.
pub(crate) fn in_root(root: &str, line: &str) -> Program {
    Program::new("/proc/self/exe").arg(CHROOT).arg(root).words(line)
}

/// Becomes the program.
pub(super) fn main(mut arguments: Args) -> ExitCode {
    let Err(error) = run(&mut arguments);
    eprintln!("{error:#}");
    ExitCode::from(u8::try_from(CANNOT_START).unwrap_or(u8::MAX))
}

fn run(arguments: &mut Args) -> anyhow::Result<std::convert::Infallible> {
    let root = arguments.next().context("no folder")?;
    let program = arguments.next().context("no program")?;
    chroot(&root).with_context(|| format!("chroot {root}"))?;
    env::set_current_dir("/").with_context(|| format!("chroot {root}"))?;
    Err(Command::new(&program).args(arguments).exec()).context(program)
}
