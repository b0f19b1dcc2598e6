//! Each failure of the layer commands says what to do, and exactly that.

mod common;
#[path = "../../verity-core/tests/common/raw_tar.rs"]
#[allow(dead_code)] // Each test program uses a part of this.
mod raw_tar;

use common::layers::adopted;
use common::{Run, Sandbox, pattern};
use raw_tar::RawTar;

/// What a run that fails says: a message with these words, and this hint.
#[track_caller]
fn told(run: &Run, code: i32, said: &str, hint: &str) {
    assert_eq!((run.code, run.stdout.as_str()), (Some(code), ""), "{run:?}");
    let mut lines = run.stderr.lines().filter(|line| !line.starts_with("note: "));
    let message = lines.next().unwrap_or_default();
    assert!(message.starts_with("verity: ") && message.contains(said), "{said:?}: {run:?}");
    assert_eq!(lines.next(), Some(format!("hint: {hint}").as_str()), "{run:?}");
    assert_eq!(lines.next(), None, "{run:?}");
}

/// A sparse file of that size, whose data are its last byte but one hole behind.
fn sparse(size: u64, at: u64) -> Vec<u8> {
    RawTar::default()
        .pax(&[
            ("GNU.sparse.map", format!("{at},1").as_bytes()),
            ("GNU.sparse.size", size.to_string().as_bytes()),
        ])
        .file("sparse", b"x")
        .end()
}

const FETCH: &str = "the file is damaged or truncated: fetch it anew";
const NO_END: &str = "fetch it anew; if it is whole, say what its digest is with --diff-id or --digest";
const MISLEAD: &str = "the layer is damaged, or made to mislead; build its image anew";
const CONTENT: &str = "if the layer is to be trusted, allow more with --max-ratio or --max-bytes";
const NAMES: &str =
    "if the layer is to be trusted, allow more with --max-entries or --max-memory; or split it";
const OTHER: &str = "do not use this layer; fetch it anew, and check that the digest is this layer's";
const THROUGH: &str =
    "if that is a symbolic link, write the file under the link's target when the layer is made";
const ELSEWHERE: &str = "links to files of other layers cannot be kept: squash the layers, or copy the file";
const DECOMPRESS: &str = "decompress it, and give the tar as '-'";

#[test]
fn what_a_build_refuses_it_says_what_to_do_about() {
    let zeros = format!("sha256:{}", "0".repeat(64));
    let plain = RawTar::default().file("a", b"x").file("b", b"y");
    let tar = || plain.clone().end();
    let unfinished = plain.0.clone();
    let mut gzip = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
    gzip.extend([0xff; 100]);
    let zstd = [&[0x28, 0xb5, 0x2f, 0xfd][..], &[0xff; 100]].concat();
    let xz = [&[0xfd, b'7', b'z', b'X', b'Z', 0][..], &[0; 600]].concat();
    let mut wrong_sum = tar();
    wrong_sum[0] ^= 1;
    let through = RawTar::default().link("a", "/etc", b'2').file("a/passwd", b"x").end();
    let hard_link = RawTar::default().link("a", "elsewhere", b'1').end();
    let device = RawTar::default().raw(&raw_tar::RawHeader::new(b"a", b'3', 0), b"").end();
    let huge = sparse(1 << 60, (1 << 60) - (1 << 21));
    let long = RawTar::default().file(&"n".repeat(90), b"").end();
    let parents = RawTar::default().file("a/b/c/d", b"").end();
    for (layer, options, code, said, hint) in [
        (tar(), format!("--diff-id {zeros}"), 2, "the layer's diffID is sha256:", OTHER),
        (tar(), format!("--digest {zeros}"), 2, "the layer's digest is sha256:", OTHER),
        (gzip, String::new(), 1, "gzip data are damaged", FETCH),
        (zstd, String::new(), 1, "zstd data are damaged", FETCH),
        (xz, String::new(), 1, "is compressed with", DECOMPRESS),
        (sparse(2 << 30, 0), String::new(), 1, "2147483647 bytes of content", CONTENT),
        (unfinished, String::new(), 1, "end marker", NO_END),
        (tar(), "--max-entries 1".to_owned(), 1, "more than 1 entries", NAMES),
        (parents, "--max-entries 3".to_owned(), 1, "more than", NAMES),
        (long, "--max-memory 80".to_owned(), 1, "more than 80 bytes", NAMES),
        (through, String::new(), 1, "\"a\" is no directory", THROUGH),
        (huge, format!("--block-size 512 --max-bytes {}", 1_u64 << 61), 1, "512", "use --block-size 4096"),
        (wrong_sum, String::new(), 1, "no tar", MISLEAD),
        (device, String::new(), 1, "a character device 0/0", MISLEAD),
        (hard_link, String::new(), 1, "which is not there", ELSEWHERE),
    ] {
        let sandbox = Sandbox::new();
        sandbox.write("layer.tar", &layer);
        let run = sandbox.verity(&format!("layer build layer.tar out {options}"));
        told(&run, code, said, hint);
        assert!(run.stderr.starts_with("verity: layer \"layer.tar\": "), "{run:?}");
        assert_eq!(sandbox.names(), ["layer.tar"], "{said}");
    }
}

