//! Entries of an attacker's choice: what the writer takes reads back as it was put in, and what it refuses changes nothing.
#![no_main]

use std::io;
use std::ops::Range;

use libfuzzer_sys::fuzz_target;
use verity_core::block::BlockSize;
use verity_core::erofs::write::{Attributes, Kind, Options, Writer};
use verity_core::erofs::{Budget, FileKind, Image, names};
use verity_core::io::MemoryDevice;

/// Path, what it is, a size, data, and an attribute.
type Entry = (Vec<u8>, u8, u32, Vec<(u16, u16)>, (Vec<u8>, Vec<u8>));

fuzz_target!(|input: (u8, Vec<Entry>)| {
    let (bits, entries) = input;
    let image = MemoryDevice::default();
    let mut options = Options::default();
    let Ok(block_size) = BlockSize::new(512 << (bits % 8)) else { return };
    options.block_size = block_size;
    options.max_size = 1 << 24;
    let Ok(mut writer) = Writer::new(&image, options) else { return };
    for (path, kind, size, data, (name, value)) in entries.iter().take(200) {
        let mut attributes = Attributes { mode: 0o644, uid: *size, ..Attributes::default() };
        if !name.is_empty() {
            attributes.xattrs.insert(name.clone(), value.clone());
        }
        let data: Vec<Range<u64>> =
            data.iter().map(|&(start, length)| start.into()..u64::from(start) + u64::from(length)).collect();
        let done = match kind % 8 {
            0 => writer.add(path, &attributes, Kind::Directory),
            1 => {
                let size = u64::from(*size % 300_000);
                writer.add(path, &attributes, Kind::File { size, content: &mut io::repeat(*kind) })
            }
            2 => {
                let (size, data) = (u64::from(*size), data.as_slice());
                writer.add(path, &attributes, Kind::Sparse { size, data, content: &mut io::repeat(*kind) })
            }
            3 => writer.add(path, &attributes, Kind::Symlink(value)),
            4 => writer.add(path, &attributes, Kind::CharDevice { major: *size, minor: size >> 8 }),
            5 => writer.add(path, &attributes, Kind::Fifo),
            _ => writer.link(path, value),
        };
        if matches!(done, Err(verity_core::erofs::write::Error::TooLarge { .. })) {
            return;
        }
    }
    let Ok(summary) = writer.finish() else { return };
    let bytes = image.into_bytes();
    assert_eq!(bytes.len() as u64, summary.size);
    let image = Image::open(&bytes, summary.size).expect("a superblock");
    let budget = Budget::default();
    let mut pending = vec![u64::from(image.superblock().root_nid)];
    let mut found = 0;
    while let Some(nid) = pending.pop() {
        found += 1;
        let inode = image.inode(nid).expect("an inode");
        image.attributes(&inode, &budget).expect("attributes");
        let mut content = Vec::new();
        let placed = image.extents(&inode, &budget, |extent| {
            let verity_core::erofs::Place::Stored(place) = extent.place else { panic!("{extent:?}") };
            let length = extent.content.end - extent.content.start;
            assert!(place.start + length <= summary.size);
            if inode.kind == FileKind::Directory {
                content.extend_from_slice(&bytes[place.start as usize..(place.start + length) as usize]);
            }
            Ok(())
        });
        placed.expect("content");
        for block in content.chunks(block_size.bytes()) {
            for name in names(block).expect("a block of names") {
                let name = name.expect("a name");
                if name.name != b"." && name.name != b".." {
                    pending.push(name.nid);
                }
            }
        }
    }
    assert!(found >= summary.inodes);
});
