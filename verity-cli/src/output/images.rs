//! What `verity image inspect` and `verity image ls` report.

use std::collections::BTreeMap;
use std::fmt::{Display, Write};

use serde_json::{Value, json};
use verity_core::dialect::stacker;
use verity_core::oci::annotations::LayerAnnotations;
use verity_core::oci::{Descriptor, Image, ImageName, Images, Layer, LayerKind};

use super::json::merged;
use crate::commands::{Compared, Inspected, Role};

/// Marks of a patch that Copacetic leaves.
pub(crate) struct Copa<'i> {
    /// The manifest's annotation: when it was patched.
    pub(crate) patched: Option<&'i str>,
    /// The index's annotation.
    index_patched: Option<&'i str>,
    /// The configuration's label: which image was patched first.
    base_image: Option<&'i str>,
}

impl<'i> Copa<'i> {
    pub(crate) fn of(image: &'i Image) -> Self {
        let value = |map: &'i BTreeMap<String, String>, name| map.get(name).map(String::as_str);
        Self {
            patched: value(&image.annotations, "sh.copa.image.patched"),
            index_patched: value(&image.index_annotations, "sh.copa.patched"),
            base_image: value(&image.config.labels, "BaseImage"),
        }
    }
}

/// What there was beside the images.
pub(crate) fn passed_over(artifacts: u64) -> String {
    let what = if artifacts == 1 { "entry is no image" } else { "entries are no images" };
    format!("{artifacts} {what} (an attestation, a signature or the like) and passed over")
}

/// How many characters of a stranger's word people are shown; a table has to be made for the longest one.
const SHOWN_MAX: usize = 128;

/// A stranger's word, as people are shown it.
fn shown(word: &str) -> String {
    let mut rest = word.chars();
    let start: String = rest.by_ref().take(SHOWN_MAX).collect();
    let end = if rest.next().is_some() { "..." } else { "" };
    format!("{}{end}", start.escape_debug())
}

fn platform(image: &Image) -> String {
    image.platform.as_ref().map_or("-".to_owned(), |platform| shown(&platform.to_string()))
}

fn layers_size(image: &Image) -> u64 {
    image.layers.iter().fold(0, |sum, layer| sum.saturating_add(layer.descriptor.size))
}

/// A table, an image a line.
pub(crate) fn listed(images: &Images) -> String {
    let head = ["REFERENCE", "PLATFORM", "LAYERS", "BYTES", "DIGEST"].map(str::to_owned);
    let rows = images.images.iter().map(|image| {
        [
            image.reference.as_deref().map_or("-".to_owned(), shown),
            platform(image),
            image.layers.len().to_string(),
            layers_size(image).to_string(),
            image.manifest.digest.to_string(),
        ]
    });
    let rows: Vec<_> = std::iter::once(head).chain(rows).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let [reference, platform, layers, bytes] = [0, 1, 2, 3].map(width);
    rows.iter().fold(String::new(), |mut text, [a, b, c, d, digest]| {
        let _ = writeln!(text, "{a:<reference$}  {b:<platform$}  {c:>layers$}  {d:>bytes$}  {digest}");
        text
    })
}

pub(crate) fn listed_json(name: &ImageName, images: &Images) -> Value {
    let each: Vec<_> = images.images.iter().map(head).collect();
    json!({"command": "image ls", "image": name.to_string(), "images": each, "artifacts": images.artifacts})
}

/// What both commands say of an image.
fn head(image: &Image) -> Value {
    json!({
        "reference": image.reference,
        "platform": image.platform.as_ref().map(ToString::to_string),
        "digest": image.manifest.digest.to_string(),
        "bytes": image.manifest.size,
        "media_type": image.manifest.media_type,
        "artifact_type": image.artifact_type,
        "layer_count": image.layers.len(),
        "layer_bytes": layers_size(image),
    })
}

/// A line as `verity dump` has them.
fn line(text: &mut String, name: &str, value: impl Display) {
    let _ = writeln!(text, "{:<17}\t{value}", format!("{name}:"));
}

/// The images, each a paragraph.
pub(crate) fn inspected(inspected: &Inspected) -> String {
    let each = inspected.images.iter().map(|image| one(inspected, image));
    each.collect::<Vec<_>>().join("\n")
}

fn one(inspected: &Inspected, compared: &Compared) -> String {
    let Compared { image, roles, base } = compared;
    let mut text = format!("Image {}", inspected.name);
    if let Some(reference) = &image.reference {
        let _ = write!(text, " ({})", shown(reference));
    }
    text += "\n";
    line(&mut text, "Platform", platform(image));
    line(&mut text, "Manifest", &image.manifest.digest);
    line(&mut text, "Config", &image.config.descriptor.digest);
    if let Some(kind) = &image.artifact_type {
        line(&mut text, "Artifact type", kind.escape_debug());
    }
    if let Some(subject) = &image.subject {
        line(&mut text, "Subject", &subject.digest);
    }
    let copa = Copa::of(image);
    if let Some(when) = copa.patched {
        line(&mut text, "Patched by Copa", when.escape_debug());
    } else if copa.index_patched.is_some() {
        line(&mut text, "Patched by Copa", "says the index");
    }
    if let Some(name) = copa.base_image {
        line(&mut text, "Base image", name.escape_debug());
    }
    if let (Some(name), Some((digest, layers))) = (&inspected.base, base) {
        line(&mut text, "Compared with", format_args!("{name} ({digest})"));
        line(&mut text, "Shared", format_args!("{} of its {layers} layers", compared.shared()));
    }
    line(&mut text, "Layers", format_args!("{} ({} bytes)", image.layers.len(), layers_size(image)));
    for (place, (layer, role)) in (1..).zip(image.layers.iter().zip(roles)) {
        text += &layer_lines(place, layer, *role);
    }
    text
}

