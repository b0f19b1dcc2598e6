//! Making a verity device.

use std::fmt;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::libc;

use crate::block::{BlockSize, RootHash};
use crate::geometry::Geometry;
use crate::params::Params;
use crate::signature::Signature;
use crate::tree;

use super::error::Error;
use super::keyring;
use super::manage::read_status;
use super::mapper::{Mapper, Removal};
use super::name::DeviceName;
use super::number::DeviceNumber;
use super::options::{Corruption, Fec, TableOptions};
use super::refusal;
use super::source::{Attachments, Source};
use super::status::{Status, Verdict};
use super::sysfs;
use super::table::Table;
use super::version::{Feature, KernelVersion};

/// What a device is to a verity device that is made of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// It holds the data.
    Data,
    /// It holds the tree.
    Hash,
    /// It holds the parity for error correction.
    Parity,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Data => "data device",
            Self::Hash => "hash device",
            Self::Parity => "FEC device",
        })
    }
}

/// Whether the data's block device may have other users.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Sharing {
    /// No: one that is mounted or part of another device is an error.
    #[default]
    Exclusive,
    /// Yes, as far as the kernel lets it: device-mapper devices can share one.
    Shared,
}

/// What is checked beside what the kernel checks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Check {
    /// The root hash before the device exists, then the device's first and last block and its status. A device that
    /// is not verified is removed again; with [`Corruption::Ignore`] it stays, and [`Active::status`] says so.
    #[default]
    Full,
    /// Nothing. With a wrong root hash the device comes into being and refuses every read. This is how veritysetup's
    /// `open` behaves; nothing else should.
    None,
}

/// A verity device that is to be.
///
/// ```no_run
/// use verity_core::device::{Activation, activate};
/// use verity_core::{block::RootHash, geometry::{Geometry, HashArea}, superblock::Superblock};
///
/// let superblock = Superblock::parse(&std::fs::read("layer.hash")?)?;
/// let params = superblock.params.clone();
/// let geometry = Geometry::new(&params, superblock.data_blocks, HashArea::with_superblock(0)?)?;
/// let root = RootHash::from_hex(params.algorithm, "7d1c...")?;
/// let mut activation = Activation::new("layer".parse()?, "layer.img", "layer.hash", params, geometry, root);
/// activation.uuid = Some(superblock.uuid);
/// let device = activate(&activation)?;
/// println!("{}", device.node.display());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Activation {
    /// Its name.
    pub name: DeviceName,
    /// The superblock's UUID, if there is a superblock: part of the UUID that device-mapper is told.
    pub uuid: Option<[u8; 16]>,
    /// The file or block device that holds the data.
    pub data: PathBuf,
    /// The file or block device that holds the tree; it can be the same one.
    pub hash: PathBuf,
    /// Where the parity lies, on a file or a block device, if errors are to be corrected.
    pub fec: Option<Fec<PathBuf>>,
    /// The tree's parameters.
    pub params: Params,
    /// The tree's place on the hash device.
    pub geometry: Geometry,
    /// The root hash, from a trusted place.
    pub root_hash: RootHash,
    /// The signature of the root hash, if the kernel is to check one. It is a key of the kernel's while the table is
    /// loaded, in a keyring that nobody else sees.
    pub signature: Option<Signature>,
    /// The table's options. With a [`signature`](Self::signature), `signature_key` only says what its key is called;
    /// without one, such a key must be in the keyrings of the thread that activates.
    pub options: TableOptions,
    /// Whether the data's block device may have other users.
    pub sharing: Sharing,
    /// What is checked beside what the kernel checks.
    pub check: Check,
}

