//! What a broken disk does to those who read it, and what a processor without an instruction set does to those who ask for it.

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, ensure};

use crate::case::Case;
use crate::guest::{Context, Program};

use super::tools::{BLOCK, Image, Tool, expect_refused, expect_silence};

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::new(
            "reading/broken-disk",
            "a place that cannot be read is one error that says where, whoever reads it, and leaves nothing",
            broken_disk,
        ),
        Case::new(
            "reading/backends",
            "every digest backend makes the same tree, or says that this processor lacks it",
            backends,
        ),
    ]
}

/// Device-mapper counts in these.
const SECTORS: usize = BLOCK / 512;

fn broken_disk(context: &mut Context) -> anyhow::Result<()> {
    let image = Image::new(context)?;
    let before = names(context)?;
    let (data, hash, root, new) = (&image.data, &image.hash, &image.root, context.path("new"));
    let verity = |words: &str| Tool::Verity.run(words);

    // In the middle of a read, so that what was read before it must not count.
    with_broken(data, 77, |broken| {
        for program in [
            verity("format").arg(broken).arg(&new),
            verity("format --threads=1").arg(broken).arg(&new),
            verity("verify").args([broken, hash]).arg(root),
            verity("update")
                .args([data, hash])
                .arg(root)
                .arg("--old-data")
                .arg(broken)
                .arg("--output")
                .arg(&new),
        ] {
            let output = expect_refused(program, 1, "Input/output error")?;
            ensure!(output.stderr.contains(" at byte 262144 failed"), "no place in {output}");
            ensure!(names(context)? == before, "left behind: {:?}", names(context)?);
        }
        Ok(())
    })?;
    // The leaf level's second block of two, behind the superblock and the top block.
    with_broken(hash, 3, |broken| {
        for program in [
            verity("verify").args([data, broken]).arg(root),
            verity("update")
                .args([data, broken])
                .arg(root)
                .words("--ranges - --output")
                .arg(&new)
                .input("0 4096"),
        ] {
            let output = expect_refused(program, 1, "Input/output error")?;
            ensure!(output.stderr.contains("hash device"), "no device in {output}");
            ensure!(names(context)? == before, "left behind: {:?}", names(context)?);
        }
        Ok(())
    })
}

/// Shows a file as a disk of which one block cannot be read.
fn with_broken(
    file: &Path,
    block: usize,
    work: impl FnOnce(&Path) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let sectors = usize::try_from(fs::metadata(file)?.len())? / 512;
    let device = Program::new("losetup").words("--find --show --read-only").arg(file).succeed()?.stdout;
    let device = device.trim();
    let (bad, rest) = (block * SECTORS, (block + 1) * SECTORS);
    let mut table = format!("0 {bad} linear {device} 0\n{bad} {SECTORS} error\n");
    if rest < sectors {
        table += &format!("{rest} {} linear {device} {rest}\n", sectors - rest);
    }
    Program::new("dmsetup").words("create broken --readonly").input(table).succeed()?;
    // Without udev the node has no other name.
    let minor =
        Program::new("dmsetup").words("info --columns --noheadings -o minor broken").succeed()?.stdout;
    let outcome = work(Path::new(&format!("/dev/dm-{}", minor.trim())));
    Program::new("dmsetup").words("remove broken").succeed()?;
    Program::new("losetup").arg("--detach").arg(device).succeed()?;
    outcome
}

/// The names of all files of a case.
fn names(context: &Context) -> anyhow::Result<Vec<OsString>> {
    let entries = fs::read_dir(context.path(""))?.map(|entry| Ok(entry?.file_name()));
    let mut names = entries.collect::<anyhow::Result<Vec<_>>>()?;
    names.sort();
    Ok(names)
}

/// An emulated processor, as guests have it on most machines, has AVX2 and no AVX-512.
fn backends(context: &mut Context) -> anyhow::Result<()> {
    let image = Image::new(context)?;
    let before = names(context)?;
    let flags = fs::read_to_string("/proc/cpuinfo")?;
    let flags: Vec<_> =
        flags.lines().find(|line| line.starts_with("flags")).unwrap_or_default().split(' ').collect();
    for (backend, needed) in [
        ("avx512", &["avx512f", "avx512bw"][..]),
        ("sha-ni", &["sha_ni", "ssse3"]),
        ("avx2", &["avx2"]),
        ("portable", &[]),
    ] {
        let forced = |words: &str| Tool::Verity.run(words).env("VERITY_DIGEST_BACKEND", backend);
        let verify = forced("verify").args([&image.data, &image.hash]).arg(&image.root);
        if needed.iter().all(|flag| flags.contains(flag)) {
            expect_silence(verify).with_context(|| backend.to_owned())?;
            continue;
        }
        let format = forced("format").args([&image.data, &context.path("new")]);
        for program in [verify, format] {
            expect_refused(program, 1, "needs instructions that this processor lacks")?;
        }
        ensure!(names(context)? == before, "left behind: {:?}", names(context)?);
    }
    Ok(())
}
