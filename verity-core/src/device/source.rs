//! The files and block devices that a verity device is made of.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::libc;

use super::activate::Role;
use super::error::Error;
use super::loopdev::{LoopDevice, LoopOptions};
use super::number::DeviceNumber;

/// The largest logical block size that a loop device is given: a page of the smallest kind.
const MAX_LOOP_BLOCK: u32 = 4096;

/// An open data, hash or parity device.
#[derive(Debug)]
pub(super) struct Source {
    role: Role,
    path: PathBuf,
    file: File,
    kind: Kind,
    /// In bytes.
    size: u64,
    /// The smallest block that will be read from it, in bytes.
    block_size: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A regular file: its file system and inode.
    File(u64, u64),
    Block(DeviceNumber),
}

impl Source {
    /// Opens a file or block device for reading.
    pub(super) fn open(role: Role, path: &Path, block_size: u32) -> Result<Self, Error> {
        let failed = |source: io::Error| Error::Open { role, path: path.to_owned(), source };
        let not_a_file = || Error::NotAFile { role, path: path.to_owned() };
        // Looked at before it is opened: to open a pipe waits, to open a tape winds it.
        kind(&fs::metadata(path).map_err(failed)?).map_err(failed)?.ok_or_else(not_a_file)?;
        let mut file =
            OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        let kind = kind(&metadata).map_err(failed)?.ok_or_else(not_a_file)?;
        let size = match kind {
            Kind::File(..) => metadata.len(),
            Kind::Block(_) => file.seek(SeekFrom::End(0)).map_err(failed)?,
        };
        Ok(Self { role, path: path.to_owned(), file, kind, size, block_size })
    }

    pub(super) const fn role(&self) -> Role {
        self.role
    }

    pub(super) const fn file(&self) -> &File {
        &self.file
    }

    pub(super) const fn block_size(&self) -> u32 {
        self.block_size
    }

    /// Checks that the device has `needed` bytes.
    pub(super) fn require(&self, needed: u64) -> Result<(), Error> {
        // Devices are made of whole sectors: what is left of a file behind its last one is not there.
        let found = self.size;
        if found - found % 512 >= needed {
            return Ok(());
        }
        Err(Error::TooSmall { role: self.role, path: self.path.clone(), found, needed })
    }

    /// Checks that nobody else has claimed the block device. A file's loop device is always its own.
    pub(super) fn require_unused(&self) -> Result<(), Error> {
        let Kind::Block(number) = self.kind else { return Ok(()) };
        let (role, path) = (self.role, self.path.clone());
        match OpenOptions::new().read(true).custom_flags(libc::O_EXCL).open(&self.path) {
            Ok(again) => match again.metadata() {
                Ok(metadata) if metadata.rdev() == number.rdev() => Ok(()),
                Ok(_) => {
                    let source = io::Error::other("another device has taken its path meanwhile");
                    Err(Error::Open { role, path, source })
                }
                Err(source) => Err(Error::Open { role, path, source }),
            },
            Err(source) if source.raw_os_error() == Some(libc::EBUSY) => {
                Err(Error::InUse { role, path, source })
            }
            Err(source) => Err(Error::Open { role, path, source }),
        }
    }
}

fn kind(metadata: &Metadata) -> io::Result<Option<Kind>> {
    let file_type = metadata.file_type();
    if file_type.is_file() {
        Ok(Some(Kind::File(metadata.dev(), metadata.ino())))
    } else if file_type.is_block_device() {
        DeviceNumber::from_rdev(metadata.rdev())
            .map(|number| Some(Kind::Block(number)))
            .map_err(io::Error::other)
    } else {
        Ok(None)
    }
}

/// Block devices for sources: themselves, or loop devices that live as long as this, and longer once a table has
/// them open.
#[derive(Debug)]
pub(super) struct Attachments {
    numbers: Vec<DeviceNumber>,
    _loops: Vec<LoopDevice>,
}

impl Attachments {
    /// Attaches a loop device to each file; to a file that occurs twice, one.
    pub(super) fn new(sources: &[Source]) -> Result<Self, Error> {
        let mut loops: Vec<(Kind, LoopDevice)> = Vec::new();
        let mut numbers = Vec::with_capacity(sources.len());
        for source in sources {
            if let Kind::Block(number) = source.kind {
                numbers.push(number);
                continue;
            }
            let number = match loops.iter().find(|(kind, _)| *kind == source.kind) {
                Some((_, device)) => device.number(),
                None => {
                    let device = attach(source, sources)?;
                    let number = device.number();
                    loops.push((source.kind, device));
                    number
                }
            };
            numbers.push(number);
        }
        Ok(Self { numbers, _loops: loops.into_iter().map(|(_, device)| device).collect() })
    }

    /// The device of each source, in the order in which they were given.
    pub(super) fn numbers(&self) -> &[DeviceNumber] {
        &self.numbers
    }
}

fn attach(source: &Source, sources: &[Source]) -> Result<LoopDevice, Error> {
    // The kernel refuses a table whose blocks are smaller than their device's. With direct I/O a loop device would
    // take over the file system's, which can be larger; told its size, it does without direct I/O in that case.
    let sharing = sources.iter().filter(|other| other.kind == source.kind);
    let smallest = sharing.map(Source::block_size).fold(MAX_LOOP_BLOCK, u32::min);
    let options = LoopOptions { block_size: Some(smallest), ..LoopOptions::default() };
    LoopDevice::attach(&source.file, &source.path, &options)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(path: &Path) -> Result<Source, Error> {
        Source::open(Role::Data, path, 4096)
    }

    #[test]
    fn what_is_neither_a_file_nor_a_block_device_is_refused_without_waiting() {
        let directory = tempfile::tempdir().unwrap();
        let pipe = directory.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRUSR).unwrap();
        for path in [directory.path(), &pipe, Path::new("/dev/null")] {
            assert!(
                matches!(open(path), Err(Error::NotAFile { role: Role::Data, .. })),
                "{}",
                path.display()
            );
        }
        let missing = open(&directory.path().join("missing")).unwrap_err();
        assert_eq!(missing.kind(), super::super::Kind::NotFound);
        assert!(missing.to_string().starts_with("data device /"), "{missing}");
    }

    #[test]
    fn only_whole_sectors_count() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(8191).unwrap();
        let source = open(file.path()).unwrap();
        assert!(source.require(7680).is_ok());
        let error = source.require(8191).unwrap_err();
        assert!(matches!(error, Error::TooSmall { found: 8191, needed: 8191, .. }));
        assert!(source.require(u64::MAX).is_err());
        assert!(source.require_unused().is_ok());
    }

    #[test]
    fn an_empty_file_has_no_sector() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let source = open(file.path()).unwrap();
        assert!(source.require(0).is_ok());
        assert!(matches!(source.require(512), Err(Error::TooSmall { found: 0, needed: 512, .. })));
    }
}
