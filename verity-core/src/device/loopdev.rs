//! Loop devices: files as block devices.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use nix::errno::Errno;

use super::error::Error;
use super::ioctl::{self, LoopInfo};
use super::number::DeviceNumber;
use super::sysfs;

const CONTROL: &str = "/dev/loop-control";

/// The driver's major number.
const MAJOR: u32 = 7;

/// Between asking for a free device and taking it, others may take it; each loss says that someone else won, so
/// many in a row mean that many others are at it.
const ATTEMPTS: u32 = 128;

// `linux/loop.h`
const READ_ONLY: u32 = 1;
const AUTOCLEAR: u32 = 4;
const DIRECT_IO: u32 = 16;

/// How a file is attached.
#[derive(Clone, Copy, Debug, Default)]
pub struct LoopOptions {
    /// Where in the file the device begins, in bytes; a multiple of 512.
    pub offset: u64,
    /// How many bytes of the file the device has at most, at least 1; `None` means up to the file's end.
    pub size_limit: Option<u64>,
    /// The device's logical block size in bytes; `None` means 512.
    pub block_size: Option<u32>,
}

/// A read-only loop device of this process's making.
///
/// It detaches itself when it is last closed (`LO_FLAGS_AUTOCLEAR`): dropping this value detaches it, unless
/// something else, such as a device-mapper table, has it open by then; then it lives as long as that. Nothing has
/// to be cleaned up, even if the process is killed.
///
/// Reads go past the page cache to the file (direct I/O) where the file system can do that.
#[derive(Debug)]
pub struct LoopDevice {
    /// Keeps the device attached.
    _file: File,
    number: DeviceNumber,
    node: PathBuf,
}

impl LoopDevice {
    /// Attaches `backing`, whose path, for messages and for other tools to show, is `path`.
    ///
    /// Needs Linux 5.8 (`LOOP_CONFIGURE`, which attaches and sets everything in one step: at no time is there a
    /// writable or a leaked device).
    ///
    /// # Errors
    /// [`Error::NoLoopDevices`], [`Error::NoFreeLoop`], [`Error::Permission`], or [`Error::Loop`].
    pub fn attach(backing: &File, path: &Path, options: &LoopOptions) -> Result<Self, Error> {
        if options.size_limit == Some(0) {
            // The driver's word for no limit.
            let source =
                io::Error::new(io::ErrorKind::InvalidInput, "a size limit of 0 leaves no byte of the file");
            return Err(Error::Loop { device: CONTROL.into(), backing: path.to_owned(), source });
        }
        let control = OpenOptions::new().read(true).write(true).open(CONTROL).map_err(control_error)?;
        let mut info = LoopInfo::zeroed();
        info.offset = options.offset;
        info.size_limit = options.size_limit.unwrap_or(0);
        let name = path.as_os_str().as_bytes();
        let name = &name[..name.len().min(info.file_name.len() - 1)];
        info.file_name[..name.len()].copy_from_slice(name);

        let mut lost = (PathBuf::from(CONTROL), io::Error::from(Errno::EBUSY));
        for attempt in 0..ATTEMPTS {
            let number = match ioctl::loop_get_free(&control) {
                Ok(number) => number,
                Err(errno @ (Errno::ENOSPC | Errno::ENODEV)) => {
                    return Err(Error::NoFreeLoop { source: errno.into() });
                }
                Err(errno) => return Err(control_error(errno.into())),
            };
            let node = PathBuf::from(format!("/dev/loop{number}"));
            match Self::attach_to(&node, backing, info, options.block_size.unwrap_or(0)) {
                Ok(device) => return Ok(device),
                // Taken, or being detached, by someone else since.
                Err(error) if is_race(&error) => lost = (node, error),
                Err(source) => {
                    return Err(Error::Loop { device: node, backing: path.to_owned(), source });
                }
            }
            sleep(Duration::from_micros(100 * u64::from(attempt.min(100))));
        }
        let (device, source) = lost;
        Err(Error::Loop { device, backing: path.to_owned(), source })
    }

