//! `verity format`: what it prints, what it makes, and what it leaves alone.

mod common;

use std::fs::{self, OpenOptions, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use common::{FIXED, ROOT_OF_16, Run, Sandbox, pattern};

/// The output for 16 blocks with the fixed UUID and salt.
const HEADER: &str = "\
VERITY header information for hash.
UUID:            \t01234567-89ab-cdef-0123-456789abcdef
Hash type:       \t1
Data blocks:     \t16
Data block size: \t4096 [bytes]
Hash blocks:     \t1
Hash block size: \t4096 [bytes]
Hash algorithm:  \tsha256
Salt:            \t00112233
Root hash:      \tROOT
Hash device size: \t8192 [bytes]
";

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().permissions().mode() & 0o7777
}

#[test]
fn prints_what_veritysetup_prints() {
    let sandbox = Sandbox::with_data(16);
    sandbox.verity(&format!("format data hash {FIXED}")).is(0, &HEADER.replace("ROOT", ROOT_OF_16), "");
    assert_eq!(sandbox.names(), ["data", "hash"]);
    assert_eq!(mode(&sandbox.path("hash")), 0o600);
    assert_eq!(sandbox.read("data"), pattern(16 * 4096));
}

#[test]
fn quiet_prints_the_root_hash_alone() {
    let sandbox = Sandbox::with_data(16);
    sandbox.verity(&format!("format -q data hash {FIXED}")).is(0, &format!("{ROOT_OF_16}\n"), "");
}

#[test]
fn verbose_says_that_it_succeeded() {
    let sandbox = Sandbox::with_data(16);
    let told = sandbox.verity("format -v data hash").success();
    assert!(told.ends_with("8192 [bytes]\nCommand successful.\n"), "{told}");
}

#[test]
fn the_document() {
    let sandbox = Sandbox::with_data(16);
    let run = sandbox.verity(&format!("format --json data hash {FIXED}"));
    let expected = serde_json::json!({
        "command": "format",
        "data_device": "data",
        "hash_device": "hash",
        "uuid": "01234567-89ab-cdef-0123-456789abcdef",
        "hash_type": 1,
        "data_blocks": 16,
        "data_block_size": 4096,
        "hash_blocks": 1,
        "hash_block_size": 4096,
        "hash_algorithm": "sha256",
        "salt": "00112233",
        "superblock": true,
        "hash_offset": 0,
        "hash_start_block": 1,
        "hash_area_end": 8192,
        "root_hash": ROOT_OF_16,
        "fec": null,
    });
    assert_eq!(run.json(), expected);
    assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""));
}

#[test]
fn without_a_superblock_there_is_no_uuid() {
    let sandbox = Sandbox::with_data(16);
    let told = sandbox.verity("format data hash --no-superblock --salt -").success();
    assert!(told.contains("\nUUID:            \t\n") && told.contains("\nSalt:            \t-\n"), "{told}");
    assert!(told.ends_with("Hash device size: \t4096 [bytes]\n"), "{told}");
    assert_eq!(sandbox.read("hash").len(), 4096);
}

#[test]
fn salt_and_uuid_are_random_unless_given() {
    let sandbox = Sandbox::with_data(2);
    let run = || sandbox.verity("format data hash --json").json();
    let (one, other) = (run(), run());
    for field in ["salt", "uuid", "root_hash"] {
        assert_ne!(one[field], other[field], "{field}");
    }
    assert_eq!(one["salt"].as_str().unwrap().len(), 64);
}

#[test]
fn every_number_of_threads_makes_the_same_tree() {
    let sandbox = Sandbox::with_data(700);
    let mut trees = Vec::new();
    for threads in ["1", "2", "7", "1024"] {
        sandbox.verity(&format!("format data hash {FIXED} --threads {threads}")).success();
        trees.push(sandbox.read("hash"));
    }
    assert!(trees.windows(2).all(|pair| pair[0] == pair[1]));
}

#[test]
fn a_weak_algorithm_is_remarked_upon() {
    let sandbox = Sandbox::with_data(1);
    for (algorithm, weak) in
        [("sha1", true), ("md5", true), ("ripemd160", true), ("sha256", false), ("sm3", false)]
    {
        let run = sandbox.verity(&format!("format data hash --hash {algorithm}"));
        assert_eq!(
            (run.code, run.stderr.starts_with(&format!("note: {algorithm} is weak: "))),
            (Some(0), weak),
            "{run:?}"
        );
        assert_eq!(sandbox.verity(&format!("format data hash --hash {algorithm} --quiet")).stderr, "");
    }
}

