//! Images whose sources fail while they are verified: what is known to be bad is told from what is not known.
#![cfg(feature = "oci")]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::PathBuf;

use verity_core::algorithm::Algorithm;
use verity_core::block::{BlockSize, RootHash, Salt};
use verity_core::layer::{self, Digest, Limits};
use verity_core::oci::annotations::{LAYER_MEDIA_TYPE, LayerAnnotations};
use verity_core::oci::verify::{self, Error, Options, Problem};
use verity_core::oci::{self, Descriptor, Image, ImageName, Platforms, Source, images};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const TAR: &str = "application/vnd.oci.image.layer.v1.tar";
const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const OTHER: &str = "application/x-other";

/// How a layer fails.
type Failure = fn(&Descriptor) -> Result<Box<dyn Read + Send>, oci::Error>;

/// An image of one layer.
struct Memory {
    blobs: BTreeMap<Digest, Vec<u8>>,
    root: Descriptor,
    layer: Digest,
    failure: Option<Failure>,
}

impl Memory {
    fn new(media_type: &str, layer: &[u8], failure: Option<Failure>) -> Self {
        Self::described(media_type, layer, "", failure)
    }

    /// With more members in the layer's descriptor.
    fn described(media_type: &str, layer: &[u8], more: &str, failure: Option<Failure>) -> Self {
        let mut blobs = BTreeMap::new();
        let mut put = |bytes: &[u8]| {
            let digest = Digest::sha256(bytes);
            blobs.insert(digest.clone(), bytes.to_vec());
            (digest, bytes.len() as u64)
        };
        let (layer, layer_size) = put(layer);
        let config = format!(
            r#"{{"os":"linux","architecture":"amd64","rootfs":{{"type":"layers","diff_ids":["{layer}"]}}}}"#
        );
        let (config, config_size) = put(config.as_bytes());
        let manifest = format!(
            r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","config":{{"mediaType":"{CONFIG}","digest":"{config}","size":{config_size}}},"layers":[{{"mediaType":"{media_type}","digest":"{layer}","size":{layer_size}{more}}}]}}"#
        );
        let (manifest, manifest_size) = put(manifest.as_bytes());
        let root = Descriptor::new(MANIFEST, manifest, manifest_size);
        Self { blobs, root, layer, failure }
    }

    fn images(&self) -> Vec<Image> {
        images(self, &Platforms::All).unwrap().images
    }

    /// What is wrong with the layer.
    fn verify(&self) -> Result<Vec<String>, Error> {
        let (scratch, limits) = (tempfile::tempdir().unwrap(), Limits::default());
        let options = Options::new(scratch.path(), &limits, &());
        let found = verify::verify(self, &self.images(), &options)?;
        Ok(found[0][0].problems.iter().map(kind).collect())
    }
}

fn kind(problem: &Problem) -> String {
    let text = format!("{problem:?}");
    text.split(['(', ' ']).next().unwrap().to_owned()
}

impl Source for Memory {
    fn root(&self) -> Result<Descriptor, oci::Error> {
        Ok(self.root.clone())
    }

    fn blob(&self, descriptor: &Descriptor, _from: u64) -> Result<Box<dyn Read + Send + '_>, oci::Error> {
        match self.failure.filter(|_| descriptor.digest == self.layer) {
            Some(failure) => failure(descriptor),
            None => Ok(Box::new(&self.blobs[&descriptor.digest][..])),
        }
    }
}

/// A reader that fails after some bytes.
struct Failing(u8);

impl Read for Failing {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.0 == 0 {
            return Err(io::Error::other("the disk is gone"));
        }
        self.0 -= 1;
        buffer[0] = 0;
        Ok(1)
    }
}

#[test]
fn a_source_that_fails_says_nothing_of_the_image() {
    for media_type in [TAR, OTHER] {
        let busy: Failure = |_| Err(oci::Error::Other("too many requests".into()));
        let error = Memory::new(media_type, &[0; 1024], Some(busy)).verify().unwrap_err();
        assert!(matches!(error, Error::Source { source: oci::Error::Other(_), .. }), "{error:?}");
        assert!(error.to_string().ends_with(": too many requests"), "{error}");

        let closed: Failure = |_| {
            let source = io::ErrorKind::PermissionDenied.into();
            Err(oci::Error::Open { path: "layer".into(), source })
        };
        let error = Memory::new(media_type, &[0; 1024], Some(closed)).verify().unwrap_err();
        assert!(matches!(error, Error::Source { source: oci::Error::Open { .. }, .. }), "{error:?}");

        let broken: Failure = |_| Ok(Box::new(Failing(100)));
        let error = Memory::new(media_type, &[0; 1024], Some(broken)).verify().unwrap_err();
        assert!(matches!(error, Error::Read { .. }), "{error:?}");
        assert!(error.to_string().ends_with("the disk is gone"), "{error}");
    }
}

#[test]
fn what_is_known_to_be_bad_is_told() {
    for media_type in [TAR, OTHER] {
        let missing: Failure =
            |layer| Err(oci::Error::Missing { digest: layer.digest.clone(), place: "here".to_owned() });
        assert_eq!(Memory::new(media_type, &[0; 1024], Some(missing)).verify().unwrap(), ["Blob"]);
        let short: Failure =
            |layer| Err(oci::Error::Size { digest: layer.digest.clone(), expected: layer.size, found: 1 });
        assert_eq!(Memory::new(media_type, &[0; 1024], Some(short)).verify().unwrap(), ["Blob"]);
        let other: Failure = |_| Ok(Box::new(&[1; 1024][..]));
        let found = Memory::new(media_type, &[0; 1024], Some(other)).verify().unwrap();
        assert_eq!(found, [if media_type == TAR { "Tar" } else { "Digest" }]);
        assert!(Memory::new(media_type, &[0; 1024], None).verify().unwrap().is_empty());
    }
}

