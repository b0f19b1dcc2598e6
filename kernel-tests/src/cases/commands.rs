//! The commands on a healthy device: what they do, what they print, how long they take.

use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use nix::mount::{MsFlags, mount, umount};
use nix::sys::resource::{UsageWho, getrusage};
use serde_json::Value;

use crate::case::Case;
use crate::guest::{Context, Program, flip, loop_devices, pattern, read_direct};

use super::tools::{
    BLOCK, BLOCKS, Image, Layout, Tool, drop_in, expect_refused, expect_silence, node, without_units,
};

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::new("commands/mount", "an EROFS image is opened, mounted, read and closed", mounted),
        Case::new(
            "commands/status",
            "status prints what the C tool prints, whoever opened the device",
            status,
        ),
        Case::new(
            "commands/status-text",
            "status prints what newer C tools print, to the letter",
            status_text,
        ),
        Case::new("commands/status-flags", "status prints every option as the C tool does", status_flags),
        Case::new("commands/status-json", "status --json has every fact of the device", status_json),
        Case::new("commands/list", "list shows every verity device, as a table, as names and as JSON", list),
        Case::new("commands/old-names", "create and remove do what open and close do", old_names),
        Case::new("commands/time", "opening a layer of 1 GiB takes as long as opening a small one", time),
    ]
}

fn verity(words: &str) -> Program {
    Tool::Verity.run(words)
}

fn mounted(context: &mut Context) -> anyhow::Result<()> {
    let tree = context.path("tree");
    fs::create_dir_all(tree.join("folder")).context("making a tree")?;
    fs::write(tree.join("folder/large"), pattern(300_000, 3)).context("making a tree")?;
    fs::write(tree.join("small"), "text\n").context("making a tree")?;
    let data = context.path("image.erofs");
    Program::new("mkfs.erofs").arg("--quiet").arg(&data).arg(&tree).succeed()?;
    let image = Image::of(context, Tool::Verity, Layout::default(), data)?;
    expect_silence(image.verify(Tool::Verity))?;
    expect_silence(image.open(Tool::Verity, "layer"))?;

    let target = context.path("mnt");
    fs::create_dir(&target).context("making a mount point")?;
    mount(Some(&node("layer")), &target, Some("erofs"), MsFlags::MS_RDONLY, None::<&str>)
        .context("mounting it")?;
    ensure!(fs::read(target.join("folder/large"))? == pattern(300_000, 3), "the large file differs");
    ensure!(fs::read(target.join("small"))? == b"text\n", "the small file differs");
    expect_refused(verity("close layer"), 5, "in use")?;
    let status = verity("status layer").succeed()?;
    ensure!(
        status.stdout.starts_with("/dev/mapper/layer is active and is in use.\n"),
        "not in use: {status}"
    );
    umount(&target).context("unmounting it")?;
    expect_silence(verity("close layer"))
}

/// Fails unless both tools, and ours under the C tool's name, print the same of a device.
fn expect_same_status(context: &Context, name: &str) -> anyhow::Result<()> {
    let theirs = Tool::Veritysetup.run("status").arg(name).succeed()?;
    for ours in [verity("status"), drop_in(context, "status")?] {
        let ours = ours.arg(name).succeed()?;
        let same = without_units(&ours.stdout) == without_units(&theirs.stdout);
        ensure!(same && ours.stderr.is_empty(), "{ours}\ndiffers from {theirs}");
    }
    Ok(())
}

fn status(context: &mut Context) -> anyhow::Result<()> {
    for tool in Tool::ALL {
        for layout in [Layout::default(), Layout { hash_type: 0, superblock: false, with_data: true }] {
            let image = Image::make(context, tool, layout)?;
            image.open(tool, "shown").succeed()?;
            expect_same_status(context, "shown")?;
            let user = File::open(node("shown")).context("opening the device")?;
            expect_same_status(context, "shown").context("in use")?;
            drop(user);
            flip(&image.data, 7 * 4096, 0)?;
            ensure!(read_direct(&node("shown"), 7 * 4096, BLOCK).is_err(), "a bad block was read");
            expect_same_status(context, "shown").context("corrupted")?;
            let status = verity("status shown").succeed()?;
            ensure!(status.field("status:")? == "corrupted", "not corrupted: {status}");
            tool.run("close shown").succeed()?;
        }
    }
    Ok(())
}

