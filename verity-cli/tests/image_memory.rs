//! How much memory documents of strangers take. The system tells the peak of all programs that were run so far: nothing else is run here.

mod common;

use std::fs;

use common::oci::{CONFIG, Layout, MANIFEST, tar};
use common::{Run, Sandbox};
use nix::sys::resource::{UsageWho, getrusage};
use serde_json::{Value, json};
use verity_core::erofs::write::Attributes;
use verity_core::layer::tar::{EntryKind, Writer};

/// As much as a document may have, but for brackets around it, or one more entry.
const DOCUMENT_BYTES: usize = (4 << 20) - 1000;
const PEAK_BYTES: u64 = 40 << 20;

/// A document and a member that nobody asked for: of small objects, of numbers by name, and of names in capitals.
fn filled(document: &Value) -> [Vec<u8>; 3] {
    let start = document.to_string();
    let start = start.strip_suffix('}').unwrap();
    let fill = |open: &str, item: &dyn Fn(usize) -> String, close: &str| {
        let mut text = format!("{start},\"x\":{open}{}", item(0));
        for number in 1.. {
            let item = item(number);
            if text.len() + item.len() + 3 > DOCUMENT_BYTES {
                break;
            }
            text.push(',');
            text.push_str(&item);
        }
        text.push_str(close);
        text.push('}');
        text.into_bytes()
    };
    [
        fill("[", &|_| r#"{"a":1}"#.to_owned(), "]"),
        fill("{", &|number| format!("\"{number:x}\":1"), "}"),
        fill("{", &|number| format!("\"A{number:X}\":[]"), "}"),
    ]
}

/// The highest peak of all programs that ended.
fn peak() -> u64 {
    // The kernel counts in KiB.
    u64::try_from(getrusage(UsageWho::RUSAGE_CHILDREN).unwrap().max_rss()).unwrap() * 1024
}

#[track_caller]
fn is_small(what: &str) {
    let peak = peak();
    assert!(peak < PEAK_BYTES, "{what}: {} MB", peak / 1_000_000);
}

#[track_caller]
fn inspect(sandbox: &Sandbox, image: &str, what: &str) -> Run {
    let run = sandbox.verity(&format!("image inspect {image}"));
    is_small(what);
    run
}

#[track_caller]
fn is_read(sandbox: &Sandbox, image: &str, what: &str) {
    let run = inspect(sandbox, image, what);
    assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""), "{what}: {run:?}");
}

/// A layout that lists no more than this manifest.
fn list(sandbox: &Sandbox, manifest: &[u8]) {
    let mut layout = Layout::new(sandbox, "src");
    let manifest = layout.blob(MANIFEST, manifest);
    layout.list("app", &manifest);
}

/// A tar as `docker save` writes it.
fn docker_archive(sandbox: &Sandbox, list: &[u8], config: &[u8], layer: &[u8]) {
    let mut writer = Writer::new(Vec::new());
    for (name, content) in [("manifest.json", list), ("c", config), ("l", layer)] {
        let attributes = Attributes { mode: 0o644, ..Attributes::default() };
        let size = content.len() as u64;
        let whole = 0..size;
        let kind = EntryKind::File { size, data: vec![whole] };
        writer.add(name.as_bytes(), &attributes, &kind, &mut &content[..]).unwrap();
    }
    sandbox.write("d.tar", &writer.finish().unwrap());
}

/// One test: the peaks of several could not be told apart.
#[test]
fn a_document_takes_a_few_times_its_size() {
    let sandbox = Sandbox::new();
    let tar = tar(1, &[1000]);
    let mut layout = Layout::new(&sandbox, "src");
    let image = layout.image("amd64", &[&tar]);
    let manifest: Value = serde_json::from_slice(&fs::read(layout.path(&image)).unwrap()).unwrap();
    let config: Value = serde_json::from_slice(&fs::read(layout.path(&manifest["config"])).unwrap()).unwrap();
    layout.list("app", &image);
    is_read(&sandbox, "oci:src:app", "a small image");

    let index: Value = serde_json::from_slice(&sandbox.read("src/index.json")).unwrap();
    for text in filled(&index) {
        sandbox.write("src/index.json", &text);
        is_read(&sandbox, "oci:src:app", "index.json");
        let run = sandbox.verity("image build --quiet --jobs 1 --threads 1 oci:src:app oci:src:built");
        assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""), "{run:?}");
        is_small("index.json of DST");
        assert!(sandbox.read("src/index.json").len() > text.len());
    }
    for text in filled(&manifest) {
        list(&sandbox, &text);
        is_read(&sandbox, "oci:src:app", "a manifest");
    }
    for text in filled(&config) {
        let mut manifest = manifest.clone();
        manifest["config"] = layout.blob(CONFIG, &text);
        list(&sandbox, manifest.to_string().as_bytes());
        is_read(&sandbox, "oci:src:app", "a configuration");
    }
    for text in filled(&json!({"Config": "c", "RepoTags": ["a:1"], "Layers": ["l"]})) {
        let text = [b"[", &text[..], b"]"].concat();
        docker_archive(&sandbox, &text, config.to_string().as_bytes(), &tar);
        is_read(&sandbox, "docker-archive:d.tar", "manifest.json");
    }
    // What is read itself, in pieces as small as there can be.
    let many = |member: &str, brackets: [&str; 2], item: &dyn Fn(usize) -> String| {
        let items: Vec<_> = (0..DOCUMENT_BYTES / 14).map(item).collect();
        let mut document = manifest.clone();
        document[member] = json!("items");
        let items = format!("{}{}{}", brackets[0], items.join(","), brackets[1]);
        document.to_string().replace("\"items\"", &items)
    };
    for (what, text) in [
        ("names", many("layers", ["[", "]"], &|_| "\"name\"".to_owned())),
        ("objects", many("layers", ["[", "]"], &|_| "{}".to_owned())),
        ("annotations", many("annotations", ["{", "}"], &|number| format!("\"{number:x}\":\"\""))),
    ] {
        list(&sandbox, text.as_bytes());
        let run = inspect(&sandbox, "oci:src:app", what);
        assert!(run.code == Some(1) && run.stderr.contains("more than 200000 values"), "{what}: {run:?}");
    }
}
