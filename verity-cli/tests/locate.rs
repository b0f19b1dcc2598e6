//! `verify --map` and `--files`, on images that mkfs.erofs made: what they say of damage in each part of one, and that
//! content lies where dump.erofs says.

mod common;

use std::fs;
use std::io::Read;
use std::os::unix::fs::symlink;

use common::{Run, Sandbox, pattern};
use serde_json::{Value, json};
use verity_core::erofs::{Budget, Image, Place};

tests! {
    content_lies_where_dump_erofs_says: [ErofsUtils];
    damaged_content_names_the_file_and_the_bytes: [ErofsUtils];
    a_damaged_inode_is_told_with_all_names: [ErofsUtils];
    a_damaged_end_beside_an_inode_is_content: [ErofsUtils];
    a_damaged_directory_hides_names_and_says_so: [ErofsUtils];
    a_damaged_superblock_leaves_nothing_to_tell: [ErofsUtils];
    what_nothing_vouches_for_is_unverifiable: [ErofsUtils];
    what_parity_restores_is_repairable: [ErofsUtils];
    ten_thousand_files: [ErofsUtils];
    an_intact_image_has_no_affected_files: [ErofsUtils];
    documents_keep_their_shape: [ErofsUtils];
    other_data_is_a_note_and_not_an_error: [];
    pictures_fit_and_have_colours_on_terminals_alone: [];
}

/// Ways to lay out an image.
const LAYOUTS: [&str; 6] = [
    "",
    "-zlz4hc",
    "-zlz4hc -Elegacy-compress",
    "-zlz4hc -C65536",
    "-zlz4hc -Eztailpacking",
    "--chunksize=8192",
];

/// A sandbox with a tree of files, and an image of it in `data`.
fn image(options: &str) -> Sandbox {
    let sandbox = Sandbox::new();
    let file = |name: &str, bytes: &[u8]| {
        let path = sandbox.path("tree").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    };
    // What can be compressed somewhat, and what cannot.
    let text: Vec<u8> =
        pattern(300_000).iter().flat_map(|byte| [b'a' + byte % 16, b'x', b'a' + byte / 16]).collect();
    file("etc/small", b"hello\n");
    file("etc/empty", b"");
    file("usr/bin/program", &text);
    file("usr/lib/noise", &pattern(50_000));
    file("usr/lib/blocks", &pattern(8192));
    for number in 0..300 {
        file(&format!("many/a-file-with-a-rather-long-name-{number:03}"), b"x");
    }
    fs::hard_link(sandbox.path("tree/etc/small"), sandbox.path("tree/etc/zero")).unwrap();
    symlink("small", sandbox.path("tree/etc/link")).unwrap();
    make(&sandbox, options);
    sandbox
}

fn make(sandbox: &Sandbox, options: &str) {
    let arguments = format!("-d0 -U 01234567-89ab-cdef-0123-456789abcdef {options} data tree");
    assert_eq!(Run::of(&mut sandbox.command("mkfs.erofs", &arguments)).code, Some(0));
}

/// Makes the hash tree; the root hash.
fn format(sandbox: &Sandbox, options: &str) -> String {
    sandbox.verity(&format!("format -q data hash {options}")).success().trim().to_owned()
}

/// Where dump.erofs says that a file is: its inode's number, and of each extent where in the content and in the image it
/// begins and ends.
fn dump(sandbox: &Sandbox, path: &str) -> (u64, Vec<[u64; 4]>) {
    let text = Run::of(&mut sandbox.command("dump.erofs", &format!("-e --path={path} data"))).stdout;
    let nid = text.split("NID: ").nth(1).and_then(|rest| rest.split_whitespace().next()).unwrap();
    let numbers =
        |text: &str| -> Vec<u64> { text.split("..").map(|number| number.trim().parse().unwrap()).collect() };
    let extents = text.lines().filter(|line| line.contains("..") && line.contains('|')).map(|line| {
        let mut columns = line.split(['|', ':']);
        let content = numbers(columns.nth(1).unwrap());
        let place = numbers(columns.nth(1).unwrap());
        [content[0], content[1], place[0], place[1]]
    });
    (nid.parse().unwrap(), extents.collect())
}

