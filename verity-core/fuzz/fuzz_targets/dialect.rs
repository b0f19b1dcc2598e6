//! Descriptions of layers by an attacker: what is taken is written as something that reads the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use verity_core::block::BlockSize;
use verity_core::dialect::notary::{Referrer, Subject};
use verity_core::dialect::systemd::SignaturePartition;
use verity_core::dialect::{containerd, kata, nydus, stacker, vhd};
use verity_core::geometry::Geometry;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(sidecar) = containerd::Sidecar::parse(bytes) {
        let text = sidecar.encode().unwrap();
        assert_eq!(containerd::Sidecar::parse(text.as_bytes()).unwrap(), sidecar);
    }
    if let Some(footer) = bytes.first_chunk()
        && let Ok(read) = vhd::Footer::parse(footer, u64::from(bytes[50]) << 40)
    {
        assert_eq!(vhd::Footer::parse(&read.encode(), read.size).unwrap(), read);
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        if let Ok(options) = nydus::Options::parse(text) {
            assert_eq!(nydus::Options::parse(&options.to_string()).unwrap(), options);
            let _ = Geometry::new(&options.params(), options.data_blocks, options.area());
        }
        if let Ok(options) = nydus::Options::from_label(text, BlockSize::MIN) {
            assert_eq!(nydus::Options::from_label(&options.label(), BlockSize::MIN).unwrap(), options);
        }
    }
    if let Ok(volume) = kata::Volume::parse(bytes) {
        let _ = volume.tree.geometry();
        if let Ok(option) = volume.to_option() {
            assert_eq!(kata::Volume::parse(option.as_bytes()).unwrap(), volume);
        }
    }
    if let Ok(annotations) = stacker::Annotations::parse(bytes) {
        let text = annotations.encode().unwrap();
        assert_eq!(stacker::Annotations::parse(text.as_bytes()).unwrap(), annotations);
    }
    if let Ok(referrer) = Referrer::parse(bytes) {
        let text = referrer.encode().unwrap();
        assert_eq!(Referrer::parse(text.as_bytes()).unwrap().layers.len(), referrer.layers.len());
    }
    if let Ok(subject) = Subject::parse(bytes) {
        subject.layers.iter().for_each(|layer| subject.check_layer(layer).unwrap());
    }
    if let Ok(signature) = SignaturePartition::parse(bytes) {
        let text = signature.encode().unwrap();
        assert_eq!(SignaturePartition::parse(text.as_bytes()).unwrap(), signature);
    }
});
