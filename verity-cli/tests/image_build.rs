//! `verity image build`: what it makes, that it makes it the same way each time and once, and what is left when it does not come to that.

mod common;

use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::Duration;

use common::oci::{Layout, blob, digest, document, files, listed, tar};
use common::{Run, Sandbox};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

const ARTIFACT: &str = "application/vnd.dm-verity.image.v1";

/// A layout `src` with an image `app` of so many layers of a megabyte.
fn source(layers: u8) -> Sandbox {
    let sandbox = Sandbox::new();
    let tars: Vec<_> = (0..layers).map(|layer| tar(layer, &[600_000, 100, 0, 400_000])).collect();
    let tars: Vec<_> = tars.iter().map(Vec::as_slice).collect();
    let mut layout = Layout::new(&sandbox, "src");
    let image = layout.image("amd64", &tars);
    layout.list("app", &image);
    sandbox
}

#[track_caller]
fn build(sandbox: &Sandbox, arguments: &str) -> Value {
    let run = sandbox.verity(&format!("image build --json {arguments}"));
    assert_eq!(run.code, Some(0), "{run:?}");
    run.json()
}

fn counts(document: &Value) -> (u64, u64) {
    (document["built_layers"].as_u64().unwrap(), document["reused_layers"].as_u64().unwrap())
}

/// The files of killed builds.
fn temporaries(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir.join(".verity")).into_iter().flatten();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with("new-")).collect()
}

#[test]
fn the_result_is_an_image_with_the_source_as_its_subject() {
    let sandbox = source(2);
    let (src, dst) = (sandbox.path("src"), sandbox.path("dst"));
    let before = files(&src);
    let report = build(&sandbox, "oci:src:app oci:dst --fec-roots 2");
    assert_eq!(files(&src), before, "the source was changed");
    assert_eq!((counts(&report), report["images"][0]["reference"].as_str()), ((2, 0), Some("app")));

    let original = listed(&src)["app"].clone();
    let original_manifest = document(&src, &original);
    let entry = listed(&dst)["app"].clone();
    assert_eq!(entry["artifactType"], ARTIFACT);
    assert_eq!(entry["platform"], json!({"architecture": "amd64", "os": "linux"}));
    assert_eq!(entry["digest"], report["images"][0]["digest"]);
    let manifest = document(&dst, &entry);
    assert_eq!(manifest["artifactType"], ARTIFACT);
    for field in ["mediaType", "digest", "size"] {
        assert_eq!(manifest["subject"][field], original[field], "{field}");
        assert_eq!(manifest["config"][field], original_manifest["config"][field], "{field}");
    }
    assert_eq!(manifest["annotations"], original_manifest["annotations"]);
    let config = |dir, manifest: &Value| fs::read(blob(dir, &manifest["config"])).unwrap();
    assert_eq!(config(&dst, &manifest), config(&src, &original_manifest));

    let layers = manifest["layers"].as_array().unwrap();
    assert_eq!(layers.len(), 2);
    for (layer, original) in layers.iter().zip(original_manifest["layers"].as_array().unwrap()) {
        assert_eq!(layer["mediaType"], "application/vnd.erofs.layer.v1");
        let path = blob(&dst, layer);
        assert_eq!(digest(&fs::read(&path).unwrap()), layer["digest"].as_str().unwrap());
        // The same as without an image around it.
        let alone = format!("layer build {} alone --fec-roots 2 --json", blob(&src, original).display());
        let alone = sandbox.verity(&alone).json();
        assert!(sandbox.read("alone") == fs::read(&path).unwrap());
        fs::remove_file(sandbox.path("alone")).unwrap();
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        for (annotation, value) in [
            ("diff-id", &alone["diff_id"]),
            ("root-hash", &alone["root_hash"]),
            ("algorithm", &alone["hash_algorithm"]),
            ("salt", &alone["salt"]),
            ("block-size", &alone["data_block_size"]),
            ("data-blocks", &alone["data_blocks"]),
            ("hash-offset", &alone["hash_offset"]),
            ("fec-roots", &alone["fec"]["roots"]),
            ("fec-offset", &alone["fec"]["offset"]),
        ] {
            let found = layer["annotations"][format!("io.dm-verity.layer.{annotation}")].as_str();
            assert_eq!(found, Some(&*text(value)), "{annotation}");
        }
    }
    assert_eq!(sandbox.verity("image verify oci:dst:app").success(), "");
    assert!(temporaries(&dst).is_empty());
}

