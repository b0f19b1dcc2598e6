//! The guest's part of the demo: real layers on disks, opened, mounted, used, damaged and closed.
//!
//! Everything that it says it has seen; the first thing that does not come out as claimed fails it.

use std::env;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, ensure};
use nix::mount::{MsFlags, mount, umount};

use crate::case::Case;
use crate::guest::{
    CANNOT_START, Context, Program, device_mapper_devices, in_root, kernel_log, loop_devices, read_all,
};

use super::tools::{BLOCK, Tool, expect_refused, expect_silence, node, other_digit};

/// The layers, lowest first, with their disks as the harness orders them: data, then tree.
const LAYERS: [Layer; 2] = [
    Layer { name: "base", data: "/dev/vda", hash: "/dev/vdb", disk: 0 },
    Layer { name: "patch", data: "/dev/vdc", hash: "/dev/vdd", disk: 2 },
];

/// It takes facts, so no run of the matrix has it.
pub(crate) fn case() -> Case {
    Case::new("demo/layers", "two real layers become one root file system that the kernel guards", demo)
        .limit(300)
}

/// One of the two.
struct Layer {
    name: &'static str,
    data: &'static str,
    hash: &'static str,
    /// The data's, for the harness.
    disk: usize,
}

impl Layer {
    fn open(&self, name: &str, root: &str) -> Program {
        Tool::Verity.run("open").args([self.data, name, self.hash, root])
    }

    fn mount_point(&self, context: &Context) -> PathBuf {
        context.path(self.name)
    }

    fn status(&self) -> anyhow::Result<String> {
        let status = Tool::Verity.run("status").arg(self.name).succeed()?;
        Ok(status.field("status:")?.to_owned())
    }
}

/// What the harness was told of the layers.
fn fact(key: &str) -> anyhow::Result<String> {
    env::var(key).with_context(|| format!("the demo needs the fact {key}"))
}

fn demo(context: &mut Context) -> anyhow::Result<()> {
    context.say(
        "3. verity open with the root hashes: from here on the kernel checks every block that is read",
    )?;
    open(context)?;
    context.say("4. Both mounted, the patch on top of the base, and used")?;
    let root = assemble(context)?;
    use_it(context, &root)?;
    context.say("5. One bit of the patch flipped on its disk, behind the kernel's back")?;
    damage(context, &root)?;
    context.say("6. Everything closed")?;
    close(context, &root)
}

fn open(context: &Context) -> anyhow::Result<()> {
    for (layer, key) in LAYERS.iter().zip(["BASE_ROOT_HASH", "PATCH_ROOT_HASH"]) {
        let root = fact(key)?;
        expect_refused(layer.open(layer.name, &other_digit(&root)), 1, "wrong root hash")?;
        let started = Instant::now();
        expect_silence(layer.open(layer.name, &root))?;
        let millis = started.elapsed().as_millis();
        let status = layer.status()?;
        ensure!(status == "verified", "{} is {status}", layer.name);
        context.say(format!("   {:<17}  {status}, opened in {millis} ms", node(layer.name).display()))?;
    }
    context.say("   with one digit of its root hash changed, each was refused: wrong root hash")
}

/// Mounts the layers and an overlay of them; where that is.
fn assemble(context: &Context) -> anyhow::Result<PathBuf> {
    let read_only = MsFlags::MS_RDONLY;
    for layer in &LAYERS {
        let target = layer.mount_point(context);
        fs::create_dir(&target).with_context(|| target.display().to_string())?;
        mount(Some(&node(layer.name)), &target, Some("erofs"), read_only, None::<&str>)
            .with_context(|| format!("mounting {}", layer.name))?;
    }
    let root = context.path("root");
    fs::create_dir(&root).context("making a mount point")?;
    let [lower, upper] = LAYERS.each_ref().map(|layer| layer.mount_point(context).display().to_string());
    mount(
        Some("overlay"),
        &root,
        Some("overlay"),
        read_only,
        Some(format!("lowerdir={upper}:{lower}").as_str()),
    )
    .context("mounting the overlay")?;
    Ok(root)
}