#[test]
fn a_pipe_gives_the_same_tree_as_a_file() {
    for blocks in [1, 2, 128, 129, 700] {
        let sandbox = Sandbox::with_data(blocks);
        sandbox.verity(&format!("format data hash {FIXED}")).success();
        let told =
            sandbox.verity_with_input(&format!("format - piped {FIXED}"), &sandbox.read("data")).success();
        assert_eq!(sandbox.read("piped"), sandbox.read("hash"), "{blocks}");
        assert!(told.starts_with("VERITY header information for piped.\n"));
        assert_eq!(sandbox.names(), ["data", "hash", "piped"]);
    }
}

#[test]
fn a_pipe_is_read_as_far_as_asked() {
    let sandbox = Sandbox::with_data(3);
    let data = pattern(5 * 4096 + 7);
    sandbox.verity_with_input(&format!("format - piped {FIXED} --data-blocks 3"), &data).success();
    sandbox.verity(&format!("format data hash {FIXED}")).success();
    assert_eq!(sandbox.read("piped"), sandbox.read("hash"));
}

#[test]
fn a_bad_pipe_leaves_nothing() {
    let sandbox = Sandbox::new();
    let pad = "hint: pad the data to whole blocks; a tree covers at least one\n";
    let run = sandbox.verity_with_input("format - hash", b"");
    run.is(1, "", &format!("verity: standard input: 0 bytes are no multiple of the block size 4096\n{pad}"));
    let run = sandbox.verity_with_input("format - hash", &[7; 5000]);
    run.is(
        1,
        "",
        &format!("verity: standard input: 5000 bytes are no multiple of the block size 4096\n{pad}"),
    );
    let run = sandbox.verity_with_input("format - hash --data-blocks 2", &[7; 4096]);
    run.is(1, "", "verity: --data-blocks: standard input ended after 4096 bytes of 8192\n");
    assert_eq!(sandbox.names(), [""; 0]);
}

#[test]
fn data_and_tree_in_one_file() {
    let sandbox = Sandbox::with_data(16);
    let told =
        sandbox.verity(&format!("format data data --hash-offset 65536 --data-blocks 16 {FIXED}")).success();
    assert!(!told.contains("Hash device size") && told.contains(ROOT_OF_16), "{told}");
    let file = sandbox.read("data");
    assert_eq!(file[..65536], pattern(65536));
    assert_eq!(file.len(), 65536 + 8192);
    // The same tree as in a file of its own, and again the same when it is made anew in place.
    sandbox.write("other", &pattern(65536));
    sandbox.verity(&format!("format other hash {FIXED}")).success();
    assert_eq!(file[65536..], sandbox.read("hash"));
    sandbox.verity(&format!("format data data --hash-offset 65536 --data-blocks 16 {FIXED}")).success();
    assert_eq!(sandbox.read("data"), file);
    sandbox.verity(&format!("verify data data --hash-offset 65536 {ROOT_OF_16}")).is(0, "", "");
}

#[test]
fn what_lies_beside_the_hash_area_stays() {
    let sandbox = Sandbox::with_data(16);
    let old = pattern(40_960);
    sandbox.write("hash", &old);
    let inode = sandbox.path("hash").metadata().unwrap().ino();
    sandbox.verity(&format!("format data hash --hash-offset 8192 {FIXED}")).success();
    let new = sandbox.read("hash");
    assert_eq!((&new[..8192], &new[16384..]), (&old[..8192], &old[16384..]));
    assert_eq!(sandbox.path("hash").metadata().unwrap().ino(), inode);
    sandbox.verity(&format!("verify data hash --hash-offset 8192 {ROOT_OF_16}")).is(0, "", "");
}

#[test]
fn an_old_hash_file_is_replaced_as_a_whole() {
    let (sandbox, _) = Sandbox::formatted(16);
    fs::set_permissions(sandbox.path("hash"), Permissions::from_mode(0o644)).unwrap();
    // Whoever has it open, such as an active device, keeps the old tree.
    let old = OpenOptions::new().read(true).open(sandbox.path("hash")).unwrap();
    let before = sandbox.read("hash");
    sandbox.verity("format data hash").success();
    assert_ne!(old.metadata().unwrap().ino(), sandbox.path("hash").metadata().unwrap().ino());
    let mut kept = Vec::new();
    std::io::Read::read_to_end(&mut &old, &mut kept).unwrap();
    assert_eq!(kept, before);
    assert_eq!(mode(&sandbox.path("hash")), 0o644);
    assert_eq!(sandbox.names(), ["data", "hash"]);
}

