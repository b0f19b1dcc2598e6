//! How much comes of a layer: holes stay holes, and bounds hold in both directions.

mod common;
#[path = "../../verity-core/tests/common/raw_tar.rs"]
#[allow(dead_code)] // Each test program uses a part of this.
mod raw_tar;

use std::fs;
use std::os::unix::fs::MetadataExt;

use common::Sandbox;
use raw_tar::RawTar;

const HOLE: u64 = 3 << 30;

/// A layer with a file of 3 GiB, of which one block is data, and others: its root hash.
fn layer(sandbox: &Sandbox) -> String {
    let map = format!("{},4096", 1 << 20);
    let tar = RawTar::default()
        .pax(&[("GNU.sparse.map", map.as_bytes()), ("GNU.sparse.size", HOLE.to_string().as_bytes())])
        .file("sparse", &[b's'; 4096])
        .directory("folder")
        .file("folder/small", b"small");
    sandbox.write("layer.tar", &tar.end());
    sandbox
        .verity("layer build --quiet layer.tar layer.erofs --max-bytes 4294967296")
        .success()
        .trim()
        .to_owned()
}

#[test]
fn holes_of_one_file_stay_holes() {
    let sandbox = Sandbox::new();
    let root = layer(&sandbox);
    let extract =
        format!("layer extract layer.erofs {root} sparse --file sparse --max-bytes 4294967296 --json");
    let document = sandbox.verity(&extract).json();
    assert_eq!(document["bytes"], HOLE);
    let metadata = sandbox.path("sparse").metadata().unwrap();
    assert_eq!(metadata.len(), HOLE);
    assert!(metadata.blocks() * 512 < 4 << 20, "{} blocks of 512 bytes", metadata.blocks());
    let file = fs::File::open(sandbox.path("sparse")).unwrap();
    let mut bytes = [0; 3 * 4096];
    std::os::unix::fs::FileExt::read_exact_at(&file, &mut bytes, (1 << 20) - 4096).unwrap();
    assert!(bytes[4096..8192].iter().all(|&byte| byte == b's'));
    assert!(bytes[..4096].iter().chain(&bytes[8192..]).all(|&byte| byte == 0));
    // A stream has no holes.
    let print = sandbox.verity(&format!("layer extract layer.erofs {root} - --file folder/small"));
    assert_eq!(print.success(), "small");
}

#[test]
fn what_is_unpacked_is_bounded() {
    let sandbox = Sandbox::new();
    let root = layer(&sandbox);
    let names = sandbox.names();
    let extract = |options: &str| sandbox.verity(&format!("layer extract layer.erofs {root} {options}"));
    for (options, said, hint) in [
        ("out --file sparse", "\"sparse\": 3221225472 bytes of content", "--max-ratio or --max-bytes"),
        ("- --file sparse", "more than 200 times as much", "--max-ratio or --max-bytes"),
        ("out", "and more than 1073741824 bytes", "--max-ratio or --max-bytes"),
        ("out --max-bytes 4294967296 --max-entries 2", "more than 2 files", "--max-entries or --max-memory"),
        ("out --max-bytes 4294967296 --max-memory 5", "more than 5 bytes", "--max-entries or --max-memory"),
    ] {
        let run = extract(options);
        assert_eq!((run.code, run.stdout.as_str()), (Some(1), ""), "{options}: {run:?}");
        assert!(run.stderr.starts_with("verity: layer \"layer.erofs\": "), "{options}: {run:?}");
        assert!(run.stderr.contains(said) && run.stderr.contains(hint), "{options}: {run:?}");
        assert_eq!(sandbox.names(), names, "{options}");
    }
    extract("out --max-ratio 10000000").success();
    // The tar has the holes, too; building it has the same bounds.
    assert!(sandbox.read("out").len() < 1 << 20);
    for (options, hint) in [
        ("", "--max-bytes"),
        ("--max-bytes 4294967296 --max-entries 3", "--max-entries"),
        ("--max-bytes 4294967296 --max-memory 5", "--max-memory"),
    ] {
        let run = sandbox.verity(&format!("layer build out again.erofs {options}"));
        assert!(run.code == Some(1) && run.stderr.contains(hint), "{options}: {run:?}");
    }
    sandbox
        .verity("layer build out again.erofs --quiet --max-bytes 4294967296 --max-entries 4 --max-memory 200")
        .success();
}
