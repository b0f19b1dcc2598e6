//! Layers as one root file system. Linux only.
//!
//! ```text
//! files ─▶ device::activate, each ─▶ EROFS, each ─▶ overlay ─▶ the target
//! ```
//!
//! [`mount()`] makes of each layer a device that checks what is read, mounts each, stacks them, and puts the finished stack at its place, in one step. The
//! devices are marked to go when they are last closed as soon as they are open here, and their loop devices detach themselves: so the mount is all that
//! holds them. Whoever unmounts it, and with whatever, removes everything. If the process is killed on the way, the kernel closes what
//! it had open, and everything goes with that; only a device that was being made at that very moment can be left, open nowhere, and the next call
//! removes it.
//!
//! A device that is there already is shared if it is exactly the one that would be made: images with common layers share these. It is never
//! shared if it differs, or if the kernel has seen a bad block on it.
//!
//! [`unmount`] is umount(8) that waits until the devices are gone, and says who keeps them.

mod devices;
mod error;
mod filesystem;
mod layer;
mod lock;
mod mountinfo;
mod namespaces;
mod stack;
mod target;
mod unmount;
mod users;

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::mount::MountAttrFlags;

pub use error::{Error, KernelFailure};
pub use layer::Layer;
pub use unmount::{Unmounted, Until, unmount};
pub use users::User;

use crate::device::{Departing, DeviceName, DeviceNumber};
use crate::progress::Observer;

use devices::Held;
use filesystem::FileSystem;
use lock::Lock;
use stack::Lower;
use target::Target;

/// The most layers that Linux stacks (`OVL_MAX_STACK`).
pub const MAX_LAYERS: usize = 500;

/// What the sources of all mounts begin with that are made here.
const SOURCE: &str = "verity";

/// The name of the directory below a single layer.
const EMPTY: &str = "empty";

/// Where it is told what is behind a loop device.
const BLOCK_DEVICES: &str = "/sys/dev/block";

/// After a failure so long is waited for the next device to go.
const PATIENCE: Duration = Duration::from_secs(5);

/// How an image is mounted. By default as it is: programs run, with the powers that their modes give them, and device nodes work.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// What `findmnt` shows as its source, behind `verity:`; at most 200 bytes of it.
    pub label: Option<String>,
    /// Set-user-ID bits and file capabilities do nothing.
    pub no_suid: bool,
    /// Device nodes cannot be opened.
    pub no_dev: bool,
    /// Nothing can be executed.
    pub no_exec: bool,
}

/// An image that is mounted. It stays when this value is dropped, and when the process ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mounted {
    /// Where.
    pub target: PathBuf,
    /// The devices of its layers, the lowest first; a layer that occurs twice has one, at its upper place.
    pub devices: Vec<MountedLayer>,
}

/// A layer of a mounted image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountedLayer {
    /// The layer's place in the list that was given, from 0.
    pub index: usize,
    /// Its device's name.
    pub device: DeviceName,
    /// Its device's number.
    pub number: DeviceNumber,
    /// Whether the device was there before.
    pub shared: bool,
}

/// Mounts `layers`, the lowest first, read-only at the directory `target`, in the mount namespace of the calling thread.
///
/// Needs Linux 5.15, the file systems erofs, overlay, tmpfs, proc and sysfs, device-mapper with its verity target, loop devices, and root's powers over the
/// whole system. Blobs are read through loop devices; each file is to stay as it is for as long as the mount does: what is altered
/// is not read but refused, with `EIO`.
///
/// The observer's `cancelled` is asked between layers.
///
/// ```no_run
/// use verity_core::mount::{Layer, Options, Until, mount, unmount};
/// use verity_core::{block::RootHash, geometry::{Geometry, HashArea}, superblock::Superblock};
///
/// let (image_size, root_hash) = (8192_u64, "7d1c...");
/// let blob = std::fs::read("layer.erofs")?;
/// let superblock = Superblock::parse(&blob[usize::try_from(image_size)?..])?;
/// let params = superblock.params.clone();
/// let geometry = Geometry::new(&params, superblock.data_blocks, HashArea::with_superblock(image_size)?)?;
/// let root_hash = RootHash::from_hex(params.algorithm, root_hash)?;
/// let layer = Layer { blob: "layer.erofs".into(), params, geometry, root_hash, parity: None };
/// mount(&[layer], "/mnt".as_ref(), &Options::default(), &())?;
/// unmount("/mnt".as_ref(), Until::Gone, &())?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// An [`Error`]; whichever it is, nothing is mounted, and what was made until then goes.
pub fn mount(
    layers: &[Layer],
    target: &Path,
    options: &Options,
    observer: &dyn Observer,
) -> Result<Mounted, Error> {
    let wanted = distinct(layers)?;
    let target = Target::open(target)?;
    for kind in ["erofs", "overlay"] {
        FileSystem::open(kind)?;
    }
    if !Path::new(BLOCK_DEVICES).is_dir() {
        return Err(Error::NoSysfs);
    }
    {
        let _lock = Lock::take(observer)?;
        devices::sweep()?;
    }
    let mut stack = Stack { workshop: stack::workshop()?, lowers: Vec::new(), held: Vec::new() };
    match stack.build(&wanted, &target, options, observer) {
        Ok(()) => {
            let devices = wanted.iter().zip(&stack.held).map(|(&(index, _), held)| MountedLayer {
                index,
                device: held.name.clone(),
                number: held.number,
                shared: held.departing.is_none(),
            });
            Ok(Mounted { target: target.path, devices: devices.collect() })
        }
        Err(error) => {
            let departing = stack.abandon();
            // What does not go in time goes later: it is marked, or the next call's to remove.
            let _ = devices::wait(departing, PATIENCE, &());
            Err(error)
        }
    }
}

