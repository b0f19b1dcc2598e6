//! The guest's part of the demo: a real image on a disk, mounted, used, damaged and unmounted.
//!
//! Everything that it says it has seen; the first thing that does not come out as claimed fails it.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, ensure};
use nix::mount::{MsFlags, mount};
use serde_json::Value;

use crate::case::Case;
use crate::guest::{
    CANNOT_START, Context, device_mapper_devices, in_root, kernel_log, loop_devices, unmount_settled,
};

use super::layers::directory;
use super::listing;
use super::tools::{BLOCK, Tool, expect_refused, expect_silence, other_digit};

/// The disk with the layout and the listing.
const DISK: &str = "/dev/vda";

/// It takes facts, so no run of the matrix has it.
pub(crate) fn case() -> Case {
    Case::new(
        "demo/layers",
        "a real image of two layers is one root file system that the kernel guards",
        demo,
    )
    .limit(300)
}

/// What the harness was told of the image.
fn fact(key: &str) -> anyhow::Result<String> {
    env::var(key).with_context(|| format!("the demo needs the fact {key}"))
}

fn demo(context: &mut Context) -> anyhow::Result<()> {
    let disk = directory(context, "disk")?;
    mount(Some(DISK), &disk, Some("ext4"), MsFlags::MS_RDONLY, None::<&str>).context("mounting the disk")?;
    context.say("3. verity image mount: from here on the kernel checks every block that is read")?;
    let base = mount_image(context, &disk, "base", "BASE_MANIFEST")?;
    let patched = mount_image(context, &disk, "patched", "PATCHED_MANIFEST")?;
    context.say("   with one digit of its manifest's digest changed, each was refused")?;
    context.say("4. The patched image used, beside the one without the patch")?;
    use_it(context, &base.root, &patched.root)?;
    compare(context, &disk.join("listing"), &patched.root)?;
    context.say("5. One bit of the patch flipped on the disk, behind the kernel's back")?;
    damage(context, &patched)?;
    context.say("6. Everything unmounted")?;
    for image in [&patched, &base] {
        expect_silence(Tool::Verity.run("image umount").arg(&image.root))?;
    }
    unmount_settled(&disk).context("unmounting the disk")?;
    let (devices, loops) = (device_mapper_devices()?, loop_devices()?);
    ensure!(devices.is_empty() && loops.is_empty(), "left behind: {devices:?} {loops:?}");
    context.say("   no mount, no device, no loop device is left")
}

/// A mounted image.
struct Image {
    root: PathBuf,
    /// The devices of its layers, the lowest first.
    devices: Vec<String>,
}

/// Mounts an image whose manifest is known, and no other one.
fn mount_image(context: &Context, disk: &Path, name: &str, fact_of_it: &str) -> anyhow::Result<Image> {
    let manifest = fact(fact_of_it)?;
    let digits = manifest.strip_prefix("sha256:").context("the manifest's digest")?;
    let root = directory(context, name)?;
    let mount = |digits: &str, format: &str| {
        let image = format!("oci:{}:{name}", disk.join("layout").display());
        let digest = format!("--digest=sha256:{digits}");
        Tool::Verity.run("image mount").arg(format).arg(digest).arg(image).arg(&root)
    };
    expect_refused(mount(&other_digit(digits), "--quiet"), 2, "manifest")?;
    let started = Instant::now();
    let report: Value =
        serde_json::from_str(&mount(digits, "--json").succeed()?.stdout).context("the report")?;
    let millis = started.elapsed().as_millis();
    let layers = report["layers"].as_array().context("no layers in the report")?;
    let mut devices = Vec::new();
    for layer in layers {
        let device = layer["device"].as_str().context("no device in the report")?.to_owned();
        let status = status(&device)?;
        ensure!(status == "verified", "{device} is {status}");
        devices.push(device);
    }
    let shared = layers.iter().filter(|layer| layer["shared"] == true).count();
    let count = devices.len();
    context.say(format!(
        "   {name:<8} {count} {} verified, {shared} of them shared, mounted in {millis} ms",
        if count == 1 { "layer" } else { "layers" }
    ))?;
    Ok(Image { root, devices })
}

fn status(device: &str) -> anyhow::Result<String> {
    let status = Tool::Verity.run("status").arg(device).succeed()?;
    Ok(status.field("status:")?.to_owned())
}

/// What a program says in the root file system, on one line.
fn run_in(root: &Path, line: &str) -> anyhow::Result<String> {
    Ok(in_root(&root.to_string_lossy(), line).succeed()?.stdout.trim().to_owned())
}

