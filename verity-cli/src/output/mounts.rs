//! What `verity image mount` and `umount` report.

use std::fmt::Write as _;

use serde_json::{Value, json};
use verity_core::device::DeviceName;

use super::json::text;
use crate::commands::{MountedImage, UnmountedImage};

/// An image that is mounted: where, and each layer's device.
pub(crate) fn mounted(image: &MountedImage, quiet: bool) -> String {
    if quiet {
        return String::new();
    }
    let shared = image.mounted.devices.iter().filter(|layer| layer.shared).count();
    let mut lines = format!("{} mounted at {}\n", image.name, image.mounted.target.display());
    let layers = image.mounted.devices.len();
    let _ = writeln!(
        lines,
        "manifest {}, {layers} {}, {shared} shared with other mounts",
        image.image.manifest.digest,
        if layers == 1 { "layer" } else { "layers" }
    );
    lines
}

/// The same as a document.
pub(crate) fn mounted_json(image: &MountedImage) -> Value {
    let layers = image.mounted.devices.iter().map(|layer| {
        let descriptor = image.image.layers.get(layer.index).map(|layer| layer.descriptor.digest.to_string());
        json!({
            "index": layer.index,
            "digest": descriptor,
            "device": layer.device.to_string(),
            "number": layer.number.to_string(),
            "shared": layer.shared,
        })
    });
    json!({
        "command": "image mount",
        "image": image.name.to_string(),
        "manifest": image.image.manifest.digest.to_string(),
        "target": text(&image.mounted.target),
        "layers": layers.collect::<Vec<_>>(),
    })
}

/// An image that was unmounted, as a document.
pub(crate) fn unmounted_json(image: &UnmountedImage) -> Value {
    let names = |names: &[DeviceName]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
    json!({
        "command": "image umount",
        "target": text(&image.target),
        "removed": names(&image.unmounted.removed),
        "shared": names(&image.unmounted.shared),
        "pending": names(&image.unmounted.pending),
    })
}
