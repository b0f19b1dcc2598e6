//! Which bytes of which storage a file or device stands for, whatever name it goes by.

use std::fs::{self, Metadata};
use std::ops::Range;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::PathBuf;

use nix::sys::stat::{major, minor};

use crate::failure::{Code, Failure};

/// Where the first byte of a file or device really lies: in a file, or on a device below which nothing is known. Those of two names for
/// one thing are equal; those of two partitions of one disk are not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    store: Store,
    /// In bytes.
    start: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Store {
    File { device: u64, inode: u64 },
    Device(u64),
}

impl Extent {
    /// Looks through loop devices and partitions; symbolic and hard links do not matter to begin with.
    pub(crate) fn of(metadata: &Metadata) -> Self {
        if metadata.file_type().is_block_device() {
            Self::of_device(metadata.rdev())
        } else {
            Self { store: Store::File { device: metadata.dev(), inode: metadata.ino() }, start: 0 }
        }
    }

    fn of_device(device: u64) -> Self {
        let unknown = Self { store: Store::Device(device), start: 0 };
        let folder = PathBuf::from(format!("/sys/dev/block/{}:{}", major(device), minor(device)));
        let number = |name: &str| fs::read_to_string(folder.join(name)).ok()?.trim().parse::<u64>().ok();
        let below = || {
            if let Ok(backing) = fs::read_to_string(folder.join("loop/backing_file")) {
                let metadata = fs::metadata(backing.trim_end_matches('\n')).ok()?;
                Some((Self::of(&metadata), number("loop/offset")?))
            } else if folder.join("partition").exists() {
                // The folder is a link into the device tree, where the whole disk is the partition's parent.
                let disk = fs::read_to_string(fs::canonicalize(&folder).ok()?.parent()?.join("dev")).ok()?;
                let (major, minor) = disk.trim().split_once(':')?;
                let disk = nix::sys::stat::makedev(major.parse().ok()?, minor.parse().ok()?);
                Some((Self::of_device(disk), number("start")?.checked_mul(512)?))
            } else {
                None
            }
        };
        let resolved = below().and_then(|(below, offset)| {
            Some(Self { start: below.start.checked_add(offset)?, store: below.store })
        });
        resolved.unwrap_or(unknown)
    }

    /// Whether both lie in the same file or on the same device.
    pub(crate) fn same_storage(self, other: Self) -> bool {
        self.store == other.store
    }

    /// Whether some byte of `bytes` here is one of `other_bytes` there.
    pub(crate) fn overlaps(self, bytes: &Range<u64>, other: Self, other_bytes: &Range<u64>) -> bool {
        let (own, other_range) = (self.range(bytes.clone()), other.range(other_bytes.clone()));
        self.same_storage(other) && own.start < other_range.end && other_range.start < own.end
    }

    fn range(self, bytes: Range<u64>) -> Range<u64> {
        self.start.saturating_add(bytes.start)..self.start.saturating_add(bytes.end)
    }
}

/// Checks that no byte is both data and hash area.
pub(crate) fn check_apart(data: (Extent, u64), hash: (Extent, Range<u64>)) -> Result<(), Failure> {
    let (data, data_bytes) = data;
    let (hash, area) = hash;
    if !data.overlaps(&(0..data_bytes), hash, &area) {
        return Ok(());
    }
    let (start, end) = (area.start, area.end.saturating_sub(1));
    Err(Failure::new(
        Code::General,
        format_args!(
            "data and hash area overlap: both lie in the same file, the data in its first {data_bytes} bytes and the \
             hash area in bytes {start} to {end} of the hash device"
        ),
    )
    .hint("give a --hash-offset behind the data and --data-blocks, or another file for the hash area")
    .veritysetup(Code::General, "Data area overlaps with hash area."))
}
