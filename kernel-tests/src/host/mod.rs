//! The harness.

mod accel;
mod arguments;
mod demo;
mod firmware;
mod guest_build;
mod initramfs;
mod kernels;
mod keys;
mod modules;
mod monitor;
mod power;
mod prepare;
mod qemu;
mod report;
mod run;
mod schedule;
mod session;
mod shell;
mod udev;

use std::process::ExitCode;

use clap::Parser as _;

use arguments::{Arguments, Command};

/// Does what the command line says.
pub fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::List(list) => run::list(&list),
        Command::Run(run) => run::run(&run),
        Command::Demo(demo) => demo::run(&demo),
        Command::PowerCuts(cuts) => power::run(&cuts),
        Command::Shell(shell) => shell::run(&shell),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("kernel-tests: {error:#}");
            ExitCode::FAILURE
        }
    }
}
