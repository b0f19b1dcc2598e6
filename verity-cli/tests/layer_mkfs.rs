//! `verity layer build --mkfs`: images that another program makes are taken if they say what the layer says, and only then.

mod common;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use common::{Run, Sandbox, pattern};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use verity_core::erofs::{Budget, Encoding, Extent, Image, Inode, Place};

tests! {
    a_compressed_image_is_taken: [ErofsUtils];
    a_compressed_image_is_unpacked: [ErofsUtils];
    compressed_content_that_differs_is_refused: [ErofsUtils];
    content_that_is_not_read_here_is_taken_where_that_is_asked: [ErofsUtils];
    an_image_that_says_the_same_is_taken: [];
    what_differs_is_refused_and_named: [];
    programs_that_fail_are_told: [];
    a_program_ends_with_the_command: [];
    what_a_killed_command_leaves_disturbs_no_later_one: [];
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

/// An image of the tar on standard input, made by mkfs.erofs, with something done to the files before and to the image after.
fn compressed(options: &str, before: &str, after: &str) -> String {
    format!(
        "d=$(mktemp -d)\ntrap 'rm -rf \"$d\"' EXIT\ntar -C \"$d\" -xpf -\n(cd \"$d\"\n{before}\n)\n\
         mkfs.erofs {options} -U \"$uuid\" \"$image\" \"$d\"\n{after}"
    )
}

/// Ways to compress, as far as this machine's mkfs.erofs knows them.
fn ways() -> Vec<&'static str> {
    let sandbox = Sandbox::new();
    fs::create_dir(sandbox.path("tree")).unwrap();
    let all = [
        "-zlz4",
        "-zlz4hc",
        "-zlz4hc,12 -C65536",
        "-zlz4 -Elegacy-compress",
        "-zlz4hc -Eztailpacking",
        "-zlz4hc -C16384 -Eztailpacking,fragments",
        "-zlz4hc -Eall-fragments",
        "-zlz4hc -C32768 -Ededupe",
        "-zlz4hc -Efragments,dedupe",
        "-zdeflate",
        "-zdeflate -C65536 -Eall-fragments",
        "-zzstd",
        "-zzstd -C65536 -Eztailpacking,dedupe",
    ];
    let known = |options: &&str| {
        Run::of(&mut sandbox.command("mkfs.erofs", &format!("{options} image tree"))).code == Some(0)
    };
    let ways: Vec<_> = all.into_iter().filter(known).collect();
    assert!(ways.len() >= 5, "{ways:?}");
    ways
}

/// Extends the layer by files of all sizes, some of which are alike.
fn extend(sandbox: &Sandbox) {
    let at = |name: String| sandbox.path("tree/etc").join(name);
    for (number, size) in [1, 100, 4095, 4096, 4097, 20_000, 65_537, 300_001].into_iter().enumerate() {
        let words = (0..size / 6 + 1).map(|at| format!("{:05}\n", at * (number + 3) % 777));
        fs::write(at(format!("words{number}")), &words.collect::<String>()[..size]).unwrap();
        fs::write(at(format!("noise{number}")), pattern(size)).unwrap();
        let mixed =
            [pattern(size / 3), vec![b'm'; size / 2], pattern(size / 5), b"the end".to_vec()].concat();
        fs::write(at(format!("mixed{number}")), &mixed).unwrap();
        fs::write(at(format!("again{number}")), [&mixed[..size / 2], b"another end"].concat()).unwrap();
    }
    let tar = sandbox.command("tar", "--format=posix --sort=name -C tree -cf layer.tar .").status().unwrap();
    assert!(tar.success());
}

fn a_compressed_image_is_unpacked() {
    let sandbox = sandbox();
    extend(&sandbox);
    let root = |run: &Run| run.json()["root_hash"].as_str().unwrap().to_owned();
    for options in ways() {
        program(&sandbox, "mkfs", &compressed(options, ":", ":"));
        let run = build(&sandbox, "mkfs", "--json");
        assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""), "{options}: {run:?}");
        let root = root(&run);
        sandbox.verity(&format!("layer extract out {root} tar")).success();
        fs::create_dir(sandbox.path("unpacked")).unwrap();
        let unpacked = Run::of(&mut sandbox.command("tar", "-C unpacked -xpf tar"));
        assert_eq!(unpacked.code, Some(0), "{unpacked:?}");
        let same = Run::of(&mut sandbox.command("diff", "--recursive --no-dereference tree unpacked"));
        assert_eq!((same.code, same.stdout.as_str()), (Some(0), ""), "{options}: {same:?}");
        sandbox.verity(&format!("layer extract out {root} file --file etc/mixed7")).success();
        assert!(sandbox.read("file") == sandbox.read("tree/etc/mixed7"), "{options}");
        fs::remove_dir_all(sandbox.path("unpacked")).unwrap();
        for name in ["out", "tar", "file"] {
            fs::remove_file(sandbox.path(name)).unwrap();
        }
    }
}

