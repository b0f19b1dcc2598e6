//! The names and UUIDs of device-mapper devices.
//!
//! A name goes three ways: the user's text, the kernel's, and the node below `/dev/mapper`. libdevmapper writes
//! each byte that udev would not take for itself as `\xNN`, in the kernel's name as in the node's; so does this,
//! or its devices could not be closed with other tools.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::options::KeyDescription;

/// Where the nodes of device-mapper devices lie.
pub(super) const NODE_DIRECTORY: &str = "/dev/mapper";

/// The name of a device-mapper device: 1 to 127 bytes as the kernel holds it, without `/`.
///
/// Letters, digits and `#+-.:=@_` stand for themselves; any other byte counts as four, `\xNN`. A name that has such
/// sequences already is taken as it is.
///
/// ```
/// use verity_core::device::DeviceName;
/// let name: DeviceName = "my layer".parse()?;
/// assert_eq!(name.to_string(), "my layer");
/// assert_eq!(name.kernel_name(), r"my\x20layer");
/// assert_eq!(name.node().to_str(), Some(r"/dev/mapper/my\x20layer"));
/// # Ok::<(), verity_core::device::NameError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeviceName {
    text: String,
    kernel: String,
}

impl DeviceName {
    /// The longest name in bytes, as the kernel holds it (`DM_NAME_LEN` less the NUL).
    pub const MAX_SIZE: usize = 127;

    /// The name as the kernel and `/dev/mapper` have it; ASCII.
    #[must_use]
    pub fn kernel_name(&self) -> &str {
        &self.kernel
    }

    /// The path of the device's node.
    #[must_use]
    pub fn node(&self) -> PathBuf {
        Path::new(NODE_DIRECTORY).join(&self.kernel)
    }

    /// Takes a name from the kernel, which may hold any that was made without libdevmapper.
    ///
    /// `None` for one that no text could name here, such as one with a space in it.
    pub(super) fn from_kernel(kernel: &str) -> Option<Self> {
        let plain = unmangle(kernel).filter(|text| !text.chars().any(char::is_control));
        let text = plain.filter(|text| mangle(text).is_ok_and(|again| again == kernel));
        let name: Self = text.as_deref().unwrap_or(kernel).parse().ok()?;
        (name.kernel == kernel).then_some(name)
    }

    /// The UUID that veritysetup gives a device: `CRYPT-VERITY-<uuid without dashes>-<name>`, or
    /// `CRYPT-VERITY-<name>` for a tree without superblock, cut off at 128 bytes.
    pub(crate) fn device_uuid(&self, uuid: Option<&[u8; 16]>) -> String {
        let mut text = UUID_PREFIX.to_owned();
        if let Some(uuid) = uuid {
            text.push_str(&hex::encode(uuid));
            text.push('-');
        }
        // The kernel's form of the name: libdevmapper mangles the UUID as it does the name.
        let room = UUID_MAX_SIZE - text.len();
        let mut name = self.kernel.as_str();
        if name.len() > room {
            name = &name[..room];
            // Half of a `\xNN` would be a backslash that udev's rules trip over.
            if let Some(start) = name.rfind('\\').filter(|start| start + 4 > room) {
                name = &name[..start];
            }
        }
        text.push_str(name);
        text
    }

    /// The description that veritysetup gives the key with a device's signature: `cryptsetup:<uuid>-<name>`, or
    /// `cryptsetup:<name>` for a tree without superblock. A backslash of the kernel's name would alter the table in
    /// which this stands, so `_` is there instead.
    pub(super) fn key_description(&self, uuid: Option<&[u8; 16]>) -> KeyDescription {
        let mut text = "cryptsetup:".to_owned();
        if let Some(uuid) = uuid {
            let digits = hex::encode(uuid);
            let parts = [0..8, 8..12, 12..16, 16..20, 20..32].map(|range| &digits[range]);
            text.push_str(&parts.join("-"));
            text.push('-');
        }
        text.push_str(&self.kernel.replace('\\', "_"));
        KeyDescription::of_name(text)
    }
}

