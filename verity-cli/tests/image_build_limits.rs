//! `verity image build`: an image whose manifest nobody could read is refused before anything of it is made.

mod common;

use common::Sandbox;
use common::oci::{CONFIG, LAYER, Layout, MANIFEST, digest, document, listed, tar};
use serde_json::json;

/// An image of so many layers, none of which is there.
fn image_of_missing_layers(sandbox: &Sandbox, layers: usize) {
    let mut layout = Layout::new(sandbox, "src");
    let digests: Vec<_> = (0..layers).map(|number| digest(&number.to_le_bytes())).collect();
    let config =
        json!({"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": digests}});
    let layer = |digest: &String| json!({"mediaType": LAYER, "digest": digest, "size": 10_240});
    let manifest = json!({
        "schemaVersion": 2,
        "config": layout.blob(CONFIG, config.to_string().as_bytes()),
        "layers": digests.iter().map(layer).collect::<Vec<_>>(),
    });
    let manifest = layout.blob(MANIFEST, manifest.to_string().as_bytes());
    layout.list("app", &manifest);
}

#[test]
fn too_many_layers_are_refused_before_the_first_is_made() {
    let sandbox = Sandbox::new();
    image_of_missing_layers(&sandbox, 9_000);
    for (options, around) in [("", 5_500..6_500), ("--fec-roots 2 --hash sha512", 4_500..5_500)] {
        let run = sandbox.verity(&format!("image build oci:src oci:dst {options}"));
        assert_eq!((run.code, run.stdout.as_str()), (Some(1), ""), "{run:?}");
        for part in ["has 9000 layers", "readers take 4194304", "hint: make an image of fewer layers"] {
            assert!(run.stderr.contains(part), "{part}: {run:?}");
        }
        assert!(!sandbox.path("dst").exists());
        let (_, rest) = run.stderr.split_once("enough for ").unwrap();
        let most: usize = rest.split(' ').next().unwrap().parse().unwrap();
        assert!(around.contains(&most), "{most}");
        // So many are not too many: it comes to the layers, which are missing.
        let small = Sandbox::new();
        for (layers, message) in
            [(most, "is listed, and missing in"), (most + 1, "layers: what is made of it")]
        {
            image_of_missing_layers(&small, layers);
            let run = small.verity(&format!("image build oci:src oci:dst {options}"));
            assert!(run.stderr.contains(message), "{layers}: {run:?}");
        }
    }
}

/// What is made of a document that is just read has some members more.
#[test]
fn more_values_than_are_read_are_refused_before_the_first_layer_is_made() {
    let sandbox = Sandbox::new();
    let image = Layout::new(&sandbox, "src").image("amd64", &[&tar(1, &[1000])]);
    let mut manifest = document(&sandbox.path("src"), &image);
    let mut remarks = |count: usize| {
        let remarks: serde_json::Map<_, _> = (0..count).map(|n| (format!("{n:x}"), json!(""))).collect();
        manifest["annotations"] = remarks.into();
        let mut layout = Layout::new(&sandbox, "src");
        let image = layout.blob(MANIFEST, manifest.to_string().as_bytes());
        layout.list("app", &image);
        sandbox.verity("image build --quiet oci:src:app oci:dst --fec-roots 2")
    };
    let run = remarks(199_978);
    // The source itself is read.
    assert!(sandbox.verity("image inspect oci:src:app").success().contains("linux/amd64"));
    assert_eq!((run.code, run.stdout.as_str()), (Some(1), ""), "{run:?}");
    for part in [
        "nobody would read the manifest made of image sha256:",
        "more than 200000 values",
        "hint: make an image",
    ] {
        assert!(run.stderr.contains(part), "{part}: {run:?}");
    }
    assert!(!sandbox.path("dst").exists());
    // And what is built is read: document, version, types (2), configuration (4), subject (4), layers (1), one layer (4), its annotations (10) and those of the manifest (1 and theirs).
    let most = 200_000 - 28;
    for (count, code) in [(most + 1, 1), (most, 0)] {
        let run = remarks(count);
        assert_eq!(run.code, Some(code), "{count}: {:?}", run.stderr);
    }
    assert_eq!(sandbox.verity("image verify oci:dst:app").success(), "");
}

/// The bound is one: of the largest numbers that there can be, the manifest is still read.
#[test]
fn a_manifest_is_never_larger_than_it_was_taken_for() {
    let sandbox = Sandbox::new();
    let image = Layout::new(&sandbox, "src").image("amd64", &[&tar(1, &[100_000])]);
    let mut manifest = document(&sandbox.path("src"), &image);
    // With so long a remark the manifest of the result has 4 MiB at most, and with one character more it could have more.
    let mut remark = |length: usize| {
        manifest["annotations"] = json!({"a": "x".repeat(length)});
        let mut layout = Layout::new(&sandbox, "src");
        let manifest = layout.blob(MANIFEST, manifest.to_string().as_bytes());
        layout.list("app", &manifest);
        sandbox.verity("image build --quiet oci:src:app oci:dst")
    };
    let (mut fits, mut is_refused) = ((4 << 20) - 2_000, 4 << 20);
    while fits + 1 < is_refused {
        let middle = usize::midpoint(fits, is_refused);
        let run = remark(middle);
        match run.code {
            Some(0) => fits = middle,
            _ if run.stderr.contains("has 1 layers") => is_refused = middle,
            _ => panic!("{run:?}"),
        }
    }
    assert_eq!(remark(fits).code, Some(0));
    let dst = sandbox.path("dst");
    let size = listed(&dst)["app"]["size"].as_u64().unwrap();
    assert!((4 << 20) - 100 < size && size <= 4 << 20, "{size}");
    assert_eq!(sandbox.verity("image verify oci:dst:app").success(), "");
}
