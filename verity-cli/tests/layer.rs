//! `verity layer build` and `extract`: from a tar to a layer and back, and what is left when it does not come to that.

mod common;

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use common::{Run, Sandbox, pattern};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

tests! {
    a_layer_is_a_clean_image_with_the_tar_s_files: [ErofsUtils];
    reports_say_what_was_made: [];
    standard_input_and_compression_make_the_same_file: [];
    what_was_made_is_what_the_other_commands_take: [];
    a_mismatch_leaves_nothing: [];
    hostile_layers_leave_nothing_and_name_the_entry: [];
    what_exists_is_kept: [];
    a_layer_comes_back_as_a_tar: [];
    one_file_is_printed: [];
    a_damaged_layer_is_not_unpacked: [];
    what_is_no_layer_is_refused: [];
    a_signal_ends_a_wait_and_leaves_nothing: [];
}

/// A sandbox with a folder `tree`, and its tar in `layer.tar`.
fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new();
    let at = |name: &str| sandbox.path("tree").join(name);
    fs::create_dir_all(at("usr/bin")).unwrap();
    fs::create_dir_all(at("etc/deep/er")).unwrap();
    fs::write(at("usr/bin/program"), pattern(300_000)).unwrap();
    fs::set_permissions(at("usr/bin/program"), PermissionsExt::from_mode(0o4755)).unwrap();
    fs::hard_link(at("usr/bin/program"), at("usr/bin/second")).unwrap();
    fs::write(at("etc/os-release"), b"NAME=layer\n").unwrap();
    fs::write(at("etc/deep/er/empty"), b"").unwrap();
    fs::write(at("etc").join("n".repeat(180)), b"long").unwrap();
    fs::write(at("etc/zeros"), vec![0; 200_000]).unwrap();
    symlink("../usr/bin/program", at("etc/link")).unwrap();
    symlink("t".repeat(500), at("etc/long-link")).unwrap();
    for number in 0..500 {
        fs::write(at(&format!("etc/deep/file-{number:03}")), number.to_string()).unwrap();
    }
    run(&sandbox, "tar", "--format=posix --sort=name -C tree -cf layer.tar .");
    sandbox
}

fn run(sandbox: &Sandbox, program: &str, arguments: &str) -> String {
    let run = Run::of(&mut sandbox.command(program, arguments));
    assert_eq!(run.code, Some(0), "{program} {arguments}: {run:?}");
    run.stdout
}

/// Builds `layer.erofs`, and returns the document.
fn build(sandbox: &Sandbox, options: &str) -> serde_json::Value {
    let run = sandbox.verity(&format!("layer build layer.tar layer.erofs --json {options}"));
    assert_eq!(run.code, Some(0), "{run:?}");
    run.json()
}

fn text(document: &serde_json::Value, field: &str) -> String {
    document[field].as_str().unwrap_or_else(|| panic!("{field}: {document}")).to_owned()
}

/// Every file below a folder: its path, type, mode, owner, time, size, number of names, and content or target.
fn facts(folder: &Path) -> Vec<String> {
    let mut facts = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            let metadata = path.symlink_metadata().unwrap();
            let content = if metadata.is_file() {
                let mut hasher = DefaultHasher::new();
                fs::read(&path).unwrap().hash(&mut hasher);
                format!("{} bytes, {:x}", metadata.size(), hasher.finish())
            } else if metadata.is_symlink() {
                format!("{:?}", fs::read_link(&path).unwrap())
            } else {
                folders.push(path.clone());
                String::new()
            };
            let links = if metadata.is_dir() { 0 } else { metadata.nlink() };
            let (mode, uid, gid) = (metadata.mode(), metadata.uid(), metadata.gid());
            let (seconds, nanoseconds) = (metadata.mtime(), metadata.mtime_nsec());
            let path = path.strip_prefix(folder).unwrap().display().to_string();
            facts.push(format!("{path} {mode:o} {uid} {gid} {seconds}.{nanoseconds} {links} {content}"));
        }
    }
    facts.sort();
    facts
}

/// Compares what is known of two folders' files, and shows the first that differs.
#[track_caller]
fn same(own: &[String], original: &[String]) {
    for (own, original) in own.iter().zip(original) {
        assert_eq!(own, original);
    }
    assert_eq!(own.len(), original.len());
}

