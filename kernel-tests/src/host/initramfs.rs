//! The root file system of a guest, as a cpio archive.
//!
//! It is not compressed: reading a few MiB more is much quicker than inflating them under emulation.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fs;
use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail, ensure};
use cpio::newc;

use super::modules::Module;

/// File types and permissions as in `st_mode`.
const FOLDER: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const PLAIN: u32 = 0o100_644;
const CHARACTER_DEVICE: u32 = 0o020_600;

/// An archive in the making: path without leading slash, to contents.
#[derive(Debug, Default, Clone)]
pub(super) struct Initramfs {
    files: BTreeMap<String, File>,
}

#[derive(Debug, Clone)]
struct File {
    mode: u32,
    bytes: Vec<u8>,
    device: (u32, u32),
}

impl Initramfs {
    /// An archive with nothing but the console, without which process 1 has no standard streams.
    pub(super) fn new() -> Self {
        let mut new = Self::default();
        new.put("dev/console", File { mode: CHARACTER_DEVICE, bytes: Vec::new(), device: (5, 1) });
        new
    }

    fn put(&mut self, path: &str, file: File) {
        self.files.insert(path.trim_start_matches('/').to_owned(), file);
    }

    /// Adds a plain file.
    pub(super) fn file(&mut self, path: &str, bytes: impl Into<Vec<u8>>) {
        self.put(path, File { mode: PLAIN, bytes: bytes.into(), device: (0, 0) });
    }

    /// Adds a program that needs no libraries.
    pub(super) fn program(&mut self, path: &str, from: &Path) -> anyhow::Result<()> {
        let bytes = fs::read(from).with_context(|| from.display().to_string())?;
        self.put(path, File { mode: PROGRAM, bytes, device: (0, 0) });
        Ok(())
    }

    /// Adds a program of this machine with the libraries that the loader would give it here.
    pub(super) fn host_program(&mut self, from: &Path) -> anyhow::Result<()> {
        self.unpacked_program(from, Path::new("/"))
    }

    /// Adds a program from packages that were unpacked at `root`. Libraries that are not there are this machine's.
    pub(super) fn unpacked_program(&mut self, from: &Path, root: &Path) -> anyhow::Result<()> {
        let name = from.file_name().context("a program without a name")?.to_string_lossy();
        self.program(&format!("bin/{name}"), from)?;
        for library in libraries(from, root)? {
            let inside = library.strip_prefix(root).unwrap_or(&library).to_string_lossy();
            if !self.files.contains_key(inside.trim_start_matches('/')) {
                self.program(&inside, &library)?;
            }
        }
        Ok(())
    }

    /// Adds modules and the list from which the guest loads them.
    pub(super) fn modules(&mut self, modules: &[Module]) {
        let mut order = String::new();
        for Module { name, bytes } in modules {
            let path = format!("/lib/modules/{name}.ko");
            order.push_str(&format!("{name} {path}\n"));
            self.file(&path, bytes.clone());
        }
        self.file("/lib/modules/order", order);
    }

    /// Writes the archive, folders before what is in them.
    pub(super) fn write(&self, to: impl Write) -> anyhow::Result<()> {
        let mut folders = BTreeSet::new();
        for path in self.files.keys() {
            // All but the last of the ancestors: that one is the root itself.
            folders.extend(Path::new(path).ancestors().skip(1).filter(|path| *path != Path::new("")));
        }
        let folders = folders.into_iter().map(|folder| {
            (folder.to_string_lossy().into_owned(), File { mode: FOLDER, bytes: Vec::new(), device: (0, 0) })
        });
        let files = self.files.iter().map(|(path, file)| (path.clone(), file.clone()));
        let entries = folders.chain(files).zip(1u32..).map(|((path, file), inode)| {
            let entry = newc::Builder::new(&path)
                .ino(inode)
                .nlink(1)
                .mode(file.mode)
                .rdev_major(file.device.0)
                .rdev_minor(file.device.1);
            (entry, Cursor::new(file.bytes))
        });
        cpio::write_cpio(entries, to)
            .context("writing the initramfs")?
            .flush()
            .context("writing the initramfs")
    }
}

