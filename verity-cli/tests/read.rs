//! `verity cat` and `verity extract`: verified data, and nothing else.

mod common;

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};

use common::{FIXED, Run, Sandbox, pattern};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

const DO_NOT_USE: &str =
    "hint: do not use this image; fetch or build it anew ('verity verify' lists every bad block)\n";

/// What a run of `cat` wrote, with how it ended.
fn cat(sandbox: &Sandbox, arguments: &str) -> (Vec<u8>, Run) {
    let output = sandbox.verity_command(arguments).output().unwrap();
    (output.stdout.clone(), output.into())
}

#[track_caller]
fn writes(sandbox: &Sandbox, arguments: &str, expected: &[u8]) {
    let (bytes, run) = cat(sandbox, arguments);
    assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""), "{arguments}");
    assert!(bytes == expected, "{arguments}: {} bytes of {}", bytes.len(), expected.len());
}

#[test]
fn cat_writes_the_data() {
    let (sandbox, root) = Sandbox::formatted(300);
    let data = pattern(300 * 4096);
    writes(&sandbox, &format!("cat data hash {root}"), &data);
    sandbox.write("root", root.as_bytes());
    writes(&sandbox, "cat data hash --root-hash-file root", &data);
    for (offset, length) in
        [(0, 1), (4095, 2), (4096, 4096), (5000, 600_000), (1_228_799, 1), (7, 0), (1_228_800, 0)]
    {
        let arguments = format!("cat data hash {root} --offset {offset} --length {length}");
        writes(&sandbox, &arguments, &data[offset..offset + length]);
    }
    writes(&sandbox, &format!("cat data hash {root} --offset 1000000"), &data[1_000_000..]);
    writes(&sandbox, &format!("cat data hash {root} --offset 1228800"), &[]);
}

#[test]
fn cat_says_how_it_ended_on_standard_error() {
    let (sandbox, root) = Sandbox::formatted(2);
    let (bytes, run) = cat(&sandbox, &format!("cat -v data hash {root}"));
    assert_eq!((bytes, run.stderr.as_str()), (pattern(8192), "Command successful.\n"));
}

#[test]
fn cat_ends_at_the_damage_and_names_it() {
    let (sandbox, root) = Sandbox::formatted(300);
    sandbox.flip("data", 100 * 4096 + 5, 1);
    let (bytes, run) = cat(&sandbox, &format!("cat data hash {root}"));
    assert!(bytes == pattern(100 * 4096));
    assert_eq!(run.code, Some(2));
    let message = "verity: data block 100 (bytes 409600 to 413695) is corrupted: its digest is ";
    let end = format!("; the data before byte 409600 were written\n{DO_NOT_USE}");
    assert!(run.stderr.starts_with(message) && run.stderr.ends_with(&end), "{}", run.stderr);
    // Behind it all is well, and in it nothing is said of what was written.
    writes(&sandbox, &format!("cat data hash {root} --offset 413696"), &pattern(300 * 4096)[413_696..]);
    let (bytes, run) = cat(&sandbox, &format!("cat data hash {root} --offset 409700 --length 1"));
    assert!(bytes.is_empty() && run.code == Some(2) && !run.stderr.contains("were written"), "{run:?}");
}

#[test]
fn damage_in_the_tree_is_named_with_its_level() {
    let (sandbox, root) = Sandbox::formatted(300);
    sandbox.flip("hash", 3 * 4096 + 40, 1);
    let (bytes, run) = cat(&sandbox, &format!("cat data hash {root}"));
    assert!(bytes == pattern(128 * 4096));
    let message = "verity: hash level 0 block 1 (bytes 12288 to 16383) is corrupted: its digest is ";
    assert!(run.stderr.starts_with(message), "{}", run.stderr);
    let run = sandbox.verity(&format!("extract data hash {root} copy"));
    assert!(run.code == Some(2) && run.stderr.starts_with(message), "{run:?}");
}

