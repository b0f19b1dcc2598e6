//! Dialects beside the programs that speak them: qemu-img, systemd-repart, partx, veritysetup.

mod common;

use common::{Run, Sandbox, pattern};
use verity_core::dialect::ddi::{Architecture, Designator, Kind, Part};

tests! {
    needs_qemu_img_a_vhd_is_one: [QemuImg];
    needs_qemu_img_a_vhd_of_qemu_is_read: [QemuImg];
    needs_systemd_repart_its_disks_are_read: [SystemdRepart];
    needs_systemd_repart_disks_are_as_it_reads_them: [SystemdRepart];
    needs_systemd_repart_partition_types_are_its_own: [SystemdRepart];
    needs_veritysetup_every_tree_is_one: [Veritysetup];
}

/// A layer of a squashfs image, as far as its first bytes go, and its root hash.
fn adopted() -> (Sandbox, String) {
    let sandbox = Sandbox::new();
    let mut image = pattern(300 * 4096);
    image[..4].copy_from_slice(b"hsqs");
    image[40..48].copy_from_slice(&(300 * 4096_u64 - 1000).to_le_bytes());
    sandbox.write("image", &image);
    let root = sandbox.verity("layer adopt --quiet image layer").success().trim().to_owned();
    (sandbox, root)
}

#[track_caller]
fn ran(sandbox: &Sandbox, program: &str, arguments: &str) -> String {
    let run = Run::of(&mut sandbox.command(program, arguments));
    assert_eq!(run.code, Some(0), "{program} {arguments}: {run:?}");
    run.stdout
}

fn needs_qemu_img_a_vhd_is_one() {
    let (sandbox, root) = adopted();
    sandbox.verity(&format!("layer convert layer l.vhd {root} --to vhd")).success();
    let layer = sandbox.read("layer");
    let info: serde_json::Value =
        serde_json::from_str(&ran(&sandbox, "qemu-img", "info -f vpc --output=json l.vhd")).unwrap();
    assert_eq!(info["virtual-size"], layer.len());
    ran(&sandbox, "qemu-img", "convert -f vpc -O raw l.vhd raw");
    assert!(sandbox.read("raw") == layer);
}

fn needs_qemu_img_a_vhd_of_qemu_is_read() {
    let (sandbox, root) = adopted();
    ran(&sandbox, "qemu-img", "convert -f raw -O vpc -o subformat=fixed,force_size=on layer qemu.vhd");
    let inspected = sandbox.verity("layer inspect qemu.vhd --json").json();
    assert_eq!(inspected["descriptions"][0]["dialect"], "vhd");
    sandbox.verity(&format!("layer verify qemu.vhd {root}")).success();
    let back = sandbox.verity(&format!("layer convert --quiet qemu.vhd back {root} --to plain")).success();
    assert_eq!(back.trim(), root);
    assert!(sandbox.read("back") == sandbox.read("layer"));
}

/// Definitions for systemd-repart: a partition with an image, its tree, and as the case may be its signature.
fn definitions(sandbox: &Sandbox, signature: bool) {
    std::fs::create_dir(sandbox.path("repart")).unwrap();
    let image = sandbox.path("image");
    let definition = |name: &str, kind: &str, more: &str| {
        let text = format!("[Partition]\nType=root-x86-64{kind}\nVerityMatchKey=root\n{more}\n");
        sandbox.write(&format!("repart/{name}.conf"), text.as_bytes());
    };
    definition("10", "", &format!("Verity=data\nCopyBlocks={}", image.display()));
    definition("20", "-verity", "Verity=hash");
    if signature {
        definition("30", "-verity-sig", "Verity=signature");
        let request =
            "req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 10 -subj /CN=test";
        ran(sandbox, "openssl", request);
    }
}

/// What systemd-repart says of a disk.
fn repart(sandbox: &Sandbox, arguments: &str) -> serde_json::Value {
    let text = ran(sandbox, "systemd-repart", &format!("--definitions=repart --json=short {arguments}"));
    serde_json::from_str(text.trim()).unwrap()
}

const SEED: &str = "--seed=11111111-2222-3333-4444-555555555555";

