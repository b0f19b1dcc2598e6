//! What `verity image build` and `verity image verify` report.

use std::fmt::Write;

use serde_json::{Value, json};
use verity_core::oci::build::{BuiltImage, BuiltLayer};
use verity_core::oci::verify::{Problem, Verified};
use verity_core::oci::{Layer, Platform};

use super::human;
use super::images::{descriptor, tree_json};
use super::json::{findings, merged};
use crate::commands::{BuiltImages, VerifiedImage, VerifiedImages};

/// Images that were built, a paragraph each.
pub(crate) fn built(made: &BuiltImages) -> String {
    let mut text = String::new();
    for (name, built) in &made.built {
        let name = name.as_deref().map_or(String::new(), |name| format!(" ({})", name.escape_debug()));
        let _ = writeln!(text, "Image {}{name}", made.destination);
        let _ = writeln!(text, "{:<16}{}", "Digest:", built.root.digest);
        for image in &built.images {
            if built.images.len() > 1 {
                let _ = writeln!(text, "{:<16}{}", "Manifest:", image.manifest.digest);
            }
            if let Some(platform) = &image.platform {
                let _ = writeln!(text, "{:<16}{platform}", "Platform:");
            }
            for (place, layer) in (1..).zip(&image.layers) {
                let BuiltLayer { blob, annotations, reused, .. } = layer;
                let how = if *reused { ", was there already" } else { "" };
                let _ = writeln!(text, "{place:>4}  {} bytes{how}", blob.size);
                for (name, value) in [
                    ("digest", blob.digest.to_string()),
                    ("diffID", annotations.diff_id.to_string()),
                    ("root hash", annotations.root_hash.to_string()),
                ] {
                    let _ = writeln!(text, "      {name:<12}{value}");
                }
            }
        }
    }
    text
}

/// The digests under which the images are listed, a line each.
pub(crate) fn digests(made: &BuiltImages) -> String {
    made.built.iter().map(|(_, built)| format!("{}\n", built.root.digest)).collect()
}

pub(crate) fn built_json(made: &BuiltImages) -> Value {
    let layers = || made.built.iter().flat_map(|(_, built)| &built.images).flat_map(|image| &image.layers);
    let images: Vec<_> = made
        .built
        .iter()
        .map(|(name, built)| {
            let manifests: Vec<_> = built.images.iter().map(manifest_json).collect();
            merged([json!({"reference": name}), descriptor(&built.root), json!({"manifests": manifests})])
        })
        .collect();
    json!({
        "command": "image build",
        "image": made.source.to_string(),
        "destination": made.destination.to_string(),
        "images": images,
        "built_layers": layers().filter(|layer| !layer.reused).count(),
        "reused_layers": layers().filter(|layer| layer.reused).count(),
        "artifacts": made.artifacts,
    })
}

fn platform(platform: Option<&Platform>) -> Option<String> {
    platform.map(ToString::to_string)
}

fn manifest_json(image: &BuiltImage) -> Value {
    let layers: Vec<_> = image
        .layers
        .iter()
        .map(|layer| {
            merged([
                descriptor(&layer.blob),
                json!({
                    "diff_id": layer.annotations.diff_id.to_string(),
                    "root_hash": layer.annotations.root_hash.to_string(),
                    "tree": tree_json(&layer.annotations),
                    "source": descriptor(&layer.source),
                    "reused": layer.reused,
                }),
            ])
        })
        .collect();
    merged([
        descriptor(&image.manifest),
        json!({
            "platform": platform(image.platform.as_ref()),
            "source": descriptor(&image.source),
            "layers": layers,
        }),
    ])
}

/// What is wrong, a line each, and below it the blocks that are bad.
pub(crate) fn problems(verified: &VerifiedImages) -> String {
    let mut text = String::new();
    for VerifiedImage { image, layers } in &verified.images {
        for (place, (layer, found)) in (1..).zip(image.layers.iter().zip(layers)) {
            for problem in &found.problems {
                let of =
                    platform(image.platform.as_ref()).map_or(String::new(), |name| format!(" of {name}"));
                let _ = writeln!(text, "layer {place}{of}, {}: {problem}", layer.descriptor.digest);
                if let Problem::Tree(report) = problem {
                    text += &human::findings(report);
                }
            }
        }
    }
    text
}

pub(crate) fn verified_json(verified: &VerifiedImages) -> Value {
    let images: Vec<_> = verified
        .images
        .iter()
        .map(|VerifiedImage { image, layers }| {
            let layers: Vec<_> =
                image.layers.iter().zip(layers).map(|(layer, found)| layer_json(layer, found)).collect();
            merged([
                json!({"reference": image.reference}),
                descriptor(&image.manifest),
                json!({"platform": platform(image.platform.as_ref()), "layers": layers}),
            ])
        })
        .collect();
    json!({
        "command": "image verify",
        "image": verified.source.to_string(),
        "intact": verified.is_intact(),
        "images": images,
        "artifacts": verified.artifacts,
    })
}

fn layer_json(layer: &Layer, found: &Verified) -> Value {
    let problems: Vec<_> = found
        .problems
        .iter()
        .map(|problem| {
            let report = match problem {
                Problem::Tree(report) => Some(findings(report)),
                _ => None,
            };
            merged([
                json!({"problem": kind(problem), "message": problem.to_string()}),
                report.unwrap_or_else(|| json!({})),
            ])
        })
        .collect();
    merged([
        descriptor(&layer.descriptor),
        json!({
            "diff_id": layer.diff_id.to_string(),
            "intact": found.is_intact(),
            "problems": problems,
        }),
    ])
}

/// A stable name.
fn kind(problem: &Problem) -> &'static str {
    match problem {
        Problem::Blob(_) => "blob",
        Problem::Digest { .. } => "digest",
        Problem::Size { .. } => "size",
        Problem::Superblock { .. } => "superblock",
        Problem::Tree(_) => "tree",
        Problem::Tar(_) => "tar",
        Problem::Devices(_) => "devices",
        _ => "other",
    }
}
