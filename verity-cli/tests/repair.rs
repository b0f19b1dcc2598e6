//! `verity repair`: to new files, in place, in part, and cut off.

mod common;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Stdio;
use std::time::Duration;

use common::numbers::Numbers;
use common::{FIXED, Run, Sandbox};
use serde_json::json;

/// `data`, `hash` and `fec`, and the root hash.
fn coded(blocks: usize, roots: u32) -> (Sandbox, String) {
    let sandbox = Sandbox::with_data(blocks);
    let format = format!("format --quiet data hash {FIXED} --fec-device fec --fec-roots {roots}");
    let root = sandbox.verity(&format).success().trim().to_owned();
    (sandbox, root)
}

/// Replaces whole blocks.
fn damage(sandbox: &Sandbox, name: &str, blocks: &[usize]) {
    for &block in blocks {
        sandbox.garble(name, block * 4096, 4096);
    }
}

#[test]
fn new_files_hold_the_repaired_image_and_the_old_ones_stay() {
    let (sandbox, root) = coded(700, 4);
    let (data, hash) = (sandbox.read("data"), sandbox.read("hash"));
    damage(&sandbox, "data", &[3, 400]);
    damage(&sandbox, "hash", &[1, 5]);
    let before = sandbox.content();
    let repair = format!("repair data hash {root} --fec-device fec --fec-roots 4");
    let told = sandbox.verity(&format!("{repair} --output-data new --output-hash tree")).success();
    assert_eq!(
        told,
        "hash level 1 block 0 (bytes 4096 to 8191): restored\n\
         hash level 0 block 3 (bytes 20480 to 24575): restored\n\
         data block 3 (bytes 12288 to 16383): restored\n\
         data block 400 (bytes 1638400 to 1642495): restored\n"
    );
    assert!(sandbox.read("new") == data && sandbox.read("tree") == hash);
    assert_eq!(sandbox.path("tree").metadata().unwrap().mode() & 0o777, 0o600);
    let after = sandbox.content();
    assert!(before.iter().all(|(name, content)| after[name] == *content), "an input was written to");
    // What exists is not overwritten.
    let run = sandbox.verity(&format!("{repair} --output-data new --output-hash other"));
    assert!(run.code == Some(5) && run.stderr.contains("\"new\" exists already"), "{run:?}");
    let run = sandbox.verity(&format!("{repair} --output-data other"));
    assert!(run.code == Some(1) && run.stderr.contains("--output-hash is missing"), "{run:?}");
    let run = sandbox.verity(&format!("{repair} --output-data other --output-hash other"));
    assert!(run.code == Some(1) && run.stderr.contains("are the same file"), "{run:?}");
    let run = sandbox.verity(&repair);
    assert!(run.code == Some(1) && run.stderr.contains("--output-data"), "{run:?}");
    assert_eq!(sandbox.content(), after);
}

#[test]
fn in_place_only_bad_blocks_are_written_and_no_journal_is_left() {
    let (sandbox, root) = coded(700, 4);
    let right = sandbox.content();
    damage(&sandbox, "data", &[0, 699]);
    damage(&sandbox, "hash", &[2]);
    let inode = |name| sandbox.path(name).metadata().unwrap().ino();
    let inodes = (inode("data"), inode("hash"));
    let repair = format!("repair data hash {root} --fec-device fec --fec-roots 4 --in-place");
    let document = sandbox.verity(&format!("{repair} --json")).json();
    assert_eq!(document["complete"], true);
    assert_eq!(
        (&document["restored_data_blocks"], &document["restored_hash_blocks"]),
        (&json!(2), &json!(1))
    );
    assert_eq!(
        document["restored"][0],
        json!({"area": "hash", "level": 0, "block": 0, "first_byte": 8192, "end_byte": 12288})
    );
    assert_eq!(document["remaining"]["findings"], json!([]));
    assert_eq!(sandbox.content(), right);
    assert_eq!((inode("data"), inode("hash")), inodes);
    // Nothing to do is no error, and nothing is touched.
    let changed = |name| sandbox.path(name).metadata().unwrap().mtime_nsec();
    let times = (changed("data"), changed("hash"));
    sandbox.verity(&repair).is(0, "intact: nothing to repair\n", "");
    assert_eq!((changed("data"), changed("hash")), times);
    assert_eq!(sandbox.content(), right);
}

