//! Manifests that refer to an image and hold a signature for each of its layers, in two schemas.
//!
//! - The Notary Project's proposal ("Per-Layer DM-Verity Signing with Notation"): artifact type
//!   `application/vnd.cncf.notary.signature.dm-verity`; each layer of the manifest is a PKCS#7 signature, whose annotations name the image's layer and
//!   the root hash.
//! - containerd's later one (`pkg/snapshotters/dmverity*.go`): artifact type `application/vnd.containerd.erofs.dmverity.v1`; for each layer of the
//!   image there are EROFS metadata, hash tree and signature, bound together by the layer's digest.
//!
//! A signature over each layer says nothing about which layers belong together; that is policy's business.

mod subject;

use std::collections::BTreeMap;

pub use subject::Subject;

use serde::{Deserialize, Serialize};

use super::{Error, clip, field, json, sha256_root};
use crate::block::RootHash;

const WHAT: &str = "signature manifest";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Which of the two schemas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Schema {
    /// The Notary Project's.
    Notation,
    /// containerd's.
    Bundle,
}

/// A blob that a manifest refers to.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Descriptor {
    /// What it is.
    #[serde(rename = "mediaType")]
    pub media_type: String,
    /// Its digest, such as `sha256:...`.
    pub digest: String,
    /// Its size in bytes.
    pub size: u64,
    /// What else is said of it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// What is said of one layer of the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// The digest of the image's own layer.
    pub digest: String,
    /// The root hash that is signed.
    pub root: RootHash,
    /// The signature, a PKCS#7 blob.
    pub signature: Descriptor,
    /// In containerd's schema: the metadata that make an EROFS image of the layer, and its hash tree.
    pub parts: Option<Parts>,
}

/// What containerd's schema has beside signatures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parts {
    /// EROFS metadata.
    pub metadata: Descriptor,
    /// The hash tree.
    pub tree: Descriptor,
}

/// A manifest of either schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Referrer {
    /// Which schema.
    pub schema: Schema,
    /// The image's manifest.
    pub subject: Descriptor,
    /// The image's layers, in the manifest's order.
    pub layers: Vec<Layer>,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    schema_version: u32,
    media_type: String,
    artifact_type: String,
    config: Descriptor,
    layers: Vec<Descriptor>,
    subject: Option<Descriptor>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
}

/// The names that a schema uses.
struct Names {
    artifact_type: &'static str,
    signature: &'static str,
    layer_digest: &'static str,
    root_hash: &'static str,
}

const METADATA: &str = "application/vnd.containerd.erofs.metadata.v1";
const TREE: &str = "application/vnd.containerd.erofs.dmverity.merkle-tree.v1";
/// The manifest's own mark in the Notary Project's schema.
const MARK: &str = "io.cncf.notary.dm-verity.signature";
const TITLE: &str = "org.opencontainers.image.title";

impl Schema {
    const fn names(self) -> Names {
        match self {
            Self::Notation => Names {
                artifact_type: "application/vnd.cncf.notary.signature.dm-verity",
                signature: "application/pkcs7-signature",
                layer_digest: "io.cncf.notary.layer.digest",
                root_hash: "io.cncf.notary.dm-verity.root-hash",
            },
            Self::Bundle => Names {
                artifact_type: "application/vnd.containerd.erofs.dmverity.v1",
                signature: "application/vnd.containerd.erofs.dmverity.layer-signature.v1+pkcs7",
                layer_digest: "io.containerd.erofs.v1/dmverity.source-layer-digest",
                root_hash: "io.containerd.erofs.v1/dmverity.root-hash",
            },
        }
    }

    /// The media type of a signature.
    #[must_use]
    pub const fn signature_type(self) -> &'static str {
        self.names().signature
    }
}

impl Descriptor {
    /// A blob without annotations.
    ///
    /// # Errors
    /// [`Error::Field`] unless the digest is one of SHA-256.
    pub fn new(media_type: &str, digest: &str, size: u64) -> Result<Self, Error> {
        check_digest("digest", digest)?;
        let (media_type, digest) = (media_type.to_owned(), digest.to_owned());
        Ok(Self { media_type, digest, size, annotations: BTreeMap::new() })
    }

