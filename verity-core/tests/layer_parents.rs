//! Layers whose directories have no entry of their own: what is asked of those who know the lower layers, and what becomes of the answers.
#![cfg(feature = "layer")]

use std::collections::BTreeMap;
use std::sync::Mutex;

use verity_core::erofs::write::Attributes;
use verity_core::erofs::{Budget, Image};
use verity_core::io::MemoryDevice;
use verity_core::layer::tar::{EntryKind, Writer};
use verity_core::layer::{Answer, Built, Error, Inherited, Options, Parents, build, inherited};

/// Lower layers that have these directories.
#[derive(Default)]
struct Lower {
    directories: BTreeMap<&'static str, Attributes>,
    /// What they answer at first, in the place of the last directory.
    fails: Mutex<Option<Error>>,
}

impl Parents for Lower {
    fn ask(&self, paths: &[Vec<u8>], answer: &mut Answer<'_>) -> Result<(), Error> {
        for path in paths {
            if let Some(attributes) = self.directories.get(std::str::from_utf8(path).unwrap()) {
                answer(path, attributes.clone())?;
            }
        }
        self.fails.lock().unwrap().take().map_or(Ok(()), Err)
    }
}

fn attributes(uid: u32) -> Attributes {
    let xattrs = [("user.own", "1"), ("trusted.overlay.opaque", "y"), ("user.overlay.origin", "")];
    let xattrs = xattrs.map(|(name, value)| (name.into(), value.into())).into();
    Attributes { mode: 0o1770, uid, gid: 4_000_000_000, mtime: -7, mtime_nsec: 999_999_999, xattrs }
}

/// A tar of files, and of directories where a path ends with a slash.
fn tar(paths: &[&str]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for path in paths {
        let described = Attributes { mode: 0o711, uid: 1, ..Attributes::default() };
        let kind = match path.strip_suffix('/') {
            Some(_) => EntryKind::Directory,
            None => EntryKind::File { size: 0, data: Vec::new() },
        };
        writer.add(path.trim_end_matches('/').as_bytes(), &described, &kind, &mut std::io::empty()).unwrap();
    }
    writer.finish().unwrap()
}

fn build_over(lower: Option<&Lower>, paths: &[&str]) -> Result<(Built, Vec<u8>), Error> {
    let mut options = Options::default();
    options.parents = lower.map(|lower| lower as &dyn Parents);
    let output = MemoryDevice::default();
    let built = build(&tar(paths)[..], &output, &options)?;
    Ok((built, output.into_bytes()))
}

/// What a directory of a layer has.
fn found(bytes: &[u8], path: &str) -> Attributes {
    let image = Image::open(&bytes, bytes.len() as u64).unwrap();
    let budget = Budget::default();
    let mut inode = image.inode(image.superblock().root_nid.into()).unwrap();
    for component in path.split('/').filter(|component| !component.is_empty()) {
        let names = image.list(&inode, &budget).unwrap();
        let (_, nid) = names.into_iter().find(|(name, _)| **name == *component.as_bytes()).unwrap();
        inode = image.inode(nid).unwrap();
    }
    image.attributes(&inode, &budget).unwrap()
}

#[track_caller]
fn assert_asked(paths: &[&str], asked: &[&str]) {
    let (built, _) = build_over(Some(&Lower::default()), paths).unwrap();
    let found: Vec<_> = built.inherited.paths.iter().map(|path| std::str::from_utf8(path).unwrap()).collect();
    assert_eq!(found, asked);
}

#[test]
fn directories_without_an_entry_are_asked_for() {
    assert_asked(&["a/b/c/file", "a.b/file"], &["", "a", "a/b", "a/b/c", "a.b"]);
    // Entries that come later count, and so do those for parents between others.
    assert_asked(&["a/b/file", "a/", "/"], &["a/b"]);
    assert_asked(&["a/", "a/b/c/", "a/b/c/file", "/"], &["a/b"]);
    // What is replaced is not there any more.
    assert_asked(&["a/b/file", "a", "/"], &[]);
    assert_asked(&["a/b/.wh.removed"], &["", "a", "a/b"]);
}

#[test]
fn what_the_layer_hides_is_not_asked_for() {
    // Of an opaque directory only what is in it is hidden, whether it has an entry or not.
    assert_asked(&["/", "a/.wh..wh..opq", "a/b/c/file"], &["a"]);
    assert_asked(&["/", "a/b/.wh..wh..opq"], &["a", "a/b"]);
    assert_asked(&["a/file", ".wh..wh..opq"], &[""]);
    // One that is removed is new itself.
    assert_asked(&["/", "a/b/file", ".wh.a"], &[]);
    assert_asked(&["/", "a/b/c/file", "a/.wh.b"], &["a"]);
}