/// A program of this machine by its name: in `PATH`, or where only root's `PATH` leads.
pub(super) fn find_program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
}

fn libraries(program: &Path, root: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let search = ["lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu"].map(|folder| root.join(folder));
    let search = env::join_paths(search).context("a colon in the path of unpacked packages")?;
    let output =
        Command::new("ldd").arg(program).env("LD_LIBRARY_PATH", search).output().context("starting ldd")?;
    let text = String::from_utf8_lossy(&output.stdout);
    if text.contains("statically linked") || String::from_utf8_lossy(&output.stderr).contains("not a dynamic")
    {
        return Ok(Vec::new());
    }
    ensure!(
        output.status.success(),
        "ldd {}: {}",
        program.display(),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    parse_ldd(&text).with_context(|| format!("ldd {}", program.display()))
}

/// `NAME => /path (0x...)`, `/path/of/the/loader (0x...)`, `linux-vdso.so.1 (0x...)`.
fn parse_ldd(text: &str) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (name, path) = line.split_once(" => ").unwrap_or((line, line));
        if path.starts_with("not found") {
            bail!("the library {name} is missing on this machine");
        }
        let path = path.split(" (").next().unwrap_or_default();
        // What is left without a slash is the kernel's own vdso.
        if path.starts_with('/') {
            found.push(PathBuf::from(path));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn the_archive_has_what_was_put_in_it_with_folders_first() {
        let mut made = Initramfs::new();
        made.file("/lib/modules/a.ko", "aaaa");
        made.modules(&[Module { name: "b".into(), bytes: vec![1, 2, 3] }]);
        let mut archive = Vec::new();
        made.write(&mut archive).expect("a Vec takes everything");

        let mut names = Vec::new();
        let mut rest: Box<dyn Read> = Box::new(Cursor::new(archive));
        loop {
            let mut reader = newc::Reader::new(rest).expect("an entry");
            if reader.entry().is_trailer() {
                break;
            }
            let (name, mode) = (reader.entry().name().to_owned(), reader.entry().mode());
            let mut bytes = Vec::new();
            reader.read_to_end(&mut bytes).expect("its contents");
            if name == "dev/console" {
                assert_eq!((reader.entry().rdev_major(), reader.entry().rdev_minor()), (5, 1));
            }
            names.push((name, mode, bytes));
            rest = Box::new(reader.finish().expect("the next header"));
        }
        let names: Vec<_> =
            names.iter().map(|(name, mode, bytes)| (name.as_str(), *mode, bytes.len())).collect();
        assert_eq!(
            names,
            [
                ("dev", FOLDER, 0),
                ("lib", FOLDER, 0),
                ("lib/modules", FOLDER, 0),
                ("dev/console", CHARACTER_DEVICE, 0),
                ("lib/modules/a.ko", PLAIN, 4),
                ("lib/modules/b.ko", PLAIN, 3),
                ("lib/modules/order", PLAIN, "b /lib/modules/b.ko\n".len()),
            ]
        );
    }

    #[test]
    fn ldd() {
        let text = "\tlinux-vdso.so.1 (0x00007ffd)\n\tlibcryptsetup.so.12 => /lib/x86_64-linux-gnu/libcryptsetup.so.12 (0x00007f)\n\t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n";
        let found = parse_ldd(text).expect("all found");
        assert_eq!(
            found,
            [
                Path::new("/lib/x86_64-linux-gnu/libcryptsetup.so.12"),
                Path::new("/lib64/ld-linux-x86-64.so.2")
            ]
        );
        let error = parse_ldd("\tlibx.so => not found\n").expect_err("missing");
        assert!(error.to_string().contains("libx.so"), "{error}");
    }
}