fn a_layer_is_a_clean_image_with_the_tar_s_files() {
    let sandbox = sandbox();
    for block_size in [4096, 512] {
        let document = build(&sandbox, &format!("--block-size {block_size}"));
        // The image alone: where the tree begins, it ends.
        let bytes = sandbox.read("layer.erofs");
        let end = usize::try_from(document["image_bytes"].as_u64().unwrap()).unwrap();
        sandbox.write("image", &bytes[..end]);
        let fsck = sandbox.command("fsck.erofs", "image").output().unwrap();
        let fsck = Run::from(fsck);
        // Older versions have blocks of their page's size only.
        if !fsck.stderr.contains("blksize 512 isn't supported") {
            assert_eq!(fsck.code, Some(0), "{fsck:?}");
        }
        if block_size == 4096 {
            run(&sandbox, "fsck.erofs", "--extract=unpacked --preserve image");
            let known = |fact: &String| {
                // That version knows times of seconds only, makes files of hard links, and leaves out set-uid.
                let mut words = fact.splitn(7, ' ').map(str::to_owned).collect::<Vec<_>>();
                words[4] = words[4].split('.').next().unwrap().to_owned();
                words[5].clear();
                words[1] = words[1].replace("1047", "1007");
                if words[1].starts_with("12") {
                    words[4].clear();
                }
                words.join(" ")
            };
            // Nor does it make a hole that a file ends with.
            fs::remove_file(sandbox.path("unpacked/etc/zeros")).unwrap();
            fs::remove_file(sandbox.path("tree/etc/zeros")).unwrap();
            let own: Vec<_> = facts(&sandbox.path("unpacked")).iter().map(known).collect();
            let original: Vec<_> = facts(&sandbox.path("tree")).iter().map(known).collect();
            same(&own, &original);
        }
        fs::remove_file(sandbox.path("layer.erofs")).unwrap();
    }
}

fn reports_say_what_was_made() {
    let sandbox = sandbox();
    let root = sandbox.verity("layer build --quiet layer.tar quiet.erofs").success();
    let document = build(&sandbox, "--fec-roots 4");
    assert_eq!(text(&document, "root_hash") + "\n", root);
    let shape = json!({
        "command": "layer build",
        "layer": "layer.tar",
        "layer_bytes": sandbox.read("layer.tar").len(),
        "digest": document["diff_id"],
        "compression": "none",
        "tar_bytes": sandbox.read("layer.tar").len(),
        "diff_id": format!("sha256:{}", run(&sandbox, "sha256sum", "layer.tar").split(' ').next().unwrap()),
        "entries": 514,
        "whiteouts": 0,
        "opaque_directories": 0,
        "dropped_xattrs": 0,
        "output": "layer.erofs",
        "image_bytes": document["image_bytes"],
        "inodes": 513,
        "uuid": document["uuid"],
        "hash_type": 1,
        "data_blocks": document["image_bytes"].as_u64().unwrap() / 4096,
        "data_block_size": 4096,
        "hash_blocks": document["hash_blocks"],
        "hash_block_size": 4096,
        "hash_algorithm": "sha256",
        "salt": document["salt"],
        "superblock": true,
        "hash_offset": document["image_bytes"],
        "hash_start_block": document["image_bytes"].as_u64().unwrap() / 4096 + 1,
        "hash_area_end": document["hash_area_end"],
        "root_hash": document["root_hash"],
        "fec": {
            "device": "layer.erofs",
            "roots": 4,
            "offset": document["hash_area_end"],
            "bytes": document["fec"]["bytes"],
            "covered_blocks": document["fec"]["covered_blocks"],
        },
    });
    assert_eq!(document, shape);
    let told = sandbox.verity("layer build layer.tar told.erofs").success();
    let uuid = format!("UUID:           {}\n", text(&document, "uuid"));
    assert!(told.contains(&uuid) && told.ends_with(&format!("Root hash:      {root}")), "{told}");
}

fn standard_input_and_compression_make_the_same_file() {
    let sandbox = sandbox();
    build(&sandbox, "");
    run(&sandbox, "gzip", "-k layer.tar");
    run(&sandbox, "tar", "--format=posix --sort=name --gzip -C tree -cf again.tar.gz .");
    for input in ["layer.tar", "layer.tar.gz"] {
        let bytes = sandbox.read(input);
        let piped = sandbox.verity_with_input("layer build - piped.erofs --json", &bytes);
        assert_eq!(piped.json()["layer"], "-");
        assert!(sandbox.read("piped.erofs") == sandbox.read("layer.erofs"), "{input}");
        fs::remove_file(sandbox.path("piped.erofs")).unwrap();
    }
    let document = sandbox.verity("layer build layer.tar.gz gzip.erofs --threads 1 --json").json();
    assert_eq!(document["compression"], "gzip");
    assert!(sandbox.read("gzip.erofs") == sandbox.read("layer.erofs"));
}

