//! EROFS images of the library's making, mounted: the kernel sees what was put in.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use nix::mount::{MsFlags, mount, umount};
use rustix::fs::{lgetxattr, llistxattr, makedev};
use verity_core::block::BlockSize;
use verity_core::erofs::write::{Attributes, Kind, Options, Writer};

use crate::case::Case;
use crate::guest::{Context, Program, pattern};

const GIB: u64 = 1 << 30;

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::new(
            "erofs/tree",
            "an image that was written is mounted, and everything in it is as it was put in",
            tree,
        ),
        Case::new("erofs/small-blocks", "and so is one with blocks of 512 bytes", small_blocks).since(6, 4),
        Case::new(
            "erofs/sparse",
            "holes of a file of 5 GiB are zeros, and its data are where they were",
            sparse,
        ),
        Case::new("erofs/directory", "each of 100000 names in a directory is found", directory),
    ]
}

/// What a path is to name.
#[derive(Debug)]
enum What {
    Directory,
    File(Vec<u8>),
    Symlink(Vec<u8>),
    CharDevice(u32, u32),
    BlockDevice(u32, u32),
    Fifo,
    Socket,
    /// Another name of an earlier entry.
    Link(&'static str),
}

struct Entry {
    path: Vec<u8>,
    attributes: Attributes,
    what: What,
}

fn entry(path: impl Into<Vec<u8>>, what: What) -> Entry {
    let attributes = Attributes { mode: 0o644, mtime: 1_700_000_000, ..Attributes::default() };
    Entry { path: path.into(), attributes, what }
}

fn xattrs(list: &[(&str, &[u8])]) -> BTreeMap<Vec<u8>, Vec<u8>> {
    list.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.to_vec())).collect()
}

/// Something of everything.
fn everything() -> Vec<Entry> {
    let content = |length| pattern(length, 7);
    let mut changed = content(300_000);
    changed[70_000] ^= 1;
    let mut holed = vec![0; 1 << 20];
    holed.extend(b"the end");
    let mut entries = vec![
        entry("", What::Directory),
        entry("files/empty", What::File(vec![])),
        entry("files/one", What::File(vec![1])),
        entry("files/half", What::File(content(2048))),
        entry("files/more", What::File(content(2049))),
        entry("files/block", What::File(content(4096))),
        entry("files/large", What::File(content(300_000))),
        entry("files/same", What::File(content(300_000))),
        entry("files/similar", What::File(changed)),
        entry("files/holes", What::File(holed)),
        entry("files/zeros", What::File(vec![0; 200_000])),
        entry("files/again", What::Link("files/large")),
        entry("links/short", What::Symlink(b"../files/one".to_vec())),
        entry("links/long", What::Symlink(b"x/".repeat(2047))),
        entry("special/null", What::CharDevice(1, 3)),
        entry("special/whiteout", What::CharDevice(0, 0)),
        entry("special/large", What::BlockDevice(4095, 1_048_575)),
        entry("special/pipe", What::Fifo),
        entry("special/socket", What::Socket),
        entry(b"names/\xff\xfe not UTF-8\n".to_vec(), What::File(content(10))),
        entry([b"names/".as_slice(), &[b'n'; 255]].concat(), What::Directory),
        entry("names/!", What::Fifo),
    ];
    // Two with the same attributes, one with others.
    let acl = b"\x02\0\0\0\x01\0\x06\0\xff\xff\xff\xff\x02\0\x04\0\xe8\x03\0\0\x04\0\x04\0\xff\xff\xff\xff\
                \x10\0\x04\0\xff\xff\xff\xff\x20\0\x04\0\xff\xff\xff\xff";
    let capability = b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    for (name, list) in [
        ("one", &[("security.capability", &capability[..]), ("user.shared", b"value")][..]),
        ("other", &[("security.capability", capability), ("user.shared", b"value"), ("user.empty", b"")]),
        ("acl", &[("system.posix_acl_access", acl), ("user.large", &[5; 3000])]),
    ] {
        let mut entry = entry(format!("xattrs/{name}"), What::File(content(2000)));
        entry.attributes.xattrs = xattrs(list);
        entries.push(entry);
    }
    let mut opaque = entry("xattrs", What::Directory);
    opaque.attributes.xattrs = xattrs(&[("trusted.overlay.opaque", b"y")]);
    entries.push(opaque);
    for (name, uid, gid, mode) in [("owner", 65_536, u32::MAX - 1, 0o4755), ("small", 65_535, 1000, 0o2070)] {
        let mut entry = entry(format!("owners/{name}"), What::File(content(5000)));
        entry.attributes = Attributes { uid, gid, mode, ..entry.attributes };
        entries.push(entry);
    }
    for (name, mtime, mtime_nsec) in
        [("ns", 1_700_000_000, 123_456_789), ("old", -1, 5), ("late", 1 << 33, 0)]
    {
        let mut entry = entry(format!("times/{name}"), What::Fifo);
        entry.attributes = Attributes { mtime, mtime_nsec, ..entry.attributes };
        entries.push(entry);
    }
    entries.extend(
        (0..2000).map(|number| entry(format!("many/{number}"), What::Symlink(format!("{number}").into()))),
    );
    entries
}

