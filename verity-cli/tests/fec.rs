//! Parity: made with the tree or after it, described, checked.

mod common;

use common::{FIXED, Sandbox, pattern};
use serde_json::json;

/// `data`, `hash` and `fec` with so many parity bytes, and the root hash.
fn coded(blocks: usize, roots: u32) -> (Sandbox, String) {
    let sandbox = Sandbox::with_data(blocks);
    let format = format!("format --quiet data hash {FIXED} --fec-device fec --fec-roots {roots}");
    let root = sandbox.verity(&format).success().trim().to_owned();
    (sandbox, root)
}

#[test]
fn format_tells_of_the_parity_as_veritysetup_does() {
    let sandbox = Sandbox::with_data(16);
    let told = sandbox.verity(&format!("format data hash {FIXED} --fec-device fec")).success();
    let lines =
        "Hash algorithm:  \tsha256\nFEC RS roots:   \t2\nFEC blocks:     \t2\nSalt:            \t00112233\n";
    assert!(told.contains(lines), "{told}");
    assert!(told.ends_with("Hash device size: \t8192 [bytes]\nFEC device size: \t8192 [bytes]\n"), "{told}");
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(sandbox.path("fec").metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let dumped = sandbox.verity("dump hash --fec-device fec --json").json();
    let expected = json!({"device": "fec", "roots": 2, "offset": 0, "bytes": 8192, "covered_blocks": 17});
    assert_eq!(dumped["fec"], expected);
    assert_eq!(sandbox.verity("dump hash --json").json()["fec"], json!(null));
}

/// Parity made with the tree, made after it, and made by another number of threads: the same bytes.
#[test]
fn parity_is_the_same_whenever_it_is_made() {
    let (sandbox, root) = coded(700, 5);
    let right = sandbox.read("fec");
    for options in ["", "--threads 1"] {
        let encode = format!("fec encode data hash {root} --fec-device again --fec-roots 5 {options}");
        let told = sandbox.verity(&encode).success();
        assert!(told.contains("FEC blocks:     \t15\n") && told.contains(&root), "{told}");
        assert!(sandbox.read("again") == right);
    }
    let encoded =
        sandbox.verity(&format!("fec encode data hash {root} --fec-device again --fec-roots 5 --json"));
    assert_eq!(encoded.json()["fec"]["roots"], 5);
    assert_eq!(encoded.json()["command"], "fec encode");
    // Damaged parity is mended so.
    sandbox.flip("fec", 4000, 1);
    let verify = format!("verify data hash {root} --fec-device fec --fec-roots 5");
    let run = sandbox.verity(&verify);
    let message = "verity: data and tree are intact, but 1 of 15 parity blocks are not what they should be\n\
                   hint: 'verity fec encode' makes the parity anew; data and tree can be used as they are\n";
    run.is(2, "", message);
    sandbox.verity(&format!("fec encode -q data hash {root} --fec-device fec --fec-roots 5")).is(0, "", "");
    sandbox.verity(&verify).is(0, "", "");
    assert!(sandbox.read("fec") == right);
}

#[test]
fn parity_is_not_made_of_what_is_damaged() {
    let (sandbox, root) = coded(20, 2);
    sandbox.flip("data", 5000, 1);
    let before = sandbox.content();
    sandbox.verity(&format!("fec encode data hash {root} --fec-device other")).is(
        2,
        "",
        "verity: data or hash tree do not match the root hash\n\
         hint: 'verity verify' lists the bad blocks; parity is made of an intact image\n",
    );
    assert_eq!(sandbox.content(), before);
    // Without a root hash nobody knows, which is said.
    let run = sandbox.verity("fec encode -q data hash --fec-device other");
    assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""));
    let run = sandbox.verity("fec encode data hash --fec-device other");
    assert!(run.stderr.contains("no root hash was given"), "{run:?}");
}

