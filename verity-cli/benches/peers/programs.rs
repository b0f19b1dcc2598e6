//! The programs that are compared, and the answers that have to agree.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest, Sha256};
use verity_core::digest::{BACKEND_VARIABLE, BackendKind};

use crate::child::{self, Finished};
use crate::stop::{Result, Stop};

/// The salt of every tree: 32 bytes, as both programs make it by themselves.
pub(crate) const SALT: [u8; 32] = *b"the same salt for both programs.";

const UUID: &str = "01234567-89ab-cdef-0123-456789abcdef";

/// One side of a comparison.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    path: PathBuf,
    /// Options that only `verity` has.
    threads: Option<usize>,
    backend: Option<BackendKind>,
}

/// What a tree is known by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tree {
    pub(crate) root: String,
    /// SHA-256 of the whole hash device, the superblock included: equal digests stand for equal bytes.
    device: String,
}

impl Program {
    /// `verity`, as built for this benchmark.
    pub(crate) fn verity() -> Self {
        Self { path: env!("CARGO_BIN_EXE_verity").into(), threads: None, backend: None }
    }

    /// The real veritysetup, also where `PATH` has no folders for system programs.
    pub(crate) fn veritysetup() -> Result<Self> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders = std::env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
        let found = folders.map(|folder| folder.join("veritysetup")).find(|program| program.is_file());
        let path = found.ok_or_else(|| Stop::skipped("needs veritysetup (Debian: cryptsetup-bin)"))?;
        Ok(Self { path, threads: None, backend: None })
    }

    /// With so many threads that hash.
    pub(crate) fn threads(self, threads: usize) -> Self {
        Self { threads: Some(threads), ..self }
    }

    /// With a digest backend that is not chosen by the program.
    pub(crate) fn forced(self, backend: Option<BackendKind>) -> Self {
        Self { backend, ..self }
    }

    /// Its own words: `veritysetup 2.6.1`.
    pub(crate) fn version(&self) -> Result<String> {
        let text = child::run(Command::new(&self.path).arg("--version"))?.stdout;
        Ok(text.split_whitespace().take(2).collect::<Vec<_>>().join(" "))
    }

    /// A command line, with what applies to each of them.
    pub(crate) fn command(&self, action: &str, data: &Path, hash: &Path) -> Command {
        let mut command = self.other(action);
        command.arg(data).arg(hash);
        if let Some(backend) = self.backend {
            command.env(BACKEND_VARIABLE, backend.name());
        }
        if let Some(threads) = self.threads {
            command.arg(format!("--threads={threads}"));
        }
        command
    }

    /// The beginning of a command line that is no tree's.
    pub(crate) fn other(&self, action: &str) -> Command {
        let mut command = Command::new(&self.path);
        // Set by whoever runs the benchmark, it would make all cases the same.
        command.env_remove(BACKEND_VARIABLE).env("LC_ALL", "C").arg(action);
        command
    }

    pub(crate) fn format_command(&self, data: &Path, hash: &Path) -> Command {
        let mut command = self.command("format", data, hash);
        command.arg(format!("--salt={}", hex(&SALT))).arg(format!("--uuid={UUID}"));
        command
    }

    /// Makes a tree where there is none.
    pub(crate) fn format(&self, data: &Path, hash: &Path) -> Result<(Finished, Tree)> {
        answered(&mut self.format_command(data, hash), hash)
    }

    /// Checks a tree that is intact.
    pub(crate) fn verify(&self, data: &Path, hash: &Path, tree: &Tree) -> Result<Finished> {
        child::run(self.command("verify", data, hash).arg(&tree.root))
    }

    /// Checks a tree that is not: success is a wrong answer.
    pub(crate) fn refuse(&self, data: &Path, hash: &Path, tree: &Tree) -> Result<()> {
        let mut command = self.command("verify", data, hash);
        match child::attempt(command.arg(&tree.root))? {
            Err(_) => Ok(()),
            Ok(_) => Err(Stop::failed(format_args!("{command:?} finds damaged data intact"))),
        }
    }
}

/// Runs a command that writes a tree to `hash` and prints its root hash.
pub(crate) fn answered(command: &mut Command, hash: &Path) -> Result<(Finished, Tree)> {
    let finished = child::run(command)?;
    let root = root_hash(&finished.stdout);
    let root = root.ok_or_else(|| Stop::failed(format_args!("{command:?} prints no root hash")))?.to_owned();
    let mut digest = Sha256::new();
    let mut file = File::open(hash)?;
    let mut buffer = vec![0; 1 << 20];
    loop {
        match io::Read::read(&mut file, &mut buffer)? {
            0 => break,
            count => digest.update(&buffer[..count]),
        }
    }
    Ok((finished, Tree { root, device: hex(&digest.finalize()) }))
}

/// What both programs say of a finished tree.
pub(crate) fn root_hash(stdout: &str) -> Option<&str> {
    stdout.lines().find_map(|line| line.strip_prefix("Root hash:")).map(str::trim)
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
