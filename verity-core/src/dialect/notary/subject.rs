//! The image that signatures are about: its manifest, which a signature manifest names as its subject.

use std::fmt::Write as _;

use serde::Deserialize;
use serde::de::IgnoredAny;
use sha2::{Digest, Sha256};

use super::{Descriptor, Error, MANIFEST, check_digest};
use crate::dialect::{clip, field, json};

const WHAT: &str = "image manifest";
/// What images have had before OCI, and in registries still have.
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// Registries take no larger manifests.
const MOST_BYTES: u64 = 4 << 20;

/// An image's manifest, as far as signatures over its layers speak of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// How a signature manifest refers to it.
    pub descriptor: Descriptor,
    /// The digests of its layers, in order.
    pub layers: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    schema_version: u32,
    media_type: Option<String>,
    /// Only an index has these.
    manifests: Option<IgnoredAny>,
    layers: Option<Vec<Layer>>,
}

#[derive(Deserialize)]
struct Layer {
    digest: String,
}

impl Subject {
    /// Reads the manifest of an image, of OCI's or Docker's form. Its digest is that of all these bytes.
    ///
    /// ```
    /// use verity_core::dialect::notary::Subject;
    /// let digest = format!("sha256:{}", "5".repeat(64));
    /// let text = format!(r#"{{"schemaVersion": 2, "config": {{}}, "layers": [{{"digest": "{digest}"}}]}}"#);
    /// let subject = Subject::parse(text.as_bytes())?;
    /// subject.check_layer(&digest)?;
    /// assert_eq!(subject.descriptor.size, text.len() as u64);
    /// # Ok::<(), verity_core::dialect::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Absent`] for an index of several images; [`Error::Json`], [`Error::Field`], [`Error::Missing`] for what is no manifest.
    pub fn parse(text: &[u8]) -> Result<Self, Error> {
        let document: Document = json::parse(WHAT, text)?;
        if document.manifests.is_some() {
            let why = "it is an index of several; the manifest of one of them is needed";
            return Err(Error::Absent { what: WHAT, why });
        }
        if document.schema_version != 2 {
            let problem = format_args!("{} is not 2", document.schema_version);
            return Err(field(WHAT, "schemaVersion", problem));
        }
        // OCI's may leave it out.
        let media_type = document.media_type.as_deref().unwrap_or(MANIFEST);
        check_media_type(WHAT, "mediaType", media_type)?;
        let layers = document.layers.ok_or(Error::Missing { what: WHAT, field: "layers" })?;
        let layers: Vec<_> = layers.into_iter().map(|layer| layer.digest).collect();
        layers.iter().try_for_each(|digest| check_digest("layers", digest))?;
        let mut digest = "sha256:".to_owned();
        for byte in Sha256::digest(text) {
            let _ = write!(digest, "{byte:02x}");
        }
        let descriptor = Descriptor::new(media_type, &digest, text.len() as u64)?;
        Ok(Self { descriptor, layers })
    }

    /// Checks that the image has a layer of that digest.
    ///
    /// # Errors
    /// [`Error::Field`].
    pub fn check_layer(&self, digest: &str) -> Result<(), Error> {
        if self.layers.iter().any(|layer| layer == digest) {
            return Ok(());
        }
        let count = self.layers.len();
        Err(field(WHAT, "layers", format_args!("none of its {count} layers is {}", clip(digest))))
    }
}

/// Checks what a signature manifest says of its subject.
pub(super) fn check(subject: &Descriptor) -> Result<(), Error> {
    check_media_type(super::WHAT, "subject", &subject.media_type)?;
    check_digest("subject", &subject.digest)?;
    if !(1..=MOST_BYTES).contains(&subject.size) {
        let problem = format_args!("a size of {} bytes; manifests have 1 to {MOST_BYTES}", subject.size);
        return Err(field(super::WHAT, "subject", problem));
    }
    Ok(())
}

fn check_media_type(what: &'static str, name: &'static str, media_type: &str) -> Result<(), Error> {
    if matches!(media_type, MANIFEST | DOCKER_MANIFEST) {
        return Ok(());
    }
    Err(field(what, name, format_args!("{} is not the manifest of an image", clip(media_type))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(digit: &str) -> String {
        format!(
            r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","config":{{}},"layers":[{{"digest":"sha256:{}","size":7}}]}}"#,
            digit.repeat(64)
        )
    }

    #[test]
    fn a_manifest_names_its_layers_and_has_its_digest() {
        let text = manifest("5");
        let subject = Subject::parse(text.as_bytes()).unwrap();
        assert_eq!(subject.layers, [format!("sha256:{}", "5".repeat(64))]);
        // As sha256sum has it.
        let known = "sha256:16b6600178d18499ee94ede67fed3e3bfb33dffc5544829b5aa2071d0e899be2";
        assert_eq!(subject.descriptor, Descriptor::subject(known, text.len() as u64).unwrap());
        subject.check_layer(&subject.layers[0]).unwrap();
        let error = subject.check_layer("sha256:66").unwrap_err().to_string();
        assert!(error.contains("none of its 1 layers is \"sha256:66\""), "{error}");
        let docker = Subject::parse(text.replace(MANIFEST, DOCKER_MANIFEST).as_bytes()).unwrap();
        assert_eq!(docker.descriptor.media_type, DOCKER_MANIFEST);
    }

    #[test]
    fn what_is_no_manifest_of_an_image_is_refused() {
        for (from, to, said) in [
            (r#""schemaVersion":2"#, r#""schemaVersion":1"#, "1 is not 2"),
            (r#""schemaVersion":2,"#, "", "schemaVersion"),
            ("manifest.v1", "index.v1", "not the manifest of an image"),
            (r#""layers""#, r#""manifests""#, "an index of several"),
            (r#""layers""#, r#""other""#, "layers is missing"),
            ("sha256:5", "sha512:5", "sha256: and 64"),
            (r#"{"schema"#, r#"[{"schema"#, "no JSON object"),
        ] {
            let error = Subject::parse(manifest("5").replace(from, to).as_bytes()).unwrap_err().to_string();
            assert!(error.starts_with("image manifest") || error.contains("layers"), "{error}");
            assert!(error.contains(said), "{to}: {error}");
        }
    }

    #[test]
    fn a_subject_is_a_manifest_of_possible_size() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let subject = |media_type: &str, size| check(&Descriptor::new(media_type, &digest, size).unwrap());
        subject(MANIFEST, 1).unwrap();
        subject(DOCKER_MANIFEST, MOST_BYTES).unwrap();
        for (media_type, size, said) in [
            (MANIFEST, 0, "0 bytes"),
            (MANIFEST, MOST_BYTES + 1, "4194305 bytes"),
            ("application/vnd.oci.image.index.v1+json", 7, "not the manifest"),
        ] {
            let error = subject(media_type, size).unwrap_err().to_string();
            assert!(error.contains("subject: ") && error.contains(said), "{error}");
        }
    }
}
