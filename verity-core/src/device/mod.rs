//! Verity devices of the running kernel: tables, loop devices, activation and removal. Linux only.
//!
//! ```text
//! files ─▶ loop devices ─▶ device-mapper: create ─▶ load table ─▶ resume ─▶ read, ask ─▶ /dev/mapper/NAME
//! ```
//!
//! [`activate`] makes a device, [`query`] and [`list`] look at devices, [`deactivate`] removes one. Everything that
//! an activation makes is owned until it has succeeded: whatever fails, what was made is removed again. Devices are
//! told apart from those of other programs by what the kernel says of them, never by their names.
//!
//! No digest is computed here except that of a tree's top block, before its device is made.

mod activate;
mod departing;
mod error;
#[allow(unsafe_code)]
mod ioctl;
#[allow(unsafe_code)]
mod keyring;
mod loopdev;
mod manage;
mod mapper;
mod name;
mod node;
mod number;
mod options;
mod refusal;
mod same;
mod source;
mod status;
mod sysfs;
mod table;
mod udev;
mod version;

pub use activate::{Activation, Active, Check, Role, Sharing, Step, Steps, activate, activate_with};
pub use departing::Departing;
pub use error::{Error, Kind};
pub use loopdev::{LoopDevice, LoopOptions, backing_file};
pub use manage::{Deactivated, DeviceInfo, Mapping, cancel_deferred, deactivate, list, query};
pub use mapper::Removal;
pub use name::{DeviceName, NameError};
pub use number::{BadDeviceNumber, DeviceNumber};
pub use options::{BadWord, Corruption, DevicePath, DeviceRef, Fec, KeyDescription, OnError, TableOptions};
pub use refusal::Refusal;
pub use same::Difference;
pub use status::{Repairs, Status, StatusError, Verdict};
pub use sysfs::node_of;
pub use table::{Table, TableError};
pub use version::{BadKernelVersion, Feature, KernelVersion, Unsupported};
