//! What layouts in directories and in archives have in common: two documents, and blobs by digest.
//!
//! Source: "OCI Image Layout Specification", 1.0 and 1.1.

use serde::Deserialize;

use super::descriptor::Descriptor;
use super::document;
use super::error::{Error, clip};
use super::media;
use super::name::Reference;
use crate::layer::Digest;

/// The file that says that a directory is a layout.
pub(super) const MARKER: &str = "oci-layout";
/// The file that lists what is in it.
pub(super) const INDEX: &str = "index.json";
/// The name that a layout gives an image.
pub(super) const NAME: &str = "org.opencontainers.image.ref.name";
/// The most bytes that the marker may have.
pub(super) const MARKER_MAX: u64 = 4096;

/// How many names an error tells.
const KNOWN_MAX: usize = 20;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Marker {
    image_layout_version: String,
}

/// Where a blob lies, from the layout's directory on.
pub(super) fn blob_name(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm(), hex::encode(digest.as_bytes()))
}

/// Checks the marker of a layout.
pub(super) fn check_marker(bytes: &[u8]) -> Result<(), String> {
    let marker: Marker =
        document::parse(MARKER, bytes, &["imageLayoutVersion"]).map_err(|error| error.to_string())?;
    match marker.image_layout_version.as_str() {
        "1.0.0" => Ok(()),
        other => Err(format!("{MARKER} says version {:?}, and only 1.0.0 is known", clip(other))),
    }
}

/// A document of an index that has no descriptor: it is the one that leads to all others.
#[derive(Debug)]
pub(super) struct TopIndex {
    descriptor: Descriptor,
    bytes: Vec<u8>,
    entries: Vec<Descriptor>,
}

impl TopIndex {
    /// Reads it; `place` is for messages.
    pub(super) fn parse(place: &str, bytes: Vec<u8>) -> Result<Self, Error> {
        let index = document::index(&format!("{INDEX} of {place}"), &bytes)?;
        let entries = index.manifests().iter().map(Descriptor::try_from).collect::<Result<_, _>>()?;
        Ok(Self::new(bytes, entries))
    }

    /// One whose entries are known.
    pub(super) fn new(bytes: Vec<u8>, entries: Vec<Descriptor>) -> Self {
        let descriptor = Descriptor::new(media::INDEX, Digest::sha256(&bytes), bytes.len() as u64);
        Self { descriptor, bytes, entries }
    }

    /// Its bytes, if it is what is asked for.
    pub(super) fn document(&self, descriptor: &Descriptor) -> Option<&[u8]> {
        self.is(descriptor).then_some(&*self.bytes)
    }

    /// Whether a descriptor is this index's.
    pub(super) fn is(&self, descriptor: &Descriptor) -> bool {
        descriptor.digest == self.descriptor.digest
    }

    /// What is meant: the image of that name, or the only one, or this index itself.
    pub(super) fn select(&self, reference: Option<&Reference>, place: &str) -> Result<Descriptor, Error> {
        let Some(reference) = reference else {
            return match &self.entries[..] {
                [] => Err(Error::NoImage { place: place.to_owned() }),
                [only] => Ok(only.clone()),
                _ => Ok(self.descriptor.clone()),
            };
        };
        let name = |entry: &Descriptor| entry.annotations.get(NAME).cloned();
        let found: Vec<_> = match reference {
            Reference::Index(number) => self.entries.get(*number).into_iter().collect(),
            Reference::Digest(digest) => {
                let mut found: Vec<_> = self.entries.iter().filter(|entry| entry.digest == *digest).collect();
                // One image may have several names.
                found.truncate(1);
                found
            }
            Reference::Name(wanted) => {
                self.entries.iter().filter(|entry| name(entry).as_ref() == Some(wanted)).collect()
            }
        };
        match &found[..] {
            [one] => Ok((*one).clone()),
            [first, rest @ ..] if rest.iter().all(|entry| entry.digest == first.digest) => {
                Ok((*first).clone())
            }
            [] => Err(Error::NoReference {
                reference: reference.to_string(),
                place: place.to_owned(),
                known: self.entries.iter().filter_map(name).take(KNOWN_MAX).map(|name| clip(&name)).collect(),
            }),
            _ => Err(Error::Ambiguous { reference: reference.to_string(), place: place.to_owned() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(entries: &[(&str, u8)]) -> TopIndex {
        let entry = |(name, digit): &(&str, u8)| {
            format!(
                r#"{{"mediaType":"application/vnd.oci.image.manifest.v1+json","size":2,"digest":"sha256:{}","annotations":{{"{NAME}":"{name}"}}}}"#,
                digit.to_string().repeat(64)
            )
        };
        let entries: Vec<_> = entries.iter().map(entry).collect();
        let text = format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, entries.join(","));
        TopIndex::parse("here", text.into_bytes()).unwrap()
    }

    fn select(index: &TopIndex, reference: &Reference) -> Result<String, Error> {
        index.select(Some(reference), "here").map(|found| found.digest.to_string()[7..8].to_owned())
    }

    #[test]
    fn images_are_selected_by_name_digest_and_place() {
        let index = index(&[("a", 1), ("b", 2), ("again", 1)]);
        let name = |name: &str| Reference::Name(name.to_owned());
        assert_eq!(select(&index, &name("b")).unwrap(), "2");
        assert_eq!(select(&index, &Reference::Index(2)).unwrap(), "1");
        let digest = format!("sha256:{}", "1".repeat(64)).parse().unwrap();
        assert_eq!(select(&index, &Reference::Digest(digest)).unwrap(), "1");
        let missing = select(&index, &name("c")).unwrap_err();
        assert_eq!(missing.to_string(), r#"there is no image "c" in here; there are: "a", "b", "again""#);
        assert!(matches!(select(&index, &Reference::Index(3)), Err(Error::NoReference { .. })));
    }

    #[test]
    fn a_name_for_two_images_says_neither() {
        let name = || Reference::Name("a".to_owned());
        assert!(matches!(select(&index(&[("a", 1), ("a", 2)]), &name()), Err(Error::Ambiguous { .. })));
        assert_eq!(select(&index(&[("a", 1), ("a", 1)]), &name()).unwrap(), "1");
    }

    #[test]
    fn without_a_name_it_is_the_only_one_or_all() {
        let one = index(&[("a", 1)]);
        assert_eq!(one.select(None, "here").unwrap().annotations[NAME], "a");
        let two = index(&[("a", 1), ("b", 2)]);
        let root = two.select(None, "here").unwrap();
        assert!(two.document(&root).is_some());
        assert!(matches!(index(&[]).select(None, "here"), Err(Error::NoImage { .. })));
        // As umoci writes it.
        let none = TopIndex::parse("here", br#"{"schemaVersion":2,"manifests":null}"#.to_vec()).unwrap();
        assert!(matches!(none.select(None, "here"), Err(Error::NoImage { .. })));
    }

    #[test]
    fn only_the_known_version_is_read() {
        assert_eq!(check_marker(br#"{"imageLayoutVersion":"1.0.0"}"#), Ok(()));
        for text in ["", "{}", r#"{"imageLayoutVersion":"2.0.0"}"#, r#"{"imageLayoutVersion":1}"#] {
            assert!(check_marker(text.as_bytes()).is_err(), "{text}");
        }
    }
}
