//! Changing a device in place: with a journal beside it, so that a cut in the middle is finished by the next run.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::unistd::geteuid;
use verity_core::block::BlockSize;
use verity_core::journal::{self, Journal, JournalError, Recovery};

use super::input::{self, Input, Role};
use super::lock::{check_same, lock};
use super::temporary::folder;
use crate::failure::{Code, Failure, plain};

/// A device that is to be changed in place.
pub(crate) struct InPlace {
    role: Role,
    path: PathBuf,
    device: File,
    log: File,
    log_path: PathBuf,
}

/// The journal of a device: beside a file, or where the user says with `option`.
pub(crate) fn journal_path(
    path: &Path,
    role: Role,
    given: Option<&Path>,
    option: &str,
) -> Result<PathBuf, Failure> {
    if let Some(path) = given {
        return Ok(path.to_owned());
    }
    let metadata = input::inspect(path, role)?;
    if !metadata.is_file() {
        return Err(Failure::argument(format_args!(
            "{option} is missing: {path:?} is no file with a folder for it"
        ))
        .hint(format_args!(
            "give {option} PATH, on a disk that keeps it through a power cut, and the same one each time"
        )));
    }
    Ok(beside(path))
}

/// Where the journal of a file lies, whether or not there is such a file.
fn beside(path: &Path) -> PathBuf {
    // Through symbolic links, so that each of them leads to the same journal.
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".verity-journal");
    folder(&path).join(name)
}

/// Refuses a device whose last change was cut off: it may be neither the old nor the new one. A new file is refused where such a journal
/// waits for it, since whoever reads it would be refused.
pub(crate) fn refuse_unfinished(path: &Path, role: Role) -> Result<(), Failure> {
    let log = beside(path);
    // A dangling link is no journal, and in its place.
    if log.symlink_metadata().is_err() {
        return Ok(());
    }
    match path.metadata() {
        // The journal of a block device lies where it was told to.
        Ok(metadata) if !metadata.is_file() => Ok(()),
        Ok(_) => Err(unfinished(path, role, &log)),
        Err(_) => Err(Failure::new(
            Code::Busy,
            format_args!("{log:?} is the journal of a {role} {path:?} that is gone"),
        )
        .hint("bring it back and run 'verity recover', or delete the journal")),
    }
}

fn unfinished(path: &Path, role: Role, log: &Path) -> Failure {
    Failure::new(
        Code::Busy,
        format_args!("{role} {path:?}: a change in place was cut off, or is under way ({log:?})"),
    )
    .hint("finish it with 'verity recover', then try again")
}

