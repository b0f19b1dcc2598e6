//! Layers in the dialects of other projects: made, described, checked, and converted from each into each.

mod common;

use common::{Run, Sandbox, pattern};

/// The dialects that can be written without further files.
const WRITTEN: [&str; 8] = ["plain", "containerd", "vhd", "nydus", "kata", "stacker", "systemd", "ddi"];

/// Those whose tree is that of an adopted image: SHA-256 and 32 zero bytes of salt.
const SAME_TREE: [&str; 6] = ["plain", "containerd", "vhd", "stacker", "systemd", "ddi"];

/// Those that say no root hash.
const SILENT: [&str; 2] = ["plain", "vhd"];

/// Bytes that begin like an EROFS image of so many blocks of 4096 bytes, with a hole in the middle.
fn image(blocks: u8) -> Vec<u8> {
    let mut bytes = pattern(usize::from(blocks) * 4096);
    bytes[1024..1028].copy_from_slice(&0xe0f5_e1e2_u32.to_le_bytes());
    bytes[1024 + 12] = 12;
    bytes[1024 + 36..1024 + 40].copy_from_slice(&u32::from(blocks).to_le_bytes());
    let middle = bytes.len() / 2;
    bytes[middle..middle + 8192].fill(0);
    bytes
}

/// With `image`, and `layer` made of it; the root hash, too.
fn adopted() -> (Sandbox, String) {
    let sandbox = Sandbox::new();
    sandbox.write("image", &image(150));
    let root = sandbox.verity("layer adopt --quiet image layer").success().trim().to_owned();
    (sandbox, root)
}

/// What a run printed where the root hash came from a description, which is remarked on.
#[track_caller]
fn with_remark(run: &Run) -> &str {
    assert_eq!(run.code, Some(0), "{run:?}");
    assert!(run.stderr.starts_with("note: the root hash is that of "), "{run:?}");
    &run.stdout
}

#[test]
fn an_adopted_image_is_what_format_makes_of_it() {
    let (sandbox, root) = adopted();
    let inspected = sandbox.verity("layer inspect layer --json").json();
    let uuid = inspected["descriptions"][0]["uuid"].as_str().unwrap();
    sandbox.write("other", &image(150));
    let salt = "00".repeat(32);
    let format = format!(
        "format --quiet other other --data-blocks 150 --hash-offset {} --salt {salt} --uuid {uuid}",
        150 * 4096
    );
    assert_eq!(sandbox.verity(&format).success().trim(), root);
    assert!(sandbox.read("layer") == sandbox.read("other"));
    // The same once more.
    sandbox.verity("layer adopt image again --threads 1").success();
    assert!(sandbox.read("layer") == sandbox.read("again"));
    // A UUID of RFC 9562's version 8, from the root hash.
    assert_eq!((&uuid[..8], &uuid[14..15]), (&root[..8], "8"));
}

#[test]
fn an_image_can_stay_where_it_is() {
    let (sandbox, root) = adopted();
    let beside = sandbox.verity("layer adopt --quiet image image.verity --beside").success();
    assert_eq!(beside.trim(), root);
    sandbox.verity(&format!("verify image image.verity {root}")).success();
    // That is what systemd looks for.
    let inspected = sandbox.verity("layer inspect image --json").json();
    assert_eq!(inspected["descriptions"][0]["dialect"], "systemd");
    sandbox.verity(&format!("layer verify image {root}")).success();
}

#[test]
fn an_adopted_image_can_have_parity() {
    let (sandbox, _) = adopted();
    let made = sandbox.verity("layer adopt image with-parity --fec-roots 4 --json").json();
    let (root, offset) = (made["root_hash"].as_str().unwrap(), &made["fec"]["offset"]);
    let options =
        format!("--hash-offset {} --fec-device with-parity --fec-roots 4 --fec-offset {offset}", 150 * 4096);
    sandbox.verity(&format!("verify with-parity with-parity {root} {options}")).success();
    // The image's own size says where the superblock is, though the tree does not end with the file.
    sandbox.verity(&format!("layer verify with-parity {root}")).success();
    sandbox.flip("with-parity", 5000, 1);
    let run = sandbox.verity(&format!("verify --quiet with-parity with-parity {root} {options}"));
    assert!(run.code == Some(2) && run.stderr.contains("repairable"), "{run:?}");
}

