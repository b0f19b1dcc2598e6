//! Documents that are written. Those that are the same have the same bytes: fields and annotations have an order.

use std::collections::BTreeMap;

use serde::Serialize;

use super::descriptor::{Descriptor, Platform};
use super::media::{INDEX, MANIFEST};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Written<'a> {
    media_type: &'a str,
    digest: String,
    size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    artifact_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    platform: Option<WrittenPlatform<'a>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: &'a BTreeMap<String, String>,
}

#[derive(Serialize)]
struct WrittenPlatform<'a> {
    architecture: &'a str,
    os: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    variant: Option<&'a str>,
}

impl<'a> From<&'a Descriptor> for Written<'a> {
    fn from(descriptor: &'a Descriptor) -> Self {
        let Descriptor { media_type, digest, size, annotations, artifact_type, platform } = descriptor;
        let platform = platform.as_ref().map(|Platform { os, architecture, variant }| WrittenPlatform {
            architecture,
            os,
            variant: variant.as_deref(),
        });
        Self {
            media_type,
            digest: digest.to_string(),
            size: *size,
            artifact_type: artifact_type.as_deref(),
            platform,
            annotations,
        }
    }
}

/// A descriptor on one line.
pub(super) fn descriptor(descriptor: &Descriptor) -> serde_json::Result<String> {
    serde_json::to_string(&Written::from(descriptor))
}

/// A descriptor within another document.
pub(super) fn descriptor_value(descriptor: &Descriptor) -> serde_json::Result<serde_json::Value> {
    serde_json::to_value(Written::from(descriptor))
}

/// A manifest of an image.
pub(super) struct Manifest<'a> {
    pub(super) artifact_type: &'a str,
    pub(super) config: &'a Descriptor,
    pub(super) layers: &'a [Descriptor],
    pub(super) subject: &'a Descriptor,
    pub(super) annotations: &'a BTreeMap<String, String>,
}

impl Manifest<'_> {
    pub(super) fn encode(&self) -> serde_json::Result<Vec<u8>> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Document<'a> {
            schema_version: u8,
            media_type: &'a str,
            artifact_type: &'a str,
            config: Written<'a>,
            layers: Vec<Written<'a>>,
            subject: Written<'a>,
            #[serde(skip_serializing_if = "BTreeMap::is_empty")]
            annotations: &'a BTreeMap<String, String>,
        }
        serde_json::to_vec(&Document {
            schema_version: 2,
            media_type: MANIFEST,
            artifact_type: self.artifact_type,
            config: self.config.into(),
            layers: self.layers.iter().map(Into::into).collect(),
            subject: self.subject.into(),
            annotations: self.annotations,
        })
    }
}

/// An index of manifests.
///
/// It has no `artifactType`, nor have its entries one: the manifests say it. skopeo 1.9 loses those of the entries when it copies an index, and later ones that
/// of the index; where the digest is to stay the same, they refuse to copy it.
///
/// Source: <https://github.com/containers/image/issues/2460>.
pub(super) fn index(
    manifests: &[Descriptor],
    annotations: &BTreeMap<String, String>,
) -> serde_json::Result<Vec<u8>> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Document<'a> {
        schema_version: u8,
        media_type: &'a str,
        manifests: Vec<Written<'a>>,
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        annotations: &'a BTreeMap<String, String>,
    }
    serde_json::to_vec(&Document {
        schema_version: 2,
        media_type: INDEX,
        manifests: manifests.iter().map(Into::into).collect(),
        annotations,
    })
}
