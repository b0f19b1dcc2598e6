//! Whole images, built and mounted by the command line.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::{self, ScopedJoinHandle};
use std::time::Instant;

use anyhow::{Context as _, bail, ensure};
use verity_core::erofs::write::Attributes;
use verity_core::layer::Digest;
use verity_core::layer::tar::{EntryKind, Writer};

use crate::case::Case;
use crate::guest::{Context, KernelObjects, Program, device_mapper_devices, flip, loop_devices, pattern};

use super::layers::{What, directory, tar};
use super::tools::{Tool, expect_refused, expect_silence};

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::new(
            "image/mounted",
            "an image is built, mounted, used and unmounted, and nothing is left",
            mounted,
        ),
        Case::new(
            "image/parents",
            "a patch without entries for its parents leaves their mode, owner, time and attributes as they are",
            parents,
        ),
        Case::new(
            "image/digest",
            "an image with another manifest than the one asked for is not mounted",
            digest,
        ),
        Case::new("image/refused", "what cannot be mounted is refused, with what to do instead", refused),
        Case::new("image/damaged", "an image with a blob that is damaged or missing is not mounted", damaged),
        Case::new("image/busy", "an image that is in use stays mounted, unless it is told to go later", busy),
        Case::new(
            "image/killed",
            "a mount that is killed at any moment leaves nothing that the next command does not remove",
            killed,
        )
        .limit(600),
        Case::new("image/at-once", "many mounts of one image at once all come to be, and go", at_once)
            .limit(300),
    ]
}

/// Puts a blob into a layout; its descriptor.
fn blob(layout: &Path, media_type: &str, bytes: &[u8]) -> anyhow::Result<String> {
    let digest = Digest::sha256(bytes).to_string();
    let folder = layout.join("blobs/sha256");
    fs::create_dir_all(&folder).context("making a layout")?;
    let name = digest.strip_prefix("sha256:").context("a digest of sha256")?;
    fs::write(folder.join(name), bytes).context("writing a blob")?;
    Ok(format!(r#"{{"mediaType":"{media_type}","digest":"{digest}","size":{}}}"#, bytes.len()))
}

/// A layout with one image of these layers, as others make them.
fn layout(context: &Context, name: &str, layers: &[Vec<u8>]) -> anyhow::Result<PathBuf> {
    let layout = directory(context, name)?;
    let quoted = |layer: &Vec<u8>| format!("\"{}\"", Digest::sha256(layer));
    let diff_ids: Vec<_> = layers.iter().map(quoted).collect();
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","rootfs":{{"type":"layers","diff_ids":[{}]}}}}"#,
        diff_ids.join(",")
    );
    let config = blob(&layout, "application/vnd.oci.image.config.v1+json", config.as_bytes())?;
    let layers = layers
        .iter()
        .map(|layer| blob(&layout, "application/vnd.oci.image.layer.v1.tar", layer))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let manifest_type = "application/vnd.oci.image.manifest.v1+json";
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"{manifest_type}","config":{config},"layers":[{}]}}"#,
        layers.join(",")
    );
    let manifest = blob(&layout, manifest_type, manifest.as_bytes())?;
    let named = manifest.replacen('{', r#"{"annotations":{"org.opencontainers.image.ref.name":"image"},"#, 1);
    let index = format!(r#"{{"schemaVersion":2,"manifests":[{named}]}}"#);
    fs::write(layout.join("index.json"), index).context("writing the index")?;
    fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)
        .context("writing the layout")?;
    Ok(layout)
}

/// Three layers: a base, a patch that removes and replaces, a file on top.
fn three() -> anyhow::Result<Vec<Vec<u8>>> {
    let large = pattern(64 * 4096, 5);
    Ok(vec![
        tar(&[("old", What::File(b"old")), ("version", What::File(b"1")), ("large", What::File(&large))])?,
        tar(&[(".wh.old", What::File(b"")), ("version", What::File(b"2"))])?,
        tar(&[("new", What::File(b"new"))])?,
    ])
}

/// An image as it is mounted, and the digest of its manifest.
pub(super) struct Image {
    layout: PathBuf,
    pub(super) name: String,
}

impl Image {
    pub(super) fn new(context: &Context) -> anyhow::Result<Self> {
        Self::of(context, &three()?)
    }

    fn of(context: &Context, layers: &[Vec<u8>]) -> anyhow::Result<Self> {
        Self::build(&layout(context, "source", layers)?, context.path("built"), "image")
    }

