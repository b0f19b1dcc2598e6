//! What is read of an image's configuration. It is handed on byte for byte, and most of it is nobody's business here.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::descriptor::Platform;
use super::document;
use super::error::Error;
use crate::layer::Digest;

#[derive(Deserialize)]
struct Document {
    os: Option<String>,
    architecture: Option<String>,
    variant: Option<String>,
    config: Option<Settings>,
    rootfs: Root,
}

#[derive(Deserialize)]
struct Settings {
    #[serde(rename = "Labels", default)]
    labels: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Root {
    r#type: String,
    diff_ids: Vec<String>,
}

/// The members that are read.
const KNOWN: &[&str] = &["os", "architecture", "variant", "config", "Labels", "rootfs", "type", "diff_ids"];

/// What a configuration says that matters here.
#[derive(Debug)]
pub(super) struct Contents {
    pub(super) platform: Option<Platform>,
    pub(super) diff_ids: Vec<Digest>,
    pub(super) labels: BTreeMap<String, String>,
}

impl Contents {
    pub(super) fn parse(digest: &Digest, bytes: &[u8]) -> Result<Self, Error> {
        let what = format!("configuration {digest}");
        let Document { os, architecture, variant, config, rootfs } = document::parse(&what, bytes, KNOWN)?;
        if rootfs.r#type != "layers" {
            return Err(Error::Document {
                what,
                problem: format!("the type of rootfs is {:?}", rootfs.r#type),
            });
        }
        let diff_ids = rootfs.diff_ids.iter().map(|text| text.parse()).collect::<Result<_, _>>()?;
        let filled = |text: Option<String>| text.filter(|text| !text.is_empty());
        let platform = filled(os).zip(filled(architecture));
        let variant = filled(variant);
        Ok(Self {
            platform: platform.map(|(os, architecture)| Platform { os, architecture, variant }),
            diff_ids,
            labels: config.map(|config| config.labels).unwrap_or_default(),
        })
    }
}