#[test]
fn an_image_that_ends_inside_a_block_is_followed_by_zeros() {
    let sandbox = Sandbox::new();
    let mut bytes = pattern(10_000);
    sandbox.write("short", &bytes);
    bytes.resize(12_288, 0);
    sandbox.write("whole", &bytes);
    let run = sandbox.verity("layer adopt short a");
    assert_eq!(run.stderr, "note: the image ends inside a block of 4096 bytes: 2288 zero bytes follow it\n");
    sandbox.verity("layer adopt whole b").success();
    assert!(sandbox.read("a") == sandbox.read("b"));
    let run = sandbox.verity("layer adopt short c --beside");
    assert!(run.code == Some(1) && run.stderr.contains("no multiple"), "{run:?}");
    assert_eq!(sandbox.names(), ["a", "b", "short", "whole"]);
}

#[test]
fn every_dialect_is_made_of_every_other_and_back() {
    let (sandbox, root) = adopted();
    for from in WRITTEN {
        let first = format!("from-{from}.raw");
        let made = sandbox.verity(&format!("layer convert layer {first} {root} --to {from} --json")).json();
        let first_root = made["root_hash"].as_str().unwrap().to_owned();
        assert_eq!(first_root == root, SAME_TREE.contains(&from), "{from}");
        for to in WRITTEN {
            let second = format!("{from}-{to}.raw");
            let made = format!("layer convert {first} {second} {first_root} --to {to} --json");
            let made = sandbox.verity(&made).json();
            assert_eq!((&made["from"], &made["to"]), (&from.into(), &to.into()), "{made:#}");
            let second_root = made["root_hash"].as_str().unwrap();
            let verified = sandbox.verity(&format!("layer verify {second} {second_root} --json")).json();
            assert_eq!(verified["intact"], true);
            assert_eq!(verified["dialect"], to);
            // Back again, by way of the dialect whose tree is that of the beginning.
            let third = format!("{from}-{to}-back");
            let back = format!("layer convert --quiet {second} {third} {second_root} --to containerd");
            assert_eq!(sandbox.verity(&back).success().trim(), root, "{from} to {to}");
            assert!(sandbox.read(&third) == sandbox.read("layer"), "{from} to {to}");
        }
    }
}

#[test]
fn a_description_s_root_hash_counts_where_none_is_given_and_that_is_told() {
    let (sandbox, root) = adopted();
    for to in WRITTEN {
        let name = format!("{to}.raw");
        sandbox.verity(&format!("layer convert layer {name} {root} --to {to}")).success();
        if SILENT.contains(&to) {
            let run = sandbox.verity(&format!("layer verify {name}"));
            assert!(run.code == Some(1) && run.stderr.contains("the root hash is missing"), "{run:?}");
            continue;
        }
        assert_eq!(with_remark(&sandbox.verity(&format!("layer verify {name}"))), "");
        let verified = sandbox.verity(&format!("layer verify {name} --json")).json();
        assert_eq!((&verified["intact"], &verified["root_hash_from"]), (&true.into(), &"description".into()));
        // One that is given has to be the description's, too.
        let other = "ab".repeat(32);
        let run = sandbox.verity(&format!("layer verify {name} {other}"));
        assert!(run.code == Some(1) && run.stderr.contains("wrong root hash"), "{run:?}");
    }
}