    /// Two images with a common layer, in one layout, so that this layer is one file.
    pub(super) fn related(context: &Context) -> anyhow::Result<[Self; 2]> {
        let layers = three()?;
        let own =
            tar(&[(".wh.old", What::File(b"")), ("version", What::File(b"2")), ("new", What::File(b"new"))])?;
        let one = layout(context, "source-1", &layers)?;
        let other = layout(context, "source-2", &[layers[0].clone(), own])?;
        let built = context.path("built");
        Ok([Self::build(&one, built.clone(), "one")?, Self::build(&other, built, "other")?])
    }

    fn build(from: &Path, to: PathBuf, reference: &str) -> anyhow::Result<Self> {
        let name = format!("oci:{}:{reference}", to.display());
        Tool::Verity
            .run("image build --quiet")
            .arg(format!("oci:{}:image", from.display()))
            .arg(&name)
            .succeed()?;
        Ok(Self { layout: to, name })
    }

    pub(super) fn mount(&self, target: &Path) -> Program {
        Tool::Verity.run("image mount --quiet").arg(&self.name).arg(target)
    }

    /// What the mount's report says is the manifest.
    fn manifest(&self, target: &Path) -> anyhow::Result<String> {
        let report = Tool::Verity.run("image mount --json").arg(&self.name).arg(target).succeed()?.stdout;
        let report: serde_json::Value = serde_json::from_str(&report)?;
        expect_silence(umount(target))?;
        Ok(report["manifest"].as_str().context("no manifest in the report")?.to_owned())
    }

    /// The file of its lowest layer.
    fn lowest(&self) -> anyhow::Result<PathBuf> {
        let blobs = fs::read_dir(self.layout.join("blobs/sha256"))?.map(|entry| Ok(entry?.path()));
        let blobs = blobs.collect::<anyhow::Result<Vec<_>>>()?;
        let size = |path: &PathBuf| fs::metadata(path).map(|metadata| metadata.len()).unwrap_or(0);
        blobs.into_iter().max_by_key(size).context("no blob")
    }
}

pub(super) fn umount(target: &Path) -> Program {
    Tool::Verity.run("image umount").arg(target)
}

pub(super) fn expect_image(target: &Path) -> anyhow::Result<()> {
    let read = |name: &str| fs::read(target.join(name)).with_context(|| name.to_owned());
    ensure!(read("version")? == b"2" && read("new")? == b"new", "another image is mounted");
    ensure!(read("large")? == pattern(64 * 4096, 5), "a file of the lowest layer differs");
    ensure!(!target.join("old").exists(), "what was removed is there");
    Ok(())
}

pub(super) fn expect_nothing() -> anyhow::Result<()> {
    let (devices, loops) = (device_mapper_devices()?, loop_devices()?);
    ensure!(devices.is_empty() && loops.is_empty(), "left behind: {devices:?} {loops:?}");
    Ok(())
}

fn mounted(context: &mut Context) -> anyhow::Result<()> {
    let before = KernelObjects::now()?;
    let image = Image::new(context)?;
    let target = directory(context, "target")?;
    expect_silence(image.mount(&target))?;
    expect_image(&target)?;
    expect_silence(umount(&target))?;
    expect_nothing()?;
    let report = Tool::Verity.run("image mount --json").arg(&image.name).arg(&target).succeed()?;
    let json: serde_json::Value = serde_json::from_str(&report.stdout)?;
    ensure!(json["layers"].as_array().map(Vec::len) == Some(3), "expected three layers of {report}");
    let list = Tool::Verity.run("list --json").succeed()?.stdout;
    ensure!(list.matches("\"verified\"").count() == 3, "expected three verified devices: {list}");
    let report = Tool::Verity.run("image umount --json").arg(&target).succeed()?;
    let json: serde_json::Value = serde_json::from_str(&report.stdout)?;
    ensure!(json["removed"].as_array().map(Vec::len) == Some(3), "expected three devices of {report}");
    let left = before.leaks();
    ensure!(left.is_empty(), "left behind: {}", left.join(", "));
    Ok(())
}