fn content_lies_where_dump_erofs_says() {
    for options in LAYOUTS {
        let sandbox = image(options);
        let data = sandbox.read("data");
        let image = Image::open(&data, data.len() as u64).unwrap();
        for path in
            ["/usr/bin/program", "/usr/lib/noise", "/usr/lib/blocks", "/etc/small", "/etc/empty", "/many"]
        {
            let (nid, expected) = dump(&sandbox, path);
            let inode = image.inode(nid).unwrap();
            let mut found = Vec::new();
            let each = |extent: verity_core::erofs::Extent| {
                let place = match extent.place {
                    Place::Stored(place) => {
                        place.start..place.start + (extent.content.end - extent.content.start)
                    }
                    Place::Encoded { bytes, .. } => bytes,
                    Place::Packed(_) => panic!("mkfs.erofs 1.5 packs nothing"),
                };
                found.push([extent.content.start, extent.content.end, place.start, place.end]);
                Ok(())
            };
            image.extents(&inode, &Budget::default(), each).unwrap();
            // dump.erofs counts to the end of the last block, where content is in blocks.
            let clip = |[start, end, first, last]: [u64; 4]| {
                let surplus = end.saturating_sub(inode.size);
                [start, end - surplus, first, last - surplus]
            };
            let expected: Vec<_> = expected.into_iter().map(clip).collect();
            assert_eq!(found, expected, "{options} {path}");
            assert_eq!(found.is_empty(), path == "/etc/empty", "{options}");
        }
    }
}

fn damaged_content_names_the_file_and_the_bytes() {
    for options in LAYOUTS {
        let sandbox = image(options);
        let root = format(&sandbox, "");
        for path in ["/usr/bin/program", "/usr/lib/noise"] {
            let (_, extents) = dump(&sandbox, path);
            let [start, end, first, last] = extents[(extents.len() - 1) / 2];
            let compressed = end - start != last - first;
            sandbox.flip("data", usize::try_from(first).unwrap(), 1);
            let run = sandbox.verity(&format!("verify data hash {root} --files --json"));
            let told = &run.json()["files"];
            sandbox.flip("data", usize::try_from(first).unwrap(), 1);
            assert_eq!((run.code, &told["complete"]), (Some(2), &json!(true)), "{options}: {run:?}");
            let affected = told["affected"].as_array().unwrap();
            assert_eq!(affected.len(), 1, "{options}: {run:?}");
            assert_eq!(affected[0]["paths"], json!([path]));
            assert_eq!((&affected[0]["kind"], &affected[0]["state"]), (&json!("file"), &json!("damaged")));
            assert_eq!(affected[0]["content_bytes"][0]["first_byte"], json!(start), "{options}");
            if compressed {
                assert_eq!(affected[0]["content_bytes"], json!([{"first_byte": start, "end_byte": end}]));
            }
        }
    }
}

/// Damages the block that the byte lies in, and returns what is said.
fn damage(sandbox: &Sandbox, root: &str, byte: u64) -> Run {
    let byte = usize::try_from(byte).unwrap();
    sandbox.flip("data", byte, 1);
    let run = sandbox.verity(&format!("verify data hash {root} --map --files"));
    sandbox.flip("data", byte, 1);
    assert_eq!(run.code, Some(2));
    run
}

fn a_damaged_inode_is_told_with_all_names() {
    // With blocks of 512 bytes this inode is bad, and neither the superblock nor the directory.
    let sandbox = image("");
    let root = format(&sandbox, "--data-block-size 512");
    let (nid, _) = dump(&sandbox, "/etc/small");
    let run = damage(&sandbox, &root, nid * 32);
    assert!(
        run.stdout.contains("\ndamaged      /etc/small, /etc/zero: its inode, hence all of it\n"),
        "{run:?}"
    );
    assert!(run.stdout.ends_with("more files may be affected than these.\n"), "{run:?}");
}

fn a_damaged_end_beside_an_inode_is_content() {
    let sandbox = image("");
    let root = format(&sandbox, "--data-block-size 512");
    let (_, extents) = dump(&sandbox, "/usr/lib/noise");
    // 50000 bytes are 12 blocks and 848 bytes more, that are in another place.
    let [start, end, first, last] = extents[1];
    assert_eq!((start, end), (49_152, 50_000));
    let byte = first.next_multiple_of(512);
    assert!(byte < last);
    let run = damage(&sandbox, &root, byte);
    let lost = format!("/usr/lib/noise: bytes {} to ", start + (byte - first));
    assert!(run.stdout.contains(&lost), "{lost} {run:?}");
    assert!(!run.stdout.contains("its inode"), "{run:?}");
}

fn a_damaged_directory_hides_names_and_says_so() {
    let sandbox = image("");
    let root = format(&sandbox, "");
    let (_, extents) = dump(&sandbox, "/many");
    let run = damage(&sandbox, &root, extents[0][2]);
    assert!(run.stdout.contains("\ndamaged      directory /many: names in it\n"), "{run:?}");
    assert!(run.stdout.ends_with("more files may be affected than these.\n"), "{run:?}");
    // And what belonged to those names is not called unused.
    sandbox.flip("data", usize::try_from(extents[0][2]).unwrap(), 1);
    let (nid, _) = dump(&sandbox, "/many/a-file-with-a-rather-long-name-299");
    let run = damage(&sandbox, &root, nid * 32);
    assert!(!run.stdout.contains("unused space"), "{run:?}");
}