    /// EROFS metadata, for containerd's schema.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn metadata(digest: &str, size: u64) -> Result<Self, Error> {
        Self::new(METADATA, digest, size)
    }

    /// A hash tree, for containerd's schema.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn tree(digest: &str, size: u64) -> Result<Self, Error> {
        Self::new(TREE, digest, size)
    }

    /// An image's manifest of OCI's form; [`Subject::parse`] makes one of the manifest itself.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn subject(digest: &str, size: u64) -> Result<Self, Error> {
        Self::new(MANIFEST, digest, size)
    }

    fn annotated(&self, more: &[(&str, &str)]) -> Self {
        let more = more.iter().map(|&(key, value)| (key.to_owned(), value.to_owned()));
        let annotations = self.annotations.clone().into_iter().chain(more).collect();
        Self { annotations, ..self.clone() }
    }

    fn annotation(&self, key: &'static str) -> Result<&str, Error> {
        self.annotations.get(key).map(String::as_str).ok_or(Error::Missing { what: WHAT, field: key })
    }
}

impl Referrer {
    /// Reads a manifest.
    ///
    /// # Errors
    /// [`Error::Absent`] for one of another artifact type; [`Error::Missing`], [`Error::Field`] or [`Error::Contradiction`] where a layer has not
    /// all that belongs to it, or something twice.
    pub fn parse(text: &[u8]) -> Result<Self, Error> {
        let document: Document = json::parse(WHAT, text)?;
        let known = [Schema::Notation, Schema::Bundle];
        let schema = known.into_iter().find(|schema| schema.names().artifact_type == document.artifact_type);
        let schema =
            schema.ok_or(Error::Absent { what: WHAT, why: "its artifactType is none for dm-verity" })?;
        if document.schema_version != 2 {
            let problem = format_args!("{} is not 2", document.schema_version);
            return Err(field(WHAT, "schemaVersion", problem));
        }
        let subject = document.subject.ok_or(Error::Missing { what: WHAT, field: "subject" })?;
        subject::check(&subject)?;
        let mut found: Vec<Pieces> = Vec::new();
        let mut places = BTreeMap::new();
        for descriptor in document.layers {
            // What is neither is somebody else's.
            let Some(piece) = Piece::of(schema, &descriptor.media_type) else { continue };
            check_digest("layers", &descriptor.digest)?;
            let layer = descriptor.annotation(schema.names().layer_digest)?;
            check_digest(schema.names().layer_digest, layer)?;
            let place = *places.entry(layer.to_owned()).or_insert_with(|| {
                found.push(Pieces::new(layer));
                found.len() - 1
            });
            found[place].take(piece, descriptor)?;
        }
        let layers = found.into_iter().map(|pieces| pieces.complete(schema)).collect::<Result<_, _>>()?;
        Ok(Self { schema, subject, layers })
    }

    /// The manifest's text.
    ///
    /// # Errors
    /// [`Error::Contradiction`] where a layer has parts that its schema has not, or lacks them.
    pub fn encode(&self) -> Result<String, Error> {
        let names = self.schema.names();
        let mut layers = Vec::new();
        for (index, layer) in self.layers.iter().enumerate() {
            let (digest, root) = (layer.digest.as_str(), layer.root.to_string());
            let title = format!("layer-{index}.pkcs7.sig");
            let signature =
                [(names.layer_digest, digest), (names.root_hash, root.as_str()), (TITLE, title.as_str())];
            match (self.schema, &layer.parts) {
                (Schema::Notation, None) => layers.push(layer.signature.annotated(&signature)),
                (Schema::Bundle, Some(Parts { metadata, tree })) => {
                    let source = [(names.layer_digest, digest)];
                    layers.extend([metadata.annotated(&source), tree.annotated(&source)]);
                    layers.push(layer.signature.annotated(&signature[..2]));
                }
                _ => {
                    let problem = format!("layer {digest} has not the parts that the schema asks for");
                    return Err(Error::Contradiction { what: WHAT, problem });
                }
            }
        }
        let mark = (self.schema == Schema::Notation).then(|| (MARK.to_owned(), "true".to_owned()));
        let document = Document {
            schema_version: 2,
            media_type: MANIFEST.to_owned(),
            artifact_type: names.artifact_type.to_owned(),
            config: Descriptor {
                media_type: "application/vnd.oci.empty.v1+json".to_owned(),
                digest: "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a".to_owned(),
                size: 2,
                annotations: BTreeMap::new(),
            },
            layers,
            subject: Some(self.subject.clone()),
            annotations: mark.into_iter().collect(),
        };
        json::pretty(WHAT, &document)
    }
}