/// Data, tree and parity in one file, behind each other.
#[test]
fn one_file_holds_data_tree_and_parity() {
    let sandbox = Sandbox::with_data(100);
    let places = "--hash-offset 409600 --fec-device data --fec-offset 417792";
    let format = format!("format -q data data {FIXED} --data-blocks 100 {places}");
    let root = sandbox.verity(&format).success().trim().to_owned();
    assert_eq!(sandbox.read("data").len(), 417_792 + 8192);
    assert!(sandbox.read("data")[..409_600] == pattern(409_600));
    let verify = format!("verify data data {root} {places}");
    sandbox.verity(&verify).is(0, "", "");
    for at in [7, 409_600 + 4096 + 5] {
        sandbox.flip("data", at, 1);
        let run = sandbox.verity(&verify);
        assert!(run.code == Some(2) && run.stderr.contains("; repairable: "), "{run:?}");
        let before = sandbox.content();
        sandbox.verity(&format!("repair -q data data {root} {places} --in-place")).is(0, "", "");
        assert!(sandbox.content() != before);
        sandbox.verity(&verify).is(0, "", "");
    }
    // A new file for tree and parity, with room between them.
    let places = "--fec-device both --fec-offset 32768";
    let root = sandbox.verity(&format!("format -q data both --data-blocks 100 {places}")).success();
    let verify = format!("verify data both {} {places}", root.trim());
    sandbox.verity(&verify).is(0, "", "");
    assert_eq!(sandbox.read("both").len(), 32_768 + 8192);
}

#[test]
fn what_overlaps_or_is_not_aligned_is_refused_before_anything_is_written() {
    let sandbox = Sandbox::with_data(20);
    sandbox.write("old", &pattern(5000));
    for (arguments, message) in [
        ("--fec-device data", "data and parity overlap"),
        ("--fec-device ./data --fec-offset 77824", "data and parity overlap"),
        ("--fec-device hash --fec-offset 4096", "hash area and parity overlap"),
        ("--fec-device ./hash", "hash area and parity overlap"),
        ("--fec-device fec --fec-offset 512", "FEC offset 512 is not a multiple of the block size 4096"),
        ("--fec-device fec --fec-offset 18446744073709547520", "would pass 2^63 bytes"),
        (
            "--fec-device fec --data-block-size 512",
            "needs data and hash blocks of one size, not 512 and 4096",
        ),
        ("--fec-device fec --fec-roots 1", "--fec-roots \"1\": not from 2 to 24"),
        ("--fec-device fec --fec-roots 25", "--fec-roots \"25\": not from 2 to 24"),
        ("--fec-roots 5", "--fec-roots goes only with --fec-device"),
        ("--fec-offset 0", "--fec-offset goes only with --fec-device"),
        ("--fec-device missing/fec", "FEC device \"missing/fec\" cannot be created"),
        ("--fec-device fec --root-hash-file fec", "is the FEC device"),
        ("--fec-device old --root-hash-file old", "is the FEC device"),
    ] {
        let run = sandbox.verity(&format!("format data hash {arguments}"));
        assert!(run.code == Some(1) && run.stderr.contains(message), "{arguments}: {run:?}");
        assert_eq!(sandbox.names(), ["data", "old"], "{arguments}");
        assert!(sandbox.read("old") == pattern(5000) && sandbox.read("data") == pattern(20 * 4096));
    }
    let run = sandbox.verity_with_input("format - hash --fec-device fec", &[0; 4096]);
    assert!(run.code == Some(1) && run.stderr.contains("which a pipe gives only once"), "{run:?}");
    assert_eq!(sandbox.names(), ["data", "old"]);
}

/// What comes behind a tree in its own file is covered, as the kernel's table says it.
#[test]
fn what_lies_behind_the_tree_is_covered_too() {
    let sandbox = Sandbox::with_data(20);
    sandbox.write("hash", &pattern(50_000));
    let told = sandbox.verity(&format!("format data hash {FIXED} --fec-device fec --json")).json();
    // 20 data blocks, and 11 whole blocks behind the superblock's.
    assert_eq!(told["fec"]["covered_blocks"], 31);
    let verify = format!("verify data hash {} --fec-device fec", told["root_hash"].as_str().unwrap());
    sandbox.verity(&verify).is(0, "", "");
    sandbox.flip("hash", 49_500, 1);
    sandbox.verity(&verify).is(0, "", "");
    sandbox.flip("hash", 45_000, 1);
    assert_eq!(sandbox.verity(&verify).code, Some(2), "the parity does not match what it covers");
}

