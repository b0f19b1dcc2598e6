//! Finds a kernel's modules and what they depend on, and unpacks them.
//!
//! Dependencies are read from the modules themselves (their `.modinfo` section), not from `modules.dep`:
//! packages do not ship that file, `depmod` makes it at installation, and these kernels are never installed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Cursor, Read as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use object::{Object as _, ObjectSection as _};

/// The modules that the guests need, where the kernel has them as modules. What a kernel has built in has no file;
/// what it lacks, the case that needs it reports.
pub(super) const WANTED: &[&str] = &[
    // The machine: disks, and the device by which a panic is reported.
    "virtio_pci",
    "virtio_blk",
    "pvpanic_pci",
    // What is tested, and what it stands on.
    "loop",
    "dm_mod",
    "dm_verity",
    "erofs",
    "overlay",
    // What survives a cut of the power.
    "ext4",
    // Digests. Linux 7 renamed and merged several.
    "md5",
    "sha1",
    "sha1_generic",
    "sha256",
    "sha256_generic",
    "sha512",
    "sha512_generic",
    "sha3",
    "sha3_generic",
    "blake2b",
    "blake2b_generic",
    "blake2s_generic",
    "rmd160",
    "sm3",
    "sm3_generic",
    "wp512",
];

/// A module, unpacked.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Module {
    /// As the kernel names it, with underscores.
    pub(super) name: String,
    /// The ELF file.
    pub(super) bytes: Vec<u8>,
}

/// Those of `wanted` that are in `folder`, and all that they depend on, dependencies first.
pub(super) fn collect(folder: &Path, wanted: &[&str]) -> anyhow::Result<Vec<Module>> {
    let files = index(folder)?;
    let mut collector = Collector { files: &files, seen: BTreeSet::new(), found: Vec::new() };
    for name in wanted {
        collector.add(name)?;
    }
    Ok(collector.found)
}

struct Collector<'a> {
    files: &'a BTreeMap<String, PathBuf>,
    seen: BTreeSet<String>,
    found: Vec<Module>,
}

impl Collector<'_> {
    /// Depth first. The kernel's build refuses modules that depend on each other in a circle; should there be one,
    /// `seen` ends it.
    fn add(&mut self, name: &str) -> anyhow::Result<()> {
        if !self.seen.insert(name.to_owned()) {
            return Ok(());
        }
        let Some(path) = self.files.get(name) else { return Ok(()) };
        let bytes = unpack(path).with_context(|| path.display().to_string())?;
        for needed in dependencies(&bytes).with_context(|| path.display().to_string())? {
            self.add(&needed)?;
        }
        self.found.push(Module { name: name.to_owned(), bytes });
        Ok(())
    }
}

/// Every module file below `folder`, by name.
fn index(folder: &Path) -> anyhow::Result<BTreeMap<String, PathBuf>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![folder.join("kernel")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let entry = entry.with_context(|| folder.display().to_string())?;
            if entry.file_type().with_context(|| folder.display().to_string())?.is_dir() {
                folders.push(entry.path());
            } else if let Some(name) = module_name(&entry.file_name().to_string_lossy()) {
                files.insert(name, entry.path());
            }
        }
    }
    Ok(files)
}

/// `dm-verity.ko.xz` is `dm_verity`.
fn module_name(file: &str) -> Option<String> {
    let (name, packing) = file.split_once(".ko")?;
    matches!(packing, "" | ".xz" | ".zst").then(|| name.replace('-', "_"))
}

fn unpack(path: &Path) -> anyhow::Result<Vec<u8>> {
    let packed = fs::read(path)?;
    let mut bytes = Vec::new();
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("xz") => lzma_rs::xz_decompress(&mut Cursor::new(packed), &mut bytes).context("unpacking xz")?,
        Some("zst") => {
            let mut decoder =
                ruzstd::decoding::StreamingDecoder::new(packed.as_slice()).context("unpacking zstd")?;
            decoder.read_to_end(&mut bytes).context("unpacking zstd")?;
        }
        _ => bytes = packed,
    }
    Ok(bytes)
}

/// The modules that must be loaded before this one.
fn dependencies(module: &[u8]) -> anyhow::Result<Vec<String>> {
    let file = object::File::parse(module).context("not an ELF file")?;
    let Some(section) = file.section_by_name(".modinfo") else { bail!("not a module: no .modinfo") };
    Ok(parse_modinfo(section.data().context(".modinfo")?))
}

