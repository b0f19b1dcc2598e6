//! `verity update` and `verity recover`: the tree that a full build makes, and no half-changed one.

mod common;

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::process::Stdio;
use std::time::Duration;

use common::numbers::Numbers;
use common::{FIXED, Run, Sandbox, pattern};

/// A formatted image of 600 blocks that was then changed in blocks 3, 4 and 599. `fresh` and the second root hash are what
/// `format` makes of it now.
fn changed() -> (Sandbox, String, String) {
    let (sandbox, old) = Sandbox::formatted(600);
    sandbox.write("before", &sandbox.read("data"));
    for at in [3 * 4096, 5 * 4096 - 1, 600 * 4096 - 1] {
        sandbox.flip("data", at, 0x10);
    }
    let new = sandbox.verity(&format!("format -q data fresh {FIXED}")).success().trim().to_owned();
    (sandbox, old, new)
}

#[test]
fn each_way_to_tell_what_changed_makes_the_tree_that_format_makes() {
    let (sandbox, old, new) = changed();
    sandbox.write("ranges", b"# two neighbours and the last one\n12288 4096\n20479 1\n2457599 1\n");
    let delta = OpenOptions::new().create_new(true).write(true).open(sandbox.path("delta")).unwrap();
    delta.set_len(600 * 4096).unwrap();
    for block in [3, 4, 599] {
        delta.write_all_at(&[1; 4096], block * 4096).unwrap();
    }
    for ways in ["--ranges ranges", "--old-data before", "--delta delta"] {
        let told = sandbox.verity(&format!("update -q data hash {old} {ways} --output new")).success();
        assert_eq!(told.trim(), new, "{ways}");
        assert_eq!(sandbox.read("new"), sandbox.read("fresh"), "{ways}");
        std::fs::remove_file(sandbox.path("new")).unwrap();
    }
    let run = sandbox.verity_with_input(
        &format!("update -q data hash {old} --ranges - --output new"),
        &sandbox.read("ranges"),
    );
    assert_eq!(run.success().trim(), new);
}

#[test]
fn in_place_changes_the_tree_and_leaves_no_journal() {
    let (sandbox, old, new) = changed();
    let told = sandbox.verity(&format!("update -q data hash {old} --old-data before --in-place")).success();
    assert_eq!(told.trim(), new);
    assert_eq!(sandbox.read("hash"), sandbox.read("fresh"));
    assert_eq!(sandbox.names(), ["before", "data", "fresh", "hash"]);
    sandbox.verity(&format!("verify data hash {new}")).is(0, "", "");
}

#[test]
fn grown_and_shrunk_images() {
    for (before, after) in [(100, 200), (128, 129), (129, 128), (300, 1), (1, 300), (16_384, 16_385)] {
        let (sandbox, old) = Sandbox::formatted(before);
        let mut data = pattern(after * 4096);
        data[0] ^= 1;
        sandbox.write("data", &data);
        let new = sandbox.verity(&format!("format -q data fresh {FIXED}")).success();
        let ranges = b"0 1";
        for result in ["--output new", "--in-place"] {
            let told =
                sandbox.verity_with_input(&format!("update -q data hash {old} --ranges - {result}"), ranges);
            assert_eq!(told.success(), new, "{before} -> {after} {result}");
        }
        let fresh = sandbox.read("fresh");
        assert_eq!(sandbox.read("new"), fresh, "{before} -> {after}");
        assert_eq!(sandbox.read("hash")[..fresh.len()], fresh, "{before} -> {after}");
    }
}

#[test]
fn a_tree_that_does_not_match_its_root_hash_is_not_taken_over() {
    let (sandbox, old, _) = changed();
    sandbox.flip("hash", 3 * 4096 + 5, 1);
    let before = sandbox.content();
    for result in ["--output new", "--in-place"] {
        let run = sandbox.verity(&format!("update data hash {old} --old-data before {result}"));
        assert_eq!(run.code, Some(2), "{run:?}");
        assert!(run.stderr.contains("does not match the old root hash: hash level 0 block 1"), "{run:?}");
        assert_eq!(sandbox.content(), before);
    }
}

#[test]
fn bad_arguments_are_told_apart() {
    let (sandbox, old, _) = changed();
    sandbox.write("bad", b"1 2\n3 x\n");
    let before = sandbox.content();
    for (arguments, message) in [
        ("--output new", "missing"),
        ("--ranges bad", "missing"),
        ("--ranges bad --output new --in-place", "exclude each other"),
        ("--ranges bad --delta bad --output new", "exclude each other"),
        ("--ranges bad --output new", "line 2"),
        ("--ranges missing --output new", "No such file"),
        ("--old-data data --output new", "is the data itself"),
        ("--old-data before --output hash", "is the old tree itself"),
        ("--old-data before --output data", "overlap"),
        ("--old-data hash --output new", "ends before"),
    ] {
        let run = sandbox.verity(&format!("update data hash {old} {arguments}"));
        assert!(run.code == Some(1) || run.code == Some(4), "{arguments}: {run:?}");
        assert!(run.stderr.contains(message), "{arguments}: {run:?}");
        assert_eq!(sandbox.content(), before, "{arguments}");
    }
}

