//! What must not become a device, or a tree: wrong, damaged or incomplete input, and a user who may not.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use anyhow::{Context as _, ensure};
use nix::mount::{MsFlags, mount, umount};

use crate::case::Case;
use crate::guest::{Context, KernelObjects, Program, flip, pattern, read_direct};

use super::image::expect_absent;
use super::tools::{BLOCK, Image, Layout, Tool, drop_in, expect_refused, expect_silence, node, other_digit};

/// User and group `nobody`.
const NOBODY: u32 = 65534;

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::new(
            "refusals/wrong-root",
            "a wrong root hash is refused with exit code 1 and leaves nothing",
            wrong_root,
        ),
        Case::new(
            "refusals/wrong-root-drop-in",
            "under the C tool's name a wrong root hash gives the C tool's answer, a corrupted device",
            wrong_root_drop_in,
        ),
        Case::new(
            "refusals/root-hash-file",
            "a root hash file that cannot be read is an error",
            root_hash_file,
        ),
        Case::new("refusals/short", "data or a tree that lacks its end is refused and not written to", short),
        Case::new("refusals/missing", "a file that is missing, empty or a folder is refused", missing),
        Case::new("refusals/superblock", "a flipped bit in a field of the superblock is refused", superblock),
        Case::new(
            "refusals/fewer-blocks",
            "verify refuses a superblock that hides the last blocks",
            fewer_blocks,
        ),
        Case::new("refusals/kernel", "what the kernel refuses is told with its reason", kernel),
        Case::new("refusals/salt", "a flipped bit anywhere in the salt is refused", salt),
        Case::new("refusals/nobody", "who is not root gets exit code 2 from every command", nobody),
        Case::new(
            "refusals/disk-full",
            "a full disk under format is one error and leaves nothing",
            disk_full,
        ),
    ]
}

fn verity(words: &str) -> Program {
    Tool::Verity.run(words)
}

fn wrong_root(context: &mut Context) -> anyhow::Result<()> {
    let image = Image::new(context)?;
    let refused = |root: &str, text: &str| {
        expect_refused(image.open_with(verity("open"), "wrong", root), 1, text).context(root.to_owned())
    };
    refused(&other_digit(&image.root), "wrong root hash")?;
    refused(&"0".repeat(64), "wrong root hash")?;
    refused(&image.root[2..], "root hash")?;
    refused(&format!("{}00", image.root), "root hash")?;
    refused(&image.root.replacen(|_| true, "x", 1), "root hash")?;
    refused("", "root hash")?;
    // With the right one, in either case of letters, it opens.
    expect_silence(image.open_with(verity("open"), "right", &image.root.to_uppercase()))?;
    expect_silence(verity("close right"))
}

/// The first fault of the C tool that the project knows: it says that something is wrong and succeeds.
fn wrong_root_drop_in(context: &mut Context) -> anyhow::Result<()> {
    let image = Image::new(context)?;
    let mut seen = Vec::new();
    for open in [Tool::Veritysetup.run("open"), drop_in(context, "open")?] {
        let output = image.open_with(open, "wrong", &other_digit(&image.root)).run()?;
        ensure!(read_direct(&node("wrong"), 0, BLOCK).is_err(), "a block was read under a wrong root hash");
        let status = Tool::Veritysetup.run("status wrong").succeed()?;
        ensure!(status.field("status:")? == "corrupted", "not corrupted: {status}");
        seen.push((output.code, output.stdout, output.stderr));
        Tool::Veritysetup.run("close wrong").succeed()?;
    }
    ensure!(seen[0].0 == Some(0), "the C tool has mended this: {:?}", seen[0]);
    ensure!(seen[0] == seen[1], "the C tool: {:?}, the drop-in: {:?}", seen[0], seen[1]);
    expect_absent("wrong")
}

