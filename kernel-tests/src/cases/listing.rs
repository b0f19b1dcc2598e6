//! What is in a tree, as lines that can be compared with those of another program: `list_tree` of `.x/demo-layers.sh` makes the same.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use anyhow::Context as _;
use rustix::fs::{lgetxattr, llistxattr};
use verity_core::layer::Digest;

/// Every fact of the tree at `root`, without the root itself.
pub(super) fn of(root: &Path) -> anyhow::Result<BTreeSet<String>> {
    let mut facts = BTreeSet::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let path = entry?.path();
            add(root, &path, &mut facts).with_context(|| path.display().to_string())?;
            if fs::symlink_metadata(&path)?.is_dir() {
                folders.push(path);
            }
        }
    }
    Ok(facts)
}

fn add(root: &Path, path: &Path, facts: &mut BTreeSet<String>) -> anyhow::Result<()> {
    let name = path.strip_prefix(root)?.display();
    let metadata = fs::symlink_metadata(path)?;
    let kind = metadata.file_type();
    let (letter, more) = if kind.is_file() {
        ('f', metadata.len().to_string())
    } else if kind.is_symlink() {
        ('l', fs::read_link(path)?.display().to_string())
    } else {
        let known = [
            (kind.is_dir(), 'd'),
            (kind.is_char_device(), 'c'),
            (kind.is_block_device(), 'b'),
            (kind.is_fifo(), 'p'),
            (kind.is_socket(), 's'),
        ];
        (known.iter().find(|(is, _)| *is).map_or('?', |(_, letter)| *letter), String::new())
    };
    let (mode, uid, gid) = (metadata.mode() & 0o7777, metadata.uid(), metadata.gid());
    // find prints ten digits of a second.
    let time = format!("{}.{:09}0", metadata.mtime(), metadata.mtime_nsec());
    facts.insert(format!("meta\t{name}\t{letter}\t{mode:o}\t{uid}\t{gid}\t{time}\t{more}"));
    if kind.is_file() {
        let digest = Digest::sha256(&fs::read(path)?).to_string();
        facts.insert(format!("sha256\t{}\t{name}", digest.trim_start_matches("sha256:")));
    }
    let mut list = vec![0; 65_536];
    let length = llistxattr(path, &mut list[..]).context("listing attributes")?;
    for attribute in list[..length].split(|&byte| byte == 0).filter(|name| !name.is_empty()) {
        let mut value = vec![0; 65_536];
        let length = lgetxattr(path, OsStr::from_bytes(attribute), &mut value[..])?;
        let value = value[..length].iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        });
        facts.insert(format!("xattr\t{name}\t{}=0x{value}", String::from_utf8_lossy(attribute)));
    }
    Ok(())
}
