//! `verity image inspect` and `verity image ls`, over what other programs write and over what nobody should.

mod common;

use std::fs;

use common::oci::{Layout, digest, tar};
use common::{Run, Sandbox};
use serde_json::{Value, json};
use verity_core::erofs::write::Attributes;
use verity_core::layer::tar::{EntryKind, Writer};

tests! {
    needs_skopeo_archives_say_what_the_layout_says: [Skopeo];
    needs_skopeo_archives_of_several_images_are_listed: [Skopeo];
    needs_skopeo_indexes_of_platforms_are_followed_in_archives: [Skopeo];
    needs_umoci_its_layouts_are_read: [Umoci];
    lists_and_paragraphs_are_for_people: [];
    bases_are_compared_by_diff_id: [];
    archives_of_old_docker_have_links: [];
    docker_archives_that_lie_are_refused: [];
    archives_that_were_cut_off_are_refused: [];
    failures_have_codes_and_hints: [];
    long_names_and_platforms_are_clipped: [];
    docker_archives_of_very_many_names_are_refused: [];
    a_layer_is_hashed_once_however_often_it_is_listed: [];
    what_an_index_says_of_many_images_is_kept_once: [];
}

#[track_caller]
fn run(sandbox: &Sandbox, program: &str, arguments: &str) -> String {
    let run = Run::of(&mut sandbox.command(program, arguments));
    assert_eq!(run.code, Some(0), "{program} {arguments}: {run:?}");
    run.stdout
}

/// A layout `src` with images `base` and `patched`, which has one layer more, and `multi` for two platforms; the tars.
fn source() -> (Sandbox, [Vec<u8>; 2]) {
    let sandbox = Sandbox::new();
    let tars = [tar(1, &[100, 5000]), tar(2, &[300])];
    let mut layout = Layout::new(&sandbox, "src");
    let base = layout.image("amd64", &[&tars[0]]);
    layout.list("base", &base);
    let patched = layout.image("amd64", &[&tars[0], &tars[1]]);
    layout.list("patched", &patched);
    let arm = layout.image("arm64", &[&tars[1]]);
    let multi = layout.index(&[("amd64", base), ("arm64", arm)]);
    layout.list("multi", &multi);
    (sandbox, tars)
}

fn inspect(sandbox: &Sandbox, arguments: &str) -> Value {
    let run = sandbox.verity(&format!("image inspect --json {arguments}"));
    assert_eq!(run.code, Some(0), "{run:?}");
    run.json()
}

/// A field of each layer of the first image.
fn of_layers<'d>(document: &'d Value, field: &str) -> Vec<&'d str> {
    let layers = document["images"][0]["layers"].as_array().unwrap();
    layers.iter().map(|layer| layer[field].as_str().unwrap_or_default()).collect()
}

fn references(sandbox: &Sandbox, arguments: &str) -> Vec<String> {
    let run = sandbox.verity(&format!("image ls --json {arguments}"));
    assert_eq!(run.code, Some(0), "{run:?}");
    let document = run.json();
    let images = document["images"].as_array().unwrap().iter();
    images.map(|image| image["reference"].as_str().unwrap_or("-").to_owned()).collect()
}

/// Runs with so many KiB of address space at most: whoever asks for more dies of it.
fn within(sandbox: &Sandbox, kib: u64, arguments: &str) -> Run {
    let script = format!("ulimit -v {kib}; exec \"$0\" image {arguments}");
    let mut shell = sandbox.command("sh", "");
    Run::of(shell.args(["-c", &script, env!("CARGO_BIN_EXE_verity")]))
}

