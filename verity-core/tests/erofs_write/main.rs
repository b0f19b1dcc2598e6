//! Images that the writer makes, read back by the library and by erofs-utils.

// One range is what is meant.
#![allow(clippy::single_range_in_vec_init)]

mod fsck;
mod model;
mod random;
mod read;

use std::io::{self, Read};
use std::ops::Range;
use std::sync::Mutex;

use model::{Step, image};
use read::{What, read};
use verity_core::block::BlockSize;
use verity_core::erofs::Image;
use verity_core::erofs::write::{Attributes, Error, Kind, Options, PathProblem, Summary, Writer};
use verity_core::io::{MemoryDevice, WriteAt};

fn attributes() -> Attributes {
    Attributes { mode: 0o644, ..Attributes::default() }
}

fn file(path: &str, content: &[u8]) -> Step {
    Step::Add(path.into(), attributes(), What::File(content.to_vec()))
}

fn folder(path: &str) -> Step {
    Step::Add(path.into(), attributes(), What::Directory)
}

fn link(path: &str, target: &str) -> Step {
    Step::Link(path.into(), target.into())
}

/// Bytes of which no two blocks are alike.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    let next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()[0]
    };
    std::iter::repeat_with(next).take(length).collect()
}

#[test]
fn what_has_a_name_twice_is_what_it_was_last() {
    let steps = [
        file("a/b/c", b"first"),
        file("a/b/c", b"second"),
        link("a/b/d", "a/b/c"),
        folder("a/b/c"),
        // What was in it goes, but for what has another name.
        link("kept", "a/b/d"),
        file("a/b", b"a file now"),
        // A file in it is refused, and so are names of nothing and of directories.
        file("a/b/c", b""),
        link("no", "a/b/d"),
        link("no", "a"),
        link("no", "kept/x"),
        // A name of itself, and a name in the place of the directory that the target is in.
        link("kept", "kept"),
        file("x/y/z", b"z"),
        link("x", "x/y/z"),
        folder("x"),
        folder("a"),
    ];
    let (bytes, summary, found) = image(Options::default(), &steps);
    let paths: Vec<_> = found.keys().map(|path| String::from_utf8_lossy(path)).collect();
    assert_eq!(paths, ["", "a", "a/b", "kept", "x"]);
    assert_eq!(found[&b"kept"[..]].what, What::File(b"second".to_vec()));
    assert_eq!(summary.inodes, 5);
    fsck::check(&bytes, &found);
}

#[test]
fn an_empty_image_has_a_root() {
    let (bytes, summary, found) = image(Options::default(), &[]);
    assert_eq!((summary.inodes, summary.blocks), (1, 2));
    fsck::check(&bytes, &found);
}

#[test]
fn the_superblock_says_what_is_there() {
    let mut options = Options::default();
    options.uuid = *b"0123456789abcdef";
    let (bytes, summary, _) = image(options, &[file("a", &noise(10_000)), file("b", &[0; 1 << 17])]);
    let superblock = Image::open(&bytes, summary.size).unwrap().superblock().clone();
    assert_eq!(superblock.uuid, *b"0123456789abcdef");
    assert_eq!((superblock.inodes, u64::from(superblock.blocks)), (3, summary.blocks));
    let Some(dump) = fsck::dump(&bytes, &["-s"]) else { return };
    for line in ["0xE0F5E1E2", "sb_csum mtime chunked_file", "30313233-3435-3637-3839-616263646566"] {
        assert!(dump.contains(line), "{line} in\n{dump}");
    }
}

/// Everything is in the image once, whatever its name, and so are pieces of 64 KiB.
#[test]
fn the_same_content_is_stored_once() {
    let content = noise(300_000);
    let mut other = content.clone();
    other[70_000] ^= 1;
    let steps = [file("a", &content), file("b", &content), file("c", &other), file("d", &content[..65_536])];
    let (bytes, summary, found) = image(Options::default(), &steps);
    // The end of `b` is beside its inode, of `c` in a block: a chunk of it is new.
    assert_eq!(summary.deduplicated, 73 * 4096 + 3 * 65_536 + 65_536);
    assert!(summary.size < 300_000 + 65_536 + 16 * 4096, "{summary:?}");
    fsck::check(&bytes, &found);
}

/// Up to half a block lies beside the inode, as long as that has room.
#[test]
fn short_ends_lie_beside_their_inodes() {
    let content = noise(8192);
    for (length, stored) in [
        (0, (0, 0)),
        (1, (0, 1)),
        (2048, (0, 2048)),
        (2049, (4096, 0)),
        (4096, (4096, 0)),
        (4097, (4096, 1)),
        (6144, (4096, 2048)),
        (6145, (8192, 0)),
    ] {
        let (_, _, found) = image(Options::default(), &[file("a", &content[..length])]);
        assert_eq!(found[&b"a"[..]].stored, stored, "{length}");
    }
    let mut crowded = attributes();
    crowded.xattrs.insert(b"user.large".to_vec(), noise(3000));
    for (length, stored) in [(900, (0, 900)), (1100, (4096, 0))] {
        let step = Step::Add(b"a".to_vec(), crowded.clone(), What::File(noise(length)));
        let (_, _, found) = image(Options::default(), &[step]);
        assert_eq!(found[&b"a"[..]].stored, stored, "{length}");
    }
}