/// Three layers: directories with attributes of their own, a patch below some of them without any entry for these, and one that removes and replaces.
fn without_parents() -> anyhow::Result<Vec<Vec<u8>>> {
    let mut base = Writer::new(Vec::new());
    for (path, mode, uid) in [
        ("", 0o751, 5),
        ("root", 0o700, 0),
        ("root/deep", 0o710, 70_000),
        ("tmp", 0o1777, 1),
        ("gone", 0o700, 2),
    ] {
        let xattrs = BTreeMap::from([(b"user.path".to_vec(), path.as_bytes().to_vec())]);
        let mtime = 1_600_000_000 + i64::from(uid);
        let attributes = Attributes { mode, uid, gid: uid + 1, mtime, mtime_nsec: 123_456_789, xattrs };
        base.add(path.as_bytes(), &attributes, &EntryKind::Directory, &mut std::io::empty())?;
    }
    Ok(vec![
        base.finish()?,
        tar(&[
            ("root/deep/new/patched", What::File(b"1")),
            ("tmp/.wh.removed", What::File(b"")),
            (".wh.gone", What::File(b"")),
        ])?,
        tar(&[("root/deep/new/again", What::File(b"2")), ("gone/back", What::File(b"3"))])?,
    ])
}

fn parents(context: &mut Context) -> anyhow::Result<()> {
    let image = Image::of(context, &without_parents()?)?;
    let target = directory(context, "target")?;
    expect_silence(image.mount(&target))?;
    for (path, mode, uid, gid, time) in [
        ("", 0o751, 5, 6, (1_600_000_005, 123_456_789)),
        ("root", 0o700, 0, 1, (1_600_000_000, 123_456_789)),
        ("root/deep", 0o710, 70_000, 70_001, (1_600_070_000, 123_456_789)),
        ("tmp", 0o1777, 1, 2, (1_600_000_001, 123_456_789)),
        // Nobody has ever said what these are to have.
        ("root/deep/new", 0o755, 0, 0, (0, 0)),
        ("gone", 0o755, 0, 0, (0, 0)),
    ] {
        let directory = target.join(path);
        let found = fs::metadata(&directory).with_context(|| path.to_owned())?;
        let found = (found.mode() & 0o7777, found.uid(), found.gid(), (found.mtime(), found.mtime_nsec()));
        ensure!(found == (mode, uid, gid, time), "{path:?} has {found:?}");
        let mut value = [0; 100];
        let length = rustix::fs::lgetxattr(&directory, "user.path", &mut value[..]);
        let found = length.ok().map(|length| &value[..length]);
        ensure!(found == (time.0 != 0).then_some(path.as_bytes()), "{path:?}: {found:?}");
    }
    for name in ["patched", "again"] {
        ensure!(target.join("root/deep/new").join(name).exists(), "{name} is missing");
    }
    expect_silence(umount(&target))?;
    expect_nothing()
}

fn digest(context: &mut Context) -> anyhow::Result<()> {
    let image = Image::new(context)?;
    let target = directory(context, "target")?;
    let manifest = image.manifest(&target)?;
    expect_silence(image.mount(&target).arg("--digest").arg(&manifest))?;
    expect_silence(umount(&target))?;
    let other = Digest::sha256(b"another manifest").to_string();
    expect_refused(image.mount(&target).arg("--digest").arg(other), 2, &manifest)?;
    // A manifest that was altered has another digest.
    let path = image.layout.join("blobs/sha256").join(manifest.strip_prefix("sha256:").unwrap_or_default());
    flip(&path, 20, 0)?;
    expect_refused(image.mount(&target), 2, "digest").map(drop)
}

fn refused(context: &mut Context) -> anyhow::Result<()> {
    let image = Image::new(context)?;
    let target = directory(context, "target")?;
    let tars = format!("oci:{}:image", context.path("source").display());
    let hint = expect_refused(Tool::Verity.run("image mount").arg(tars).arg(&target), 1, "tar")?;
    ensure!(hint.stderr.contains("image build"), "expected what to do of {hint}");
    let archive = Tool::Verity.run("image mount oci-archive:archive.tar").arg(&target);
    let hint = expect_refused(archive, 1, "layout")?;
    ensure!(hint.stderr.contains("image build"), "expected what to do of {hint}");
    let file = context.path("file");
    fs::write(&file, "")?;
    expect_refused(image.mount(&file), 1, "no directory")?;
    expect_refused(image.mount(&context.path("missing")), 4, "missing")?;
    expect_refused(image.mount(Path::new("/proc")), 5, "mount point")?;
    expect_refused(umount(Path::new("/proc")), 4, "proc")?;
    expect_refused(umount(&target), 4, "nothing is mounted")?;
    Ok(())
}

fn damaged(context: &mut Context) -> anyhow::Result<()> {
    let image = Image::new(context)?;
    let target = directory(context, "target")?;
    let blob = image.lowest()?;
    flip(&blob, 1024, 1)?;
    expect_refused(image.mount(&target), 2, "layer 1")?;
    flip(&blob, 1024, 1)?;
    fs::rename(&blob, context.path("elsewhere"))?;
    expect_refused(image.mount(&target), 4, "layer 1")?;
    fs::rename(context.path("elsewhere"), &blob)?;
    expect_silence(image.mount(&target))?;
    expect_image(&target)?;
    expect_silence(umount(&target))
}

