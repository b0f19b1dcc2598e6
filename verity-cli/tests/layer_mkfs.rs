//! `verity layer build --mkfs`: images that another program makes are taken if they say what the layer says, and only then.

mod common;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Stdio;
use std::thread::sleep;
use std::time::{Duration, Instant};

use common::{Run, Sandbox, pattern};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

tests! {
    a_compressed_image_is_taken: [ErofsUtils];
    an_image_that_says_the_same_is_taken: [];
    what_differs_is_refused_and_named: [];
    programs_that_fail_are_told: [];
    a_program_ends_with_the_command: [];
}

/// With `layer.tar`, of the folder `tree`.
fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new();
    let at = |name: &str| sandbox.path("tree").join(name);
    fs::create_dir_all(at("usr/bin")).unwrap();
    fs::create_dir(at("etc")).unwrap();
    fs::write(at("usr/bin/program"), "compresses well ".repeat(20_000)).unwrap();
    fs::write(at("usr/bin/noise"), pattern(100_000)).unwrap();
    fs::set_permissions(at("usr/bin/program"), PermissionsExt::from_mode(0o755)).unwrap();
    fs::hard_link(at("usr/bin/program"), at("usr/bin/second")).unwrap();
    fs::write(at("etc/name"), "NAME=layer\n").unwrap();
    fs::write(at("etc/zeros"), vec![0; 200_000]).unwrap();
    symlink("../usr/bin/program", at("etc/link")).unwrap();
    let times = sandbox.command("find", "tree -exec touch -h -d @1700000000 {} +").status().unwrap();
    assert!(times.success());
    fs::set_permissions(sandbox.path("tree"), PermissionsExt::from_mode(0o755)).unwrap();
    fs::set_permissions(at("etc/name"), PermissionsExt::from_mode(0o644)).unwrap();
    let tar = sandbox.command("tar", "--format=posix --sort=name -C tree -cf layer.tar .").status().unwrap();
    assert!(tar.success());
    sandbox
}

/// Makes a program of a script. Its last argument is the image that it is to make, `$uuid` the UUID.
fn program(sandbox: &Sandbox, name: &str, script: &str) {
    let head = "#!/bin/sh\nset -e\nfor image; do :; done\nuuid=\nwhile [ $# -gt 1 ]; do\n  [ \"$1\" != -U ] || uuid=$2\n  \
                shift\ndone\n";
    sandbox.write(name, format!("{head}{script}\n").as_bytes());
    fs::set_permissions(sandbox.path(name), PermissionsExt::from_mode(0o755)).unwrap();
}

/// An image of the tar on standard input, made by the program under test, with something done to the files before.
fn own(change: &str) -> String {
    let verity = env!("CARGO_BIN_EXE_verity");
    format!(
        "d=$(mktemp -d)\ntrap 'rm -rf \"$d\"' EXIT\nmkdir \"$d/t\"\ntar -C \"$d/t\" -xpf -\ncd \"$d/t\"\n{change}\ncd /\n\
         tar --format=posix -C \"$d/t\" -cf \"$d/tar\" .\n\
         size=$({verity} layer build \"$d/tar\" \"$d/l\" --json | sed -n 's/.*\"image_bytes\": \\([0-9]*\\),/\\1/p')\n\
         head -c \"$size\" \"$d/l\" > \"$image\""
    )
}

fn build(sandbox: &Sandbox, name: &str, options: &str) -> Run {
    let program = sandbox.path(name);
    let arguments = format!("layer build layer.tar out {options}");
    Run::of(sandbox.verity_command(&arguments).arg("--mkfs").arg(format!("{} --option", program.display())))
}