fn needs_skopeo_archives_say_what_the_layout_says() {
    let (sandbox, tars) = source();
    let diff_ids = tars.each_ref().map(|tar| digest(tar));
    run(&sandbox, "skopeo", "copy -q oci:src:patched oci-archive:o.tar:name");
    run(&sandbox, "skopeo", "copy -q oci:src:patched docker-archive:d.tar:team/app:1");
    for name in [
        "oci:src:patched",
        "oci-archive:o.tar:name",
        "docker-archive:d.tar:team/app:1",
        "docker-archive:d.tar",
    ] {
        let found = inspect(&sandbox, &format!("{name} --base oci:src:base"));
        assert_eq!(of_layers(&found, "diff_id"), diff_ids, "{name}");
        assert_eq!(of_layers(&found, "role"), ["base", "patch"], "{name}");
        assert_eq!(found["images"][0]["base"]["shared_layers"], 1);
        assert_eq!(found["images"][0]["platform"], "linux/amd64");
        // skopeo reads each layer of its own archive by the digest that is shown for it.
        let theirs: Value =
            serde_json::from_str(&run(&sandbox, "skopeo", &format!("inspect {name}"))).unwrap();
        assert_eq!(json!(of_layers(&found, "digest")), theirs["Layers"], "{name}");
    }
    let raw = run(&sandbox, "skopeo", "inspect --raw oci-archive:o.tar:name");
    assert_eq!(inspect(&sandbox, "oci-archive:o.tar")["images"][0]["digest"], digest(raw.as_bytes()));
}

fn needs_skopeo_archives_of_several_images_are_listed() {
    let (sandbox, _) = source();
    run(
        &sandbox,
        "skopeo",
        "copy -q --additional-tag localhost:5000/app:2 oci:src:patched docker-archive:d.tar:busybox:1",
    );
    let names = ["docker.io/library/busybox:1", "localhost:5000/app:2"];
    assert_eq!(references(&sandbox, "docker-archive:d.tar"), names);
    for (name, expected) in
        [("busybox:1", 0), ("docker.io/library/busybox:1", 0), ("localhost:5000/app:2", 1), ("@1", 1)]
    {
        assert_eq!(
            references(&sandbox, &format!("docker-archive:d.tar:{name}")),
            [names[expected]],
            "{name}"
        );
    }
    let refused = sandbox.verity("image ls docker-archive:d.tar:busybox");
    assert_eq!(refused.code, Some(4), "{refused:?}");
    assert!(refused.stderr.contains("there is no image \"docker.io/library/busybox:latest\""), "{refused:?}");
}

fn needs_skopeo_indexes_of_platforms_are_followed_in_archives() {
    let (sandbox, tars) = source();
    run(&sandbox, "skopeo", "copy -q --all oci:src:multi oci-archive:m.tar:multi");
    assert_eq!(references(&sandbox, "oci-archive:m.tar"), ["multi", "multi"]);
    let arm = inspect(&sandbox, "oci-archive:m.tar --platform linux/arm64");
    assert_eq!(arm["images"][0]["platform"], "linux/arm64");
    assert_eq!(of_layers(&arm, "diff_id"), [digest(&tars[1])]);
    let theirs = run(&sandbox, "skopeo", "--override-arch arm64 inspect oci-archive:m.tar");
    let theirs: Value = serde_json::from_str(&theirs).unwrap();
    assert_eq!(json!(of_layers(&arm, "digest")), theirs["Layers"]);
    let refused = sandbox.verity("image inspect oci-archive:m.tar --platform linux/s390x");
    assert_eq!(refused.code, Some(4));
    assert!(refused.stderr.contains("there are: linux/amd64, linux/arm64"), "{refused:?}");
}

fn needs_umoci_its_layouts_are_read() {
    let sandbox = Sandbox::new();
    run(&sandbox, "umoci", "init --layout src");
    let empty = sandbox.verity("image ls oci:src");
    assert_eq!(empty.code, Some(4), "{empty:?}");
    run(&sandbox, "umoci", "new --image src:one");
    sandbox.write("layer.tar", &tar(1, &[100]));
    run(&sandbox, "umoci", "raw add-layer --image src:one layer.tar");
    run(&sandbox, "umoci", "config --image src:one --tag two --config.label BaseImage=debian");
    assert_eq!(references(&sandbox, "oci:src"), ["one", "two"]);
    let found = inspect(&sandbox, "oci:src:two");
    assert_eq!(found["images"][0]["copa"]["base_image"], "debian");
    assert_eq!(of_layers(&found, "diff_id"), [digest(&tar(1, &[100]))]);
    let theirs: Value = serde_json::from_str(&run(&sandbox, "umoci", "stat --json --image src:two")).unwrap();
    let theirs =
        theirs["history"].as_array().unwrap().iter().filter_map(|step| step["layer"]["digest"].as_str());
    assert_eq!(of_layers(&found, "digest"), theirs.collect::<Vec<_>>());
}