impl InPlace {
    /// Opens a device that is open for reading once more, for writing, with a new journal.
    pub(crate) fn open(input: &Input, log_path: PathBuf) -> Result<Self, Failure> {
        let &Input { ref path, role, .. } = input;
        let device = open_device(path, role)?;
        check_same(&device, &input.file, path, role)?;
        let log = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&log_path);
        let log = log.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => unfinished(path, role, &log_path),
            _ => Failure::system(format_args!("journal {log_path:?} cannot be created"), &error),
        })?;
        let _ = File::open(folder(&log_path)).and_then(|folder| folder.sync_all());
        Ok(Self { role, path: path.to_owned(), device, log, log_path })
    }

    /// Does `work` on the device as the journal shows it, then makes all of its changes, or none if it fails.
    pub(crate) fn change<T>(
        self,
        work: impl FnOnce(&Journal<'_>) -> Result<T, Failure>,
        block_size: BlockSize,
    ) -> Result<T, Failure> {
        self.change_if(|journal| Ok((work(journal)?, Decision::Make)), block_size)
    }

    /// As [`change`](Self::change), where `work` decides at its end whether the changes are made.
    pub(crate) fn change_if<T>(
        self,
        work: impl FnOnce(&Journal<'_>) -> Result<(T, Decision), Failure>,
        block_size: BlockSize,
    ) -> Result<T, Failure> {
        let Self { role, path, device, log, log_path } = self;
        let failed = |error: &JournalError| failed(&path, role, &log_path, error);
        let work = || {
            let identity = identity(&path, role, &device).map_err(Undone::Nothing)?;
            let journal = Journal::begin(&device, &log, block_size, identity)
                .map_err(|error| Undone::Nothing(failed(&error)))?;
            let (result, decision) = work(&journal).map_err(Undone::Nothing)?;
            check_in_place(&log, &log_path).map_err(Undone::Lost)?;
            match decision {
                Decision::Make => journal.commit().map_err(|error| match error.device_untouched() {
                    true => Undone::Nothing(failed(&error)),
                    false => Undone::Half(failed(&error)),
                })?,
                Decision::Drop => {}
            }
            Ok(result)
        };
        match work() {
            Err(Undone::Half(failure) | Undone::Lost(failure)) => Err(failure),
            // Nothing but the journal has been written.
            Err(Undone::Nothing(failure)) => remove(&log_path).and(Err(failure)),
            Ok(result) => remove(&log_path).map(|()| result),
        }
    }

    /// Gives up before anything has been changed.
    pub(crate) fn abandon(self) -> Result<(), Failure> {
        remove(&self.log_path)
    }
}

/// Why a change was not made.
enum Undone {
    /// The device is as it was.
    Nothing(Failure),
    /// The device may be half changed, and needs its journal.
    Half(Failure),
    /// The device is as it was, and the journal is gone.
    Lost(Failure),
}

/// Whether changes are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Yes.
    Make,
    /// No: they are forgotten.
    Drop,
}

/// Finishes or drops the change that a journal stands for. `None` if there is no journal.
pub(crate) fn recover(path: &Path, role: Role, log_path: &Path) -> Result<Option<Recovery>, Failure> {
    if open_log(log_path)?.is_none() {
        return Ok(None);
    }
    let device = open_device(path, role)?;
    // Once more, under the lock: the change may have been completed in between, and its journal must not undo the next one.
    let Some(log) = open_log(log_path)? else { return Ok(None) };
    check_owner(&log, log_path, &device, path, role)?;
    let recovery = journal::recover(&log, &device, identity(path, role, &device)?)
        .map_err(|error| failed(path, role, log_path, &error))?;
    remove(log_path)?;
    Ok(Some(recovery))
}