#[test]
fn attributes_that_several_have_are_there_once() {
    let mut labelled = attributes();
    labelled.xattrs.insert(b"security.selinux".to_vec(), b"system_u:object_r:bin_t:s0\0".to_vec());
    labelled.xattrs.insert(b"user.own".to_vec(), vec![]);
    let steps: Vec<_> =
        (0..100).map(|name| Step::Add(format!("{name}").into(), labelled.clone(), What::Fifo)).collect();
    let (bytes, _, found) = image(Options::default(), &steps);
    assert_eq!(bytes.windows(8).filter(|bytes| bytes == b"system_u").count(), 1);
    fsck::check(&bytes, &found);
    // More than an inode can point to, and more than fit in a block.
    let mut many = attributes();
    many.xattrs = (0..300).map(|number| (format!("user.{number}").into_bytes(), noise(20))).collect();
    let steps = ["a", "b"].map(|name| Step::Add(name.into(), many.clone(), What::Fifo));
    let (bytes, _, found) = image(Options::default(), &steps);
    fsck::check(&bytes, &found);
}

/// The time that most have needs no room.
#[test]
fn most_inodes_are_compact() {
    let with_time = |name: u32, mtime| {
        Step::Add(format!("{name:04}").into(), Attributes { mtime, ..attributes() }, What::Fifo)
    };
    let steps: Vec<_> = (0..1000).map(|name| with_time(name, 1_700_000_000)).collect();
    let (same, ..) = image(Options::default(), &steps);
    let steps: Vec<_> = (0..1000).map(|name| with_time(name, 1_700_000_000 + i64::from(name))).collect();
    let (different, ..) = image(Options::default(), &steps);
    assert_eq!(different.len() - same.len(), 8 * 4096, "1000 times 32 bytes more");
}

#[test]
fn a_directory_may_have_100000_entries() {
    let mut steps: Vec<_> = (0..100_000)
        .map(|number| Step::Add(format!("many/entry-{number:06}").into(), attributes(), What::Fifo))
        .collect();
    steps.extend((0..1000).map(|number| folder(&vec!["deep"; number + 1].join("/"))));
    let device = MemoryDevice::default();
    let mut writer = Writer::new(&device, Options::default()).unwrap();
    steps.iter().for_each(|step| model::apply(&mut writer, step).unwrap());
    assert_eq!(writer.finish().unwrap().inodes, 101_002);
    let bytes = device.into_bytes();
    let found = read(&bytes);
    assert_eq!(found.len(), 101_002);
    assert_eq!(found[&b"many/entry-099999"[..]].what, What::Fifo);
}

/// fsck.erofs goes down by recursion, and unpacks what is at the bottom.
#[test]
fn a_thousand_directories_may_lie_in_each_other() {
    let deepest = vec!["d"; 1000].join("/");
    let steps = [file(&format!("{deepest}/file"), b"down here"), folder("d"), folder("d/d")];
    let (bytes, _, found) = image(Options::default(), &steps);
    assert_eq!(found.len(), 1002);
    fsck::check(&bytes, &found);
}

/// A file of which only the data are read; a size is only a number.
fn sparse(size: u64, data: &[Range<u64>], block_size: u32) -> Result<(Vec<u8>, Summary), Error> {
    let device = MemoryDevice::default();
    let mut options = Options::default();
    options.block_size = BlockSize::new(block_size).unwrap();
    let mut writer = Writer::new(&device, options)?;
    writer.add(b"a", &attributes(), Kind::Sparse { size, data, content: &mut io::repeat(7) })?;
    let summary = writer.finish()?;
    Ok((device.into_bytes(), summary))
}

#[test]
fn holes_are_not_stored() {
    // All zeros, from a stream that says nothing of holes.
    let mut zeros = vec![0; 1 << 20];
    zeros.extend(b"end");
    let (bytes, summary, found) =
        image(Options::default(), &[file("a", &zeros), file("b", &[0; 5000]), file("c", &[0; 2000])]);
    assert_eq!(summary.holes, (1 << 20) + 5000);
    assert_eq!(found[&b"a"[..]].stored, (4096, 0));
    assert_eq!(found[&b"c"[..]].stored, (0, 2000));
    fsck::check(&bytes, &found);

    for block_size in [512, 4096] {
        // Data that begin and end within a block, or within 64 KiB, or follow each other.
        let data =
            [3..5, 5..5, 5..10, 70_000..70_001, 131_072..200_000, 200_000..200_001, 1_000_000..1_000_007];
        let (bytes, _) = sparse(1 << 20, &data, block_size).unwrap();
        let What::File(content) = &read(&bytes)[&b"a"[..]].what else { panic!() };
        let expected: Vec<u8> =
            (0..1 << 20).map(|at| if data.iter().any(|data| data.contains(&at)) { 7 } else { 0 }).collect();
        assert!(*content == expected);
    }
}