fn needs_systemd_repart_its_disks_are_read() {
    let (sandbox, _) = adopted();
    definitions(&sandbox, true);
    let keys = "--private-key=key.pem --certificate=cert.pem";
    let made = repart(&sandbox, &format!("--empty=create --size=auto --dry-run=no {SEED} {keys} disk.raw"));
    let root = made[1]["roothash"].as_str().unwrap();
    sandbox.verity(&format!("layer verify disk.raw {root}")).success();
    let inspected = sandbox.verity("layer inspect disk.raw --json").json();
    let found = &inspected["descriptions"][0];
    assert_eq!(
        (&found["dialect"], &found["signed"], &found["root_hash"]),
        (&"ddi".into(), &true.into(), &root.into())
    );
    assert_eq!(found["data_offset"], made[0]["offset"]);
    // Its partition is larger than the image: zeros follow.
    let plain = sandbox.verity(&format!("layer convert disk.raw plain {root} --to plain --json")).json();
    assert_eq!(plain["root_hash"], root);
    let image = sandbox.read("image");
    assert!(sandbox.read("plain")[..image.len()] == image[..]);
    // Its tree in a disk of this program's.
    let other = sandbox.verity(&format!("layer convert disk.raw other.raw {root} --to ddi --json")).json();
    assert_eq!(other["root_hash"], root);
}

fn needs_systemd_repart_disks_are_as_it_reads_them() {
    let (sandbox, root) = adopted();
    definitions(&sandbox, true);
    sandbox.write("root", root.as_bytes());
    let sign = "smime -sign -nocerts -noattr -binary -in root -inkey key.pem -signer cert.pem -outform der -out root.p7s";
    ran(&sandbox, "openssl", sign);
    let signed = "--root-hash-signature root.p7s --certificate cert.pem --architecture x86-64";
    sandbox.verity(&format!("layer convert layer disk.raw {root} --to ddi {signed}")).success();
    let keys = "--private-key=key.pem --certificate=cert.pem";
    let read = repart(&sandbox, &format!("--dry-run=yes {SEED} {keys} disk.raw"));
    let found = read.as_array().unwrap();
    let types: Vec<_> = found.iter().map(|partition| partition["type"].as_str().unwrap()).collect();
    assert_eq!(types, ["root-x86-64", "root-x86-64-verity", "root-x86-64-verity-sig"]);
    let digits = |index: usize| found[index]["uuid"].as_str().unwrap().replace('-', "");
    assert_eq!(digits(0) + &digits(1), root);
    assert!(found.iter().all(|partition| partition["activity"] == "unchanged"), "{read:#}");

    // What util-linux says of the same table, the one at its end included.
    let table = ran(&sandbox, "partx", "--raw --noheadings -o START,SECTORS,NAME,FLAGS disk.raw");
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split(' ').collect()).collect();
    assert_eq!(rows.iter().map(|row| row[2]).collect::<Vec<_>>(), types);
    assert_eq!(rows[0][0], "2048");
    assert_eq!(rows[0][1], (300 * 8).to_string());
    assert!(rows.iter().all(|row| row[3] == "0x1000000000000000"), "{table}");

    // The signature partition holds what the specification says.
    let sectors = |column: usize| rows[2][column].parse::<usize>().unwrap() * 512;
    let content = sandbox.read("disk.raw")[sectors(0)..][..sectors(1)].to_vec();
    let text = String::from_utf8(content).unwrap();
    let json: serde_json::Value = serde_json::from_str(text.trim_end_matches('\0')).unwrap();
    assert_eq!(json["rootHash"], root);
    let printed = ran(&sandbox, "openssl", "x509 -in cert.pem -noout -fingerprint -sha256");
    let fingerprint = printed.trim().split_once('=').unwrap().1.replace(':', "").to_lowercase();
    assert_eq!(json["certificateFingerprint"], fingerprint);
    let inspected = sandbox.verity("layer inspect disk.raw --json").json();
    assert_eq!(inspected["descriptions"][0]["signed"], true);

    // systemd's sidecars carry the same signature.
    let files = "--to systemd --root-hash-signature root.p7s";
    sandbox.verity(&format!("layer convert disk.raw app.raw {root} {files}")).success();
    assert_eq!(sandbox.read("app.roothash"), root.as_bytes());
    assert_eq!(sandbox.read("app.roothash.p7s"), sandbox.read("root.p7s"));
    // A signature of a root hash that will not be is refused.
    let run = sandbox
        .verity(&format!("layer convert layer other.raw {root} --to vhd --root-hash-signature root.p7s"));
    assert_eq!(run.code, Some(1), "{run:?}");
    notation(&sandbox, &root);
}

