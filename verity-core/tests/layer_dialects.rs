//! Tars that GNU tar wrote, in each of its formats: what is read is what `tar` itself says is there.
#![cfg(feature = "layer")]

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;
use verity_core::layer::tar::{Entry, EntryKind, Reader};

/// A folder with everything that a layer can have and that needs no privilege.
fn tree() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::create_dir(at("directory")).unwrap();
    fs::set_permissions(at("directory"), PermissionsExt::from_mode(0o1777)).unwrap();
    fs::write(at("directory/file"), b"content").unwrap();
    fs::set_permissions(at("directory/file"), PermissionsExt::from_mode(0o4751)).unwrap();
    fs::write(at("block"), vec![7; 512]).unwrap();
    fs::write(at("odd"), vec![8; 513]).unwrap();
    fs::write(at("empty"), b"").unwrap();
    fs::hard_link(at("odd"), at("zz-second-name")).unwrap();
    symlink("directory/file", at("link")).unwrap();
    assert!(Command::new("mkfifo").arg(at("pipe")).status().unwrap().success());
    folder
}

/// Names and targets that only some formats have room for.
fn add_long_names(folder: &Path) {
    let long = folder.join("n".repeat(200));
    fs::create_dir(&long).unwrap();
    fs::write(long.join("m".repeat(200)), b"deep").unwrap();
    symlink("t".repeat(300), folder.join("long-link")).unwrap();
    fs::write(folder.join(std::ffi::OsStr::from_bytes(b"not-utf8-\xff\xfe")), b"bytes").unwrap();
}

/// Files with holes: one piece, many pieces (more than a header has room for), none, and one at the end.
fn add_sparse_files(folder: &Path) {
    let many = (0..60).map(|piece| piece * (128 << 10)).collect();
    for (name, size, pieces) in [
        ("one", 10 << 20, vec![5 << 20]),
        ("many", 8 << 20, many),
        ("none", 3 << 20, vec![]),
        ("end", 1 << 20, vec![(1 << 20) - 4096]),
    ] {
        let file = File::create(folder.join(name)).unwrap();
        file.set_len(size).unwrap();
        for offset in pieces {
            file.write_all_at(&[b'x'; 4096], offset).unwrap();
        }
    }
}