impl Activation {
    /// An activation without UUID, error correction, signature and options, with every check.
    pub fn new(
        name: DeviceName,
        data: impl Into<PathBuf>,
        hash: impl Into<PathBuf>,
        params: Params,
        geometry: Geometry,
        root_hash: RootHash,
    ) -> Self {
        Self {
            name,
            uuid: None,
            data: data.into(),
            hash: hash.into(),
            fec: None,
            params,
            geometry,
            root_hash,
            signature: None,
            options: TableOptions::default(),
            sharing: Sharing::default(),
            check: Check::default(),
        }
    }
}

/// A verity device that is. It stays when this value is dropped, and when the process ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Active {
    /// Its number.
    pub number: DeviceNumber,
    /// Its node, `/dev/mapper/NAME`.
    pub node: PathBuf,
    /// What the kernel said of it at the end of the activation.
    pub status: Status,
}

/// The steps of an activation that make or change something. A failure after any of them undoes them all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Step {
    /// Loop devices are attached.
    Attached,
    /// The device exists; it is empty.
    Created,
    /// The kernel has taken the table.
    Loaded,
    /// The table is active, the node exists.
    Resumed,
    /// First and last block were read, and the status.
    Checked,
}

impl Step {
    /// Every step, in order.
    pub const ALL: [Self; 5] = [Self::Attached, Self::Created, Self::Loaded, Self::Resumed, Self::Checked];
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Attached => "attached",
            Self::Created => "created",
            Self::Loaded => "loaded",
            Self::Resumed => "resumed",
            Self::Checked => "checked",
        })
    }
}

/// Hears about each step of an activation, to log it or to measure it, and can stop there: everything is then undone,
/// as after any failure. `()` hears nothing.
pub trait Steps {
    /// `step` is done.
    ///
    /// # Errors
    /// Any error stops the activation.
    fn done(&self, step: Step) -> io::Result<()> {
        let _ = step;
        Ok(())
    }
}

impl Steps for () {}

/// Makes a verity device.
///
/// Regular files are attached to read-only loop devices that detach themselves with the device. The device's name
/// is given to exactly one of several that ask for it at once; the others get [`Error::Exists`].
///
/// # Errors
/// An [`Error`]; whichever it is, what was made until then is removed again. Should that fail, it is
/// [`Error::NotUndone`].
pub fn activate(activation: &Activation) -> Result<Active, Error> {
    activate_with(activation, &())
}

/// Makes a verity device as [`activate`] does, watched by `steps`.
///
/// # Errors
/// As [`activate`]; [`Error::Stopped`] if `steps` stops it.
pub fn activate_with(activation: &Activation, steps: &dyn Steps) -> Result<Active, Error> {
    let Activation { name, params, geometry, root_hash, .. } = activation;
    let features = features(activation);
    if !features.is_empty() {
        KernelVersion::running()?.require(&features)?;
    }
    let sources = open_sources(activation)?;
    if activation.check == Check::Full {
        tree::verify_top(sources[0].file(), sources[1].file(), params, geometry, root_hash)?;
    }

    let mapper = Mapper::open()?;
    if mapper.number(name)?.is_some() {
        return Err(Error::Exists { name: name.clone() });
    }
    mapper.require_verity()?;
    if activation.sharing == Sharing::Exclusive {
        sources[0].require_unused()?;
    }

    let attachments = Attachments::new(&sources)?;
    let step =
        |step| steps.done(step).map_err(|source| Error::Stopped { name: name.clone(), after: step, source });
    step(Step::Attached)?;
    let table = table(activation, attachments.numbers())?;

    let mut created = Created::new(&mapper, activation)?;
    let active = step(Step::Created).and_then(|()| {
        if let Err(source) = load(&mapper, activation, &table)? {
            let refusal = refusal::find(&source, &table, &sources, attachments.numbers());
            return Err(Error::Refused { name: name.clone(), device: created.number, refusal, source });
        }
        created.loaded();
        step(Step::Loaded)?;
        let node = mapper.resume(name, created.number)?;
        step(Step::Resumed)?;
        let status = match activation.check {
            Check::Full => verified(&mapper, activation, &node, created.number)?,
            Check::None => read_status(&mapper, name)?,
        };
        step(Step::Checked)?;
        Ok(Active { number: created.number, node, status })
    });
    match active {
        Ok(active) => {
            created.keep();
            Ok(active)
        }
        Err(error) => match created.undo() {
            Ok(Undone::Removed) => Err(error),
            Ok(Undone::Vanished) => Err(vanished(name, error)),
            Err(source) => Err(Error::NotUndone { error: Box::new(error), source: Box::new(source) }),
        },
    }
}