/// What a program says in the root file system, on one line.
fn run_in(root: &Path, line: &str) -> anyhow::Result<String> {
    Ok(in_root(&root.to_string_lossy(), line).succeed()?.stdout.trim().to_owned())
}

fn use_it(context: &Context, root: &Path) -> anyhow::Result<()> {
    let (package, program) = (fact("PACKAGE")?, fact("PROGRAM")?);
    let base = LAYERS[0].mount_point(context);
    for (what, root, expected) in [
        ("base alone", base.as_path(), fact("BASE_VERSION")?),
        ("base + patch", root, fact("PATCHED_VERSION")?),
    ] {
        let found = run_in(root, &format!("/usr/bin/dpkg-query --show --showformat=${{Version}} {package}"))?;
        ensure!(found == expected, "expected {package} {expected} in {what}, found {found}");
        context.say(format!("   {what:<12}  dpkg-query: {package} {found}"))?;
    }
    let said = run_in(root, &program)?;
    context.say(format!("   {program}: {}", said.lines().next().unwrap_or_default()))?;
    let written = fs::write(root.join("new"), "");
    let refused = written.as_ref().is_err_and(|error| error.kind() == ErrorKind::ReadOnlyFilesystem);
    ensure!(refused, "expected a read-only file system, writing a file gave {written:?}");
    context.say("   writing a file: refused, the file system is read-only")
}

fn damage(context: &mut Context, root: &Path) -> anyhow::Result<()> {
    let program = fact("PROGRAM")?;
    let file = program.split_ascii_whitespace().next().context("the fact PROGRAM is empty")?;
    let [base, patch] = &LAYERS;
    let first = fs::read(root.join(file.trim_start_matches('/'))).with_context(|| file.to_owned())?;
    let first = first.get(..BLOCK).with_context(|| format!("{file} is shorter than a block"))?;
    let whole = read_all(&node(patch.name)).context("reading the patch")?;
    let block = whole.chunks(BLOCK).position(|block| block == first);
    let block = block.with_context(|| format!("{file} does not lie in the patch, uncompressed"))?;
    let byte = u64::try_from(block * BLOCK + BLOCK / 2)?;

    context.flip_on_disk(patch.disk, byte)?;
    context.say(format!("   the byte at {byte}, which belongs to {file}"))?;
    // What the kernel has read before it need not read again.
    fs::write("/proc/sys/vm/drop_caches", "3").context("dropping caches")?;
    let refused = in_root(&root.to_string_lossy(), &program).run()?;
    let refused = refused.expect_code(CANNOT_START)?.expect_error("input/output error")?;
    context.say(format!("   {program}: {}", plain_error(&refused.stderr)))?;
    let line = format!("data block {block} is corrupted");
    let log = kernel_log(&line)?;
    context
        .say(format!("   kernel log: {}", log.first().with_context(|| format!("nothing of {line:?}"))?))?;
    for (layer, expected) in [(patch, "corrupted"), (base, "verified")] {
        let found = layer.status()?;
        ensure!(found == expected, "expected {} to be {expected}, it is {found}", layer.name);
        context.say(format!("   verity status {}: {found}", layer.name))?;
    }
    Ok(())
}

/// The last part of an error's chain, without its number.
fn plain_error(text: &str) -> &str {
    let last = text.trim().rsplit(": ").next().unwrap_or_default();
    last.split(" (os error").next().unwrap_or(last)
}

fn close(context: &Context, root: &Path) -> anyhow::Result<()> {
    umount(root).context("unmounting the overlay")?;
    for layer in &LAYERS {
        umount(&layer.mount_point(context)).with_context(|| format!("unmounting {}", layer.name))?;
        expect_silence(Tool::Verity.run("close").arg(layer.name))?;
    }
    let (devices, loops) = (device_mapper_devices()?, loop_devices()?);
    ensure!(devices.is_empty() && loops.is_empty(), "left behind: {devices:?} {loops:?}");
    context.say("   no mount, no device, no loop device is left")
}