/// What a descriptor is to a layer.
#[derive(Clone, Copy)]
enum Piece {
    Signature,
    Metadata,
    Tree,
}

impl Piece {
    fn of(schema: Schema, media_type: &str) -> Option<Self> {
        match (schema, media_type) {
            (schema, other) if other == schema.names().signature => Some(Self::Signature),
            (Schema::Bundle, METADATA) => Some(Self::Metadata),
            (Schema::Bundle, TREE) => Some(Self::Tree),
            _ => None,
        }
    }
}

/// What there is for a layer so far.
struct Pieces {
    layer: String,
    signature: Option<Descriptor>,
    metadata: Option<Descriptor>,
    tree: Option<Descriptor>,
}

impl Pieces {
    fn new(layer: &str) -> Self {
        Self { layer: layer.to_owned(), signature: None, metadata: None, tree: None }
    }

    fn take(&mut self, piece: Piece, descriptor: Descriptor) -> Result<(), Error> {
        let place = match piece {
            Piece::Signature => &mut self.signature,
            Piece::Metadata => &mut self.metadata,
            Piece::Tree => &mut self.tree,
        };
        if place.is_some() {
            let problem = format!("layer {} has two of {}", self.layer, clip(&descriptor.media_type));
            return Err(Error::Contradiction { what: WHAT, problem });
        }
        *place = Some(descriptor);
        Ok(())
    }

    fn complete(self, schema: Schema) -> Result<Layer, Error> {
        let missing = |field| Error::Missing { what: WHAT, field };
        let signature = self.signature.ok_or(missing("a layer's signature"))?;
        let key = schema.names().root_hash;
        let root = sha256_root(WHAT, key, signature.annotation(key)?)?;
        let parts = match schema {
            Schema::Notation => None,
            Schema::Bundle => Some(Parts {
                metadata: self.metadata.ok_or(missing("a layer's EROFS metadata"))?,
                tree: self.tree.ok_or(missing("a layer's hash tree"))?,
            }),
        };
        Ok(Layer { digest: self.layer, root, signature, parts })
    }
}