/// 8 units of 1024 bytes: less than any layer has.
#[test]
fn full_disks_are_told_by_every_command_that_writes() {
    let (sandbox, root) = adopted();
    sandbox.write("layer.tar", &RawTar::default().file("a", &pattern(200_000)).end());
    let built = sandbox.verity("layer build --quiet layer.tar built").success();
    let before = sandbox.names();
    for (arguments, hint) in [
        ("build layer.tar out".to_owned(), "make room"),
        (format!("extract built {} out", built.trim()), "make room"),
        (format!("extract built {} out --file a", built.trim()), "make room"),
        ("adopt image out".to_owned(), "it needs up to 630784 bytes: make room"),
        (format!("convert layer out {root} --to plain"), "it needs up to 630784 bytes: make room"),
    ] {
        let script = format!("ulimit -f 8; exec \"$0\" layer {arguments}");
        let mut command = sandbox.command("bash", "");
        let run = Run::of(command.args(["-c", &script, env!("CARGO_BIN_EXE_verity")]));
        told(&run, 1, "output \"out\" cannot be written: File too large", hint);
        assert_eq!(sandbox.names(), before, "{arguments}");
    }
}

/// What openssl made of "0123" with an elliptic key.
const SIGNED: &str = concat!(
    "3081b106092a864886f70d010702a081a33081a0020101310f300d06096086480165030402010500300b06092a864886",
    "f70d010701317d307b0201013011300c310a300806035504030c0174020101300d06096086480165030402010500300a",
    "06082a8648ce3d04030204483046022100c431e6ab03c8e5bc3bbedad81389739c6f6d1afb5f993acc403701882aade3",
    "5b022100a1c12708cc0518e20da24c1a17fb464d601a96acb8bc1d0819c032f931c89d85",
);

const DESCRIPTION: &str =
    "it is damaged, or of another dialect: say which with --from; docs/dialects.md shows each";

