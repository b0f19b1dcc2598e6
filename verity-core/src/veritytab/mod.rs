//! `veritytab`: the file in which a system lists the verity devices that it activates when it starts.
//!
//! One device a line, in fields that blanks separate:
//!
//! ```text
//! # name  data device     hash device     root hash   options
//! usr     PARTUUID=783e…  PARTUUID=21dc…  36e3f740…   ignore-zero-blocks,nofail
//! data    /srv/data.img   /srv/data.hash  a5ee4b42…   root-hash-signature=/srv/data.p7s
//! ```
//!
//! Source: veritytab(5) of systemd 257. There, an option that is unknown or malformed is logged and ignored; here it is an
//! error, since it may be one that protects.

mod device;
mod options;

use std::fmt;

pub use device::{DeviceSpec, DeviceSpecError};
pub use options::{Fec, SignatureSource, TreeOptions};

use crate::algorithm::MAX_DIGEST_SIZE;
use crate::device::{DeviceName, TableOptions};

/// One device of a veritytab.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The line that it is on, counted from 1.
    pub line: usize,
    /// The device's name.
    pub name: DeviceName,
    /// Where the data is.
    pub data: DeviceSpec,
    /// Where the tree is.
    pub hash: DeviceSpec,
    /// The root hash as hexadecimal text. Whether it is a digest of the tree's algorithm, the superblock decides.
    pub root_hash: String,
    /// What is said of the tree.
    pub tree: TreeOptions,
    /// Where parity is (`fec-device=`, `fec-offset=`, `fec-roots=`).
    pub fec: Option<Fec>,
    /// The kernel's options.
    pub table: TableOptions,
    /// Where the root hash's signature is (`root-hash-signature=`).
    pub signature: Option<SignatureSource>,
    /// Whether it is activated when the system starts: not with `noauto`.
    pub automatic: bool,
    /// Whether the system's start fails without it: not with `nofail`.
    pub required: bool,
    /// Whether it needs a network (`_netdev`).
    pub network: bool,
    /// Whether the initial RAM disk activates it, and deactivates it after the root file system is unmounted
    /// (`x-initrd.attach`).
    pub initrd: bool,
}

/// Reads a veritytab: for each line that is neither empty nor a comment an entry, or what is wrong with it. A name that
/// an earlier line has is an error of the later one.
///
/// ```
/// use verity_core::veritytab::parse;
/// let text = "usr /dev/sda2 /dev/sda3 d5a0 nofail\n# a comment\nbroken /dev/sda4 sda5 d5a0 -\n";
/// let entries = parse(text);
/// let usr = entries[0].as_ref().unwrap();
/// assert!(usr.name.to_string() == "usr" && !usr.required);
/// let error = entries[1].as_ref().unwrap_err();
/// assert!(error.to_string().starts_with("line 3: hash device \"sda5\": "));
/// ```
#[must_use]
pub fn parse(text: &str) -> Vec<Result<Entry, VeritytabError>> {
    let mut entries: Vec<Result<Entry, VeritytabError>> = Vec::new();
    let mut names = std::collections::HashMap::new();
    for (line, text) in (1..).zip(text.lines()) {
        let text = text.trim_ascii();
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        let entry = entry(line, text).and_then(|entry| match names.insert(entry.name.clone(), line) {
            None => Ok(entry),
            Some(other) => Err(Problem::SameName { name: entry.name.to_string(), line: other }),
        });
        entries.push(entry.map_err(|problem| VeritytabError { line, problem }));
    }
    entries
}

fn entry(line: usize, text: &str) -> Result<Entry, Problem> {
    let mut words = text.split_ascii_whitespace();
    let mut field = |name| words.next().ok_or(Problem::Missing(name));
    let name = value("volume name", field("volume name")?)?;
    let data = value("data device", field("data device")?)?;
    let hash = value("hash device", field("hash device")?)?;
    let root_hash = field("root hash")?;
    check_root_hash(root_hash).map_err(|source| Problem::value("root hash", root_hash, source))?;
    let options = words.next().unwrap_or("-");
    if let Some(surplus) = words.next() {
        return Err(Problem::Surplus(clip(surplus)));
    }
    let mut entry = Entry {
        line,
        name,
        data,
        hash,
        root_hash: root_hash.to_owned(),
        tree: TreeOptions::default(),
        fec: None,
        table: TableOptions::default(),
        signature: None,
        automatic: true,
        required: true,
        network: false,
        initrd: false,
    };
    if options != "-" {
        options::parse(options, &mut entry)?;
    }
    Ok(entry)
}

fn check_root_hash(text: &str) -> Result<(), RootHashError> {
    if text == "-" {
        return Err(RootHashError::FromUdev);
    }
    if !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(RootHashError::NotHexadecimal);
    }
    if !text.len().is_multiple_of(2) || text.len() > 2 * MAX_DIGEST_SIZE {
        Err(RootHashError::Length(text.len()))
    } else {
        Ok(())
    }
}

/// What is no root hash.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum RootHashError {
    #[error("it is not taken from udev here")]
    FromUdev,
    #[error("it is not hexadecimal")]
    NotHexadecimal,
    #[error("{0} digits are no digest's")]
    Length(usize),
}

type Source = Box<dyn std::error::Error + Send + Sync>;

/// Parses the text of a field or an option.
fn value<T: std::str::FromStr<Err: Into<Source>>>(field: &'static str, text: &str) -> Result<T, Problem> {
    text.parse().map_err(|error| Problem::value(field, text, error))
}

/// A line of a veritytab that means nothing, or something that cannot be done.
#[derive(Debug, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct VeritytabError {
    /// The line, counted from 1.
    pub line: usize,
    /// What is wrong with it.
    #[source]
    pub problem: Problem,
}

/// What can be wrong with a line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// The line ends before this field.
    #[error("{0} is missing (name, data device, hash device, root hash, options)")]
    Missing(&'static str),
    /// More than five fields.
    #[error("{0:?} is one field too many (name, data device, hash device, root hash, options)")]
    Surplus(String),
    /// A field or an option whose value cannot be.
    #[error("{field} {text:?}: {source}")]
    Value {
        /// The field, or the option with its `=`.
        field: &'static str,
        /// What it holds (at most 64 characters of it).
        text: String,
        /// Why that cannot be.
        source: Source,
    },
    /// An option that this version does not know. It may be one that protects.
    #[error("option {0:?} is unknown")]
    UnknownOption(String),
    /// An option that needs a value, without one.
    #[error("option {0} has no value")]
    NoValue(&'static str),
    /// An option that takes no value, with one.
    #[error("option {0} takes no value")]
    SurplusValue(&'static str),
    /// An option twice.
    #[error("option {0} is given twice")]
    Twice(&'static str),
    /// Options that contradict each other.
    #[error("options {0} and {1} exclude each other")]
    Conflict(&'static str, &'static str),
    /// An option that says something only together with another one.
    #[error("option {0} says nothing without {1}")]
    Alone(&'static str, &'static str),
    /// A name that an earlier line has.
    #[error("volume name {name:?} is that of line {line}, too")]
    SameName {
        /// The name.
        name: String,
        /// The earlier line.
        line: usize,
    },
}

impl Problem {
    fn value(field: &'static str, text: &str, source: impl Into<Source>) -> Self {
        Self::Value { field, text: clip(text), source: source.into() }
    }
}

fn clip(text: &str) -> String {
    text.chars().take(64).collect()
}

/// How an entry is named in messages.
impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {} ({})", self.line, self.name)
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