fn a_compressed_image_is_taken() {
    let sandbox = sandbox();
    let script = "d=$(mktemp -d)\ntrap 'rm -rf \"$d\"' EXIT\ntar -C \"$d\" -xpf -\nmkfs.erofs -zlz4hc -U \"$uuid\" \"$image\" \"$d\"";
    program(&sandbox, "mkfs", script);
    let plain = sandbox.verity("layer build layer.tar plain --json").json();
    for fec in ["", "--fec-roots 2"] {
        let run = build(&sandbox, "mkfs", &format!("--json {fec}"));
        assert_eq!(run.code, Some(0), "{run:?}");
        let made = run.json();
        // The same layer: only the image is another one.
        for field in ["diff_id", "uuid", "salt", "entries", "inodes", "data_block_size"] {
            assert_eq!(made[field], plain[field], "{field}");
        }
        let bytes = |document: &serde_json::Value| document["image_bytes"].as_u64().unwrap();
        assert!(bytes(&made) < bytes(&plain), "{} and {}", made["image_bytes"], plain["image_bytes"]);
        assert_eq!(made["hash_offset"], made["image_bytes"]);
        assert_eq!(made["fec"].is_null(), fec.is_empty());
        let root = made["root_hash"].as_str().unwrap();
        sandbox.verity(&format!("layer verify out {root}")).success();
        let image = sandbox.read("out");
        sandbox.write("image", &image[..usize::try_from(bytes(&made)).unwrap()]);
        let fsck = Run::of(&mut sandbox.command("fsck.erofs", "image"));
        assert_eq!(fsck.code, Some(0), "{fsck:?}");
        fs::remove_file(sandbox.path("out")).unwrap();
    }
}

fn an_image_that_says_the_same_is_taken() {
    let sandbox = sandbox();
    program(&sandbox, "mkfs", &own(":"));
    let names = sandbox.names();
    let run = build(&sandbox, "mkfs", "--json");
    assert_eq!(run.code, Some(0), "{run:?}");
    let made = run.json();
    sandbox.verity(&format!("layer verify out {}", made["root_hash"].as_str().unwrap())).success();
    assert_eq!(sandbox.names().len(), names.len() + 1);
    // What is wrong with the layer is told before any program is run.
    sandbox.write("layer.tar", &pattern(10_000));
    fs::remove_file(sandbox.path("out")).unwrap();
    let run = build(&sandbox, "mkfs", "");
    assert!(run.code == Some(1) && run.stderr.contains("layer \"layer.tar\": "), "{run:?}");
    assert_eq!(sandbox.names(), names);
}

fn what_differs_is_refused_and_named() {
    let sandbox = sandbox();
    for (change, said) in [
        ("chmod 700 etc/name", "\"etc/name\": its mode is 100700, and 100644 was expected"),
        ("touch -d @7 etc/name", "\"etc/name\": its time is 7, and 1700000000 was expected"),
        ("touch -d @1700000000.5 etc/name", "its time's nanoseconds is 500000000, and 0 was expected"),
        ("rm etc/name", "\"etc/name\" is missing"),
        ("touch etc/more", "\"etc/more\" is there, and should not be"),
        ("touch usr/zzz", "\"usr/zzz\" is there, and should not be"),
        ("rm usr/bin/second", "\"usr/bin/second\" is missing"),
        (
            "cp -p usr/bin/program x; mv x usr/bin/second",
            "\"usr/bin/program\": its number of names is 1, and 2 was expected",
        ),
        ("truncate -s 5 etc/name", "\"etc/name\": its size is 5, and 11 was expected"),
        ("ln -sfn elsewhere etc/link", "\"etc/link\": its size is 9, and 18 was expected"),
        ("ln -sfn ../usr/bin/another etc/link", "\"etc/link\": its content is 0x61 at byte 11"),
        ("chmod 700 .", "\"\": its mode is 40700, and 40755 was expected"),
        (
            "printf x | dd of=usr/bin/noise bs=1 seek=5000 conv=notrunc 2>/dev/null",
            "\"usr/bin/noise\": its content is 0x78 at byte 5000, and ",
        ),
        (
            "printf x | dd of=etc/zeros bs=1 seek=150000 conv=notrunc 2>/dev/null",
            "\"etc/zeros\": its content is 0x78",
        ),
    ] {
        let all = "find . -exec touch -h -d @1700000000 {} +";
        // The times of folders, too, but for those that are to differ.
        let change = if change.starts_with("touch -d") {
            format!("{all}; {change}")
        } else {
            format!("{change}\n{all}")
        };
        program(&sandbox, "mkfs", &own(&change));
        let names = sandbox.names();
        let run = build(&sandbox, "mkfs", "");
        assert_eq!((run.code, run.stdout.as_str()), (Some(2), ""), "{said}: {run:?}");
        assert!(run.stderr.contains("what it made is not the layer: "), "{said}: {run:?}");
        assert!(
            run.stderr.contains(said) && run.stderr.contains("\nhint: leave out options"),
            "{said}: {run:?}"
        );
        assert_eq!(sandbox.names(), names, "{said}");
    }
}