fn compressed_content_that_differs_is_refused() {
    let sandbox = sandbox();
    extend(&sandbox);
    let flip = |name: &str, at: u64| {
        format!(
            "touch -r {name} \"$d.t\"; printf Z | dd of={name} bs=1 seek={at} conv=notrunc 2>/dev/null; touch -r \"$d.t\" {name}; rm \"$d.t\""
        )
    };
    for options in ways() {
        for (name, at) in
            [("usr/bin/program", 150_000), ("etc/words7", 300_000), ("etc/mixed4", 0), ("etc/again6", 32_777)]
        {
            program(&sandbox, "mkfs", &compressed(options, &flip(name, at), ":"));
            let names = sandbox.names();
            let run = build(&sandbox, "mkfs", "");
            assert_eq!((run.code, run.stdout.as_str()), (Some(2), ""), "{options}: {run:?}");
            let said = format!("{name:?}: its content is 0x5a at byte {at}, and ");
            assert!(run.stderr.contains(&said), "{options}: {run:?}");
            assert_eq!(sandbox.names(), names);
        }
    }
    // Damage to the compressed bytes themselves.
    program(&sandbox, "mkfs", &compressed("-zlz4hc", ":", "cp \"$image\" image.sound"));
    assert_eq!(build(&sandbox, "mkfs", "").code, Some(0));
    fs::remove_file(sandbox.path("out")).unwrap();
    let bytes = sandbox.read("image.sound");
    let unit = encoded(&bytes, &["usr", "bin", "program"]);
    // Before it are zeros.
    for at in [unit.end - 1, unit.end - 9, unit.end - 100] {
        let damage = format!("printf '\\245' | dd of=\"$image\" bs=1 seek={at} conv=notrunc 2>/dev/null");
        program(&sandbox, "mkfs", &compressed("-zlz4hc", ":", &damage));
        let names = sandbox.names();
        let run = build(&sandbox, "mkfs", "");
        assert_eq!((run.code, run.stdout.as_str()), (Some(2), ""), "{at}: {run:?}");
        let said = ["its content is 0x", "its content cannot be read: its compressed data are not sound"];
        let told = run.stderr.contains("what it made is not the layer: \"usr/bin/program\": ");
        assert!(told && said.iter().any(|said| run.stderr.contains(said)), "{at}: {run:?}");
        assert_eq!(sandbox.names(), names);
    }
}

/// An inode of an image.
fn find(image: &Image<'_>, path: &[&str]) -> Inode {
    let mut inode = image.inode(image.superblock().root_nid.into()).unwrap();
    for name in path {
        let names = image.list(&inode, &Budget::default()).unwrap();
        let found = names.iter().find(|(found, _)| &**found == name.as_bytes());
        inode = image.inode(found.unwrap().1).unwrap();
    }
    inode
}

/// Where the first compressed unit of a file lies.
fn encoded(bytes: &[u8], path: &[&str]) -> std::ops::Range<usize> {
    let image = Image::open(&bytes, bytes.len() as u64).unwrap();
    let mut units = Vec::new();
    let each = |extent: Extent| {
        let Place::Encoded { bytes, encoding: Encoding::Compressed(0) } = extent.place else { return Ok(()) };
        units.push(usize::try_from(bytes.start).unwrap()..usize::try_from(bytes.end).unwrap());
        Ok(())
    };
    image.extents(&find(&image, path), &Budget::default(), each).unwrap();
    units.swap_remove(0)
}

fn content_that_is_not_read_here_is_taken_where_that_is_asked() {
    let sandbox = sandbox();
    program(&sandbox, "mkfs", &compressed("-zlz4hc", ":", "cp \"$image\" image.sound"));
    assert_eq!(build(&sandbox, "mkfs", "").code, Some(0));
    fs::remove_file(sandbox.path("out")).unwrap();
    // The same image, that says of one file that it is compressed by LZMA.
    let bytes = sandbox.read("image.sound");
    let image = Image::open(&bytes, bytes.len() as u64).unwrap();
    let algorithms = find(&image, &["usr", "bin", "program"]).body.next_multiple_of(8) + 6;
    let change = format!("printf '\\001' | dd of=\"$image\" bs=1 seek={algorithms} conv=notrunc 2>/dev/null");
    program(&sandbox, "mkfs", &compressed("-zlz4hc", ":", &change));
    let names = sandbox.names();
    let run = build(&sandbox, "mkfs", "");
    assert_eq!((run.code, run.stdout.as_str()), (Some(2), ""), "{run:?}");
    let said = "\"usr/bin/program\": its content is compressed by LZMA, which is not read here";
    assert!(
        run.stderr.contains(said) && run.stderr.contains("\nhint: give it -zlz4hc, -zdeflate or -zzstd"),
        "{run:?}"
    );
    assert_eq!(sandbox.names(), names);
    let run = build(&sandbox, "mkfs", "--mkfs-unread --json");
    assert_eq!(run.code, Some(0), "{run:?}");
    assert!(run.stderr.contains("the content of 1 files was not compared with the layer"), "{run:?}");
    // And it is said, where it is to be read.
    let run = sandbox.verity(&format!("layer extract out {} tar", run.json()["root_hash"].as_str().unwrap()));
    assert!(run.code == Some(1) && run.stderr.contains(said), "{run:?}");
    assert_eq!(sandbox.names().len(), names.len() + 1);
    let run = sandbox.verity("layer build layer.tar more --mkfs-unread");
    assert!(run.code == Some(1) && run.stderr.contains("--mkfs"), "{run:?}");
}