#[test]
fn what_cannot_be_completed_is_told_and_written_only_on_request() {
    let (sandbox, root) = coded(520, 2);
    // Three rounds: 0, 3 and 6 share codewords, 1 is in others.
    damage(&sandbox, "data", &[0, 1, 3, 6]);
    let before = sandbox.content();
    let repair = format!("repair data hash {root} --fec-device fec");
    for way in ["--in-place", "--output-data new --output-hash tree"] {
        let run = sandbox.verity(&format!("{repair} {way}"));
        assert_eq!(run.code, Some(2));
        assert!(
            run.stdout.starts_with("data block 1 (bytes 4096 to 8191): can be restored\ndata block 0 "),
            "{}",
            run.stdout
        );
        assert_eq!(run.stdout.lines().count(), 4);
        assert_eq!(
            run.stderr,
            "verity: beyond repair: 1 data block and 0 hash blocks can be restored, 3 data blocks and 0 hash blocks remain bad; \
             nothing was written\nhint: fetch or build the image anew; --partial restores what can be\n"
        );
        assert_eq!(sandbox.content(), before);
    }
    let run = sandbox.verity(&format!("{repair} --partial --output-data new --output-hash tree --json"));
    assert_eq!(run.code, Some(2));
    assert_eq!((&run.json()["complete"], &run.json()["kept"]), (&json!(false), &json!(true)));
    let run = sandbox.verity(&format!("{repair} --in-place --partial"));
    assert_eq!(run.code, Some(2));
    assert!(
        run.stderr
            .starts_with("verity: repaired in part: 1 data block and 0 hash blocks were restored, 3 data"),
        "{run:?}"
    );
    assert!(sandbox.read("data") == sandbox.read("new"));
    let findings = sandbox.verity(&format!("verify data hash {root} --json")).json()["findings"].clone();
    let bad: Vec<_> =
        findings.as_array().unwrap().iter().map(|it| it["first_block"].as_u64().unwrap()).collect();
    assert_eq!(bad, [0, 3, 6]);
}

/// A truncated file gets its end back.
#[test]
fn the_missing_end_of_a_file_is_restored() {
    let (sandbox, root) = coded(700, 24);
    let right = sandbox.content();
    let data = fs::OpenOptions::new().write(true).open(sandbox.path("data")).unwrap();
    data.set_len(700 * 4096 - 4096 * 20 - 5).unwrap();
    let hash = fs::OpenOptions::new().write(true).open(sandbox.path("hash")).unwrap();
    hash.set_len(4096 * 5).unwrap();
    let repair = format!("repair -q data hash {root} --fec-device fec --fec-roots 24");
    sandbox.verity(&format!("{repair} --output-data new --output-hash tree")).is(0, "", "");
    assert!(sandbox.read("new") == right["data"] && sandbox.read("tree") == right["hash"]);
    fs::remove_file(sandbox.path("new")).unwrap();
    fs::remove_file(sandbox.path("tree")).unwrap();
    sandbox.verity(&format!("{repair} --in-place")).is(0, "", "");
    assert_eq!(sandbox.content(), right);
}

/// Another image's parity, tree and data, with one error that its parity can repair: the genuine root hash is what counts.
#[test]
fn a_forged_set_is_not_repaired_into_acceptance() {
    let (sandbox, root) = coded(100, 4);
    sandbox.flip("data", 300_000, 1);
    sandbox.verity(&format!("format -q data hash {FIXED} --fec-device fec --fec-roots 4")).success();
    sandbox.flip("data", 5000, 1);
    let before = sandbox.content();
    let options = format!("data hash {root} --fec-device fec --fec-roots 4");
    for command in [
        "verify",
        "repair --in-place",
        "repair --in-place --partial",
        "repair --output-data a --output-hash b",
    ] {
        let run = sandbox.verity(&format!("{command} {options}"));
        assert_eq!(run.code, Some(2), "{run:?}");
        assert!(
            run.stderr.contains("beyond repair")
                || run.stderr.contains("0 data blocks and 0 hash blocks were")
        );
        assert_eq!(sandbox.content(), before);
    }
    // Without the error it is simply another image.
    sandbox.flip("data", 5000, 1);
    for command in ["verify", "repair --in-place"] {
        let run = sandbox.verity(&format!("{command} {options}"));
        assert!(run.code == Some(1) && run.stderr.contains("wrong root hash"), "{run:?}");
    }
}

