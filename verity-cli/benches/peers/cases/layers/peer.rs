//! The newest erofs-utils that Debian has, and what its `fsck.erofs` finds in an image.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest, Sha256};

use super::Compression;
use super::input::made;
use crate::child;
use crate::programs::hex;
use crate::stop::{Result, Stop};

pub(super) struct ErofsUtils {
    folder: PathBuf,
    pub(super) version: String,
}

impl ErofsUtils {
    pub(super) fn find() -> Result<Self> {
        let folder = made("erofs-utils")?;
        let said = child::run(Command::new(folder.join("mkfs.erofs")).arg("--version"))?.stdout;
        let version = said.lines().next().and_then(|line| line.split_whitespace().last());
        let version = version.unwrap_or("of an unknown version").to_owned();
        Ok(Self { folder, version })
    }

    /// An image from a tar, its content in it. What mkfs.erofs cannot decompress comes through a pipe.
    pub(super) fn mkfs(&self, layer: &Path, compression: Compression, image: &Path) -> Command {
        let mkfs = self.folder.join("mkfs.erofs");
        if compression == Compression::Zstd {
            let mut command = Command::new("sh");
            command.args(["-c", "zstd -dcq \"$1\" | \"$2\" --quiet --tar=f \"$3\"", "sh"]);
            command.arg(layer).arg(mkfs).arg(image);
            return command;
        }
        let mut command = Command::new(mkfs);
        command.args(["--quiet", "--tar=f"]);
        if compression == Compression::Gzip {
            command.arg("--gzip");
        }
        command.arg(image).arg(layer);
        command
    }

    pub(super) fn fsck(&self, image: &Path) -> Command {
        let mut command = Command::new(self.folder.join("fsck.erofs"));
        command.arg(image);
        command
    }
}

/// A digest of a tree: every name with type, mode, owner, time, links, device and content. It has as many names as the tar, the root
/// among them or not.
pub(super) fn tree_digest(root: &Path, entries: u64) -> Result<String> {
    let mut digest = Sha256::new();
    let mut found = 0;
    let mut rest = vec![root.to_owned()];
    let mut buffer = vec![0; 1 << 20];
    while let Some(path) = rest.pop() {
        found += 1;
        let metadata = fs::symlink_metadata(&path)?;
        let kind = metadata.file_type();
        let name = path.strip_prefix(root).unwrap_or(&path);
        digest.update(name.as_os_str().as_bytes());
        digest.update([0]);
        let size = if kind.is_dir() { 0 } else { metadata.size() };
        let device = if kind.is_char_device() || kind.is_block_device() { metadata.rdev() } else { 0 };
        for number in [
            u64::from(metadata.mode()),
            u64::from(metadata.uid()),
            u64::from(metadata.gid()),
            metadata.mtime().cast_unsigned(),
            metadata.mtime_nsec().cast_unsigned(),
            metadata.nlink(),
            device,
            size,
        ] {
            digest.update(number.to_le_bytes());
        }
        if kind.is_dir() {
            let mut names = fs::read_dir(&path)?
                .map(|entry| entry.map(|entry| entry.path()))
                .collect::<std::io::Result<Vec<_>>>()?;
            names.sort_unstable();
            rest.extend(names);
        } else if kind.is_symlink() {
            digest.update(fs::read_link(&path)?.as_os_str().as_bytes());
        } else if kind.is_file() {
            let mut file = File::open(&path)?;
            loop {
                match file.read(&mut buffer)? {
                    0 => break,
                    count => digest.update(&buffer[..count]),
                }
            }
        }
    }
    if found < entries {
        return Err(Stop::failed(format_args!("an image has {found} names of {entries}")));
    }
    Ok(hex(&digest.finalize()))
}
