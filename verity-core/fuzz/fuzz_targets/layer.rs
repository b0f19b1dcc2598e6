//! A layer of an attacker's choice, plain or compressed: what is read becomes an image that its tree vouches for, and whose tar can be read and makes the
//! same image again; or it is refused.
#![no_main]

use std::io::Read;

use libfuzzer_sys::fuzz_target;
use verity_core::erofs::Image;
use verity_core::io::MemoryDevice;
use verity_core::layer::tar::Reader;
use verity_core::layer::{Limits, Options, Unread, build, compare, export};
use verity_core::tree::Threads;

/// Gives each block that could be a header the checksum that it lacks, so that what lies behind is reached.
fn mend(bytes: &mut [u8]) {
    for block in bytes.chunks_exact_mut(512) {
        if block[257..262] == *b"ustar" {
            block[148..156].fill(b' ');
            let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
            block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
    }
}

fuzz_target!(|input: (bool, Vec<u8>)| {
    let (sums, mut blob) = input;
    if sums {
        mend(&mut blob);
    }
    let mut reader = Reader::new(&blob[..]);
    while let Ok(Some(_)) = reader.next_entry() {
        let mut content = [0; 100];
        let _ = reader.content().read(&mut content);
    }
    let mut options = Options::default();
    options.blob_bytes = Some(blob.len() as u64);
    (options.limits.ratio, options.limits.allowance, options.limits.entries) = (100, 1 << 20, 1000);
    options.engine.threads = Threads::new(1).unwrap();
    let output = MemoryDevice::default();
    let Ok(built) = build(&blob[..], &output, &options) else { return };
    let bytes = output.into_bytes();
    let image = &bytes[..usize::try_from(built.image.size).unwrap()];
    let tar = |image: &[u8]| {
        let mut tar = Vec::new();
        export(&Image::open(&image, image.len() as u64).unwrap(), &mut tar, &Limits::default(), &())
            .map(|_| tar)
    };
    // The marker of an opaque directory may make a path too long for a tar.
    let Ok(first) = tar(image) else { return };
    let again = MemoryDevice::default();
    let rebuilt = build(&first[..], &again, &Options::default()).unwrap();
    let again = again.into_bytes();
    let again = &again[..usize::try_from(rebuilt.image.size).unwrap()];
    assert_eq!(tar(again).unwrap(), first);
    let [image, again] = [&image, &again].map(|image| Image::open(image, image.len() as u64).unwrap());
    compare(&image, &again, &Limits::default(), Unread::Refuse, &()).unwrap();
});