fn root_hash_file(context: &mut Context) -> anyhow::Result<()> {
    let image = Image::new(context)?;
    let file = context.path("root");
    let open =
        || verity("open").arg(&image.data).arg("by-file").arg(&image.hash).arg("--root-hash-file").arg(&file);
    expect_refused(open(), 1, "root hash file")?;
    for bad in [
        String::new(),
        image.root[1..].to_owned(),
        format!("{} and more", image.root),
        other_digit(&image.root),
    ] {
        fs::write(&file, bad).context("writing the root hash file")?;
        expect_refused(open(), 1, "root hash")?;
    }
    fs::write(&file, format!("{}\n", image.root)).context("writing the root hash file")?;
    expect_silence(open())?;
    image.expect_whole("by-file")?;
    expect_silence(verity("close by-file"))
}

fn short(context: &mut Context) -> anyhow::Result<()> {
    let image = Image::new(context)?;
    for path in [&image.data, &image.hash] {
        let whole = fs::read(path).context("reading the image")?;
        for missing in [1, 512, BLOCK, whole.len() - 512] {
            let len = whole.len() - missing;
            File::options().write(true).open(path)?.set_len(len.try_into()?).context("cutting the image")?;
            for action in [image.open(Tool::Verity, "short"), image.verify(Tool::Verity)] {
                expect_refused(action, 1, "bytes")
                    .with_context(|| format!("{} less {missing}", path.display()))?;
            }
            ensure!(fs::read(path)? == whole[..len], "{} was written to", path.display());
            fs::write(path, &whole).context("restoring the image")?;
        }
    }
    expect_silence(image.verify(Tool::Verity))
}

fn missing(context: &mut Context) -> anyhow::Result<()> {
    let image = Image::new(context)?;
    let (absent, empty) = (context.path("absent"), context.path("empty"));
    fs::write(&empty, "").context("writing an empty file")?;
    let open = |data: &Path, hash: &Path| verity("open").arg(data).arg("missing").arg(hash).arg(&image.root);
    for (bad, code, text) in
        [(&absent, 4, "absent"), (&empty, 1, "empty"), (&context.path(""), 4, "directory")]
    {
        expect_refused(open(bad, &image.hash), code, text).context("as the data")?;
        expect_refused(open(&image.data, bad), code, text).context("as the tree")?;
    }
    Ok(())
}

/// Field, byte offset, bit; the offsets are the format's.
const FIELDS: &[(&str, u64, u8)] = &[
    ("magic", 0, 0),
    ("version", 8, 1),
    ("hash type", 12, 0),
    ("hash type's last bit", 15, 7),
    ("algorithm", 32, 0),
    ("algorithm's padding", 63, 4),
    ("data block size, doubled", 65, 4),
    ("data block size, halved", 65, 3),
    ("hash block size", 69, 4),
    ("data blocks, more", 72, 0),
    ("data blocks, another depth of the tree", 72, 7),
    ("data blocks, a great many", 79, 7),
    ("salt size", 80, 0),
    ("salt size, too large", 81, 7),
    ("padding", 84, 3),
    ("salt", 88, 0),
    ("padding behind the salt", 400, 5),
];

fn superblock(context: &mut Context) -> anyhow::Result<()> {
    let image = Image::new(context)?;
    for &(field, offset, bit) in FIELDS {
        flip(&image.hash, offset, bit)?;
        let before = KernelObjects::now()?;
        // Some are seen before there is a device, some in its first or last block.
        let output = image.open(Tool::Verity, "flipped").run()?;
        ensure!(matches!(output.code, Some(1 | 2)), "{field}: expected a refusal of {output}");
        let left = before.leaks();
        ensure!(left.is_empty(), "{field}: left behind, {}, by {output}", left.join(", "));
        flip(&image.hash, offset, bit)?;
    }
    // The UUID protects nothing and is part of a name only.
    flip(&image.hash, 16, 0)?;
    expect_silence(image.open(Tool::Verity, "flipped"))?;
    image.expect_whole("flipped")?;
    expect_silence(verity("close flipped"))
}

