//! `verity image build`: what directories have that a layer has without an entry of their own, and that it hangs on nothing but the layers below.

mod common;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread::sleep;
use std::time::Duration;

use common::oci::{Layout, blob, files};
use common::{Run, Sandbox, pattern};
use serde_json::Value;
use verity_core::erofs::write::Attributes;
use verity_core::erofs::{Budget, Image};
use verity_core::layer::tar::{EntryKind, Writer};

/// What an entry is.
enum What {
    Directory(Attributes),
    File(usize),
}

fn tar(entries: &[(&str, What)]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for (path, what) in entries {
        let (attributes, kind, content) = match what {
            What::Directory(attributes) => (attributes.clone(), EntryKind::Directory, Vec::new()),
            What::File(size) => {
                let whole = 0..*size as u64;
                let kind = EntryKind::File { size: whole.end, data: vec![whole] };
                (Attributes { mode: 0o644, ..Attributes::default() }, kind, pattern(*size))
            }
        };
        writer.add(path.as_bytes(), &attributes, &kind, &mut &content[..]).unwrap();
    }
    writer.finish().unwrap()
}

/// What the directories of a base have; of each base something else.
fn of_base(path: &str, seed: u32) -> Attributes {
    let xattrs = BTreeMap::from([(b"user.path".to_vec(), path.as_bytes().to_vec())]);
    let (uid, gid) = (seed, 100_000 + seed);
    Attributes { mode: 0o1700, uid, gid, mtime: -i64::from(seed), mtime_nsec: 999_999_999, xattrs }
}

/// A base whose directories have entries, and `size` bytes in a file.
fn base(seed: u32, size: usize) -> Vec<u8> {
    let directory = |path| (path, What::Directory(of_base(path, seed)));
    tar(&[directory(""), directory("root"), directory("root/a"), ("root/file", What::File(size))])
}

/// A layout with images of three layers: `one` and `two` have a patch and a top in common, neither of which has an entry for the parents of its files. `like-one` has
/// another base, with the same directories as that of `one`.
fn source(sandbox: &Sandbox, name: &str, images: &[&str]) {
    let patch = tar(&[("root/a/new/patched", What::File(300_000))]);
    let top = tar(&[("root/a/new/top", What::File(200_000)), ("root/.wh.file", What::File(0))]);
    let mut layout = Layout::new(sandbox, name);
    for image in images {
        let base = match *image {
            "one" => base(1, 900_000),
            "two" => base(2, 10_000),
            _ => base(1, 5_000),
        };
        let descriptor = layout.image("amd64", &[&base, &patch, &top]);
        layout.list(image, &descriptor);
    }
}

fn build(sandbox: &Sandbox, arguments: &str) -> Value {
    let run = sandbox.verity(&format!("image build --json {arguments}"));
    assert_eq!(run.code, Some(0), "{run:?}");
    run.json()
}

fn counts(report: &Value) -> (u64, u64) {
    (report["built_layers"].as_u64().unwrap(), report["reused_layers"].as_u64().unwrap())
}

/// The layers of an image, by the report of its build.
fn layers<'r>(report: &'r Value, image: &str) -> &'r [Value] {
    let images = report["images"].as_array().unwrap();
    let image = images.iter().find(|found| found["reference"] == image).unwrap();
    image["manifests"][0]["layers"].as_array().unwrap()
}

/// What a directory has in the image at the beginning of a file.
fn attributes(file: &Path, path: &str) -> Attributes {
    let file = File::open(file).unwrap();
    let image = Image::open(&file, file.metadata().unwrap().len()).unwrap();
    let budget = Budget::default();
    let mut inode = image.inode(image.superblock().root_nid.into()).unwrap();
    for component in path.split('/').filter(|component| !component.is_empty()) {
        let names = image.list(&inode, &budget).unwrap();
        let (_, nid) = names.into_iter().find(|(name, _)| **name == *component.as_bytes()).unwrap();
        inode = image.inode(nid).unwrap();
    }
    image.attributes(&inode, &budget).unwrap()
}