/// `.modinfo` is a list of `key=value`, each ended by NUL.
fn parse_modinfo(section: &[u8]) -> Vec<String> {
    let mut needed = Vec::new();
    for entry in section.split(|&byte| byte == 0).filter_map(|entry| std::str::from_utf8(entry).ok()) {
        if let Some(list) = entry.strip_prefix("depends=") {
            needed.extend(list.split(',').filter(|name| !name.is_empty()).map(|name| name.replace('-', "_")));
        } else if let Some(list) = entry.strip_prefix("softdep=") {
            // `pre: a b post: c`: a and b are asked for at run time, and there is no modprobe in the guest.
            let mut pre = false;
            for word in list.split_ascii_whitespace() {
                match word {
                    "pre:" => pre = true,
                    "post:" => pre = false,
                    name if pre => needed.push(name.replace('-', "_")),
                    _ => {}
                }
            }
        }
    }
    needed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names() {
        assert_eq!(module_name("dm-verity.ko.xz").as_deref(), Some("dm_verity"));
        assert_eq!(module_name("loop.ko").as_deref(), Some("loop"));
        assert_eq!(module_name("sha256-ssse3.ko.zst").as_deref(), Some("sha256_ssse3"));
        assert_eq!(module_name("modules.dep"), None);
        assert_eq!(module_name("a.ko.debug"), None);
    }

    #[test]
    fn modinfo() {
        let section = b"license=GPL\0softdep=pre: crc32c xxhash64 post: late\0depends=dm-bufio,reed_solomon,dm-mod\0name=dm_verity\0";
        assert_eq!(parse_modinfo(section), ["crc32c", "xxhash64", "dm_bufio", "reed_solomon", "dm_mod"]);
        assert!(parse_modinfo(b"depends=\0").is_empty());
        assert!(parse_modinfo(b"\0\xff\0depends").is_empty());
    }

    /// The smallest ELF64 relocatable that has a `.modinfo` section.
    fn module(modinfo: &str) -> Vec<u8> {
        let names = b"\0.modinfo\0.shstrtab\0";
        let mut section = modinfo.as_bytes().to_vec();
        section.push(0);
        let (info_at, names_at) = (64u64, 64 + section.len() as u64);
        let headers_at = (names_at + names.len() as u64).next_multiple_of(8);
        let mut elf = b"\x7fELF\x02\x01\x01".to_vec();
        elf.resize(16, 0);
        elf.extend([1u16, 62].iter().flat_map(|word| word.to_le_bytes()));
        elf.extend(1u32.to_le_bytes());
        elf.extend([0, 0, headers_at].iter().flat_map(|word: &u64| word.to_le_bytes()));
        elf.extend(0u32.to_le_bytes());
        elf.extend([64u16, 0, 0, 64, 3, 2].iter().flat_map(|word| word.to_le_bytes()));
        elf.extend(&section);
        elf.extend(names);
        elf.resize(usize::try_from(headers_at).expect("small"), 0);
        let mut header = |name: u32, kind: u32, at: u64, len: u64| {
            elf.extend([name, kind].iter().flat_map(|word| word.to_le_bytes()));
            elf.extend([0, 0, at, len].iter().flat_map(|word: &u64| word.to_le_bytes()));
            elf.extend([0u8; 8]);
            elf.extend([1u64, 0].iter().flat_map(|word| word.to_le_bytes()));
        };
        header(0, 0, 0, 0);
        header(1, 1, info_at, section.len() as u64);
        header(10, 3, names_at, names.len() as u64);
        elf
    }

    #[test]
    fn dependencies_come_first_and_once() {
        let root = tempfile::tempdir().expect("a temporary folder");
        let folder = root.path().join("kernel/drivers/md");
        fs::create_dir_all(&folder).expect("inside it");
        for (file, depends) in [
            ("dm-verity.ko", "depends=dm-bufio,dm-mod,built-in"),
            ("dm-bufio.ko", "depends=dm-mod"),
            ("dm-mod.ko", "depends="),
            ("circle-a.ko", "depends=circle-b"),
            ("circle-b.ko", "depends=circle-a"),
        ] {
            fs::write(folder.join(file), module(depends)).expect("inside it");
        }
        let found =
            collect(root.path(), &["dm_verity", "dm_mod", "absent", "circle_a"]).expect("all readable");
        let names: Vec<_> = found.iter().map(|module| module.name.as_str()).collect();
        assert_eq!(names, ["dm_mod", "dm_bufio", "dm_verity", "circle_b", "circle_a"]);
    }

    #[test]
    fn packed_modules_are_unpacked() {
        let root = tempfile::tempdir().expect("a temporary folder");
        let (plain, xz) = (root.path().join("a.ko"), root.path().join("b.ko.xz"));
        let bytes = module("depends=x");
        fs::write(&plain, &bytes).expect("inside it");
        let mut packed = Vec::new();
        lzma_rs::xz_compress(&mut bytes.as_slice(), &mut packed).expect("a Vec takes everything");
        fs::write(&xz, packed).expect("inside it");
        assert_eq!(unpack(&plain).expect("readable"), bytes);
        assert_eq!(unpack(&xz).expect("readable"), bytes);
        let zst = root.path().join("c.ko.zst");
        let level = ruzstd::encoding::CompressionLevel::Fastest;
        fs::write(&zst, ruzstd::encoding::compress_to_vec(bytes.as_slice(), level)).expect("inside it");
        assert_eq!(unpack(&zst).expect("readable"), bytes);
    }

    #[test]
    fn what_is_no_module_is_an_error() {
        assert!(dependencies(b"not ELF").is_err());
        assert!(dependencies(&[]).is_err());
    }
}