#[test]
fn a_damaged_layer_is_told_and_not_converted() {
    let (sandbox, root) = adopted();
    for to in WRITTEN {
        sandbox.verity(&format!("layer convert layer {to}.raw {root} --to {to}")).success();
    }
    let roots: Vec<String> = WRITTEN
        .iter()
        .map(|to| {
            let claim = sandbox.verity(&format!("layer inspect {to}.raw --json")).json();
            claim["descriptions"][0]["root_hash"].as_str().unwrap_or(&root).to_owned()
        })
        .collect();
    for (to, root) in WRITTEN.iter().zip(roots) {
        let inspected = sandbox.verity(&format!("layer inspect {to}.raw --json")).json();
        let data = usize::try_from(inspected["descriptions"][0]["data_offset"].as_u64().unwrap()).unwrap();
        sandbox.flip(&format!("{to}.raw"), data + 77 * 4096 + 5, 0x10);
        let before = sandbox.names();
        let run = sandbox.verity(&format!("layer verify {to}.raw {root}"));
        assert_eq!(run.code, Some(2), "{to}: {run:?}");
        assert!(run.stdout.starts_with("data block 77 "), "{to}: {run:?}");
        for other in WRITTEN {
            let run = sandbox.verity(&format!("layer convert {to}.raw out.raw {root} --to {other}"));
            assert!(run.code == Some(2) && run.stderr.contains("data block 77"), "{to} to {other}: {run:?}");
            assert_eq!(sandbox.names(), before, "{to} to {other}");
        }
    }
}

#[test]
fn what_is_there_is_not_overwritten() {
    let (sandbox, root) = adopted();
    for (to, beside) in [
        ("plain", "out.raw"),
        ("containerd", "out.raw.dmverity"),
        ("nydus", "out.raw.nydus"),
        ("kata", "out.raw.kata.json"),
        ("stacker", "out.raw.annotations.json"),
        ("systemd", "out.verity"),
        ("systemd", "out.roothash"),
    ] {
        sandbox.write(beside, b"mine");
        let before = sandbox.content();
        let run = sandbox.verity(&format!("layer convert layer out.raw {root} --to {to}"));
        assert!(run.code == Some(5) && run.stderr.contains("exists already"), "{to}: {run:?}");
        assert!(sandbox.content() == before, "{to}");
        std::fs::remove_file(sandbox.path(beside)).unwrap();
    }
    sandbox.write("there", b"mine");
    assert_eq!(sandbox.verity("layer adopt image there").code, Some(5));
    assert_eq!(sandbox.read("there"), b"mine");
}

#[test]
fn two_descriptions_are_shown_and_neither_is_chosen() {
    let (sandbox, root) = adopted();
    sandbox.verity(&format!("layer convert layer l {root} --to containerd")).success();
    sandbox.verity(&format!("layer convert layer m {root} --to stacker")).success();
    std::fs::rename(sandbox.path("m.annotations.json"), sandbox.path("l.annotations.json")).unwrap();
    let inspected = sandbox.verity("layer inspect l --json").json();
    let dialects: Vec<_> =
        inspected["descriptions"].as_array().unwrap().iter().map(|found| found["dialect"].clone()).collect();
    assert_eq!(dialects, ["containerd", "stacker"]);
    let run = sandbox.verity("layer verify l");
    run.is(
        1,
        "",
        "verity: layer \"l\" is described more than once: containerd, stacker\n\
         hint: say with --from which description counts\n",
    );
    with_remark(&sandbox.verity("layer verify l --from stacker"));
    let text = sandbox.verity("layer inspect l").success();
    assert_eq!(text.matches(&root).count(), 2, "{text}");
}

#[test]
fn smaller_blocks_are_padded_where_a_dialect_has_larger_ones() {
    let sandbox = Sandbox::new();
    sandbox.write("image", &pattern(9 * 512));
    let sizes = "--data-block-size 512 --hash-block-size 512";
    let root =
        sandbox.verity(&format!("layer adopt --quiet image layer {sizes}")).success().trim().to_owned();
    let made = sandbox.verity(&format!("layer convert layer l.vhd {root} --to vhd --json")).json();
    assert_eq!((&made["data_blocks"], &made["data_block_size"]), (&2.into(), &4096.into()));
    assert_eq!(made["root_hash_before"], root);
    let data = sandbox.read("l.vhd");
    assert!(data[..9 * 512] == pattern(9 * 512)[..] && data[9 * 512..8192].iter().all(|&byte| byte == 0));
    // containerd and nydus know blocks of 512.
    for to in ["containerd", "nydus"] {
        let made = sandbox.verity(&format!("layer convert layer {to} {root} --to {to} --json")).json();
        assert_eq!(made["data_block_size"], 512, "{to}");
        with_remark(&sandbox.verity(&format!("layer verify {to}")));
    }
}