/// Checks that a text is a digest of SHA-256.
///
/// # Errors
/// [`Error::Field`].
pub fn check_digest(name: &'static str, text: &str) -> Result<(), Error> {
    let digits = text.strip_prefix("sha256:").filter(|digits| digits.len() == 64);
    let lower = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if digits.is_some_and(|digits| digits.bytes().all(lower)) {
        return Ok(());
    }
    Err(field(WHAT, name, format_args!("{} is not sha256: and 64 hexadecimal digits", clip(text))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(digit: char) -> String {
        format!("sha256:{}", digit.to_string().repeat(64))
    }

    /// The example of the Notary Project's proposal; its shortened digests are written out.
    fn published() -> String {
        format!(
            r#"{{
  "schemaVersion": 2,
  "mediaType": "application/vnd.oci.image.manifest.v1+json",
  "artifactType": "application/vnd.cncf.notary.signature.dm-verity",
  "config": {{
    "mediaType": "application/vnd.oci.empty.v1+json",
    "digest": "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
    "size": 2
  }},
  "layers": [
    {{
      "mediaType": "application/pkcs7-signature",
      "digest": "{}",
      "size": 1479,
      "annotations": {{
        "io.cncf.notary.dm-verity.root-hash": "0dcd29977f675344645e8c907b5a86b490335e7a2657a2ba45d00e7944701eed",
        "io.cncf.notary.layer.digest": "{}",
        "org.opencontainers.image.title": "layer-0.pkcs7.sig"
      }}
    }}
  ],
  "subject": {{
    "mediaType": "application/vnd.oci.image.manifest.v1+json",
    "digest": "{}",
    "size": 1234
  }},
  "annotations": {{
    "io.cncf.notary.dm-verity.signature": "true"
  }}
}}
"#,
            digest('a'),
            digest('0'),
            digest('d'),
        )
    }

    #[test]
    fn the_published_example_is_read_and_written() {
        let read = Referrer::parse(published().as_bytes()).unwrap();
        assert_eq!((read.schema, read.subject.size, read.layers.len()), (Schema::Notation, 1234, 1));
        assert_eq!(read.layers[0].digest, digest('0'));
        assert!(read.layers[0].root.to_string().starts_with("0dcd2997"));
        assert_eq!(read.encode().unwrap(), published());
    }

    /// As containerd's own tests put one together.
    fn bundle() -> Referrer {
        let root = sha256_root(WHAT, "", "b4e1c9f30a5d7e2186c4fb0937ad5e2c81f6b3a4d9c0e7182b5a6f3c4d9e0a71")
            .unwrap();
        let parts = Parts {
            metadata: Descriptor::metadata(&digest('1'), 10).unwrap(),
            tree: Descriptor::tree(&digest('2'), 4096).unwrap(),
        };
        let signature = Descriptor::new(Schema::Bundle.signature_type(), &digest('3'), 100).unwrap();
        let layer = Layer { digest: digest('4'), root, signature, parts: Some(parts) };
        let subject = Descriptor::subject(&digest('5'), 1000).unwrap();
        Referrer { schema: Schema::Bundle, subject, layers: vec![layer] }
    }

    #[test]
    fn containerd_s_schema_is_read_and_written() {
        let text = bundle().encode().unwrap();
        let read = Referrer::parse(text.as_bytes()).unwrap();
        assert_eq!(read.schema, Schema::Bundle);
        assert_eq!(read.layers[0].parts.as_ref().unwrap().tree.digest, digest('2'));
        // What is read has the annotations that were written; so has what is written again.
        assert_eq!(read.encode().unwrap(), text);
    }

    #[test]
    fn incomplete_and_ambiguous_layers_are_refused() {
        let text = bundle().encode().unwrap();
        for (from, to, said) in [
            (METADATA, "application/other", "EROFS metadata is missing"),
            (TREE, "application/other", "hash tree is missing"),
            (TREE, METADATA, "two of"),
            ("\"schemaVersion\": 2", "\"schemaVersion\": 3", "3 is not 2"),
            ("application/vnd.containerd.erofs.dmverity.v1", "application/other", "artifactType"),
            ("\"subject\"", "\"object\"", "subject is missing"),
            ("b4e1", "b4", "root-hash"),
            (digest('4').as_str(), "sha256:44", "64"),
            (digest('1').as_str(), "md5:11", "64"),
            ("dmverity.source-layer-digest", "other", "source-layer-digest is missing"),
        ] {
            let error = Referrer::parse(text.replace(from, to).as_bytes()).unwrap_err().to_string();
            assert!(error.contains(said), "{from} -> {to}: {error}");
        }
        let twice = Referrer { layers: [bundle().layers, bundle().layers].concat(), ..bundle() };
        let error = Referrer::parse(twice.encode().unwrap().as_bytes()).unwrap_err();
        assert!(matches!(error, Error::Contradiction { .. }), "{error}");
        let mixed = Referrer { schema: Schema::Notation, ..bundle() };
        assert!(matches!(mixed.encode(), Err(Error::Contradiction { .. })));
    }
}