#[test]
fn verify_says_repairable_or_beyond_repair() {
    let (sandbox, root) = coded(520, 2);
    let verify = format!("verify data hash {root} --fec-device fec");
    let intact = sandbox.verity(&format!("{verify} --json"));
    assert_eq!(intact.code, Some(0));
    assert_eq!(intact.json()["fec"]["verdict"], "intact");
    assert_eq!(intact.json()["fec"]["differing_parity_blocks"], 0);
    // Three rounds: blocks 0, 3 and 6 share their codewords.
    sandbox.flip("data", 0, 1);
    sandbox.flip("data", 3 * 4096, 1);
    let before = sandbox.content();
    let run = sandbox.verity(&verify);
    assert_eq!(run.code, Some(2));
    assert_eq!(run.stdout.lines().count(), 2, "{}", run.stdout);
    let message = "verification failed: 2 of 520 data blocks and 0 of 6 hash blocks are bad; repairable: the parity restores \
                   2 data blocks and 0 hash blocks\nhint: 'verity repair' restores them\n";
    assert_eq!(run.stderr, format!("verity: {message}"));
    let fec = sandbox.verity(&format!("{verify} --json")).json()["fec"].clone();
    assert_eq!((&fec["verdict"], &fec["repairable_data_blocks"]), (&json!("repairable"), &json!(2)));
    // The same byte of a third one.
    sandbox.flip("data", 6 * 4096, 1);
    let run = sandbox.verity(&verify);
    assert_eq!(run.code, Some(2));
    assert!(run.stdout.contains("\nBeyond repair:\ndata block 0 (bytes 0 to 4095)"), "{}", run.stdout);
    assert!(
        run.stderr.contains(
            "; beyond repair: the parity restores 0 data blocks and 0 hash blocks, and 3 data blocks"
        )
    );
    let fec = sandbox.verity(&format!("{verify} --json")).json()["fec"].clone();
    assert_eq!((&fec["verdict"], &fec["remaining"]["bad_data_blocks"]), (&json!("beyond-repair"), &json!(3)));
    sandbox.flip("data", 6 * 4096, 1);
    assert_eq!(sandbox.content(), before, "verify writes nothing");
}

#[test]
fn a_fec_device_that_cannot_be_right_is_refused() {
    let (sandbox, root) = coded(520, 2);
    let verify = |options: &str| sandbox.verity(&format!("verify data hash {root} {options}"));
    let run = verify("--fec-device missing");
    assert!(run.code == Some(4) && run.stderr.contains("FEC device \"missing\" does not exist"), "{run:?}");
    let run = verify("--fec-device fec --fec-roots 3");
    assert!(run.code == Some(1) && run.stderr.contains("is too short: 24576 bytes of 36864"), "{run:?}");
    let run = verify("--fec-device fec --fec-offset 4096");
    assert!(run.code == Some(1) && run.stderr.contains("is too short"), "{run:?}");
    let run = verify("--fec-device hash");
    assert!(run.code == Some(1) && run.stderr.contains("hash area and parity overlap"), "{run:?}");
    for command in ["repair data hash {} --in-place", "fec encode data hash {}"] {
        let run = sandbox.verity(&command.replace("{}", &root));
        assert!(run.code == Some(1) && run.stderr.contains("--fec-device is missing"), "{run:?}");
    }
    // Another image's root hash stays an error of its own.
    let run = sandbox.verity(&format!("verify data hash {} --fec-device fec", "00".repeat(32)));
    assert!(run.code == Some(1) && run.stderr.contains("wrong root hash"), "{run:?}");
}