fn features(activation: &Activation) -> Vec<Feature> {
    let mut features = Feature::of_options(&activation.options);
    features.extend(activation.fec.as_ref().map(|_| Feature::Fec));
    features.extend(activation.signature.as_ref().map(|_| Feature::Signature));
    features
}

/// Opens data, hash and parity device, in this order, and checks that they are large enough.
fn open_sources(activation: &Activation) -> Result<Vec<Source>, Error> {
    let Activation { params, geometry, .. } = activation;
    let data = Source::open(Role::Data, &activation.data, params.data_block_size.get())?;
    data.require(geometry.data_bytes())?;
    let hash = Source::open(Role::Hash, &activation.hash, params.hash_block_size.get())?;
    hash.require(geometry.hash_area_end())?;
    let mut sources = vec![data, hash];
    if let Some(fec) = &activation.fec {
        let parity = Source::open(Role::Parity, &fec.device, params.data_block_size.get())?;
        parity.require(parity_end(fec, params.data_block_size))?;
        sources.push(parity);
    }
    Ok(sources)
}

/// The byte behind the parity; larger than any device if the numbers are.
fn parity_end(fec: &Fec<PathBuf>, block_size: BlockSize) -> u64 {
    let rounds = fec.blocks.div_ceil(fec.roots.message() as u64);
    let end =
        rounds.checked_mul(fec.roots.get() as u64).and_then(|blocks| blocks.checked_add(fec.start_block));
    end.and_then(|blocks| blocks.checked_mul(block_size.as_u64())).unwrap_or(u64::MAX)
}

fn table(activation: &Activation, numbers: &[DeviceNumber]) -> Result<Table, Error> {
    let Activation { params, geometry, root_hash, .. } = activation;
    let mut options = activation.options.clone();
    if activation.signature.is_some() && options.signature_key.is_none() {
        options.signature_key = Some(activation.name.key_description(activation.uuid.as_ref()));
    }
    let table =
        Table::new(params, geometry, *root_hash, numbers[0].into(), numbers[1].into())?.with_options(options);
    Ok(match (&activation.fec, numbers.get(2)) {
        (Some(fec), Some(&number)) => {
            let Fec { start_block, blocks, roots, .. } = *fec;
            table.with_fec(Fec { device: number.into(), start_block, blocks, roots })?
        }
        _ => table,
    })
}

/// Loads the table, beside the signature that it names if there is one. The kernel's refusal is the inner error.
fn load(mapper: &Mapper, activation: &Activation, table: &Table) -> Result<io::Result<()>, Error> {
    let Activation { name, signature, .. } = activation;
    let load = || mapper.load(name, table.sectors(), &table.to_string());
    match (signature, &table.options().signature_key) {
        (Some(signature), Some(key)) => keyring::with_key(key, signature.as_bytes(), load)
            .map_err(|source| Error::Key { name: name.clone(), source })?,
        _ => load(),
    }
}

/// A device of this activation's making, until it is kept or undone.
struct Created<'a> {
    mapper: &'a Mapper,
    name: &'a DeviceName,
    uuid: String,
    number: DeviceNumber,
    /// The kernel gives it with the first table.
    sequence: Option<u64>,
    armed: bool,
}

impl<'a> Created<'a> {
    fn new(mapper: &'a Mapper, activation: &'a Activation) -> Result<Self, Error> {
        let name = &activation.name;
        let uuid = name.device_uuid(activation.uuid.as_ref());
        let number = mapper.create(name, &uuid)?;
        Ok(Self { mapper, name, uuid, number, sequence: None, armed: true })
    }