#[test]
fn a_wrong_root_hash_is_told_apart_from_damage() {
    let (sandbox, root) = Sandbox::formatted(300);
    let wrong = format!("{}{}", if root.starts_with('0') { '1' } else { '0' }, &root[1..]);
    let message = format!("verity: wrong root hash: {wrong} was given, the tree's is {root}\n");
    let hint = "hint: give the root hash that format printed for this very image; if it is that one, the image was replaced\n";
    for arguments in [format!("cat data hash {wrong}"), format!("extract data hash {wrong} copy")] {
        sandbox.verity(&arguments).is(1, "", &format!("{message}{hint}"));
    }
    sandbox.flip("hash", 4096, 1);
    for arguments in [format!("cat data hash {root}"), format!("extract data hash {root} copy")] {
        let run = sandbox.verity(&arguments);
        assert!(run.stderr.starts_with("verity: hash level 1 block 0 (bytes 4096 to 8191) is corrupted: "));
        assert_eq!(run.code, Some(2));
    }
    assert_eq!(sandbox.names(), ["data", "hash"]);
}

#[test]
fn one_block_without_a_tree() {
    let (sandbox, root) = Sandbox::formatted(1);
    writes(&sandbox, &format!("cat data hash {root}"), &pattern(4096));
    let message = format!("verity: wrong root hash: {} was given, the tree's is {root}\n", "0".repeat(64));
    assert!(sandbox.verity(&format!("cat data hash {}", "0".repeat(64))).stderr.starts_with(&message));
}

#[test]
fn a_superblock_is_not_needed() {
    let sandbox = Sandbox::with_data(16);
    let parameters = "--no-superblock --salt 00112233 --hash sha512 --format 0 --data-block-size 1024 --hash-block-size 512";
    let root = sandbox.verity(&format!("format -q data hash {parameters}")).success();
    writes(&sandbox, &format!("cat data hash {} {parameters}", root.trim()), &pattern(16 * 4096));
    sandbox.verity(&format!("extract data hash {} copy {parameters}", root.trim())).is(0, "", "");
    assert_eq!(sandbox.read("copy"), pattern(16 * 4096));
}

#[test]
fn what_is_not_there_is_refused() {
    let (sandbox, root) = Sandbox::formatted(2);
    let help = "hint: 'verity help cat' lists the arguments and options\n";
    for (arguments, message) in [
        ("--offset 8193", "--offset 8193 lies behind the end: there are 8192 bytes of data\n".to_owned()),
        (
            "--offset 8000 --length 193",
            "--length 193 reaches beyond the end: from byte 8000 on there are 192 bytes of data\n".to_owned(),
        ),
        (
            "--offset -1",
            format!("--offset \"-1\": not a number (decimal digits only, no sign, no unit)\n{help}"),
        ),
    ] {
        let run = sandbox.verity(&format!("cat data hash {root} {arguments}"));
        run.is(1, "", &format!("verity: {message}"));
    }
}

#[test]
fn cat_has_no_document() {
    let (sandbox, root) = Sandbox::formatted(2);
    let run = sandbox.verity(&format!("cat data hash {root} --json"));
    assert_eq!((run.code, &run.json()["error"]["exit_code"]), (Some(1), &json!(1)));
}

/// A reader that has enough is no error, and does not go on being written to.
#[test]
fn cat_ends_when_nobody_reads() {
    let (sandbox, root) = Sandbox::formatted(300);
    let mut child =
        sandbox.verity_command(&format!("cat data hash {root}")).stdout(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn cat_cannot_write() {
    let (sandbox, root) = Sandbox::formatted(2);
    let full = File::options().write(true).open("/dev/full").unwrap();
    let run =
        Run::of(sandbox.verity_command(&format!("cat data hash {root}")).stdout(full).stderr(Stdio::piped()));
    assert_eq!(run.stderr, "verity: standard output cannot be written: No space left on device\n");
    assert_eq!(run.code, Some(1));
}

/// Nothing has to be cleaned up: a signal ends it at once, also while nobody takes what it writes.
#[test]
fn a_signal_ends_cat() {
    let (sandbox, root) = Sandbox::formatted(300);
    let mut child =
        sandbox.interruptible(&format!("cat data hash {root}")).stdout(Stdio::piped()).spawn().unwrap();
    // What it cannot write is there when the pipe is full.
    let mut first = [0; 4096];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut first).unwrap();
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGTERM).unwrap();
    let status = child.wait().unwrap();
    assert_eq!(status.signal(), Some(15), "{status:?}");
    assert!(first == pattern(4096)[..]);
}

