//! Layouts that strangers wrote: what is read, and what each lie is answered with.
#![cfg(feature = "oci")]

use std::fs;
use std::io::Read;
use std::path::PathBuf;

use tempfile::TempDir;
use verity_core::erofs::write::Attributes;
use verity_core::layer::Digest;
use verity_core::layer::tar::{EntryKind, Writer};
use verity_core::oci::{
    Descriptor, Error, ImageName, Images, LayerKind, Platforms, Reference, Source, images, open, open_with,
    read_document,
};
use verity_core::progress::Observer;

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// A layout that is made blob by blob.
struct Layout(TempDir);

impl Layout {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("blobs/sha256")).unwrap();
        fs::write(dir.path().join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        Self(dir)
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.0.path().join("blobs").join(digest.to_string().replace(':', "/"))
    }

    /// Puts a blob there; the answer is a descriptor of it, with more members as they are given.
    fn put(&self, media_type: &str, bytes: &[u8], more: &str) -> String {
        let digest = Digest::sha256(bytes);
        fs::write(self.path(&digest), bytes).unwrap();
        descriptor(media_type, &digest, bytes.len(), more)
    }

    /// An image with one layer, for amd64.
    fn image(&self, more: &str) -> String {
        self.image_for("amd64", more)
    }

    fn image_for(&self, architecture: &str, more: &str) -> String {
        let config = format!(
            r#"{{"os":"linux","architecture":"{architecture}","config":{{"Labels":{{"BaseImage":"x"}}}},"rootfs":{{"type":"layers","diff_ids":["sha256:{}"]}}}}"#,
            "0a".repeat(32)
        );
        let config = self.put(CONFIG, config.as_bytes(), "");
        let layer = self.put(GZIP, b"a layer", "");
        let manifest = format!(
            r#"{{"schemaVersion":2,"config":{config},"layers":[{layer}],"annotations":{{"a":"b"}}}}"#
        );
        self.put(MANIFEST, manifest.as_bytes(), more)
    }

    fn index(&self, entries: &[String]) {
        fs::write(self.0.path().join("index.json"), index(entries)).unwrap();
    }

    /// What is read of an image without layers that has this configuration.
    fn configured(&self, config: &str) -> Result<(), String> {
        let config = self.put(CONFIG, config.as_bytes(), "");
        let manifest = format!(r#"{{"schemaVersion":2,"config":{config},"layers":[]}}"#);
        self.index(&[self.put(MANIFEST, manifest.as_bytes(), "")]);
        self.images().map(drop).map_err(|error| error.to_string())
    }

    fn open(&self, reference: Option<Reference>) -> Result<Box<dyn Source>, Error> {
        open(&ImageName::OciLayout { dir: self.0.path().to_owned(), reference })
    }

    fn images(&self) -> Result<Images, Error> {
        images(&*self.open(None)?, &Platforms::All)
    }

    fn for_platform(&self, platform: &str) -> Result<Images, Error> {
        images(&*self.open(None)?, &Platforms::These(vec![platform.parse().unwrap()]))
    }
}

fn descriptor(media_type: &str, digest: &Digest, size: usize, more: &str) -> String {
    format!(r#"{{"mediaType":"{media_type}","digest":"{digest}","size":{size}{more}}}"#)
}

fn index(entries: &[String]) -> String {
    format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, entries.join(","))
}