fn lists_and_paragraphs_are_for_people() {
    let (sandbox, tars) = source();
    let shown = sandbox.verity("image inspect oci:src:patched").success();
    let layout = sandbox.verity("image ls oci:src:patched --json").json();
    let image = &layout["images"][0];
    let (bytes, id) = (image["layer_bytes"].as_u64().unwrap(), image["digest"].as_str().unwrap());
    assert_eq!(bytes, (tars[0].len() + tars[1].len()) as u64);
    let table = format!(
        "REFERENCE  PLATFORM     LAYERS  BYTES  DIGEST\npatched    linux/amd64       2  {bytes:>5}  {id}\n"
    );
    assert_eq!(sandbox.verity("image ls oci:src:patched").success(), table);
    let top = format!(
        "   2  tar, compression none, patch, {} bytes\n      digest      {id}\n      diffID      {id}\n",
        tars[1].len(),
        id = digest(&tars[1])
    );
    assert!(shown.starts_with("Image oci:src:patched (patched)\n") && shown.ends_with(&top), "{shown}");
    assert!(shown.contains("Patched by Copa: \t2026-01-02\n"), "{shown}");
    let all = sandbox.verity("image ls oci:src").success();
    assert_eq!(all.lines().count(), 5, "{all}");
}

fn bases_are_compared_by_diff_id() {
    let (sandbox, _) = source();
    let one = inspect(&sandbox, "oci:src:base --base oci:src:patched");
    assert_eq!(
        (of_layers(&one, "role"), &one["images"][0]["base"]["layer_count"]),
        (vec!["base"], &json!(2))
    );
    let other = inspect(&sandbox, "oci:src:multi --platform linux/arm64 --base oci:src:multi");
    assert_eq!(of_layers(&other, "role"), ["base"]);
    // The layer is there, but not at the bottom.
    let (mut layout, tars) = (Layout::new(&sandbox, "other"), [tar(2, &[300]), tar(1, &[100, 5000])]);
    let image = layout.image("amd64", &[&tars[0], &tars[1]]);
    layout.list("turned", &image);
    let turned = inspect(&sandbox, "oci:other --base oci:src:patched");
    assert_eq!(of_layers(&turned, "role"), ["elsewhere", "elsewhere"]);
    // With a tree a layer is another blob, and the same layer.
    let built = sandbox.verity("image build --quiet oci:src:patched oci:verity");
    assert_eq!(built.code, Some(0), "{built:?}");
    let verity = inspect(&sandbox, "oci:verity --base oci:src:base");
    assert_eq!(
        (of_layers(&verity, "role"), of_layers(&verity, "kind")),
        (vec!["base", "patch"], vec!["verity", "verity"])
    );
    assert!(of_layers(&verity, "root_hash").iter().all(|root| root.len() == 64));
    let several = sandbox.verity("image inspect oci:src:base --base oci:src");
    assert_eq!(several.code, Some(1));
    assert!(several.stderr.contains("there are several images"), "{several:?}");
    let none = sandbox.verity("image inspect oci:src:multi --base oci:src:base");
    assert_eq!(none.code, Some(4));
    assert!(none.stderr.contains("there is no image for linux/arm64"), "{none:?}");
}

/// A tar of files, and of links where the content begins with an arrow.
fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for (name, content) in files {
        let (kind, content) = match content.strip_prefix(b"->") {
            Some(target) => (EntryKind::Symlink(target.to_vec()), &b""[..]),
            None => {
                let size = content.len() as u64;
                (
                    EntryKind::File { size, data: std::iter::once(0..size).filter(|_| size > 0).collect() },
                    *content,
                )
            }
        };
        writer.add(name.as_bytes(), &Attributes::default(), &kind, &mut &content[..]).unwrap();
    }
    writer.finish().unwrap()
}

fn config(tars: &[&[u8]]) -> Vec<u8> {
    let diff_ids: Vec<_> = tars.iter().map(|tar| digest(tar)).collect();
    let rootfs = json!({"type": "layers", "diff_ids": diff_ids});
    json!({"os": "linux", "architecture": "amd64", "rootfs": rootfs}).to_string().into_bytes()
}

fn list(tags: &Value, layers: &[&str]) -> Vec<u8> {
    json!([{"Config": "c.json", "RepoTags": tags, "Layers": layers}]).to_string().into_bytes()
}

