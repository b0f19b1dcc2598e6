//! `demo`: the main job on real layers, told as a story.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

use crate::case::OwnBoot;
use crate::cases;
use crate::protocol::Verdict;

use super::accel::Accelerator;
use super::arguments::Demo;
use super::guest_build::target_folder;
use super::initramfs::find_program;
use super::prepare;
use super::qemu::Disk;
use super::session::{Session, Settings};

/// The images, what the guest calls the digests of their manifests, and the fact that says which version is in them.
const IMAGES: [(&str, &str, &str); 2] =
    [("base", "BASE_MANIFEST", "BASE_VERSION"), ("patched", "PATCHED_MANIFEST", "PATCHED_VERSION")];

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

    println!("1. Two container images, and layers with hash trees made of theirs");
    let package = &facts["PACKAGE"];
    let mut told: Vec<_> = facts.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
    let tree = folder.join("on-disk");
    fs::create_dir(&tree).context("a folder for the disk")?;
    for (name, key, version) in IMAGES {
        let building = Instant::now();
        let from = format!("oci:{}:{name}", arguments.layers.join("oci").display());
        let to = format!("oci:{}:{name}", tree.join("layout").display());
        verity(&prepared.verity, &["image", "build", "--quiet", &from, &to])?;
        let took = building.elapsed();
        let report = verity(&prepared.verity, &["image", "inspect", "--json", &to])?;
        let report: Value = serde_json::from_str(&report).context("the report")?;
        let image = &report["images"][0];
        let manifest = image["digest"].as_str().context("no manifest in the report")?.to_owned();
        let layers = image["layers"].as_array().context("no layers in the report")?;
        let bytes = layers.iter().filter_map(|layer| layer["bytes"].as_u64()).sum();
        let (size, count, version) = (mebibytes(bytes), layers.len(), &facts[version]);
        let layers = if count == 1 { "layer, " } else { "layers," };
        println!(
            "   {name:<8} {count} {layers} {size:.1} MiB, with {package} {version}, built in {} ms",
            took.as_millis()
        );
        println!("   {:<8} {manifest}", "");
        told.push((key.to_owned(), manifest));
    }
    let listing = arguments.layers.join("listing");
    fs::copy(&listing, tree.join("listing")).with_context(|| format!("{}: {ADVICE}", listing.display()))?;
    let disks = vec![Disk { image: make_disk(&tree, folder)?, read_only: true }];

    let settings = Settings {
        accelerator: prepared.accelerator,
        firmware: prepared.firmware.clone(),
        guest_limit: GUEST_LIMIT,
        folder: folder.to_owned(),
    };
    let booting = Instant::now();
    let mut session = Session::boot(bootable, &OwnBoot::default(), disks, &settings, GUEST)?;
    println!("2. A virtual machine with Linux {} gets them on a disk", bootable.kernel.version);
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

const ADVICE: &str = "`./x layers` makes the layers";

/// `KEY=value` lines.
fn read_facts(path: &Path) -> anyhow::Result<BTreeMap<String, String>> {
    let text = fs::read_to_string(path).with_context(|| format!("{}: {ADVICE}", path.display()))?;
    let facts = parse_facts(&text).with_context(|| path.display().to_string())?;
    for key in FACTS {
        ensure!(facts.contains_key(key), "{}: no {key}; {ADVICE}", path.display());
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

/// Runs the command line under test; what it prints.
fn verity(program: &Path, arguments: &[&str]) -> anyhow::Result<String> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let output = output.with_context(|| program.display().to_string())?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "verity {}: {}", arguments.join(" "), said.trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// An ext4 file system of what is in `tree`.
fn make_disk(tree: &Path, folder: &Path) -> anyhow::Result<PathBuf> {
    const SIZE: u64 = 512 << 20;
    let mkfs =
        find_program("mkfs.ext4").context("there is no mkfs.ext4; on Debian: apt-get install e2fsprogs")?;
    let disk = folder.join("disk");
    let file = File::create(&disk).context("the disk")?;
    file.set_len(SIZE).context("the disk")?;
    // Without checksums, for which some kernels would load one more module.
    let words = "-q -O ^metadata_csum -E nodiscard -d".split(' ');
    let output = Command::new(mkfs).args(words).args([tree, &disk]).stdin(Stdio::null()).output();
    let output = output.context("mkfs.ext4")?;
    ensure!(output.status.success(), "mkfs.ext4: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(disk)
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
