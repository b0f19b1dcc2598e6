//! What `verity layer build` and `verity layer extract` report.

use std::fmt::Write;

use serde_json::{Value, json};

use super::human::uuid;
use super::json::{fec, layout, merged, text};
use crate::commands::{Built, Layout, Parity, Unpacked};

/// A layer that was built, a fact a line.
pub(crate) fn built(layer: &Built) -> String {
    let Built { layer: source, output, built } = layer;
    let mut lines = vec![
        (
            "Layer",
            format!("{} ({} bytes, compression {})", source.display(), built.blob_bytes, built.compression),
        ),
        ("Digest", built.digest.to_string()),
        ("DiffID", built.diff_id.to_string()),
        (
            "Entries",
            format!(
                "{} ({} whiteouts, {} opaque directories)",
                built.entries, built.whiteouts, built.opaque_directories
            ),
        ),
        ("Output", output.display().to_string()),
        ("Image", format!("{} bytes, {} inodes", built.image.size, built.image.inodes)),
        ("UUID", uuid(built.uuid)),
        (
            "Data blocks",
            format!("{} of {} bytes", built.geometry.data_blocks(), built.params.data_block_size),
        ),
        ("Hash algorithm", built.params.algorithm.to_string()),
        ("Salt", built.params.salt.to_string()),
        ("Hash offset", built.geometry.area().offset().to_string()),
    ];
    if let Some(parity) = &built.parity {
        lines.push(("FEC roots", parity.roots().to_string()));
        lines.push(("FEC offset", parity.offset().to_string()));
    }
    lines.push(("Root hash", built.root.to_string()));
    lines.iter().fold(String::new(), |mut text, (name, value)| {
        let _ = writeln!(text, "{:<16}{value}", format!("{name}:"));
        text
    })
}

/// A layer that was built, as a document.
pub(crate) fn built_json(layer: &Built) -> Value {
    let Built { layer: source, output, built } = layer;
    let parity = built.parity.as_ref().map(|places| Parity {
        device: output.clone(),
        places: places.clone(),
        with_hash: true,
    });
    merged([
        json!({
            "command": "layer build",
            "layer": text(source),
            "layer_bytes": built.blob_bytes,
            "digest": built.digest.to_string(),
            "compression": built.compression.name(),
            "tar_bytes": built.tar_bytes,
            "diff_id": built.diff_id.to_string(),
            "entries": built.entries,
            "whiteouts": built.whiteouts,
            "opaque_directories": built.opaque_directories,
            "dropped_xattrs": built.dropped_xattrs,
            "output": text(output),
            "image_bytes": built.image.size,
            "inodes": built.image.inodes,
        }),
        layout(&Layout {
            uuid: Some(built.uuid),
            params: built.params.clone(),
            geometry: built.geometry.clone(),
        }),
        json!({
            "root_hash": built.root.to_string(),
            "fec": parity.as_ref().map(fec),
        }),
    ])
}

/// A layer that was unpacked, as a document.
pub(crate) fn unpacked_json(unpacked: &Unpacked) -> Value {
    let Unpacked { layer, output, file, layout: tree, root, entries, bytes } = unpacked;
    merged([
        json!({
            "command": "layer extract",
            "layer": text(layer),
            "output": text(output),
            "file": file.as_deref().map(text),
        }),
        layout(tree),
        json!({"root_hash": root.to_string(), "entries": entries, "bytes": bytes}),
    ])
}
