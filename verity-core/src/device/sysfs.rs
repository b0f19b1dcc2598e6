//! What `/sys` and `/proc` say of a block device. None of it is relied upon: either may be missing.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use super::name::NODE_DIRECTORY;
use super::number::DeviceNumber;

fn directory(number: DeviceNumber) -> PathBuf {
    format!("/sys/dev/block/{number}").into()
}

/// An attribute's content without its final line feed.
fn attribute(path: &Path) -> Option<Vec<u8>> {
    let mut content = fs::read(path).ok()?;
    if content.last() == Some(&b'\n') {
        content.pop();
    }
    Some(content)
}

/// The usual path of a block device's node: `/dev/mapper/NAME` for a device of device-mapper, `/dev/loop0`,
/// `/dev/sda1`. `None` if there is no such device, or no `/sys`.
#[must_use]
pub fn node_of(number: DeviceNumber) -> Option<PathBuf> {
    let directory = directory(number);
    if let Some(name) = attribute(&directory.join("dm/name")) {
        return Some(Path::new(NODE_DIRECTORY).join(OsString::from_vec(name)));
    }
    let uevent = String::from_utf8(attribute(&directory.join("uevent"))?).ok()?;
    let name = uevent.lines().find_map(|line| line.strip_prefix("DEVNAME="))?;
    Some(Path::new("/dev").join(name))
}

/// The file behind a loop device, as the kernel names it: with ` (deleted)` behind the path of one that is gone.
pub(super) fn backing_file(number: DeviceNumber) -> Option<PathBuf> {
    attribute(&directory(number).join("loop/backing_file")).map(|path| OsString::from_vec(path).into())
}

/// Whether a loop device shows its file from the beginning to the end.
pub(super) fn is_whole_file(number: DeviceNumber) -> bool {
    ["loop/offset", "loop/sizelimit"]
        .iter()
        .all(|name| attribute(&directory(number).join(name)).is_some_and(|value| value == b"0"))
}

/// Whether a loop device detaches itself when it is last closed.
pub(super) fn autoclear(number: DeviceNumber) -> bool {
    attribute(&directory(number).join("loop/autoclear")).is_some_and(|value| value == b"1")
}

/// A number that no other disk has had since the machine started, and that a loop device gets anew with each file: it
/// tells a device from a later one of the same number. Since Linux 5.15.
pub(super) fn sequence(number: DeviceNumber) -> Option<u64> {
    attribute(&directory(number).join("diskseq"))
        .and_then(|value| String::from_utf8(value).ok()?.parse().ok())
}

/// The device's smallest unit of input and output in bytes.
pub(super) fn logical_block_size(number: DeviceNumber) -> Option<u32> {
    // A partition's queue is that of its disk.
    let directory = directory(number);
    [directory.join("queue"), directory.join("../queue")]
        .iter()
        .find_map(|queue| attribute(&queue.join("logical_block_size")))
        .and_then(|size| String::from_utf8(size).ok()?.parse().ok())
}

/// Whether a device is in use in a way that does not end by itself: it is mounted, or part of another device.
pub(super) fn is_held(number: DeviceNumber) -> bool {
    let holders = directory(number).join("holders");
    let is_part = fs::read_dir(holders).is_ok_and(|mut holders| holders.next().is_some());
    is_part || fs::read("/proc/self/mountinfo").is_ok_and(|mounts| is_mounted(&mounts, number))
}

/// Source: proc_pid_mountinfo(5): the third field of a line is the device's number.
fn is_mounted(mountinfo: &[u8], number: DeviceNumber) -> bool {
    let number = number.to_string();
    mountinfo
        .split(|&byte| byte == b'\n')
        .any(|line| line.split(|&byte| byte == b' ').nth(2) == Some(number.as_bytes()))
}

/// The group's number, from `/etc/group`: the C library's own look-up would load modules at run time.
pub(super) fn group(name: &str) -> Option<u32> {
    group_in(&fs::read_to_string("/etc/group").ok()?, name)
}

fn group_in(groups: &str, name: &str) -> Option<u32> {
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        if fields.next()? == name { fields.nth(1)?.parse().ok() } else { None }
    })
}

/// The minor number of a `misc` driver, if it is there.
pub(super) fn misc_minor(name: &str) -> Option<u32> {
    misc_minor_in(&fs::read_to_string("/proc/misc").ok()?, name)
}

fn misc_minor_in(misc: &str, name: &str) -> Option<u32> {
    misc.lines().find_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let minor = fields.next()?;
        if fields.next()? == name { minor.parse().ok() } else { None }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_found_by_number() {
        let mountinfo = b"25 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw\n\
            36 25 253:0 / /mnt/a\\040b ro,relatime - erofs /dev/mapper/x ro\n";
        let mounted = |major, minor| is_mounted(mountinfo, DeviceNumber::new(major, minor).unwrap());
        assert!(mounted(253, 0) && mounted(254, 1));
        assert!(!mounted(25, 1) && !mounted(53, 0) && !mounted(253, 1));
        assert!(!is_mounted(b"", DeviceNumber::new(0, 0).unwrap()));
    }

    #[test]
    fn groups_and_drivers_are_found_by_name() {
        let groups = "root:x:0:\ndisk:x:6:\nfloppy:x:25:disk\n";
        assert_eq!(group_in(groups, "disk"), Some(6));
        assert_eq!(group_in(groups, "dis"), None);
        assert_eq!(misc_minor_in(" 58 device-mapper\n237 loop-control\n", "device-mapper"), Some(58));
        assert_eq!(misc_minor_in("237 loop-control\n", "device-mapper"), None);
    }

    #[test]
    fn a_device_that_is_not_there_says_nothing() {
        let absent = DeviceNumber::new(4000, 1_000_000).unwrap();
        assert_eq!(node_of(absent), None);
        assert_eq!(backing_file(absent), None);
        assert_eq!(logical_block_size(absent), None);
        assert_eq!(sequence(absent), None);
        assert!(!is_held(absent) && !autoclear(absent));
    }
}