    /// Its table is loaded.
    fn loaded(&mut self) {
        self.sequence = sysfs::sequence(self.number);
    }

    fn keep(mut self) {
        self.armed = false;
    }

    fn undo(mut self) -> Result<Undone, Error> {
        self.remove()
    }

    fn remove(&mut self) -> Result<Undone, Error> {
        self.armed = false;
        // Someone can have removed the device, and made another of that name, which then mostly has its number too: that
        // one stays.
        let found = self.mapper.identity(self.name)?;
        let same_name = found == Some((self.number, Some(self.uuid.clone())));
        if !same_name || sysfs::sequence(self.number) != self.sequence {
            return Ok(Undone::Vanished);
        }
        match self.mapper.remove(self.name, Removal::Now) {
            Ok(_) => Ok(Undone::Removed),
            Err(Error::NotActive { .. }) => Ok(Undone::Vanished),
            Err(busy @ Error::Busy { .. }) => match self.mapper.remove(self.name, Removal::Deferred) {
                // Closed in between.
                Ok(false) => Ok(Undone::Removed),
                // It goes as soon as whoever has it open lets go of it. That is not yet.
                _ => Err(busy),
            },
            Err(error) => Err(error),
        }
    }
}

/// What became of a device that was to be undone.
enum Undone {
    Removed,
    /// It was no longer there.
    Vanished,
}

/// What failed on a device that someone else has removed failed because of that, unless it says something of the image
/// or was wanted.
fn vanished(name: &DeviceName, error: Error) -> Error {
    match error {
        Error::Corrupted { .. } | Error::Stopped { .. } => error,
        _ => Error::Vanished { name: name.clone(), source: Box::new(error) },
    }
}

impl Drop for Created<'_> {
    fn drop(&mut self) {
        if self.armed {
            let _ = self.remove();
        }
    }
}

/// Reads the first and the last data block past the cache, then the status.
fn verified(
    mapper: &Mapper,
    activation: &Activation,
    node: &Path,
    number: DeviceNumber,
) -> Result<Status, Error> {
    let name = &activation.name;
    let last = activation.geometry.data_blocks() - 1;
    let failed = [0, last].into_iter().find_map(|block| {
        let read = read_block(node, number, block, activation.params.data_block_size);
        read.err().map(|source| (block, source))
    });
    let status = read_status(mapper, name)?;
    match (failed, status.verdict) {
        (None, Verdict::Verified) => Ok(status),
        (None, Verdict::Corrupted) if activation.options.corruption == Corruption::Ignore => Ok(status),
        (failed, Verdict::Corrupted) => {
            Err(Error::Corrupted { name: name.clone(), block: failed.map(|(block, _)| block) })
        }
        (Some((block, source)), Verdict::Verified) => Err(Error::Read { name: name.clone(), block, source }),
    }
}

/// Reads one block from the device itself: a block in the page cache could be from a time when it matched.
fn read_block(node: &Path, number: DeviceNumber, block: u64, size: BlockSize) -> io::Result<()> {
    let device = OpenOptions::new().read(true).custom_flags(libc::O_DIRECT).open(node)?;
    if device.metadata()?.rdev() != number.rdev() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "its node is another device's"));
    }
    // Direct I/O wants memory that is aligned to the device's blocks.
    let mut memory = vec![0; 2 * size.bytes()];
    let start = memory.as_ptr().align_offset(size.bytes());
    let buffer = memory.get_mut(start..).and_then(|rest| rest.get_mut(..size.bytes()));
    let buffer = buffer.ok_or_else(|| io::Error::from(io::ErrorKind::OutOfMemory))?;
    device.read_exact_at(buffer, block * size.as_u64())
}

#[cfg(test)]
#[path = "activate_tests.rs"]
mod tests;