#[test]
fn answers_are_what_the_directories_have() {
    let lower = Lower { directories: [("", attributes(5)), ("a", attributes(6))].into(), ..Lower::default() };
    let paths = ["a/b/file", "a/.wh..wh..opq", "c/file"];
    let (built, bytes) = build_over(Some(&lower), &paths).unwrap();
    let own = |uid, opaque: bool| {
        let mut expected = attributes(uid);
        expected.xattrs.retain(|name, _| name == b"user.own");
        if opaque {
            expected.xattrs.insert(b"trusted.overlay.opaque".to_vec(), b"y".to_vec());
        }
        expected
    };
    assert_eq!(found(&bytes, ""), own(5, false));
    assert_eq!(found(&bytes, "a"), own(6, true));
    let unsaid = Attributes { mode: 0o755, ..Attributes::default() };
    assert_eq!((found(&bytes, "a/b"), found(&bytes, "c")), (unsaid.clone(), unsaid.clone()));
    assert_eq!(built.inherited.answers, inherited(&lower, &built.inherited.paths).unwrap());
    // The identity is the tar's, whatever is below it.
    let (alone, alone_bytes) = build_over(None, &paths).unwrap();
    assert_eq!(
        (alone.uuid, &alone.params, alone.inherited),
        (built.uuid, &built.params, Inherited::default())
    );
    assert_ne!(alone.root, built.root);
    // Without an answer, and with one that says the same, it is as it is alone.
    let same = Lower { directories: [("a", unsaid)].into(), ..Lower::default() };
    for lower in [Lower::default(), same] {
        let (built, bytes) = build_over(Some(&lower), &paths).unwrap();
        assert_eq!(built.inherited.answers, Inherited::default().answers);
        assert!(bytes == alone_bytes);
    }
}

#[test]
fn every_part_of_an_answer_is_in_the_digest() {
    let paths = [b"".to_vec(), b"a".to_vec(), b"b".to_vec()];
    let digest = |path, change: &dyn Fn(&mut Attributes)| {
        let mut attributes = attributes(5);
        change(&mut attributes);
        let lower = Lower { directories: [(path, attributes)].into(), ..Lower::default() };
        inherited(&lower, &paths).unwrap().to_string()
    };
    let mut digests = vec![
        digest("", &|_| ()),
        digest("a", &|_| ()),
        digest("b", &|_| ()),
        digest("a", &|a| a.mode = 0),
        digest("a", &|a| a.uid = 0),
        digest("a", &|a| a.gid = 0),
        digest("a", &|a| a.mtime = 0),
        digest("a", &|a| a.mtime_nsec = 0),
        digest("a", &|a| a.xattrs.clear()),
        digest("a", &|a| drop(a.xattrs.insert(b"user.own".to_vec(), b"2".to_vec()))),
        digest("a", &|a| drop(a.xattrs.insert(b"user.own2".to_vec(), b"1".to_vec()))),
    ];
    let all = digests.len();
    digests.sort();
    digests.dedup();
    assert_eq!(digests.len(), all);
    // Overlayfs's own are in no layer.
    assert_eq!(digest("a", &|a| drop(a.xattrs.remove(&b"trusted.overlay.opaque"[..]))), digest("a", &|_| ()));
}

#[test]
fn those_who_do_not_know_end_the_build() {
    let ask = |error| {
        let lower = Lower { fails: Mutex::new(Some(error)), ..Lower::default() };
        build_over(Some(&lower), &["a/file"]).unwrap_err()
    };
    assert!(matches!(ask(Error::ParentsUnknown), Error::ParentsUnknown));
    let error = ask(Error::Parents("a layer is damaged".into()));
    assert!(error.to_string().ends_with("without an entry: a layer is damaged"), "{error}");
    // An answer that no image has room for.
    let xattrs = BTreeMap::from([(b"user.a".to_vec(), vec![0; 70_000])]);
    let directories = [("a", Attributes { xattrs, ..attributes(1) })].into();
    let lower = Lower { directories, ..Lower::default() };
    assert!(matches!(build_over(Some(&lower), &["a/file"]), Err(Error::Image(_))));
}
