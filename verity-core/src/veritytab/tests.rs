use super::*;

use std::path::{Path, PathBuf};

use proptest::prelude::*;

use crate::algorithm::Algorithm;
use crate::block::BlockSize;
use crate::device::Corruption;
use crate::fec::Roots;
use crate::params::HashType;

const ROOT: &str = "36e3f740ad502e2c25e2a23d9c7c17bf0fdad2300b7580842d4b7ec1fb0fa263";

/// The one entry of a line with these options.
fn with(options: &str) -> Result<Entry, VeritytabError> {
    let mut entries = parse(&format!("name /data /hash {ROOT} {options}"));
    assert_eq!(entries.len(), 1);
    entries.pop().unwrap()
}

fn problem(text: &str) -> String {
    match parse(text).pop() {
        Some(Err(error)) => error.to_string(),
        other => panic!("{text:?}: {other:?}"),
    }
}

#[test]
fn the_manual_page_s_example_is_read() {
    let text = format!(
        "usr  PARTUUID=783E45ae-7aa3-484a-beef-a80ff9c19cbb PARTUUID=21dc1dfe-4c33-8b48-98a9-918a22eb3e37 {ROOT} auto\n\
         data /etc/data /etc/hash {ROOT} auto\n"
    );
    let entries: Vec<Entry> = parse(&text).into_iter().map(Result::unwrap).collect();
    assert_eq!(entries.iter().map(|entry| entry.name.to_string()).collect::<Vec<_>>(), ["usr", "data"]);
    assert_eq!(
        entries[0].data.path(),
        Path::new("/dev/disk/by-partuuid/783e45ae-7aa3-484a-beef-a80ff9c19cbb")
    );
    assert_eq!(entries[1].hash.path(), Path::new("/etc/hash"));
    for entry in &entries {
        assert_eq!(entry.root_hash, ROOT);
        assert!(entry.automatic && entry.required && !entry.network && !entry.initrd);
        assert_eq!((&entry.tree, &entry.table), (&TreeOptions::default(), &TableOptions::default()));
        assert_eq!((&entry.fec, &entry.signature), (&None, &None));
    }
}

#[test]
fn comments_and_empty_lines_count_as_lines_only() {
    let text = format!("# one\n\n \t\n  # four\r\n\tname\t/d  /h {ROOT}\r\nlast /d /h {ROOT} -");
    let lines: Vec<usize> = parse(&text).into_iter().map(|entry| entry.unwrap().line).collect();
    assert_eq!(lines, [5, 6]);
    assert!(parse("").is_empty() && parse("#").is_empty());
}

#[test]
fn every_option_is_read() {
    let entry = with(
        "superblock=no,format=0,data-block-size=1024,hash-block-size=2048,data-blocks=7,hash-offset=8192,salt=00ff,\
         uuid=01234567-89AB-cdef-0123-456789abcdef,hash=SHA1,panic-on-corruption,ignore-zero-blocks,check-at-most-once,\
         fec-device=LABEL=parity,fec-offset=4096,fec-roots=24,root-hash-signature=/s.p7s,_netdev,noauto,nofail,\
         x-initrd.attach",
    )
    .unwrap();
    let TreeOptions { superblock, hash_type, data_block_size, hash_block_size, data_blocks, .. } = entry.tree;
    assert_eq!((superblock, hash_type, data_blocks), (false, Some(HashType::ChromeOs), Some(7)));
    assert_eq!(data_block_size.map(BlockSize::get), Some(1024));
    assert_eq!(hash_block_size.map(BlockSize::get), Some(2048));
    let TreeOptions { hash_offset, salt, uuid, algorithm, .. } = entry.tree;
    assert_eq!((hash_offset, algorithm), (8192, Some(Algorithm::Sha1)));
    assert_eq!(salt.unwrap().as_bytes(), [0, 0xff]);
    assert_eq!(hex::encode(uuid.unwrap()), "0123456789abcdef0123456789abcdef");
    assert_eq!(entry.table.corruption, Corruption::Panic);
    assert!(entry.table.ignore_zero_blocks && entry.table.check_at_most_once);
    let fec = entry.fec.unwrap();
    assert_eq!((fec.device.to_string().as_str(), fec.offset, fec.roots), ("LABEL=parity", 4096, Roots::MAX));
    assert_eq!(entry.signature, Some(SignatureSource::File(PathBuf::from("/s.p7s"))));
    assert!(entry.network && !entry.automatic && !entry.required && entry.initrd);
    let defaults = with("fec-device=/p,ignore-corruption").unwrap();
    let fec = defaults.fec.unwrap();
    assert_eq!((fec.offset, fec.roots), (0, Roots::MIN));
    assert_eq!(defaults.table.corruption, Corruption::Ignore);
}

#[test]
fn yes_and_no_are_systemd_s() {
    for (text, expected) in
        [("1", true), ("Yes", true), ("on", true), ("0", false), ("FALSE", false), ("off", false)]
    {
        assert_eq!(with(&format!("superblock={text}")).unwrap().tree.superblock, expected, "{text}");
    }
}

