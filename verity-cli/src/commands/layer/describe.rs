//! The files beside a layer in which other projects describe it: their names, reading and writing.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use verity_core::dialect::{self, Dialect, containerd, systemd};
use verity_core::io::WriteAt;

use crate::failure::{Code, Failure};
use crate::files::NewFile;

/// More than any description has: the parsers have bounds of their own below that.
const MOST_BYTES: u64 = 8 << 20;

/// Where a dialect's description of `layer` is, where it is a file of its own.
pub(super) fn path(layer: &Path, dialect: Dialect) -> Option<PathBuf> {
    let suffix = match dialect {
        Dialect::Containerd => containerd::SUFFIX,
        Dialect::Nydus => ".nydus",
        Dialect::Kata => ".kata.json",
        Dialect::Stacker => ".annotations.json",
        Dialect::Notation => ".notation.json",
        Dialect::Bundle => ".bundle.json",
        Dialect::Systemd => return Some(sidecar(layer, systemd::Sidecar::Verity)),
        _ => return None,
    };
    let mut name = OsString::from(layer);
    name.push(suffix);
    Some(name.into())
}

/// A file that systemd looks for beside an image.
pub(super) fn sidecar(layer: &Path, sidecar: systemd::Sidecar) -> PathBuf {
    layer.with_file_name(sidecar.name(layer.file_name().unwrap_or_default()))
}

/// Reads a description, a regular file.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let unreadable = |error: &std::io::Error| {
        Failure::system(format_args!("description {path:?} cannot be read"), error).hint("check the path")
    };
    // It is looked at first: a pipe would wait for its writer.
    if !path.metadata().map_err(|error| unreadable(&error))?.is_file() {
        return Err(Failure::new(Code::NoDevice, format_args!("description {path:?} is not a regular file"))
            .hint("give the file that describes the layer"));
    }
    let mut bytes = Vec::new();
    OpenOptions::new()
        .read(true)
        .custom_flags(OFlag::O_NONBLOCK.bits())
        .open(path)
        .and_then(|file: File| file.take(MOST_BYTES + 1).read_to_end(&mut bytes))
        .map_err(|error| unreadable(&error))?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(malformed(path, format_args!("it has more than {MOST_BYTES} bytes")));
    }
    Ok(bytes)
}

/// Reads a description that is text.
pub(super) fn read_text(path: &Path) -> Result<String, Failure> {
    String::from_utf8(read(path)?).map_err(|_| malformed(path, "it is no text"))
}

/// What is wrong with a description.
pub(super) fn malformed(path: &Path, error: impl std::fmt::Display) -> Failure {
    Failure::new(Code::General, format_args!("description {path:?}: {error}"))
        .hint("it is damaged, or of another dialect: say which with --from; docs/dialects.md shows each")
}

/// What cannot be written in a dialect.
pub(super) fn unwritable(error: &dialect::Error) -> Failure {
    Failure::new(Code::General, error).hint("choose another dialect with --to; docs/dialects.md shows each")
}

/// Fills a new file with a text.
pub(super) fn fill(file: &NewFile, text: &[u8]) -> Result<(), Failure> {
    file.file().write_all_at(text, 0).map_err(|error| file.cannot_write(&error))
}