#[test]
fn extract_makes_a_new_file() {
    let (sandbox, root) = Sandbox::formatted(700);
    sandbox.write("root", root.as_bytes());
    for (number, arguments) in [
        format!("extract data hash {root} copy0"),
        "extract data hash --root-hash-file root copy1".to_owned(),
        format!("extract --threads 1 data hash {root} copy2"),
    ]
    .iter()
    .enumerate()
    {
        sandbox.verity(arguments).is(0, "", "");
        let copy = format!("copy{number}");
        assert!(sandbox.read(&copy) == pattern(700 * 4096), "{arguments}");
        let mode = sandbox.path(&copy).metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o600);
    }
    assert_eq!(sandbox.names(), ["copy0", "copy1", "copy2", "data", "hash", "root"]);
}

#[test]
fn extract_reports() {
    let sandbox = Sandbox::new();
    let mut data = pattern(300 * 4096);
    data[10 * 4096..200 * 4096].fill(0);
    sandbox.write("data", &data);
    let formatted = sandbox.verity(&format!("format data hash --json {FIXED}")).json();
    let root = formatted["root_hash"].as_str().unwrap();
    let mut document = sandbox.verity(&format!("extract data hash {root} copy --json")).json();
    let fields = document.as_object_mut().unwrap();
    for (field, value) in [
        ("command", json!("extract")),
        ("output", json!("copy")),
        ("bytes", json!(300 * 4096)),
        ("zero_bytes", json!(190 * 4096)),
        ("repaired_blocks", json!(0)),
    ] {
        assert_eq!(fields.remove(field), Some(value), "{field}");
    }
    let mut expected = formatted.clone();
    expected.as_object_mut().unwrap().remove("command");
    for (field, value) in fields {
        assert_eq!(expected.get(field).unwrap_or(&json!(0)), value, "{field}");
    }
    // Zeros are holes, whatever they were before.
    assert!(sandbox.read("copy") == data);
    let blocks = |name: &str| sandbox.path(name).metadata().unwrap().blocks();
    assert!(blocks("copy") * 512 <= 130 * 4096 && blocks("data") * 512 >= 300 * 4096);
}

#[test]
fn damage_is_restored_from_parity() {
    let sandbox = Sandbox::with_data(300);
    let root = sandbox.verity(&format!("format -q data hash --fec-device fec {FIXED}")).success();
    let root = root.trim();
    writes(&sandbox, &format!("cat data hash {root} --fec-device fec"), &pattern(300 * 4096));
    // A data block, and a hash block of the leaf level.
    sandbox.flip("data", 100 * 4096 + 5, 1);
    sandbox.flip("hash", 3 * 4096 + 40, 1);
    let before = sandbox.content();
    let note = "note: 2 blocks were restored from parity; 'verity repair' mends the files\n";
    let (bytes, run) = cat(&sandbox, &format!("cat data hash {root} --fec-device fec"));
    assert_eq!((run.code, run.stderr.as_str()), (Some(0), note));
    assert!(bytes == pattern(300 * 4096));
    assert_eq!(sandbox.content(), before, "nothing is mended");
    sandbox.verity(&format!("extract data hash {root} copy --fec-device fec")).is(0, "", note);
    assert!(sandbox.read("copy") == pattern(300 * 4096));
    let document =
        sandbox.verity(&format!("extract -q data hash {root} copy2 --fec-device fec --json")).json();
    assert_eq!(document["repaired_blocks"], 2);
    // Too much is too much: three blocks of one codeword, where two can be restored.
    for block in [101, 103, 105] {
        sandbox.flip("data", block * 4096 + 5, 1);
    }
    let (bytes, run) = cat(&sandbox, &format!("cat data hash {root} --fec-device fec"));
    assert!(bytes == pattern(101 * 4096) && run.code == Some(2), "{} bytes", bytes.len());
    assert!(run.stderr.contains("; the parity cannot restore it"), "{run:?}");
}

#[test]
fn extract_keeps_large_holes() {
    let sandbox = Sandbox::new();
    let length = 1_u64 << 33;
    File::create(sandbox.path("data")).unwrap().set_len(length).unwrap();
    let root = sandbox.verity("format -q data hash").success();
    sandbox.verity(&format!("extract data hash {} copy", root.trim())).is(0, "", "");
    let copy = sandbox.path("copy").metadata().unwrap();
    assert_eq!((copy.len(), copy.blocks()), (length, 0));
}