fn what_was_made_is_what_the_other_commands_take() {
    let sandbox = sandbox();
    let document = build(&sandbox, "--fec-roots 2 --hash sha512");
    let (root, offset) = (text(&document, "root_hash"), &document["hash_offset"]);
    let fec = format!("--fec-device layer.erofs --fec-offset {} --fec-roots 2", document["fec"]["offset"]);
    let verify = format!("verify layer.erofs layer.erofs {root} --hash-offset {offset} {fec} --json");
    let report = sandbox.verity(&verify).json();
    assert_eq!((&report["intact"], &report["fec"]["verdict"]), (&json!(true), &json!("intact")), "{report}");
    assert_eq!(report["fec"]["differing_parity_blocks"], 0);
    // Two blocks are damaged, and what lies behind restores both.
    sandbox.garble("layer.erofs", 5000, 4096);
    let report = sandbox.verity(&verify).json();
    assert_eq!((&report["intact"], &report["bad_data_blocks"]), (&json!(false), &json!(2)), "{report}");
    assert_eq!(report["fec"]["verdict"], "repairable", "{report}");
}

fn a_mismatch_leaves_nothing() {
    let sandbox = sandbox();
    let names = sandbox.names();
    let zeros = format!("sha256:{}", "0".repeat(64));
    for option in ["--diff-id", "--digest"] {
        let run = sandbox.verity(&format!("layer build layer.tar layer.erofs {option} {zeros}"));
        assert_eq!((run.code, run.stdout.as_str()), (Some(2), ""), "{run:?}");
        assert!(run.stderr.contains(&format!("{zeros} was expected")), "{run:?}");
        assert_eq!(sandbox.names(), names);
    }
    let run = sandbox.verity("layer build layer.tar layer.erofs --diff-id sha256:12");
    assert_eq!(run.code, Some(1));
    assert!(run.stderr.contains("64 lower-case hexadecimal digits"), "{run:?}");
    let digest = run_digest(&sandbox);
    build(&sandbox, &format!("--diff-id {digest} --digest {digest}"));
}

fn run_digest(sandbox: &Sandbox) -> String {
    format!("sha256:{}", run(sandbox, "sha256sum", "layer.tar").split(' ').next().unwrap())
}

fn hostile_layers_leave_nothing_and_name_the_entry() {
    let sandbox = sandbox();
    run(
        &sandbox,
        "tar",
        "-P -C tree -cf outside.tar --transform=s|^etc/os-release|../../escaped| etc/os-release",
    );
    run(&sandbox, "tar", "-C tree -cf link.tar --transform=s|^usr/bin/program|elsewhere|RSh usr/bin");
    let tar = sandbox.read("layer.tar");
    sandbox.write("short.tar", &tar[..tar.len() / 2]);
    run(&sandbox, "gzip", "-k layer.tar");
    let mut gzip = sandbox.read("layer.tar.gz");
    let middle = gzip.len() / 2;
    gzip[middle] ^= 0x55;
    sandbox.write("damaged.tar.gz", &gzip);
    sandbox.write("noise", &pattern(100_000));
    sandbox.write("nothing", b"");
    let names = sandbox.names();
    for (layer, why) in [
        ("outside.tar", "\"../../escaped\""),
        ("short.tar", "truncated"),
        ("damaged.tar.gz", "damaged.tar.gz"),
        ("noise", "no tar"),
        ("nothing", "end marker"),
        ("missing.tar", "layer \"missing.tar\" does not exist"),
        ("tree", "is a directory"),
    ] {
        let run = sandbox.verity(&format!("layer build {layer} layer.erofs"));
        assert!(run.code.is_some_and(|code| code != 0) && run.stdout.is_empty(), "{layer}: {run:?}");
        assert!(run.stderr.contains(why) && run.stderr.contains("hint: "), "{layer}: {run:?}");
        assert_eq!(sandbox.names(), names, "{layer}");
    }
    // A layer may not grow without bounds.
    let run = sandbox.verity("layer build layer.tar.gz layer.erofs --max-bytes 100000 --max-ratio 1");
    assert!(run.stderr.contains("--max-ratio"), "{run:?}");
    assert_eq!(sandbox.names(), names);
}

fn what_exists_is_kept() {
    let sandbox = sandbox();
    sandbox.write("layer.erofs", b"mine");
    let run = sandbox.verity("layer build layer.tar layer.erofs");
    assert_eq!(run.code, Some(5), "{run:?}");
    assert_eq!(sandbox.read("layer.erofs"), b"mine");
}