/// All but `index.json`, whose order is that of the builds.
fn without_index(dir: &Path) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
    files(dir).into_iter().filter(|(path, _)| !path.ends_with("index.json")).collect()
}

#[test]
fn directories_without_an_entry_are_as_in_the_layers_below() {
    let sandbox = Sandbox::new();
    source(&sandbox, "src", &["one", "two", "like-one"]);
    let report = build(&sandbox, "oci:src oci:dst");
    // Three bases; of patch and top two each.
    assert_eq!(counts(&report), (7, 2));
    let dst = sandbox.path("dst");
    let file = |image: &str, layer: usize| blob(&dst, &layers(&report, image)[layer]);
    let unsaid = Attributes { mode: 0o755, ..Attributes::default() };
    for (image, seed) in [("one", 1), ("two", 2), ("like-one", 1)] {
        for layer in 0..3 {
            for path in ["", "root", "root/a"] {
                let found = attributes(&file(image, layer), path);
                assert_eq!(found, of_base(path, seed), "{image} {layer} {path}");
            }
        }
        assert_eq!(attributes(&file(image, 1), "root/a/new"), unsaid);
        assert_eq!(attributes(&file(image, 2), "root/a/new"), unsaid);
    }
    for layer in [1, 2] {
        let [one, two, like_one] = ["one", "two", "like-one"].map(|image| &layers(&report, image)[layer]);
        assert_ne!(one["digest"], two["digest"]);
        assert_eq!(one["digest"], like_one["digest"]);
        assert_eq!((&one["diff_id"], &one["tree"]["salt"]), (&two["diff_id"], &two["tree"]["salt"]));
    }
    assert_eq!(sandbox.verity("image verify oci:dst").success(), "");
    let whole = files(&dst);
    assert_eq!(counts(&build(&sandbox, "oci:src oci:dst")), (0, 9));
    assert!(files(&dst) == whole);
    // A layer alone has nobody to ask.
    let patch =
        layers(&report, "one")[1]["diff_id"].as_str().unwrap().replace("sha256:", "src/blobs/sha256/");
    sandbox.verity(&format!("layer build --quiet {patch} alone")).success();
    assert_eq!(attributes(&sandbox.path("alone"), "root/a"), unsaid);
}

#[test]
fn the_order_and_the_number_of_threads_make_no_difference() {
    let sandbox = Sandbox::new();
    source(&sandbox, "src", &["one", "two"]);
    source(&sandbox, "reversed", &["two", "one"]);
    build(&sandbox, "oci:src oci:expected --threads 1 --jobs 1");
    let expected = without_index(&sandbox.path("expected"));
    for (number, arguments) in
        ["oci:src --jobs 8", "oci:reversed --jobs 1", "oci:reversed --jobs 3 --threads 2"].iter().enumerate()
    {
        let report = build(&sandbox, &format!("{arguments} oci:dst-{number}"));
        assert_eq!(counts(&report), (6, 0));
        assert!(without_index(&sandbox.path(&format!("dst-{number}"))) == expected, "{arguments}");
    }
    // One image after the other, too.
    build(&sandbox, "oci:src:two oci:apart");
    assert_eq!(counts(&build(&sandbox, "oci:src:one oci:apart")), (3, 0));
    assert!(without_index(&sandbox.path("apart")) == expected);
}

#[test]
fn twenty_processes_make_each_variant_once() {
    let sandbox = Sandbox::new();
    source(&sandbox, "src", &["one", "two"]);
    source(&sandbox, "reversed", &["two", "one"]);
    build(&sandbox, "oci:src oci:expected");
    let children: Vec<_> = (0..20)
        .map(|number| {
            let source = if number % 2 == 0 { "src" } else { "reversed" };
            let jobs = number % 4 + 1;
            let arguments = format!("image build oci:{source} oci:dst --json --threads 1 --jobs {jobs}");
            let mut command = sandbox.verity_command(&arguments);
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
        })
        .collect();
    let mut made = 0;
    for child in children {
        let run = Run::from(child.wait_with_output().unwrap());
        assert_eq!(run.code, Some(0), "{run:?}");
        let (built, reused) = counts(&run.json());
        assert_eq!(built + reused, 6);
        made += built;
    }
    assert_eq!(made, 6);
    assert!(without_index(&sandbox.path("dst")) == without_index(&sandbox.path("expected")));
}