fn busy(context: &mut Context) -> anyhow::Result<()> {
    let image = Image::new(context)?;
    let target = directory(context, "target")?;
    expect_silence(image.mount(&target))?;
    let file = File::open(target.join("version"))?;
    expect_refused(umount(&target), 5, &format!("process {} ", std::process::id()))?;
    expect_image(&target)?;
    expect_silence(umount(&target).arg("--lazy"))?;
    ensure!(device_mapper_devices()?.len() == 3, "{:?}", device_mapper_devices()?);
    ensure!(std::io::read_to_string(&file)? == "2", "the file cannot be read any more");
    drop(file);
    Ok(())
}

fn killed(context: &mut Context) -> anyhow::Result<()> {
    const ROUNDS: u32 = 24;
    let before = KernelObjects::now()?;
    let image = Image::new(context)?;
    let target = directory(context, "target")?;
    let started = Instant::now();
    expect_silence(image.mount(&target))?;
    let whole = started.elapsed();
    expect_silence(umount(&target))?;
    let mut left_over = 0;
    for round in 0..ROUNDS {
        let mut child = Command::new("verity")
            .args(["image", "mount", "--quiet", &image.name])
            .arg(&target)
            .stdin(Stdio::null())
            .spawn()
            .context("starting verity")?;
        thread::sleep(whole * round / ROUNDS);
        child.kill().context("killing verity")?;
        let status = child.wait().context("waiting for verity")?;
        let what = || format!("round {round}, which ended with {status}");
        if fs::metadata(target.join("version")).is_ok() {
            expect_image(&target).with_context(what)?;
            expect_silence(umount(&target)).with_context(what)?;
        }
        left_over += device_mapper_devices()?.len();
        // Whatever is left, the next one takes its place, and takes it away.
        expect_silence(image.mount(&target)).with_context(what)?;
        expect_image(&target).with_context(what)?;
        expect_silence(umount(&target)).with_context(what)?;
        let left = before.leaks();
        ensure!(left.is_empty(), "{} left behind: {}", what(), left.join(", "));
    }
    context.say(format!("after {ROUNDS} kills {left_over} devices were there for a moment"))
}

fn at_once(context: &mut Context) -> anyhow::Result<()> {
    const MOUNTS: usize = 6;
    let before = KernelObjects::now()?;
    let image = Image::new(context)?;
    let targets = (0..MOUNTS)
        .map(|n| directory(context, &format!("target-{n}")))
        .collect::<anyhow::Result<Vec<_>>>()?;
    for round in 0..2 {
        let all = |run: &(dyn Fn(&Path) -> anyhow::Result<()> + Sync)| -> anyhow::Result<()> {
            thread::scope(|scope| {
                let threads: Vec<_> = targets.iter().map(|target| scope.spawn(move || run(target))).collect();
                threads.into_iter().try_for_each(|thread| match thread.join() {
                    Ok(result) => result,
                    Err(_) => bail!("a thread panicked"),
                })
            })
        };
        all(&|target| expect_silence(image.mount(target))).with_context(|| format!("round {round}"))?;
        ensure!(device_mapper_devices()?.len() == 3, "{:?}", device_mapper_devices()?);
        targets.iter().try_for_each(|target| expect_image(target))?;
        all(&|target| expect_silence(umount(target))).with_context(|| format!("round {round}"))?;
        expect_nothing()?;
    }
    // Of several for one place, one gets it.
    let won = thread::scope(|scope| {
        let threads: Vec<_> = (0..MOUNTS).map(|_| scope.spawn(|| image.mount(&targets[0]).run())).collect();
        threads.into_iter().map(ScopedJoinHandle::join).collect::<Vec<_>>()
    });
    let codes = won.into_iter().map(|result| match result {
        Ok(output) => Ok(output?.code),
        Err(_) => bail!("a thread panicked"),
    });
    let mut codes = codes.collect::<anyhow::Result<Vec<_>>>()?;
    codes.sort();
    ensure!(codes[0] == Some(0) && codes[1..].iter().all(|code| *code == Some(5)), "exit codes {codes:?}");
    expect_silence(umount(&targets[0]))?;
    let left = before.leaks();
    ensure!(left.is_empty(), "left behind: {}", left.join(", "));
    Ok(())
}