fn programs_that_fail_are_told() {
    let sandbox = sandbox();
    let cut = format!("{}\ntruncate -s -4096 \"$image\"", own(":"));
    for (script, code, said) in [
        (
            "echo 'no such option' >&2; echo 'and more' >&2; exit 3",
            1,
            "exit status: 3; it said: no such option; and more\n",
        ),
        ("exit 1", 1, "exit status: 1; it said nothing\n"),
        ("kill -9 $$", 1, "signal: 9"),
        ("cat > \"$image\"", 1, "no EROFS image"),
        ("cat > /dev/null", 1, "it wrote nothing into the file that it was given"),
        (":", 1, "it wrote nothing into the file that it was given"),
        ("cat > \"$image.other\"; mv \"$image.other\" \"$image\"", 1, "it wrote nothing"),
        (cut.as_str(), 1, "its image says that it has "),
    ] {
        program(&sandbox, "mkfs", script);
        let names = sandbox.names();
        let run = build(&sandbox, "mkfs", "");
        assert_eq!((run.code, run.stdout.as_str()), (Some(code), ""), "{script}: {run:?}");
        assert!(run.stderr.starts_with("verity: --mkfs: ") && run.stderr.contains(said), "{script}: {run:?}");
        assert_eq!(sandbox.names(), names, "{script}");
    }
    let names = sandbox.names();
    let run = build(&sandbox, "missing", "");
    assert!(run.code == Some(4) && run.stderr.contains("there is no such program"), "{run:?}");
    assert!(run.stderr.contains("hint: install it (Debian: erofs-utils)"), "{run:?}");
    let run = build(&sandbox, "mkfs", "--block-size 512");
    assert!(run.code == Some(1) && run.stderr.contains("--block-size"), "{run:?}");
    for (command, said) in [("", "no program is named"), ("'mkfs.erofs' -x", "words are separated by spaces")]
    {
        let run = Run::of(sandbox.verity_command("layer build layer.tar out").args(["--mkfs", command]));
        assert!(run.code == Some(1) && run.stderr.contains(said), "{command}: {run:?}");
    }
    assert_eq!(sandbox.names(), names);
}

fn a_program_ends_with_the_command() {
    let sandbox = sandbox();
    // It listens to nothing, and has a child.
    let script = "trap '' TERM INT HUP\nsleep 600 &\necho $$ $! > \"$image.pid\"\nmv \"$image.pid\" pids\nwait; sleep 600";
    program(&sandbox, "mkfs", script);
    let names = sandbox.names();
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let command = format!("{} --option", sandbox.path("mkfs").display());
        let child = sandbox
            .interruptible("layer build layer.tar out")
            .args(["--mkfs", &command])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let patience = Instant::now() + Duration::from_secs(120);
        while !sandbox.path("pids").exists() {
            assert!(Instant::now() < patience, "it has not begun");
            sleep(Duration::from_millis(5));
        }
        kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
        let run = Run::from(child.wait_with_output().unwrap());
        assert_eq!((run.code, run.signal), (None, Some(signal as i32)), "{run:?}");
        let pids = String::from_utf8(sandbox.read("pids")).unwrap();
        for pid in pids.split_whitespace() {
            let pid = Pid::from_raw(pid.parse().unwrap());
            // Whoever inherits it may take a moment to wait for it.
            while kill(pid, None) != Err(Errno::ESRCH) {
                let state = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
                assert!(Instant::now() < patience && (state.is_empty() || state.contains(") Z ")), "{state}");
                sleep(Duration::from_millis(5));
            }
        }
        fs::remove_file(sandbox.path("pids")).unwrap();
        assert_eq!(sandbox.names(), names);
    }
}