#[test]
fn extract_leaves_nothing_behind_where_it_fails() {
    let (sandbox, root) = Sandbox::formatted(300);
    sandbox.flip("data", 299 * 4096, 1);
    let before = sandbox.content();
    let run = sandbox.verity(&format!("extract data hash {root} copy"));
    let message = "verity: data block 299 (bytes 1224704 to 1228799) is corrupted: its digest is ";
    assert!(run.stderr.starts_with(message) && run.stderr.ends_with(DO_NOT_USE), "{run:?}");
    assert_eq!((run.code, run.stdout.as_str()), (Some(2), ""));
    let run = sandbox.verity(&format!("extract data hash {root} copy --json"));
    assert_eq!((&run.json()["error"]["kind"], run.code), (&json!("refused"), Some(2)));
    assert_eq!(sandbox.content(), before);
}

#[test]
fn extract_overwrites_nothing() {
    let (sandbox, root) = Sandbox::formatted(2);
    sandbox.write("file", b"old");
    std::fs::create_dir(sandbox.path("folder")).unwrap();
    std::os::unix::fs::symlink("nowhere", sandbox.path("link")).unwrap();
    let before = sandbox.content();
    for output in ["file", "folder", "link", "data", "hash"] {
        sandbox.verity(&format!("extract data hash {root} {output}")).is(
            5,
            "",
            &format!(
                "verity: output \"{output}\" exists already\nhint: give a name that nothing has yet, or remove it first\n"
            ),
        );
    }
    sandbox.verity(&format!("extract data hash {root} none/copy")).is(
        1,
        "",
        "verity: output \"none/copy\" cannot be created: No such file or directory\n\
         hint: give a path in a folder that can be written to\n",
    );
    assert_eq!(sandbox.content(), before);
}

#[test]
fn extract_needs_a_root_hash_and_an_output() {
    let (sandbox, root) = Sandbox::formatted(2);
    sandbox.write("root", root.as_bytes());
    let missing = "verity: extract: <OUTPUT> missing\n\
                   hint: give the file that is to be made as the last argument, behind the root hash\n";
    for arguments in ["extract data hash", "extract data hash out", "extract data hash --root-hash-file root"]
    {
        sandbox.verity(arguments).is(1, "", missing);
    }
    let run = sandbox.verity(&format!("extract data hash {root} copy --root-hash-file root"));
    assert!(run.stderr.starts_with("verity: the root hash is given twice"), "{run:?}");
    assert_eq!(sandbox.names(), ["data", "hash", "root"]);
}

#[test]
fn a_file_size_limit_is_an_error_and_leaves_nothing() {
    let (sandbox, root) = Sandbox::formatted(300);
    let script = "ulimit -f 8; exec \"$0\" extract data hash \"$1\" copy";
    let mut command: Command = sandbox.command("bash", "");
    Run::of(command.args(["-c", script, env!("CARGO_BIN_EXE_verity"), &root])).is(
        1,
        "",
        "verity: output \"copy\" cannot be written: File too large\n\
         hint: it needs up to 1228800 bytes: make room\n",
    );
    assert_eq!(sandbox.names(), ["data", "hash"]);
}

/// Of a signal there is nothing left; of a kill one file, which the next run removes.
#[test]
fn an_interrupted_extract_leaves_nothing() {
    let sandbox = Sandbox::new();
    File::create(sandbox.path("data")).unwrap().set_len(1 << 33).unwrap();
    let root = sandbox.verity("format -q data hash").success();
    let arguments = format!("extract data hash {} copy --threads 1 --debug", root.trim());
    // True if it was in time.
    let interrupt = |signal: Signal| {
        let mut child =
            sandbox.interruptible(&arguments).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().contains("Copying")), "it ended before it began");
        kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
        let status = child.wait().unwrap();
        assert!(status.success() || status.signal() == Some(signal as i32), "{status:?}");
        if status.success() {
            std::fs::remove_file(sandbox.path("copy")).unwrap();
        }
        !status.success()
    };
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        assert!((0..50).any(|_| interrupt(signal)), "it was never in time");
        assert_eq!(sandbox.names(), ["data", "hash"]);
    }
    assert!((0..50).any(|_| interrupt(Signal::SIGKILL)), "it was never in time");
    let left = sandbox.names();
    assert!(left.len() == 3 && left[0].starts_with(".copy.verity-"), "{left:?}");
    sandbox.verity(&arguments.replace("--debug", "")).is(0, "", "");
    assert_eq!(sandbox.names(), ["copy", "data", "hash"]);
}
