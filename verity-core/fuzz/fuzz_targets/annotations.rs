//! Annotations of a layer by an attacker: what is taken is written as the same, and its parts lie one behind the other.
#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use verity_core::oci::annotations::LayerAnnotations;

const NAMES: [&str; 9] = [
    "diff-id",
    "root-hash",
    "algorithm",
    "salt",
    "block-size",
    "data-blocks",
    "hash-offset",
    "fec-roots",
    "fec-offset",
];

fuzz_target!(|text: &str| {
    // A line for each; sound ones in place of those that are empty, so that the others are come to.
    let digits = "0a".repeat(32);
    let diff_id = format!("sha256:{digits}");
    let sound = [&diff_id, &digits, "sha256", &digits, "4096", "10", "40960"];
    let mut lines = text.split('\n');
    let mut annotations = BTreeMap::new();
    for (index, name) in NAMES.iter().enumerate() {
        let value = match (lines.next().unwrap_or_default(), sound.get(index)) {
            ("", Some(value)) => value,
            ("", None) => continue,
            (line, _) => line,
        };
        annotations.insert(format!("io.dm-verity.layer.{name}"), value.to_owned());
    }
    if let Some(other) = lines.next() {
        annotations.insert(other.to_owned(), String::new());
    }
    let Ok(layer) = LayerAnnotations::of(&annotations) else { return };
    assert_eq!(LayerAnnotations::of(&layer.to_map()).unwrap(), layer);
    let geometry = layer.geometry().unwrap();
    assert!(geometry.data_bytes() <= layer.hash_offset);
    let mut end = geometry.hash_area_end();
    if let Some(parity) = layer.parity().unwrap() {
        assert!(parity.offset() >= end);
        end = parity.offset() + parity.parity_bytes();
    }
    assert_eq!(layer.blob_bytes().unwrap(), end);
});