#[test]
fn links_stay_links() {
    let sandbox = Sandbox::with_data(16);
    sandbox.write("real", b"");
    std::os::unix::fs::symlink("real", sandbox.path("soft")).unwrap();
    sandbox.verity(&format!("format data soft {FIXED}")).success();
    assert!(sandbox.path("soft").symlink_metadata().unwrap().is_symlink());
    assert_eq!(sandbox.read("real").len(), 8192);

    fs::hard_link(sandbox.path("real"), sandbox.path("hard")).unwrap();
    sandbox.verity("format data hard").success();
    assert_eq!(sandbox.read("hard"), sandbox.read("real"));
    assert_eq!(sandbox.path("hard").metadata().unwrap().nlink(), 2);
}

#[test]
fn the_root_hash_file() {
    let sandbox = Sandbox::with_data(16);
    sandbox.verity(&format!("format data hash {FIXED} --root-hash-file root")).success();
    assert_eq!(sandbox.read("root"), ROOT_OF_16.as_bytes());
    assert_eq!(mode(&sandbox.path("root")), 0o600);
    sandbox.verity("verify data hash --root-hash-file root").is(0, "", "");
    // Again, over the old one.
    fs::set_permissions(sandbox.path("root"), Permissions::from_mode(0o640)).unwrap();
    sandbox.verity("format data hash --root-hash-file root").success();
    assert_eq!(mode(&sandbox.path("root")), 0o640);
    sandbox.verity("verify data hash --root-hash-file root").is(0, "", "");
    assert_eq!(sandbox.names(), ["data", "hash", "root"]);
}

#[test]
fn the_root_hash_file_may_be_a_stream() {
    let sandbox = Sandbox::with_data(16);
    let told = sandbox.verity(&format!("format data hash {FIXED} --root-hash-file /dev/stdout")).success();
    assert_eq!(told.matches(ROOT_OF_16).count(), 2, "{told}");
}

#[test]
fn the_root_hash_file_is_none_of_the_others() {
    let sandbox = Sandbox::with_data(16);
    sandbox.write("old", b"");
    fs::hard_link(sandbox.path("data"), sandbox.path("link")).unwrap();
    let before = sandbox.content();
    for (arguments, file, what) in [
        ("format data hash --root-hash-file data", "data", "data device"),
        ("format data hash --root-hash-file link", "link", "data device"),
        ("format data hash --root-hash-file ./hash", "./hash", "hash device"),
        ("format data old --root-hash-file old", "old", "hash device"),
    ] {
        let message = format!("verity: root hash file {file:?} is the {what}\nhint: give another file\n");
        sandbox.verity(arguments).is(1, "", &message);
        assert_eq!(sandbox.content(), before);
    }
}

#[test]
fn an_interrupted_run_of_another_process_is_cleaned_up_but_a_running_one_is_not() {
    let sandbox = Sandbox::with_data(2);
    sandbox.write(".hash.verity-aB3dE9.tmp", b"left behind by a killed process");
    sandbox.write(".hash.verity-busy12.tmp", b"in use");
    sandbox.write(".hash.verity-no.tmp.txt", b"not ours");
    sandbox.write(".other.verity-aB3dE9.tmp", b"another target's");
    let busy = fs::File::open(sandbox.path(".hash.verity-busy12.tmp")).unwrap();
    busy.lock().unwrap();
    sandbox.verity("format data hash").success();
    let left =
        [".hash.verity-busy12.tmp", ".hash.verity-no.tmp.txt", ".other.verity-aB3dE9.tmp", "data", "hash"];
    assert_eq!(sandbox.names(), left);
}

#[test]
fn long_names_have_room_for_a_temporary_one() {
    let sandbox = Sandbox::with_data(2);
    let name = "h".repeat(255);
    sandbox.verity(&format!("format data {name}")).success();
    assert_eq!(sandbox.names(), ["data".to_owned(), name]);
}

#[test]
fn a_name_that_is_no_text() {
    use std::os::unix::ffi::OsStrExt;
    let sandbox = Sandbox::with_data(2);
    let name = std::ffi::OsStr::from_bytes(b"h\xff");
    let run = Run::of(sandbox.verity_command("format data --json --root-hash-file root").arg(name));
    assert_eq!((run.code, run.json()["hash_device"].as_str()), (Some(0), Some("h\u{fffd}")));
    assert!(sandbox.path("data").parent().unwrap().join(name).exists());
}