    fn attach_to(node: &Path, backing: &File, mut info: LoopInfo, block_size: u32) -> io::Result<Self> {
        let file = File::open(node)?;
        let number = DeviceNumber::from_rdev(file.metadata()?.rdev()).map_err(io::Error::other)?;
        info.flags = READ_ONLY | AUTOCLEAR | DIRECT_IO;
        match ioctl::loop_configure(&file, backing.as_fd(), block_size, info) {
            // Kernels mostly ignore a wish for direct I/O that cannot be fulfilled; where one minds, do without.
            Err(Errno::EINVAL) => {
                info.flags = READ_ONLY | AUTOCLEAR;
                ioctl::loop_configure(&file, backing.as_fd(), block_size, info)?;
            }
            result => result?,
        }
        Ok(Self { _file: file, number, node: node.to_owned() })
    }

    /// The device's number.
    #[must_use]
    pub const fn number(&self) -> DeviceNumber {
        self.number
    }

    /// The device's node.
    #[must_use]
    pub fn node(&self) -> &Path {
        &self.node
    }
}

/// The file behind the loop device `number`; `None` if it is not a loop device, or nothing is attached.
///
/// Where `/sys` is missing the path is cut off at 63 bytes.
#[must_use]
pub fn backing_file(number: DeviceNumber) -> Option<PathBuf> {
    if number.major() != MAJOR {
        return None;
    }
    sysfs::backing_file(number).or_else(|| {
        let device = File::open(format!("/dev/loop{}", number.minor())).ok()?;
        let found = DeviceNumber::from_rdev(device.metadata().ok()?.rdev()).ok()?;
        // What has the name of a loop device need not be one.
        if found != number {
            return None;
        }
        let info = ioctl::loop_status(&device).ok()?;
        let name = info.file_name.split(|&byte| byte == 0).next().unwrap_or_default();
        Some(std::ffi::OsString::from_vec(name.to_vec()).into())
    })
}

/// A loop device that is to detach itself, and what is attached to it now.
#[derive(Debug)]
pub(super) struct Attached {
    number: DeviceNumber,
    file: PathBuf,
    /// The same file can be attached to the same device again right after it was detached.
    sequence: Option<u64>,
}

impl Attached {
    /// `None` if the device is no loop device, or one that someone keeps attached on purpose.
    pub(super) fn autoclearing(number: DeviceNumber) -> Option<Self> {
        let file = sysfs::backing_file(number).filter(|_| sysfs::autoclear(number))?;
        Some(Self { number, file, sequence: sysfs::sequence(number) })
    }

    /// Whether it has detached itself.
    pub(super) fn is_detached(&self) -> bool {
        let same_file = sysfs::backing_file(self.number).as_ref() == Some(&self.file);
        !same_file || sysfs::sequence(self.number) != self.sequence
    }

    /// Waits a moment for the device to detach itself; its number if it does not, because something else has it
    /// open.
    pub(super) fn wait(self) -> Option<DeviceNumber> {
        // The kernel detaches at the last close, which may be that of udev's probe.
        const PAUSES: u32 = 50;
        for _ in 0..PAUSES {
            if self.is_detached() {
                return None;
            }
            if sysfs::is_held(self.number) {
                break;
            }
            sleep(Duration::from_millis(20));
        }
        Some(self.number)
    }
}

fn is_race(error: &io::Error) -> bool {
    // ENOENT: devtmpfs makes the node of a new device before the number is told, but a /dev of udev's alone does not.
    matches!(error.raw_os_error(), Some(nix::libc::EBUSY | nix::libc::ENXIO | nix::libc::ENOENT))
}

fn control_error(source: io::Error) -> Error {
    match source.kind() {
        io::ErrorKind::PermissionDenied => Error::Permission { action: "make loop devices", source },
        _ => Error::NoLoopDevices { source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whoever computes a limit and comes to 0 must not be shown the whole file.
    #[test]
    fn a_limit_of_no_bytes_is_not_no_limit() {
        let file = tempfile::tempfile().unwrap();
        let options = LoopOptions { size_limit: Some(0), ..LoopOptions::default() };
        let error = LoopDevice::attach(&file, Path::new("/a/file"), &options).unwrap_err();
        assert!(error.to_string().contains("size limit of 0"), "{error}");
    }
}