/// The C tool in the guest may be an older one, whose texts have no units.
fn status_text(context: &mut Context) -> anyhow::Result<()> {
    let layout = Layout { superblock: false, with_data: true, ..Layout::default() };
    let image = Image::make(context, Tool::Verity, layout)?;
    expect_silence(image.open(Tool::Verity, "text").arg("--ignore-zero-blocks"))?;
    // One file, one loop device.
    let loops = loop_devices()?;
    let [(device, file)] = loops.as_slice() else { bail!("expected one loop device, found {loops:?}") };
    let expected = [
        "/dev/mapper/text is active.",
        "  type:        VERITY",
        "  status:      verified",
        "  hash type:   1",
        "  data block:  4096 [bytes]",
        "  hash block:  4096 [bytes]",
        "  hash name:   sha256",
        "  salt:        00c0ffee",
        &format!("  data device: /dev/{device}"),
        &format!("  data loop:   {file}"),
        "  size:        1040 [512-byte units] (532480 [bytes])",
        "  mode:        readonly",
        &format!("  hash device: /dev/{device}"),
        &format!("  hash loop:   {file}"),
        "  hash offset: 1040 [512-byte units] (532480 [bytes])",
        &format!("  root hash:   {}", image.root),
        "  flags:       ignore_zero_blocks ",
        "",
    ]
    .join("\n");
    let status = verity("status text").succeed()?.stdout;
    ensure!(status == expected, "expected {expected:?}, found {status:?}");
    expect_silence(verity("close text"))
}

fn status_flags(context: &mut Context) -> anyhow::Result<()> {
    let image = Image::new(context)?;
    for options in [
        "--ignore-corruption",
        "--restart-on-corruption --ignore-zero-blocks",
        "--panic-on-corruption --check-at-most-once",
        "--ignore-corruption --ignore-zero-blocks --check-at-most-once",
        "--use-tasklets",
    ] {
        for tool in Tool::ALL {
            image.open(tool, "flags").words(options).succeed()?;
            expect_same_status(context, "flags").context(options)?;
            verity("close flags").succeed()?;
        }
    }
    Ok(())
}

/// Runs a command with `--json` and reads its document.
fn document(program: Program) -> anyhow::Result<Value> {
    let output = program.arg("--json").run()?;
    serde_json::from_str(&output.stdout).with_context(|| format!("no JSON of {output}"))
}

fn expect_field(document: &Value, field: &str, expected: impl Into<Value>) -> anyhow::Result<()> {
    let expected = expected.into();
    ensure!(document[field] == expected, "expected {field} to be {expected} in {document:#}");
    Ok(())
}

fn status_json(context: &mut Context) -> anyhow::Result<()> {
    let image = Image::new(context)?;
    expect_silence(image.open(Tool::Verity, "facts"))?;
    let facts = document(verity("status facts"))?;
    let file = |path: &Path| path.to_string_lossy().into_owned();
    let bytes = BLOCKS * BLOCK;
    for (field, expected) in [
        ("name", Value::from("facts")),
        ("node", "/dev/mapper/facts".into()),
        ("active", true.into()),
        ("status", "verified".into()),
        ("open_count", 0.into()),
        ("read_only", true.into()),
        ("deferred_remove", false.into()),
        ("hash_type", 1.into()),
        ("data_blocks", BLOCKS.into()),
        ("data_block_size", BLOCK.into()),
        ("hash_block_size", BLOCK.into()),
        ("hash_algorithm", "sha256".into()),
        ("root_hash", image.root.as_str().into()),
        ("hash_start_block", 1.into()),
        ("bytes", bytes.into()),
        ("data_loop", file(&image.data).into()),
        ("hash_loop", file(&image.hash).into()),
    ] {
        expect_field(&facts, field, expected)?;
    }
    let table = Program::new("dmsetup").words("table facts").succeed()?;
    let table = table.stdout.trim().strip_prefix(&format!("0 {} verity ", bytes / 512)).map(str::to_owned);
    expect_field(&facts, "table", table)?;
    expect_silence(verity("close facts"))?;
    expect_field(&document(verity("status facts"))?, "active", false)
}