/// The tree has the same shape for a few blocks less, and every block that is left is genuine: the kernel, which does
/// not look at spare slots, cannot tell.
fn fewer_blocks(context: &mut Context) -> anyhow::Result<()> {
    let data = context.pattern("data", 147 * BLOCK, 11)?;
    let image = Image::of(context, Tool::Verity, Layout::default(), data)?;
    // 147 less 16.
    flip(&image.hash, 72, 4)?;
    let verify = image.verify(Tool::Verity).run()?.expect_code(2)?;
    ensure!(
        verify.stdout.contains("hash level 0 block 1"),
        "the block with spare digests is not named: {verify}"
    );
    Ok(())
}

/// The kernel says no more than EINVAL.
fn kernel(context: &mut Context) -> anyhow::Result<()> {
    let (data, hash) = (context.sparse("data", 1 << 20)?, context.path("hash"));
    let made = verity("format --data-block-size=8192").arg(&data).arg(&hash).succeed()?;
    let open = verity("open").arg(&data).arg("refused").arg(&hash).arg(made.field("Root hash:")?);
    expect_refused(open, 1, "data block size 8192 is above this machine's page size, 4096")?;
    Ok(())
}

fn salt(context: &mut Context) -> anyhow::Result<()> {
    let image = Image::new(context)?;
    for byte in 0..32 {
        let (offset, bit) = (88 + u64::from(byte), byte % 8);
        flip(&image.hash, offset, bit)?;
        expect_refused(image.open(Tool::Verity, "flipped"), 1, "wrong root hash")?;
        flip(&image.hash, offset, bit)?;
    }
    Ok(())
}

fn nobody(context: &mut Context) -> anyhow::Result<()> {
    let image = Image::new(context)?;
    expect_silence(image.open(Tool::Verity, "root-s"))?;
    for program in [
        image.open(Tool::Verity, "nobody-s"),
        image.open(Tool::Verity, "root-s"),
        verity("close root-s"),
        verity("close --deferred root-s"),
        verity("status root-s"),
        verity("list"),
    ] {
        expect_refused(program.user(NOBODY), 2, "permission")?;
    }
    // A file that only root can read, and a folder that only root can write to.
    let secret = context.path("secret");
    fs::write(&secret, pattern(BLOCK, 1)).context("writing a file")?;
    Program::new("/bin/verity").words("format").arg(&secret).arg(context.path("secret-hash")).succeed()?;
    expect_refused(verity("dump").arg(context.path("secret-hash")).user(NOBODY), 2, "permission")?;
    let new = Path::new("/bin/hash");
    expect_refused(verity("format").arg(&image.data).arg(new).user(NOBODY), 2, "permission")?;
    ensure!(!new.exists(), "{} was made", new.display());
    image.expect_whole("root-s")?;
    expect_silence(verity("close root-s"))
}

fn disk_full(context: &mut Context) -> anyhow::Result<()> {
    let data = context.pattern("data", 16 << 20, 4)?;
    let small = context.path("small");
    fs::create_dir(&small).context("making a mount point")?;
    mount(Some("tmpfs"), &small, Some("tmpfs"), MsFlags::empty(), Some("size=64k"))
        .context("mounting a small disk")?;
    let check = || -> anyhow::Result<()> {
        let hash = small.join("hash");
        let format = || verity("format").arg(&data).arg(&hash);
        expect_refused(format(), 1, "no space left on device")?;
        let left: Vec<_> = fs::read_dir(&small)?.collect();
        ensure!(left.is_empty(), "left on the full disk: {left:?}");
        // A file that was there before stays, as it was before or without a superblock that says it were a tree.
        let before = pattern(BLOCK, 6);
        fs::write(&hash, &before).context("writing a file")?;
        expect_refused(format(), 1, "no space left on device")?;
        ensure!(fs::read(&hash)? == before, "a failed format changed the file that was there");
        Ok(())
    };
    let result = check();
    umount(&small).context("unmounting the small disk")?;
    result?;
    let mut first = vec![0; BLOCK];
    File::open(&data)?.read_exact_at(&mut first, 0)?;
    ensure!(
        first == pattern(16 << 20, 4)[..BLOCK] && fs::metadata(&data)?.len() == 16 << 20,
        "the data changed"
    );
    Ok(())
}