fn a_damaged_superblock_leaves_nothing_to_tell() {
    let sandbox = image("");
    let root = format(&sandbox, "");
    let run = damage(&sandbox, &root, 1024);
    assert!(
        run.stdout.contains("\ndamaged      the superblock: bytes 1024 to 1151 of the image\n"),
        "{run:?}"
    );
    assert!(run.stdout.ends_with("more files may be affected than these.\n"), "{run:?}");
    assert!(!run.stdout.contains(" /"), "{run:?}");
}

fn what_nothing_vouches_for_is_unverifiable() {
    let sandbox = image("");
    let root = format(&sandbox, "");
    // Superblock, top block, and the leaf block of data blocks 128 and more.
    sandbox.flip("hash", 3 * 4096, 1);
    let run = sandbox.verity(&format!("verify data hash {root} --map --files"));
    assert!(
        run.stdout.contains("\nunverifiable data blocks 128 to 245 (bytes 524288 to 1007615)\n"),
        "{run:?}"
    );
    assert!(run.stdout.contains("\ndamaged      tree block 2 (bytes 12288 to 16383)\n"), "{run:?}");
    assert!(run.stdout.contains("\nunverifiable /usr/bin/program: bytes "), "{run:?}");
    assert!(!run.stdout.contains("\ndamaged      /"), "{run:?}");
}

fn what_parity_restores_is_repairable() {
    let sandbox = image("");
    let root = format(&sandbox, "--fec-device parity");
    let (_, extents) = dump(&sandbox, "/usr/lib/noise");
    // The superblock and all inodes beside it, too: they are read through the parity.
    sandbox.flip("data", 1024, 1);
    sandbox.flip("data", usize::try_from(extents[0][2]).unwrap(), 1);
    let run = sandbox.verity(&format!("verify data hash {root} --fec-device parity --map --files"));
    assert_eq!(run.code, Some(2));
    assert!(run.stdout.contains("\nrepairable   data block 0 (bytes 0 to 4095)\n"), "{run:?}");
    assert!(run.stdout.contains("\nrepairable   the superblock: "), "{run:?}");
    assert!(run.stdout.contains("\nrepairable   /usr/lib/noise: bytes 0 to 4095 of 50000\n"), "{run:?}");
    assert!(!run.stdout.contains("\ndamaged "), "{run:?}");
    assert!(!run.stdout.contains("cannot be trusted"), "{run:?}");
}

fn ten_thousand_files() {
    let sandbox = Sandbox::new();
    for folder in 0..100 {
        let path = sandbox.path("tree").join(format!("{folder:02}"));
        fs::create_dir_all(&path).unwrap();
        for file in 0..100 {
            fs::write(path.join(format!("{file:02}")), pattern(100 + 40 * file)).unwrap();
        }
    }
    make(&sandbox, "");
    let root = format(&sandbox, "");
    let mut bytes = sandbox.read("data");
    // Every block but the first is bad where its number is a multiple of 50.
    for block in (50..bytes.len() / 4096).step_by(50) {
        bytes[block * 4096 + 7] ^= 1;
    }
    sandbox.write("data", &bytes);
    let all = sandbox.verity(&format!("verify data hash {root} --files --json")).json();
    let files = &all["files"];
    let bad: u64 = files["affected"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|affected| affected["kind"] == "file")
        .map(|affected| affected["paths"].as_array().unwrap().len() as u64)
        .sum();
    assert!(bad >= all["bad_data_blocks"].as_u64().unwrap() / 2, "{bad} of {}", all["bad_data_blocks"]);
    assert_eq!((&files["unlisted_affected"], &files["gaps"]), (&json!(0), &json!([])));
    let total = files["affected"].as_array().unwrap().len();
    let few = sandbox.verity(&format!("verify data hash {root} --files --json --max-findings 3")).json();
    let few = &few["files"];
    assert_eq!(few["affected"].as_array().unwrap().len(), 3);
    assert_eq!(few["unlisted_affected"].as_u64().unwrap() + 3, total as u64);
}

fn an_intact_image_has_no_affected_files() {
    let sandbox = image("");
    let root = format(&sandbox, "");
    sandbox.verity(&format!("verify data hash {root} --files")).is(0, "No file is affected.\n", "");
    let run = sandbox.verity(&format!("verify data hash {root} --map"));
    assert!(
        run.code == Some(0) && run.stdout.ends_with(". good  + repairable  ? unverifiable  X damaged\n"),
        "{run:?}"
    );
    let document = sandbox.verity(&format!("verify data hash {root} --json")).json();
    assert_eq!((document.get("map"), document.get("files")), (None, None));
}