/// Larger than 4 GiB, than 16 TiB, and as large as a file can be.
#[test]
fn files_may_be_larger_than_images() {
    for (size, at) in [(5 << 30, 4 << 30), (17 << 40, 1 << 44)] {
        let (bytes, summary) = sparse(size, &[at..at + 10], 4096).unwrap();
        assert!(summary.size < size >> 13, "{summary:?}");
        let image = Image::open(&bytes, summary.size).unwrap();
        let inode = image.inode(read::only_child(&bytes)).unwrap();
        assert_eq!(inode.size, size);
        let mut extents = Vec::new();
        image
            .extents(&inode, &verity_core::erofs::Budget::default(), |extent| {
                extents.push(extent.content);
                Ok(())
            })
            .unwrap();
        assert!(matches!(&extents[..], [one] if one.start == at && one.end > at + 10), "{extents:?}");
    }
    // All of it a hole.
    assert_eq!(sparse(1 << 50, &[], 4096).unwrap().1.holes, 1 << 50);
    // An index that no image has room for is refused before anything of it is written.
    let refused = sparse(i64::MAX.cast_unsigned(), &[0..1], 4096);
    assert!(matches!(refused, Err(Error::TooLarge { most: 0xffff_ffff, block_size: 4096 })), "{refused:?}");
}

#[test]
fn an_image_has_its_limit() {
    let with_limit = |max_size, length| {
        let device = MemoryDevice::default();
        let mut options = Options::default();
        options.max_size = max_size;
        let mut writer = Writer::new(&device, options)?;
        writer.add(
            b"a",
            &attributes(),
            Kind::File { size: length, content: &mut noise(1 << 20).as_slice() },
        )?;
        writer.finish()
    };
    // The superblock's block, the content, the metadata.
    assert_eq!(with_limit(4096 * 12, 40_960).unwrap().blocks, 12);
    for limit in [4096 * 12 - 1, 4096 * 11, 4096 * 10, 1, 0] {
        let refused = with_limit(limit, 40_960);
        assert!(matches!(refused, Err(Error::TooLarge { most, .. }) if most == limit / 4096), "{refused:?}");
    }
}

