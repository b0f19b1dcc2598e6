//! A `format` that does not come to its end.

mod common;

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use common::{FIXED, Run, Sandbox, pattern};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Blocks of holes: more than can be hashed on one thread before a signal arrives.
const MANY: u64 = 64 << 20;

fn sparse(sandbox: &Sandbox, name: &str, blocks: u64) {
    std::fs::File::create(sandbox.path(name)).unwrap().set_len(blocks * 4096).unwrap();
}

/// Starts a run and waits until it has a temporary file, or says that it works.
fn start(sandbox: &Sandbox, arguments: &str, input: Stdio) -> Child {
    let mut child = sandbox
        .interruptible(arguments)
        .arg("--debug")
        .stdin(input)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The lines of --debug are not buffered: the last of them is printed when the target is open.
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("Hashing")), "it ended before it began");
    child
}

fn send(child: &Child, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
}

#[test]
fn a_signal_leaves_nothing_where_nothing_was() {
    let sandbox = Sandbox::new();
    sparse(&sandbox, "data", MANY);
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let child = start(&sandbox, "format data hash --threads 1 --root-hash-file root", Stdio::null());
        assert_eq!(names_but_data(&sandbox).len(), 2, "two temporary files");
        send(&child, signal);
        let run = Run::from(child.wait_with_output().unwrap());
        assert_eq!((run.code, run.signal), (None, Some(signal as i32)), "{run:?}");
        assert_eq!(names_but_data(&sandbox), [""; 0]);
    }
}

/// Somebody else's work in the meantime is not overwritten.
#[test]
fn a_hash_file_that_was_changed_meanwhile_is_kept() {
    for change in ["replaced", "grown", "made"] {
        let sandbox = Sandbox::new();
        if change != "made" {
            sandbox.write("hash", b"old");
        }
        let mut child = sandbox
            .interruptible("format - hash --root-hash-file root")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // That of the root hash file: by then the hash file has been looked at.
        while !sandbox.names().iter().any(|name| name.starts_with(".root")) {
            assert_eq!(child.try_wait().unwrap(), None);
            sleep(Duration::from_millis(5));
        }
        if change == "replaced" {
            sandbox.write("other", b"new");
            std::fs::rename(sandbox.path("other"), sandbox.path("hash")).unwrap();
        } else {
            sandbox.write("hash", b"old and new");
        }
        let before = sandbox.read("hash");
        child.stdin.take().unwrap().write_all(&pattern(4 * 4096)).unwrap();
        let run = Run::from(child.wait_with_output().unwrap());
        assert_eq!(run.code, Some(5), "{change}: {run:?}");
        assert!(run.stderr.contains("was replaced or changed meanwhile"), "{change}: {run:?}");
        assert_eq!(sandbox.read("hash"), before, "{change}");
        assert_eq!(sandbox.names(), ["hash"], "{change}");
    }
}

#[test]
fn a_signal_leaves_an_old_hash_file_as_it_was() {
    let sandbox = Sandbox::new();
    sparse(&sandbox, "data", MANY);
    let old = pattern(8192);
    sandbox.write("hash", &old);
    let child = start(&sandbox, "format data hash --threads 1", Stdio::null());
    send(&child, Signal::SIGTERM);
    assert_eq!(Run::from(child.wait_with_output().unwrap()).signal, Some(15));
    assert_eq!(sandbox.read("hash"), old);
    assert_eq!(names_but_data(&sandbox), ["hash"]);
}

#[test]
fn a_signal_gives_a_shared_file_its_length_back() {
    let sandbox = Sandbox::new();
    sparse(&sandbox, "data", MANY);
    let arguments = format!("format data data --hash-offset {} --threads 1", MANY * 4096);
    let child = start(&sandbox, &arguments, Stdio::null());
    send(&child, Signal::SIGTERM);
    assert_eq!(Run::from(child.wait_with_output().unwrap()).signal, Some(15));
    assert_eq!(sandbox.path("data").metadata().unwrap().len(), MANY * 4096);
}

/// In place the old tree is lost, but nobody takes what is there for a whole one.
#[test]
fn a_half_written_hash_area_has_no_superblock() {
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        let sandbox = Sandbox::with_data(2);
        sparse(&sandbox, "large", MANY);
        sandbox.write("hash", &[0; 3 * 4096]);
        sandbox.verity("format data hash --hash-offset 4096").success();
        sandbox.verity("dump hash --hash-offset 4096").success();
        let child = start(&sandbox, "format large hash --hash-offset 4096 --threads 1", Stdio::null());
        send(&child, signal);
        assert_eq!(Run::from(child.wait_with_output().unwrap()).signal, Some(signal as i32));
        let dump = sandbox.verity("dump hash --hash-offset 4096");
        assert!(dump.stderr.contains("the magic bytes are missing"), "{dump:?}");
        // And it can be made again.
        sandbox.verity("format data hash --hash-offset 4096").success();
        sandbox.verity("dump hash --hash-offset 4096").success();
    }
}

