//! The optional words of a verity table.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::number::DeviceNumber;
use crate::fec::{LayoutError, Roots};

/// What the kernel does when a block does not match.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Corruption {
    /// The read fails with `EIO`.
    #[default]
    Fail,
    /// The read succeeds with the bad bytes; the kernel logs it, and the status becomes corrupted.
    Ignore,
    /// The machine restarts.
    Restart,
    /// The kernel panics.
    Panic,
}

impl Corruption {
    /// The word in the table, if it takes one.
    #[must_use]
    pub const fn word(self) -> Option<&'static str> {
        match self {
            Self::Fail => None,
            Self::Ignore => Some("ignore_corruption"),
            Self::Restart => Some("restart_on_corruption"),
            Self::Panic => Some("panic_on_corruption"),
        }
    }
}

/// What the kernel does when a device below fails to read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum OnError {
    /// The read fails.
    #[default]
    Fail,
    /// The machine restarts.
    Restart,
    /// The kernel panics.
    Panic,
}

impl OnError {
    /// The word in the table, if it takes one.
    #[must_use]
    pub const fn word(self) -> Option<&'static str> {
        match self {
            Self::Fail => None,
            Self::Restart => Some("restart_on_error"),
            Self::Panic => Some("panic_on_error"),
        }
    }
}

/// The options that name no device. Which kernel each needs, [`Feature`](super::Feature) knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableOptions {
    /// What a block that does not match does.
    pub corruption: Corruption,
    /// What a failed read of a device below does.
    pub on_error: OnError,
    /// Blocks whose digest is that of a block of zeros are not read: zeros are returned.
    pub ignore_zero_blocks: bool,
    /// Each data block is checked when it is first read, and then no more. It costs one bit of memory a block, and
    /// gives away the protection against a disk that changes while it is in use.
    pub check_at_most_once: bool,
    /// Blocks whose digests are cached are checked where their read ends, without a switch to a worker thread.
    pub try_verify_in_tasklet: bool,
    /// The key, in the keyring of the thread that activates, which holds the root hash's signature.
    pub signature_key: Option<KeyDescription>,
}

/// The description of a kernel key: 1 to 255 printable ASCII characters, without space and backslash, which would
/// end or alter a word of the table.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KeyDescription(String);

impl KeyDescription {
    /// The longest description, in bytes.
    pub const MAX_SIZE: usize = 255;

    /// A description made of a device's name, which is short and has none but fit characters.
    pub(super) fn of_name(text: String) -> Self {
        debug_assert!(word(&text, Self::MAX_SIZE).is_ok(), "{text:?}");
        Self(text)
    }

    /// The description.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyDescription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for KeyDescription {
    type Err = BadWord;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        word(text, Self::MAX_SIZE)?;
        Ok(Self(text.to_owned()))
    }
}

/// How a table names a device.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum DeviceRef {
    /// By number, as the kernel always prints it.
    Number(DeviceNumber),
    /// By a node's absolute path.
    Path(DevicePath),
}

impl From<DeviceNumber> for DeviceRef {
    fn from(number: DeviceNumber) -> Self {
        Self::Number(number)
    }
}

impl fmt::Display for DeviceRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Path(path) => path.0.display().fmt(f),
        }
    }
}

impl FromStr for DeviceRef {
    type Err = BadWord;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.starts_with('/') {
            return text.parse().map(Self::Path);
        }
        text.parse().map(Self::Number).map_err(|_| BadWord::Device(clip(text)))
    }
}

/// The absolute path of a device node, as a word of a table: printable ASCII without space and backslash.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DevicePath(PathBuf);

impl DevicePath {
    /// The path.
    #[must_use]
    pub fn as_path(&self) -> &Path {
        &self.0
    }
}

impl FromStr for DevicePath {
    type Err = BadWord;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const MAX_PATH: usize = 4095;
        if !text.starts_with('/') {
            return Err(BadWord::Device(clip(text)));
        }
        word(text, MAX_PATH)?;
        Ok(Self(text.into()))
    }
}

/// Where the parity for error correction lies. Blocks are data blocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fec<D> {
    /// The device that holds the parity: a [`DeviceRef`] in a table, a path in an
    /// [`Activation`](super::Activation).
    pub device: D,
    /// The parity's first block on its device.
    pub start_block: u64,
    /// How many blocks, data and tree and what lies between, the parity covers.
    pub blocks: u64,
    /// The strength of the code.
    pub roots: Roots,
}

/// Text that cannot stand as one word of a table.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadWord {
    /// Empty.
    #[error("it is empty")]
    Empty,
    /// Longer than a word may be.
    #[error("it has {found} bytes, at most {max} are allowed")]
    TooLong {
        /// Bytes given.
        found: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// A character that would end or alter the word.
    #[error("character {0:?} cannot stand in a table (printable ASCII, no space, no backslash)")]
    Character(char),
    /// Neither a device number nor an absolute path.
    #[error("{0:?} is neither a device number (major:minor) nor an absolute path")]
    Device(String),
    /// A number of parity bytes that there is not.
    #[error(transparent)]
    Roots(#[from] LayoutError),
}

fn word(text: &str, max: usize) -> Result<(), BadWord> {
    if text.is_empty() {
        return Err(BadWord::Empty);
    }
    if text.len() > max {
        return Err(BadWord::TooLong { found: text.len(), max });
    }
    match text.chars().find(|&character| !character.is_ascii_graphic() || character == '\\') {
        Some(character) => Err(BadWord::Character(character)),
        None => Ok(()),
    }
}

pub(super) fn clip(text: &str) -> String {
    text.chars().take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_description_cannot_break_out_of_its_word() {
        assert_eq!("verity:1a-2b".parse::<KeyDescription>().unwrap().as_str(), "verity:1a-2b");
        for text in ["a b", "a\tb", "a\nb", "a\\ b", "a\0b", "ä", "\x7f"] {
            assert!(matches!(text.parse::<KeyDescription>(), Err(BadWord::Character(_))), "{text:?}");
        }
        assert_eq!("".parse::<KeyDescription>(), Err(BadWord::Empty));
        assert!("k".repeat(255).parse::<KeyDescription>().is_ok());
        assert!(matches!(
            "k".repeat(256).parse::<KeyDescription>(),
            Err(BadWord::TooLong { found: 256, max: 255 })
        ));
    }

    #[test]
    fn a_device_is_a_number_or_an_absolute_path() {
        assert!(matches!("7:0".parse(), Ok(DeviceRef::Number(_))));
        assert!(matches!("/dev/mapper/a\\x20b".parse::<DeviceRef>(), Err(BadWord::Character('\\'))));
        assert!(matches!("/dev/vda".parse(), Ok(DeviceRef::Path(_))));
        for text in ["vda", "dev/vda", "7", "7:", ""] {
            assert!(matches!(text.parse::<DeviceRef>(), Err(BadWord::Device(_))), "{text:?}");
        }
    }
}