fn named(name: &str) -> String {
    format!(r#","annotations":{{"org.opencontainers.image.ref.name":"{name}"}}"#)
}

fn platform(architecture: &str) -> String {
    format!(r#","platform":{{"os":"linux","architecture":"{architecture}"}}"#)
}

#[test]
fn an_image_says_what_its_documents_say() {
    let layout = Layout::new();
    layout.index(&[layout.image(&named("one"))]);
    let found = layout.images().unwrap();
    let [image] = &found.images[..] else { panic!("{found:?}") };
    assert_eq!(image.reference.as_deref(), Some("one"));
    assert_eq!(image.platform.as_ref().unwrap().to_string(), "linux/amd64");
    assert_eq!((&*image.annotations["a"], &*image.config.labels["BaseImage"]), ("b", "x"));
    assert_eq!(Digest::sha256(&image.manifest_bytes), image.manifest.digest);
    assert_eq!(Digest::sha256(&image.config.bytes), image.config.descriptor.digest);
    let [layer] = &image.layers[..] else { panic!("{image:?}") };
    assert!(matches!(layer.kind, LayerKind::Tar(verity_core::layer::Compression::Gzip)));
    let source = layout.open(None).unwrap();
    let mut text = String::new();
    source.blob(&layer.descriptor, 2).unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text, "layer");
    assert_eq!(source.blob_path(&layer.descriptor), Some(layout.path(&layer.descriptor.digest)));
    assert!(matches!(source.blob(&layer.descriptor, 8).err(), Some(Error::Position { from: 8, .. })));
}

#[test]
fn indexes_in_indexes_lead_to_images_of_platforms() {
    let layout = Layout::new();
    let inner = index(&[layout.image_for("arm64", &platform("arm64")), layout.image(&platform("amd64"))]);
    let inner =
        inner.replace("\"manifests\"", "\"annotations\":{\"sh.copa.patched\":\"true\"},\"manifests\"");
    let attestation =
        layout.put(MANIFEST, b"never read", r#","platform":{"os":"unknown","architecture":"unknown"}"#);
    let signature =
        layout.put(MANIFEST, b"neither", r#","artifactType":"application/vnd.example.signature""#);
    let nested = layout.put(INDEX, inner.as_bytes(), &named("multi"));
    // One without a platform of its own: its configuration says it.
    layout.index(&[nested, attestation, signature, layout.image_for("riscv64", &named("bare"))]);
    let found = layout.images().unwrap();
    let seen: Vec<_> = found
        .images
        .iter()
        .map(|image| (image.platform.as_ref().unwrap().to_string(), image.reference.clone().unwrap()))
        .collect();
    let expected = [("linux/arm64", "multi"), ("linux/amd64", "multi"), ("linux/riscv64", "bare")];
    assert_eq!(seen, expected.map(|(platform, name)| (platform.to_owned(), name.to_owned())));
    assert_eq!(found.artifacts, 2);
    assert_eq!(found.images[0].index_annotations["sh.copa.patched"], "true");
    for (wanted, count) in [("linux/arm64", 1), ("linux/arm64/v8", 1), ("linux/riscv64", 1)] {
        assert_eq!(layout.for_platform(wanted).unwrap().images.len(), count, "{wanted}");
    }
    let error = layout.for_platform("windows/amd64").unwrap_err().to_string();
    assert_eq!(
        error,
        "there is no image for windows/amd64; there are: linux/amd64, linux/arm64, linux/riscv64"
    );
}

#[test]
fn what_is_missing_too_short_or_altered_is_told_apart() {
    let layout = Layout::new();
    layout.index(&[layout.image("")]);
    let image = layout.images().unwrap().images.remove(0);
    let source = layout.open(None).unwrap();
    for descriptor in [&image.manifest, &image.config.descriptor] {
        let path = layout.path(&descriptor.digest);
        let bytes = fs::read(&path).unwrap();
        let mut altered = bytes.clone();
        altered[0] ^= 1;
        fs::write(&path, altered).unwrap();
        let refused = images(&*source, &Platforms::All);
        assert!(matches!(refused, Err(Error::Mismatch { expected, .. }) if expected == descriptor.digest));
        fs::write(&path, &bytes[1..]).unwrap();
        assert!(matches!(images(&*source, &Platforms::All), Err(Error::Size { .. })));
        fs::remove_file(&path).unwrap();
        assert!(matches!(images(&*source, &Platforms::All), Err(Error::Missing { .. })));
        fs::create_dir(&path).unwrap();
        assert!(matches!(images(&*source, &Platforms::All), Err(Error::Open { .. })));
        fs::remove_dir(&path).unwrap();
        fs::write(&path, bytes).unwrap();
    }
    let layer = layout.path(&image.layers[0].descriptor.digest);
    fs::remove_file(&layer).unwrap();
    assert!(matches!(source.blob(&image.layers[0].descriptor, 0).err(), Some(Error::Missing { .. })));
    assert_eq!(source.blob_path(&image.layers[0].descriptor), None);
}

#[test]
fn a_layout_that_changes_while_it_is_read_is_noticed() {
    let layout = Layout::new();
    let big = vec![7; 3 << 20];
    let text = layout.put(GZIP, &big, "");
    let digest = Digest::sha256(&big);
    layout.index(&[text]);
    let source = layout.open(None).unwrap();
    let descriptor = source.root().unwrap();
    let mut blob = source.blob(&descriptor, 0).unwrap();
    blob.read_exact(&mut [0; 4096]).unwrap();
    fs::OpenOptions::new().write(true).open(layout.path(&digest)).unwrap().set_len(1 << 20).unwrap();
    let error = blob.read_to_end(&mut Vec::new()).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof);
    assert!(error.to_string().contains("shorter while it was read"), "{error}");
    // One that grows is read no further than it was.
    fs::write(layout.path(&digest), &big).unwrap();
    let mut blob = source.blob(&descriptor, 0).unwrap();
    fs::OpenOptions::new().write(true).open(layout.path(&digest)).unwrap().set_len(9 << 20).unwrap();
    assert_eq!(blob.read_to_end(&mut Vec::new()).unwrap(), big.len());
    // The index was read when the layout was opened.
    fs::remove_file(layout.0.path().join("index.json")).unwrap();
    assert_eq!(source.root().unwrap(), descriptor);
}

#[test]
fn loops_and_depth_end() {
    let layout = Layout::new();
    // What says that it is in itself would need a digest of itself.
    let claim = Digest::sha256(b"a guess");
    let text = index(&[descriptor(INDEX, &claim, 100, "")]);
    fs::write(layout.path(&claim), &text).unwrap();
    layout.index(&[descriptor(INDEX, &claim, text.len(), "")]);
    assert!(matches!(layout.images(), Err(Error::Mismatch { .. })));
    let nested = |levels: usize| {
        (0..levels).fold(layout.image(""), |inner, _| layout.put(INDEX, index(&[inner]).as_bytes(), ""))
    };
    layout.index(&[nested(8)]);
    assert_eq!(layout.images().unwrap().images.len(), 1);
    layout.index(&[nested(9)]);
    assert!(matches!(layout.images(), Err(Error::Depth { .. })));
    // A few kilobytes that would be billions of manifests.
    let wide =
        (0..5).fold(layout.image(""), |inner, _| layout.put(INDEX, index(&vec![inner; 100]).as_bytes(), ""));
    layout.index(&[wide]);
    assert!(matches!(layout.images(), Err(Error::TooMany { .. })));
}

/// The members of a descriptor, without their names.
fn by_position(descriptor: &str) -> String {
    let [media_type, digest, size] = ["mediaType", "digest", "size"]
        .map(|name| serde_json::from_str::<serde_json::Value>(descriptor).unwrap()[name].take());
    format!("[{media_type},{digest},{size},null,null,null,null,null]")
}

#[test]
fn a_configuration_has_names_for_its_members() {
    let layout = Layout::new();
    assert_eq!(layout.configured(r#"{"rootfs":{"type":"layers","diff_ids":[]}}"#), Ok(()));
    for config in [
        r#"{"rootfs":["layers",[]]}"#,
        r#"{"rootfs":{"type":"layers","diff_ids":[]},"config":[{"a":"b"}]}"#,
        r#"["linux","amd64",null,null,{"type":"layers","diff_ids":[]}]"#,
    ] {
        let error = layout.configured(config).unwrap_err();
        assert!(error.contains("invalid type: sequence"), "{config}: {error}");
    }
}

#[test]
fn paths_that_differ_in_case_are_others() {
    let layout = Layout::new();
    let read = |settings: &str| {
        layout
            .configured(&format!(r#"{{"config":{{{settings}}},"rootfs":{{"type":"layers","diff_ids":[]}}}}"#))
    };
    for settings in [
        r#""Volumes":{"/Data":{},"/data":{}}"#,
        r#""ExposedPorts":{"80/tcp":{},"80/TCP":{}}"#,
        r#""Labels":{"a":"1","A":"2"}"#,
    ] {
        assert_eq!(read(settings), Ok(()), "{settings}");
    }
    for settings in [
        r#""Volumes":{"/data":{},"/data":{}}"#,
        r#""Volumes":{"/data":{"a":1,"A":2}}"#,
        r#""Volumes":{},"volumes":{}"#,
        r#""Volumes":{},"User":"","user":"root""#,
    ] {
        let error = read(settings).unwrap_err();
        assert!(error.contains("comes twice"), "{settings}: {error}");
    }
}

#[test]
fn remarks_that_are_null_are_empty() {
    let layout = Layout::new();
    let names = r#"{"layers":null,"RepoTags":null,"x":null,"y":"z"}"#;
    let config = format!(r#"{{"config":{{"Labels":{names}}},"rootfs":{{"type":"layers","diff_ids":null}}}}"#);
    let config = layout.put(CONFIG, config.as_bytes(), "");
    let manifest = format!(
        r#"{{"schemaVersion":2,"config":{config},"layers":null,"annotations":{names},"subject":null}}"#
    );
    layout.index(&[layout.put(MANIFEST, manifest.as_bytes(), "")]);
    let found = layout.images().unwrap();
    let [image] = &found.images[..] else { panic!("{found:?}") };
    let expected = [("RepoTags", ""), ("layers", ""), ("x", ""), ("y", "z")];
    for found in [&image.annotations, &image.config.labels] {
        assert!(found.iter().map(|(name, value)| (&**name, &**value)).eq(expected), "{found:?}");
    }
    assert!(image.layers.is_empty() && image.subject.is_none());
}

#[test]
fn documents_are_what_they_are_said_to_be() {
    let layout = Layout::new();
    let problem = |entry: String| {
        layout.index(&[entry]);
        layout.images().unwrap_err()
    };
    let docker = "application/vnd.docker.distribution.manifest.v1+json";
    let error = problem(layout.put(docker, b"{}", ""));
    assert!(matches!(&error, Error::MediaType { media_type, .. } if media_type == docker), "{error}");
    let config = layout.put(CONFIG, br#"{"rootfs":{"type":"layers","diff_ids":[]}}"#, "");
    let layer = layout.put(GZIP, b"x", "");
    let manifest = |text: &str| layout.put(MANIFEST, text.as_bytes(), "");
    let count = manifest(&format!(r#"{{"schemaVersion":2,"config":{config},"layers":[{layer}]}}"#));
    assert!(matches!(problem(count), Error::LayerCount { layers: 1, diff_ids: 0, .. }));
    for (text, word) in [
        (
            format!(r#"{{"schemaVersion":2,"config":{config},"layers":[],"manifests":[]}}"#),
            "another kind of document",
        ),
        (format!(r#"{{"schemaVersion":2,"config":{config},"layers":[],"Layers":[{layer}]}}"#), "comes twice"),
        (
            format!(r#"{{"schemaVersion":2,"config":{config},"layers":[],"Manifests":[]}}"#),
            "to some readers and nothing to others",
        ),
        (format!(r#"{{"schemaVersion":1,"config":{config},"layers":[]}}"#), "schemaVersion is 1"),
        (
            format!(r#"{{"schemaVersion":2,"mediaType":"{INDEX}","config":{config},"layers":[]}}"#),
            "was listed as",
        ),
        (format!(r#"{{"schemaVersion":2,"config":{config}}}"#), "layers"),
        ("[]".to_owned(), "invalid type"),
        // What `serde` would take for the same, member by member.
        (
            format!(r#"{{"schemaVersion":2,"config":{},"layers":[]}}"#, by_position(&config)),
            "invalid type: sequence",
        ),
        (
            format!(r#"{{"schemaVersion":2,"config":{config},"layers":[{}]}}"#, by_position(&layer)),
            "invalid type: sequence",
        ),
        ("{".to_owned(), "EOF"),
    ] {
        let error = problem(manifest(&text));
        assert!(matches!(error, Error::Document { .. }) && error.to_string().contains(word), "{error}");
    }
    let artifact = layout.put("application/vnd.cncf.helm.config.v1+json", b"{}", "");
    let chart = manifest(&format!(r#"{{"schemaVersion":2,"config":{artifact},"layers":[{layer}]}}"#));
    assert!(matches!(problem(chart.clone()), Error::MediaType { .. }));
    layout.index(&[chart, layout.image("")]);
    assert_eq!(layout.images().unwrap().artifacts, 1);
}

#[test]
fn sizes_that_lie_allocate_nothing() {
    let layout = Layout::new();
    let digest = Digest::sha256(b"{}");
    fs::write(layout.path(&digest), b"{}").unwrap();
    layout.index(&[descriptor(MANIFEST, &digest, usize::MAX / 4, "")]);
    assert!(matches!(layout.images(), Err(Error::DocumentSize { .. })));
    let source = layout.open(None).unwrap();
    let said = Descriptor::new(MANIFEST, digest.clone(), 3);
    assert!(matches!(read_document(&*source, &said), Err(Error::Size { expected: 3, found: 2, .. })));
    layout.index(&[descriptor(MANIFEST, &digest, usize::MAX, "")]);
    assert!(matches!(layout.open(None), Err(Error::Field { field: "size", .. })));
}

#[test]
fn what_is_no_layout_says_why() {
    let layout = Layout::new();
    let reason = || layout.open(None).err().unwrap().to_string();
    assert!(reason().contains("no index.json"), "{}", reason());
    fs::write(layout.0.path().join("oci-layout"), r#"{"imageLayoutVersion":"9"}"#).unwrap();
    assert!(reason().contains(r#"version "9""#), "{}", reason());
    fs::remove_file(layout.0.path().join("oci-layout")).unwrap();
    assert!(reason().contains("no oci-layout"), "{}", reason());
    let fifo = layout.0.path().join("oci-layout");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    assert!(reason().contains("no regular file"), "{}", reason());
    let file = ImageName::OciLayout { dir: fifo, reference: None };
    assert!(open(&file).err().unwrap().to_string().contains("no directory"));
}

struct Impatient;

impl Observer for Impatient {
    fn cancelled(&self) -> bool {
        true
    }
}

#[test]
fn hashing_the_layers_of_an_archive_can_be_cancelled() {
    let layer = [&[0x1f, 0x8b, 8][..], &[0; 600]].concat();
    let config = format!(r#"{{"rootfs":{{"type":"layers","diff_ids":["sha256:{}"]}}}}"#, "0a".repeat(32));
    let list = r#"[{"Config":"c.json","Layers":["l.tgz"]}]"#;
    let mut writer = Writer::new(Vec::new());
    for (name, bytes) in
        [("l.tgz", &layer[..]), ("c.json", config.as_bytes()), ("manifest.json", list.as_bytes())]
    {
        let size = bytes.len() as u64;
        let kind = EntryKind::File { size, data: std::iter::once(0..size).collect() };
        writer.add(name.as_bytes(), &Attributes::default(), &kind, &mut &*bytes).unwrap();
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("d.tar");
    fs::write(&path, writer.finish().unwrap()).unwrap();
    let name = ImageName::DockerArchive { path, reference: None };
    assert!(matches!(open_with(&name, &Impatient).err(), Some(Error::Cancelled)));
    let found = images(&*open(&name).unwrap(), &Platforms::All).unwrap();
    assert_eq!(found.images[0].layers[0].descriptor.digest, Digest::sha256(&layer));
}

#[test]
fn of_many_platforms_a_message_shows_some() {
    let layout = Layout::new();
    let long = "x".repeat(1000);
    layout.index(&(10..40).map(|n| layout.image(&platform(&format!("{n}{long}")))).collect::<Vec<_>>());
    let error = layout.for_platform("linux/s390x").unwrap_err().to_string();
    assert!(error.ends_with(" and 10 more") && error.len() < 20 * 300, "{error}");
}
