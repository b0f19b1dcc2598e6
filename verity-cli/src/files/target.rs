//! Where a tree or its parity is written: so that a hash area which bears a superblock is a whole one, and so that an interrupted
//! run leaves nothing behind where nothing was.

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{FallocateFlags, OFlag, fallocate};
use nix::unistd::{AccessFlags, access};
use verity_core::io::WriteAt;
use verity_core::superblock::Superblock;

use super::extent::Extent;
use super::input::{self, Input, Role};
use super::journal::refuse_unfinished;
use super::lock::{lock, replaced};
use super::temporary::{Temporary, folder};
use crate::failure::{Code, Failure, plain};

/// What is at the target's path now.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    role: Role,
    path: PathBuf,
    existing: Option<Metadata>,
}

/// A hash device or FEC device that is being written.
#[derive(Debug)]
pub(crate) struct Target {
    role: Role,
    path: PathBuf,
    offset: u64,
    way: Way,
}

#[derive(Debug)]
enum Way {
    /// A new file, or one that replaces the existing one.
    Whole {
        temporary: Temporary,
        /// The existing one, as it was looked at.
        replaces: Option<Box<Metadata>>,
    },
    /// A device, or a file that holds more than the area.
    InPlace(InPlace),
}

/// Dropped before the work is finished, a file gets its old length back.
#[derive(Debug)]
struct InPlace {
    file: File,
    /// In bytes.
    old_length: u64,
    /// Where the area ends: what lies behind it later is somebody else's.
    end: u64,
    undo: bool,
}

impl Drop for InPlace {
    fn drop(&mut self) {
        if self.undo && self.file.metadata().is_ok_and(|now| now.len() <= self.end.max(self.old_length)) {
            // If this fails, too, the file is longer than it was.
            let _ = self.file.set_len(self.old_length);
        }
    }
}

impl Plan {
    /// Looks at the path, and opens nothing.
    pub(crate) fn inspect(path: &Path, role: Role) -> Result<Self, Failure> {
        let existing = match input::inspect(path, role) {
            Ok(metadata) => {
                access(path, AccessFlags::R_OK).map_err(|errno| not_readable(path, role, &errno.into()))?;
                Some(metadata)
            }
            // A link that leads nowhere exists, too.
            Err(_) if path.symlink_metadata().is_err_and(|error| error.kind() == io::ErrorKind::NotFound) => {
                None
            }
            Err(failure) => return Err(failure),
        };
        if role == Role::Hash {
            // What is in its journal must not come back over a new tree.
            refuse_unfinished(path, role)?;
        }
        Ok(Self { role, path: path.to_owned(), existing })
    }

    /// The file's or device's length in bytes, 0 if it does not exist.
    pub(crate) fn length(&self) -> Result<u64, Failure> {
        match &self.existing {
            None => Ok(0),
            Some(metadata) if metadata.is_file() => Ok(metadata.len()),
            Some(_) => Input::open(&self.path, self.role).map(|device| device.size),
        }
    }

    /// Whether both are the same file or device, or will be when it is made.
    pub(crate) fn is_same_as(&self, other: &Self) -> bool {
        match (self.extent(), other.extent()) {
            (Some(own), Some(other)) => own == other,
            _ => other.is_new_file(&self.path),
        }
    }

    /// Where the file lies, if it exists.
    pub(crate) fn extent(&self) -> Option<Extent> {
        self.existing.as_ref().map(Extent::of)
    }

    /// Whether the path is the new file that is going to be made here.
    pub(crate) fn is_new_file(&self, path: &Path) -> bool {
        let place = |path: &Path| Some((folder(path).canonicalize().ok()?, path.file_name()?.to_owned()));
        self.existing.is_none() && place(path).is_some_and(|found| place(&self.path) == Some(found))
    }

    /// Makes ready for writing the bytes `area`. `superblock` says that it begins with one, `shared` that the data lies in the same
    /// file or device.
    pub(crate) fn open(self, area: &Range<u64>, superblock: bool, shared: bool) -> Result<Target, Failure> {
        let Self { role, path, existing } = self;
        let way = match existing {
            None => {
                let temporary =
                    Temporary::new_file(&path).map_err(|error| cannot_create(&path, role, &error))?;
                Way::Whole { temporary, replaces: None }
            }
            Some(metadata) => match replacement(&path, &metadata, area, shared) {
                Some(temporary) => Way::Whole { temporary, replaces: Some(Box::new(metadata)) },
                None => open_in_place(&path, role, &metadata, area.end, shared)?,
            },
        };
        let target = Target { role, path, offset: area.start, way };
        target.reserve(area.end).map_err(|error| target.cannot_write(&error, Some(area.end - area.start)))?;
        if superblock {
            target.invalidate().map_err(|error| target.cannot_write(&error, None))?;
        }
        Ok(target)
    }
}

