//! A file that is made from nothing, and is seen when it is whole.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::temporary::Temporary;
use crate::failure::{Code, Failure};

/// A new file under a temporary name, of zeros until something else is written.
pub(crate) struct NewFile {
    path: PathBuf,
    length: u64,
    temporary: Temporary,
}

impl NewFile {
    /// Makes a file of `length` bytes, all of them a hole; it may become longer. There must be nothing of its name yet.
    pub(crate) fn create(path: &Path, length: u64) -> Result<Self, Failure> {
        match path.symlink_metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(cannot_create(path, &error)),
            Ok(_) => return Err(exists(path)),
        }
        let temporary = Temporary::new_file(path).map_err(|error| cannot_create(path, &error))?;
        let file = Self { path: path.to_owned(), length, temporary };
        file.file().set_len(length).map_err(|error| file.cannot_write(&error))?;
        Ok(file)
    }

    /// What is written to.
    pub(crate) fn file(&self) -> &File {
        self.temporary.as_file()
    }

    /// The name that it has until it is complete, for a program that writes to names.
    pub(crate) fn temporary_path(&self) -> &Path {
        self.temporary.path()
    }

    /// The name that it is going to have.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Gives files that belong together their names, in this order: all of them, or none.
    pub(crate) fn publish_all(files: Vec<Self>) -> Result<(), Failure> {
        let mut published = Vec::new();
        for file in files {
            let path = file.path.clone();
            if let Err(failure) = file.publish() {
                for path in published {
                    // Its own, of a moment ago. If this fails there is a file too many.
                    let _ = fs::remove_file(path);
                }
                return Err(failure);
            }
            published.push(path);
        }
        Ok(())
    }

    /// Gives the file its name. It is on disk after that.
    pub(crate) fn publish(self) -> Result<(), Failure> {
        self.temporary.persist().map_err(|error| match error.kind() {
            // Somebody was faster.
            io::ErrorKind::AlreadyExists => exists(&self.path),
            _ => cannot_create(&self.path, &error),
        })
    }

    /// What a failed write means to the user.
    pub(crate) fn cannot_write(&self, error: &io::Error) -> Failure {
        let failure = Failure::system(format_args!("output {:?} cannot be written", self.path), error);
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                match self.length {
                    0 => failure.hint("make room"),
                    length => failure.hint(format_args!("it needs up to {length} bytes: make room")),
                }
            }
            _ => failure,
        }
    }
}

fn exists(path: &Path) -> Failure {
    Failure::new(Code::Busy, format_args!("output {path:?} exists already"))
        .hint("give a name that nothing has yet, or remove it first")
}

fn cannot_create(path: &Path, error: &io::Error) -> Failure {
    let failure = Failure::system(format_args!("output {path:?} cannot be created"), error);
    let failure = match failure.code {
        // The folder is missing; the file itself is to be made.
        Code::NoDevice => failure.code(Code::General),
        _ => failure,
    };
    failure.hint("give a path in a folder that can be written to")
}