#[test]
fn a_killed_build_is_resumed_with_the_same_result() {
    let sandbox = Sandbox::new();
    source(&sandbox, "src", &["one", "two"]);
    build(&sandbox, "oci:src oci:expected");
    let expected = files(&sandbox.path("expected"));
    let dst = sandbox.path("dst");
    let mut killed = 0;
    for blobs in 0..8 {
        let mut child =
            sandbox.verity_command("image build oci:src oci:dst --threads 1 --jobs 2").spawn().unwrap();
        let complete = || fs::read_dir(dst.join("blobs/sha256")).map_or(0, Iterator::count);
        while complete() < blobs && child.try_wait().unwrap().is_none() {
            sleep(Duration::from_micros(200));
        }
        child.kill().unwrap();
        killed += usize::from(!child.wait().unwrap().success());
        let (built, reused) = counts(&build(&sandbox, "oci:src oci:dst"));
        assert_eq!(built + reused, 6);
        assert!(files(&dst) == expected, "after {blobs} blobs");
        fs::remove_dir_all(&dst).unwrap();
    }
    assert!(killed >= 4, "only {killed} of 8 builds were killed before they ended");
}

#[test]
fn a_lower_layer_that_is_damaged_is_found_out() {
    let sandbox = Sandbox::new();
    source(&sandbox, "src", &["one"]);
    let report = build(&sandbox, "oci:src oci:dst");
    let dst = sandbox.path("dst");
    let [base, patch, _] = layers(&report, "one") else { panic!("{report}") };
    let path = blob(&dst, base);
    // Its tree is as it was: it is not made again. What its directories have lies at the end of its image.
    let mut bytes = fs::read(&path).unwrap();
    let end = usize::try_from(base["tree"]["hash_offset"].as_u64().unwrap()).unwrap();
    bytes[end - 4096..end].iter_mut().for_each(|byte| *byte ^= 1);
    fs::write(&path, bytes).unwrap();
    fs::remove_file(blob(&dst, patch)).unwrap();
    let run = sandbox.verity("image build oci:src oci:dst");
    assert_eq!(run.stdout, "", "{run:?}");
    assert!(run.code.is_some_and(|code| code > 0), "{run:?}");
    for part in ["lower layers", base["digest"].as_str().unwrap(), "hint: 'verity image verify'"] {
        assert!(run.stderr.contains(part), "{part}: {run:?}");
    }
    // Without it, it is made anew.
    fs::remove_file(&path).unwrap();
    assert_eq!(counts(&build(&sandbox, "oci:src oci:dst")), (2, 1));
    assert_eq!(sandbox.verity("image verify oci:dst").success(), "");
}

#[test]
fn many_layers_wait_for_the_lowest_one() {
    // One thread for each layer, and only the lowest has something to do at first.
    let sandbox = Sandbox::new();
    let mut layout = Layout::new(&sandbox, "src");
    let tars: Vec<_> = (0..40)
        .map(|layer| match layer {
            0 => base(1, 3_000_000),
            _ => tar(&[(format!("root/a/{layer}").as_str(), What::File(1))]),
        })
        .collect();
    let tars: Vec<_> = tars.iter().map(Vec::as_slice).collect();
    let image = layout.image("amd64", &tars);
    layout.list("deep", &image);
    let report = build(&sandbox, "oci:src oci:dst --jobs 40");
    assert_eq!(counts(&report), (40, 0));
    for layer in layers(&report, "deep") {
        let found = attributes(&blob(&sandbox.path("dst"), layer), "root/a");
        assert_eq!(found, of_base("root/a", 1));
    }
}
