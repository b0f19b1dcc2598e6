//! What can be told of an activation without a device-mapper: everything up to the first thing that is made.

use std::fs;

use super::*;
use crate::algorithm::Algorithm;
use crate::device::Kind;
use crate::fec::Roots;
use crate::geometry::HashArea;
use crate::io::MemoryDevice;

struct Image {
    directory: tempfile::TempDir,
    activation: Activation,
}

/// Data and hash file of a tree over `blocks` blocks.
fn image(blocks: u8) -> Image {
    let directory = tempfile::tempdir().unwrap();
    let params = Params::default();
    let data: Vec<u8> = (0..blocks).flat_map(|block| [block; 4096]).collect();
    let geometry = Geometry::new(&params, blocks.into(), HashArea::bare(0)).unwrap();
    let hash = MemoryDevice::default();
    let root = tree::build(&data, &hash, &params, &geometry, &tree::Options::default()).unwrap();
    let (data_path, hash_path) = (directory.path().join("data"), directory.path().join("hash"));
    fs::write(&data_path, data).unwrap();
    fs::write(&hash_path, hash.into_bytes()).unwrap();
    let name = "verity-unit-test".parse().unwrap();
    let activation = Activation::new(name, data_path, hash_path, params, geometry, root);
    Image { directory, activation }
}

fn error(activation: &Activation) -> Error {
    activate_with(activation, &Never).unwrap_err()
}

/// Fails the test if anything is made.
struct Never;

impl Steps for Never {
    fn done(&self, step: Step) -> io::Result<()> {
        panic!("{step}");
    }
}

#[test]
fn a_wrong_root_hash_is_caught_before_anything_is_made() {
    let mut image = image(3);
    image.activation.root_hash = RootHash::new(Algorithm::Sha256, &[7; 32]).unwrap();
    let error = error(&image.activation);
    assert!(matches!(error, Error::Tree(tree::Error::RootHash { .. })), "{error}");
    assert_eq!(error.kind(), Kind::Verification);
}

#[test]
fn a_damaged_top_block_is_caught_before_anything_is_made() {
    let image = image(3);
    let mut hash = fs::read(&image.activation.hash).unwrap();
    hash[95] ^= 1;
    fs::write(&image.activation.hash, hash).unwrap();
    assert_eq!(error(&image.activation).kind(), Kind::Verification);
}

#[test]
fn devices_that_end_too_early_are_named_with_both_sizes() {
    let image = image(3);
    let shorten =
        |path: &Path, size: u64| OpenOptions::new().write(true).open(path).unwrap().set_len(size).unwrap();
    shorten(&image.activation.hash, 4095);
    let text = error(&image.activation).to_string();
    assert!(text.starts_with("hash device") && text.contains("4095 bytes, 4096 are needed"), "{text}");
    shorten(&image.activation.data, 12287);
    let text = error(&image.activation).to_string();
    assert!(text.starts_with("data device") && text.contains("12287 bytes, 12288 are needed"), "{text}");
}

#[test]
fn parity_that_ends_too_early_is_named() {
    let mut image = image(3);
    let parity = image.directory.path().join("parity");
    fs::write(&parity, [0; 8191]).unwrap();
    let roots = Roots::new(2).unwrap();
    image.activation.fec = Some(Fec { device: parity, start_block: 0, blocks: 4, roots });
    let text = error(&image.activation).to_string();
    assert!(text.starts_with("FEC device") && text.contains("8191 bytes, 8192 are needed"), "{text}");
}

#[test]
fn the_parity_s_end_is_computed_without_overflow() {
    let end = |start_block, blocks, roots| {
        let roots = Roots::new(roots).unwrap();
        parity_end(&Fec { device: PathBuf::new(), start_block, blocks, roots }, BlockSize::default())
    };
    assert_eq!(end(0, 253, 2), 2 * 4096);
    assert_eq!(end(0, 254, 2), 4 * 4096);
    assert_eq!(end(7, 231, 24), (7 + 24) * 4096);
    assert_eq!(end(u64::MAX, 1, 2), u64::MAX);
    assert_eq!(end(0, u64::MAX, 24), u64::MAX);
}

#[test]
fn a_missing_file_is_not_found() {
    let mut image = image(1);
    image.activation.hash = image.directory.path().join("missing");
    assert_eq!(error(&image.activation).kind(), Kind::NotFound);
}

#[test]
fn the_table_names_devices_by_number_and_carries_the_options() {
    let mut image = image(3);
    image.activation.options.corruption = Corruption::Restart;
    image.activation.fec =
        Some(Fec { device: PathBuf::new(), start_block: 5, blocks: 4, roots: Roots::new(2).unwrap() });
    let numbers: Vec<DeviceNumber> = (0..3).map(|minor| DeviceNumber::new(7, minor).unwrap()).collect();
    let line = table(&image.activation, &numbers).unwrap().to_string();
    let root = image.activation.root_hash;
    assert_eq!(
        line,
        format!(
            "1 7:0 7:1 4096 4096 3 0 sha256 {root} - 9 restart_on_corruption use_fec_from_device 7:2 fec_blocks 4 \
             fec_start 5 fec_roots 2"
        )
    );
}

#[test]
fn a_signature_s_key_is_named_as_veritysetup_names_it() {
    let mut image = image(3);
    image.activation.signature = Some(crate::signature::tests::example());
    let numbers: Vec<DeviceNumber> = (0..2).map(|minor| DeviceNumber::new(7, minor).unwrap()).collect();
    let words = |activation: &Activation| {
        let line = table(activation, &numbers).unwrap().to_string();
        line.split_once(" - ").unwrap().1.to_owned()
    };
    assert_eq!(words(&image.activation), "2 root_hash_sig_key_desc cryptsetup:verity-unit-test");
    image.activation.uuid = Some([0xab; 16]);
    assert_eq!(
        words(&image.activation),
        "2 root_hash_sig_key_desc cryptsetup:abababab-abab-abab-abab-abababababab-verity-unit-test"
    );
    image.activation.options.signature_key = Some("mine".parse().unwrap());
    assert_eq!(words(&image.activation), "2 root_hash_sig_key_desc mine");
    assert!(features(&image.activation).contains(&Feature::Signature));
}
