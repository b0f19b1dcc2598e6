//! `verity verify` and `verity dump`: what they say of good and of bad images, and that they write nothing.

mod common;

use std::os::unix::fs::MetadataExt;

use common::{FIXED, ROOT_OF_16, Sandbox, pattern};
use serde_json::json;

const DO_NOT_USE: &str = "hint: do not use this image; fetch or build it anew\n";

#[test]
fn good_images_are_passed_in_silence() {
    let (sandbox, root) = Sandbox::formatted(16);
    sandbox.verity(&format!("verify data hash {root}")).is(0, "", "");
    sandbox.verity(&format!("verify data hash {}", root.to_uppercase())).is(0, "", "");
    sandbox.verity(&format!("verify -v data hash {root}")).is(0, "Command successful.\n", "");
    sandbox.verity(&format!("verify -q data hash {root} --threads 1")).is(0, "", "");
    let document = sandbox.verity(&format!("verify --json data hash {root}")).json();
    assert_eq!((&document["intact"], &document["findings"]), (&json!(true), &json!([])));
}

#[test]
fn a_bad_block_is_told_with_its_place() {
    let (sandbox, root) = Sandbox::formatted(16);
    sandbox.flip("data", 5000, 1);
    let run = sandbox.verity(&format!("verify data hash {root}"));
    assert!(
        run.stdout.starts_with("data block 1 (bytes 4096 to 8191) is corrupted: its digest is "),
        "{run:?}"
    );
    let message = "verity: verification failed: 1 of 16 data blocks and 0 of 1 hash blocks are bad\n";
    run.is(2, &run.stdout, &format!("{message}{DO_NOT_USE}"));
    sandbox.verity(&format!("verify -q data hash {root}")).is(2, "", &run.stderr);
    let verbose = sandbox.verity(&format!("verify -qv data hash {root}"));
    verbose.is(2, "Command failed with code -2 (verification failed, or no permission).\n", &run.stderr);
}

#[test]
fn every_bad_block_is_listed() {
    let (sandbox, root) = Sandbox::formatted(300);
    for block in [0, 7, 128, 299] {
        sandbox.flip("data", block * 4096 + 11, 0x80);
    }
    let run = sandbox.verity(&format!("verify data hash {root} --json"));
    let document = run.json();
    let blocks: Vec<_> =
        document["findings"].as_array().unwrap().iter().map(|finding| &finding["first_block"]).collect();
    assert_eq!(blocks, [0, 7, 128, 299]);
    assert_eq!(document["bad_data_blocks"], 4);
    assert_eq!(run.code, Some(2));

    let few = sandbox.verity(&format!("verify data hash {root} --max-findings 2"));
    assert_eq!(few.stdout.lines().count(), 3, "{few:?}");
    assert!(few.stdout.ends_with("... and 2 more (--max-findings lists more)\n"));
    let few = sandbox.verity(&format!("verify data hash {root} --max-findings 0 --json")).json();
    assert_eq!((&few["findings"], &few["unlisted_findings"]), (&json!([]), &json!(4)));
}

#[test]
fn a_bad_hash_block_is_told_with_its_level() {
    let (sandbox, root) = Sandbox::formatted(300);
    // Superblock, top block, three leaf blocks: a digest in the second of these.
    sandbox.flip("hash", 3 * 4096 + 40, 1);
    let run = sandbox.verity(&format!("verify data hash {root}"));
    let lines: Vec<_> = run.stdout.lines().collect();
    assert!(lines[0].starts_with("hash level 0 block 1 (bytes 12288 to 16383) is corrupted: "), "{run:?}");
    let below = "data blocks 128 to 255 (bytes 524288 to 1048575) cannot be verified: the hash block above is corrupted";
    assert_eq!(lines[1..], [below]);
    let message = "verity: verification failed: 0 of 300 data blocks and 1 of 4 hash blocks are bad; \
                   128 blocks below bad hash blocks cannot be verified\n";
    run.is(2, &run.stdout, &format!("{message}{DO_NOT_USE}"));
}

#[test]
fn bytes_that_hold_no_digest_are_zero() {
    let (sandbox, root) = Sandbox::formatted(16);
    sandbox.flip("hash", 8000, 1);
    // Its digest is another one then, and the root hash is the digest of the only block.
    let run = sandbox.verity(&format!("verify data hash {root}"));
    assert!(run.stdout.starts_with("hash level 0 block 0 (bytes 4096 to 8191) is corrupted: "), "{run:?}");
    assert_eq!(run.code, Some(2));
}

