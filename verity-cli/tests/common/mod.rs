//! A folder of its own for every test, and programs run in it.
#![allow(dead_code)] // Each test program uses a part of this.

pub(crate) mod layers;
pub(crate) mod numbers;
pub(crate) mod oci;
pub(crate) mod requirements;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;
use verity_core::digest::BackendKind;

/// A UUID and a salt for outputs that are compared.
pub(crate) const FIXED: &str = "--uuid 01234567-89ab-cdef-0123-456789abcdef --salt 00112233";

/// The root hash over 16 blocks of [`pattern`] with [`FIXED`], as veritysetup 2.6.1 computed it.
pub(crate) const ROOT_OF_16: &str = "05e002a1f82cdbba3d883b403f044c9bafde069fe8e33f3823149df6f638db95";

/// The digest backends that this processor runs.
pub(crate) fn backends() -> impl Iterator<Item = BackendKind> {
    BackendKind::ALL.into_iter().filter(|kind| kind.is_available())
}

/// A folder that programs run in.
pub(crate) struct Sandbox {
    folder: TempDir,
}

impl Sandbox {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    /// With a file `data` of so many blocks of 4096 bytes.
    pub(crate) fn with_data(blocks: usize) -> Self {
        let sandbox = Self::new();
        sandbox.write("data", &pattern(blocks * 4096));
        sandbox
    }

    /// With `data` and its tree in `hash`; the root hash, too.
    pub(crate) fn formatted(blocks: usize) -> (Self, String) {
        let sandbox = Self::with_data(blocks);
        let root = sandbox.verity(&format!("format --quiet data hash {FIXED}")).success().trim().to_owned();
        (sandbox, root)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.path(name), bytes).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }

    /// Flips bits of one byte.
    pub(crate) fn flip(&self, name: &str, offset: usize, bits: u8) {
        let mut bytes = self.read(name);
        bytes[offset] ^= bits;
        self.write(name, &bytes);
    }

    /// Replaces bytes by noise, other noise at each place.
    pub(crate) fn garble(&self, name: &str, offset: usize, length: usize) {
        let mut bytes = self.read(name);
        let mut numbers = numbers::Numbers::new(offset as u64);
        bytes[offset..][..length].fill_with(|| numbers.next().to_le_bytes()[0]);
        self.write(name, &bytes);
    }

    /// The names in the folder, sorted, hidden ones too.
    pub(crate) fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.folder.path()).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// Every regular file with what is in it; of other things the names.
    pub(crate) fn content(&self) -> BTreeMap<String, Vec<u8>> {
        let entries = fs::read_dir(self.folder.path()).unwrap().map(Result::unwrap);
        entries
            .map(|entry| {
                let regular = entry.file_type().unwrap().is_file();
                let content = if regular { fs::read(entry.path()).unwrap() } else { Vec::new() };
                (entry.file_name().into_string().unwrap(), content)
            })
            .collect()
    }

    /// `program` with arguments that are separated by spaces, in this folder.
    pub(crate) fn command(&self, program: impl AsRef<Path>, arguments: &str) -> Command {
        let mut command = Command::new(program.as_ref());
        command
            .args(arguments.split_whitespace())
            .current_dir(self.folder.path())
            .env("NO_COLOR", "1")
            .env_remove("RUST_BACKTRACE")
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn verity_command(&self, arguments: &str) -> Command {
        self.command(env!("CARGO_BIN_EXE_verity"), arguments)
    }

    /// `verity` for a test that sends it signals: whoever starts the tests in the background may have them ignored, which
    /// it would respect.
    pub(crate) fn interruptible(&self, arguments: &str) -> Command {
        let mut command = self.command("env", "--default-signal=HUP,INT,TERM");
        command.arg(env!("CARGO_BIN_EXE_verity")).args(arguments.split_whitespace());
        command
    }

    /// Runs `verity`.
    pub(crate) fn verity(&self, arguments: &str) -> Run {
        Run::of(&mut self.verity_command(arguments))
    }

    /// Runs `verity` and gives it `input`.
    pub(crate) fn verity_with_input(&self, arguments: &str, input: &[u8]) -> Run {
        let mut child = self
            .verity_command(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_vec();
        // It may end without having read all.
        let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap();
        Run::from(output)
    }

    /// Runs `verity` under the name `veritysetup`.
    pub(crate) fn drop_in(&self, arguments: &str) -> Run {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("veritysetup");
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_verity"), &link).unwrap();
        Run::of(&mut self.command(link, arguments))
    }

    /// Runs the real veritysetup.
    pub(crate) fn veritysetup(&self, arguments: &str) -> Run {
        let program = requirements::veritysetup().expect("the test says that it needs veritysetup");
        Run::of(&mut self.command(program, arguments))
    }
}

/// How a program ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) code: Option<i32>,
    pub(crate) signal: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl From<Output> for Run {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            signal: output.status.signal(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Run {
    pub(crate) fn of(command: &mut Command) -> Self {
        command.output().unwrap().into()
    }

    /// Compares all that is seen of a run.
    #[track_caller]
    pub(crate) fn is(&self, code: i32, stdout: &str, stderr: &str) {
        let expected =
            Self { code: Some(code), signal: None, stdout: stdout.to_owned(), stderr: stderr.to_owned() };
        assert_eq!(*self, expected, "found:\n{}{}", self.stdout, self.stderr);
    }

    /// Nothing went wrong, and nothing was said on standard error: what was said on standard output.
    #[track_caller]
    pub(crate) fn success(self) -> String {
        assert_eq!((self.code, self.stderr.as_str()), (Some(0), ""), "{self:?}");
        self.stdout
    }

    /// The document on standard output.
    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// Bytes that do not repeat from block to block.
pub(crate) fn pattern(length: usize) -> Vec<u8> {
    let mut numbers = numbers::Numbers::new(42);
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        bytes.extend(numbers.next().to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}