fn archives_of_old_docker_have_links() {
    let sandbox = Sandbox::new();
    let (one, two) = (tar(1, &[100]), tar(2, &[200]));
    sandbox.write("two.tar", &two);
    run(&sandbox, "gzip", "-n two.tar");
    let packed = sandbox.read("two.tar.gz");
    let (config, list) =
        (config(&[&one, &two, &one]), list(&Value::Null, &["a/layer.tar", "b.tgz", "c/layer.tar"]));
    let bytes = archive(&[
        ("a/layer.tar", &one),
        ("b.tgz", &packed),
        ("c/layer.tar", b"->../a/layer.tar"),
        ("c.json", &config),
        ("manifest.json", &list),
    ]);
    sandbox.write("d.tar", &bytes);
    let found = inspect(&sandbox, "docker-archive:d.tar");
    assert_eq!(of_layers(&found, "digest"), [digest(&one), digest(&packed), digest(&one)]);
    assert_eq!(of_layers(&found, "compression"), ["none", "gzip", "none"]);
    assert_eq!(found["images"][0]["reference"], Value::Null);
    assert!(
        sandbox.names().iter().all(|name| ["d.tar", "two.tar.gz"].contains(&name.as_str())),
        "nothing is unpacked"
    );
}

fn docker_archives_that_lie_are_refused() {
    let sandbox = Sandbox::new();
    let layer = tar(1, &[100]);
    let good = config(&[&layer]);
    let wrong_name = format!("{}.json", "0".repeat(64));
    let named = json!([{"Config": wrong_name, "RepoTags": [], "Layers": ["l.tar"]}]).to_string();
    let tags = json!(["app:1"]);
    for (files, code, word) in [
        (
            vec![("c.json", &good[..]), ("manifest.json", &list(&tags, &["l.tar"])[..])],
            1,
            "there is no l.tar in it",
        ),
        (
            vec![("l.tar", &layer[..]), ("manifest.json", &list(&tags, &["l.tar"])[..])],
            1,
            "there is no c.json in it",
        ),
        (
            vec![
                ("l.tar", &layer[..]),
                ("c.json", &good[..]),
                ("manifest.json", &list(&tags, &["l.tar", "l.tar"])[..]),
            ],
            1,
            "2 layers, and the configuration 1 diffIDs",
        ),
        (
            vec![
                ("l.tar", b"->../../etc/passwd"),
                ("c.json", &good[..]),
                ("manifest.json", &list(&tags, &["l.tar"])[..]),
            ],
            1,
            "leads out of the archive",
        ),
        (
            vec![
                ("l.tar", b"->l.tar"),
                ("c.json", &good[..]),
                ("manifest.json", &list(&tags, &["l.tar"])[..]),
            ],
            1,
            "link to a link",
        ),
        (
            vec![
                ("l.tar", &layer[..]),
                ("c.json", &good[..]),
                ("manifest.json", &list(&tags, &["/etc/../../x"])[..]),
            ],
            1,
            "leads out of the archive",
        ),
        (
            vec![
                ("l.tar", &layer[..]),
                ("c.json", &good[..]),
                ("manifest.json", &list(&json!(["UP:1"]), &["l.tar"])[..]),
            ],
            1,
            "is no image name",
        ),
        (
            vec![("l.tar", &layer[..]), (&wrong_name, &good[..]), ("manifest.json", named.as_bytes())],
            2,
            "has the digest",
        ),
        (vec![("manifest.json", b"[]"), ("./manifest.json", b"[]")], 1, "comes twice"),
        (vec![("manifest.json", b"[]")], 4, "there is no image"),
        (vec![("repositories", b"{}")], 1, "Docker before 1.10"),
    ] {
        sandbox.write("d.tar", &archive(&files));
        let refused = sandbox.verity("image ls docker-archive:d.tar");
        assert!(refused.stderr.contains(word), "{word}: {refused:?}");
        assert_eq!((refused.code, refused.stdout.as_str()), (Some(code), ""), "{word}");
    }
}