fn write(path: &Path, block_size: u32, entries: &[Entry]) -> anyhow::Result<()> {
    let file = File::create_new(path).context("creating the image")?;
    let mut options = Options::default();
    options.block_size = BlockSize::new(block_size)?;
    let mut writer = Writer::new(&file, options)?;
    for Entry { path, attributes, what } in entries {
        let mut content: &[u8] = if let What::File(content) = what { content } else { &[] };
        let kind = match what {
            What::Link(target) => {
                writer.link(path, target.as_bytes())?;
                continue;
            }
            What::Directory => Kind::Directory,
            What::File(_) => Kind::File { size: content.len() as u64, content: &mut content },
            What::Symlink(target) => Kind::Symlink(target),
            &What::CharDevice(major, minor) => Kind::CharDevice { major, minor },
            &What::BlockDevice(major, minor) => Kind::BlockDevice { major, minor },
            What::Fifo => Kind::Fifo,
            What::Socket => Kind::Socket,
        };
        writer.add(path, attributes, kind)?;
    }
    writer.finish()?;
    Ok(())
}

/// An image on a loop device, mounted.
struct Mounted {
    device: PathBuf,
    root: PathBuf,
}

impl Mounted {
    fn new(context: &Context, image: &Path) -> anyhow::Result<Self> {
        let device = Program::new("losetup").words("--find --show --read-only").arg(image).succeed()?;
        let device = PathBuf::from(device.stdout.trim());
        let root = context.path("mnt");
        fs::create_dir(&root).context("making a mount point")?;
        mount(Some(&device), &root, Some("erofs"), MsFlags::MS_RDONLY, None::<&str>).context("mounting")?;
        Ok(Self { device, root })
    }

    fn path(&self, path: &[u8]) -> PathBuf {
        // Joining nothing would add a slash, which is followed.
        if path.is_empty() { self.root.clone() } else { self.root.join(OsStr::from_bytes(path)) }
    }

    fn undo(self) -> anyhow::Result<()> {
        umount(&self.root).context("unmounting")?;
        Program::new("losetup").arg("--detach").arg(&self.device).succeed()?;
        Ok(())
    }
}

fn tree(context: &mut Context) -> anyhow::Result<()> {
    compare(context, 4096)
}

fn small_blocks(context: &mut Context) -> anyhow::Result<()> {
    compare(context, 512)
}

fn compare(context: &Context, block_size: u32) -> anyhow::Result<()> {
    let entries = everything();
    let image = context.path("image");
    write(&image, block_size, &entries)?;
    let mounted = Mounted::new(context, &image)?;
    for entry in &entries {
        check(&mounted, entry).with_context(|| format!("{:?}", OsStr::from_bytes(&entry.path)))?;
    }
    let names = |folder: &[u8]| -> anyhow::Result<BTreeSet<OsString>> {
        let entries = fs::read_dir(mounted.path(folder))?.map(|entry| entry.map(|entry| entry.file_name()));
        Ok(entries.collect::<io::Result<_>>()?)
    };
    let expected = ["files", "links", "special", "names", "xattrs", "owners", "times", "many"];
    ensure!(names(b"")? == expected.map(OsString::from).into(), "in the root is {:?}", names(b"")?);
    ensure!(names(b"many")?.len() == 2000, "{} names instead of 2000", names(b"many")?.len());
    let links = fs::metadata(mounted.path(b""))?.nlink();
    ensure!(links == 10, "the root has {links} names");
    mounted.undo()
}

