//! `shell`.

use std::path::Path;
use std::process::{ExitCode, Stdio};

use anyhow::{Context as _, ensure};

use super::arguments::Shell;
use super::prepare;
use super::qemu::{Disk, Plan};

/// Boots the newest of the chosen kernels with this terminal as its console.
pub(super) fn run(arguments: &Shell) -> anyhow::Result<ExitCode> {
    let kernel = prepare::chosen(&arguments.choice)?.pop().context("no kernel")?;
    let disks = arguments.disks.iter().map(|image| disk(image)).collect::<anyhow::Result<Vec<_>>>()?;
    let prepared = prepare::prepare(vec![kernel])?;
    let bootable = prepared.bootables.first().context("no kernel")?;
    eprintln!("Linux {} under {}; Ctrl-A X ends it", bootable.kernel.version, prepared.accelerator.name());
    let mut append = vec!["kernel_tests.mode=shell".to_owned()];
    append.extend(arguments.append.iter().cloned());
    let plan = Plan {
        kernel: &bootable.kernel.image,
        initramfs: &bootable.initramfs,
        arguments: append,
        disks,
        accelerator: prepared.accelerator,
        firmware: arguments.uefi.then_some(prepared.firmware),
        state: None,
    };
    let status = plan
        .command()
        .args(["-serial", "mon:stdio"])
        .stdin(Stdio::inherit())
        .status()
        .context("starting setpriv and QEMU")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn disk(image: &Path) -> anyhow::Result<Disk> {
    ensure!(image.is_file(), "{}: no such image", image.display());
    Ok(Disk { image: image.to_owned(), read_only: true })
}