fn list(context: &mut Context) -> anyhow::Result<()> {
    let none = verity("list").succeed()?;
    ensure!(none.stdout.is_empty(), "expected no device of {none}");
    let image = Image::new(context)?;
    image.open(Tool::Veritysetup, "b").succeed()?;
    image.open(Tool::Verity, "a").succeed()?;
    Program::new("dmsetup").words("create foreign --table").arg("0 8 error").succeed()?;
    flip(&image.data, 9 * 4096, 0)?;
    ensure!(read_direct(&node("b"), 9 * 4096, BLOCK).is_err(), "a bad block was read");

    let table = verity("list").succeed()?;
    let rows: Vec<Vec<_>> =
        table.stdout.lines().map(|line| line.split_ascii_whitespace().collect()).collect();
    let (bytes, data) = ((BLOCKS * BLOCK).to_string(), image.data.to_string_lossy());
    let expected = [
        ["NAME", "STATUS", "USES", "BYTES", "DATA"],
        ["a", "verified", "0", &bytes, &data],
        ["b", "corrupted", "0", &bytes, &data],
    ];
    ensure!(rows == expected, "expected {expected:?} of {table}");
    let names = verity("list --quiet").succeed()?;
    ensure!(names.stdout == "a\nb\n", "expected two names of {names}");
    let documents = document(verity("list"))?;
    let found: Vec<_> = documents["devices"]
        .as_array()
        .context("no devices")?
        .iter()
        .map(|device| (device["name"].as_str(), device["status"].as_str()))
        .collect();
    let expected = [(Some("a"), Some("verified")), (Some("b"), Some("corrupted"))];
    ensure!(found == expected, "expected {expected:?} in {documents:#}");

    Program::new("dmsetup").words("remove foreign").succeed()?;
    for name in ["a", "b"] {
        expect_silence(verity("close").arg(name))?;
    }
    Ok(())
}

fn old_names(context: &mut Context) -> anyhow::Result<()> {
    let image = Image::new(context)?;
    for tool in Tool::ALL {
        tool.run("create old").arg(&image.data).arg(&image.hash).arg(&image.root).succeed()?;
        image.expect_whole("old")?;
        tool.run("remove old").succeed()?;
        super::image::expect_absent("old")?;
    }
    Ok(())
}

/// What one run of a program took.
struct Taken {
    /// From its start to its end.
    wall: Duration,
    /// Of it, in the program's own code.
    own: Duration,
}

fn taken(program: Program) -> anyhow::Result<Taken> {
    let own = || -> anyhow::Result<Duration> {
        let time = getrusage(UsageWho::RUSAGE_CHILDREN).context("getrusage")?.user_time();
        let micros = time.tv_sec() * 1_000_000 + time.tv_usec();
        Ok(Duration::from_micros(micros.try_into().context("a negative time")?))
    };
    let (before, started) = (own()?, Instant::now());
    program.succeed()?;
    Ok(Taken { wall: started.elapsed(), own: own()? - before })
}

/// No limit is put on the time: an emulated processor takes ten times as long as the real one, or a hundred.
fn time(context: &mut Context) -> anyhow::Result<()> {
    const TIMES: usize = 3;
    let mut said = Vec::new();
    for (size, bytes) in [("1 MiB", 1 << 20), ("1 GiB", 1 << 30)] {
        let data = context.sparse("data", bytes)?;
        let image = Image::of(context, Tool::Verity, Layout::default(), data)?;
        for tool in Tool::ALL {
            let mut runs = Vec::new();
            for _ in 0..TIMES {
                runs.push(taken(image.open(tool, "timed"))?);
                verity("close timed").succeed()?;
            }
            runs.sort_by_key(|taken| taken.wall);
            let median = &runs[TIMES / 2];
            said.push(format!(
                "{tool:?} opens {size} in {:.1} ms, {:.1} of them in user space",
                median.wall.as_secs_f64() * 1e3,
                median.own.as_secs_f64() * 1e3
            ));
        }
    }
    said.into_iter().try_for_each(|line| context.say(line))
}
