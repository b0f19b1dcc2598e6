//! What is said of layers and their dialects.

use std::fmt::{Display, Write};
use std::path::Path;

use serde_json::{Value, json};
use verity_core::dialect::find::FileSystem;

use super::{human, json as documents};
use crate::commands::{ConvertedLayer, Layer, OpenedLayer, VerifiedLayer};

/// A line as `verity dump` has them.
fn line(text: &mut String, name: &str, value: impl Display) {
    let _ = writeln!(text, "{:<17}\t{value}", format!("{name}:"));
}

/// The descriptions of a layer, each a paragraph.
pub(crate) fn inspected(path: &Path, layers: &[OpenedLayer]) -> String {
    let told = layers.iter().map(|(dialect, layer)| match layer {
        Ok(layer) => described(layer),
        Err(error) => {
            let mut text = format!("Layer {} in the dialect {dialect}.\n", path.display());
            line(&mut text, "Error", &error.message);
            text
        }
    });
    told.collect::<Vec<_>>().join("\n")
}

fn described(layer: &Layer) -> String {
    let mut text = format!("Layer {} in the dialect {}.\n", layer.path.display(), layer.dialect);
    if let Some(path) = &layer.description {
        line(&mut text, "Description", path.display());
    }
    if let Some(kind) = layer.file_system {
        line(&mut text, "File system", kind.name());
    }
    let data = &layer.data_bytes;
    let data_end = data.start + layer.layout.geometry.data_bytes();
    line(&mut text, "Data", format_args!("bytes {} to {}", data.start, data_end - 1));
    if let Some(image) = &layer.image {
        line(&mut text, "Layer of image", format_args!("manifest {}", image.subject.digest));
        line(&mut text, "Image's layer", &image.digest);
    }
    line(&mut text, "Signature", if layer.signed { "there is one" } else { "none" });
    // What `dump` says, under a heading of its own.
    let header = human::header(&layer.path, &layer.layout, None, None);
    text += header.split_once('\n').map_or("", |(_, lines)| lines);
    match &layer.claim {
        Some(claim) => line(&mut text, "Root hash", format_args!("{}, says {}", claim.root, claim.by)),
        None => line(&mut text, "Root hash", "not told"),
    }
    text
}

pub(crate) fn inspected_json(path: &Path, layers: &[OpenedLayer]) -> Value {
    let told = layers.iter().map(|(dialect, layer)| match layer {
        Ok(layer) => description(layer),
        Err(error) => json!({"dialect": dialect.name(), "error": error.message}),
    });
    let descriptions: Vec<_> = told.collect();
    json!({"command": "layer inspect", "layer": documents::text(path), "descriptions": descriptions})
}

fn description(layer: &Layer) -> Value {
    documents::merged([
        json!({
            "dialect": layer.dialect.name(),
            "description": layer.description.as_deref().map(documents::text),
            "file_system": layer.file_system.map(FileSystem::name),
            "data_offset": layer.data_bytes.start,
            "hash_area_start": layer.hash_bytes.start,
            "signed": layer.signed,
            "subject": layer.image.as_ref().map(|image| json!({
                "media_type": image.subject.media_type,
                "digest": image.subject.digest,
                "size": image.subject.size,
            })),
            "layer_digest": layer.image.as_ref().map(|image| &image.digest),
        }),
        documents::layout(&layer.layout),
        json!({
            "root_hash": layer.claim.as_ref().map(|claim| claim.root.to_string()),
        }),
    ])
}

pub(crate) fn verified_json(verified: &VerifiedLayer) -> Value {
    let VerifiedLayer { layer, root, given, report } = verified;
    documents::merged([
        json!({
            "command": "layer verify",
            "intact": report.is_intact(),
            "layer": documents::text(&layer.path),
        }),
        description(layer),
        json!({"root_hash": root.to_string(), "root_hash_from": source(*given)}),
        documents::findings(report),
    ])
}

/// Where a root hash is from.
const fn source(given: bool) -> &'static str {
    if given { "argument" } else { "description" }
}

/// What was made, and what became of the root hash.
pub(crate) fn converted(converted: &ConvertedLayer) -> String {
    let ConvertedLayer { to, root, before, files, parity, .. } = converted;
    let mut text = String::new();
    line(&mut text, "Dialect", to);
    for file in files {
        line(&mut text, "Written", file.display());
    }
    if let Some(parity) = parity {
        let (roots, offset) = (parity.places.roots().get(), parity.places.offset());
        line(&mut text, "Parity", format_args!("{roots} roots, from byte {offset} on"));
    }
    if root == before {
        line(&mut text, "Root hash", format_args!("{root} (as before)"));
    } else {
        line(&mut text, "Root hash", format_args!("{root} (new: the dialect has another tree)"));
        line(&mut text, "Root hash before", before);
    }
    text
}

pub(crate) fn converted_json(converted: &ConvertedLayer) -> Value {
    let ConvertedLayer { source: layer, before, given, to, layout, parity, root, files } = converted;
    documents::merged([
        json!({
            "command": "layer convert",
            "layer": documents::text(&layer.path),
            "from": layer.dialect.name(),
            "to": to.name(),
            "files": files.iter().map(|file| documents::text(file)).collect::<Vec<_>>(),
        }),
        documents::layout(layout),
        json!({
            "root_hash": root.to_string(),
            "root_hash_before": before.to_string(),
            "root_hash_from": source(*given),
            "fec": parity.as_ref().map(documents::fec),
        }),
    ])
}
