//! What has to be seen on machines of a certain kind: with root, or without device-mapper. A test says in its name
//! what it needs.

mod common;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

use common::{FIXED, ROOT_OF_16, Run, Sandbox, pattern};

tests! {
    needs_root_a_full_disk_is_one_clear_error: [Root];
    needs_root_a_full_disk_for_the_root_hash_leaves_no_tree: [Root];
    needs_root_no_permission_is_exit_code_2: [Root];
    needs_root_a_read_only_disk: [Root];
    needs_root_a_hash_file_keeps_its_owner: [Root];
    needs_root_a_journal_of_another_user_is_refused: [Root];
    needs_root_a_mounted_file_is_written_in_place: [Root];
    needs_root_and_loop_devices_a_loop_device_is_the_file_behind_it: [Root, LoopDevices];
    needs_root_and_no_device_mapper_its_absence_is_one_clear_error: [Root, NoDeviceMapper];
    needs_no_device_mapper_a_wrong_root_hash_is_refused_first: [NoDeviceMapper];
}

/// Something mounted in a sandbox, for as long as this lives.
struct Mount(std::path::PathBuf);

impl Mount {
    fn new(sandbox: &Sandbox, name: &str, arguments: &[&str]) -> Self {
        let path = sandbox.path(name);
        let status = Command::new("mount").args(arguments).arg(&path).status().unwrap();
        assert!(status.success());
        Self(path)
    }

    fn tmpfs(sandbox: &Sandbox, options: &str) -> Self {
        fs::create_dir(sandbox.path("disk")).unwrap();
        Self::new(sandbox, "disk", &["-t", "tmpfs", "-o", options, "tmpfs"])
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        assert!(Command::new("umount").arg(&self.0).status().unwrap().success());
    }
}

fn needs_root_a_full_disk_is_one_clear_error() {
    let sandbox = Sandbox::with_data(1000);
    let disk = Mount::tmpfs(&sandbox, "size=16k");
    sandbox.verity("format data disk/hash").is(
        1,
        "",
        "verity: hash device \"disk/hash\" cannot be written: No space left on device\n\
         hint: the hash area needs 40960 bytes: make room\n",
    );
    assert_eq!(fs::read_dir(&disk.0).unwrap().count(), 0);
    // In place: an old hash area stays what it was, since it is not touched before there is room.
    let (small, _) = Sandbox::formatted(2);
    fs::write(disk.0.join("hash"), small.read("hash")).unwrap();
    fs::hard_link(disk.0.join("hash"), disk.0.join("link")).unwrap();
    assert_eq!(sandbox.verity("format data disk/hash").code, Some(1));
    assert_eq!(fs::read(disk.0.join("hash")).unwrap(), small.read("hash"));
    // A pipe's digests are kept beside the hash device until the tree is made of them. Either they find no room, or the pipe has
    // ended before and the tree does not.
    let run = sandbox.verity_with_input("format - disk/piped", &pattern(1000 * 4096));
    assert_eq!((run.code, run.stdout.as_str()), (Some(1), ""), "{run:?}");
    let hints = ["make room", "the hash area needs 40960 bytes: make room"];
    let told = |hint: &&str| run.stderr.ends_with(&format!(": No space left on device\nhint: {hint}\n"));
    assert!(hints.iter().any(told), "{run:?}");
    assert_eq!(fs::read_dir(&disk.0).unwrap().count(), 2);
}

/// The tree has its room then, and the root hash file has none.
fn needs_root_a_full_disk_for_the_root_hash_leaves_no_tree() {
    let sandbox = Sandbox::with_data(300);
    let disk = Mount::tmpfs(&sandbox, "size=1m");
    fs::write(disk.0.join("fill"), vec![0; (1 << 20) - 20_480]).unwrap();
    sandbox.verity("format data disk/hash --root-hash-file disk/root").is(
        1,
        "",
        "verity: root hash file \"disk/root\" cannot be written: No space left on device\n",
    );
    assert_eq!(fs::read_dir(&disk.0).unwrap().count(), 1);
}

/// Runs `verity` as a user who owns nothing.
fn as_nobody(sandbox: &Sandbox, arguments: &str) -> Run {
    // The program itself may lie where only root can go.
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    let program = folder.path().join("verity");
    // Not copied by this process: another test's child would inherit a file that is open for writing, which cannot be
    // executed.
    assert!(Command::new("cp").arg(env!("CARGO_BIN_EXE_verity")).arg(&program).status().unwrap().success());
    Run::of(sandbox.command(program, arguments).uid(65534).gid(65534))
}

