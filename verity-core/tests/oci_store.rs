//! A layout that is written to stays the one that was opened.
#![cfg(feature = "oci")]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use verity_core::algorithm::Algorithm;
use verity_core::block::BlockSize;
use verity_core::io::WriteAt;
use verity_core::layer::{Digest, Inherited};
use verity_core::oci::Descriptor;
use verity_core::oci::store::{LayerKey, Store, StoreError};
use verity_core::progress::Observer;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Everything below a folder, links as such.
fn tree(dir: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let kind = entry.file_type().unwrap();
            let what = if kind.is_dir() {
                folders.push(entry.path());
                "a folder".to_owned()
            } else if kind.is_symlink() {
                "a link".to_owned()
            } else {
                format!("{:?}", fs::read(entry.path()).unwrap())
            };
            found.insert(entry.path(), what);
        }
    }
    found
}

fn key() -> LayerKey {
    LayerKey {
        diff_id: Digest::sha256(b"a tar"),
        algorithm: Algorithm::Sha256,
        block_size: BlockSize::default(),
        roots: None,
    }
}

/// All that is ever done to a layout.
fn work(store: &Store) -> Result<(), StoreError> {
    let lock = store.lock_layer(&key())?.unwrap();
    let blob = store.begin_blob()?;
    blob.file().write_all_at(b"a layer", 0).unwrap();
    let (digest, size) = blob.finish(&())?;
    lock.record(&Inherited::default(), &Descriptor::new("application/x", digest, size))?;
    // One that comes to nothing, twice.
    drop(store.begin_blob()?);
    drop(store.lock_layer(&LayerKey { diff_id: Digest::sha256(b"another"), ..key() })?);
    let digest = store.put(b"a manifest")?;
    store.set_image(&Descriptor::new(MANIFEST, digest, 10), &())
}

struct Places {
    dir: TempDir,
}

impl Places {
    /// A layout, and somebody's folder with names in it as the layout has them.
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["layers", "sha256", "blobs/sha256", ".verity/layers"] {
            fs::create_dir_all(dir.path().join("victim").join(folder)).unwrap();
        }
        for file in ["new-1-1", "index.json", "oci-layout", "layers/file", "sha256/file"] {
            fs::write(dir.path().join("victim").join(file), "").unwrap();
        }
        Self { dir }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Puts a link to the victim into a folder's place.
    fn swap(&self, name: &str) {
        let folder = if name.is_empty() { self.at("dst") } else { self.at("dst").join(name) };
        fs::rename(&folder, self.at("moved")).unwrap();
        symlink(self.at("victim"), folder).unwrap();
    }
}

#[test]
fn a_folder_that_is_exchanged_is_not_written_to() {
    // How far it may come: a layout whose blobs are elsewhere is not told that they are there.
    for (name, is_whole) in
        [(".verity", true), (".verity/layers", true), ("blobs", false), ("blobs/sha256", false), ("", true)]
    {
        let places = Places::new();
        let before = tree(&places.at("victim"));
        let store = Store::open(&places.at("dst"), &()).unwrap();
        // Each of them has been used before.
        store.put(b"a configuration").unwrap();
        drop(store.lock_layer(&LayerKey { diff_id: Digest::sha256(b"another"), ..key() }).unwrap());
        places.swap(name);
        match work(&store) {
            Ok(()) => assert!(is_whole, "{name}"),
            Err(StoreError::Link { path }) => {
                assert!(!is_whole && path == places.at("dst").join(name), "{name}: {path:?}");
                assert!(!places.at("dst/index.json").exists(), "{name}");
            }
            Err(other) => panic!("{name}: {other}"),
        }
        drop(store);
        assert_eq!(tree(&places.at("victim")), before, "{name}");
        // What was written is in what was opened.
        assert!(tree(&places.at("moved")).values().any(|what| what.starts_with('[')), "{name}");
    }
}

#[test]
fn nothing_is_left_of_what_came_to_nothing() {
    let places = Places::new();
    let dst = places.at("dst");
    let open = || Store::open(&dst, &()).unwrap();
    let (first, other) = (open(), open());
    let blob = other.begin_blob().unwrap();
    drop(first);
    // What another one has begun can be finished all the same.
    blob.finish(&()).unwrap();
    drop(other);
    assert_eq!(fs::read_dir(dst.join("blobs/sha256")).unwrap().count(), 1);
    assert!(!dst.join(".verity").exists());
    fs::remove_dir_all(&dst).unwrap();
    drop(open());
    assert!(!dst.exists());
    fs::create_dir(&dst).unwrap();
    drop((open(), open()));
    assert_eq!(fs::read_dir(&dst).unwrap().count(), 0);
}

