//! Images of umoci become images that umoci and skopeo read and carry.

mod common;

use std::fs;

use common::oci::{Layout, document, files, listed, tar};
use common::{Run, Sandbox, pattern};
use serde_json::Value;

tests! {
    what_umoci_makes_is_built_and_what_is_built_is_read_by_it: [Umoci];
    umoci_collects_garbage_in_a_layout_with_the_source: [Umoci];
    skopeo_carries_what_is_built_as_it_is: [Umoci, Skopeo];
    skopeo_carries_an_index_as_it_is: [Skopeo];
}

fn run(sandbox: &Sandbox, program: &str, arguments: &str) -> String {
    let run = Run::of(&mut sandbox.command(program, arguments));
    assert_eq!(run.code, Some(0), "{program} {arguments}: {run:?}");
    run.stdout
}

/// A layout `src` of umoci's with images `base` and `patched`: the same and a layer on top.
fn source() -> Sandbox {
    let sandbox = Sandbox::new();
    run(&sandbox, "umoci", "init --layout src");
    run(&sandbox, "umoci", "new --image src:base");
    run(&sandbox, "umoci", "unpack --rootless --image src:base bundle");
    let at = |name: &str| sandbox.path("bundle/rootfs").join(name);
    fs::create_dir_all(at("usr/bin")).unwrap();
    fs::create_dir_all(at("etc")).unwrap();
    fs::write(at("usr/bin/program"), pattern(300_000)).unwrap();
    fs::write(at("etc/version"), "1\n").unwrap();
    fs::write(at("etc/old"), "old\n").unwrap();
    run(&sandbox, "umoci", "repack --refresh-bundle --image src:base bundle");
    run(&sandbox, "umoci", "config --image src:base --config.cmd /usr/bin/program");
    fs::remove_file(at("etc/old")).unwrap();
    fs::write(at("etc/version"), "2\n").unwrap();
    run(&sandbox, "umoci", "repack --image src:patched bundle");
    sandbox
}

fn what_umoci_makes_is_built_and_what_is_built_is_read_by_it() {
    let sandbox = source();
    let report = sandbox.verity("image build --json oci:src oci:dst").json();
    // The base is one layer of two images.
    assert_eq!((report["built_layers"].as_u64(), report["reused_layers"].as_u64()), (Some(2), Some(1)));
    let mut names: Vec<_> = run(&sandbox, "umoci", "list --layout dst").lines().map(str::to_owned).collect();
    names.sort();
    assert_eq!(names, ["base", "patched"]);
    let stat = |image: &str| -> Value {
        serde_json::from_str(&run(&sandbox, "umoci", &format!("stat --json --image {image}"))).unwrap()
    };
    let dst = sandbox.path("dst");
    let manifest = document(&dst, &listed(&dst)["patched"]);
    let history = stat("dst:patched")["history"].as_array().unwrap().clone();
    let layers: Vec<_> = history.iter().filter(|step| !step["layer"].is_null()).collect();
    assert_eq!(layers.len(), 2);
    for (step, layer) in layers.iter().zip(manifest["layers"].as_array().unwrap()) {
        assert_eq!(step["layer"]["digest"], layer["digest"]);
    }
    assert_eq!(sandbox.verity("image verify oci:dst").success(), "");
}

/// It follows the subject, too: of a layout without the source it says that something is missing.
fn umoci_collects_garbage_in_a_layout_with_the_source() {
    let sandbox = source();
    // What it has left behind itself.
    run(&sandbox, "umoci", "gc --layout src");
    let blobs = || files(&sandbox.path("src/blobs"));
    let built = |name: &str| {
        let report =
            sandbox.verity(&format!("image build --json oci:src:{name} oci:src:{name}-verity")).json();
        report["built_layers"].as_u64().unwrap()
    };
    assert_eq!((built("base"), built("patched")), (1, 1));
    let whole = blobs();
    run(&sandbox, "umoci", "gc --layout src");
    assert!(blobs() == whole);
    run(&sandbox, "umoci", "rm --image src:patched-verity");
    run(&sandbox, "umoci", "gc --layout src");
    assert!(blobs().len() < whole.len());
    // What was collected is made again, and the rest is found.
    assert_eq!((built("base"), built("patched")), (0, 1));
    assert!(blobs() == whole);
}

fn skopeo_carries_what_is_built_as_it_is() {
    let sandbox = source();
    sandbox.verity("image build --quiet oci:src:patched oci:dst").success();
    let dst = sandbox.path("dst");
    let entry = listed(&dst)["patched"].clone();
    let raw = run(&sandbox, "skopeo", "inspect --raw oci:dst:patched");
    assert_eq!(serde_json::from_str::<Value>(&raw).unwrap(), document(&dst, &entry));
    let copy = |to: &str| run(&sandbox, "skopeo", &format!("copy --preserve-digests oci:dst:patched {to}"));
    copy("oci:copy:patched");
    assert_eq!(listed(&sandbox.path("copy"))["patched"]["digest"], entry["digest"]);
    assert_eq!(sandbox.verity("image verify oci:copy:patched").success(), "");
    copy("oci-archive:copy.tar:patched");
    assert_eq!(sandbox.verity("image verify oci-archive:copy.tar:patched").success(), "");
    copy("dir:plain");
    let manifest = sandbox.read("plain/manifest.json");
    assert_eq!(common::oci::digest(&manifest), entry["digest"].as_str().unwrap());
    for layer in document(&dst, &entry)["layers"].as_array().unwrap() {
        let digest = layer["digest"].as_str().unwrap();
        let name = format!("plain/{}", digest.strip_prefix("sha256:").unwrap());
        assert_eq!(common::oci::digest(&sandbox.read(&name)), digest);
    }
}

fn skopeo_carries_an_index_as_it_is() {
    let sandbox = Sandbox::new();
    let mut layout = Layout::new(&sandbox, "src");
    let images = [("amd64", 1), ("arm64", 2)]
        .map(|(architecture, seed)| (architecture, layout.image(architecture, &[&tar(seed, &[50_000])])));
    let index = layout.index(&images);
    layout.list("app", &index);
    sandbox.verity("image build --quiet oci:src:app oci:dst").success();
    let digest = listed(&sandbox.path("dst"))["app"]["digest"].clone();
    let copy = |to: &str| run(&sandbox, "skopeo", &format!("copy --all --preserve-digests oci:dst:app {to}"));
    copy("oci:copy:app");
    assert_eq!(listed(&sandbox.path("copy"))["app"]["digest"], digest);
    copy("oci-archive:copy.tar:app");
    copy("dir:plain");
    assert_eq!(common::oci::digest(&sandbox.read("plain/manifest.json")), digest.as_str().unwrap());
    for image in ["oci:copy:app", "oci-archive:copy.tar:app"] {
        let images = sandbox.verity(&format!("image verify --json {image}")).json()["images"].clone();
        assert!(images.as_array().unwrap().len() == 2, "{image}: {images}");
    }
}
