//! The nodes below `/dev/mapper`.
//!
//! Where udev is in charge it makes and removes them; here it is only made sure that it did. Elsewhere they are made
//! as libdevmapper makes them: block nodes of their own, `root:disk`, mode 0660.
//!
//! A node must never outlive its device: its number would soon be another device's. Nor may the node of a new
//! device be removed by whoever removes an old one of that name. So a node is touched only under a lock, and only
//! after the kernel was asked, under the lock, what the name stands for.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use nix::sys::stat::{Mode, SFlag, mknod};

use super::mapper::CONTROL;
use super::name::{DeviceName, NODE_DIRECTORY};
use super::number::DeviceNumber;
use super::{sysfs, udev};

const MODE: u32 = 0o660;
const GROUP: &str = "disk";

/// Excludes every other process and thread that makes or removes a node. The lock is on device-mapper's control
/// node, which only root can open: on the directory, any user could hold it.
fn lock() -> io::Result<File> {
    let control = File::open(CONTROL)?;
    control.lock()?;
    Ok(control)
}

/// Makes sure that the device's node is there and is this device's.
///
/// `owner` asks the kernel which device has the name now.
pub(super) fn ensure(
    name: &DeviceName,
    number: DeviceNumber,
    owner: impl FnOnce() -> io::Result<Option<DeviceNumber>>,
) -> io::Result<PathBuf> {
    let path = name.node();
    if leads_to(&path, number) {
        return Ok(path);
    }
    let _lock = lock()?;
    // Removed meanwhile, perhaps made anew by someone else: then the node is not this call's to make.
    if owner()? == Some(number) {
        make(&path, number)?;
    }
    Ok(path)
}

/// Removes the node of a device that is gone.
pub(super) fn remove(
    name: &DeviceName,
    owner: impl FnOnce() -> io::Result<Option<DeviceNumber>>,
) -> io::Result<()> {
    let path = name.node();
    // A directory is not a node that anyone made for a device.
    if !fs::symlink_metadata(&path).is_ok_and(|node| !node.is_dir()) {
        return Ok(());
    }
    let _lock = lock()?;
    if owner()?.is_some() { Ok(()) } else { unlink(&path) }
}

/// Removes the node of a device that the kernel will remove when it is closed: nobody will be there to do it then,
/// except udev, if the node is udev's.
pub(super) fn remove_early(name: &DeviceName, number: DeviceNumber) -> io::Result<()> {
    if udev::is_in_charge() && udev::owns_link(number, name.kernel_name()) {
        return Ok(());
    }
    let path = name.node();
    let _lock = lock()?;
    if leads_to(&path, number) { unlink(&path) } else { Ok(()) }
}

fn leads_to(path: &Path, number: DeviceNumber) -> bool {
    fs::metadata(path).is_ok_and(|node| node.file_type().is_block_device() && node.rdev() == number.rdev())
}

fn unlink(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Puts a node at `path` in one step, in place of whatever an earlier device left there.
fn make(path: &Path, number: DeviceNumber) -> io::Result<()> {
    // No device's node: libdevmapper would write the tilde as `\x7e`.
    let temporary = Path::new(NODE_DIRECTORY).join(format!("~verity-{}", number.minor()));
    unlink(&temporary)?;
    let made = if udev::is_in_charge() {
        // A link, which udev replaces when it comes round to it; in the way of a node it would stop.
        symlink(format!("../dm-{}", number.minor()), &temporary)
    } else {
        block_node(&temporary, number)
    };
    let placed = made.and_then(|()| fs::rename(&temporary, path));
    if placed.is_err() {
        let _ = unlink(&temporary);
    }
    placed
}

fn block_node(path: &Path, number: DeviceNumber) -> io::Result<()> {
    // Closed until it belongs to the right group.
    mknod(path, SFlag::S_IFBLK, Mode::empty(), number.rdev())?;
    chown(path, Some(0), Some(sysfs::group(GROUP).unwrap_or(0)))?;
    fs::set_permissions(path, Permissions::from_mode(MODE))
}
