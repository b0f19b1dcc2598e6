//! Devices that go by themselves.

use super::error::Error;
use super::loopdev::Attached;
use super::manage::{DeviceInfo, loops_below};
use super::mapper::Mapper;
use super::name::DeviceName;
use super::number::DeviceNumber;
use super::sysfs;

/// A device whose removal is put off until it is last closed ([`Removal::Deferred`](super::Removal::Deferred)), with the loop devices below it that
/// detach themselves then: whether they are gone yet.
///
/// Another device that gets the name or the number meanwhile is not taken for it (where the kernel has disk sequence numbers, since Linux 5.15).
#[derive(Debug)]
pub struct Departing {
    name: DeviceName,
    number: DeviceNumber,
    sequence: Option<u64>,
    loops: Vec<Attached>,
}

impl Departing {
    /// Notes what a device is, and what it is made of.
    #[must_use]
    pub fn new(info: &DeviceInfo) -> Self {
        Self {
            name: info.name.clone(),
            number: info.number,
            sequence: sysfs::sequence(info.number),
            loops: loops_below(info.mapping.as_ref().map(|mapping| &mapping.table)),
        }
    }

    /// The device's name.
    #[must_use]
    pub const fn name(&self) -> &DeviceName {
        &self.name
    }

    /// The device's number.
    #[must_use]
    pub const fn number(&self) -> DeviceNumber {
        self.number
    }

    /// Whether the device is gone, and every loop device that went with it.
    ///
    /// # Errors
    /// What device-mapper itself can answer.
    pub fn is_gone(&self) -> Result<bool, Error> {
        let found = Mapper::open()?.number(&self.name)?;
        let there = found == Some(self.number) && sysfs::sequence(self.number) == self.sequence;
        Ok(!there && self.loops.iter().all(Attached::is_detached))
    }
}