#[test]
fn a_single_block_has_no_tree_and_every_dialect_has_it() {
    let sandbox = Sandbox::new();
    let mut one = image(20)[..4096].to_vec();
    one[1024 + 36] = 1;
    sandbox.write("image", &one);
    let root = sandbox.verity("layer adopt --quiet image layer").success().trim().to_owned();
    for to in WRITTEN {
        sandbox.verity(&format!("layer convert layer {to}.raw {root} --to {to}")).success();
        let run = sandbox.verity(&format!("layer verify {to}.raw"));
        assert_eq!(run.code, Some(i32::from(SILENT.contains(&to))), "{to}: {run:?}");
    }
}

#[test]
fn options_that_mean_nothing_are_refused() {
    let (sandbox, root) = adopted();
    let before = sandbox.names();
    for (arguments, said) in [
        ("--to vhd --usr", "--usr does not go with --to vhd"),
        ("--to ddi --subject image", "--subject does not go with --to ddi"),
        ("--to plain --root-hash-signature image", "--root-hash-signature does not go with --to plain"),
        ("--to bundle", "cannot be made here"),
        ("--to notation", "--to notation needs --root-hash-signature"),
        ("--to podman", "not a dialect (plain, containerd"),
        ("--to ddi --architecture z80", "not an architecture (x86-64"),
        ("--to ddi --certificate image", "--root-hash-signature"),
        ("--to plain --description image", "--from"),
        ("", "--to <DIALECT> missing"),
    ] {
        let run = sandbox.verity(&format!("layer convert layer out {root} {arguments}"));
        assert!(run.code == Some(1) && run.stderr.contains(said), "{arguments}: {run:?}");
        assert_eq!(sandbox.names(), before, "{arguments}");
    }
    let run = sandbox.verity("layer");
    assert!(run.code == Some(1) && run.stderr.starts_with("verity: layer: no command given\n"), "{run:?}");
    let run = sandbox.verity("layer inspekt layer");
    assert!(run.code == Some(1) && run.stderr.contains("\"inspekt\" is unknown"), "{run:?}");
    let run = sandbox.verity("layer inspect layer --to vhd");
    assert!(
        run.stderr.contains("option --to does not go with layer inspect, only with layer convert"),
        "{run:?}"
    );
}