/// A manifest over the same signature.
fn notation(sandbox: &Sandbox, root: &str) {
    let digest = format!("sha256:{}", "5".repeat(64));
    let image = format!(r#"{{"schemaVersion":2,"layers":[{{"digest":"{digest}"}}]}}"#);
    sandbox.write("manifest.json", image.as_bytes());
    let options = format!("--root-hash-signature root.p7s --layer-digest {digest} --subject manifest.json");
    sandbox.verity(&format!("layer convert layer n {root} --to notation {options}")).success();
    let manifest: serde_json::Value = serde_json::from_slice(&sandbox.read("n.notation.json")).unwrap();
    let signature = &manifest["layers"][0];
    assert_eq!(signature["size"], sandbox.read("root.p7s").len());
    let sum = ran(sandbox, "sha256sum", "root.p7s");
    assert_eq!(signature["digest"], format!("sha256:{}", sum.split(' ').next().unwrap()));
    assert_eq!(signature["annotations"]["io.cncf.notary.dm-verity.root-hash"], root);
    let sum = ran(sandbox, "sha256sum", "manifest.json");
    let subject = format!("sha256:{}", sum.split(' ').next().unwrap());
    assert_eq!(manifest["subject"]["digest"], subject);
    let verified = sandbox.verity(&format!("layer verify n --layer-digest {digest} --json")).json();
    assert_eq!((&verified["intact"], &verified["dialect"]), (&true.into(), &"notation".into()));
    assert_eq!(verified["subject"]["digest"], subject);
    assert_eq!(verified["layer_digest"], digest);
    let shown = sandbox.verity(&format!("layer inspect n --layer-digest {digest}")).success();
    assert!(shown.contains(&subject), "{shown}");
}

fn needs_systemd_repart_partition_types_are_its_own() {
    let sandbox = Sandbox::new();
    std::fs::create_dir(sandbox.path("repart")).unwrap();
    for architecture in Architecture::ALL {
        for designator in [Designator::Root, Designator::Usr] {
            let kind = Kind { designator, architecture };
            let parts = [Part::Data, Part::Verity, Part::Signature];
            for (number, part) in parts.into_iter().enumerate() {
                let label = kind.label_of(part);
                let text = format!("[Partition]\nType={label}\nSizeMinBytes=4096\nSizeMaxBytes=4096\n");
                sandbox.write(&format!("repart/{number}.conf"), text.as_bytes());
            }
            let _ = std::fs::remove_file(sandbox.path("disk"));
            repart(&sandbox, &format!("--empty=create --size=2M --dry-run=no {SEED} disk"));
            let printed = ran(&sandbox, "partx", "--raw --noheadings -o TYPE disk");
            let types: Vec<String> =
                parts.map(|part| uuid::Uuid::from_bytes(kind.type_of(part)).to_string()).into();
            assert_eq!(printed.lines().collect::<Vec<_>>(), types, "{}", kind.label_of(Part::Data));
        }
    }
}

fn needs_veritysetup_every_tree_is_one() {
    let (sandbox, root) = adopted();
    let end = 300 * 4096;
    for to in ["containerd", "vhd", "stacker", "plain"] {
        sandbox.verity(&format!("layer convert layer {to} {root} --to {to}")).success();
        let run = sandbox.veritysetup(&format!("verify {to} {to} {root} --hash-offset {end}"));
        assert_eq!(run.code, Some(0), "{to}: {run:?}");
    }
    sandbox.verity(&format!("layer convert layer app.raw {root} --to systemd")).success();
    let run = sandbox.veritysetup(&format!("verify app.raw app.verity {root}"));
    assert_eq!(run.code, Some(0), "{run:?}");

    // nydus's line is meant for veritysetup: it gets its words, the empty salt in quotes among them.
    sandbox.verity(&format!("layer convert layer n {root} --to nydus")).success();
    let line = String::from_utf8(sandbox.read("n.nydus")).unwrap();
    let words = line.trim().strip_prefix("dm-verity options: ").unwrap().replace("\"\"", "-");
    let (options, nydus_root) = words.rsplit_once(' ').unwrap();
    let run = sandbox.veritysetup(&format!("verify n n {nydus_root} {options}"));
    assert_eq!(run.code, Some(0), "{run:?}");

    // Kata's table: hash type 1, no salt, the tree at the next hash block.
    sandbox.verity(&format!("layer convert layer k {root} --to kata")).success();
    let volume: serde_json::Value = serde_json::from_slice(&sandbox.read("k.kata.json")).unwrap();
    assert_eq!((&volume["fs_type"], &volume["volume_type"]), (&"squashfs".into(), &"layer_raw_block".into()));
    let tree = &volume["dm_verity"];
    let options = format!(
        "--no-superblock --salt - --data-blocks {} --hash-offset {}",
        tree["blocknum"], tree["offset"]
    );
    let run = sandbox.veritysetup(&format!("verify k k {} {options}", tree["hash"].as_str().unwrap()));
    assert_eq!(run.code, Some(0), "{run:?}");
}
