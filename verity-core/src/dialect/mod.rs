//! How other projects write down that an image has a hash tree: one file for each dialect, read and written.
//!
//! A description says where a tree lies and what its root hash is. It comes from whoever made the layer, and is as
//! trustworthy as the way it came by: the parsers here check that it is well formed, and only a verification against a root
//! hash from elsewhere says more. All sizes are bounded before anything is allocated, and unknown fields of the small formats are
//! errors: what is not understood is not skipped.
//!
//! | dialect | where | tree |
//! |---|---|---|
//! | [`Dialect::Plain`] | nothing but the blob: image, superblock, tree | any |
//! | [`containerd`] | a JSON file beside the blob | SHA-256, 32 zero bytes of salt |
//! | [`vhd`] | a footer behind the tree | SHA-256, 32 zero bytes of salt |
//! | [`nydus`] | a line of text, or a label | SHA-256, no superblock, no salt |
//! | [`kata`] | a mount option: JSON in base64 | no superblock, no salt |
//! | [`stacker`] | annotations of a layer | SHA-256 |
//! | [`notary`] | a manifest that refers to an image: two schemas | SHA-256 |
//! | [`systemd`] | files beside the image | any |
//! | [`ddi`] | partitions of a disk image | digests of 32 bytes |

pub mod containerd;
pub mod ddi;
pub mod find;
mod json;
pub mod kata;
pub mod notary;
pub mod nydus;
pub mod stacker;
pub mod systemd;
pub mod vhd;

use std::fmt;
use std::io;
use std::str::FromStr;

use crate::algorithm::Algorithm;
use crate::block::{BlockError, RootHash};

/// A way to write down that an image has a hash tree.
///
/// ```
/// use verity_core::dialect::Dialect;
/// assert_eq!("containerd".parse(), Ok(Dialect::Containerd));
/// assert!("podman".parse::<Dialect>().is_err());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Dialect {
    /// Image, superblock and tree in one file, and nothing else.
    Plain,
    /// containerd's EROFS snapshotter: a JSON file beside the blob.
    Containerd,
    /// A fixed VHD: a footer behind the tree.
    Vhd,
    /// nydus: no superblock, no salt, the options as a line of text.
    Nydus,
    /// Kata Containers: a volume as JSON.
    Kata,
    /// stacker: annotations of the layer.
    Stacker,
    /// The Notary proposal: a manifest with a signature for each layer.
    Notation,
    /// containerd's later schema: a manifest with metadata, tree and signature for each layer.
    Bundle,
    /// systemd: `.verity`, `.roothash` and `.roothash.p7s` beside the image.
    Systemd,
    /// A discoverable disk image: partitions for data, tree and signature.
    Ddi,
}

impl Dialect {
    /// Every dialect, in the order in which help texts list them.
    pub const ALL: [Self; 10] = [
        Self::Plain,
        Self::Containerd,
        Self::Vhd,
        Self::Nydus,
        Self::Kata,
        Self::Stacker,
        Self::Notation,
        Self::Bundle,
        Self::Systemd,
        Self::Ddi,
    ];

    /// The name on command lines and in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Containerd => "containerd",
            Self::Vhd => "vhd",
            Self::Nydus => "nydus",
            Self::Kata => "kata",
            Self::Stacker => "stacker",
            Self::Notation => "notation",
            Self::Bundle => "bundle",
            Self::Systemd => "systemd",
            Self::Ddi => "ddi",
        }
    }
}

impl fmt::Display for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Dialect {
    type Err = UnknownDialect;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|dialect| dialect.name() == text).ok_or(UnknownDialect)
    }
}

/// A name that no dialect has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a dialect ({})", Dialect::ALL.map(Dialect::name).join(", "))]
pub struct UnknownDialect;

