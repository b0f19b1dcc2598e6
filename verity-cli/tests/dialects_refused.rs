//! Layers that are damaged, and descriptions and options that cannot be meant.

mod common;

use common::Sandbox;
use common::layers::{WRITTEN, adopted, image, with_remark};
use verity_core::algorithm::Algorithm;
use verity_core::block::RootHash;
use verity_core::dialect::notary::{Descriptor, Layer, Parts, Referrer, Schema};

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

/// The number of data blocks is not in the root hash: only the digests that are left over tell of it.
#[test]
fn a_shortened_image_is_not_converted() {
    let sandbox = Sandbox::new();
    sandbox.write("image", &image(100));
    let root = sandbox.verity("layer adopt --quiet image layer").success().trim().to_owned();
    let mut bytes = sandbox.read("layer");
    let field = 100 * 4096 + 72;
    assert_eq!(bytes[field..field + 8], 100_u64.to_le_bytes());
    bytes[field..field + 8].copy_from_slice(&10_u64.to_le_bytes());
    sandbox.write("layer", &bytes);
    let before = sandbox.names();
    for to in WRITTEN {
        let run = sandbox.verity(&format!("layer convert layer out.raw {root} --to {to}"));
        run.is(
            2,
            "",
            "verity: layer \"layer\": hash level 0 block 0 (bytes 413696 to 417791) has a byte other than zero at 320, where no digest lies\n\
             hint: its number of data blocks was changed, or something is hidden there: do not use this layer\n",
        );
        assert_eq!(sandbox.names(), before, "{to}");
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
fn options_for_another_dialect_s_description_are_refused() {
    let (sandbox, root) = adopted();
    for to in WRITTEN {
        let name = format!("{to}.raw");
        sandbox.verity(&format!("layer convert layer {name} {root} --to {to}")).success();
        let claim = sandbox.verity(&format!("layer inspect {name} --json")).json();
        let root = claim["descriptions"][0]["root_hash"].as_str().unwrap_or(&root).to_owned();
        let before = sandbox.names();
        for command in [
            format!("inspect {name}"),
            format!("verify {name} {root}"),
            format!("convert {name} out {root} --to vhd"),
        ] {
            let run = sandbox.verity(&format!("layer {command} --layer-digest sha256:{root}"));
            assert!(run.code == Some(1) && run.stderr.contains("--layer-digest: "), "{run:?}");
            let run = sandbox.verity(&format!("layer {command} --hash-offset {}", 150 * 4096));
            let needed = ["plain", "vhd", "stacker"].contains(&to);
            assert_eq!(run.code == Some(0), needed, "{run:?}");
            assert!(needed || run.stderr.contains(&format!("--hash-offset: {to} says itself")), "{run:?}");
            if sandbox.names() != before {
                std::fs::remove_file(sandbox.path("out")).unwrap();
            }
        }
    }
}

/// Two schemas, each with a name of its own.
#[test]
fn a_manifest_is_read_as_what_it_is() {
    let (sandbox, root) = adopted();
    let digest = format!("sha256:{}", "5".repeat(64));
    for (schema, name, other) in
        [(Schema::Notation, "notation", "bundle"), (Schema::Bundle, "bundle", "notation")]
    {
        let metadata = Descriptor::metadata(&digest, 10).unwrap();
        let parts = Parts { metadata, tree: Descriptor::tree(&digest, 4096).unwrap() };
        let layer = Layer {
            digest: digest.clone(),
            root: RootHash::from_hex(Algorithm::Sha256, &root).unwrap(),
            signature: Descriptor::new(schema.signature_type(), &digest, 100).unwrap(),
            parts: (schema == Schema::Bundle).then_some(parts),
        };
        let subject = Descriptor::subject(&digest, 1000).unwrap();
        let text = Referrer { schema, subject, layers: vec![layer] }.encode().unwrap();
        sandbox.write("manifest", text.as_bytes());
        let verify = |from| {
            sandbox.verity(&format!(
                "layer verify layer --from {from} --description manifest --layer-digest {digest}"
            ))
        };
        assert_eq!(with_remark(&verify(name)), "");
        verify(other).is(
            1,
            "",
            &format!(
                "verity: description \"manifest\": it is a {name} manifest\n\
                 hint: give --from {name} and --description \"manifest\"\n"
            ),
        );
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

#[test]
fn a_layer_is_called_a_layer() {
    let (sandbox, root) = adopted();
    sandbox.write("layer.verity-journal", b"");
    std::fs::create_dir(sandbox.path("folder")).unwrap();
    for command in
        [format!("verify {{}} {root}"), "inspect {}".to_owned(), format!("convert {{}} out {root} --to vhd")]
    {
        let run = |layer| sandbox.verity(&format!("layer {}", command.replace("{}", layer)));
        run("missing").is(4, "", "verity: layer \"missing\" does not exist\nhint: check the path\n");
        run("folder").is(
            4,
            "",
            "verity: layer \"folder\" is a directory\nhint: give a file or a block device\n",
        );
        let unfinished = run("layer");
        assert!(unfinished.code == Some(5), "{unfinished:?}");
        assert!(
            unfinished.stderr.starts_with("verity: layer \"layer\": a change in place was cut off"),
            "{unfinished:?}"
        );
    }
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
