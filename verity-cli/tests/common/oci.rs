//! Images to try things on: layouts as other programs write them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use verity_core::erofs::write::Attributes;
use verity_core::layer::tar::{EntryKind, Writer};

use super::{Sandbox, pattern};

pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(crate) const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// A layer's tar: a folder `usr` with files of so many bytes, in all of them other bytes.
pub(crate) fn tar(seed: u8, sizes: &[usize]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    let attributes = |mode| Attributes { mode, mtime: 1_700_000_000, ..Attributes::default() };
    writer.add(b"usr", &attributes(0o755), &EntryKind::Directory, &mut std::io::empty()).unwrap();
    for (number, &size) in sizes.iter().enumerate() {
        let mut content = pattern(size);
        content.iter_mut().for_each(|byte| *byte ^= seed);
        let whole = 0..size as u64;
        let kind = EntryKind::File { size: size as u64, data: vec![whole] };
        let path = format!("usr/{seed}-{number}");
        writer.add(path.as_bytes(), &attributes(0o644), &kind, &mut &content[..]).unwrap();
    }
    writer.finish().unwrap()
}

pub(crate) fn digest(bytes: &[u8]) -> String {
    let digits: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{digits}")
}

/// An OCI layout that is being made.
pub(crate) struct Layout {
    dir: PathBuf,
    entries: Vec<Value>,
}

impl Layout {
    pub(crate) fn new(sandbox: &Sandbox, name: &str) -> Self {
        let dir = sandbox.path(name);
        fs::create_dir_all(dir.join("blobs/sha256")).unwrap();
        fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        Self { dir, entries: Vec::new() }
    }

    /// The file of a blob.
    pub(crate) fn path(&self, descriptor: &Value) -> PathBuf {
        blob(&self.dir, descriptor)
    }

    pub(crate) fn blob(&self, media_type: &str, bytes: &[u8]) -> Value {
        let descriptor = json!({"mediaType": media_type, "digest": digest(bytes), "size": bytes.len()});
        fs::write(self.path(&descriptor), bytes).unwrap();
        descriptor
    }

    /// An image of these tars, for `architecture`.
    pub(crate) fn image(&self, architecture: &str, tars: &[&[u8]]) -> Value {
        let layers: Vec<_> = tars.iter().map(|tar| self.blob(LAYER, tar)).collect();
        let diff_ids: Vec<_> = tars.iter().map(|tar| digest(tar)).collect();
        let config = json!({
            "architecture": architecture,
            "os": "linux",
            "config": {"Cmd": ["/bin/sh"]},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        let config = self.blob(CONFIG, config.to_string().as_bytes());
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": config,
            "layers": layers,
            "annotations": {"sh.copa.image.patched": "2026-01-02"},
        });
        self.blob(MANIFEST, manifest.to_string().as_bytes())
    }

    /// An index of images for several platforms.
    pub(crate) fn index(&self, images: &[(&str, Value)]) -> Value {
        let manifests: Vec<_> = images
            .iter()
            .map(|(architecture, image)| {
                let mut image = image.clone();
                image["platform"] = json!({"architecture": architecture, "os": "linux"});
                image
            })
            .collect();
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests});
        self.blob(INDEX, index.to_string().as_bytes())
    }

    /// Lists it in `index.json`.
    pub(crate) fn list(&mut self, name: &str, descriptor: &Value) {
        let mut entry = descriptor.clone();
        entry["annotations"] = json!({REF_NAME: name});
        self.entries.push(entry);
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": self.entries});
        fs::write(self.dir.join("index.json"), index.to_string()).unwrap();
    }
}

/// The file of a blob.
pub(crate) fn blob(dir: &Path, descriptor: &Value) -> PathBuf {
    let digest = descriptor["digest"].as_str().unwrap();
    dir.join("blobs/sha256").join(digest.strip_prefix("sha256:").unwrap())
}

/// A document of a layout.
pub(crate) fn document(dir: &Path, descriptor: &Value) -> Value {
    serde_json::from_slice(&fs::read(blob(dir, descriptor)).unwrap()).unwrap()
}

/// What a layout lists, by name.
pub(crate) fn listed(dir: &Path) -> BTreeMap<String, Value> {
    let index: Value = serde_json::from_slice(&fs::read(dir.join("index.json")).unwrap()).unwrap();
    let entries = index["manifests"].as_array().unwrap().clone();
    let name = |entry: &Value| entry["annotations"][REF_NAME].as_str().unwrap_or_default().to_owned();
    entries.into_iter().map(|entry| (name(&entry), entry)).collect()
}

/// Every file below a folder with what is in it, folders as such.
pub(crate) fn files(dir: &Path) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(dir).unwrap().to_owned();
            if path.is_dir() {
                files.insert(name, None);
                folders.push(path);
            } else {
                files.insert(name, Some(fs::read(path).unwrap()));
            }
        }
    }
    files
}
