//! What goes wrong with a journal.

use std::io;

/// Why a change could not be made, or finished.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// The journal could not be read or written. By that nothing was changed on the device.
    #[error("journal: {0}")]
    Log(#[source] io::Error),
    /// The journal could not be read while it was applied. The device may be half changed until that is tried again.
    #[error("journal: {0}, while it was applied; the device may be half changed until it is applied again")]
    Unfinished(#[source] io::Error),
    /// The device could not be written. The journal is whole, and will be applied when that is tried again.
    #[error("device: {0}; the journal is complete and can be applied again")]
    Device(#[source] io::Error),
    /// The device does not say how long it is. Nothing was changed on it.
    #[error("length of the device: {0}")]
    Length(#[source] io::Error),
    /// The device has no room for the changes. Nothing was changed on it.
    #[error("device has no room for {bytes} bytes: {source}")]
    Room {
        /// The length that the device would have to have.
        bytes: u64,
        /// What the device answered.
        source: io::Error,
    },
    /// The journal was made for a device of another identity, or of another length.
    #[error("journal was made for another device, whose place this one has taken")]
    OtherDevice,
    /// The device holds something that the journal does not know: neither what was there before the change nor what it makes of it.
    /// It was written to since, or is another device. Nothing was changed on it.
    #[error(
        "the device was written to after the journal: the block at byte {offset} is neither the old nor the new one"
    )]
    OtherContent {
        /// Where the block begins, in bytes.
        offset: u64,
    },
    /// The journal is not what its header says.
    #[error("journal is damaged: {0}")]
    Damaged(&'static str),
}

impl JournalError {
    /// Whether the device is as it was when the journal was begun or found.
    #[must_use]
    pub fn device_untouched(&self) -> bool {
        !matches!(self, Self::Unfinished(_) | Self::Device(_))
    }
}
