//! Archives that an attacker would write: each is refused for what is wrong with it, and nothing else happens.
#![cfg(feature = "layer")]

#[path = "common/raw_tar.rs"]
mod raw_tar;

use std::io::Read;

use proptest::prelude::*;
use raw_tar::{RawHeader, RawTar};
use verity_core::layer::tar::{Entry, EntryKind, Error, Reader};

/// All entries, or the first error; content is read to its end.
fn read(bytes: &[u8]) -> Result<Vec<Entry>, Error> {
    let mut reader = Reader::new(bytes);
    let mut entries = Vec::new();
    while let Some(entry) = reader.next_entry()? {
        let mut content = Vec::new();
        if reader.content().read_to_end(&mut content).is_err() {
            return Err(reader.take_failure().unwrap());
        }
        if let EntryKind::File { size, data } = &entry.kind {
            let stored: u64 = data.iter().map(|piece| piece.end - piece.start).sum();
            assert_eq!(content.len() as u64, stored);
            assert!(data.last().is_none_or(|piece| piece.end <= *size));
        }
        entries.push(entry);
    }
    Ok(entries)
}

#[track_caller]
fn refused(tar: RawTar, why: &str) {
    let error = read(&tar.end()).unwrap_err().to_string();
    assert!(error.contains(why), "{error}");
}

fn tar() -> RawTar {
    RawTar::default().directory("./").file("first", b"content")
}

#[test]
fn a_sound_archive_is_read() {
    let entries =
        read(&tar().link("soft", "/etc/../passwd", b'2').link("hard", "./first", b'1').end()).unwrap();
    let paths: Vec<_> = entries.iter().map(|entry| String::from_utf8_lossy(&entry.path)).collect();
    assert_eq!(paths, ["", "first", "soft", "hard"]);
    assert_eq!(entries[2].kind, EntryKind::Symlink(b"/etc/../passwd".to_vec()));
    assert_eq!(entries[3].kind, EntryKind::HardLink(b"first".to_vec()));
}

#[test]
fn absolute_paths_begin_at_the_layers_root() {
    let entries = read(&RawTar::default().directory("/").file("/etc/passwd", b"x").end()).unwrap();
    assert_eq!((&entries[0].path[..], &entries[1].path[..]), (&b""[..], &b"etc/passwd"[..]));
}

#[test]
fn paths_that_lead_out_are_refused() {
    for name in ["../a", "a/../../b", "..", "a/.."] {
        refused(tar().file(name, b""), "lead out");
        refused(tar().link("link", name, b'1'), "lead out");
        refused(tar().pax(&[("path", name.as_bytes())]).file("a", b""), "lead out");
        refused(tar().extension(b'L', name.as_bytes()).file("a", b""), "lead out");
    }
    refused(tar().file("", b""), "is empty");
    refused(tar().file("./", b"x"), "ends in a slash");
    refused(tar().file(".", b"x"), "is the root");
    refused(tar().link("link", "/", b'1'), "is the root");
    refused(tar().link("link", "", b'2'), "is empty");
    refused(tar().pax(&[("path", b"a\0b")]).file("a", b""), "NUL");
    refused(tar().pax(&[("path", &[b'a'; 256])]).file("a", b""), "more than 255 bytes");
    refused(tar().pax(&[("path", &b"a/".repeat(2100))]).file("a", b""), "more than 4095 bytes");
}

#[test]
fn what_readers_differ_in_is_refused() {
    refused(tar().file("folder/", b""), "ends in a slash");
    refused(
        tar().pax(&[("path", b"a")]).extension(b'L', b"b\0").file("c", b""),
        "differ in which one counts",
    );
    refused(tar().pax(&[("path", b"a")]).pax(&[("path", b"b")]).file("c", b""), "differ in which one counts");
    refused(tar().extension(b'g', b"10 path=x\n").file("c", b""), "some readers do");
    let comment = |tar: RawTar| tar.extension(b'g', b"13 comment=x\n").file("c", b"");
    refused(comment(tar().pax(&[("path", b"a")])), "some readers forget");
    refused(comment(tar().extension(b'L', b"a\0")), "some readers forget");
    refused(comment(tar().extension(b'K', b"a\0")), "some readers forget");
    assert!(read(&comment(tar()).end()).is_ok());
    refused(tar().raw(&RawHeader::new(b"d", b'5', 512), &[0; 512]), "512 bytes of content");
    refused(tar().raw(&RawHeader::new(b"p", b'6', 1), b"x"), "1 bytes of content");
    refused(tar().pax(&[("size", b"9")]).directory("d"), "9 bytes of content");
    for kind in *b"DMNVASEZ89" {
        refused(tar().raw(&RawHeader::new(b"a", kind, 0), b""), "not one that layers have");
    }
    for key in ["path", "linkpath", "size", "uid", "gid", "mtime", "GNU.sparse.map", "GNU.sparse.name"] {
        // Empty ones count: some readers take them for none, and others for what undoes the first.
        for [first, second] in [[&b"1"[..], b"2"], [b"1", b"1"], [b"1", b""]] {
            refused(
                tar().pax(&[(key, first), ("comment", b""), (key, second)]).file("c", b""),
                "comes twice",
            );
        }
    }
    assert!(read(&tar().pax(&[("comment", b"a"), ("comment", b"b")]).file("c", b"").end()).is_ok());
    // Both say the same.
    assert!(read(&tar().pax(&[("path", b"a")]).extension(b'L', b"a\0").file("c", b"").end()).is_ok());
}