#[test]
fn a_signature_can_stand_in_the_line() {
    use base64::Engine as _;
    let signature = crate::signature::tests::example();
    let text = base64::engine::general_purpose::STANDARD.encode(signature.as_bytes());
    let entry = with(&format!("root-hash-signature=base64:{text}")).unwrap();
    assert_eq!(entry.signature, Some(SignatureSource::Inline(signature)));
    let long = "A".repeat(50_000);
    for (text, expected) in [
        ("base64:!", "Invalid symbol"),
        ("base64:AAAA", "no PKCS#7 signature"),
        ("base64:", "is empty"),
        (&format!("base64:{long}"), "more than 32767 bytes"),
        ("relative.p7s", "neither an absolute path nor base64:"),
    ] {
        let error = with(&format!("root-hash-signature={text}")).unwrap_err().to_string();
        assert!(error.starts_with("line 1: root-hash-signature= ") && error.contains(expected), "{error}");
        assert!(error.len() < 300, "{error}");
    }
}

#[test]
fn each_error_names_line_field_and_value() {
    let line = |rest: &str| format!("\n{rest}");
    for (text, expected) in [
        (line("name"), "line 2: data device is missing"),
        (line("name /d"), "line 2: hash device is missing"),
        (line("name /d /h"), "line 2: root hash is missing"),
        (line("name /d /h 00 - more"), "line 2: \"more\" is one field too many"),
        (line("a/b /d /h 00"), "line 2: volume name \"a/b\": "),
        (line("control /d /h 00"), "line 2: volume name \"control\": "),
        (line("name d /h 00"), "line 2: data device \"d\": neither an absolute path"),
        (line("name /d UUID= 00"), "line 2: hash device \"UUID=\": nothing follows UUID="),
        (line("name /d ID=x 00"), "line 2: hash device \"ID=x\": neither"),
        (line("name /d /h 0"), "line 2: root hash \"0\": 1 digits are no digest's"),
        (line("name /d /h 0g"), "line 2: root hash \"0g\": it is not hexadecimal"),
        (line("name /d /h -"), "line 2: root hash \"-\": it is not taken from udev"),
    ] {
        let error = problem(&text);
        assert!(error.starts_with(expected), "{error}");
    }
    let digits = "0".repeat(130);
    assert!(problem(&format!("n /d /h {digits}")).ends_with("130 digits are no digest's"));
}

#[test]
fn bad_options_are_errors_and_never_ignored() {
    for (options, expected) in [
        ("frobnicate", "option \"frobnicate\" is unknown"),
        ("Nofail", "option \"Nofail\" is unknown"),
        (",", "option \"\" is unknown"),
        ("nofail,", "option \"\" is unknown"),
        ("tries=3", "option \"tries=3\" is unknown"),
        ("nofail=1", "option nofail takes no value"),
        ("superblock", "option superblock= has no value"),
        ("salt=", "option salt= has no value"),
        ("nofail,nofail", "option nofail is given twice"),
        ("format=1,format=1", "option format= is given twice"),
        (
            "ignore-corruption,panic-on-corruption",
            "options ignore-corruption and panic-on-corruption exclude each other",
        ),
        ("fec-roots=2", "option fec-roots= says nothing without fec-device="),
        ("fec-offset=2", "option fec-offset= says nothing without fec-device="),
        ("superblock=maybe", "superblock= \"maybe\": neither yes nor no"),
        ("format=2", "format= \"2\": "),
        ("format=4294967297", "format= \"4294967297\": it is too large"),
        ("data-block-size=1000", "data-block-size= \"1000\": "),
        ("data-block-size=+4096", "data-block-size= \"+4096\": it is not a number"),
        ("data-blocks=-1", "data-blocks= \"-1\": it is not a number"),
        ("hash-offset=4k", "hash-offset= \"4k\": it is not a number"),
        ("hash-offset=18446744073709551616", "hash-offset= \"18446744073709551616\": it is too large"),
        ("salt=0", "salt= \"0\": "),
        (
            "uuid=0123456789abcdef0123456789abcdef",
            "uuid= \"0123456789abcdef0123456789abcdef\": it is not a UUID",
        ),
        ("hash=sha0", "hash= \"sha0\": "),
        ("fec-device=p", "fec-device= \"p\": neither an absolute path"),
        ("fec-device=/p,fec-roots=25", "fec-roots= \"25\": "),
    ] {
        let error = with(options).unwrap_err().to_string();
        assert!(error.starts_with(&format!("line 1: {expected}")), "{options}: {error}");
    }
}

#[test]
fn a_name_is_given_once() {
    let text = format!("a /d /h {ROOT}\nb /d /h {ROOT}\na /e /f {ROOT}\n");
    let entries = parse(&text);
    assert!(entries[0].is_ok() && entries[1].is_ok());
    let error = entries[2].as_ref().unwrap_err();
    assert_eq!(
        (error.line, error.to_string().as_str()),
        (3, "line 3: volume name \"a\" is that of line 1, too")
    );
}

proptest! {
    #[test]
    fn whatever_is_read_names_its_line(text in "([a-z/=#,-]{0,6}[ \n]){0,40}") {
        for entry in parse(&text) {
            let line = match &entry {
                Ok(entry) => entry.line,
                Err(error) => error.line,
            };
            prop_assert!((1..=text.lines().count()).contains(&line));
        }
    }
}