fn check(mounted: &Mounted, Entry { path, attributes, what }: &Entry) -> anyhow::Result<()> {
    let path = mounted.path(path);
    let metadata = fs::symlink_metadata(&path)?;
    let file_type = metadata.file_type();
    if let What::Link(target) = what {
        let target = fs::symlink_metadata(mounted.path(target.as_bytes()))?;
        ensure!(target.ino() == metadata.ino() && metadata.nlink() == 2, "is no other name of {target:?}");
        return Ok(());
    }
    let sound = match what {
        What::Directory => metadata.is_dir(),
        What::File(content) => metadata.is_file() && fs::read(&path)? == *content,
        What::Symlink(target) => fs::read_link(&path)?.as_os_str().as_bytes() == target,
        &What::CharDevice(major, minor) => {
            file_type.is_char_device() && metadata.rdev() == makedev(major, minor)
        }
        &What::BlockDevice(major, minor) => {
            file_type.is_block_device() && metadata.rdev() == makedev(major, minor)
        }
        What::Fifo => file_type.is_fifo(),
        What::Socket => file_type.is_socket(),
        What::Link(_) => true,
    };
    ensure!(sound, "another kind, or other content: {metadata:?}");
    if !metadata.is_symlink() {
        ensure!(metadata.mode() & 0o7777 == u32::from(attributes.mode), "mode {:o}", metadata.mode());
    }
    let owner = (metadata.uid(), metadata.gid());
    ensure!(owner == (attributes.uid, attributes.gid), "owner {owner:?}");
    let time = (metadata.mtime(), metadata.mtime_nsec());
    ensure!(time == (attributes.mtime, i64::from(attributes.mtime_nsec)), "time {time:?}");
    let found = xattrs_of(&path)?;
    ensure!(found == attributes.xattrs, "attributes {found:?}");
    Ok(())
}

fn xattrs_of(path: &Path) -> anyhow::Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    let mut list = vec![0; 65_536];
    let length = llistxattr(path, &mut list[..]).context("listing attributes")?;
    let names = list[..length].split(|&byte| byte == 0).filter(|name| !name.is_empty());
    let found = names.map(|name| {
        let mut value = vec![0; 65_536];
        let length = lgetxattr(path, OsStr::from_bytes(name), &mut value[..])?;
        value.truncate(length);
        Ok((name.to_vec(), value))
    });
    found.collect()
}

fn sparse(context: &mut Context) -> anyhow::Result<()> {
    let image = context.path("image");
    let file = File::create_new(&image).context("creating the image")?;
    let mut writer = Writer::new(&file, Options::default())?;
    let bytes = pattern(100_000, 3);
    let start = 4 * GIB + 5;
    let data = start..start + bytes.len() as u64;
    let kind =
        Kind::Sparse { size: 5 * GIB, data: std::slice::from_ref(&data), content: &mut bytes.as_slice() };
    writer.add(b"file", &Attributes { mode: 0o600, ..Attributes::default() }, kind)?;
    let summary = writer.finish()?;
    ensure!(summary.size < GIB / 1024, "the image has {} bytes", summary.size);

    let mounted = Mounted::new(context, &image)?;
    let file = File::open(mounted.path(b"file")).context("opening the file")?;
    ensure!(file.metadata()?.len() == 5 * GIB, "the size is {}", file.metadata()?.len());
    let mut read = vec![1; bytes.len() + 10];
    file.read_exact_at(&mut read, start - 5).context("reading the data")?;
    ensure!(read[5..][..bytes.len()] == bytes, "the data differ");
    ensure!(read[..5] == [0; 5] && read[read.len() - 5..] == [0; 5], "what is beside the data is not zero");
    for offset in [0, GIB - 10, 5 * GIB - 100_010] {
        file.read_exact_at(&mut read, offset).with_context(|| format!("reading at {offset}"))?;
        ensure!(read.iter().all(|&byte| byte == 0), "there is something in the hole at {offset}");
    }
    drop(file);
    mounted.undo()
}

fn directory(context: &mut Context) -> anyhow::Result<()> {
    let name = |number: u32| format!("folder/entry number {number}").into_bytes();
    let entries: Vec<_> = (0..100_000).map(|number| entry(name(number), What::Fifo)).collect();
    let image = context.path("image");
    write(&image, 4096, &entries)?;
    let mounted = Mounted::new(context, &image)?;
    // The names alone: an entry keeps the directory open.
    let names = fs::read_dir(mounted.path(b"folder"))?.map(|entry| entry.map(|entry| entry.file_name()));
    let listed = names.collect::<io::Result<Vec<_>>>()?;
    let distinct: BTreeSet<_> = listed.iter().collect();
    ensure!(listed.len() == 100_000 && distinct.len() == 100_000, "{} names are listed", listed.len());
    for number in 0..100_000 {
        let found = fs::symlink_metadata(mounted.path(&name(number)));
        let found = found.with_context(|| format!("looking up {number}"))?;
        ensure!(found.file_type().is_fifo(), "number {number} is something else");
    }
    let absent = fs::symlink_metadata(mounted.path(b"folder/entry number 100000"));
    ensure!(absent.is_err_and(|error| error.kind() == io::ErrorKind::NotFound), "a name too many is found");
    mounted.undo()
}