fn tar(folder: &Path, options: &str) -> Vec<u8> {
    let output = Command::new("tar")
        .args(["--create", "--sort=name", "--owner=1234", "--group=56789", "--numeric-owner"])
        .args(options.split_whitespace())
        .args(["--file=-", "--directory"])
        .arg(folder)
        .arg(".")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// An entry as `tar --list --verbose` prints it.
fn line(entry: &Entry) -> Vec<u8> {
    let letters = |bits: u16, special: bool, with: [u8; 2]| {
        let last = match (special, bits & 1) {
            (true, 1) => with[0],
            (true, _) => with[1],
            (false, 1) => b'x',
            _ => b'-',
        };
        [if bits & 4 == 0 { b'-' } else { b'r' }, if bits & 2 == 0 { b'-' } else { b'w' }, last]
    };
    let attributes = &entry.attributes;
    let mode = attributes.mode;
    let (kind, size, target) = match &entry.kind {
        EntryKind::Directory => (b'd', "0".to_owned(), None),
        EntryKind::File { size, .. } => (b'-', size.to_string(), None),
        EntryKind::Symlink(target) => (b'l', "0".to_owned(), Some((" -> ", target))),
        EntryKind::HardLink(target) => (b'h', "0".to_owned(), Some((" link to ./", target))),
        EntryKind::CharDevice { major, minor } => (b'c', format!("{major},{minor}"), None),
        EntryKind::BlockDevice { major, minor } => (b'b', format!("{major},{minor}"), None),
        EntryKind::Fifo => (b'p', "0".to_owned(), None),
        _ => unreachable!(),
    };
    let mut line = vec![kind];
    line.extend(letters(mode >> 6 & 7, mode & 0o4000 != 0, *b"sS"));
    line.extend(letters(mode >> 3 & 7, mode & 0o2000 != 0, *b"sS"));
    line.extend(letters(mode & 7, mode & 0o1000 != 0, *b"tT"));
    line.extend(format!(" {}/{} {size} {}", attributes.uid, attributes.gid, attributes.mtime).bytes());
    line.extend(format!(".{:09} ./", attributes.mtime_nsec).bytes());
    line.extend(&entry.path);
    if entry.kind == EntryKind::Directory && !entry.path.is_empty() {
        line.push(b'/');
    }
    if let Some((arrow, target)) = target {
        line.extend(arrow.bytes());
        line.extend(target);
    }
    line
}

/// What `tar` says is in an archive: the same lines, with the time as a number.
fn listing(archive: &Path) -> Vec<Vec<u8>> {
    let output = Command::new("tar")
        .args([
            "--list",
            "--verbose",
            "--full-time",
            "--utc",
            "--numeric-owner",
            "--quoting-style=literal",
            "--file",
        ])
        .arg(archive)
        .env("LC_ALL", "C")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = output.stdout.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
    lines
        .map(|line| {
            let mut words = line.split(|&byte| byte == b' ').filter(|word| !word.is_empty());
            let mut next = || String::from_utf8(words.next().unwrap().to_vec()).unwrap();
            let (mode, owner, size, day, time) = (next(), next(), next(), next(), next());
            // The name begins behind the time.
            let at = line.windows(time.len()).position(|window| window == time.as_bytes()).unwrap();
            // Times with fewer digits are filled up with blanks; names begin with `./` here.
            let name = line[at + time.len()..].trim_ascii_start();
            let seconds = seconds_of(&day, &time);
            [format!("{mode} {owner} {size} {seconds} ").as_bytes(), name].concat()
        })
        .collect()
}

/// Seconds since 1970, with nine digits behind the point.
fn seconds_of(day: &str, time: &str) -> String {
    let numbers =
        |text: &str, by: char| text.split(by).map(|it| it.parse::<i64>().unwrap()).collect::<Vec<_>>();
    let (whole, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let (day, time) = (numbers(day, '-'), numbers(whole, ':'));
    // Howard Hinnant's days from a civil date.
    let year = day[0] - i64::from(day[1] <= 2);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((day[1] + 9) % 12) + 2) / 5 + day[2] - 1;
    let days = year.div_euclid(400) * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    format!("{}.{fraction:0<9}", days * 86_400 + time[0] * 3600 + time[1] * 60 + time[2])
}

/// Reads an archive, and compares it with what `tar` says of it and with the files that it was made of.
fn check(folder: &Path, options: &str) {
    let bytes = tar(folder, options);
    let archive = tempfile::NamedTempFile::new().unwrap();
    fs::write(archive.path(), &bytes).unwrap();
    let mut reader = Reader::new(&bytes[..]);
    let mut lines = Vec::new();
    while let Some(entry) = reader.next_entry().unwrap_or_else(|error| panic!("{options}: {error}")) {
        lines.push(line(&entry));
        if let EntryKind::File { size, data } = &entry.kind {
            let mut stored = Vec::new();
            reader.content().read_to_end(&mut stored).unwrap();
            let mut content = vec![0; usize::try_from(*size).unwrap()];
            let mut rest = &stored[..];
            for piece in data {
                let range = usize::try_from(piece.start).unwrap()..usize::try_from(piece.end).unwrap();
                let (own, behind) = rest.split_at(range.len());
                content[range].copy_from_slice(own);
                rest = behind;
            }
            let original = folder.join(std::ffi::OsStr::from_bytes(&entry.path));
            assert!(
                fs::read(original).unwrap() == content,
                "{options}: {:?}",
                String::from_utf8_lossy(&entry.path)
            );
        }
    }
    assert!(reader.is_marked());
    let text = |lines: Vec<Vec<u8>>| {
        lines.iter().map(|line| String::from_utf8_lossy(line).into_owned()).collect::<Vec<_>>().join("\n")
    };
    assert_eq!(text(lines), text(listing(archive.path())), "{options}");
}

#[test]
fn every_format_says_what_tar_says_that_it_does() {
    let folder = tree();
    for format in ["oldgnu", "gnu", "ustar", "posix"] {
        check(folder.path(), &format!("--format={format}"));
    }
    // Before pipes.
    check(folder.path(), "--format=v7 --exclude=pipe");
}

#[test]
fn long_names_and_names_of_any_bytes() {
    let folder = tree();
    add_long_names(folder.path());
    for format in ["oldgnu", "gnu", "posix"] {
        check(folder.path(), &format!("--format={format}"));
    }
}

#[test]
fn sparse_files_of_every_kind() {
    let folder = tree();
    add_sparse_files(folder.path());
    fs::write(folder.path().join("s".repeat(150)), b"long name").unwrap();
    for options in [
        "--format=oldgnu --sparse",
        "--format=gnu --sparse",
        "--format=posix --sparse --sparse-version=0.0",
        "--format=posix --sparse --sparse-version=0.1",
        "--format=posix --sparse --sparse-version=1.0",
    ] {
        check(folder.path(), options);
    }
}

#[test]
fn times_before_1970_and_far_ahead_and_large_owners() {
    let folder = tree();
    for (format, time) in [
        ("gnu", "@-1000000"),
        ("gnu", "@99999999999"),
        // tar 1.34 lists fractions before 1970 a second too late.
        ("posix", "@-1000000"),
        ("posix", "@99999999999.123456789"),
    ] {
        check(
            folder.path(),
            &format!("--format={format} --mtime={time} --owner=4294967294 --group=3000000000"),
        );
    }
}
