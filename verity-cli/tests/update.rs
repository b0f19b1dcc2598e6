//! `verity update` and `verity recover`: the tree that a full build makes, and no half-changed one.

mod common;

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::process::Stdio;
use std::time::Duration;

use common::numbers::Numbers;
use common::{FIXED, Run, Sandbox, pattern};
use verity_core::block::BlockSize;
use verity_core::journal::{Journal, JournalError};

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
            let command = format!("update -q data hash {old} --ranges - {result}");
            let run = sandbox.verity_with_input(&command, ranges);
            assert_eq!(run.code, Some(1), "{run:?}");
            let why = format!("has {after} blocks of 4096 bytes, and the old tree covers {before}");
            assert!(run.stderr.contains(&why), "{run:?}");
            assert!(run.stderr.contains("--data-blocks=0"), "{run:?}");
            let told = sandbox.verity_with_input(&format!("{command} --data-blocks 0"), ranges);
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
    sandbox.write("ranges", b"1 2\n");
    sandbox.write("delta", &[1; 4096]);
    sandbox.write("root", old.as_bytes());
    let before = sandbox.content();
    for (arguments, message) in [
        ("--output new", "missing"),
        ("--ranges bad", "missing"),
        ("--ranges bad --output new --in-place", "exclude each other"),
        ("--ranges bad --delta bad --output new", "exclude each other"),
        ("--ranges bad --output new", "line 2"),
        ("--ranges missing --output new", "No such file"),
        ("--ranges . --output new", "is a directory"),
        ("--ranges /dev/zero --output new", "line 1: longer than"),
        ("--ranges ranges --output ranges", "is --ranges"),
        ("--old-data before --output before", "is --old-data"),
        ("--delta delta --output delta", "is --delta"),
        ("--ranges ranges --in-place --journal ranges", "is --ranges"),
        ("--ranges ranges --in-place --journal data", "is the data"),
        ("--ranges ranges --in-place --journal hash", "is the old tree"),
        ("--ranges ranges --output new --hash sha512", "--hash is sha512, but the superblock says sha256"),
        ("--ranges ranges --output new --salt ff", "--salt is ff, but"),
        ("--ranges ranges --output new --data-block-size 512", "--data-block-size is 512, but"),
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
fn the_file_with_the_root_hash_is_not_the_output() {
    let (sandbox, old, _) = changed();
    sandbox.write("root", old.as_bytes());
    let before = sandbox.content();
    let run = sandbox.verity("update data hash --root-hash-file root --old-data before --output root");
    assert_eq!(run.code, Some(1), "{run:?}");
    assert!(run.stderr.contains("is --root-hash-file"), "{run:?}");
    assert_eq!(sandbox.content(), before);
}

#[test]
fn a_hash_file_that_ends_early_is_told_as_verify_tells_it() {
    let (sandbox, old, _) = changed();
    sandbox.write("hash", &sandbox.read("hash")[..8192]);
    for command in ["verify data hash", "update --old-data before --in-place data hash"] {
        let run = sandbox.verity(&format!("{command} {old}"));
        assert_eq!(run.code, Some(1), "{run:?}");
        assert!(run.stderr.contains("hash device \"hash\" is too short: 8192 bytes of"), "{run:?}");
    }
    assert_eq!(sandbox.names(), ["before", "data", "fresh", "hash"]);
}

/// A tree over a part of a device stays one, unless something else is asked for.
#[test]
fn a_tree_over_a_part_is_not_extended_by_itself() {
    let sandbox = Sandbox::with_data(20);
    let old = sandbox.verity(&format!("format -q data hash --data-blocks 10 {FIXED}")).success();
    let old = old.trim();
    sandbox.flip("data", 5, 1);
    let command = format!("update -q data hash {old} --ranges - --output new");
    let run = sandbox.verity_with_input(&command, b"0 10");
    assert_eq!(run.code, Some(1), "{run:?}");
    assert!(run.stderr.contains("--data-blocks=10 to cover what the old tree covers"), "{run:?}");
    for blocks in [10, 20, 7] {
        let fresh = sandbox.verity(&format!("format -q data fresh --data-blocks {blocks} {FIXED}")).success();
        let told = sandbox.verity_with_input(&format!("{command} --data-blocks {blocks}"), b"0 10");
        assert_eq!(told.success(), fresh, "{blocks}");
        assert_eq!(sandbox.read("new"), sandbox.read("fresh"), "{blocks}");
    }
}

/// Without its name a journal would be of no use after a cut, and another file under that name is not ours to delete.
#[test]
fn a_journal_that_was_taken_away_changes_nothing() {
    let (sandbox, old, _) = changed();
    let before = sandbox.content();
    for replacement in [None, Some(b"somebody else's".as_slice())] {
        let command = format!("update data hash {old} --ranges - --in-place");
        let mut child = sandbox
            .verity_command(&command)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let journal = sandbox.path("hash.verity-journal");
        while !journal.exists() {
            assert_eq!(child.try_wait().unwrap(), None);
            std::thread::sleep(Duration::from_millis(5));
        }
        std::fs::remove_file(&journal).unwrap();
        if let Some(bytes) = replacement {
            sandbox.write("hash.verity-journal", bytes);
        }
        child.stdin.take().unwrap().write_all(b"12288 4096\n20479 1\n2457599 1\n").unwrap();
        let run = Run::from(child.wait_with_output().unwrap());
        assert_eq!(run.code, Some(5), "{run:?}");
        assert!(run.stderr.contains("was deleted or replaced meanwhile"), "{run:?}");
        if replacement.is_some() {
            assert_eq!(sandbox.read("hash.verity-journal"), b"somebody else's");
            std::fs::remove_file(&journal).unwrap();
        }
        assert_eq!(sandbox.content(), before);
    }
}

/// A pipe that nobody writes to, and standard input that says nothing, do not keep a signal from being seen.
#[test]
fn a_silent_list_of_ranges_can_be_interrupted() {
    let (sandbox, old, _) = changed();
    nix::unistd::mkfifo(&sandbox.path("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let before = sandbox.content();
    for ranges in ["pipe", "-"] {
        let command = format!("update data hash {old} --ranges {ranges} --in-place");
        let mut child = sandbox.interruptible(&command).stdin(Stdio::piped()).spawn().unwrap();
        // The journal is made shortly before the ranges are read.
        while !sandbox.path("hash.verity-journal").exists() {
            assert_eq!(child.try_wait().unwrap(), None);
            std::thread::sleep(Duration::from_millis(5));
        }
        let id = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
        nix::sys::signal::kill(id, nix::sys::signal::Signal::SIGINT).unwrap();
        let stdin = child.stdin.take();
        let status = child.wait().unwrap();
        drop(stdin);
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(2), "{ranges}: {status}");
        assert_eq!(sandbox.content(), before, "{ranges}");
    }
}

/// The journal that a change of block 1 of `hash` to sevens leaves when it is cut off before it is applied.
fn leave_journal(sandbox: &Sandbox) {
    let device = std::fs::File::open(sandbox.path("hash")).unwrap();
    let log = OpenOptions::new().read(true).write(true).create_new(true).open(sandbox.path(JOURNAL)).unwrap();
    let inode = device.metadata().unwrap().ino();
    let journal = Journal::begin(&device, &log, BlockSize::new(4096).unwrap(), inode).unwrap();
    verity_core::io::WriteAt::write_all_at(&journal, &[7; 4096], 4096).unwrap();
    // It is open for reading alone.
    assert!(matches!(journal.commit(), Err(JournalError::Device(_))));
}

const JOURNAL: &str = "hash.verity-journal";

#[test]
fn a_whole_journal_is_applied() {
    let (sandbox, _) = Sandbox::formatted(200);
    let mut expected = sandbox.read("hash");
    expected[4096..8192].fill(7);
    leave_journal(&sandbox);
    sandbox.verity("recover hash").is(0, "hash: the change is complete now\n", "");
    assert_eq!(sandbox.read("hash"), expected);
    assert_eq!(sandbox.names(), ["data", "hash"]);
}

/// A journal is bound to what the device held: one that was left behind does nothing to a device that is another one by now, though
/// it has the same inode and length.
#[test]
fn a_journal_does_nothing_to_another_tree() {
    for way in ["copied over", "through another name"] {
        let (sandbox, _) = Sandbox::formatted(200);
        leave_journal(&sandbox);
        let other = sandbox.verity("format -q data other --salt 77").success();
        if way == "copied over" {
            // Into the file that there is.
            std::fs::copy(sandbox.path("other"), sandbox.path("hash")).unwrap();
        } else {
            std::fs::remove_file(sandbox.path("other")).unwrap();
            std::fs::hard_link(sandbox.path("hash"), sandbox.path("other")).unwrap();
            sandbox.verity("format -q data other --salt 77").success();
        }
        let before = sandbox.content();
        let run = sandbox.verity("recover hash");
        assert_eq!(run.code, Some(1), "{way}: {run:?}");
        assert!(run.stderr.contains("at byte 4096 it holds neither"), "{way}: {run:?}");
        assert!(run.stderr.contains("delete the journal"), "{way}: {run:?}");
        assert_eq!(sandbox.content(), before, "{way}");
        std::fs::remove_file(sandbox.path(JOURNAL)).unwrap();
        sandbox.verity(&format!("verify data hash {}", other.trim())).is(0, "", "");
    }
}

/// Whoever reads a new file would be refused because of the old one's journal.
#[test]
fn the_journal_of_a_file_that_is_gone_stands_in_the_way() {
    let (sandbox, root) = Sandbox::formatted(200);
    leave_journal(&sandbox);
    std::fs::rename(sandbox.path("hash"), sandbox.path("away")).unwrap();
    let before = sandbox.content();
    for command in ["format data hash", &format!("update data away {root} --old-data away --output hash")] {
        let run = sandbox.verity(command);
        assert_eq!(run.code, Some(5), "{run:?}");
        assert!(run.stderr.contains("that is gone") && run.stderr.contains("delete the journal"), "{run:?}");
        assert_eq!(sandbox.content(), before);
    }
}

/// An image that begins with zeros is no journal that was never committed: it would be deleted.
#[test]
fn what_is_no_journal_is_not_deleted() {
    let (sandbox, _) = Sandbox::formatted(2);
    sandbox.write("image", &[0; 8192]);
    sandbox.write("short", &[0; 8]);
    let before = sandbox.content();
    for other in ["image", "short", "data", "hash"] {
        let run = sandbox.verity(&format!("recover hash --journal {other}"));
        assert_eq!(run.code, Some(1), "{other}: {run:?}");
        assert!(run.stderr.contains("damaged"), "{other}: {run:?}");
        assert_eq!(sandbox.content(), before, "{other}");
    }
}

/// One writer at a time, whichever command it is.
#[test]
fn a_device_that_is_being_changed_is_busy() {
    let (sandbox, root) = Sandbox::formatted(200);
    std::fs::hard_link(sandbox.path("hash"), sandbox.path("name")).unwrap();
    let before = sandbox.content();
    let other = OpenOptions::new().write(true).open(sandbox.path("hash")).unwrap();
    other.lock().unwrap();
    for command in
        ["format data hash".to_owned(), format!("update data hash {root} --old-data copy --in-place")]
    {
        std::fs::copy(sandbox.path("data"), sandbox.path("copy")).unwrap();
        let run = sandbox.verity(&command);
        std::fs::remove_file(sandbox.path("copy")).unwrap();
        assert_eq!(run.code, Some(5), "{command}: {run:?}");
        assert!(run.stderr.contains("is being changed by another process"), "{command}: {run:?}");
        assert_eq!(sandbox.content(), before, "{command}");
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
