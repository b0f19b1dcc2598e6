//! Layers in the dialects of other projects: made, described, checked, and converted from each into each.

mod common;

use common::layers::{WRITTEN, adopted, image, with_remark};
use common::{Sandbox, pattern};

/// Those whose tree is that of an adopted image: SHA-256 and 32 zero bytes of salt.
const SAME_TREE: [&str; 6] = ["plain", "containerd", "vhd", "stacker", "systemd", "ddi"];

/// Those that say no root hash.
const SILENT: [&str; 2] = ["plain", "vhd"];

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
fn parity_is_made_anew_or_left_out_as_it_is_said() {
    let (sandbox, root) = adopted();
    sandbox.verity("layer adopt --quiet image with-parity --fec-roots 4").success();
    let before = sandbox.names();
    for to in WRITTEN {
        let convert = format!("layer convert with-parity {to}.raw {root} --to {to}");
        let carried = ["plain", "containerd", "stacker"].contains(&to);
        let run = sandbox.verity(&convert);
        assert!(run.code == Some(1) && run.stderr.contains("goes on behind its tree: parity"), "{run:?}");
        assert!(
            run.stderr.contains("--without-parity") && run.stderr.contains("--fec-roots") == carried,
            "{run:?}"
        );
        let run = sandbox.verity(&format!("{convert} --fec-roots 2 --without-parity"));
        assert_eq!(run.code, Some(1), "{run:?}");
        assert_eq!(sandbox.names(), before, "{to}");
        let run = sandbox.verity(&format!("{convert} --fec-roots 2 --json"));
        if carried {
            let made = run.json();
            let (end, offset) = (&made["hash_area_end"], &made["fec"]["offset"]);
            assert_eq!((end, &made["fec"]["roots"]), (offset, &2.into()), "{made:#}");
            let root = made["root_hash"].as_str().unwrap();
            let fec = format!("--fec-device {to}.raw --fec-roots 2 --fec-offset {offset}");
            sandbox.flip(&format!("{to}.raw"), 5000, 1);
            let verify = format!(
                "verify --quiet {to}.raw {to}.raw {root} --hash-offset {} {fec}",
                made["hash_offset"]
            );
            let run = sandbox.verity(&verify);
            assert!(run.code == Some(2) && run.stderr.contains("repairable"), "{run:?}");
        } else {
            assert_eq!(run.code, Some(1), "{run:?}");
            assert!(run.stderr.contains(&format!("--fec-roots does not go with --to {to}")), "{run:?}");
        }
        // Left out, it is the layer that was made without.
        sandbox.verity(&format!("layer convert --quiet layer {to}-bare {root} --to {to}")).success();
        sandbox
            .verity(&format!("layer convert --quiet with-parity {to}-out {root} --to {to} --without-parity"))
            .success();
        assert!(sandbox.read(&format!("{to}-out")) == sandbox.read(&format!("{to}-bare")), "{to}");
        for name in sandbox.names().iter().filter(|name| !before.contains(name)) {
            std::fs::remove_file(sandbox.path(name)).unwrap();
        }
    }
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
fn a_broken_description_does_not_hide_the_others() {
    let (sandbox, root) = adopted();
    sandbox.verity(&format!("layer convert layer l {root} --to stacker")).success();
    sandbox.write("l.dmverity", b"{}");
    let inspected = sandbox.verity("layer inspect l --json").json();
    let found = inspected["descriptions"].as_array().unwrap();
    assert_eq!(
        (found.len(), &found[0]["dialect"], &found[1]["dialect"]),
        (2, &"containerd".into(), &"stacker".into())
    );
    assert!(found[0]["error"].as_str().unwrap().contains("missing field"), "{found:?}");
    assert_eq!(found[0].as_object().unwrap().len(), 2, "{found:?}");
    assert_eq!(
        (&found[1]["error"], &found[1]["root_hash"]),
        (&serde_json::Value::Null, &root.as_str().into())
    );
    let text = sandbox.verity("layer inspect l").success();
    assert!(text.starts_with("Layer l in the dialect containerd.\nError:"), "{text}");
    assert!(text.contains(&root), "{text}");
    // None is left.
    sandbox.write("l.annotations.json", b"{}");
    let run = sandbox.verity("layer inspect l");
    assert!(run.code == Some(1) && run.stdout.is_empty() && run.stderr.contains("l.dmverity"), "{run:?}");
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