#[test]
fn an_index_stays_an_index() {
    let sandbox = Sandbox::new();
    let (base, amd64, arm64) = (tar(1, &[50_000]), tar(2, &[70_000]), tar(3, &[90_000]));
    let mut layout = Layout::new(&sandbox, "src");
    let images =
        [("amd64", &amd64), ("arm64", &arm64)].map(|(name, top)| (name, layout.image(name, &[&base, top])));
    let index = layout.index(&images);
    layout.list("app", &index);
    let report = build(&sandbox, "oci:src:app oci:dst:both");
    // The base is one layer.
    assert_eq!(counts(&report), (3, 1));
    let dst = sandbox.path("dst");
    let index = document(&dst, &listed(&dst)["both"]);
    assert!(index["artifactType"].is_null() && listed(&dst)["both"]["artifactType"].is_null());
    for (entry, (architecture, original)) in index["manifests"].as_array().unwrap().iter().zip(&images) {
        assert_eq!(document(&dst, entry)["artifactType"], ARTIFACT);
        assert_eq!(entry["platform"]["architecture"], *architecture);
        assert_eq!(document(&dst, entry)["subject"]["digest"], original["digest"]);
    }
    assert_eq!(sandbox.verity("image verify oci:dst:both").success(), "");
    // One of them is a manifest, and nothing of it is made again.
    let report = build(&sandbox, "oci:src:app oci:dst:arm --platform linux/arm64");
    assert_eq!(counts(&report), (0, 2));
    assert_eq!(listed(&dst)["arm"]["digest"], index["manifests"][1]["digest"]);
    assert_eq!(listed(&dst).len(), 2);
}

#[test]
fn two_builds_are_the_same_bytes() {
    let sandbox = source(5);
    build(&sandbox, "oci:src:app oci:one --threads 1 --jobs 1");
    fs::create_dir(sandbox.path("folder")).unwrap();
    build(&sandbox, "oci:src:app oci:folder/two --threads 4 --jobs 3");
    let (one, two) = (files(&sandbox.path("one")), files(&sandbox.path("folder/two")));
    assert!(one == two, "{:?}\n{:?}", one.keys(), two.keys());
    // A second time into the same layout changes nothing.
    assert_eq!(counts(&build(&sandbox, "oci:src:app oci:one")), (0, 5));
    assert!(files(&sandbox.path("one")) == one);
}

#[test]
fn an_image_of_the_same_name_is_replaced_and_others_stay() {
    let sandbox = source(1);
    build(&sandbox, "oci:src:app oci:dst:one");
    build(&sandbox, "oci:src:app oci:dst:two");
    let dst = sandbox.path("dst");
    // Something that this program knows nothing of.
    let path = dst.join("index.json");
    let mut index: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    index["x"] = json!({"z": 1, "a": [2]});
    index["manifests"][1]["y"] = json!("kept");
    fs::write(&path, index.to_string()).unwrap();
    let before = listed(&dst);
    build(&sandbox, "oci:src:app oci:dst:one --hash sha512");
    let after = listed(&dst);
    assert_ne!(before["one"]["digest"], after["one"]["digest"]);
    assert_eq!((&before["two"], after.len()), (&after["two"], 2));
    let index: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    assert_eq!(index["x"], json!({"z": 1, "a": [2]}));
}

