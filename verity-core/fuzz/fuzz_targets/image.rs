//! Documents of an attacker's choice, with the digests that they need to be looked at: what is found in them is bounded, and the same each time.
#![no_main]

use std::collections::BTreeMap;
use std::io::Read;

use libfuzzer_sys::fuzz_target;
use verity_core::layer::Digest;
use verity_core::oci::{Descriptor, Error, ImageName, Platforms, RegistryName, Source, images};

const ROOT: &str = "application/vnd.oci.image.index.v1+json";

#[derive(Default)]
struct Memory {
    blobs: BTreeMap<Digest, Vec<u8>>,
    root: Option<Descriptor>,
}

impl Memory {
    /// Adds a document in which `@N` is the digest of the Nth one, and `#N` its size.
    fn add(&mut self, text: &str, before: &mut Vec<(String, String)>) {
        let mut text = text.to_owned();
        for (number, (digest, size)) in before.iter().enumerate() {
            text = text.replace(&format!("@{number}"), digest).replace(&format!("#{number}"), size);
        }
        let bytes = text.into_bytes();
        let digest = Digest::sha256(&bytes);
        before.push((digest.to_string(), bytes.len().to_string()));
        self.root = Some(Descriptor::new(ROOT, digest.clone(), bytes.len() as u64));
        self.blobs.insert(digest, bytes);
    }
}

impl Source for Memory {
    fn root(&self) -> Result<Descriptor, Error> {
        self.root.clone().ok_or(Error::NoImage { place: String::new() })
    }

    fn blob(&self, descriptor: &Descriptor, from: u64) -> Result<Box<dyn Read + Send + '_>, Error> {
        assert_eq!(from, 0);
        let missing = || Error::Missing { digest: descriptor.digest.clone(), place: String::new() };
        Ok(Box::new(&self.blobs.get(&descriptor.digest).ok_or_else(missing)?[..]))
    }
}

fuzz_target!(|input: (Vec<&str>, bool, &str)| {
    let (documents, is_manifest, name) = input;
    if let Ok(parsed) = name.parse::<ImageName>() {
        assert_eq!(parsed.to_string().parse::<ImageName>().as_ref(), Ok(&parsed));
    }
    if let Ok(parsed) = name.parse::<RegistryName>() {
        assert_eq!(parsed.to_string().parse::<RegistryName>().as_ref(), Ok(&parsed));
    }
    let (mut memory, mut before) = (Memory::default(), Vec::new());
    for text in documents.into_iter().take(10) {
        // What is replaced could grow without end.
        if before.iter().any(|(_, size): &(_, String)| size.len() > 6) {
            return;
        }
        memory.add(text, &mut before);
    }
    if let Some(root) = memory.root.as_mut().filter(|_| is_manifest) {
        root.media_type = "application/vnd.oci.image.manifest.v1+json".to_owned();
    }
    if let Ok(found) = images(&memory, &Platforms::All) {
        assert!(!found.images.is_empty());
        for image in &found.images {
            assert_eq!(Digest::sha256(&image.manifest_bytes), image.manifest.digest);
            assert_eq!(image.layers.len(), image.config.diff_ids.len());
        }
    }
});
