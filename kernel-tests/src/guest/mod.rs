//! The program in the guest: `/init`, and, started by it, one process a case.

mod chroot;
mod clean;
mod context;
mod init;
mod kernel_log;
mod modules;
mod process;
mod serve;
mod shell;

use std::process::ExitCode;

pub(crate) use chroot::{CANNOT_START, in_root};
pub(crate) use clean::{KernelObjects, device_mapper_devices, loop_devices};
pub(crate) use context::{Context, flip, pattern, read_all, read_direct, unmount_settled};
pub(crate) use kernel_log::kernel_log;
pub(crate) use process::{Output, Program, Started};
pub(crate) use shell::install as install_tools;

/// The first argument that makes this program run one case and exit.
const CASE: &str = "case";

/// Runs as `/init` where it is process 1, and as the process of one case where `/init` started it so.
pub fn main() -> ExitCode {
    let mut arguments = std::env::args();
    match arguments.nth(1).as_deref() {
        Some(CASE) => context::main(&arguments.next().unwrap_or_default()),
        Some(chroot::CHROOT) => chroot::main(arguments),
        _ if std::process::id() == 1 => init::main(),
        _ => {
            eprintln!("This program runs as /init in a test guest; `kernel-tests run` starts it there.");
            ExitCode::FAILURE
        }
    }
}
