//! stacker: the root hash is an annotation of the layer's descriptor; the blob is the image with superblock and tree appended.
//!
//! Source: `VerityRootHashAnnotation` in `pkg/squashfs/verity.go` of stacker, and in `pkg/molecule` of its successor for mounting, atomfs.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{Error, json, sha256_root};
use crate::block::RootHash;

const WHAT: &str = "stacker's annotations";

/// The annotation of stacker, over squashfs.
pub const SQUASHFS: &str = "io.stackeroci.stacker.squashfs_verity_root_hash";

/// The annotation of later versions, over any file system.
pub const ATOMFS: &str = "io.stackeroci.stacker.atomfs_verity_root_hash";

/// Annotations of a layer that has a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Annotations {
    /// The root hash.
    pub root: RootHash,
    /// Which of the two names it is given by.
    pub name: Name,
}

/// The name of the annotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name {
    /// [`SQUASHFS`].
    Squashfs,
    /// [`ATOMFS`].
    Atomfs,
}

impl Name {
    /// The annotation's key.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::Squashfs => SQUASHFS,
            Self::Atomfs => ATOMFS,
        }
    }
}

/// A descriptor, or the annotations alone.
#[derive(Deserialize)]
#[serde(untagged)]
enum Document {
    Descriptor { annotations: BTreeMap<String, String> },
    Annotations(BTreeMap<String, String>),
}

impl Annotations {
    /// Reads a JSON object of annotations, or a descriptor that has some. Annotations of other meaning are left alone.
    ///
    /// # Errors
    /// [`Error::Absent`] without the annotation; [`Error::Field`] where it is no root hash of SHA-256.
    pub fn parse(text: &[u8]) -> Result<Self, Error> {
        let annotations = match json::parse(WHAT, text)? {
            Document::Descriptor { annotations } | Document::Annotations(annotations) => annotations,
        };
        Self::of(&annotations)
    }

    /// Takes them from among others.
    ///
    /// # Errors
    /// As [`parse`](Self::parse), and [`Error::Contradiction`] where both names are there with different root hashes.
    pub fn of(annotations: &BTreeMap<String, String>) -> Result<Self, Error> {
        let read = |name: Name| {
            let root = annotations.get(name.key()).map(|text| sha256_root(WHAT, name.key(), text));
            root.transpose().map(|root| root.map(|root| Self { root, name }))
        };
        match (read(Name::Squashfs)?, read(Name::Atomfs)?) {
            (Some(one), Some(other)) if one.root != other.root => {
                let problem = format!("{SQUASHFS} is {}, but {ATOMFS} is {}", one.root, other.root);
                Err(Error::Contradiction { what: WHAT, problem })
            }
            (_, Some(found)) | (Some(found), None) => Ok(found),
            (None, None) => {
                Err(Error::Absent { what: WHAT, why: "none of them is a root hash (*_verity_root_hash)" })
            }
        }
    }

    /// The annotations as a JSON object.
    ///
    /// # Errors
    /// [`Error::Json`], which annotations give no occasion for.
    pub fn encode(&self) -> Result<String, Error> {
        json::pretty(WHAT, &BTreeMap::from([(self.name.key(), self.root.to_string())]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: &str = "4a3cd3b63a53b1c1ce5f4c3a4d1c1bd8e5c9f4a3b0c72a0dd7e2f8d1e1e8b7f6";

    #[test]
    fn a_descriptor_and_bare_annotations_are_read() {
        let layer = format!(
            r#"{{"mediaType":"application/vnd.stacker.image.layer.squashfs+zstd+verity","digest":"sha256:00","size":1,
                "annotations":{{"{SQUASHFS}":"{ROOT}","org.example":"kept out"}}}}"#
        );
        let found = Annotations::parse(layer.as_bytes()).unwrap();
        assert_eq!((found.root.to_string().as_str(), found.name), (ROOT, Name::Squashfs));
        let text = Annotations { name: Name::Atomfs, ..found }.encode().unwrap();
        assert_eq!(text, format!("{{\n  \"{ATOMFS}\": \"{ROOT}\"\n}}\n"));
        assert_eq!(Annotations::parse(text.as_bytes()).unwrap().name, Name::Atomfs);
    }

    #[test]
    fn contradictions_and_nothing_are_refused() {
        let other = ROOT.replace("4a3c", "0000");
        let both = format!(r#"{{"{SQUASHFS}":"{ROOT}","{ATOMFS}":"{other}"}}"#);
        assert!(matches!(Annotations::parse(both.as_bytes()), Err(Error::Contradiction { .. })));
        assert!(matches!(Annotations::parse(b"{}"), Err(Error::Absent { .. })));
        assert!(Annotations::parse(format!(r#"{{"{ATOMFS}":"12"}}"#).as_bytes()).is_err());
        assert!(Annotations::parse(b"[]").is_err());
    }
}
