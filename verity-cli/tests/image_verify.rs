//! `verity image verify`: every byte of an image is vouched for by something.

mod common;

use std::fs;

use common::Sandbox;
use common::oci::{Layout, blob, document, listed, tar};
use serde_json::Value;

/// `src` with an image `app` of two layers, and `dst` built of it.
fn built() -> Sandbox {
    let sandbox = Sandbox::new();
    let mut layout = Layout::new(&sandbox, "src");
    let image = layout.image("amd64", &[&tar(1, &[300_000]), &tar(2, &[500_000])]);
    layout.list("app", &image);
    sandbox.verity("image build --quiet oci:src:app oci:dst").success();
    sandbox
}

/// What is wrong with each layer.
fn problems(document: &Value) -> Vec<Vec<String>> {
    let layers = document["images"][0]["layers"].as_array().unwrap();
    let of = |layer: &Value| {
        let problems = layer["problems"].as_array().unwrap();
        problems.iter().map(|problem| problem["problem"].as_str().unwrap().to_owned()).collect()
    };
    layers.iter().map(of).collect()
}

#[test]
fn what_is_whole_is_told_by_silence() {
    let sandbox = built();
    for name in ["oci:src:app", "oci:dst:app", "oci:dst"] {
        assert_eq!(sandbox.verity(&format!("image verify {name}")).success(), "");
    }
    let document = sandbox.verity("image verify oci:dst:app --json").json();
    assert_eq!((document["intact"].as_bool(), problems(&document)), (Some(true), vec![vec![]; 2]));
}

#[test]
fn every_byte_of_a_layer_counts() {
    let sandbox = built();
    let dst = sandbox.path("dst");
    let manifest = document(&dst, &listed(&dst)["app"]);
    let layer = &manifest["layers"][1];
    let path = blob(&dst, layer);
    let whole = fs::read(&path).unwrap();
    let annotation = |name: &str| layer["annotations"][format!("io.dm-verity.layer.{name}")].as_str();
    let superblock: usize = annotation("hash-offset").unwrap().parse().unwrap();
    for (byte, expected) in [
        (100, &["digest", "tree"][..]),
        (superblock - 1, &["digest", "tree"]),
        (superblock, &["digest", "superblock"]),
        // Its UUID, which only the blob's digest is of.
        (superblock + 16, &["digest"]),
        (superblock + 4096, &["digest", "tree"]),
        (whole.len() - 1, &["digest", "tree"]),
    ] {
        let mut bytes = whole.clone();
        bytes[byte] ^= 1;
        fs::write(&path, bytes).unwrap();
        let run = sandbox.verity("image verify oci:dst:app --json");
        assert_eq!(run.code, Some(2), "{byte}");
        assert_eq!(problems(&run.json()), [&[][..], expected], "{byte}");
        let run = sandbox.verity("image verify oci:dst:app");
        let name = format!("layer 2 of linux/amd64, {}: ", layer["digest"].as_str().unwrap());
        assert!(run.code == Some(2) && run.stdout.starts_with(&name), "{run:?}");
    }
    fs::write(&path, &whole[1..]).unwrap();
    assert_eq!(problems(&sandbox.verity("image verify oci:dst:app --json").json()), [&[][..], &["blob"]]);
    fs::remove_file(&path).unwrap();
    assert_eq!(problems(&sandbox.verity("image verify oci:dst:app --json").json()), [&[][..], &["blob"]]);
}

/// What is read from elsewhere is vouched for by nothing, whatever the digests say.
#[test]
fn an_image_that_names_further_devices_is_bad() {
    let sandbox = built();
    let dst = sandbox.path("dst");
    let manifest = document(&dst, &listed(&dst)["app"]);
    let path = blob(&dst, &manifest["layers"][0]);
    let mut bytes = fs::read(&path).unwrap();
    // `feature_incompat` of the superblock at byte 1024, and its bit for a table of devices.
    bytes[1024 + 80] |= 0x08;
    fs::write(&path, &bytes).unwrap();
    let document = sandbox.verity("image verify oci:dst:app --json").json();
    assert_eq!(problems(&document), [vec!["digest", "tree", "devices"], vec![]]);
    // A layer of one's own is not made of it either.
    sandbox.write("image", &bytes[..8192]);
    let refused = sandbox.verity("layer adopt image layer");
    assert!(refused.code == Some(1) && refused.stderr.contains("further devices"), "{refused:?}");
    assert!(!sandbox.path("layer").exists());
}

#[test]
fn documents_count_too() {
    let sandbox = built();
    let dst = sandbox.path("dst");
    let entry = listed(&dst)["app"].clone();
    for descriptor in [&entry, &document(&dst, &entry)["config"]] {
        let path = blob(&dst, descriptor);
        let whole = fs::read(&path).unwrap();
        let mut bytes = whole.clone();
        bytes[10] ^= 1;
        fs::write(&path, bytes).unwrap();
        let run = sandbox.verity("image verify oci:dst:app");
        assert_eq!(run.code, Some(2), "{run:?}");
        assert!(run.stderr.contains(descriptor["digest"].as_str().unwrap()), "{run:?}");
        fs::write(&path, whole).unwrap();
    }
    sandbox.verity("image verify oci:dst:app").success();
}

#[test]
fn tars_are_checked_against_blob_and_configuration() {
    let sandbox = Sandbox::new();
    let mut layout = Layout::new(&sandbox, "src");
    let (one, two) = (tar(1, &[300_000]), tar(2, &[500_000]));
    let image = layout.image("amd64", &[&one, &two]);
    let src = sandbox.path("src");
    let mut manifest = document(&src, &image);
    layout.list("app", &image);
    // The layers in another order than the configuration has them.
    let swapped = manifest["layers"].as_array().unwrap().iter().rev().cloned().collect();
    manifest["layers"] = Value::Array(swapped);
    let swapped = layout.blob(common::oci::MANIFEST, manifest.to_string().as_bytes());
    layout.list("swapped", &swapped);
    let run = sandbox.verity("image verify oci:src:swapped --json");
    assert_eq!((run.code, problems(&run.json())), (Some(2), vec![vec!["tar".to_owned()]; 2]));
    assert!(run.stdout.contains("diffID"), "{run:?}");
    assert_eq!(sandbox.verity("image build oci:src:swapped oci:dst").code, Some(2));
    sandbox.verity("image verify oci:src:app").success();
}

#[test]
fn an_archive_is_verified_as_its_layout() {
    let sandbox = built();
    let run = |arguments| assert!(sandbox.command("tar", arguments).status().unwrap().success());
    run("-C dst -cf dst.tar oci-layout index.json blobs");
    assert_eq!(sandbox.verity("image verify oci-archive:dst.tar:app").success(), "");
    let dst = sandbox.path("dst");
    let path = blob(&dst, &document(&dst, &listed(&dst)["app"])["layers"][0]);
    let mut bytes = fs::read(&path).unwrap();
    bytes[5000] ^= 1;
    fs::write(&path, bytes).unwrap();
    run("-C dst -cf dst.tar oci-layout index.json blobs");
    let run = sandbox.verity("image verify oci-archive:dst.tar:app --json");
    assert_eq!(
        (run.code, problems(&run.json())),
        (Some(2), vec![vec!["digest".into(), "tree".into()], vec![]])
    );
}