#[test]
fn a_wrong_root_hash_is_told_apart_from_damage() {
    let (sandbox, root) = Sandbox::formatted(300);
    let wrong = format!("{}{}", if root.starts_with('0') { '1' } else { '0' }, &root[1..]);
    let message = format!("verity: wrong root hash: {wrong} was given, the tree's is {root}\n");
    let hint = "hint: give the root hash that format printed for this very image; if it is that one, the image was replaced\n";
    sandbox.verity(&format!("verify data hash {wrong}")).is(1, "", &format!("{message}{hint}"));
    // Damage in the top block changes the tree's root hash, too.
    sandbox.flip("hash", 4096, 1);
    let run = sandbox.verity(&format!("verify data hash {root}"));
    assert!(run.stdout.starts_with("hash level 1 block 0 (bytes 4096 to 8191) is corrupted: "), "{run:?}");
    assert_eq!(run.code, Some(2));
}

#[test]
fn a_superblock_is_not_needed() {
    let sandbox = Sandbox::with_data(16);
    let parameters = "--no-superblock --salt 00112233 --hash sha512 --format 0 --data-block-size 1024 --hash-block-size 512";
    let root = sandbox.verity(&format!("format -q data hash {parameters}")).success();
    let root = root.trim();
    sandbox.verity(&format!("verify data hash {root} {parameters}")).is(0, "", "");
    sandbox.verity(&format!("verify data hash {root} {parameters} --data-blocks 64")).is(0, "", "");
    let other = parameters.replace("--format 0", "--format 1");
    assert_ne!(sandbox.verity(&format!("verify data hash {root} {other}")).code, Some(0));
}

#[test]
fn without_a_superblock_the_salt_has_to_be_told() {
    let (sandbox, root) = Sandbox::formatted(1);
    sandbox.verity(&format!("verify data hash {root} --no-superblock")).is(
        1,
        "",
        "verity: without a superblock the salt is stored nowhere, and --salt is missing\n\
         hint: give --salt as format printed it, or '--salt -' if there was none\n",
    );
}

#[test]
fn options_that_contradict_the_superblock_are_not_ignored() {
    let (sandbox, root) = Sandbox::formatted(16);
    let agree = "--hash sha256 --format 1 --data-block-size 4096 --hash-block-size 4096 --data-blocks 16 --salt 00112233";
    sandbox.verity(&format!("verify data hash {root} {agree}")).is(0, "", "");
    sandbox.verity(&format!("verify data hash {root} --data-blocks 0")).is(0, "", "");
    for (option, given, found) in [
        ("--hash", "sha512", "sha256"),
        ("--format", "0", "1"),
        ("--data-block-size", "512", "4096"),
        ("--hash-block-size", "8192", "4096"),
        ("--data-blocks", "15", "16"),
        ("--salt", "ff", "00112233"),
        ("--salt", "-", "00112233"),
    ] {
        sandbox.verity(&format!("verify data hash {root} {option} {given}")).is(
            1,
            "",
            &format!(
                "verity: {option} is {given}, but the superblock says {found}\n\
                 hint: leave the option out; with --no-superblock the options count and not the superblock\n"
            ),
        );
    }
}

#[test]
fn root_hash_files() {
    let (sandbox, root) = Sandbox::formatted(16);
    for text in [root.clone(), format!("{root}\n"), root.to_uppercase()] {
        sandbox.write("root", text.as_bytes());
        sandbox.verity("verify data hash --root-hash-file root").is(0, "", "");
    }
    let hint = "hint: it holds the root hash in hexadecimal, on one line, and nothing else\n";
    let digits = "hint: give the root hash as format printed it\n";
    let odd = "verity: root hash is not hexadecimal: Odd number of digits\n";
    for (text, message) in [
        (String::new(), format!("verity: root hash file \"root\" is empty\n{hint}")),
        ("\n".to_owned(), format!("verity: root hash file \"root\" is empty\n{hint}")),
        (format!("{root} hash"), format!("{odd}{digits}")),
        (format!("{root}\n\n"), format!("{odd}{digits}")),
        (
            root[2..].to_owned(),
            format!("verity: root hash of 62 digits is no sha256 digest, which has 64 digits\n{digits}"),
        ),
    ] {
        sandbox.write("root", text.as_bytes());
        let run = sandbox.verity("verify data hash --root-hash-file root");
        run.is(1, "", &message);
    }
    sandbox.write("root", b"\xff\xfe");
    let message = format!("verity: root hash file \"root\" holds no text\n{hint}");
    sandbox.verity("verify data hash --root-hash-file root").is(1, "", &message);
    let message = format!("verity: root hash file \".\" is not a regular file\n{hint}");
    sandbox.verity("verify data hash --root-hash-file .").is(1, "", &message);
    sandbox.write("root", root.as_bytes());
    sandbox.verity(&format!("verify data hash {root} --root-hash-file root")).is(
        1,
        "",
        "verity: the root hash is given twice, as an argument and as --root-hash-file\nhint: leave one of them out\n",
    );
}

