//! `demo`: the main job on real layers, told as a story.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};

use crate::case::OwnBoot;
use crate::cases;
use crate::protocol::Verdict;

use super::accel::Accelerator;
use super::arguments::Demo;
use super::guest_build::target_folder;
use super::prepare;
use super::qemu::Disk;
use super::session::{Session, Settings};

/// The layers, lowest first, and what the guest calls their root hashes.
const LAYERS: [(&str, &str); 2] = [("base", "BASE_ROOT_HASH"), ("patch", "PATCH_ROOT_HASH")];

/// What `facts` must say.
const FACTS: [&str; 4] = ["PACKAGE", "BASE_VERSION", "PATCHED_VERSION", "PROGRAM"];

/// The name of the guest's folder.
const GUEST: &str = "demo";

/// The guest works for seconds; more than this, and it hangs.
const GUEST_LIMIT: Duration = Duration::from_secs(600);

/// Tells the story. An error, and a failure, is anything that does not come out as the story has it.
pub(super) fn run(arguments: &Demo) -> anyhow::Result<ExitCode> {
    let facts = read_facts(&arguments.layers.join("facts"))?;
    let kernel = prepare::chosen(&arguments.choice)?.pop().context("no kernel")?;
    let prepared = prepare::prepare(vec![kernel])?;
    let bootable = prepared.bootables.first().context("no kernel")?;
    let folder = prepared.folder.path();
    let started = Instant::now();

    println!("1. Two container layers, and a hash tree for each");
    let package = &facts["PACKAGE"];
    let mut disks = Vec::new();
    let mut told: Vec<_> = facts.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
    for (layer, key) in LAYERS {
        let (data, hash) = (folder.join(format!("{layer}.erofs")), folder.join(format!("{layer}.verity")));
        let original = arguments.layers.join(format!("{layer}.erofs"));
        // A bit of it will be flipped.
        let bytes = fs::copy(&original, &data).with_context(|| original.display().to_string())?;
        let hashed = Instant::now();
        let root = format(&prepared.verity, &data, &hash)?;
        let took = hashed.elapsed();
        let version = &facts[if layer == "base" { "BASE_VERSION" } else { "PATCHED_VERSION" }];
        let (size, millis) = (mebibytes(bytes), took.as_millis());
        println!("   {layer:<5}  {size:.1} MiB of EROFS with {package} {version}, hashed in {millis} ms");
        println!("   {:<5}  root hash {root}", "");
        told.push((key.to_owned(), root));
        disks.extend([data, hash].map(|image| Disk { image, read_only: true }));
    }

    let settings = Settings {
        accelerator: prepared.accelerator,
        firmware: prepared.firmware.clone(),
        guest_limit: GUEST_LIMIT,
        folder: folder.to_owned(),
    };
    let booting = Instant::now();
    let mut session = Session::boot(bootable, &OwnBoot::default(), disks, &settings, GUEST)?;
    println!("2. A virtual machine with Linux {} gets layers and trees as disks", bootable.kernel.version);
    let slow = match prepared.accelerator {
        Accelerator::Kvm => "",
        Accelerator::Emulation => ": its times say little about a real machine's",
    };
    println!(
        "   booted in {:.1} s under {}{slow}",
        booting.elapsed().as_secs_f64(),
        prepared.accelerator.name()
    );
    let verdict = session.run(&cases::demo(), told, |line| println!("{line}"))?.outcome.verdict;
    match verdict {
        Verdict::Passed => session.power_off()?,
        Verdict::Failed(why) | Verdict::Skipped(why) => {
            let console = keep_console(&folder.join(GUEST))?;
            bail!("this is not as it should be: {why}\n  console: {}", console.display());
        }
    }
    println!("Every step came out as it should, in {:.1} s.", started.elapsed().as_secs_f64());
    Ok(ExitCode::SUCCESS)
}

/// Copies the guest's console log to where it outlives the run.
fn keep_console(guest: &Path) -> anyhow::Result<PathBuf> {
    let (from, folder) = (guest.join("console.log"), target_folder().join("kernel-tests"));
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let to = folder.join("demo.log");
    fs::copy(&from, &to).with_context(|| format!("copying {} to {}", from.display(), to.display()))?;
    Ok(to)
}

/// `KEY=value` lines.
fn read_facts(path: &Path) -> anyhow::Result<BTreeMap<String, String>> {
    let advice = "`./x layers` makes the layers";
    let text = fs::read_to_string(path).with_context(|| format!("{}: {advice}", path.display()))?;
    let facts = parse_facts(&text).with_context(|| path.display().to_string())?;
    for key in FACTS {
        ensure!(facts.contains_key(key), "{}: no {key}; {advice}", path.display());
    }
    Ok(facts)
}

fn parse_facts(text: &str) -> anyhow::Result<BTreeMap<String, String>> {
    let fact = |line: &str| {
        let (key, value) = line.split_once('=').with_context(|| format!("bad line {line:?}"))?;
        // They become environment variables of the guest's part: not PATH, and nothing that is none.
        ensure!(FACTS.contains(&key) && !value.is_empty(), "bad line {line:?}");
        Ok((key.to_owned(), value.to_owned()))
    };
    text.lines().map(fact).collect()
}

/// Makes a tree with the command line under test; the root hash.
fn format(verity: &Path, data: &PathBuf, hash: &PathBuf) -> anyhow::Result<String> {
    let output = Command::new(verity)
        .args(["format", "--quiet"])
        .args([data, hash])
        .stdin(Stdio::null())
        .output()
        .with_context(|| verity.display().to_string())?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "verity format {}: {}", data.display(), said.trim());
    let root = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    ensure!(root.len() == 64 && root.bytes().all(|byte| byte.is_ascii_hexdigit()), "no root hash: {root:?}");
    Ok(root)
}

/// For people; an image is far from what a double cannot hold.
#[allow(clippy::cast_precision_loss)]
fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_are_lines_of_known_keys() {
        let facts = parse_facts("PACKAGE=openssl\nPROGRAM=/usr/bin/openssl version\n").expect("two facts");
        assert_eq!(facts["PROGRAM"], "/usr/bin/openssl version");
        for bad in ["PACKAGE", "PACKAGE=", "PATH=/tmp", "", "\n"].map(|line| format!("{line}\nPACKAGE=x\n")) {
            assert!(parse_facts(&bad).is_err(), "{bad:?}");
        }
    }
}
