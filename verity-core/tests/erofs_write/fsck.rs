//! What the C tools say of an image.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;
use std::process::Command;

use crate::read::{Found, What};

/// A tool's version; says so if there is none.
fn version(tool: &str) -> Option<(u32, u32)> {
    let Ok(said) = Command::new(tool).arg("-V").output() else {
        eprintln!("skipped: no {tool}");
        return None;
    };
    let said = String::from_utf8([said.stdout, said.stderr].concat()).unwrap();
    let version =
        said.split([' ', '\n', ')']).find(|word| word.starts_with(|first: char| first.is_ascii_digit()));
    let mut numbers = version.unwrap().split('.').map(|number| number.parse().unwrap());
    Some((numbers.next().unwrap(), numbers.next().unwrap()))
}

/// fsck.erofs finds nothing wrong, and for root unpacks what is there, but for extended attributes.
pub(crate) fn check(bytes: &[u8], found: &BTreeMap<Vec<u8>, Found>) {
    let Some(version) = version("fsck.erofs") else { return };
    let block_bits = bytes[1024 + 12];
    if version < (1, 6) && block_bits != 12 {
        eprintln!("skipped: fsck.erofs {version:?} knows blocks of 4096 bytes only");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("image");
    fs::write(&image, bytes).unwrap();
    let output = folder.path().join("unpacked");
    // Nobody else makes devices, and files of others.
    let root = fs::metadata(&image).unwrap().uid() == 0;
    let mut extract = OsStr::new("--extract").to_owned();
    if root {
        extract.push("=");
        extract.push(&output);
    }
    // It goes into directories by recursion, and with 8 MiB of stack it crashes somewhere between 500 and 1,000 of them.
    let script = "ulimit -S -s \"$(ulimit -H -s)\"; exec fsck.erofs \"$@\"";
    let run = Command::new("sh").args(["-c", script, "sh"]).arg(extract).arg(&image).output().unwrap();
    let said = [run.stdout, run.stderr].concat();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&said));
    if root {
        found.iter().for_each(|(path, found)| compare(&output.join(OsStr::from_bytes(path)), found, version));
    }
}

fn compare(path: &Path, found: &Found, version: (u32, u32)) {
    let metadata = fs::symlink_metadata(path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    match &found.what {
        What::Directory => assert!(metadata.is_dir()),
        What::File(_) if found.has_holes && version < (1, 8) => {
            // It leaves holes out, and what follows moves up.
            assert!(metadata.is_file());
        }
        What::File(content) if found.has_holes => {
            // It leaves out the hole that a file ends in.
            let unpacked = fs::read(path).unwrap();
            let rest = content.strip_prefix(unpacked.as_slice()).unwrap_or_else(|| panic!("{path:?}"));
            assert!(rest.iter().all(|&byte| byte == 0), "{path:?}");
        }
        What::File(content) => assert!(fs::read(path).unwrap() == *content, "{path:?}"),
        What::Symlink(target) => assert_eq!(fs::read_link(path).unwrap().as_os_str().as_bytes(), target),
        What::CharDevice(major, minor) => {
            assert!(metadata.file_type().is_char_device());
            assert_eq!(metadata.rdev(), rustix::fs::makedev(*major, *minor));
        }
        What::BlockDevice(major, minor) => {
            assert!(metadata.file_type().is_block_device());
            assert_eq!(metadata.rdev(), rustix::fs::makedev(*major, *minor));
        }
        What::Fifo => assert!(metadata.file_type().is_fifo()),
        What::Socket => assert!(metadata.file_type().is_socket()),
    }
    let attributes = &found.attributes;
    assert_eq!((metadata.uid(), metadata.gid()), (attributes.uid, attributes.gid), "{path:?}");
    assert_eq!(
        (metadata.mtime(), metadata.mtime_nsec()),
        (attributes.mtime, attributes.mtime_nsec.into()),
        "{path:?}"
    );
    if !metadata.is_symlink() {
        // The change of owner comes after that of the mode, and takes the set-uid and set-gid bits away.
        assert_eq!(metadata.mode() & 0o1777, u32::from(attributes.mode & 0o1777), "{path:?}");
    }
}

/// What dump.erofs says of a path, or of the superblock.
pub(crate) fn dump(bytes: &[u8], arguments: &[&str]) -> Option<String> {
    version("dump.erofs").map(|_| {
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("image");
        fs::write(&image, bytes).unwrap();
        let run = Command::new("dump.erofs").args(arguments).arg(&image).output().unwrap();
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
        String::from_utf8(run.stdout).unwrap()
    })
}