/// Opens a journal, if there is one: a file, and no link that could lead to any other.
fn open_log(log_path: &Path) -> Result<Option<File>, Failure> {
    let flags = (OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits();
    let refused = |what: &str| {
        let message = format_args!("journal {log_path:?} is {what}, and no journal of verity's");
        Failure::new(Code::Refused, message).hint("find out who put it there, and delete it")
    };
    match OpenOptions::new().read(true).custom_flags(flags).open(log_path) {
        Ok(log) if log.metadata().is_ok_and(|metadata| metadata.is_file()) => Ok(Some(log)),
        Ok(_) => Err(refused("no regular file")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) if error.raw_os_error() == Some(Errno::ELOOP as i32) => Err(refused("a symbolic link")),
        Err(error) => Err(Failure::system(format_args!("journal {log_path:?}"), &error)),
    }
}

/// Refuses a journal that neither this user nor the device's owner wrote: in a folder that others may write to, anyone can leave
/// one, and what it says would be written to the device.
fn check_owner(log: &File, log_path: &Path, device: &File, path: &Path, role: Role) -> Result<(), Failure> {
    let owner = |file: &File| file.metadata().map(|metadata| metadata.uid());
    let log_owner =
        owner(log).map_err(|error| Failure::system(format_args!("journal {log_path:?}"), &error))?;
    let device_owner =
        owner(device).map_err(|error| Failure::system(format_args!("{role} {path:?}"), &error))?;
    if [geteuid().as_raw(), device_owner].contains(&log_owner) {
        return Ok(());
    }
    let message = format_args!(
        "journal {log_path:?} belongs to user {log_owner}, who is neither you nor the owner of the {role} {path:?}"
    );
    Err(Failure::new(Code::Refused, message).hint("find out who put it there; if it is right, make it yours"))
}

/// Tells a file from one that took its place. Block devices have nothing that lasts, and stay where they are.
fn identity(path: &Path, role: Role, device: &File) -> Result<u64, Failure> {
    let metadata =
        device.metadata().map_err(|error| Failure::system(format_args!("{role} {path:?}"), &error))?;
    Ok(if metadata.is_file() { metadata.ino() } else { 0 })
}

/// Opens and locks.
fn open_device(path: &Path, role: Role) -> Result<File, Failure> {
    input::inspect(path, role)?;
    let device = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .map_err(|error| Failure::system(format_args!("{role} {path:?} cannot be written"), &error))?;
    lock(&device, path, role)?;
    Ok(device)
}

/// Refuses a journal that was deleted or moved while the work was under way: after a cut nobody would find it.
fn check_in_place(log: &File, log_path: &Path) -> Result<(), Failure> {
    let there = fs::symlink_metadata(log_path).and_then(|there| Ok((there, log.metadata()?)));
    match there {
        Ok((there, log)) if (there.dev(), there.ino()) == (log.dev(), log.ino()) => Ok(()),
        _ => Err(Failure::new(
            Code::Busy,
            format_args!("journal {log_path:?} was deleted or replaced meanwhile"),
        )
        .hint("nothing was changed; try again when nobody else touches it")),
    }
}

fn remove(log_path: &Path) -> Result<(), Failure> {
    match fs::remove_file(log_path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(Failure::system(format_args!("journal {log_path:?} cannot be removed"), &error));
        }
        _ => {}
    }
    // If it came back after a power cut, it would only be in the way.
    let _ = File::open(folder(log_path)).and_then(|folder| folder.sync_all());
    Ok(())
}

fn failed(path: &Path, role: Role, log_path: &Path, error: &JournalError) -> Failure {
    let (message, hint) = match error {
        JournalError::Log(source) => (
            format!("journal {log_path:?}: {}; nothing was changed on the {role} {path:?}", plain(source)),
            "try again when that is mended; --journal puts a journal elsewhere",
        ),
        JournalError::Room { bytes, source } => {
            let why = plain(source);
            (
                format!("{role} {path:?} has no room for {bytes} bytes: {why}; nothing was changed on it"),
                "make room, or give a larger device",
            )
        }
        JournalError::Unfinished(source) => (
            format!("journal {log_path:?}: {}; the {role} {path:?} may be half changed", plain(source)),
            "run 'verity recover' when that is mended",
        ),
        JournalError::Device(source) => (
            format!("{role} {path:?}: {}; the journal {log_path:?} is complete", plain(source)),
            "run 'verity recover' when that is mended",
        ),
        JournalError::Length(source) => (
            format!("{role} {path:?}: length: {}; nothing was changed on it", plain(source)),
            "try again when that is mended",
        ),
        JournalError::OtherDevice => (
            format!(
                "{role} {path:?}: the journal {log_path:?} was made for another one, whose place this one has taken"
            ),
            "nothing was changed; if the device was replaced on purpose, delete the journal",
        ),
        JournalError::OtherContent { offset } => (
            format!(
                "{role} {path:?}: at byte {offset} it holds neither what it held before the change in {log_path:?} nor \
                 what it holds after it: it was written to since, or is another one"
            ),
            "nothing was changed; if the device is as it should be ('verity verify' tells), delete the journal",
        ),
        _ => (
            format!("{role} {path:?}: {error} ({log_path:?})"),
            "check the tree with 'verity verify'; if it is bad, format it anew; then delete the journal",
        ),
    };
    Failure::new(Code::General, message).hint(hint)
}