/// The layers without those that occur again further up, with their places.
fn distinct(layers: &[Layer]) -> Result<Vec<(usize, &Layer)>, Error> {
    let mut distinct: Vec<(usize, &Layer)> = Vec::new();
    for (index, layer) in layers.iter().enumerate().rev() {
        if !distinct.iter().any(|(_, upper)| layer.is_same(upper)) {
            distinct.push((index, layer));
        }
        if distinct.len() > MAX_LAYERS {
            return Err(Error::TooManyLayers { found: distinct.len().max(layers.len()) });
        }
    }
    distinct.reverse();
    if distinct.is_empty() { Err(Error::NoLayers) } else { Ok(distinct) }
}

/// Layers that are being stacked. Everything in it goes when it is dropped, except what has been moved to a place in the file system.
struct Stack {
    workshop: OwnedFd,
    lowers: Vec<Lower>,
    held: Vec<Held>,
}

impl Stack {
    fn build(
        &mut self,
        layers: &[(usize, &Layer)],
        target: &Target,
        options: &Options,
        observer: &dyn Observer,
    ) -> Result<(), Error> {
        for &(index, layer) in layers {
            if observer.cancelled() {
                return Err(Error::Cancelled);
            }
            self.add(layer, index + 1, observer)?;
        }
        let overlay = stack::overlay(&self.workshop, &self.lowers, options)?;
        for (&(index, layer), held) in layers.iter().zip(&self.held) {
            devices::require_verified(held, layer, index + 1)?;
        }
        if observer.cancelled() {
            return Err(Error::Cancelled);
        }
        // Of two calls for one target the second one finds a mount point.
        let _lock = Lock::take(observer)?;
        target.attach(&overlay)
    }

    /// Makes and mounts the device of layer `number`.
    fn add(&mut self, layer: &Layer, number: usize, observer: &dyn Observer) -> Result<(), Error> {
        let (held, node) = {
            let _lock = Lock::take(observer)?;
            devices::hold(layer, number, &self.workshop)?
        };
        let name = held.number.minor().to_string();
        let blob = || layer.blob.clone();
        let allowed = layer::require_mountable(&node, layer.geometry.data_bytes())
            .map_err(|source| Error::Refused { number, blob: blob(), source });
        let mounted = allowed
            .and_then(|()| erofs(&node).map_err(|failure| Error::Image { number, blob: blob(), failure }))
            // A block that does not match says more than what was made of that. The device is asked while it is open: then it goes.
            .map_err(|error| devices::require_verified(&held, layer, number).err().unwrap_or(error));
        // From here on it is the mount that has it open.
        drop(node);
        self.held.push(held);
        self.lowers.push(Lower { name, mount: mounted? });
        Ok(())
    }

    /// Lets go of everything; what goes with that.
    fn abandon(self) -> Vec<Departing> {
        self.held.into_iter().filter_map(|held| held.departing).collect()
    }
}

/// Mounts an open device, by a path that is right wherever its node is, or is not.
fn erofs(node: &File) -> Result<OwnedFd, KernelFailure> {
    let erofs = FileSystem::open("erofs")
        .map_err(|error| KernelFailure { source: std::io::Error::other(error), said: String::new() })?;
    erofs.set("source", &format!("/proc/self/fd/{}", node.as_raw_fd()))?;
    erofs.set_flag("ro")?;
    erofs.mount(MountAttrFlags::MOUNT_ATTR_RDONLY)
}
