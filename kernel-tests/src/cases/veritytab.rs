//! The devices that a veritytab lists, activated and removed together.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use verity_core::device::query;

use crate::case::{Case, OwnBoot};
use crate::guest::{Context, KernelObjects, Output, Program, device_mapper_devices, flip};

use super::tools::{Image, Key, Layout, Tool, expect_silence, other_digit};

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::new(
            "veritytab/again",
            "attach-all activates what is listed, a second time changes nothing, and detach-all removes it",
            again,
        ),
        Case::new(
            "veritytab/one-bad-entry",
            "an entry that fails keeps no other from being activated, and decides the exit code unless it has nofail",
            one_bad_entry,
        ),
        Case::new(
            "veritytab/another-device",
            "a device that is active with other parameters is an error, and is left alone",
            another_device,
        ),
        Case::new(
            "veritytab/theirs",
            "a device that the C tool has activated with the same parameters is taken as it is",
            theirs,
        ),
        Case::new(
            "veritytab/parity",
            "parity is taken from the line, and the kernel restores what is damaged with it",
            parity,
        ),
        Case::new("veritytab/signed", "signatures are taken from files and from the line itself", signed)
            .since(6, 12)
            .own_boot(OwnBoot {
                uefi: true,
                arguments: &["dm_verity.require_signatures=1"],
                ..OwnBoot::default()
            }),
    ]
}

/// Writes the table, and runs a command with it.
struct Table(PathBuf);

impl Table {
    fn new(context: &Context, lines: &[String]) -> anyhow::Result<Self> {
        let path = context.path("veritytab");
        fs::write(&path, lines.join("\n")).context("writing the veritytab")?;
        Ok(Self(path))
    }

    fn run(&self, command: &str) -> anyhow::Result<Output> {
        Tool::Verity.run(command).arg(&self.0).run()
    }

    /// Fails unless this exit code and this text are the answer.
    fn expect(&self, command: &str, code: i32, stdout: &str) -> anyhow::Result<Output> {
        let output = self.run(command)?.expect_code(code)?;
        ensure!(output.stdout == stdout, "expected {stdout:?} of {output}");
        Ok(output)
    }
}

fn line(name: &str, data: &Path, hash: &Path, root: &str, options: &str) -> String {
    format!("{name} {} {} {root} {options}", data.display(), hash.display())
}

fn line_of(image: &Image, name: &str, options: &str) -> String {
    line(name, &image.data, &image.hash, &image.root, options)
}

fn expect_devices(expected: &[&str]) -> anyhow::Result<()> {
    let found = device_mapper_devices()?;
    ensure!(found == expected, "expected the devices {expected:?}, found {found:?}");
    Ok(())
}

fn again(context: &mut Context) -> anyhow::Result<()> {
    let plain = Image::new(context)?;
    let bare = {
        // Data and tree in one file, and no superblock: all is said in the line.
        let data = context.pattern("bare", 130 * 4096, 11)?;
        let layout = Layout { superblock: false, with_data: true, ..Layout::default() };
        Image::of(context, Tool::Veritysetup, layout, data)?
    };
    let table = Table::new(
        context,
        &[
            "# what the guest's system would mount".to_owned(),
            line_of(&plain, "plain", "-"),
            line_of(&plain, "later", "noauto"),
            line_of(
                &bare,
                "bare",
                "superblock=no,salt=00c0ffee,data-blocks=130,hash-offset=532480,ignore-zero-blocks,x-initrd.attach",
            ),
        ],
    )?;
    let before = KernelObjects::now()?;
    for _ in 0..2 {
        table.expect("attach-all", 0, "plain: attached\nlater: left out\nbare: attached\n")?;
        expect_devices(&["bare", "plain"])?;
        plain.expect_whole("plain")?;
        bare.expect_whole("bare")?;

        let with_devices = KernelObjects::now()?;
        let quiet = table.expect("attach-all -q", 0, "")?;
        ensure!(quiet.stderr.is_empty(), "expected no word of {quiet}");
        table.expect("attach-all", 0, "plain: already active\nlater: left out\nbare: already active\n")?;
        let more = with_devices.leaks();
        ensure!(more.is_empty(), "a second time made {}", more.join(", "));

        table.expect("detach-all", 0, "bare: left out\nlater: not active\nplain: detached\n")?;
        expect_devices(&["bare"])?;
        expect_silence(Tool::Verity.run("close bare"))?;
        let left = before.leaks();
        ensure!(left.is_empty(), "left behind: {}", left.join(", "));
    }
    Ok(())
}

fn one_bad_entry(context: &mut Context) -> anyhow::Result<()> {
    let image = Image::new(context)?;
    let wrong = other_digit(&image.root);
    let missing = context.path("missing");
    let first = line_of(&image, "first", "-");
    let waiting = line("waiting", &missing, &image.hash, &image.root, "nofail");
    let bad = line("bad", &image.data, &image.hash, &wrong, "-");
    let last = line_of(&image, "last", "check-at-most-once");

    let table =
        Table::new(context, &[first.clone(), waiting.clone(), bad, "broken".to_owned(), last.clone()])?;
    let output = table.expect("attach-all", 1, "first: attached\nlast: attached\n")?;
    for text in [
        "note: line 2 (waiting): ",
        "verity: line 3 (bad): wrong root hash",
        "line 4: data device is missing",
    ] {
        ensure!(output.stderr.contains(text), "expected {text:?} of {output}");
    }
    expect_devices(&["first", "last"])?;
    table.expect(
        "detach-all",
        1,
        "last: detached\nbad: not active\nwaiting: not active\nfirst: detached\n",
    )?;
    expect_devices(&[])?;

    let table = Table::new(context, &[first, waiting, last])?;
    let output = Tool::Verity.run("attach-all --json").arg(&table.0).succeed()?;
    let document: serde_json::Value = serde_json::from_str(&output.stdout)?;
    let entries = document["entries"].as_array().context("no entries")?;
    let results: Vec<_> = entries.iter().filter_map(|entry| entry["result"].as_str()).collect();
    ensure!(results == ["attached", "failed", "attached"], "{output}");
    ensure!(entries[1]["error"]["kind"] == "no-device" && entries[1]["required"] == false, "{output}");
    table.expect("detach-all -q", 0, "").map(drop)
}