fn needs_root_no_permission_is_exit_code_2() {
    let (sandbox, _) = Sandbox::formatted(16);
    fs::set_permissions(sandbox.path(""), Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(sandbox.path("data"), Permissions::from_mode(0o600)).unwrap();
    sandbox.write("readable", &sandbox.read("data"));
    fs::set_permissions(sandbox.path("readable"), Permissions::from_mode(0o644)).unwrap();
    let before = sandbox.content();
    let user = "hint: check the file's permissions, or run as another user\n";
    let folder = "hint: give a path in a folder that can be written to\n";
    for (arguments, message, hint) in [
        ("format data new", "data device \"data\": Permission denied", user),
        ("format readable new", "hash device \"new\" cannot be created: Permission denied", folder),
        ("format readable hash", "hash device \"hash\" cannot be written: Permission denied", user),
        ("verify readable hash ROOT", "hash device \"hash\": Permission denied", user),
        ("dump hash", "hash device \"hash\": Permission denied", user),
    ] {
        let run = as_nobody(&sandbox, &arguments.replace("ROOT", ROOT_OF_16));
        run.is(2, "", &format!("verity: {message}\n{hint}"));
        assert_eq!(sandbox.content(), before);
    }
}

fn needs_root_a_read_only_disk() {
    let sandbox = Sandbox::with_data(2);
    let disk = Mount::tmpfs(&sandbox, "size=1m");
    assert!(Command::new("mount").args(["-o", "remount,ro"]).arg(&disk.0).status().unwrap().success());
    sandbox.verity("format data disk/hash").is(
        1,
        "",
        "verity: hash device \"disk/hash\" cannot be created: Read-only file system\n\
         hint: give a path in a folder that can be written to\n",
    );
}

fn needs_root_a_hash_file_keeps_its_owner() {
    use std::os::unix::fs::MetadataExt;
    let (sandbox, _) = Sandbox::formatted(2);
    std::os::unix::fs::chown(sandbox.path("hash"), Some(1234), Some(4321)).unwrap();
    sandbox.verity("format data hash").success();
    let metadata = sandbox.path("hash").metadata().unwrap();
    assert_eq!((metadata.uid(), metadata.gid(), metadata.mode() & 0o777), (1234, 4321, 0o600));
}

/// As containers do: no other file can take the place of one that is mounted.
fn needs_root_a_mounted_file_is_written_in_place() {
    let sandbox = Sandbox::with_data(16);
    sandbox.write("outside", b"");
    sandbox.write("in side", b"");
    let outside = sandbox.path("outside");
    let mount = Mount::new(&sandbox, "in side", &["--bind", outside.to_str().unwrap()]);
    let run = Run::of(sandbox.verity_command(&format!("format -q data {FIXED}")).arg("in side"));
    assert_eq!(run.success().trim(), ROOT_OF_16);
    drop(mount);
    sandbox.verity(&format!("verify data outside {ROOT_OF_16}")).is(0, "", "");
}

fn needs_root_and_loop_devices_a_loop_device_is_the_file_behind_it() {
    let sandbox = Sandbox::with_data(16);
    let file = sandbox.path("data");
    let attach = |arguments: &[&str]| {
        let output =
            Command::new("losetup").args(["--find", "--show"]).args(arguments).arg(&file).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let (whole, behind) = (attach(&[]), attach(&["--offset", "65536"]));
    let before = sandbox.content();
    let runs = [
        sandbox.verity(&format!("format data {whole}")),
        sandbox.verity(&format!("format {whole} data")),
        sandbox.verity(&format!("format {whole} data --data-blocks 16 --hash-offset 4096")),
    ];
    for device in [&whole, &behind] {
        assert!(Command::new("losetup").args(["--detach", device]).status().unwrap().success());
    }
    for run in runs {
        assert_eq!(run.code, Some(1), "{run:?}");
        assert!(run.stderr.starts_with("verity: data and hash area overlap"), "{run:?}");
    }
    assert_eq!(sandbox.content(), before);
}

fn needs_root_and_no_device_mapper_its_absence_is_one_clear_error() {
    let (sandbox, _) = Sandbox::formatted(16);
    let before = sandbox.content();
    for command in ["open data name hash ROOT", "close name", "close --deferred name", "status name", "list"]
    {
        let command = command.replace("ROOT", ROOT_OF_16);
        let run = sandbox.verity(&command);
        assert_eq!((run.code, run.stdout.as_str()), (Some(1), ""), "{command}: {run:?}");
        assert!(run.stderr.starts_with("verity: the kernel has no device-mapper"), "{command}: {run:?}");
        let hint =
            "hint: load it with 'modprobe dm_mod'; a container needs /dev/mapper/control from its host\n";
        assert!(run.stderr.ends_with(hint), "{command}: {run:?}");
        assert_eq!(sandbox.verity(&format!("{command} --json")).json()["error"]["exit_code"], 1);
    }
    assert_eq!(sandbox.content(), before);
}

/// The root hash is checked before device-mapper is even looked for.
fn needs_no_device_mapper_a_wrong_root_hash_is_refused_first() {
    let (sandbox, _) = Sandbox::formatted(16);
    let wrong = ROOT_OF_16.replace("05e0", "15e0");
    let run = sandbox.verity(&format!("open data name hash {wrong}"));
    run.is(
        1,
        "",
        &format!(
            "verity: wrong root hash: {wrong} was given, the tree's is {ROOT_OF_16}\n\
             hint: give the root hash that format printed for this very image; if it is that one, the image was \
             replaced\n"
        ),
    );
}

/// Root recovers what a user left for a device of that user, and not what another one put beside it.
fn needs_root_a_journal_of_another_user_is_refused() {
    let (sandbox, _) = Sandbox::formatted(2);
    let (hash, journal) = (sandbox.path("hash"), sandbox.path("hash.verity-journal"));
    let before = sandbox.content();
    std::os::unix::fs::chown(&hash, Some(1001), None).unwrap();
    sandbox.write("hash.verity-journal", b"");
    std::os::unix::fs::chown(&journal, Some(1002), None).unwrap();
    let run = sandbox.verity("recover hash");
    assert_eq!((run.code, run.stdout.as_str()), (Some(2), ""), "{run:?}");
    assert!(run.stderr.contains("belongs to user 1002"), "{run:?}");
    assert!(journal.exists());
    for owner in [1001, 0] {
        sandbox.write("hash.verity-journal", b"");
        std::os::unix::fs::chown(&journal, Some(owner), None).unwrap();
        sandbox.verity("recover hash").is(0, "hash: the change had not begun, and is dropped\n", "");
    }
    assert_eq!(sandbox.content(), before);
}