/// How the UUID of every verity device begins that veritysetup or this project made.
pub(super) const UUID_PREFIX: &str = "CRYPT-VERITY-";

/// `DM_UUID_LEN` less the NUL.
const UUID_MAX_SIZE: usize = 128;

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

impl FromStr for DeviceName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "" => return Err(NameError::Empty),
            // Nodes below /dev/mapper that are something else.
            "." | ".." | "control" => return Err(NameError::Reserved(text.to_owned())),
            _ => {}
        }
        if let Some(character) = text.chars().find(|&character| character == '/' || character == '\0') {
            return Err(NameError::Character(character));
        }
        let kernel = mangle(text)?;
        if kernel.len() > Self::MAX_SIZE {
            return Err(NameError::TooLong { found: kernel.len() });
        }
        Ok(Self { text: text.to_owned(), kernel })
    }
}

/// The bytes that udev leaves as they are.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"#+-.:=@_".contains(&byte)
}

/// Writes every byte that udev would replace as `\xNN`, unless the name has that done already.
fn mangle(text: &str) -> Result<String, NameError> {
    let mut mangled = String::with_capacity(text.len());
    let (mut kept, mut replaced) = (false, false);
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        if let Some((sequence, tail)) = escape(rest) {
            kept = true;
            mangled.push_str(sequence);
            rest = tail;
            continue;
        }
        if is_plain(byte) {
            mangled.push(char::from(byte));
        } else {
            replaced = true;
            mangled.push_str(&format!("\\x{byte:02x}"));
        }
        rest = tail;
    }
    if kept && replaced { Err(NameError::Mixed) } else { Ok(mangled) }
}

/// A `\xNN` at the start of `bytes`, and what follows it.
fn escape(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let (sequence, tail) = bytes.split_at_checked(4)?;
    let valid = sequence.starts_with(b"\\x") && sequence[2..].iter().all(u8::is_ascii_hexdigit);
    if valid { Some((std::str::from_utf8(sequence).ok()?, tail)) } else { None }
}

/// The text that [`mangle`] makes `kernel` of, if there is one.
fn unmangle(kernel: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(kernel.len());
    let mut rest = kernel.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        if let Some((sequence, tail)) = escape(rest) {
            bytes.push(u8::from_str_radix(&sequence[2..], 16).ok()?);
            rest = tail;
        } else {
            bytes.push(byte);
            rest = tail;
        }
    }
    String::from_utf8(bytes).ok()
}