fn layer_lines(place: usize, layer: &Layer, role: Option<Role>) -> String {
    let role = role.map_or(String::new(), |role| format!(", {}", role.name()));
    let descriptor = &layer.descriptor;
    let kind = kind(layer);
    let mut text = format!("{place:>4}  {}{role}, {} bytes\n", kind.escape_debug(), descriptor.size);
    let mut detail = |name: &str, value: &dyn Display| {
        let _ = writeln!(text, "      {name:<12}{value}");
    };
    detail("digest", &descriptor.digest);
    detail("diffID", &layer.diff_id);
    if let Some(root) = root_hash(layer) {
        detail("root hash", &root);
    }
    text
}

/// What a layer is: a tar and how it is compressed, a layer with a tree, or in whose words it is described.
fn kind(layer: &Layer) -> String {
    match &layer.kind {
        LayerKind::Tar(compression) => format!("tar, compression {compression}"),
        LayerKind::Verity(_) => "EROFS with a hash tree".to_owned(),
        _ if stacker(layer).is_some() => format!("stacker ({})", layer.descriptor.media_type),
        _ => layer.descriptor.media_type.clone(),
    }
}

fn stacker(layer: &Layer) -> Option<stacker::Annotations> {
    stacker::Annotations::of(&layer.descriptor.annotations).ok()
}

fn root_hash(layer: &Layer) -> Option<String> {
    match &layer.kind {
        LayerKind::Verity(annotations) => Some(annotations.root_hash.to_string()),
        LayerKind::Tar(_) => None,
        _ => stacker(layer).map(|annotations| annotations.root.to_string()),
    }
}

pub(crate) fn inspected_json(inspected: &Inspected) -> Value {
    let each: Vec<_> = inspected.images.iter().map(one_json).collect();
    json!({
        "command": "image inspect",
        "image": inspected.name.to_string(),
        "base": inspected.base.as_ref().map(ToString::to_string),
        "images": each,
        "artifacts": inspected.artifacts,
    })
}

pub(super) fn descriptor(descriptor: &Descriptor) -> Value {
    json!({
        "digest": descriptor.digest.to_string(),
        "bytes": descriptor.size,
        "media_type": descriptor.media_type,
    })
}

fn one_json(compared: &Compared) -> Value {
    let Compared { image, roles, base } = compared;
    let copa = Copa::of(image);
    let layers: Vec<_> =
        image.layers.iter().zip(roles).map(|(layer, role)| layer_json(layer, *role)).collect();
    let base = base.as_ref().map(|(digest, layers)| {
        json!({"digest": digest.to_string(), "layer_count": layers, "shared_layers": compared.shared()})
    });
    merged([
        head(image),
        json!({
            "config": descriptor(&image.config.descriptor),
            "subject": image.subject.as_ref().map(descriptor),
            "annotations": image.annotations,
            "index_annotations": *image.index_annotations,
            "labels": image.config.labels,
            "copa": {
                "patched": copa.patched,
                "index_patched": copa.index_patched,
                "base_image": copa.base_image,
            },
            "base": base,
            "layers": layers,
        }),
    ])
}

fn layer_json(layer: &Layer, role: Option<Role>) -> Value {
    let (kind, compression) = match &layer.kind {
        LayerKind::Tar(compression) => ("tar", Some(compression.name())),
        LayerKind::Verity(_) => ("verity", None),
        _ => ("other", None),
    };
    let tree = match &layer.kind {
        LayerKind::Verity(annotations) => Some(&**annotations),
        _ => None,
    };
    merged([
        descriptor(&layer.descriptor),
        json!({
            "diff_id": layer.diff_id.to_string(),
            "kind": kind,
            "compression": compression,
            "dialect": matches!(kind, "other").then(|| stacker(layer)).flatten().map(|_| "stacker"),
            "role": role.map(Role::name),
            "root_hash": root_hash(layer),
            "tree": tree.map(tree_json),
            "annotations": layer.descriptor.annotations,
        }),
    ])
}

pub(super) fn tree_json(layer: &LayerAnnotations) -> Value {
    json!({
        "hash_algorithm": layer.algorithm.name(),
        "salt": layer.salt.to_string(),
        "data_block_size": layer.block_size.get(),
        "data_blocks": layer.data_blocks,
        "hash_offset": layer.hash_offset,
        "fec": layer.fec.map(|fec| json!({"roots": fec.roots.get(), "offset": fec.offset})),
    })
}