/// Why a description cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// More bytes than any sound description has.
    #[error("{what}: {found} bytes are too many (at most {most})")]
    TooLarge {
        /// Which description.
        what: &'static str,
        /// Bytes that there are.
        found: u64,
        /// Bytes that there may be.
        most: u64,
    },
    /// No JSON, or not with the fields of this description.
    #[error("{what}: {}", shortened(source))]
    Json {
        /// Which description.
        what: &'static str,
        /// What is wrong, and where.
        source: serde_json::Error,
    },
    /// A field that is missing.
    #[error("{what}: {field} is missing")]
    Missing {
        /// Which description.
        what: &'static str,
        /// The field.
        field: &'static str,
    },
    /// A field that says what cannot be.
    #[error("{what}: {field}: {problem}")]
    Field {
        /// Which description.
        what: &'static str,
        /// The field.
        field: &'static str,
        /// What it says, and what it may say.
        problem: String,
    },
    /// Two statements that exclude each other.
    #[error("{what}: {problem}")]
    Contradiction {
        /// Which description.
        what: &'static str,
        /// The two statements.
        problem: String,
    },
    /// Nothing of this dialect is there.
    #[error("{what}: {why}")]
    Absent {
        /// Which description.
        what: &'static str,
        /// What was looked for.
        why: &'static str,
    },
    /// What holds the description cannot be read or written.
    #[error("{what}: {source}")]
    Io {
        /// Which description.
        what: &'static str,
        /// What the system answered.
        source: io::Error,
    },
}

/// What serde says, without all of a name that has no end, and with nothing in it that a terminal obeys.
fn shortened(error: &serde_json::Error) -> String {
    let text: String = error.to_string().chars().map(printable).collect();
    match text.char_indices().nth(300) {
        None => text,
        Some((end, _)) => format!("{}... (line {}, column {})", &text[..end], error.line(), error.column()),
    }
}

/// A character as it can be shown: quotes stay, whatever controls a terminal or the direction of a text is escaped.
fn printable(character: char) -> String {
    match character {
        '"' | '\'' | '\\' => character.to_string(),
        other => other.escape_debug().to_string(),
    }
}

/// An error about a field.
fn field(what: &'static str, field: &'static str, problem: impl fmt::Display) -> Error {
    Error::Field { what, field, problem: problem.to_string() }
}

/// A text as far as an error message shows it.
fn clip(text: &str) -> String {
    let most = 80;
    match text.char_indices().nth(most) {
        None => format!("{text:?}"),
        Some((end, _)) => format!("{:?}...", &text[..end]),
    }
}

/// The root hash of a dialect that knows no algorithm but SHA-256.
fn sha256_root(what: &'static str, name: &'static str, text: &str) -> Result<RootHash, Error> {
    root_hash(what, name, Algorithm::Sha256, text)
}

fn root_hash(
    what: &'static str,
    name: &'static str,
    algorithm: Algorithm,
    text: &str,
) -> Result<RootHash, Error> {
    RootHash::from_hex(algorithm, text).map_err(|error| match error {
        BlockError::Hex { .. } => field(what, name, format_args!("{} is not hexadecimal", clip(text))),
        error => field(what, name, error),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_fields_cannot_speak_to_a_terminal() {
        let text = format!(r#"{{"\u001b]0;title\u0007\u009b2J\u202e\n{}":1}}"#, "\u{1b}[2J".repeat(200));
        for text in [text.as_str(), r#"{"\u001b[31m\r":1}"#, r#"{"\u009b":1}"#] {
            let escaped = text.replace('\u{1b}', "\\u001b");
            let error = containerd::Sidecar::parse(escaped.as_bytes()).unwrap_err().to_string();
            assert!(error.contains("unknown field"), "{error}");
            assert!(!error.chars().any(|it| it.is_control() || it == '\u{202e}'), "{error:?}");
            assert!(error.contains(r"\u{1b}") || error.contains(r"\u{9b}"), "{error}");
            assert!(error.chars().count() < 500, "{error}");
        }
    }
}