#[test]
fn numbers_that_nothing_can_have_are_refused() {
    let header = |at: usize, bytes: &[u8]| {
        let mut header = RawHeader::new(b"a", b'0', 0);
        header.put(at, bytes);
        tar().raw(&header, b"")
    };
    refused(header(124, b"-0000000001\0"), "size");
    refused(header(124, &[0xff; 12]), "size is -1");
    refused(header(108, &[0x80, 0, 0, 1, 0, 0, 0, 0]), "uid is 4294967296");
    refused(header(116, &[0xff; 8]), "gid is -1");
    refused(header(100, b"rw-r--r-"), "mode");
    refused(header(136, b"yesterday...."), "mtime");
    refused(tar().pax(&[("uid", b"4294967296")]).file("a", b""), "uid");
    refused(tar().pax(&[("size", b"-1")]).file("a", b""), "size");
    // GNU's header has times where others have the beginning of a path.
    let gnu = |at: usize, bytes: &[u8]| {
        let mut header = RawHeader::new(b"a", b'0', 0);
        header.put(257, b"ustar  \0").put(at, bytes);
        tar().raw(&header, b"")
    };
    refused(gnu(345, b"folder"), "atime");
    refused(gnu(357, b"folder"), "ctime");
    refused(gnu(345, b"00000000000\0folder"), "ctime");
    assert!(read(&gnu(345, b"14712345670\x0014712345670\0").end()).is_ok());
    let mut device = RawHeader::new(b"a", b'3', 0);
    device.put(329, b"0010000\0");
    refused(tar().raw(&device, b""), "devmajor is 4096");
}

#[test]
fn extension_headers_are_bounded() {
    refused(tar().raw(&RawHeader::new(b"x", b'x', (1 << 20) + 1), b""), "more than 1048576");
    refused(tar().raw(&RawHeader::new(b"x", b'L', 0o77_777_777_777), b""), "more than 1048576");
    refused(tar().pax(&[("path", b"a")]), "without an entry");
    refused(tar().extension(b'x', b"30 path=a\n").file("a", b""), "line's end");
}

#[test]
fn damage_is_seen() {
    let sound = tar().end();
    for (at, flip) in [(0, 1), (100, 2), (156, 4), (600, 0x80)] {
        let mut bytes = sound.clone();
        bytes[at] ^= flip;
        assert!(read(&bytes).unwrap_err().to_string().contains("checksum"), "byte {at}");
    }
    let mut lone = tar().0;
    lone.extend([0; 512]);
    refused(RawTar(lone).file("hidden", b""), "single block of zeros");
    assert!(read(b"this is no tar").unwrap_err().to_string().contains("truncated"));
    assert!(read(&[b'x'; 2048]).unwrap_err().to_string().contains("no tar"));
}

#[test]
fn truncation_is_seen_wherever_it_happens() {
    let whole = tar().pax(&[("path", &[b'p'; 150])]).file("p", &[5; 1000]).0;
    let count = read(&whole).unwrap().len();
    for length in 0..whole.len() {
        let mut reader = Reader::new(&whole[..length]);
        let mut entries = 0;
        let error = loop {
            match reader.next_entry() {
                Ok(Some(_)) => entries += 1,
                Ok(None) => break None,
                Err(error) => break Some(error),
            }
        };
        // Between entries only the missing marker tells.
        let between = [0, 512, 1536].contains(&length);
        assert_eq!(error.is_none(), between, "{length}: {error:?}");
        assert!(!reader.is_marked() && entries < count + usize::from(!between), "{length}");
    }
}