fn archives_that_were_cut_off_are_refused() {
    let sandbox = Sandbox::new();
    let layer = tar(1, &[100]);
    let list = list(&json!(["app:1"]), &["l.tar"]);
    let bytes = archive(&[("manifest.json", &list), ("c.json", &config(&[&layer])), ("l.tar", &layer)]);
    for length in [0, 100, 512, 1500, bytes.len() - 1024, bytes.len() - layer.len()] {
        sandbox.write("d.tar", &bytes[..length]);
        let refused = sandbox.verity("image inspect docker-archive:d.tar");
        assert_eq!((refused.code, refused.stdout.as_str()), (Some(1), ""), "{length}: {refused:?}");
    }
    sandbox.write("d.tar", &bytes);
    assert_eq!(references(&sandbox, "docker-archive:d.tar"), ["docker.io/library/app:1"]);
    run(&sandbox, "gzip", "d.tar");
    let refused = sandbox.verity("image ls docker-archive:d.tar.gz");
    assert!(refused.stderr.contains("compressed with gzip"), "{refused:?}");
}

fn failures_have_codes_and_hints() {
    let (sandbox, _) = source();
    for (arguments, code, word) in [
        ("ls oci:nowhere", 4, "No such file or directory"),
        ("ls oci:src:nothing", 4, r#"there are: "base", "patched", "multi""#),
        ("ls src", 1, "is no image name"),
        ("ls oci:src --platform amd64", 1, "is no platform"),
        ("ls oci:src --authfile nowhere", 1, "--authfile is for registries"),
        ("build oci:src oci:dst --no-creds", 1, "--no-creds is for registries"),
        ("verify oci:src --cert-dir nowhere", 1, "--cert-dir is for registries"),
        ("inspect oci:src --base oci:src --tls-verify=false", 1, "--tls-verify is for registries"),
        // Nobody listens there.
        ("inspect oci:src:base --base docker://127.0.0.1:1/x --tls-verify=false", 4, "127.0.0.1:1"),
        ("inspect oci-archive:src", 4, "no regular file"),
        ("inspect oci:src --base oci:nowhere", 4, "nowhere"),
    ] {
        let refused = sandbox.verity(&format!("image {arguments}"));
        assert!(refused.stderr.contains(word), "{arguments}: {refused:?}");
        assert_eq!(refused.code, Some(code), "{arguments}: {refused:?}");
        let document = sandbox.verity(&format!("image {arguments} --json")).json();
        assert_eq!(document["error"]["exit_code"], code, "{arguments}");
    }
    let found = inspect(&sandbox, "oci:src:base");
    let config = found["images"][0]["config"]["digest"].as_str().unwrap().replace(':', "/");
    let path = sandbox.path("src/blobs").join(config);
    let mut bytes = fs::read(&path).unwrap();
    bytes[0] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let altered = sandbox.verity("image inspect oci:src:base");
    assert_eq!(altered.code, Some(2), "{altered:?}");
    fs::remove_file(&path).unwrap();
    let missing = sandbox.verity("image inspect oci:src:base");
    assert_eq!(missing.code, Some(4), "{missing:?}");
    assert!(missing.stderr.contains("is listed, and missing in src"), "{missing:?}");
}

/// Each of two mebibytes of annotations for each of two thousand entries would be four gibibytes.
fn what_an_index_says_of_many_images_is_kept_once() {
    let sandbox = Sandbox::new();
    let layout = Layout::new(&sandbox, "src");
    let image = layout.image("amd64", &[&tar(1, &[100])]);
    let list = |annotations: &Value, entries: Vec<Value>| {
        let index = json!({"schemaVersion": 2, "annotations": annotations, "manifests": entries});
        sandbox.write("src/index.json", index.to_string().as_bytes());
    };
    let long = "x".repeat(2 << 20);
    list(&json!({"remark": long}), vec![image.clone(); 2000]);
    let run = within(&sandbox, 1 << 20, "ls oci:src");
    assert_eq!((run.code, run.stdout.lines().count()), (Some(0), 2001), "{}", run.stderr);
    // A name that leads to an index is each of its images'.
    let entries: Vec<_> = vec![("amd64", image); 2000];
    let mut inner = layout.index(&entries);
    inner["annotations"] = json!({"org.opencontainers.image.ref.name": long});
    list(&json!({}), vec![inner]);
    let run = within(&sandbox, 1 << 20, "ls oci:src");
    assert_eq!(run.code, Some(1), "{}", run.stderr);
    assert!(
        run.stderr.contains("more than 67108864 bytes of annotations, labels and names"),
        "{}",
        run.stderr
    );
}

/// A gzip file with a comment that does not end within the first bytes, which is all that is looked at before it is hashed.
fn packed(bytes: usize) -> Vec<u8> {
    let mut packed = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
    packed.resize(bytes, 7);
    packed
}

fn docker_archive(layer: &[u8], mentions: usize) -> Vec<u8> {
    let id = digest(layer);
    let rootfs = json!({"type": "layers", "diff_ids": vec![id; mentions]});
    let config = json!({"os": "linux", "architecture": "amd64", "rootfs": rootfs}).to_string();
    let list = list(&Value::Null, &vec!["l.tgz"; mentions]);
    archive(&[("l.tgz", layer), ("c.json", config.as_bytes()), ("manifest.json", &list)])
}

/// Hashed as often as it is listed, it would be twenty thousand mebibytes.
fn a_layer_is_hashed_once_however_often_it_is_listed() {
    let sandbox = Sandbox::new();
    let layer = packed(2 << 20);
    sandbox.write("d.tar", &docker_archive(&layer, 10_000));
    let mut shell = sandbox.command("sh", "");
    // Seconds of the processor.
    let script = "ulimit -t 30; exec \"$0\" image ls docker-archive:d.tar --json";
    let run = Run::of(shell.args(["-c", script, env!("CARGO_BIN_EXE_verity")]));
    assert_eq!(run.code, Some(0), "{:?} {}", run.signal, run.stderr);
    assert_eq!(run.json()["images"][0]["layer_count"], 10_000);
    sandbox.write("d.tar", &docker_archive(&layer, 10_001));
    let refused = sandbox.verity("image ls docker-archive:d.tar");
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("more than 10000 layers in an archive"), "{refused:?}");
}

