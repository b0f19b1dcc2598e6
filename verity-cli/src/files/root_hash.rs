//! Root hash files: the digest in hexadecimal, nothing else.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use verity_core::block::RootHash;
use verity_core::io::WriteAt;

use super::extent::Extent;
use super::temporary::Temporary;
use crate::failure::{Code, Failure};

/// More than any root hash has digits.
const MOST_BYTES: u64 = 1024;

/// A root hash file that is to be written when the tree is complete.
pub(crate) struct RootHashFile {
    path: PathBuf,
    text: String,
    way: Way,
}

enum Way {
    /// A new file, or one that replaces the existing one.
    Whole(Temporary),
    /// A pipe or a terminal: what was written before cannot be taken back anyway.
    Stream(File),
}

impl RootHashFile {
    /// Opens everything that is needed, before any work is done. `taken` is what must not be overwritten.
    pub(crate) fn create(path: &Path, taken: &[(&str, Extent)]) -> Result<Self, Failure> {
        let failed = |error: &std::io::Error| {
            let code = match Code::of(error) {
                // Its folder is missing; the file itself is to be made.
                Code::NoDevice => Code::General,
                other => other,
            };
            Failure::system(format_args!("root hash file {path:?}"), error)
                .code(code)
                .hint("give a path in a folder that can be written to")
                .veritysetup(
                    Code::General,
                    format_args!("Cannot create root hash file {} for writing.", path.display()),
                )
        };
        let existing = match path.metadata() {
            Ok(metadata) => Some(metadata),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(failed(&error)),
        };
        if let Some(metadata) = &existing {
            let extent = Extent::of(metadata);
            if let Some((what, _)) = taken.iter().find(|(_, other)| extent.same_storage(*other)) {
                return Err(Failure::argument(format_args!("root hash file {path:?} is the {what}"))
                    .hint("give another file"));
            }
            if !metadata.is_file() {
                // Not waiting for a pipe's reader: without one this is an error.
                let stream = OpenOptions::new().write(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path);
                let way = Way::Stream(stream.map_err(|error| failed(&error))?);
                return Ok(Self { path: path.to_owned(), text: String::new(), way });
            }
        }
        let temporary = match &existing {
            Some(existing) => Temporary::replacing(path, existing),
            None => Temporary::new_file(path),
        };
        let way = Way::Whole(temporary.map_err(|error| failed(&error))?);
        Ok(Self { path: path.to_owned(), text: String::new(), way })
    }

    /// Writes the root hash to where nobody sees it yet.
    pub(crate) fn write(mut self, root: &RootHash) -> Result<Self, Failure> {
        self.text = root.to_string();
        match &self.way {
            Way::Stream(_) => Ok(self),
            Way::Whole(temporary) => match temporary.as_file().write_all_at(self.text.as_bytes(), 0) {
                Ok(()) => Ok(self),
                Err(error) => Err(cannot_write(&self.path, &error)),
            },
        }
    }

    /// Lets the root hash be seen.
    pub(crate) fn publish(self) -> Result<(), Failure> {
        match self.way {
            Way::Stream(mut file) => file.write_all(self.text.as_bytes()),
            Way::Whole(temporary) => temporary.persist(),
        }
        .map_err(|error| cannot_write(&self.path, &error))
    }

    /// Reads a root hash file's text: a regular file with one line.
    pub(crate) fn read(path: &Path) -> Result<String, Failure> {
        let unreadable = |error: &std::io::Error| {
            Failure::system(format_args!("root hash file {path:?} cannot be read"), error)
                .code(Code::General)
                .hint("check the path, or give the root hash as an argument")
                // veritysetup prints this and then exits with 0, as if the image had been checked.
                .veritysetup(Code::General, format_args!("Cannot read root hash file {}.", path.display()))
        };
        let invalid = |what: &str| {
            Failure::argument(format_args!("root hash file {path:?} {what}"))
                .hint("it holds the root hash in hexadecimal, on one line, and nothing else")
                .veritysetup(Code::General, format_args!("Invalid root hash file {}.", path.display()))
        };
        if !path.metadata().map_err(|error| unreadable(&error))?.is_file() {
            return Err(invalid("is not a regular file"));
        }
        let mut bytes = Vec::new();
        File::open(path)
            .and_then(|file| file.take(MOST_BYTES).read_to_end(&mut bytes))
            .map_err(|error| unreadable(&error))?;
        let text = String::from_utf8(bytes).map_err(|_| invalid("holds no text"))?;
        let line = text.strip_suffix('\n').unwrap_or(&text);
        if line.is_empty() {
            return Err(invalid("is empty"));
        }
        Ok(line.to_owned())
    }
}

fn cannot_write(path: &Path, error: &std::io::Error) -> Failure {
    Failure::system(format_args!("root hash file {path:?} cannot be written"), error)
        .veritysetup(Code::General, format_args!("Cannot write to root hash file {}.", path.display()))
}