#[test]
fn a_layer_that_is_listed_twice_is_made_once() {
    let sandbox = Sandbox::new();
    let (one, other) = (tar(1, &[50_000]), tar(2, &[50_000]));
    let mut layout = Layout::new(&sandbox, "src");
    let image = layout.image("amd64", &[&one, &other, &one]);
    layout.list("app", &image);
    let report = build(&sandbox, "oci:src:app oci:dst");
    assert_eq!(counts(&report), (2, 1));
    let layers = &report["images"][0]["manifests"][0]["layers"];
    assert_eq!(layers[0]["digest"], layers[2]["digest"]);
    assert_eq!(sandbox.verity("image verify oci:dst:app").success(), "");
}

#[test]
fn a_layer_that_is_damaged_or_gone_is_made_again() {
    let sandbox = source(2);
    let report = build(&sandbox, "oci:src:app oci:dst");
    let dst = sandbox.path("dst");
    let whole = files(&dst);
    let layers = &report["images"][0]["manifests"][0]["layers"];
    let path = blob(&dst, &layers[0]);
    let bytes = fs::read(&path).unwrap();
    let offset = usize::try_from(layers[0]["tree"]["hash_offset"].as_u64().unwrap()).unwrap();
    let mut other_tree = bytes.clone();
    other_tree[offset + 4096] ^= 1;
    let mut other_superblock = bytes.clone();
    other_superblock[offset + 20] ^= 1;
    // The UUID vouches for nothing; all else of the first blocks does.
    for (what, content, built) in [
        ("gone", None, 1),
        ("shorter", Some(bytes[..bytes.len() - 1].to_vec()), 1),
        ("another tree", Some(other_tree), 1),
        ("as it was", Some(bytes.clone()), 0),
    ] {
        match content {
            Some(content) => fs::write(&path, content).unwrap(),
            None => fs::remove_file(&path).unwrap(),
        }
        assert_eq!(counts(&build(&sandbox, "oci:src:app oci:dst")), (built, 2 - built), "{what}");
        assert!(files(&dst) == whole, "{what}");
    }
    // What is remembered of layers is no more than that.
    let records: Vec<_> = fs::read_dir(dst.join(".verity/layers")).unwrap().map(Result::unwrap).collect();
    assert_eq!(records.len(), 2);
    fs::write(records[0].path(), &fs::read(records[0].path()).unwrap()[..100]).unwrap();
    fs::write(records[1].path(), fs::read(records[0].path()).unwrap()).unwrap();
    assert_eq!(counts(&build(&sandbox, "oci:src:app oci:dst")), (2, 0));
    assert!(files(&dst) == whole);
    fs::remove_dir_all(dst.join(".verity")).unwrap();
    assert_eq!(counts(&build(&sandbox, "oci:src:app oci:dst")), (2, 0));
    assert!(files(&dst) == whole);
}