fn use_it(context: &Context, base: &Path, patched: &Path) -> anyhow::Result<()> {
    let (package, program) = (fact("PACKAGE")?, fact("PROGRAM")?);
    for (what, root, expected) in
        [("base", base, fact("BASE_VERSION")?), ("patched", patched, fact("PATCHED_VERSION")?)]
    {
        let found = run_in(root, &format!("/usr/bin/dpkg-query --show --showformat=${{Version}} {package}"))?;
        ensure!(found == expected, "expected {package} {expected} in {what}, found {found}");
        context.say(format!("   {what:<8} dpkg-query: {package} {found}"))?;
    }
    let said = run_in(patched, &program)?;
    context.say(format!("   {program}: {}", said.lines().next().unwrap_or_default()))?;
    let written = fs::write(patched.join("new"), "");
    let refused = written.as_ref().is_err_and(|error| error.kind() == ErrorKind::ReadOnlyFilesystem);
    ensure!(refused, "expected a read-only file system, writing a file gave {written:?}");
    context.say("   writing a file: refused, the file system is read-only")
}

/// Compares every file with what umoci has unpacked.
fn compare(context: &Context, expected: &Path, root: &Path) -> anyhow::Result<()> {
    let expected = fs::read_to_string(expected).context("the listing")?;
    let expected: BTreeSet<String> = expected.lines().map(str::to_owned).collect();
    let found = listing::of(root)?;
    let first =
        |one: &BTreeSet<_>, other| one.difference(other).take(5).cloned().collect::<Vec<_>>().join("\n");
    let (missing, added) = (first(&expected, &found), first(&found, &expected));
    ensure!(
        missing.is_empty() && added.is_empty(),
        "not as umoci unpacks it; missing:\n{missing}\nadded:\n{added}"
    );
    let count = |kind: &str| found.iter().filter(|fact| fact.starts_with(kind)).count();
    ensure!(count("xattr") > 0, "no extended attribute was compared");
    let entries = count("meta");
    context.say(format!(
        "   all {entries} files and directories equal what umoci unpacks: content, mode, owner, time, attributes"
    ))
}

fn damage(context: &mut Context, image: &Image) -> anyhow::Result<()> {
    let program = fact("PROGRAM")?;
    let file = program.split_ascii_whitespace().next().context("the fact PROGRAM is empty")?;
    let first = fs::read(image.root.join(file.trim_start_matches('/'))).with_context(|| file.to_owned())?;
    let first = first.get(..BLOCK).with_context(|| format!("{file} is shorter than a block"))?;
    let block = find(first)?.with_context(|| format!("{file} does not lie on the disk, uncompressed"))?;
    let byte = block * u64::try_from(BLOCK)? + u64::try_from(BLOCK / 2)?;
    context.flip_on_disk(0, byte)?;
    context.say(format!("   the byte at {byte}, which belongs to {file}"))?;
    // What the kernel has read before it need not read again.
    fs::write("/proc/sys/vm/drop_caches", "3").context("dropping caches")?;
    let refused = in_root(&image.root.to_string_lossy(), &program).run()?;
    let refused = refused.expect_code(CANNOT_START)?.expect_error("input/output error")?;
    context.say(format!("   {program}: {}", plain_error(&refused.stderr)))?;
    let line = "is corrupted";
    let log = kernel_log(line)?;
    context
        .say(format!("   kernel log: {}", log.first().with_context(|| format!("nothing of {line:?}"))?))?;
    for (device, (what, expected)) in image.devices.iter().zip([("base", "verified"), ("patch", "corrupted")])
    {
        let found = status(device)?;
        ensure!(found == expected, "expected the {what} to be {expected}, it is {found}");
        context.say(format!("   verity status of the {what}: {found}"))?;
    }
    Ok(())
}

/// The first block of the disk that holds these bytes.
fn find(wanted: &[u8]) -> anyhow::Result<Option<u64>> {
    let mut disk = std::io::BufReader::with_capacity(1 << 20, fs::File::open(DISK).context(DISK)?);
    let mut block = vec![0; BLOCK];
    let mut number = 0;
    loop {
        match disk.read_exact(&mut block) {
            Ok(()) if block == wanted => return Ok(Some(number)),
            Ok(()) => number += 1,
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error).context("reading the disk"),
        }
    }
}

/// The last part of an error's chain, without its number.
fn plain_error(text: &str) -> &str {
    let last = text.trim().rsplit(": ").next().unwrap_or_default();
    last.split(" (os error").next().unwrap_or(last)
}
