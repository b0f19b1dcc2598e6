//! The overlay, made where nobody sees it.
//!
//! An overlay takes its lower directories by path, and older kernels none of mounts that are attached nowhere. So they are attached, in a mount
//! namespace that belongs to a thread of this and ends with it, in a directory of a tmpfs, under names that are short.
//!
//! Short, because up to Linux 6.6 all of them have to stand in one option: `lowerdir=A:B:C`, in one page of 4096 bytes with all other options.
//! That is the limit that others know as one of 20 to 100 layers: full paths of 40 to 200 bytes each. A device's minor number has at most 7
//! digits, and 500 of them fit. From Linux 6.7 on each has an option of its own, `lowerdir+`.

use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::thread;

use nix::sched::{CloneFlags, unshare};
use rustix::fs::{CWD, Mode, mkdirat};
use rustix::io::Errno;
use rustix::mount::{
    MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, mount, mount_change,
    move_mount, open_tree,
};

use crate::device::KernelVersion;

use super::error::{Error, KernelFailure, from_io, system};
use super::filesystem::FileSystem;
use super::{EMPTY, Options, SOURCE};

/// Since when `lowerdir+` is there.
const APPENDS: KernelVersion = KernelVersion::new(6, 7, 0);

/// Whatever a distribution's kernel has as defaults, layers mean the same: attributes that send the overlay elsewhere are not followed.
const SETTINGS: [(&str, &str); 4] =
    [("redirect_dir", "nofollow"), ("metacopy", "off"), ("index", "off"), ("nfs_export", "off")];

/// A lower directory that is to be: the name by which the overlay will show it, and its mount.
pub(super) struct Lower {
    pub(super) name: String,
    pub(super) mount: OwnedFd,
}

/// A new directory of nobody else's, attached nowhere.
pub(super) fn workshop() -> Result<OwnedFd, Error> {
    let failed = |failure: KernelFailure| from_io("make a private directory", failure.source);
    let tmpfs = FileSystem::open("tmpfs")?;
    tmpfs.set("mode", "0700").map_err(failed)?;
    tmpfs.mount(MountAttrFlags::empty()).map_err(failed)
}

/// An overlay of `lowers`, the lowest first, attached nowhere.
pub(super) fn overlay(workshop: &OwnedFd, lowers: &[Lower], options: &Options) -> Result<OwnedFd, Error> {
    // A namespace of its own is a thread's, not only a process's.
    thread::scope(|scope| {
        let builder = thread::Builder::new().name("overlay".to_owned());
        let thread = builder
            .spawn_scoped(scope, || in_own_namespace(workshop, lowers, options))
            .map_err(|source| from_io("start a thread", source))?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn in_own_namespace(workshop: &OwnedFd, lowers: &[Lower], options: &Options) -> Result<OwnedFd, Error> {
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_FS)
        .map_err(|errno| from_io("make a mount namespace", errno.into()))?;
    // Nothing of what follows is to be seen elsewhere. Fails in a chroot that is no mount.
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .map_err(system("make the mounts of a namespace private (is / no mount point, as in a chroot?)"))?;
    attach(workshop, CWD, "/").map_err(system("attach a private directory"))?;
    // Paths without a slash in front lead into it from here on, in this thread alone.
    nix::unistd::fchdir(workshop).map_err(|errno| from_io("change to a private directory", errno.into()))?;

    let mut names = Vec::with_capacity(lowers.len() + 1);
    if lowers.len() == 1 {
        // The kernel stacks two at least. Below a single layer is nothing, so that its whiteouts are not seen as the devices that they are.
        make(workshop, EMPTY)?;
        names.push(EMPTY);
    }
    for Lower { name, mount } in lowers {
        make(workshop, name)?;
        attach(mount, workshop, name).map_err(system("attach a layer in a private directory"))?;
        names.push(name);
    }
    // The kernel wants the uppermost first.
    names.reverse();
    let failed = |failure| Error::Overlay { layers: lowers.len(), failure };
    if KernelVersion::running().is_ok_and(|running| running >= APPENDS) {
        appended(&names, options, FileSystem::open("overlay")?).map_err(failed)
    } else {
        in_one_option(workshop, &names, options)
            .map_err(|errno| failed(KernelFailure { source: errno.into(), said: String::new() }))
    }
}

fn make(directory: &OwnedFd, name: &str) -> Result<(), Error> {
    mkdirat(directory, name, Mode::RWXU).map_err(system("make a mount point in a private directory"))
}

fn attach(mount: &OwnedFd, directory: impl std::os::fd::AsFd, name: &str) -> Result<(), Errno> {
    move_mount(mount, "", directory, name, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
}

fn appended(names: &[&str], options: &Options, overlay: FileSystem) -> Result<OwnedFd, KernelFailure> {
    overlay.set("source", &source(options))?;
    for name in names {
        overlay.set("lowerdir+", name)?;
    }
    for (key, value) in SETTINGS {
        overlay.set(key, value)?;
    }
    overlay.set_flag("ro")?;
    overlay.mount(options.attributes())
}

fn in_one_option(workshop: &OwnedFd, names: &[&str], options: &Options) -> Result<OwnedFd, Errno> {
    const TARGET: &str = "overlay";
    let settings = SETTINGS.map(|(key, value)| format!("{key}={value}")).join(",");
    let data = format!("lowerdir={},{settings}", names.join(":"));
    let data = CString::new(data).map_err(|_| Errno::INVAL)?;
    mkdirat(workshop, TARGET, Mode::RWXU)?;
    mount(source(options), TARGET, "overlay", options.flags(), data.as_c_str())?;
    open_tree(workshop, TARGET, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC)
}

/// What `findmnt` shows as the mount's source.
fn source(options: &Options) -> String {
    // An option of the new mount API has at most 255 bytes.
    const ROOM: usize = 200;
    match &options.label {
        Some(label) => {
            let end = (0..=label.len().min(ROOM)).rev().find(|&end| label.is_char_boundary(end));
            format!("{SOURCE}:{}", &label[..end.unwrap_or(0)])
        }
        None => SOURCE.to_owned(),
    }
}

impl Options {
    fn attributes(&self) -> MountAttrFlags {
        let mut attributes = MountAttrFlags::MOUNT_ATTR_RDONLY;
        attributes.set(MountAttrFlags::MOUNT_ATTR_NOSUID, self.no_suid);
        attributes.set(MountAttrFlags::MOUNT_ATTR_NODEV, self.no_dev);
        attributes.set(MountAttrFlags::MOUNT_ATTR_NOEXEC, self.no_exec);
        attributes
    }

    fn flags(&self) -> MountFlags {
        let mut flags = MountFlags::RDONLY;
        flags.set(MountFlags::NOSUID, self.no_suid);
        flags.set(MountFlags::NODEV, self.no_dev);
        flags.set(MountFlags::NOEXEC, self.no_exec);
        flags
    }
}