#[test]
fn twenty_processes_make_each_layer_once() {
    let sandbox = source(4);
    build(&sandbox, "oci:src:app oci:expected");
    let start = |_| {
        let mut command = sandbox.verity_command("image build oci:src:app oci:dst --json --threads 1");
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let children: Vec<_> = (0..20).map(start).collect();
    let mut made = 0;
    for child in children {
        let run = Run::from(child.wait_with_output().unwrap());
        assert_eq!(run.code, Some(0), "{run:?}");
        let (built, reused) = counts(&run.json());
        assert_eq!(built + reused, 4);
        made += built;
    }
    assert_eq!(made, 4);
    assert!(files(&sandbox.path("dst")) == files(&sandbox.path("expected")));
}

/// Starts a build of one layer at a time.
fn begin(sandbox: &Sandbox) -> Child {
    let mut command = sandbox.interruptible("image build oci:src:app oci:dst --threads 1 --jobs 1");
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn send(child: &Child, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
}

/// How far a build has come: blobs that are complete, and bytes of one that is not.
fn progress(dst: &Path) -> (usize, u64) {
    let blobs = fs::read_dir(dst.join("blobs/sha256")).map_or(0, Iterator::count);
    let sizes = temporaries(dst)
        .into_iter()
        .filter_map(|name| fs::metadata(dst.join(".verity").join(name)).ok())
        .map(|metadata| metadata.len());
    (blobs, sizes.max().unwrap_or(0))
}

#[test]
fn a_killed_build_is_resumed() {
    let sandbox = source(6);
    build(&sandbox, "oci:src:app oci:expected");
    let expected = files(&sandbox.path("expected"));
    let dst = sandbox.path("dst");
    let mut killed = 0;
    for moment in [(0, 0), (0, 1), (0, 500_000), (1, 0), (1, 1), (3, 500_000), (5, 0), (6, 0), (7, 0), (8, 0)]
    {
        let mut child = begin(&sandbox);
        while progress(&dst) < moment && child.try_wait().unwrap().is_none() {
            sleep(Duration::from_micros(200));
        }
        send(&child, Signal::SIGKILL);
        killed += usize::from(Run::from(child.wait_with_output().unwrap()).signal == Some(9));
        let complete = fs::read_dir(dst.join(".verity/layers")).map_or(0, |records| {
            records.filter(|record| record.as_ref().unwrap().metadata().unwrap().len() > 0).count() as u64
        });
        let report = build(&sandbox, "oci:src:app oci:dst");
        assert_eq!(counts(&report), (6 - complete, complete), "{moment:?}");
        assert!(files(&dst) == expected, "{moment:?}");
        fs::remove_dir_all(&dst).unwrap();
    }
    assert!(killed >= 6, "only {killed} of 10 builds were killed before they ended");
}

#[test]
fn a_signal_leaves_what_is_complete_and_no_image() {
    let sandbox = source(6);
    let dst = sandbox.path("dst");
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let child = begin(&sandbox);
        while progress(&dst) < (1, 1) {
            sleep(Duration::from_micros(200));
        }
        send(&child, signal);
        let run = Run::from(child.wait_with_output().unwrap());
        assert_eq!((run.code, run.signal), (None, Some(signal as i32)), "{run:?}");
        assert!(run.stderr.contains("interrupted by signal"), "{run:?}");
        assert!(temporaries(&dst).is_empty() && !dst.join("index.json").exists());
        for (path, content) in files(&dst) {
            let Some(content) = content else { continue };
            if let Ok(name) = path.strip_prefix("blobs/sha256") {
                assert_eq!(digest(&content), format!("sha256:{}", name.display()));
            } else {
                assert!(path.starts_with(".verity/layers") && !content.is_empty(), "{path:?}");
            }
        }
        fs::remove_dir_all(&dst).unwrap();
    }
}

#[test]
fn bad_sources_are_named_and_leave_nothing() {
    let sandbox = source(2);
    let src = sandbox.path("src");
    let manifest = document(&src, &listed(&src)["app"]);
    let layer = blob(&src, &manifest["layers"][1]);
    let whole = fs::read(&layer).unwrap();
    let digest = manifest["layers"][1]["digest"].as_str().unwrap();
    let mut flipped = whole.clone();
    flipped[100_000] ^= 1;
    for (what, content, code, message) in [
        ("flipped", Some(flipped), 2, "the layer's digest is sha256:"),
        ("shorter", Some(whole[..whole.len() - 1].to_vec()), 2, "bytes, and should have"),
        ("gone", None, 4, "is listed, and missing in"),
    ] {
        match content {
            Some(content) => fs::write(&layer, content).unwrap(),
            None => fs::remove_file(&layer).unwrap(),
        }
        // One after the other, the first layer is complete by then: it is kept.
        let run = sandbox.verity("image build oci:src:app oci:dst --jobs 2");
        assert_eq!((run.code, run.stdout.as_str()), (Some(code), ""), "{what}: {run:?}");
        let path = if what == "flipped" { layer.file_name().unwrap().to_str().unwrap() } else { "hint: " };
        for part in [message, digest, "oci:src:app", path] {
            assert!(run.stderr.contains(part), "{what}: {part}: {run:?}");
        }
        assert!(!sandbox.path("dst/index.json").exists() && temporaries(&sandbox.path("dst")).is_empty());
        let _ = fs::remove_dir_all(sandbox.path("dst"));
    }
    // Of a layout that was made for nothing, nothing is left.
    let first = blob(&src, &manifest["layers"][0]);
    fs::write(&first, &fs::read(&first).unwrap()[1..]).unwrap();
    assert_eq!(sandbox.verity("image build oci:src:app oci:dst --jobs 1").code, Some(2));
    assert!(!sandbox.path("dst").exists());
}

#[test]
fn a_full_disk_is_told() {
    let sandbox = source(2);
    let script = "ulimit -f 512; exec \"$0\" image build oci:src:app oci:dst --jobs 1";
    let run = Run::of(sandbox.command("sh", "-c").arg(script).arg(env!("CARGO_BIN_EXE_verity")));
    assert_eq!(run.code, Some(1), "{run:?}");
    for part in ["layer sha256:", ".verity/new-", "cannot be written: File too large", "hint: make room"] {
        assert!(run.stderr.contains(part), "{part}: {run:?}");
    }
    assert!(!sandbox.path("dst").exists());
}

#[test]
fn what_cannot_be_is_refused() {
    let sandbox = source(1);
    build(&sandbox, "oci:src:app oci:dst");
    fs::create_dir(sandbox.path("other")).unwrap();
    sandbox.write("other/file", b"");
    sandbox.write("occupied", b"");
    let before = files(&sandbox.path("."));
    for (arguments, code, message) in [
        ("oci:dst:app oci:again", 1, "has a hash tree already"),
        ("oci:src:app oci:other", 5, "is no OCI layout"),
        ("oci:src:app oci:occupied", 1, "occupied"),
        ("oci:src:app oci:missing/dst", 1, "cannot be written"),
        ("oci:src:app oci:src", 5, "would be replaced"),
        ("oci:src:app oci:src:app", 5, "would be replaced"),
        ("oci:src oci:./src", 5, "would be replaced"),
        ("oci:src:@0 oci:src", 5, "would be replaced"),
        ("oci:src:@0 oci:src:app", 5, "would be replaced"),
        ("oci:src:app oci-archive:occupied", 5, "exists already"),
        ("oci:src:app docker-archive:a.tar", 1, "images are made in OCI layouts and archives"),
        ("oci:src:app docker://localhost/a", 1, "images are made in OCI layouts and archives"),
        ("oci:src:app oci:dst:@0", 1, "a digest or a number"),
        ("oci:src:none oci:new", 4, "none"),
        ("oci:nothing:app oci:new", 4, "nothing"),
        ("oci:src:app oci:new --block-size 1024", 1, "1024"),
        ("oci:src:app oci:new --jobs 0", 1, "jobs"),
    ] {
        let run = sandbox.verity(&format!("image build {arguments}"));
        assert_eq!((run.code, run.stdout.as_str()), (Some(code), ""), "{arguments}: {run:?}");
        assert!(run.stderr.contains(message), "{arguments}: {run:?}");
        assert!(files(&sandbox.path(".")) == before, "{arguments}");
    }
    // Under another name, in its own layout.
    build(&sandbox, "oci:src:app oci:src:verity");
    assert_eq!(listed(&sandbox.path("src")).len(), 2);
}

#[test]
fn an_index_is_one_that_can_be_read_before_and_after() {
    let sandbox = source(1);
    for layout in ["umoci", "bad"] {
        fs::create_dir(sandbox.path(layout)).unwrap();
    }
    // As umoci makes it.
    sandbox.write("umoci/oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#);
    sandbox.write("umoci/index.json", br#"{"schemaVersion":2,"manifests":null}"#);
    build(&sandbox, "oci:src:app oci:umoci");
    assert_eq!(listed(&sandbox.path("umoci")).len(), 1);
    // One that no image can be listed in is told before any layer is made.
    sandbox.write("bad/oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#);
    sandbox.write("bad/index.json", br#"{"schemaVersion":2,"manifests":[],"Manifests":[]}"#);
    let before = files(&sandbox.path("bad"));
    let run = sandbox.verity("image build oci:src:app oci:bad");
    assert!(run.code == Some(1) && run.stderr.contains("bad/index.json"), "{run:?}");
    assert!(files(&sandbox.path("bad")) == before);
    // A name that would make the index too large for every reader leaves it as it is.
    build(&sandbox, "oci:src:app oci:dst");
    let mut layout: Value =
        serde_json::from_slice(&fs::read(sandbox.path("src/index.json")).unwrap()).unwrap();
    layout["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"] = "n".repeat(4_193_800).into();
    fs::write(sandbox.path("src/index.json"), layout.to_string()).unwrap();
    let index = fs::read(sandbox.path("dst/index.json")).unwrap();
    let run = sandbox.verity("image build oci:src oci:dst");
    assert!(run.code == Some(1) && run.stderr.contains("more than 4194304 bytes"), "{:.500}", run.stderr);
    assert!(fs::read(sandbox.path("dst/index.json")).unwrap() == index);
}

#[test]
fn an_archive_is_the_layout_in_a_tar() {
    let sandbox = source(3);
    let report = build(&sandbox, "oci:src:app oci:dst");
    let archived = build(&sandbox, "oci:src:app oci-archive:one.tar --threads 1 --jobs 1");
    build(&sandbox, "oci:src:app oci-archive:two.tar");
    assert_eq!(archived["images"][0]["digest"], report["images"][0]["digest"]);
    assert!(sandbox.read("one.tar") == sandbox.read("two.tar"));
    assert_eq!(sandbox.verity("image verify oci-archive:one.tar:app").success(), "");
    fs::create_dir(sandbox.path("unpacked")).unwrap();
    assert!(sandbox.command("tar", "-C unpacked -xf one.tar").status().unwrap().success());
    fs::remove_dir_all(sandbox.path("dst/.verity")).unwrap();
    assert!(files(&sandbox.path("unpacked")) == files(&sandbox.path("dst")));
    assert_eq!(sandbox.names(), ["dst", "one.tar", "src", "two.tar", "unpacked"]);
}

#[test]
fn an_archive_that_was_killed_leaves_nothing_after_the_next() {
    let sandbox = source(6);
    let mut command =
        sandbox.verity_command("image build oci:src:app oci-archive:a.tar --threads 1 --jobs 1");
    let mut child = command.stdout(Stdio::null()).spawn().unwrap();
    while !sandbox.names().iter().any(|name| name.ends_with(".tmpdir")) {
        assert_eq!(child.try_wait().unwrap(), None);
        sleep(Duration::from_micros(200));
    }
    send(&child, Signal::SIGKILL);
    child.wait().unwrap();
    assert!(sandbox.names().len() > 1, "it was killed too late");
    // Another that fails cleans up after itself, too.
    let manifest = document(&sandbox.path("src"), &listed(&sandbox.path("src"))["app"]);
    let layer = blob(&sandbox.path("src"), &manifest["layers"][5]);
    let whole = fs::read(&layer).unwrap();
    fs::write(&layer, &whole[1..]).unwrap();
    assert_eq!(sandbox.verity("image build oci:src:app oci-archive:a.tar").code, Some(2));
    assert_eq!(sandbox.names(), ["src"]);
    fs::write(&layer, whole).unwrap();
    sandbox.verity("image build --quiet oci:src:app oci-archive:a.tar").success();
    assert_eq!(sandbox.names(), ["a.tar", "src"]);
}

#[test]
fn what_a_hint_says_can_be_done() {
    let sandbox = source(1);
    for (few, enough) in
        [("--max-entries 1", "--max-entries 1000"), ("--max-memory 1", "--max-memory 1000000")]
    {
        let option = few.split(' ').next().unwrap();
        let run = sandbox.verity(&format!("image build oci:src:app oci:dst {few}"));
        assert!(run.code == Some(1) && run.stderr.contains(option), "{run:?}");
        sandbox.verity(&format!("image build --quiet oci:src:app oci:{} {enough}", &option[2..])).success();
    }
}

#[test]
fn nothing_is_written_through_links() {
    let sandbox = source(1);
    build(&sandbox, "oci:src:app oci:made");
    let record = fs::read_dir(sandbox.path("made/.verity/layers")).unwrap().next().unwrap().unwrap();
    let record = format!(".verity/layers/{}", record.file_name().to_str().unwrap());
    fs::create_dir_all(sandbox.path("victim/layers/sha256")).unwrap();
    for name in ["victim/empty", "victim/layers/empty", "victim/new-file", "victim/layers/sha256/empty"] {
        sandbox.write(name, b"");
    }
    sandbox.write("victim/keys", b"secret");
    let before = files(&sandbox.path("victim"));
    for (name, target) in [
        (".verity", "victim"),
        (".verity/layers", "victim/layers"),
        ("blobs", "victim/layers"),
        ("blobs/sha256", "victim"),
        (&record, "victim/keys"),
        (&record, "victim/missing"),
    ] {
        let link = sandbox.path("dst").join(name);
        fs::create_dir_all(link.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(sandbox.path(target), &link).unwrap();
        let run = sandbox.verity("image build oci:src:app oci:dst");
        assert_eq!((run.code, run.stdout.as_str()), (Some(5), ""), "{name}: {run:?}");
        assert!(run.stderr.contains("is a link") && run.stderr.contains(name), "{name}: {run:?}");
        assert!(files(&sandbox.path("victim")) == before, "{name}");
        assert!(!sandbox.path("dst/index.json").exists());
        fs::remove_dir_all(sandbox.path("dst")).unwrap();
    }
    // A second name for a file does the same, and a name that no record has belongs to somebody else.
    let layers = sandbox.path("dst/.verity/layers");
    fs::create_dir_all(&layers).unwrap();
    fs::write(layers.join("empty"), "").unwrap();
    fs::hard_link(sandbox.path("victim/keys"), sandbox.path("dst").join(&record)).unwrap();
    assert_eq!(sandbox.verity("image build oci:src:app oci:dst").code, Some(5));
    assert!(files(&sandbox.path("victim")) == before && layers.join("empty").exists());
    fs::remove_file(sandbox.path("dst").join(&record)).unwrap();
    assert_eq!(counts(&build(&sandbox, "oci:src:app oci:dst")), (1, 0));
    assert!(layers.join("empty").exists());
}

/// The records of layers, by diffID.
fn records(dst: &Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(dst.join(".verity/layers")).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

/// Makes the record of one layer name another layer's blob.
fn poison(dst: &Path) {
    let paths = records(dst);
    let [first, other] = [&paths[0], &paths[1]]
        .map(|path| -> Value { serde_json::from_slice(&fs::read(path).unwrap()).unwrap() });
    let descriptor = |record: &Value| record["layers"].as_object().unwrap().values().next().unwrap().clone();
    let (own, mut foreign) = (descriptor(&first), descriptor(&other));
    foreign["annotations"]["io.dm-verity.layer.diff-id"] =
        own["annotations"]["io.dm-verity.layer.diff-id"].clone();
    let mut record = first;
    *record["layers"].as_object_mut().unwrap().values_mut().next().unwrap() = foreign;
    fs::write(&paths[0], record.to_string()).unwrap();
}

#[test]
fn a_record_that_names_another_layer_is_none() {
    let sandbox = source(2);
    build(&sandbox, "oci:src:app oci:dst");
    let whole = files(&sandbox.path("dst"));
    poison(&sandbox.path("dst"));
    assert_eq!(counts(&build(&sandbox, "oci:src:app oci:dst")), (1, 1));
    assert!(files(&sandbox.path("dst")) == whole);
}

#[test]
fn what_others_can_write_is_not_believed() {
    use std::os::unix::fs::PermissionsExt;
    let sandbox = source(2);
    build(&sandbox, "oci:src:app oci:dst");
    let dst = sandbox.path("dst");
    let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    for folder in [".verity", ".verity/layers"] {
        mode(&dst.join(folder), 0o775);
        let run = sandbox.verity("image build --json oci:src:app oci:dst");
        assert_eq!(run.code, Some(0), "{run:?}");
        assert!(run.stderr.contains("others can write to"), "{run:?}");
        assert_eq!(counts(&run.json()), (2, 0), "{folder}");
        mode(&dst.join(folder), 0o755);
    }
    mode(&records(&dst)[0], 0o666);
    assert_eq!(counts(&build(&sandbox, "oci:src:app oci:dst")), (1, 1));
    mode(&records(&dst)[0], 0o644);
    // Nothing at all, on demand.
    let run = sandbox.verity("image build --json oci:src:app oci:dst --no-reuse");
    assert_eq!((counts(&run.json()), run.stderr.as_str()), ((2, 0), ""));
    assert_eq!(counts(&build(&sandbox, "oci:src:app oci:dst")), (0, 2));
}

#[test]
fn what_the_umask_lets_others_write_is_kept_from_them() {
    let sandbox = source(1);
    for expected in ["1", "0"] {
        let script = "umask 0; exec \"$0\" image build --json oci:src:app oci:dst";
        let run = Run::of(sandbox.command("sh", "-c").arg(script).arg(env!("CARGO_BIN_EXE_verity")));
        assert_eq!(run.json()["built_layers"].to_string(), expected);
    }
}

#[test]
fn only_the_layout_says_what_an_image_is_called() {
    let sandbox = Sandbox::new();
    let mut layout = Layout::new(&sandbox, "src");
    let (good, bad) =
        (layout.image("amd64", &[&tar(1, &[5_000])]), layout.image("amd64", &[&tar(2, &[6_000])]));
    layout.list("trusted", &good);
    build(&sandbox, "oci:src:trusted oci:dst");
    let before = listed(&sandbox.path("dst"));
    // An index within the layout's names its image as the one that is there.
    let mut named = bad.clone();
    named["annotations"] = json!({"org.opencontainers.image.ref.name": "trusted"});
    let index = layout.index(&[("amd64", named)]);
    layout.list("other", &index);
    let report = build(&sandbox, "oci:src:other oci:dst");
    assert_eq!(report["images"][0]["reference"], "other");
    let report = build(&sandbox, &format!("oci:src@{} oci:dst", digest_of(&index)));
    assert_eq!(report["images"][0]["reference"], "other");
    let after = listed(&sandbox.path("dst"));
    assert_eq!((&after["trusted"], after.len()), (&before["trusted"], 2));
    // Without a name in the layout, it has none in the other one.
    let path = sandbox.path("src/index.json");
    let mut top: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    top["manifests"][1].as_object_mut().unwrap().remove("annotations");
    fs::write(&path, top.to_string()).unwrap();
    let report = build(&sandbox, &format!("oci:src@{} oci:dst", digest_of(&index)));
    assert!(report["images"][0]["reference"].is_null(), "{report}");
    assert_eq!(listed(&sandbox.path("dst"))["trusted"], before["trusted"]);
}

fn digest_of(descriptor: &Value) -> &str {
    descriptor["digest"].as_str().unwrap()
}
