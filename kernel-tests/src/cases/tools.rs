//! Images as a user makes and opens them: with the command line under test, or with the C tool.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};

use crate::guest::{Context, KernelObjects, Output, Program, pattern, read_direct};
use crate::protocol::{KEYS, TRUSTED_KEY};

/// Blocks of data and of hashes, in bytes.
pub(super) const BLOCK: usize = 4096;

/// Data blocks of an image for which nothing else is said: two leaf blocks, the second one not full.
pub(super) const BLOCKS: usize = 130;

/// A program that makes trees and devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tool {
    /// The command line under test, under its own name.
    Verity,
    /// The C tool.
    Veritysetup,
}

impl Tool {
    /// Both.
    pub(super) const ALL: [Self; 2] = [Self::Verity, Self::Veritysetup];

    /// The other one.
    pub(super) fn other(self) -> Self {
        match self {
            Self::Verity => Self::Veritysetup,
            Self::Veritysetup => Self::Verity,
        }
    }

    /// The tool with these words as its first arguments.
    pub(super) fn run(self, words: &str) -> Program {
        let name = match self {
            Self::Verity => "verity",
            Self::Veritysetup => "veritysetup",
        };
        Program::new(name).words(words)
    }
}

/// The command line under test as it behaves under the C tool's name.
pub(super) fn drop_in(context: &Context, words: &str) -> anyhow::Result<Program> {
    let link = context.path("veritysetup");
    if fs::symlink_metadata(&link).is_err() {
        symlink("/bin/verity", &link).context("linking veritysetup to verity")?;
    }
    Ok(Program::new(&link.to_string_lossy()).words(words))
}

/// What a tree is made with, and where it is put.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layout {
    /// 0 or 1.
    pub(super) hash_type: u8,
    /// Whether there is a superblock in front of the tree.
    pub(super) superblock: bool,
    /// Behind the data, in one file with it, or in a file of its own.
    pub(super) with_data: bool,
}

impl Default for Layout {
    fn default() -> Self {
        Self { hash_type: 1, superblock: true, with_data: false }
    }
}

impl Layout {
    /// Every one.
    pub(super) fn all() -> impl Iterator<Item = Self> {
        let both = [false, true];
        [0, 1].into_iter().flat_map(move |hash_type| {
            both.into_iter().flat_map(move |superblock| {
                both.map(move |with_data| Self { hash_type, superblock, with_data })
            })
        })
    }

    /// Options that both making and using the tree need.
    fn place(self, blocks: usize) -> Vec<String> {
        let mut options = Vec::new();
        if self.with_data {
            options.push(format!("--hash-offset={}", blocks * BLOCK));
        }
        if !self.superblock {
            options.push("--no-superblock".into());
            options.push(format!("--format={}", self.hash_type));
            options.push(format!("--data-blocks={blocks}"));
            options.push("--salt=00c0ffee".into());
        }
        options
    }
}

/// Data with its tree, in files.
pub(super) struct Image {
    /// The file with the data.
    pub(super) data: PathBuf,
    /// The file with the tree.
    pub(super) hash: PathBuf,
    /// What the tool that made the tree gave as its root hash.
    pub(super) root: String,
    /// Where the tree is, and what its superblock does not say.
    options: Vec<String>,
    blocks: usize,
}

impl Image {
    /// An image of the usual kind, made by the command line under test.
    pub(super) fn new(context: &Context) -> anyhow::Result<Self> {
        Self::make(context, Tool::Verity, Layout::default())
    }

    /// An image of blocks of which no two are alike, named after what it is.
    pub(super) fn make(context: &Context, tool: Tool, layout: Layout) -> anyhow::Result<Self> {
        let data = context.pattern("data", BLOCKS * BLOCK, 11)?;
        Self::of(context, tool, layout, data)
    }

    /// An image of data that is there.
    pub(super) fn of(context: &Context, tool: Tool, layout: Layout, data: PathBuf) -> anyhow::Result<Self> {
        let len = fs::metadata(&data).with_context(|| data.display().to_string())?.len();
        let blocks = usize::try_from(len)? / BLOCK;
        let hash = if layout.with_data { data.clone() } else { context.path("hash") };
        let options = layout.place(blocks);
        let mut format = tool.run("format").arg(&data).arg(&hash).args(&options);
        if layout.superblock {
            // The salt and all else that is stored are left to the tool.
            format =
                format.arg(format!("--format={}", layout.hash_type)).arg(format!("--data-blocks={blocks}"));
        }
        let made = format.succeed()?;
        let root = made.field("Root hash:")?.to_owned();
        Ok(Self { data, hash, root, options, blocks })
    }

    /// What opens it as `name`.
    pub(super) fn open(&self, tool: Tool, name: &str) -> Program {
        self.open_with(tool.run("open"), name, &self.root)
    }