impl Target {
    /// What the tree is written to.
    pub(crate) fn file(&self) -> &File {
        match &self.way {
            Way::Whole { temporary, .. } => temporary.as_file(),
            Way::InPlace(place) => &place.file,
        }
    }

    /// Writes the superblock behind the finished tree, and only then lets the whole be seen.
    pub(crate) fn finish(self, superblock: Option<&Superblock>) -> Result<(), Failure> {
        let write_superblock = |file: &File| match superblock {
            Some(superblock) => file.write_all_at(&superblock.encode(), self.offset),
            None => Ok(()),
        };
        let file = self.file();
        let written = match &self.way {
            Way::Whole { .. } => write_superblock(file),
            // In this order, so that a superblock on disk has its tree on disk.
            Way::InPlace(_) => {
                file.sync_all().and_then(|()| write_superblock(file)).and_then(|()| file.sync_all())
            }
        };
        written.map_err(|error| self.cannot_write(&error, None))?;
        match self.way {
            Way::Whole { temporary, replaces } => {
                if replaces.is_some_and(|before| was_changed(&self.path, &before)) {
                    return Err(replaced(&self.path, self.role));
                }
                temporary.persist().map_err(|error| match error.kind() {
                    // Somebody was faster with a new file.
                    io::ErrorKind::AlreadyExists => replaced(&self.path, self.role),
                    _ => cannot_create(&self.path, self.role, &error),
                })
            }
            Way::InPlace(mut place) => {
                place.undo = false;
                Ok(())
            }
        }
    }

    /// What a failed write means to the user.
    pub(crate) fn cannot_write(&self, error: &io::Error, needed: Option<u64>) -> Failure {
        let failure = Failure::system(format_args!("{} {:?} cannot be written", self.role, self.path), error);
        let full = matches!(
            error.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
        );
        let failure = match needed {
            Some(bytes) if full => {
                let area = if self.role == Role::Parity { "parity" } else { "hash area" };
                failure.hint(format_args!("the {area} needs {bytes} bytes: make room"))
            }
            _ if full => failure.hint("make room"),
            _ => failure,
        };
        failure.veritysetup(Code::General, "Input/output error while creating hash area.")
    }

    /// What an unfinished run leaves behind, where it leaves something behind.
    pub(crate) fn aftermath(&self) -> Option<String> {
        self.overwrites()
            .then(|| format!("what was at byte {} of {:?} is gone: format it again", self.offset, self.path))
    }

    /// Whether the hash area takes the place of something that cannot be brought back.
    fn overwrites(&self) -> bool {
        matches!(&self.way, Way::InPlace(place) if place.old_length > self.offset)
    }

    /// Removes the old superblock: from here on until the end there is none, so that a half-written tree is not taken
    /// for a whole one.
    fn invalidate(&self) -> io::Result<()> {
        if !self.overwrites() {
            return Ok(());
        }
        let file = self.file();
        file.write_all_at(&[0; Superblock::SIZE], self.offset)?;
        file.sync_all()
    }

    /// Gets the space for the whole area at once, so that a full disk is known before the work and not after it.
    fn reserve(&self, end: u64) -> io::Result<()> {
        let file = self.file();
        let metadata = file.metadata()?;
        if !metadata.is_file() || end == self.offset {
            return Ok(());
        }
        if let (Ok(offset), Ok(length)) = (i64::try_from(self.offset), i64::try_from(end - self.offset)) {
            // File systems that cannot do it find out later whether they are full.
            let reserved = fallocate(file, FallocateFlags::empty(), offset, length);
            if let Err(errno @ (nix::Error::ENOSPC | nix::Error::EDQUOT | nix::Error::EFBIG)) = reserved {
                return Err(errno.into());
            }
        }
        if metadata.len() < end { file.set_len(end) } else { Ok(()) }
    }
}