/// Killed at many moments: what the next run finds is the damaged image, the repaired one, or a journal that leads to the latter.
#[test]
fn a_repair_in_place_that_is_killed_is_completed_by_the_next_one() {
    let (sandbox, root) = coded(3000, 24);
    let right = sandbox.content();
    let mut numbers = Numbers::new(9);
    let repair = format!("repair -q data hash {root} --fec-device fec --fec-roots 24 --in-place");
    let mut journals = 0;
    for round in 0..40 {
        let blocks: Vec<usize> = (0..30).map(|_| usize::try_from(numbers.below(3000)).unwrap()).collect();
        damage(&sandbox, "data", &blocks);
        damage(&sandbox, "hash", &[1 + round % 24]);
        let mut child =
            sandbox.verity_command(&repair).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        // About as long as the whole takes, in steps.
        std::thread::sleep(Duration::from_micros(1500 * u64::try_from(round).unwrap()));
        child.kill().unwrap();
        child.wait().unwrap();
        let left = sandbox.names().iter().filter(|name| name.ends_with(".verity-journal")).count();
        journals += left;
        if left > 0 {
            // Nobody takes it for whole meanwhile.
            let run = sandbox.verity(&format!("verify data hash {root}"));
            assert!(run.code == Some(5) && run.stderr.contains("was cut off"), "{run:?}");
        }
        if round % 2 == 0 {
            for name in ["data", "hash"] {
                sandbox.verity(&format!("recover -q {name}")).success();
            }
        }
        let run = sandbox.verity(&repair);
        assert_eq!(run.code, Some(0), "round {round}: {run:?}");
        assert_eq!(sandbox.content().keys().collect::<Vec<_>>(), ["data", "fec", "hash"]);
        assert!(sandbox.content() == right, "round {round}");
    }
    eprintln!("{journals} journals were left behind in 40 rounds");
}

/// The journal as a power cut can leave it: with a header that never became durable, or half of its entries.
#[test]
fn a_half_written_journal_is_dropped_by_the_next_repair() {
    let (sandbox, root) = coded(100, 4);
    let right = sandbox.content();
    damage(&sandbox, "data", &[7]);
    let repair = format!("repair -q data hash {root} --fec-device fec --fec-roots 4 --in-place");
    // The mark of one that was begun, alone and with entries behind it.
    let mut begun = b"verity-journal".to_vec();
    begun.resize(120, 0);
    let with_entries = [begun.as_slice(), &[0; 9000]].concat();
    for journal in [Vec::new(), begun, with_entries] {
        sandbox.write("data.verity-journal", &journal);
        let run = sandbox.verity(&repair);
        assert_eq!(run.code, Some(0), "{run:?}");
        assert_eq!(sandbox.content(), right);
        damage(&sandbox, "data", &[7]);
    }
    // What is no journal is not dropped: it may be somebody's.
    for other in [7, 0] {
        sandbox.write("data.verity-journal", &[other; 9000]);
        let run = sandbox.verity(&repair);
        assert!(
            run.code == Some(1) && run.stderr.contains("data device \"data\": journal is damaged"),
            "{run:?}"
        );
    }
}

#[test]
fn an_interrupted_copy_leaves_nothing() {
    let (sandbox, root) = coded(3000, 2);
    damage(&sandbox, "data", &[5]);
    let before = sandbox.content();
    for delay in [0, 2, 5, 10, 20] {
        let child = sandbox
            .interruptible(&format!(
                "repair data hash {root} --fec-device fec --output-data new --output-hash tree"
            ))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(delay));
        let _ = nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap()),
            nix::sys::signal::Signal::SIGTERM,
        );
        let run = Run::from(child.wait_with_output().unwrap());
        if run.code == Some(0) {
            for name in ["new", "tree"] {
                fs::remove_file(sandbox.path(name)).unwrap();
            }
        }
        assert_eq!(sandbox.content(), before, "{run:?}");
    }
}

/// Without a superblock everything comes from the command line.
#[test]
fn the_options_that_the_tree_needs_are_the_same_as_for_verify() {
    let sandbox = Sandbox::with_data(60);
    let tree = "--no-superblock --salt 00ff --hash sha512 --hash-offset 8192 --data-block-size 1024 --hash-block-size 1024";
    let fec = "--fec-device fec --fec-offset 2048 --fec-roots 7";
    let root = sandbox.verity(&format!("format -q data hash {tree} {fec}")).success().trim().to_owned();
    let right = sandbox.content();
    sandbox.flip("data", 60_000, 7);
    sandbox.flip("hash", 8192 + 3, 7);
    let run = sandbox.verity(&format!("repair -q data hash {root} {tree} {fec} --in-place"));
    run.is(0, "", "");
    assert_eq!(sandbox.content(), right);
    sandbox.verity(&format!("verify data hash {root} {tree} {fec}")).is(0, "", "");
}