/// The bytes of a layer of 100 blocks with superblock and one hash block.
const LAYER_BYTES: usize = 409_600 + 2 * 4096;

/// The annotations of such a layer, as a member of its descriptor.
fn annotations(bytes: &[u8]) -> String {
    let annotations = LayerAnnotations {
        diff_id: Digest::sha256(bytes),
        root_hash: RootHash::from_hex(Algorithm::Sha256, &"ab".repeat(32)).unwrap(),
        algorithm: Algorithm::Sha256,
        salt: Salt::default(),
        block_size: BlockSize::new(4096).unwrap(),
        data_blocks: 100,
        hash_offset: 409_600,
        fec: None,
    };
    assert_eq!(annotations.blob_bytes().unwrap(), LAYER_BYTES as u64);
    let members: Vec<_> =
        annotations.to_map().iter().map(|(key, value)| format!("{key:?}:{value:?}")).collect();
    format!(r#","annotations":{{{}}}"#, members.join(","))
}

#[test]
fn a_layer_that_is_not_as_long_as_its_annotations_say_is_not_fetched() {
    let bytes = vec![0; LAYER_BYTES + 1];
    let fetched: Failure = |_| panic!("it was fetched");
    let image = Memory::described(LAYER_MEDIA_TYPE, &bytes, &annotations(&bytes), Some(fetched));
    assert_eq!(image.verify().unwrap(), ["Size"]);
}

/// A source that has a layer as a file, of whose name nobody knows what it is a moment later.
struct Files(Memory, File);

impl Source for Files {
    fn root(&self) -> Result<Descriptor, oci::Error> {
        self.0.root()
    }

    fn blob(&self, descriptor: &Descriptor, from: u64) -> Result<Box<dyn Read + Send + '_>, oci::Error> {
        self.0.blob(descriptor, from)
    }

    fn blob_file(&self, _descriptor: &Descriptor) -> Result<Option<File>, oci::Error> {
        Ok(Some(self.1.try_clone().unwrap()))
    }

    fn blob_path(&self, _descriptor: &Descriptor) -> Option<PathBuf> {
        panic!("it would be opened by its name");
    }
}

#[test]
fn a_file_is_opened_once() {
    let bytes = vec![0; LAYER_BYTES];
    let copied: Failure = |_| panic!("it was copied");
    let image = Memory::described(LAYER_MEDIA_TYPE, &bytes, &annotations(&bytes), Some(copied));
    let mut file = tempfile::tempfile().unwrap();
    io::Write::write_all(&mut file, &bytes).unwrap();
    let source = Files(image, file);
    let limits = Limits::default();
    let options = Options::new("/nonexistent".as_ref(), &limits, &());
    let found = verify::verify(&source, &source.0.images(), &options).unwrap();
    // The digest is right, and zeros are no superblock.
    assert_eq!(found[0][0].problems.iter().map(kind).collect::<Vec<_>>(), ["Superblock"]);
}

#[test]
fn a_layout_gives_files_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let blobs = dir.path().join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    fs::write(dir.path().join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    fs::write(dir.path().join("index.json"), r#"{"schemaVersion":2,"manifests":[]}"#).unwrap();
    let source = oci::open(&ImageName::OciLayout { dir: dir.path().to_owned(), reference: None }).unwrap();
    let layer = Descriptor::new(TAR, Digest::sha256(b"layer"), 5);
    let path = blobs.join(layer.digest.to_string().replace("sha256:", ""));
    assert!(matches!(source.blob_file(&layer), Err(oci::Error::Missing { .. })));
    fs::write(&path, b"layer").unwrap();
    let mut bytes = String::new();
    source.blob_file(&layer).unwrap().unwrap().read_to_string(&mut bytes).unwrap();
    assert_eq!(bytes, "layer");
    fs::write(&path, b"layers").unwrap();
    assert!(matches!(source.blob_file(&layer), Err(oci::Error::Size { found: 6, .. })));
    fs::remove_file(&path).unwrap();
    // Nobody writes to it: whoever waited for that would wait for ever.
    assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
    assert!(matches!(source.blob_file(&layer), Err(oci::Error::Open { .. })));
}

#[test]
fn what_is_only_digested_is_not_copied() {
    let image = Memory::new(OTHER, &[0; 1024], None);
    let limits = Limits::default();
    let options = Options::new("/nonexistent".as_ref(), &limits, &());
    let found = verify::verify(&image, &image.images(), &options).unwrap();
    assert!(found[0][0].is_intact(), "{found:?}");
}

#[test]
fn a_tar_that_is_much_larger_than_its_blob_is_an_error() {
    let mut limits = Limits::default();
    (limits.ratio, limits.allowance) = (2, 1000);
    // A gzip member with 100,000 zeros.
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    io::Write::write_all(&mut encoder, &[0; 100_000]).unwrap();
    let image = Memory::new(GZIP, &encoder.finish().unwrap(), None);
    let options = Options::new("/nonexistent".as_ref(), &limits, &());
    let error = verify::verify(&image, &image.images(), &options).unwrap_err();
    let Error::Limit { source: layer::Error::Expansion { ratio: 2, .. }, .. } = error else {
        panic!("{error:?}")
    };
}