#[test]
fn what_the_dialect_commands_refuse_they_say_what_to_do_about() {
    let (sandbox, root) = adopted();
    let signature: Vec<u8> =
        (0..SIGNED.len()).step_by(2).map(|at| u8::from_str_radix(&SIGNED[at..at + 2], 16).unwrap()).collect();
    sandbox.write("p7s", &signature);
    sandbox.write("noise", &pattern(100_000));
    let digest = format!("sha256:{}", "5".repeat(64));
    sandbox
        .write("manifest", format!(r#"{{"schemaVersion":2,"layers":[{{"digest":"{digest}"}}]}}"#).as_bytes());
    sandbox.write("text", b"{}");
    std::fs::create_dir(sandbox.path("folder")).unwrap();
    for (from, to) in [("layer", "short"), ("layer", "bad")] {
        std::fs::copy(sandbox.path(from), sandbox.path(to)).unwrap();
    }
    let layer = sandbox.read("layer");
    sandbox.write("short", &layer[..layer.len() - 4096]);
    sandbox.flip("bad", 5000, 1);
    let before = sandbox.names();
    let convert = |rest: &str| format!("convert layer out {root} {rest}");
    let needs = "--root-hash-signature p7s";
    for (arguments, code, said, hint) in [
        (
            "verify layer".to_owned(),
            1,
            "the root hash is missing",
            "give it as the last argument, or --root-hash-file PATH",
        ),
        (
            "inspect noise".to_owned(),
            1,
            "no description, and no superblock behind an image",
            "give --hash-offset, or --from and --description; 'verity layer adopt' makes a layer of an image",
        ),
        (
            "inspect layer --hash-offset 512".to_owned(),
            1,
            "at byte 512",
            "the layer is damaged, or the description is another layer's",
        ),
        (
            format!("verify short {root} --hash-offset 614400"),
            1,
            "is too short",
            "the file is truncated, or the description is another layer's",
        ),
        (
            "inspect layer --from stacker --description missing".to_owned(),
            4,
            "description \"missing\" cannot be read",
            "check the path",
        ),
        (
            "inspect layer --from stacker --description folder".to_owned(),
            4,
            "is not a regular file",
            "give the file that describes the layer",
        ),
        ("inspect layer --from stacker --description text".to_owned(), 1, "root hash", DESCRIPTION),
        (
            "inspect layer --from vhd --description text".to_owned(),
            1,
            "vhd has no file of its own",
            "leave it out, or give another --from",
        ),
        (
            convert("--to bundle"),
            1,
            "--to bundle: such a layer cannot be made here",
            "its EROFS metadata are made by 'mkfs.erofs --tar=i'; it can be read with --from",
        ),
        (
            convert(&format!("--to notation --layer-digest {digest} --subject manifest")),
            1,
            "--to notation needs --root-hash-signature",
            "give the signature in DER",
        ),
        (
            convert(&format!("--to notation {needs} --subject manifest")),
            1,
            "--to notation needs --layer-digest",
            "give the digest of the image's own layer",
        ),
        (
            convert(&format!("--to notation {needs} --layer-digest {digest}")),
            1,
            "--to notation needs --subject",
            "give the image's manifest",
        ),
        (
            convert(&format!("--to notation {needs} --layer-digest {digest} --subject text")),
            1,
            "--subject \"text\": image manifest: missing field `schemaVersion`",
            "give the manifest of the image, byte for byte",
        ),
        (
            convert(&format!(
                "--to notation {needs} --layer-digest sha256:{} --subject manifest",
                "6".repeat(64)
            )),
            1,
            "none of its 1 layers is",
            "--layer-digest takes the digest of a layer of the image, as its manifest has it",
        ),
        (convert("--to vhd --usr"), 1, "--usr does not go with --to vhd", "it goes with ddi"),
        (
            convert(&format!("--to ddi {needs} --certificate noise")),
            1,
            "certificate \"noise\"",
            "give it as PEM or DER",
        ),
        (
            format!("convert bad out {root} --to vhd"),
            2,
            "data block 1 ",
            "do not use this layer; fetch or build it anew",
        ),
        (
            "adopt image out --fec-roots 2 --hash-block-size 1024".to_owned(),
            1,
            "block",
            "leave out --fec-roots, or give both block sizes the same value",
        ),
    ] {
        told(&sandbox.verity(&format!("layer {arguments}")), code, said, hint);
        assert_eq!(sandbox.names(), before, "{arguments}");
    }
    // What the description says, and what it is.
    sandbox.verity(&format!("layer convert --quiet layer l {root} --to containerd")).success();
    told(
        &sandbox.verity(&format!("layer verify l {}", "ab".repeat(32))),
        1,
        "wrong root hash",
        "the description or the layer was replaced, or belongs to another; use neither",
    );
    sandbox.verity(&format!("layer convert --quiet layer sha512 {root} --to plain")).success();
    sandbox.verity("layer adopt --quiet image other --hash sha512").success();
    let other = sandbox.verity("layer adopt --quiet image again --hash sha512").success();
    told(
        &sandbox.verity(&format!("layer convert other out {} --to ddi {needs}", other.trim())),
        1,
        "--root-hash-signature: --to ddi needs another tree",
        "convert without it, and sign the new root hash",
    );
    sandbox.write("noise.erofs", &pattern(16 * 4096));
    let noise = sandbox.verity("layer adopt --quiet noise.erofs noise.layer").success();
    told(
        &sandbox.verity(&format!("layer convert noise.layer out {} --to kata", noise.trim())),
        1,
        "a volume names its file system",
        "known are EROFS, ext4 and squashfs; choose another dialect with --to",
    );
}