/// Text that no device can be named.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// No text.
    #[error("the device name is empty")]
    Empty,
    /// More bytes than the kernel holds.
    #[error(
        "the device name takes {found} bytes, at most 127 are possible (each character that is not a letter, a \
         digit or one of #+-.:=@_ takes four)"
    )]
    TooLong {
        /// How many bytes the kernel would have to hold.
        found: usize,
    },
    /// A character that cannot be part of a node's name.
    #[error("the device name contains {0:?}")]
    Character(char),
    /// The name of something else below `/dev/mapper`.
    #[error("the device name {0:?} is not available")]
    Reserved(String),
    /// Some characters are written as `\xNN`, others that have to be are not.
    #[error("the device name mixes \\xNN sequences with characters that would have to be written so")]
    Mixed,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn kernel(text: &str) -> String {
        text.parse::<DeviceName>().unwrap().kernel
    }

    #[test]
    fn names_are_mangled_as_libdevmapper_does() {
        assert_eq!(kernel("layer-1_a.b:c#d+e=f@g"), "layer-1_a.b:c#d+e=f@g");
        assert_eq!(kernel("a b"), r"a\x20b");
        assert_eq!(kernel("größe"), r"gr\xc3\xb6\xc3\x9fe");
        assert_eq!(kernel(r"a\x20b"), r"a\x20b");
        assert_eq!(kernel(r"a\b"), r"a\x5cb");
        assert_eq!(kernel("a\nb"), r"a\x0ab");
        assert_eq!(r"a\x20b c".parse::<DeviceName>(), Err(NameError::Mixed));
    }

    #[test]
    fn names_at_the_limit() {
        assert!("n".repeat(127).parse::<DeviceName>().is_ok());
        assert_eq!("n".repeat(128).parse::<DeviceName>(), Err(NameError::TooLong { found: 128 }));
        assert!(" ".repeat(31).parse::<DeviceName>().is_ok());
        assert_eq!(" ".repeat(32).parse::<DeviceName>(), Err(NameError::TooLong { found: 128 }));
    }

    #[test]
    fn names_that_are_none() {
        assert_eq!("".parse::<DeviceName>(), Err(NameError::Empty));
        for text in ["/", "a/b", "../control", "/dev/mapper/x"] {
            assert_eq!(text.parse::<DeviceName>(), Err(NameError::Character('/')), "{text}");
        }
        assert_eq!("a\0b".parse::<DeviceName>(), Err(NameError::Character('\0')));
        for text in [".", "..", "control"] {
            assert_eq!(text.parse::<DeviceName>(), Err(NameError::Reserved(text.to_owned())));
        }
        assert!("...".parse::<DeviceName>().is_ok());
    }

    #[test]
    fn the_kernels_names_are_shown_as_the_user_wrote_them() {
        let shown = |kernel: &str| DeviceName::from_kernel(kernel).map(|name| name.to_string());
        assert_eq!(shown(r"a\x20b").as_deref(), Some("a b"));
        assert_eq!(shown(r"gr\xc3\xb6\xc3\x9fe").as_deref(), Some("größe"));
        // Neither of these may reach a terminal as what it stands for.
        assert_eq!(shown(r"a\x1b[2J"), None);
        assert_eq!(shown(r"a\x1bb").as_deref(), Some(r"a\x1bb"));
        // Not UTF-8, an upper-case sequence: kept, so that the name still finds its device.
        assert_eq!(shown(r"a\xff").as_deref(), Some(r"a\xff"));
        assert_eq!(shown(r"a\x2Ab").as_deref(), Some(r"a\x2Ab"));
        // Made by another tool without mangling: no text of ours is this name for the kernel.
        assert_eq!(shown("a b"), None);
    }

    #[test]
    fn uuids_are_veritysetups() {
        let name: DeviceName = "root".parse().unwrap();
        let uuid = *b"\xa6\x0c\x98\xd2\x01\x23\x45\x67\x89\xab\xcd\xef\x01\x23\x45\x67";
        assert_eq!(name.device_uuid(Some(&uuid)), "CRYPT-VERITY-a60c98d20123456789abcdef01234567-root");
        assert_eq!(name.device_uuid(None), "CRYPT-VERITY-root");

        let long: DeviceName = "n".repeat(127).parse().unwrap();
        assert_eq!(long.device_uuid(Some(&uuid)).len(), 128);
        let mangled: DeviceName = format!("{}  ", "n".repeat(79)).parse().unwrap();
        let text = mangled.device_uuid(Some(&uuid));
        assert!(text.ends_with('n') && text.len() == 46 + 79, "{text}");
    }

    proptest! {
        #[test]
        fn any_name_is_plain_ascii_for_the_kernel_and_comes_back(text in "\\PC{1,40}") {
            if let Ok(name) = text.parse::<DeviceName>() {
                prop_assert!(name.kernel.len() <= DeviceName::MAX_SIZE);
                prop_assert!(name.kernel.bytes().all(|byte| is_plain(byte) || byte == b'\\'));
                prop_assert_eq!(DeviceName::from_kernel(&name.kernel).unwrap().kernel, name.kernel.clone());
                prop_assert!(name.device_uuid(Some(&[0; 16])).len() <= UUID_MAX_SIZE);
            }
        }
    }
}
