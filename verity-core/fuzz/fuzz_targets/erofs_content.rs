//! An EROFS image of an attacker's choice, with a file whose content is compressed: what is unpacked of it is within the limits, and the same each time.
#![no_main]

use libfuzzer_sys::fuzz_target;
use verity_core::erofs::Image;
use verity_core::layer::{Limits, export, export_file};

/// Blocks of 512 bytes. Inode 36 is the root with a file of inode 40, whose index and units are the input's, as is the packed inode, 48.
fn image(sizes: [u16; 2], index: &[u8], mut units: Vec<u8>) -> Vec<u8> {
    units.resize(units.len().next_multiple_of(512).max(512), 0);
    let mut image = vec![0; 4 * 512];
    let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
    put(1024, &[0xe2, 0xe1, 0xf5, 0xe0]);
    put(1024 + 12, &[9, 0, 36]);
    put(1024 + 80, &[0x21]);
    put(1024 + 96, &[48]);
    let mut inode = |nid: usize, layout: u8, mode: u16, size: u16, payload: u8| {
        put(nid * 32, &[layout << 1]);
        put(nid * 32 + 4, &mode.to_le_bytes());
        put(nid * 32 + 6, &[1]);
        put(nid * 32 + 8, &size.to_le_bytes());
        put(nid * 32 + 16, &[payload]);
    };
    inode(36, 0, 0o040_755, 512, 4);
    inode(40, if index.len() % 2 == 0 { 1 } else { 3 }, 0o100_644, sizes[0], 0);
    inode(48, if index.len() % 4 < 2 { 1 } else { 3 }, 0o100_644, sizes[1], 0);
    let (file, packed) = index.split_at(index.len() / 2);
    put(41 * 32, &file[..file.len().min(7 * 32)]);
    put(49 * 32, &packed[..packed.len().min(15 * 32)]);
    let mut names = vec![0; 512];
    for (entry, (nid, offset, kind)) in [(36, 36, 2), (36, 37, 2), (40, 39, 1)].into_iter().enumerate() {
        names[entry * 12] = nid;
        names[entry * 12 + 8] = offset;
        names[entry * 12 + 10] = kind;
    }
    names[36..40].copy_from_slice(b"...f");
    [image, names, units].concat()
}

fuzz_target!(|input: ([u16; 2], Vec<u8>, Vec<u8>)| {
    let (sizes, index, units) = input;
    let bytes = image(sizes, &index, units);
    let mut limits = Limits::default();
    (limits.allowance, limits.ratio) = (1 << 20, 1);
    let image = Image::open(&bytes, bytes.len() as u64).expect("a superblock");
    let read = |image: &Image<'_>| {
        let mut content = Vec::new();
        export_file(image, b"f", &mut content, &limits, &()).map(|_| content)
    };
    let whole = export(&image, std::io::sink(), &limits, &());
    let again = Image::open(&bytes, bytes.len() as u64).expect("a superblock");
    match (read(&image), read(&again)) {
        (Ok(first), Ok(second)) => {
            assert_eq!(first.len(), usize::from(sizes[0]));
            assert!(first == second && whole.is_ok());
        }
        (Err(_), Err(_)) => assert!(whole.is_err()),
        _ => panic!("one of two reads failed"),
    }
});