/// What four mebibytes of names would take, or a long platform with each of a thousand names.
fn docker_archives_of_very_many_names_are_refused() {
    let sandbox = Sandbox::new();
    let layer = tar(1, &[100]);
    let long = json!({
        "os": "x".repeat(3 << 20),
        "architecture": "amd64",
        "rootfs": {"type": "layers", "diff_ids": [digest(&layer)]},
    });
    let long = long.to_string().into_bytes();
    for (config, names, word) in [
        (&config(&[&layer]), 600_000, "more than 200000 values in it"),
        (&config(&[&layer]), 100_000, "more than 10000 images and names in manifest.json"),
        (&long, 1000, "an index of the images that manifest.json lists, with their names and platforms"),
    ] {
        let list = list(&json!(vec!["a:1"; names]), &["l.tar"]);
        sandbox.write("d.tar", &archive(&[("l.tar", &layer), ("c.json", config), ("manifest.json", &list)]));
        let refused = within(&sandbox, 1 << 20, "ls docker-archive:d.tar");
        assert_eq!(refused.code, Some(1), "{word}: {:?} {}", refused.signal, refused.stderr);
        assert!(refused.stderr.contains(word), "{word}: {}", refused.stderr);
    }
}

fn long_names_and_platforms_are_clipped() {
    let sandbox = Sandbox::new();
    let layout = Layout::new(&sandbox, "src");
    let (name, os) = ("n".repeat(70_000), "o".repeat(70_000));
    let mut image = layout.image("amd64", &[&tar(1, &[100])]);
    image["annotations"] = json!({"org.opencontainers.image.ref.name": name});
    image["platform"] = json!({"os": os, "architecture": "amd64"});
    let index = json!({"schemaVersion": 2, "manifests": [image]});
    sandbox.write("src/index.json", index.to_string().as_bytes());
    let (short_name, short_os) = (format!("{}...", "n".repeat(128)), format!("{}...", "o".repeat(128)));
    let table = sandbox.verity("image ls oci:src").success();
    assert!(table.contains(&format!("\n{short_name}  {short_os}  ")), "{table}");
    let paragraph = sandbox.verity("image inspect oci:src").success();
    assert!(paragraph.starts_with(&format!("Image oci:src ({short_name})\n")), "{paragraph}");
    // Programs get all of it.
    assert_eq!(references(&sandbox, "oci:src"), [name]);
}