/// Some come while others clean up behind themselves.
#[test]
fn layouts_that_are_opened_and_closed_at_once_are_whole() {
    let places = Places::new();
    let dst = places.at("dst");
    std::thread::scope(|scope| {
        for thread in 0..8_u8 {
            let dst = &dst;
            scope.spawn(move || {
                for round in 0..50_u8 {
                    let store = Store::open(dst, &()).unwrap();
                    if round % 10 == 9 {
                        store.put(&[thread, round]).unwrap();
                        for blob in fs::read_dir(dst.join("blobs/sha256")).unwrap() {
                            fs::remove_file(blob.unwrap().path()).ok();
                        }
                    }
                }
            });
        }
    });
    assert!(!dst.exists() || fs::read_dir(&dst).unwrap().count() == 0);
}

/// A layout with an image, and the index as it is with others.
fn layout_with(dst: &Path, entry: &str) -> String {
    fs::create_dir(dst).unwrap();
    fs::write(dst.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    let digest = "0".repeat(64);
    let index = format!(
        r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"{MANIFEST}","digest":"sha256:{digest}","size":1{entry}}}]}}"#
    );
    fs::write(dst.join("index.json"), &index).unwrap();
    index
}

#[test]
fn an_index_that_is_replaced_meanwhile_is_read_anew() {
    let places = Places::new();
    let dst = places.at("dst");
    let good = layout_with(&dst, "");
    let store = Store::open(&dst, &()).unwrap();
    // What readers refuse: one member that comes twice, and one that belongs into another kind of document.
    for other in [r#"{"schemaVersion":2,"schemaVersion":2,"#, r#"{"layers":[],"schemaVersion":2,"#] {
        let bad = good.replace(r#"{"schemaVersion":2,"#, other);
        fs::write(dst.join("index.json"), &bad).unwrap();
        assert!(matches!(work(&store), Err(StoreError::Document { .. })), "{bad}");
        assert_eq!(fs::read_to_string(dst.join("index.json")).unwrap(), bad);
    }
    fs::write(dst.join("index.json"), &good).unwrap();
    work(&store).unwrap();
}

#[test]
fn an_index_that_nobody_could_read_is_not_written() {
    let places = Places::new();
    let dst = places.at("dst");
    // Readers count what is in a document; this is just below what they take.
    let values = |count: usize| {
        let annotations: Vec<_> = (0..count).map(|number| format!(r#""{number}":"""#)).collect();
        format!(r#","annotations":{{{}}}"#, annotations.join(","))
    };
    let before = layout_with(&dst, &values(199_980));
    let store = Store::open(&dst, &()).unwrap();
    let mut image = Descriptor::new(MANIFEST, Digest::sha256(b"x"), 1);
    image.annotations = (0..40).map(|number| (number.to_string(), String::new())).collect();
    assert!(matches!(store.set_image(&image, &()), Err(StoreError::Document { .. })));
    drop(store);
    assert_eq!(fs::read_to_string(dst.join("index.json")).unwrap(), before);
    drop(Store::open(&dst, &()).unwrap());
}

#[test]
fn annotations_without_a_value_are_kept() {
    let places = Places::new();
    let dst = places.at("dst");
    layout_with(&dst, r#","annotations":{"q":null,"org.opencontainers.image.ref.name":null}"#);
    let store = Store::open(&dst, &()).unwrap();
    work(&store).unwrap();
    let index = fs::read_to_string(dst.join("index.json")).unwrap();
    assert!(index.contains(r#""annotations":{"q":null,"#), "{index}");
    assert!(index.contains(&Digest::sha256(b"a manifest").to_string()), "{index}");
}

/// Before any layer is made, not when the image is listed.
#[test]
fn a_layout_that_images_cannot_be_read_from_is_refused() {
    let long = format!(r#"{{"imageLayoutVersion":"1.0.0"}}{}"#, " ".repeat(5000));
    for marker in [
        r#"{"imageLayoutVersion":"1.0.0","imageLayoutVersion":"1.0.0"}"#,
        r#"{"imageLayoutVersion":"1.0.0","ImageLayoutVersion":"2.0.0"}"#,
        r#"{"imageLayoutVersion":"2.0.0"}"#,
        &long,
    ] {
        let places = Places::new();
        let dst = places.at("dst");
        layout_with(&dst, "");
        fs::write(dst.join("oci-layout"), marker).unwrap();
        let refused = Store::open(&dst, &());
        assert!(
            matches!(&refused, Err(StoreError::Document { path, .. }) if *path == dst.join("oci-layout"))
        );
    }
}

#[test]
fn a_link_to_nothing_is_no_layout() {
    for name in ["oci-layout", "index.json"] {
        let places = Places::new();
        let dst = places.at("dst");
        layout_with(&dst, "");
        let store = Store::open(&dst, &()).unwrap();
        fs::remove_file(dst.join(name)).unwrap();
        symlink("nothing", dst.join(name)).unwrap();
        assert!(
            matches!(work(&store), Err(StoreError::Link { path }) if path == dst.join(name)),
            "{name}: listed"
        );
        drop(store);
        let opened = Store::open(&dst, &());
        assert!(matches!(opened, Err(StoreError::Link { path }) if path == dst.join(name)), "{name}: opened");
        assert!(!dst.join("nothing").exists());
    }
    // One that leads somewhere is how some tools make layouts.
    let places = Places::new();
    let dst = places.at("dst");
    layout_with(&dst, "");
    fs::rename(dst.join("oci-layout"), places.at("marker")).unwrap();
    symlink(places.at("marker"), dst.join("oci-layout")).unwrap();
    work(&Store::open(&dst, &()).unwrap()).unwrap();
}

/// Asks to stop.
struct Stopped;

impl Observer for Stopped {
    fn cancelled(&self) -> bool {
        true
    }
}

#[test]
fn locks_of_those_who_only_read_keep_nobody_waiting() {
    let places = Places::new();
    let dst = places.at("dst");
    let first = Store::open(&dst, &()).unwrap();
    let folders = [dst.clone(), dst.join(".verity"), dst.join("blobs")].map(|path| File::open(path).unwrap());
    for folder in &folders {
        folder.lock().unwrap();
    }
    let store = Store::open(&dst, &Stopped).unwrap();
    let (digest, stop) = (Digest::sha256(b"a manifest"), &Stopped);
    store.set_image(&Descriptor::new(MANIFEST, digest, 10), stop).unwrap();
    for name in ["use", "list"] {
        let mode = fs::metadata(dst.join(".verity").join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    drop((first, store));
    assert!(!dst.join(".verity").exists());
}

#[test]
fn who_waits_can_be_stopped() {
    let places = Places::new();
    let dst = places.at("dst");
    let store = Store::open(&dst, &()).unwrap();
    let image = Descriptor::new(MANIFEST, Digest::sha256(b"a manifest"), 10);
    let list = File::create(dst.join(".verity/list")).unwrap();
    list.lock().unwrap();
    assert!(matches!(store.set_image(&image, &Stopped), Err(StoreError::Cancelled)));
    assert!(!dst.join("index.json").exists());
    drop(list);
    store.set_image(&image, &Stopped).unwrap();
    drop(store);
    fs::create_dir(dst.join(".verity")).unwrap();
    let user = File::create(dst.join(".verity/use")).unwrap();
    user.lock().unwrap();
    assert!(matches!(Store::open(&dst, &Stopped), Err(StoreError::Cancelled)));
}

#[test]
fn the_last_one_removes_the_directory_that_another_one_made() {
    let places = Places::new();
    let dst = places.at("dst");
    let open = || Store::open(&dst, &()).unwrap();
    let (creator, other) = (open(), open());
    drop(creator);
    assert!(dst.exists());
    drop(other);
    assert!(!dst.exists());
    // What somebody else has put in its place stays.
    let store = open();
    fs::rename(&dst, places.at("moved")).unwrap();
    fs::create_dir(&dst).unwrap();
    drop(store);
    assert!(dst.exists());
}

#[test]
fn a_layout_that_loses_its_folder_meanwhile_says_so() {
    let places = Places::new();
    let dst = places.at("dst");
    let store = Store::open(&dst, &()).unwrap();
    fs::remove_dir_all(dst.join(".verity")).unwrap();
    let gone = [dst.join(".verity"), dst.join(".verity/layers")];
    for result in [work(&store), store.begin_blob().map(drop)] {
        assert!(matches!(&result, Err(StoreError::Gone { path }) if gone.contains(path)), "{result:?}");
    }
}