#[test]
fn without_a_journal_there_is_nothing_to_recover() {
    let (sandbox, _) = Sandbox::formatted(2);
    sandbox.verity("recover hash").is(0, "hash: no journal, nothing to do\n", "");
    let run = sandbox.verity("recover missing");
    assert_eq!(run.code, Some(4), "{run:?}");
}

#[test]
fn a_journal_stands_in_the_way_until_it_is_recovered() {
    let (sandbox, root) = Sandbox::formatted(2);
    sandbox.write("hash.verity-journal", b"");
    let before = sandbox.content();
    for command in [
        format!("verify data hash {root}"),
        "dump hash".to_owned(),
        "format data hash".to_owned(),
        format!("update data hash {root} --old-data data --in-place"),
    ] {
        let run = sandbox.verity(&command);
        assert_eq!(run.code, Some(5), "{command}: {run:?}");
        assert!(run.stderr.contains("verity recover"), "{command}: {run:?}");
        assert_eq!(sandbox.content(), before, "{command}");
    }
    sandbox.verity("recover hash").is(0, "hash: the change had not begun, and is dropped\n", "");
    sandbox.verity(&format!("verify data hash {root}")).is(0, "", "");
}

#[test]
fn a_damaged_journal_and_one_of_another_file_are_refused() {
    let (sandbox, _) = Sandbox::formatted(2);
    sandbox.write("hash.verity-journal", &[7; 2000]);
    let run = sandbox.verity("recover hash");
    assert_eq!(run.code, Some(1));
    assert!(run.stderr.contains("damaged"), "{run:?}");
    assert_eq!(sandbox.names(), ["data", "hash", "hash.verity-journal"]);
}

/// What a journal says is written to the device, so it has to be one that was left here, not one that a link leads to.
#[test]
fn a_journal_that_is_no_file_is_refused() {
    let (sandbox, _) = Sandbox::formatted(2);
    let journal = sandbox.path("hash.verity-journal");
    let before = sandbox.content();
    for target in ["data", "missing"] {
        std::os::unix::fs::symlink(target, &journal).unwrap();
        let run = sandbox.verity("recover hash");
        assert_eq!(run.code, Some(2), "{run:?}");
        assert!(run.stderr.contains("is a symbolic link"), "{run:?}");
        assert_eq!(sandbox.verity("dump hash").code, Some(5));
        std::fs::remove_file(&journal).unwrap();
    }
    nix::unistd::mkfifo(&journal, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let run = sandbox.verity("recover hash");
    assert_eq!(run.code, Some(2), "{run:?}");
    assert!(run.stderr.contains("is no regular file"), "{run:?}");
    std::fs::remove_file(&journal).unwrap();
    assert_eq!(sandbox.content(), before);
}

/// Killed at any moment, the next run ends with the old tree or with the new one.
#[test]
fn killed_in_the_middle_it_is_finished_or_undone() {
    let (sandbox, old, new) = changed();
    let genuine = sandbox.read("hash");
    let fresh = sandbox.read("fresh");
    let mut numbers = Numbers::new(7);
    let mut outcomes = std::collections::BTreeMap::<String, usize>::new();
    for round in 0..60 {
        sandbox.write("hash", &genuine);
        let command = format!("update -q data hash {old} --old-data before --in-place");
        let mut child = sandbox.verity_command(&command).stdout(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_micros(numbers.below(12_000)));
        child.kill().unwrap();
        child.wait().unwrap();
        let run = sandbox.verity("recover hash");
        assert_eq!(run.code, Some(0), "round {round}: {run:?}");
        let found = sandbox.read("hash");
        assert!(found == genuine || found == fresh, "round {round}: neither tree ({run:?})");
        let root = if found == fresh { &new } else { &old };
        *outcomes.entry(run.stdout).or_default() += 1;
        let image = if found == fresh { "data" } else { "before" };
        let verified: Run = sandbox.verity(&format!("verify {image} hash {root}"));
        verified.is(0, "", "");
        assert_eq!(sandbox.names(), ["before", "data", "fresh", "hash"], "round {round}");
    }
    eprintln!("60 killed updates: {outcomes:?}");
}