/// The names of all fields, and of those in them.
fn shape(value: &Value) -> Value {
    match value {
        Value::Object(fields) => fields.iter().map(|(name, value)| (name.clone(), shape(value))).collect(),
        Value::Array(values) => values.first().map_or(json!([]), |value| json!([shape(value)])),
        Value::String(_) => json!("text"),
        Value::Number(_) => json!("number"),
        Value::Bool(_) => json!("flag"),
        Value::Null => json!(null),
    }
}

fn documents_keep_their_shape() {
    let sandbox = image("");
    let root = format(&sandbox, "");
    let (_, extents) = dump(&sandbox, "/usr/lib/noise");
    sandbox.flip("data", usize::try_from(extents[0][2]).unwrap(), 1);
    let document = sandbox.verity(&format!("verify data hash {root} --map --files --json")).json();
    let bytes = json!([{"first_byte": "number", "end_byte": "number"}]);
    let strip = json!({
        "blocks": "number", "block_size": "number", "good_blocks": "number", "repairable_blocks": "number",
        "unverifiable_blocks": "number", "damaged_blocks": "number", "unlisted_ranges": "number",
        "ranges": [{
            "state": "text", "first_block": "number", "blocks": "number", "first_byte": "number", "end_byte": "number",
        }],
    });
    assert_eq!(shape(&document["map"]), json!({"data": strip, "tree": strip, "unplaced_blocks": "number"}));
    assert_eq!(
        shape(&document["files"]),
        json!({
            "error": null, "complete": "flag", "unlisted_affected": "number", "gaps": [], "unlisted_gaps": "number",
            "affected": [{
                "kind": "text", "state": "text", "paths": ["text"], "unlisted_paths": "number", "size": "number",
                "parts": ["text"], "content_bytes": bytes, "unlisted_content_bytes": "number",
                "image_bytes": bytes, "unlisted_image_bytes": "number",
            }],
        })
    );
}

fn other_data_is_a_note_and_not_an_error() {
    let (sandbox, root) = Sandbox::formatted(16);
    sandbox.flip("data", 5000, 1);
    let plain = sandbox.verity(&format!("verify data hash {root}"));
    let run = sandbox.verity(&format!("verify data hash {root} --files"));
    let note = "note: --files: data device \"data\": no EROFS image: the bytes at 1024 are not its magic number; \
                files cannot be told\n";
    run.is(2, &plain.stdout, &format!("{note}{}", plain.stderr));
    let document = sandbox.verity(&format!("verify data hash {root} --files --json")).json();
    assert_eq!(
        document["files"],
        json!({"error": "no EROFS image: the bytes at 1024 are not its magic number"})
    );
}

fn pictures_fit_and_have_colours_on_terminals_alone() {
    let (sandbox, root) = Sandbox::formatted(300);
    sandbox.flip("data", 5000, 1);
    let arguments = format!("verify data hash {root} --map");
    let widest = |text: &str| text.lines().filter(|line| !line.contains("(bytes")).map(str::len).max();
    let narrow = Run::of(sandbox.verity_command(&arguments).env("COLUMNS", "40").env_remove("NO_COLOR"));
    assert!(widest(&narrow.stdout) <= Some(40) && !narrow.stdout.contains('\x1b'), "{narrow:?}");
    assert!(narrow.stdout.contains("\n  0 .X.............................."), "{narrow:?}");
    let wide = Run::of(sandbox.verity_command(&arguments).env("COLUMNS", "nonsense"));
    assert!(widest(&wide.stdout) > Some(60), "{wide:?}");

    for colours in [true, false] {
        let size = nix::pty::Winsize { ws_row: 24, ws_col: 50, ws_xpixel: 0, ws_ypixel: 0 };
        let terminal = nix::pty::openpty(&size, None).unwrap();
        let mut command = sandbox.verity_command(&arguments);
        command.env("TERM", "xterm").env("COLUMNS", "200").stdout(terminal.slave);
        if colours {
            command.env_remove("NO_COLOR");
        }
        assert_eq!(command.stderr(std::process::Stdio::null()).status().unwrap().code(), Some(2));
        // The last writer is gone with it, and reading ends in an error.
        drop(command);
        let mut text = Vec::new();
        let _ = fs::File::from(terminal.master).read_to_end(&mut text);
        let text = String::from_utf8(text).unwrap();
        assert_eq!(text.contains('\x1b'), colours, "{text}");
        let plain = without_colours(&text);
        assert!(plain.contains("\n  0 .X..............................\r\n"), "{plain}");
    }
}

/// The text without what colours it.
fn without_colours(text: &str) -> String {
    let mut plain = String::new();
    for (number, part) in text.split('\x1b').enumerate() {
        let rest = if number == 0 { part } else { part.split_once('m').map_or("", |(_, rest)| rest) };
        plain += rest;
    }
    plain
}