fn a_compressed_image_is_taken() {
    let sandbox = sandbox();
    program(&sandbox, "mkfs", &compressed("-zlz4hc", ":", ":"));
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

/// Starts a build, and waits until its program has written its number into `pids`.
fn start(sandbox: &Sandbox) -> Child {
    let child = sandbox
        .interruptible("layer build layer.tar out")
        .args(["--mkfs", &format!("{} --option", sandbox.path("mkfs").display())])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    assert!(wait_for(|| sandbox.path("pids").exists()), "it has not begun");
    child
}

fn wait_for(mut what: impl FnMut() -> bool) -> bool {
    let patience = Instant::now() + Duration::from_secs(120);
    while Instant::now() < patience {
        if what() {
            return true;
        }
        sleep(Duration::from_millis(5));
    }
    false
}

/// The programs that wrote their numbers into `pids`.
fn pids(sandbox: &Sandbox) -> Vec<Pid> {
    let pids = String::from_utf8(sandbox.read("pids")).unwrap();
    pids.split_whitespace().map(|pid| Pid::from_raw(pid.parse().unwrap())).collect()
}

/// Whether a process is gone, or waits for its parent to look.
fn ended(pid: Pid) -> bool {
    let state = || fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    kill(pid, None) == Err(Errno::ESRCH) || state().contains(") Z ")
}

fn what_a_killed_command_leaves_disturbs_no_later_one() {
    let sandbox = sandbox();
    // It has written a part when the command is killed, and goes on by the name that it was given.
    let script = format!(
        "echo half > \"$image\"\necho $$ > \"$image.pid\"\nmv \"$image.pid\" pids\nwhile [ ! -e go ]; do sleep 0.02; done\n\
         cat > tar.seen\n{}",
        own(":").replace("-xpf -", "-xpf layer.tar || exit 9")
    );
    let names = sandbox.names();
    let more = |sandbox: &Sandbox| -> Vec<String> {
        let known = |name: &String| {
            names.contains(name) || ["mkfs", "pids", "go", "tar.seen"].contains(&name.as_str())
        };
        sandbox.names().into_iter().filter(|name| !known(name)).collect()
    };
    program(&sandbox, "mkfs", &script);
    let mut child = start(&sandbox);
    let waiting = pids(&sandbox)[0];
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGKILL).unwrap();
    child.wait().unwrap();
    // The program was not asked; of the output there is a part, under a name that nobody looks for.
    assert!(!ended(waiting));
    let left = more(&sandbox);
    assert_eq!(left.len(), 1, "{left:?}");
    assert!(left[0].starts_with(".out.verity-") && left[0].ends_with(".tmp"), "{left:?}");
    assert_eq!(sandbox.read(&left[0]), b"half\n");
    // The next command removes that, whether or not the program still runs, and takes nothing of it.
    program(&sandbox, "another", &own(":"));
    let run = build(&sandbox, "another", "--quiet");
    assert_eq!(run.code, Some(0), "{run:?}");
    assert_eq!(more(&sandbox), ["another", "out"]);
    let made = sandbox.read("out");
    // When the program goes on it finds the end of its input, and what it makes by its old name goes with the next command.
    sandbox.write("go", b"");
    assert!(wait_for(|| ended(waiting)), "it runs on");
    assert!(sandbox.read("out") == made);
    let left = more(&sandbox);
    assert!(
        left.iter()
            .all(|name| name.starts_with(".out.verity-") || ["another", "out"].contains(&name.as_str())),
        "{left:?}"
    );
    fs::remove_file(sandbox.path("out")).unwrap();
    let run = build(&sandbox, "another", "--quiet");
    assert_eq!(more(&sandbox), ["another", "out"]);
    sandbox.verity(&format!("layer verify out {}", run.success().trim())).success();
}

fn a_program_ends_with_the_command() {
    let sandbox = sandbox();
    // It listens to nothing, and has a child.
    let script = "trap '' TERM INT HUP\nsleep 600 &\necho $$ $! > \"$image.pid\"\nmv \"$image.pid\" pids\nwait; sleep 600";
    program(&sandbox, "mkfs", script);
    let names = sandbox.names();
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let child = start(&sandbox);
        kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
        let run = Run::from(child.wait_with_output().unwrap());
        assert_eq!((run.code, run.signal), (None, Some(signal as i32)), "{run:?}");
        for pid in pids(&sandbox) {
            // Whoever inherits it may take a moment to wait for it.
            assert!(ended(pid) || wait_for(|| ended(pid)), "{pid}");
        }
        fs::remove_file(sandbox.path("pids")).unwrap();
        assert_eq!(sandbox.names(), names);
    }
}