#[test]
fn what_a_killed_run_leaves_the_next_one_removes() {
    let sandbox = Sandbox::with_data(2);
    sparse(&sandbox, "large", MANY);
    let child = start(&sandbox, "format large hash --threads 1", Stdio::null());
    // While it runs its file is nobody else's.
    sandbox.verity("format data hash").success();
    assert_eq!(sandbox.names().len(), 4, "{:?}", sandbox.names());
    std::fs::remove_file(sandbox.path("hash")).unwrap();
    send(&child, Signal::SIGKILL);
    assert_eq!(Run::from(child.wait_with_output().unwrap()).signal, Some(9));
    let left = sandbox.names();
    assert!(left[0].starts_with(".hash.verity-") && left[0].ends_with(".tmp"), "{left:?}");
    assert_eq!(left[1..], ["data", "large"]);
    sandbox.verity("format data hash").success();
    assert_eq!(sandbox.names(), ["data", "hash", "large"]);
}

#[test]
fn a_signal_ends_a_wait_for_a_pipe() {
    let sandbox = Sandbox::new();
    let mut child = sandbox
        .interruptible("format - hash")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut pipe = child.stdin.take().unwrap();
    pipe.write_all(&[7; 4096]).unwrap();
    sleep(Duration::from_millis(300));
    let begin = Instant::now();
    send(&child, Signal::SIGINT);
    let run = Run::from(child.wait_with_output().unwrap());
    assert_eq!(run.signal, Some(2), "{run:?}");
    assert!(begin.elapsed() < Duration::from_secs(2));
    assert_eq!(run.stderr, "verity: interrupted by signal 2\n");
    assert_eq!(sandbox.names(), [""; 0]);
    drop(pipe);
}

#[test]
fn signals_that_are_to_be_ignored_are() {
    let sandbox = Sandbox::new();
    let mut child = sandbox
        .command("sh", "")
        .args(["-c", "trap '' HUP; exec \"$0\" format - hash", env!("CARGO_BIN_EXE_verity")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    sleep(Duration::from_millis(300));
    send(&child, Signal::SIGHUP);
    child.stdin.take().unwrap().write_all(&[7; 4096]).unwrap();
    Run::from(child.wait_with_output().unwrap()).success();
}

#[test]
fn a_file_size_limit_is_an_error_and_leaves_nothing() {
    let sandbox = Sandbox::with_data(300);
    // 8 units of 1024 bytes.
    let script = "ulimit -f 8; exec \"$0\" format data hash --root-hash-file root";
    let mut command = sandbox.command("bash", "");
    Run::of(command.args(["-c", script, env!("CARGO_BIN_EXE_verity")])).is(
        1,
        "",
        "verity: hash device \"hash\" cannot be written: File too large\n\
         hint: the hash area needs 20480 bytes: make room\n",
    );
    assert_eq!(sandbox.names(), ["data"]);
}

#[test]
fn data_that_ends_too_early_is_an_error_and_leaves_nothing() {
    let sandbox = Sandbox::with_data(2);
    let message = "verity: --data-blocks 3: data device \"data\" has 2 blocks of 4096 bytes\n";
    sandbox.verity(&format!("format data hash {FIXED} --data-blocks 3")).is(1, "", message);
    assert_eq!(sandbox.names(), ["data"]);
}

/// A hole is skipped without a look, and is still no hole any more when the file ends before it.
#[test]
fn data_that_shrinks_while_it_is_read_is_an_error_and_leaves_nothing() {
    let sandbox = Sandbox::new();
    sparse(&sandbox, "data", MANY);
    let child = start(&sandbox, "format data hash --threads 1 --root-hash-file root", Stdio::null());
    std::fs::File::options().write(true).open(sandbox.path("data")).unwrap().set_len(7 * 4096).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(!String::from_utf8(output.stdout).unwrap().contains("Root hash"));
    assert_eq!(names_but_data(&sandbox), [""; 0]);
}

fn names_but_data(sandbox: &Sandbox) -> Vec<String> {
    // Not the content: the data are gigabytes of holes.
    let entries = std::fs::read_dir(sandbox.path("")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name != "data").collect()
}