/// Descriptions of an attacker's, and such as belong to another layer.
#[test]
fn bad_descriptions_are_refused_and_name_the_field() {
    let (sandbox, root) = adopted();
    let offset = 150 * 4096;
    let containerd = |offset: &str, more: &str| {
        (".dmverity", format!(r#"{{"roothash":"{root}","hashoffset":{offset}{more}}}"#))
    };
    let kata = |verity: &str| {
        let volume = r#"{"volume_type":"layer_raw_block","source":"/l","fs_type":"erofs","dm_verity":"#;
        let head = format!(r#"{{"hashtype":"sha256","hash":"{root}","#);
        (".kata.json", format!("{volume}{head}{verity}}}}}"))
    };
    let nydus = |blocks: &str, offset: &str| {
        let head =
            "dm-verity options: --no-superblock --format=1 -s \"\" --hash=sha256 --data-block-size=4096";
        let tail = format!("--hash-block-size=4096 --data-blocks {blocks} --hash-offset {offset} {root}");
        (".nydus", format!("{head} {tail}"))
    };
    for ((suffix, text), said) in [
        (containerd(&offset.to_string(), r#","more":1"#), "more"),
        (containerd("4096", ""), "magic"),
        (containerd("1", ""), "not a multiple of 512"),
        (containerd("18446744073709551104", ""), "ends before"),
        (containerd("9e99", ""), "floating point"),
        ((".dmverity", String::new()), "EOF"),
        ((".dmverity", "[".repeat(100_000)), "no JSON object"),
        ((".dmverity", r#"{"a":"#.repeat(100_000)), "unknown field"),
        ((".dmverity", " ".repeat(9 << 20)), "more than 8388608 bytes"),
        (kata(r#""blocknum":150,"blocksize":4096,"hashsize":4096,"offset":4096"#), "offset"),
        (kata(r#""blocknum":18446744073709551615,"blocksize":4096,"hashsize":4096,"offset":1"#), "offset"),
        (kata(r#""blocknum":1000,"blocksize":4096,"hashsize":4096,"offset":4096000"#), "too short"),
        (kata(r#""blocknum":1,"blocksize":4096,"hashsize":4096,"offset":18446744073709551615"#), "2^63"),
        (nydus("150", "4097"), "not a multiple of 4096"),
        (nydus("151", "614400"), "lies inside the data"),
        (nydus("18446744073709551615", "0"), "2^63"),
        (nydus("150", "9223372036854771712"), "2^63"),
        ((".annotations.json", "{}".to_owned()), "root hash"),
        ((".bundle.json", "{}".to_owned()), "schemaVersion"),
        ((".verity", "short".to_owned()), "ends before"),
    ] {
        let path = format!("layer{suffix}");
        sandbox.write(&path, text.as_bytes());
        for command in ["inspect layer", "verify layer", "convert layer out --to plain"] {
            let run = sandbox.verity(&format!("layer {command}"));
            assert_eq!(run.code, Some(1), "{command}: {suffix} {run:?}");
            assert!(run.stderr.contains(said), "{command}: {said}: {run:?}");
            assert!(run.stderr.len() < 2000 && run.stderr.contains("\nhint: "), "{run:?}");
        }
        std::fs::remove_file(sandbox.path(&path)).unwrap();
    }
    assert_eq!(sandbox.names(), ["image", "layer"]);
}

#[test]
fn disks_that_are_cut_or_changed_are_refused() {
    let (sandbox, root) = adopted();
    sandbox.verity(&format!("layer convert layer disk {root} --to ddi")).success();
    sandbox.verity(&format!("layer convert layer l.vhd {root} --to vhd")).success();
    let disk = sandbox.read("disk");
    for (length, said) in [(1 << 20, "not on the disk"), (600, "no description"), (1100, "not on the disk")] {
        sandbox.write("disk", &disk[..length]);
        let run = sandbox.verity("layer inspect disk");
        assert!(run.code == Some(1) && run.stderr.contains(said), "{length}: {run:?}");
    }
    // With another UUID the root hash is another one.
    let mut other = disk.clone();
    other[1024 + 16] ^= 1;
    sandbox.write("disk", &other);
    assert!(sandbox.verity("layer verify disk").stderr.contains("checksum"));
    let vhd = sandbox.read("l.vhd");
    sandbox.write("l.vhd", &[&vhd[..4096], &vhd[8192..]].concat());
    let run = sandbox.verity("layer inspect l.vhd");
    assert!(run.code == Some(1) && run.stderr.contains("lie before the footer"), "{run:?}");
}

#[test]
fn reports_have_their_fields() {
    let (sandbox, root) = adopted();
    let made = sandbox.verity(&format!("layer convert layer out {root} --to containerd --json")).json();
    assert_eq!(made["command"], "layer convert");
    assert_eq!(made["files"], serde_json::json!(["out", "out.dmverity"]));
    assert_eq!(
        (&made["root_hash"], &made["root_hash_before"]),
        (&root.as_str().into(), &root.as_str().into())
    );
    let inspected = sandbox.verity("layer inspect out --json").json();
    let found = &inspected["descriptions"][0];
    assert_eq!(found["file_system"], "erofs");
    assert_eq!((&found["description"], &found["signed"]), (&"out.dmverity".into(), &false.into()));
    assert_eq!(found["hash_offset"], 150 * 4096);
    let text = sandbox.verity("layer inspect out").success();
    assert!(text.starts_with("Layer out in the dialect containerd.\n"), "{text}");
    assert!(text.ends_with(&format!("Root hash:       \t{root}, says \"out.dmverity\"\n")), "{text}");
    let error = sandbox.verity("layer inspect nothing --json").json();
    assert_eq!(error["error"]["exit_code"], 4);
}