#[test]
fn nothing_is_written() {
    let (sandbox, root) = Sandbox::formatted(300);
    sandbox.flip("data", 0, 1);
    let stamps = || {
        ["data", "hash"].map(|name| {
            let metadata = sandbox.path(name).metadata().unwrap();
            (metadata.ino(), metadata.len(), metadata.mtime(), metadata.mtime_nsec(), metadata.ctime_nsec())
        })
    };
    let (content, before) = (sandbox.content(), stamps());
    for arguments in ["verify data hash", "verify -v data hash", "verify data hash --json"] {
        assert_eq!(sandbox.verity(&format!("{arguments} {root}")).code, Some(2));
    }
    sandbox.verity("dump hash").success();
    assert_eq!((sandbox.content(), stamps()), (content, before));
}

#[test]
fn dump_prints_what_format_printed_but_the_root_hash() {
    let (sandbox, root) = Sandbox::formatted(16);
    assert_eq!(root, ROOT_OF_16);
    let told = sandbox.verity("dump hash").success();
    let formatted = sandbox.verity(&format!("format data hash {FIXED}")).success();
    assert_eq!(told, formatted.replace(&format!("Root hash:      \t{root}\n"), ""));
    sandbox.verity("dump --quiet hash").is(0, "", "");
    sandbox.verity("dump --verbose hash").is(0, &format!("{told}Command successful.\n"), "");
    let mut document = sandbox.verity(&format!("format --json data hash {FIXED}")).json();
    let fields = document.as_object_mut().unwrap();
    fields.remove("root_hash");
    fields.remove("data_device");
    fields["command"] = json!("dump");
    assert_eq!(sandbox.verity("dump --json hash").json(), document);
}

/// Every field of a superblock can lie. Each flipped bit is one clear error or one clear mismatch.
#[test]
fn every_flipped_bit_of_a_superblock_is_noticed() {
    let (sandbox, root) = Sandbox::formatted(2);
    let bytes = sandbox.read("hash");
    let workers = std::thread::available_parallelism().unwrap().get();
    std::thread::scope(|scope| {
        for worker in 0..workers {
            let (bytes, root) = (&bytes, &root);
            scope.spawn(move || {
                let sandbox = Sandbox::with_data(2);
                for bit in (worker..4096).step_by(workers) {
                    let mut flipped = bytes.clone();
                    flipped[bit / 8] ^= 1 << (bit % 8);
                    sandbox.write("hash", &flipped);
                    check_flipped(&sandbox, root, bit);
                    assert_eq!(sandbox.read("hash"), flipped, "bit {bit}");
                }
                assert_eq!(sandbox.read("data"), pattern(2 * 4096));
            });
        }
    });
}

fn check_flipped(sandbox: &Sandbox, root: &str, bit: usize) {
    let verify = sandbox.verity(&format!("verify data hash {root}"));
    let dump = sandbox.verity("dump hash");
    // A UUID vouches for nothing and is vouched for by nothing.
    let uuid = (16 * 8..32 * 8).contains(&bit);
    assert_eq!(verify.code == Some(0), uuid, "bit {bit}: {verify:?}");
    for run in [&verify, &dump] {
        assert!(matches!(run.code, Some(0..=2)), "bit {bit}: {run:?}");
        if run.code != Some(0) {
            assert!(
                run.stderr.starts_with("verity: ") && run.stderr.lines().count() <= 2,
                "bit {bit}: {run:?}"
            );
        }
    }
    // Where verify finds an error in the superblock itself, dump finds the same.
    if dump.code != Some(0) {
        assert_eq!((dump.code, &dump.stderr), (verify.code, &verify.stderr), "bit {bit}");
    }
}
