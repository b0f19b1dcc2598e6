//! Archives of an attacker's choice: what is found lies within the file, and is read or refused.
#![no_main]

use std::io::Read;

use libfuzzer_sys::fuzz_target;
use verity_core::oci::{ImageName, Platforms, images, open};

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

/// An archive of files; a name that is taken twice is for the reader to refuse.
fn archive(files: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, content) in files {
        let mut header = [0; 512];
        let length = name.len().min(100);
        header[..length].copy_from_slice(&name.as_bytes()[..length]);
        header[124..136].copy_from_slice(format!("{:011o}\0", content.len()).as_bytes());
        header[156] = b'0';
        header[257..265].copy_from_slice(b"ustar\x0000");
        bytes.extend(header);
        bytes.extend(content.as_bytes());
        bytes.resize(bytes.len().next_multiple_of(512), 0);
    }
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}

fuzz_target!(|input: (bool, Vec<u8>, Vec<(&str, &str)>)| {
    let (as_it_is, bytes, files) = input;
    let mut bytes = if as_it_is { bytes } else { archive(&files) };
    mend(&mut bytes);
    let path = std::env::temp_dir().join(format!("verity-fuzz-{}", std::process::id()));
    std::fs::write(&path, &bytes).unwrap();
    for name in [
        ImageName::OciArchive { path: path.clone(), reference: None },
        ImageName::DockerArchive { path: path.clone(), reference: None },
    ] {
        let Ok(source) = open(&name) else { continue };
        let Ok(found) = images(&*source, &Platforms::All) else { continue };
        for layer in found.images.iter().flat_map(|image| &image.layers) {
            if let Ok(blob) = source.blob(&layer.descriptor, 0) {
                let read = std::io::copy(&mut blob.take(u64::MAX), &mut std::io::sink()).unwrap();
                assert_eq!(read, layer.descriptor.size);
            }
        }
    }
    std::fs::remove_file(&path).unwrap();
});