#[test]
fn sparse_files_that_lie_are_refused() {
    let sparse = |records: &[(&str, &[u8])], content: &[u8]| tar().pax(records).file("a", content);
    let v1: [(&str, &[u8]); 2] = [("GNU.sparse.major", b"1"), ("GNU.sparse.minor", b"0")];
    let in_front = |size: &'static [u8], text: &[u8]| {
        let mut content = text.to_vec();
        content.resize(content.len().next_multiple_of(512), 0);
        sparse(&[v1[0], v1[1], ("GNU.sparse.realsize", size), ("GNU.sparse.name", b"b")], &content)
    };
    refused(in_front(b"10", b"1\n0\n11\n"), "beyond the end");
    refused(in_front(b"10", b"1\n0\n5\n"), "not as long as what is stored");
    refused(in_front(b"10", b"1\n99999999999999999999\n5\n"), "GNU.sparse.map");
    refused(in_front(b"10", b"99999999\n"), "more pieces");
    refused(in_front(b"10", b"5\n0\n"), "number that is none");
    refused(in_front(b"10", b""), "longer than the content");
    refused(in_front(b"10", &[b"300\n", &b"1\n".repeat(254)[..]].concat()), "longer than the content");
    refused(sparse(&v1, &[0; 512]), "number that is none");
    refused(sparse(&[("GNU.sparse.major", b"2"), ("GNU.sparse.minor", b"0")], b""), "version");
    refused(sparse(&[("GNU.sparse.map", b"0,1"), ("GNU.sparse.size", b"9")], b"ab"), "not as long");
    refused(sparse(&[("GNU.sparse.map", b"5,1,0,1"), ("GNU.sparse.size", b"9")], b"ab"), "out of order");
    refused(
        sparse(
            &[("GNU.sparse.map", b"0,1"), ("GNU.sparse.numblocks", b"2"), ("GNU.sparse.size", b"9")],
            b"a",
        ),
        "as many",
    );
    refused(sparse(&[("GNU.sparse.map", b"0,1")], b"a"), "size is missing");
    refused(tar().pax(&[("GNU.sparse.size", b"9")]).directory("d"), "no regular file");
    // A map whose blocks never end is bounded, too.
    let mut old = RawHeader::new(b"old", b'S', 0);
    old.put(257, b"ustar  \0").put(386, &b"00000000000\0".repeat(2)).put(482, &[1]);
    let mut block = [b'0'; 512];
    block[504] = 1;
    refused(
        RawTar(tar().raw(&old, b"").0.into_iter().chain(block.repeat(60_000)).collect()),
        "sparse file's map",
    );
    // Whether it is sparse at all, readers tell by the version, or by the map where there is none.
    let map: (&str, &[u8]) = ("GNU.sparse.map", b"0,1");
    let size: (&str, &[u8]) = ("GNU.sparse.size", b"9");
    let version = |major, minor| [("GNU.sparse.major", major), ("GNU.sparse.minor", minor)];
    for records in [&[size][..], &[size, ("GNU.sparse.map", b"")], &[size, map, v1[0]], &[size, map, v1[1]]] {
        refused(sparse(records, b"a"), "neither a whole version nor a map");
    }
    let [major, minor] = version(&b"00"[..], &b"01"[..]);
    refused(sparse(&[size, map, major, v1[1]], b"a"), "GNU.sparse.major");
    refused(sparse(&[size, map, ("GNU.sparse.major", b"0"), minor], b"a"), "GNU.sparse.minor");
    refused(sparse(&[size, ("GNU.sparse.realsize", b"8"), map], b"a"), "two sizes");
    assert!(read(&sparse(&[size, ("GNU.sparse.realsize", b"9"), map], b"a").end()).is_ok());
    let [major, minor] = version(&b"0"[..], &b"1"[..]);
    assert!(read(&sparse(&[size, map, major, minor], b"a").end()).is_ok());
    // A terabyte that is not there takes nothing.
    let hole = sparse(&[("GNU.sparse.map", b"0,0"), ("GNU.sparse.size", b"1099511627776")], b"").end();
    assert!(
        matches!(&read(&hole).unwrap()[2].kind, EntryKind::File { size: 1_099_511_627_776, data } if data.is_empty())
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever is changed, reading ends, and takes no more than is there.
    #[test]
    fn changed_archives_are_read_or_refused(changes in prop::collection::vec((0_usize..6000, any::<u8>()), 1..8), sums in any::<bool>()) {
        let mut bytes = tar()
            .pax(&[("path", &[b'p'; 150]), ("SCHILY.xattr.user.a", b"1"), ("mtime", b"1.5")])
            .file("p", &[5; 700])
            .extension(b'L', &[b'l'; 120])
            .link("l", "first", b'2')
            .pax(&[("GNU.sparse.map", b"0,1,5,1"), ("GNU.sparse.size", b"9")])
            .file("sparse", b"ab")
            .end();
        for (at, byte) in changes {
            let at = at % bytes.len();
            bytes[at] = byte;
            if sums {
                // So that more than the checksum is seen.
                let start = at / 512 * 512;
                let block = &mut bytes[start..start + 512];
                block[148..156].fill(b' ');
                let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
                block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
            }
        }
        let _ = read(&bytes);
    }
}
