//! Devices as a veritytab names them.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// A device or file: by its path, or by what udev knows of it.
///
/// ```
/// use verity_core::veritytab::DeviceSpec;
/// let spec: DeviceSpec = "LABEL=my/data".parse()?;
/// assert_eq!(spec.path().to_str(), Some(r"/dev/disk/by-label/my\x2fdata"));
/// assert!("data.img".parse::<DeviceSpec>().is_err());
/// # Ok::<(), verity_core::veritytab::DeviceSpecError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceSpec {
    text: String,
    path: PathBuf,
}

/// What a device can be found by, and the folder below `/dev/disk` in which udev keeps its links.
const TAGS: [(&str, &str); 4] = [
    ("UUID=", "by-uuid"),
    ("PARTUUID=", "by-partuuid"),
    ("LABEL=", "by-label"),
    ("PARTLABEL=", "by-partlabel"),
];

impl DeviceSpec {
    /// Its path; udev's link for one that is not named by a path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl fmt::Display for DeviceSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

impl FromStr for DeviceSpec {
    type Err = DeviceSpecError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.contains('\0') {
            return Err(DeviceSpecError::Nul);
        }
        let path = if text.starts_with('/') {
            PathBuf::from(text)
        } else {
            let mut known =
                TAGS.into_iter().filter_map(|(tag, folder)| Some((tag, folder, text.strip_prefix(tag)?)));
            let (tag, folder, value) = known.next().ok_or(DeviceSpecError::Unknown)?;
            if value.is_empty() {
                return Err(DeviceSpecError::Empty(tag));
            }
            // udev writes UUIDs in lower case, whichever was meant.
            let value = if tag.ends_with("UUID=") { value.to_ascii_lowercase() } else { value.to_owned() };
            PathBuf::from(format!("/dev/disk/{folder}/{}", link_name(&value)))
        };
        Ok(Self { text: text.to_owned(), path })
    }
}

/// How udev names a link: every byte of ASCII but letters, digits and `#+-.:=@_` becomes `\xNN`.
fn link_name(value: &str) -> String {
    let mut name = String::with_capacity(value.len());
    for character in value.chars() {
        if !character.is_ascii() || character.is_ascii_alphanumeric() || "#+-.:=@_".contains(character) {
            name.push(character);
        } else {
            name.push_str(&format!("\\x{:02x}", u32::from(character)));
        }
    }
    name
}

/// What names no device.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceSpecError {
    /// Neither a path nor something that udev knows devices by.
    #[error("neither an absolute path nor UUID=, PARTUUID=, LABEL= or PARTLABEL=")]
    Unknown,
    /// Nothing behind the `=`.
    #[error("nothing follows {0}")]
    Empty(&'static str),
    /// A byte that no path holds.
    #[error("it holds a NUL byte")]
    Nul,
}