#[test]
fn what_cannot_be_is_refused() {
    let device = MemoryDevice::default();
    let mut writer = Writer::new(&device, Options::default()).unwrap();
    let mut add = |path: &[u8], attributes: &Attributes, kind: Kind<'_>| {
        writer.add(path, attributes, kind).unwrap_err().to_string()
    };
    let with = |change: fn(&mut Attributes)| {
        let mut attributes = attributes();
        change(&mut attributes);
        attributes
    };
    let plain = attributes();
    for (path, problem) in [
        (&b"/a"[..], PathProblem::Empty),
        (b"a/", PathProblem::Empty),
        (b"a//b", PathProblem::Empty),
        (b"a/../b", PathProblem::Dots),
        (b".", PathProblem::Dots),
        (b"a\0", PathProblem::Nul),
        (&[b'a'; 256], PathProblem::Long),
    ] {
        let said = add(path, &plain, Kind::Fifo);
        assert!(said.ends_with(&problem.to_string()), "{said}");
    }
    assert!(add(&b"a/".repeat(40_000), &plain, Kind::Fifo).len() < 400);
    for (said, expected) in [
        (add(b"", &plain, Kind::Fifo), "the root of an image is a directory and nothing else"),
        (
            add(b"a", &with(|a| a.mode = 0o10_000), Kind::Fifo),
            "\"a\": its mode is 4096, and at most 4095 is possible",
        ),
        (
            add(b"a", &with(|a| a.mtime_nsec = 1_000_000_000), Kind::Fifo),
            "\"a\": its number of nanoseconds is 1000000000, and at most 999999999 is possible",
        ),
        (
            add(b"a", &plain, Kind::CharDevice { major: 4096, minor: 0 }),
            "\"a\": its major device number is 4096, and at most 4095 is possible",
        ),
        (
            add(b"a", &plain, Kind::BlockDevice { major: 0, minor: 1 << 20 }),
            "\"a\": its minor device number is 1048576, and at most 1048575 is possible",
        ),
        (
            add(b"a", &plain, Kind::Symlink(b"")),
            "\"a\": the target of the symbolic link is empty or has a NUL in it",
        ),
        (
            add(b"a", &plain, Kind::Symlink(b"x\0")),
            "\"a\": the target of the symbolic link is empty or has a NUL in it",
        ),
        (
            add(b"a", &plain, Kind::Symlink(&[b'x'; 4096])),
            "\"a\": the length of its target is 4096, and at most 4095 is possible",
        ),
        (
            add(b"a", &plain, Kind::File { size: 1 << 63, content: &mut io::empty() }),
            "\"a\": its size is 9223372036854775808, and at most 9223372036854775807 is possible",
        ),
        (
            add(b"a", &plain, Kind::Sparse { size: 10, data: &[4..11], content: &mut io::repeat(1) }),
            "\"a\": the data of the sparse file at 4 to 11 are out of order, or behind its end",
        ),
        (
            add(b"a", &plain, Kind::Sparse { size: 10, data: &[4..6, 5..7], content: &mut io::repeat(1) }),
            "\"a\": the data of the sparse file at 5 to 7 are out of order, or behind its end",
        ),
        (
            add(b"a", &plain, Kind::File { size: 5, content: &mut &b"four"[..] }),
            "\"a\": its content ends before its size, 5 bytes",
        ),
    ] {
        assert_eq!(said, expected);
    }
    for name in
        ["user.", "user", "system.nfs4_acl", "system.posix_acl_access.x", "security.", "", "user.a\0b"]
    {
        let mut attributes = attributes();
        attributes.xattrs.insert(name.into(), vec![]);
        let said = add(b"a", &attributes, Kind::Fifo);
        assert!(said.contains("none that EROFS has"), "{said}");
    }
    for (name, length) in [("user.".to_owned() + &"a".repeat(251), 0), ("user.a".to_owned(), 65_536)] {
        let mut attributes = attributes();
        attributes.xattrs.insert(name.into(), vec![0; length]);
        assert!(add(b"a", &attributes, Kind::Fifo).contains("is possible"));
    }
    let many = |attributes: &mut Attributes| {
        attributes.xattrs = (0..5).map(|name| (format!("user.{name}").into(), vec![0; 60_000])).collect();
    };
    assert!(add(b"a", &with(many), Kind::Fifo).contains("the size of its extended attributes is 300052"));
    // Nothing of all this is in the image.
    writer.finish().unwrap();
    assert_eq!(read(&device.into_bytes()).len(), 1);
    let mut options = Options::default();
    options.block_size = BlockSize::MAX;
    let device = MemoryDevice::default();
    assert!(matches!(Writer::new(&device, options), Err(Error::BlockSize(524_288))));
}

#[test]
fn what_fails_says_where() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("broken"))
        }
    }
    impl WriteAt for Broken {
        fn write_all_at(&self, _: &[u8], _: u64) -> io::Result<()> {
            Err(io::Error::other("full"))
        }
    }
    let mut writer = Writer::new(&Broken, Options::default()).unwrap();
    let said = writer.add(b"a", &attributes(), Kind::File { size: 5, content: &mut Broken }).unwrap_err();
    assert_eq!(said.to_string(), "\"a\": its content cannot be read: broken");
    let said = writer.finish().unwrap_err();
    assert_eq!(said.to_string(), "the image cannot be written at 4096: full");
}

/// Whoever hashes on the way sees each byte once, and the superblock's last.
#[test]
fn the_image_is_written_in_order() {
    struct Ordered(Mutex<Vec<Range<u64>>>);
    impl WriteAt for Ordered {
        fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
            self.0.lock().unwrap().push(offset..offset + bytes.len() as u64);
            Ok(())
        }
    }
    for block_size in [512, 4096] {
        let ordered = Ordered(Mutex::default());
        let mut options = Options::default();
        options.block_size = BlockSize::new(block_size).unwrap();
        let mut writer = Writer::new(&ordered, options).unwrap();
        for (name, length) in [(b"a", 5_000_000), (b"b", 100), (b"c", 70_000)] {
            let content = &mut noise(length).into_iter().map(|byte| byte ^ name[0]).collect::<Vec<_>>();
            let kind = Kind::File { size: length as u64, content: &mut content.as_slice() };
            writer.add(name, &attributes(), kind).unwrap();
        }
        let summary = writer.finish().unwrap();
        let mut writes = ordered.0.into_inner().unwrap();
        let superblock = writes.pop().unwrap();
        assert_eq!(superblock, 0..1152_u64.next_multiple_of(block_size.into()));
        let end = writes.iter().fold(superblock.end, |end, write| {
            assert!(write.start == end && write.end - write.start <= 1 << 20);
            write.end
        });
        assert_eq!(end, summary.size);
        assert!(writes.len() < 10, "{writes:?}");
    }
}