fn a_layer_comes_back_as_a_tar() {
    let sandbox = sandbox();
    let document = build(&sandbox, "");
    let root = text(&document, "root_hash");
    let extracted = sandbox.verity(&format!("layer extract layer.erofs {root} back.tar --json")).json();
    assert_eq!(extracted["entries"], 514);
    assert_eq!(extracted["root_hash"], document["root_hash"]);
    fs::create_dir(sandbox.path("back")).unwrap();
    run(&sandbox, "tar", "-C back -xpf back.tar");
    same(&facts(&sandbox.path("back")), &facts(&sandbox.path("tree")));
    // The way back once more, to standard output and without arguments in the root hash's place.
    sandbox.write("root", root.as_bytes());
    let run = sandbox
        .command(env!("CARGO_BIN_EXE_verity"), "layer extract layer.erofs --root-hash-file root -")
        .output();
    assert!(run.unwrap().stdout == sandbox.read("back.tar"));
    // The same files make the same image, whatever tar they came in; the identity is the tar's.
    let again = sandbox.verity("layer build back.tar again.erofs --json").json();
    assert_ne!(again["uuid"], document["uuid"]);
    assert_eq!(again["inodes"], document["inodes"]);
    let root = text(&again, "root_hash");
    sandbox.verity(&format!("layer extract again.erofs {root} again.tar")).success();
    assert!(sandbox.read("again.tar") == sandbox.read("back.tar"));
}

fn one_file_is_printed() {
    let sandbox = sandbox();
    let root = text(&build(&sandbox, ""), "root_hash");
    let print = |options: &str| sandbox.verity(&format!("layer extract layer.erofs {root} {options}"));
    print("- --file etc/os-release").is(0, "NAME=layer\n", "");
    print("- --file /etc/os-release -v").is(0, "NAME=layer\n", "Command successful.\n");
    let missing = print("- --file etc/nothing");
    assert_eq!((missing.code, missing.stdout.as_str()), (Some(1), ""));
    assert!(missing.stderr.contains("\"etc/nothing\" is not there"), "{missing:?}");
    print("program --file usr/bin/program").success();
    assert!(sandbox.read("program") == pattern(300_000));
    let json = print("- --json");
    assert!(json.code == Some(1) && json.stderr.contains("--json"), "{json:?}");
}

fn a_damaged_layer_is_not_unpacked() {
    let sandbox = sandbox();
    let document = build(&sandbox, "");
    let root = text(&document, "root_hash");
    let other = root.replace(|digit: char| digit.is_ascii_digit(), "a");
    let wrong = sandbox.verity(&format!("layer extract layer.erofs {other} back.tar"));
    assert!(wrong.code == Some(1) && wrong.stderr.contains("wrong root hash"), "{wrong:?}");
    let end = usize::try_from(document["image_bytes"].as_u64().unwrap()).unwrap();
    let names = sandbox.names();
    // Somewhere in the content, in the metadata at the end, in the superblock.
    for at in [20_000, end - 100, 1024 + 60] {
        sandbox.flip("layer.erofs", at, 4);
        let run = sandbox.verity(&format!("layer extract layer.erofs {root} back.tar"));
        assert_eq!(run.code, Some(2), "{at}: {run:?}");
        assert!(run.stderr.contains("is corrupted"), "{at}: {run:?}");
        assert_eq!(sandbox.names(), names);
        sandbox.flip("layer.erofs", at, 4);
    }
    sandbox.flip("layer.erofs", end + 4096 + 7, 1);
    assert_ne!(sandbox.verity(&format!("layer extract layer.erofs {root} back.tar")).code, Some(0));
    assert_eq!(sandbox.names(), names);
}

fn what_is_no_layer_is_refused() {
    let sandbox = sandbox();
    sandbox.write("noise", &pattern(100_000));
    let root = "0".repeat(64);
    for (layer, code, why) in
        [("noise", 1, "no EROFS image"), ("missing", 4, "does not exist"), ("tree", 4, "is a directory")]
    {
        let run = sandbox.verity(&format!("layer extract {layer} {root} back.tar"));
        assert!(run.code == Some(code) && run.stderr.contains(why), "{layer}: {run:?}");
        assert!(!sandbox.path("back.tar").exists());
    }
    let run = sandbox.verity("layer extract layer.tar");
    assert!(run.code == Some(1) && run.stderr.contains("OUTPUT"), "{run:?}");
}

fn a_signal_ends_a_wait_and_leaves_nothing() {
    let sandbox = sandbox();
    let names = sandbox.names();
    let mut child = sandbox
        .interruptible("layer build - layer.erofs")
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(&sandbox.read("layer.tar")[..10_000]).unwrap();
    let patience = Instant::now() + Duration::from_secs(60);
    while sandbox.names() == names {
        assert!(Instant::now() < patience, "it has not begun");
        std::thread::sleep(Duration::from_millis(5));
    }
    // Its handlers are set before it makes anything.
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGTERM).unwrap();
    let run = Run::from(child.wait_with_output().unwrap());
    assert_eq!((run.code, run.signal), (None, Some(Signal::SIGTERM as i32)), "{run:?}");
    drop(stdin);
    assert_eq!(sandbox.names(), names);
}