fn another_device(context: &mut Context) -> anyhow::Result<()> {
    let image = Image::new(context)?;
    let copy = context.path("copy");
    fs::copy(&image.data, &copy).context("copying the data")?;
    expect_silence(image.open(Tool::Verity, "layer").arg("--ignore-zero-blocks"))?;
    let number = query(&"layer".parse()?)?.number;
    for (entry, text) in [
        (line_of(&image, "layer", "-"), "ignore_zero_blocks is on, not off"),
        (line_of(&image, "layer", "ignore-zero-blocks,panic-on-corruption"), "reaction to corruption"),
        (line("layer", &copy, &image.hash, &image.root, "ignore-zero-blocks"), "data device is"),
    ] {
        let table = Table::new(context, &[entry])?;
        table.expect("attach-all", 5, "")?.expect_error(text)?;
        let found = query(&"layer".parse()?)?.number;
        ensure!(found == number, "{text}: {number} has become {found}");
        image.expect_whole("layer")?;
    }
    let table = Table::new(context, &[line_of(&image, "layer", "ignore-zero-blocks")])?;
    table.expect("attach-all", 0, "layer: already active\n")?;
    table.expect("detach-all", 0, "layer: detached\n").map(drop)
}

fn theirs(context: &mut Context) -> anyhow::Result<()> {
    let image = Image::make(context, Tool::Veritysetup, Layout::default())?;
    expect_silence(image.open(Tool::Veritysetup, "layer").arg("--check-at-most-once"))?;
    let table = Table::new(context, &[line_of(&image, "layer", "check-at-most-once")])?;
    table.expect("attach-all", 0, "layer: already active\n")?;
    table.expect("detach-all", 0, "layer: detached\n")?;
    table.expect("detach-all", 0, "layer: not active\n").map(drop)
}

fn parity(context: &mut Context) -> anyhow::Result<()> {
    let image = Image::new(context)?;
    let parity = context.path("parity");
    let encode =
        Tool::Verity.run("fec encode --quiet --fec-roots 4 --fec-offset 8192 --fec-device").arg(&parity);
    encode.arg(&image.data).arg(&image.hash).arg(&image.root).succeed()?;
    // One in the first block, which is read before the device is given out, and one in the middle.
    for offset in [7, 64 * 4096 + 1] {
        flip(&image.data, offset, 3)?;
    }
    let options = format!("fec-device={},fec-offset=8192,fec-roots=4", parity.display());
    let table = Table::new(context, &[line_of(&image, "layer", &options)])?;
    table.expect("attach-all", 0, "layer: attached\n")?;
    image.expect_whole("layer")?;
    let status = Tool::Verity.run("status layer").succeed()?;
    ensure!(status.field("FEC roots:")? == "4", "{status}");
    table.expect("attach-all", 0, "layer: already active\n")?;

    let other = Table::new(context, &[line_of(&image, "layer", "-")])?;
    other.expect("attach-all", 5, "")?.expect_error("error correction is on, not off")?;
    let short = Table::new(context, &[line_of(&image, "layer", &options.replace("roots=4", "roots=24"))])?;
    short.expect("attach-all", 1, "")?.expect_error("too short")?;
    table.expect("detach-all", 0, "layer: detached\n").map(drop)
}

fn signed(context: &mut Context) -> anyhow::Result<()> {
    let image = Image::new(context)?;
    let file = Key::Trusted.sign(context, &image.root)?;
    let inline = Program::new("openssl").words("base64 -A -in").arg(&file).succeed()?.stdout;
    let strange = Key::Stranger.sign(context, &image.root)?;
    let table = Table::new(
        context,
        &[
            line_of(&image, "file", &format!("root-hash-signature={}", file.display())),
            line_of(&image, "inline", &format!("root-hash-signature=base64:{}", inline.trim_end())),
            line_of(&image, "unsigned", "nofail"),
            line_of(&image, "strange", &format!("nofail,root-hash-signature={}", strange.display())),
        ],
    )?;
    let before = KernelObjects::now()?;
    let output = table.expect("attach-all", 0, "file: attached\ninline: attached\n")?;
    for text in
        ["line 3 (unsigned): ", "requires a signature", "line 4 (strange): ", "in none of its keyrings"]
    {
        ensure!(output.stderr.contains(text), "expected {text:?} of {output}");
    }
    for name in ["file", "inline"] {
        image.expect_whole(name)?;
        let status = Tool::Veritysetup.run("status").arg(name).succeed()?;
        ensure!(status.field("status:")? == "verified (with signature)", "{status}");
    }
    table.expect("attach-all", 0, "file: already active\ninline: already active\n")?;
    // One that was opened with a signature is not the one that asks for none.
    let table = Table::new(context, &[line_of(&image, "file", "-"), line_of(&image, "inline", "-")])?;
    table.expect("attach-all", 5, "")?.expect_error("signature is on, not off")?;
    table.expect("detach-all", 0, "inline: detached\nfile: detached\n")?;
    let left = before.leaks();
    ensure!(left.is_empty(), "left behind: {}", left.join(", "));
    Ok(())
}