    /// What opens it with a root hash that may not be its own; `open` is a tool with its action.
    pub(super) fn open_with(&self, open: Program, name: &str, root: &str) -> Program {
        open.arg(&self.data).arg(name).arg(&self.hash).arg(root).args(&self.options)
    }

    /// What checks the whole of it.
    pub(super) fn verify(&self, tool: Tool) -> Program {
        tool.run("verify").arg(&self.data).arg(&self.hash).arg(&self.root).args(&self.options)
    }

    /// Fails unless the device holds what the data held.
    pub(super) fn expect_whole(&self, name: &str) -> anyhow::Result<()> {
        let read =
            read_direct(&node(name), 0, self.blocks * BLOCK).with_context(|| format!("reading {name}"))?;
        ensure!(read == pattern(read.len(), 11), "{name} does not hold what its data file held");
        Ok(())
    }
}

/// A key of the run's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    /// The one whose certificate the firmware's `db` holds, where the guest has such firmware.
    Trusted,
    /// One that no kernel knows.
    Stranger,
    /// Another one with the trusted one's issuer and serial number, by which a signature names its key.
    Impostor,
}

impl Key {
    /// A file of this key's.
    pub(super) fn file(self, form: &str) -> String {
        let name = match self {
            Self::Trusted => TRUSTED_KEY,
            Self::Stranger => "stranger",
            Self::Impostor => "impostor",
        };
        format!("{KEYS}/{name}.{form}")
    }

    /// Signs `text` as the kernel wants a root hash to be signed; the file with the signature.
    pub(super) fn sign(self, context: &Context, text: &str) -> anyhow::Result<PathBuf> {
        let to = context.path(&format!("{self:?}-{}.p7s", text.get(..8).unwrap_or_default()));
        let sign = Program::new("openssl").words("smime -sign -nocerts -noattr -binary -outform der");
        let sign = sign.arg("-inkey").arg(self.file("key")).arg("-signer").arg(self.file("pem"));
        sign.arg("-out").arg(&to).input(text).succeed()?;
        Ok(to)
    }
}

/// A root hash like this one but for its first digit.
pub(super) fn other_digit(root: &str) -> String {
    let digit = if root.starts_with('0') { '1' } else { '0' };
    format!("{digit}{}", root.get(1..).unwrap_or_default())
}

/// The node of a device whose name needs no escapes.
pub(super) fn node(name: &str) -> PathBuf {
    Path::new("/dev/mapper").join(name)
}

/// Fails unless a program of the command line under test says nothing and succeeds.
pub(super) fn expect_silence(program: Program) -> anyhow::Result<()> {
    let output = program.succeed()?;
    ensure!(output.stdout.is_empty() && output.stderr.is_empty(), "expected no word of {output}");
    Ok(())
}

/// Runs `verity`, which must fail: with this exit code, one error that mentions `text` and at most one hint, and
/// with nothing left behind.
pub(super) fn expect_refused(program: Program, code: i32, text: &str) -> anyhow::Result<Output> {
    let before = KernelObjects::now()?;
    let output = program.run()?.expect_code(code)?.expect_error(text)?;
    let mut lines = output.stderr.lines();
    let first = lines.next().is_some_and(|line| line.starts_with("verity: "));
    let rest: Vec<_> = lines.collect();
    let hint = rest.is_empty() || (rest.len() == 1 && rest[0].starts_with("hint: "));
    ensure!(first && hint && output.stdout.is_empty(), "expected one error of {output}");
    let left = before.leaks();
    ensure!(left.is_empty(), "left behind, {}, by {output}", left.join(", "));
    Ok(output)
}

/// A text of either tool as older C tools write it: newer ones say in which unit they count. Blanks at the ends
/// of lines, which the C tool puts behind some flags, are left out.
pub(super) fn without_units(text: &str) -> String {
    let line = |line: &str| match line.split_once(" [512-byte units]") {
        Some((sectors, _)) => format!("{sectors} sectors\n"),
        None => {
            let line = line.trim_end();
            let line = line.strip_suffix(" [bytes]").unwrap_or(line);
            let line =
                line.strip_suffix('.').filter(|line| line.starts_with("VERITY header")).unwrap_or(line);
            format!("{line}\n")
        }
    };
    text.lines().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::without_units;

    #[test]
    fn both_versions_of_a_text_become_one() {
        for (newer, older) in [
            ("  data block:  4096 [bytes]\n", "  data block:  4096\n"),
            ("  size:        8 [512-byte units] (4096 [bytes])\n", "  size:        8 sectors\n"),
            ("VERITY header information for h.x.\n", "VERITY header information for h.x\n"),
            ("/dev/mapper/x is active.\n", "/dev/mapper/x is active.\n"),
        ] {
            assert_eq!(without_units(newer), older);
            assert_eq!(without_units(older), older);
        }
    }
}