/// A file to take the existing one's place, where that changes nothing but the area: whoever has the old file open
/// (an active device, say) keeps it as it is, and an interrupted run leaves it as it was.
fn replacement(path: &Path, existing: &Metadata, area: &Range<u64>, shared: bool) -> Option<Temporary> {
    let covers = area.start == 0 && existing.len() <= area.end;
    let whole = existing.is_file() && existing.nlink() == 1 && covers && !shared;
    if !whole || is_mount_point(path) {
        return None;
    }
    // Not one that may only be read: its mode says that it is to stay.
    OpenOptions::new().write(true).open(path).ok()?;
    Temporary::replacing(path, existing).ok()
}

/// Whether another file has come to a path, or the one that was there has another length.
fn was_changed(path: &Path, before: &Metadata) -> bool {
    let facts = |metadata: &Metadata| (metadata.dev(), metadata.ino(), metadata.len());
    path.metadata().is_ok_and(|now| facts(&now) != facts(before))
}

/// Whether something is mounted on the very file, as containers do: no other can take its place.
fn is_mount_point(path: &Path) -> bool {
    let Ok(path) = path.canonicalize() else { return false };
    let escaped: Vec<u8> =
        path.as_os_str().as_bytes().iter().flat_map(|&byte| escape_mount_point(byte)).collect();
    let mounts = std::fs::read("/proc/self/mountinfo").unwrap_or_default();
    mounts.split(|&byte| byte == b'\n').any(|line| line.split(|&byte| byte == b' ').nth(4) == Some(&escaped))
}

/// How the kernel writes a byte of a mount point.
fn escape_mount_point(byte: u8) -> Vec<u8> {
    match byte {
        b' ' | b'\t' | b'\n' | b'\\' => format!("\\{byte:03o}").into_bytes(),
        other => vec![other],
    }
}

/// To veritysetup, a file that it may not even read is one that is not there.
fn not_readable(path: &Path, role: Role, error: &io::Error) -> Failure {
    let (code, text) = input::unreachable(path, role, error).as_veritysetup();
    Failure::system(format_args!("{role} {path:?} cannot be written"), error)
        .hint("check the file's permissions, or run as another user")
        .veritysetup(code, text)
}

fn open_in_place(
    path: &Path,
    role: Role,
    existing: &Metadata,
    needed: u64,
    shared: bool,
) -> Result<Way, Failure> {
    let device = existing.file_type().is_block_device();
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    if device && !shared {
        // Refused while it is mounted or in use by another device.
        options.custom_flags(OFlag::O_EXCL.bits());
    }
    let failed = |error: &io::Error| {
        let failure = Failure::system(format_args!("{role} {path:?} cannot be written"), error);
        let failure = match failure.code {
            Code::Busy => failure.hint("it is mounted, or part of an active device"),
            Code::Refused => failure.hint("check the file's permissions, or run as another user"),
            _ => failure,
        };
        failure.veritysetup(
            Code::General,
            format_args!(
                "Cannot open device {}.\nInput/output error while creating hash area.",
                path.display()
            ),
        )
    };
    let file = options.open(path).map_err(|error| failed(&error))?;
    let opened = file.metadata().map_err(|error| failed(&error))?;
    if (opened.dev(), opened.ino()) != (existing.dev(), existing.ino()) {
        return Err(replaced(path, role));
    }
    lock(&file, path, role)?;
    let length = input::size(&file).map_err(|error| failed(&error))?;
    if device && length < needed {
        return Err(Failure::new(
            Code::General,
            format_args!("{role} {path:?} is too small: {length} bytes of {needed}"),
        )
        .veritysetup(Code::General, "Input/output error while creating hash area."));
    }
    Ok(Way::InPlace(InPlace { file, old_length: length, end: needed, undo: !device }))
}

fn cannot_create(path: &Path, role: Role, error: &io::Error) -> Failure {
    let message = format!("{role} {path:?} cannot be created: {}", plain(error));
    let kind = if role == Role::Parity { "FEC" } else { "hash" };
    let code = match Code::of(error) {
        // The folder is missing; the device itself is to be made.
        Code::NoDevice => Code::General,
        other => other,
    };
    Failure::new(code, message).hint("give a path in a folder that can be written to").veritysetup(
        Code::General,
        format_args!("Cannot create {kind} image {} for writing.", path.display()),
    )
}
