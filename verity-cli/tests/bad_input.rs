//! Bad input of every kind: one clear error, the documented exit code, inputs untouched, nothing left behind.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use common::{FIXED, ROOT_OF_16, Run, Sandbox};
use verity_core::digest::{BACKEND_VARIABLE, BackendKind};

/// `data` of 16 blocks with its tree in `hash`, and one of each thing that is no device.
fn sandbox() -> Sandbox {
    let (sandbox, _) = Sandbox::formatted(16);
    sandbox.write("empty", b"");
    sandbox.write("short", &sandbox.read("data")[..15 * 4096]);
    sandbox.write("unaligned", &sandbox.read("data")[..15 * 4096 + 100]);
    sandbox.write("truncated", &sandbox.read("hash")[..4096]);
    sandbox.write("cut", &sandbox.read("hash")[..300]);
    fs::create_dir(sandbox.path("folder")).unwrap();
    nix::unistd::mkfifo(&sandbox.path("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    drop(UnixListener::bind(sandbox.path("socket")).unwrap());
    std::os::unix::fs::symlink("nowhere", sandbox.path("dangling")).unwrap();
    std::os::unix::fs::symlink("data", sandbox.path("soft")).unwrap();
    fs::hard_link(sandbox.path("data"), sandbox.path("hard")).unwrap();
    sandbox
}

fn everything(sandbox: &Sandbox) -> BTreeMap<String, Vec<u8>> {
    sandbox.content()
}

/// Each line: arguments, exit code, error, hint (which may be empty).
#[track_caller]
fn check(cases: &[(&str, i32, &str, &str)]) {
    let sandbox = sandbox();
    let before = everything(&sandbox);
    for (arguments, code, message, hint) in cases {
        let arguments = arguments.replace("ROOT", ROOT_OF_16).replace("FIXED", FIXED);
        let hint = if hint.is_empty() { String::new() } else { format!("hint: {hint}\n") };
        let begin = Instant::now();
        let run = sandbox.verity(&arguments);
        assert!(begin.elapsed() < Duration::from_secs(5), "{arguments}");
        assert_eq!(
            (run.code, run.stdout.as_str(), run.stderr.as_str()),
            (Some(*code), "", format!("verity: {message}\n{hint}").as_str()),
            "{arguments}"
        );
        assert_eq!(everything(&sandbox), before, "{arguments}");
    }
}

const PATH: &str = "check the path";
const DEVICE: &str = "give a file or a block device";

#[test]
fn what_is_no_device() {
    let stdin = "give a file or a block device; 'verity format - HASH' reads the data from standard input";
    check(&[
        ("format missing new", 4, "data device \"missing\" does not exist", PATH),
        ("verify missing hash ROOT", 4, "data device \"missing\" does not exist", PATH),
        ("verify data missing ROOT", 4, "hash device \"missing\" does not exist", PATH),
        ("open data name missing ROOT", 4, "hash device \"missing\" does not exist", PATH),
        ("open missing name hash ROOT", 4, "data device \"missing\" does not exist", PATH),
        ("create name data missing ROOT", 4, "hash device \"missing\" does not exist", PATH),
        ("dump missing", 4, "hash device \"missing\" does not exist", PATH),
        ("dump data/hash", 4, "hash device \"data/hash\": Not a directory", PATH),
        ("format dangling new", 4, "data device \"dangling\" does not exist", PATH),
        ("format data dangling", 4, "hash device \"dangling\" does not exist", PATH),
        ("format folder new", 4, "data device \"folder\" is a directory", DEVICE),
        ("format data folder", 4, "hash device \"folder\" is a directory", DEVICE),
        ("verify folder hash ROOT", 4, "data device \"folder\" is a directory", DEVICE),
        ("dump folder", 4, "hash device \"folder\" is a directory", DEVICE),
        ("format pipe new", 4, "data device \"pipe\" is a pipe", stdin),
        ("format data pipe", 4, "hash device \"pipe\" is a pipe", DEVICE),
        ("dump pipe", 4, "hash device \"pipe\" is a pipe", DEVICE),
        ("open data name pipe ROOT", 4, "hash device \"pipe\" is a pipe", DEVICE),
        ("format socket new", 4, "data device \"socket\" is a socket", DEVICE),
        ("format data socket", 4, "hash device \"socket\" is a socket", DEVICE),
        ("format /dev/zero new", 4, "data device \"/dev/zero\" is a character device", DEVICE),
        ("format data /dev/null", 4, "hash device \"/dev/null\" is a character device", DEVICE),
        (
            "format data missing/new",
            1,
            "hash device \"missing/new\" cannot be created: No such file or directory",
            "give a path in a folder that can be written to",
        ),
        (
            "format data new --root-hash-file missing/root",
            1,
            "root hash file \"missing/root\": No such file or directory",
            "give a path in a folder that can be written to",
        ),
        (
            "format data new --root-hash-file folder",
            1,
            "root hash file \"folder\": Is a directory",
            "give a path in a folder that can be written to",
        ),
        (
            "format data new --root-hash-file pipe",
            1,
            "root hash file \"pipe\": No such device or address",
            "give a path in a folder that can be written to",
        ),
        (
            "verify data hash --root-hash-file missing",
            1,
            "root hash file \"missing\" cannot be read: No such file or directory",
            "check the path, or give the root hash as an argument",
        ),
    ]);
}

#[test]
fn sizes_that_do_not_fit() {
    let block = "a tree covers at least one whole block";
    let truncated = "the file is truncated, or data and hash device do not belong together";
    let superblock = "check the order of the arguments and --hash-offset; a tree without a superblock needs --no-superblock";
    check(&[
        ("format empty new", 1, "data device \"empty\" is too small: 0 bytes, a block has 4096", block),
        ("format cut new", 1, "data device \"cut\" is too small: 300 bytes, a block has 4096", block),
        (
            "format unaligned new",
            1,
            "data device \"unaligned\": 61540 bytes are no multiple of the block size 4096",
            "pad the file to whole blocks, or cover only the whole ones with --data-blocks=15",
        ),
        (
            "format data new --data-blocks 17",
            1,
            "--data-blocks 17: data device \"data\" has 16 blocks of 4096 bytes",
            "",
        ),
        ("verify short hash ROOT", 1, "data device \"short\" is too short: 61440 bytes of 65536", truncated),
        ("verify empty hash ROOT", 1, "data device \"empty\" is too short: 0 bytes of 65536", truncated),
        (
            "verify data truncated ROOT",
            1,
            "hash device \"truncated\" is too short: 4096 bytes of 8192",
            truncated,
        ),
        (
            "open short name hash ROOT",
            1,
            "data device \"short\" is too short: 61440 bytes of 65536",
            truncated,
        ),
        (
            "dump cut",
            1,
            "hash device \"cut\": superblock has 300 of 512 bytes: the file ends in it",
            superblock,
        ),
        (
            "dump empty",
            1,
            "hash device \"empty\": superblock has 0 of 512 bytes: the file ends in it",
            superblock,
        ),
        (
            "verify hash data ROOT",
            1,
            "hash device \"data\": no verity superblock here: the magic bytes are missing",
            superblock,
        ),
        (
            "dump hash --hash-offset 1048576",
            1,
            "hash device \"hash\": superblock has 0 of 512 bytes: the file ends in it",
            superblock,
        ),
    ]);
}

#[test]
fn areas_that_overlap() {
    let hint = "give a --hash-offset behind the data and --data-blocks, or another file for the hash area";
    let at = |start: u64, end: u64| {
        format!(
            "data and hash area overlap: both lie in the same file, the data in its first 65536 bytes and the hash \
             area in bytes {start} to {end} of the hash device"
        )
    };
    let (first, second, third, bare) = (at(0, 8191), at(61440, 69631), at(65024, 69631), at(61440, 65535));
    check(&[
        ("format data data", 1, &first, hint),
        ("format data ./data", 1, &first, hint),
        ("format data soft", 1, &first, hint),
        ("format data hard", 1, &first, hint),
        ("format hard soft --data-blocks 16", 1, &first, hint),
        ("format data data --hash-offset 61440", 1, &second, hint),
        ("format data data --hash-offset 65024 --data-blocks 16", 1, &third, hint),
        ("format data data --hash-offset 61440 --no-superblock", 1, &bare, hint),
    ]);
}

#[test]
fn offsets_that_are_not_aligned() {
    let hint = "give another --hash-offset";
    check(&[
        ("format data new --hash-offset 100", 1, "hash offset 100 is not a multiple of 512", hint),
        ("dump hash --hash-offset 511", 1, "hash offset 511 is not a multiple of 512", hint),
        ("verify data hash ROOT --hash-offset 1", 1, "hash offset 1 is not a multiple of 512", hint),
        (
            "format data new --no-superblock --hash-offset 512",
            1,
            "hash offset 512 is not a multiple of 4096",
            hint,
        ),
        (
            "format data data --no-superblock --hash-offset 66048 --data-blocks 16",
            1,
            "hash offset 66048 is not a multiple of 4096",
            hint,
        ),
    ]);
}

#[test]
fn root_hashes_that_are_none() {
    let hint = "give the root hash as format printed it";
    check(&[
        (
            "verify data hash",
            1,
            "the root hash is missing",
            "give it as the last argument, or --root-hash-file PATH",
        ),
        (
            "open data name hash",
            1,
            "the root hash is missing",
            "give it as the last argument, or --root-hash-file PATH",
        ),
        ("verify data hash zz", 1, "root hash is not hexadecimal: Invalid character 'z' at position 0", hint),
        ("verify data hash 00ff", 1, "root hash of 4 digits is no sha256 digest, which has 64 digits", hint),
        (
            "verify data hash ROOT00",
            1,
            "root hash of 66 digits is no sha256 digest, which has 64 digits",
            hint,
        ),
        (
            "verify data hash ROOT0",
            1,
            "root hash of 65 digits is no sha256 digest, which has 64 digits",
            hint,
        ),
        (
            "verify data hash 0xROOT",
            1,
            "root hash is not hexadecimal: Invalid character 'x' at position 1",
            hint,
        ),
        (
            "open data name hash 00ff",
            1,
            "root hash of 4 digits is no sha256 digest, which has 64 digits",
            hint,
        ),
    ]);
}

#[test]
fn values_that_are_none() {
    let help = "'verity help format' lists the arguments and options";
    let long = format!("format data new --salt {}", "ab".repeat(257));
    let long_message = format!(
        "--salt \"{}\": salt of 257 bytes is too long (at most 256 bytes, 512 hexadecimal digits)",
        "ab".repeat(257)
    );
    let algorithms = "sha256, sha224, sha384, sha512, sha3-224, sha3-256, sha3-384, sha3-512, blake2b-512, \
                      blake2s-256, sm3, whirlpool, ripemd160, sha1, md5";
    let unknown = format!("--hash \"sha0\": hash algorithm \"sha0\" is unknown (known: {algorithms})");
    let number = |option: &str, value: &str| {
        format!("{option} \"{value}\": not a number (decimal digits only, no sign, no unit)")
    };
    let size = |value: &str| format!("--data-block-size \"{value}\": not a power of two from 512 to 524288");
    check(&[
        (&long, 1, &long_message, help),
        (
            "format data new --salt abc",
            1,
            "--salt \"abc\": salt is not hexadecimal: Odd number of digits",
            help,
        ),
        (
            "format data new --salt 0g",
            1,
            "--salt \"0g\": salt is not hexadecimal: Invalid character 'g' at position 1",
            help,
        ),
        ("format data new --hash sha0", 1, &unknown, help),
        (
            "format data new --uuid foo",
            1,
            "--uuid \"foo\": not a UUID (like 01234567-89ab-cdef-0123-456789abcdef)",
            help,
        ),
        ("format data new --data-blocks=-1", 1, &number("--data-blocks", "-1"), help),
        ("format data new --data-blocks -1", 1, &number("--data-blocks", "-1"), help),
        ("format data new --data-blocks 4k", 1, &number("--data-blocks", "4k"), help),
        ("format data new --hash-offset=-512", 1, &number("--hash-offset", "-512"), help),
        (
            "format data new --data-blocks 18446744073709551616",
            1,
            "--data-blocks \"18446744073709551616\": too large (at most 18446744073709551615)",
            help,
        ),
        (
            "format data new --data-blocks 18446744073709551615",
            1,
            "the tree would pass 2^63 bytes: data blocks or hash offset is too large",
            "check --data-blocks and --hash-offset; what a superblock says of them may be corrupted",
        ),
        (
            "format data new --hash-offset 18446744073709551104",
            1,
            "the tree would pass 2^63 bytes: data blocks or hash offset is too large",
            "check --data-blocks and --hash-offset; what a superblock says of them may be corrupted",
        ),
        ("format data new --data-block-size 1000", 1, &size("1000"), help),
        ("format data new --data-block-size 256", 1, &size("256"), help),
        ("format data new --data-block-size 1048576", 1, &size("1048576"), help),
        ("format data new --data-block-size 4294971392", 1, &size("4294971392"), help),
        ("format data new --data-block-size 0", 1, &size("0"), help),
        (
            "format data new --format 2",
            1,
            "--format \"2\": not a hash type (1 is the normal one, 0 Chrome OS's)",
            help,
        ),
        ("format data new --threads 0", 1, "--threads \"0\": not from 1 to 1024", help),
        ("format data new --threads 10000", 1, "--threads \"10000\": not from 1 to 1024", help),
        ("format data new --threads 1025", 1, "--threads \"1025\": not from 1 to 1024", help),
        (
            "format data new --no-superblock --uuid 01234567-89ab-cdef-0123-456789abcdef",
            1,
            "--uuid: without a superblock a UUID is stored nowhere",
            "leave out --uuid or --no-superblock",
        ),
        (
            "open data name hash ROOT --error-as-corruption",
            1,
            "--error-as-corruption goes only with --restart-on-corruption or --panic-on-corruption",
            "add one of them",
        ),
        ("open data a/b hash ROOT", 1, "the device name contains '/'", "give another name"),
        (
            &format!("open data {} hash ROOT", "n".repeat(128)),
            1,
            "the device name takes 128 bytes, at most 127 are possible (each character that is not a letter, a digit \
             or one of #+-.:=@_ takes four)",
            "give another name",
        ),
    ]);
}

/// A backend that this processor lacks, or that there is not, is an error before anything is opened; each other one makes the same tree.
#[test]
fn a_backend_that_cannot_be_had_is_refused() {
    let sandbox = sandbox();
    let before = everything(&sandbox);
    let forced = |backend: &str, arguments: &str| {
        Run::of(sandbox.verity_command(arguments).env(BACKEND_VARIABLE, backend))
    };
    let hint = "unset VERITY_DIGEST_BACKEND; 'verity benchmark' lists the backends of this machine";
    for backend in BackendKind::ALL {
        let verified = forced(backend.name(), &format!("verify data hash {ROOT_OF_16}"));
        if backend.is_available() {
            verified.is(0, "", "");
            continue;
        }
        let message = format!("digest backend {backend} needs instructions that this processor lacks");
        let error = format!("verity: {BACKEND_VARIABLE}: {message}\nhint: {hint}\n");
        verified.is(1, "", &error);
        forced(backend.name(), "format data new").is(1, "", &error);
    }
    for backend in ["", "AVX2", "avx1024"] {
        let message =
            format!("digest backend {backend:?} is unknown (known: avx512, sha-ni, avx2, portable)");
        forced(backend, "format data new").is(
            1,
            "",
            &format!("verity: {BACKEND_VARIABLE}: {message}\nhint: {hint}\n"),
        );
    }
    assert_eq!(everything(&sandbox), before);
}

/// What `format` is told wrongly, it finds out before it opens anything.
#[test]
fn a_superblock_that_covers_nothing_is_refused() {
    let sandbox = sandbox();
    let mut bytes = sandbox.read("hash");
    bytes[72..80].fill(0);
    sandbox.write("hash", &bytes);
    let message = "verity: hash device \"hash\": superblock: data blocks is 0; a tree covers at least one block\n\
                   hint: the superblock is corrupted\n";
    for arguments in ["dump hash", "verify data hash ROOT", "open data name hash ROOT"] {
        sandbox.verity(&arguments.replace("ROOT", ROOT_OF_16)).is(1, "", message);
    }
}

/// Superblocks that claim more than there can be do not cost memory or time, and nothing is multiplied in silence.
#[test]
fn a_superblock_that_claims_too_much_is_refused() {
    let sandbox = sandbox();
    for (blocks, message) in [
        (u64::MAX, "the tree would pass 2^63 bytes: data blocks or hash offset is too large"),
        (1 << 52, "the tree would pass 2^63 bytes: data blocks or hash offset is too large"),
        (1 << 50, "data device \"data\" is too short: 65536 bytes of 4611686018427387904"),
        (17, "data device \"data\" is too short: 65536 bytes of 69632"),
    ] {
        let mut bytes = sandbox.read("hash");
        bytes[72..80].copy_from_slice(&u64::to_le_bytes(blocks));
        sandbox.write("hash", &bytes);
        let run = sandbox.verity(&format!("verify data hash {ROOT_OF_16}"));
        assert_eq!(
            (run.code, run.stderr.lines().next()),
            (Some(1), Some(format!("verity: {message}").as_str()))
        );
    }
}
