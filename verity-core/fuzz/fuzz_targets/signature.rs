//! What is taken for a signature is kept as it is, and nothing shorter is one.
#![no_main]

use libfuzzer_sys::fuzz_target;
use verity_core::signature::Signature;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(signature) = Signature::from_der(bytes.to_vec()) {
        assert_eq!(signature.as_bytes(), bytes);
        assert!(Signature::from_der(bytes[..bytes.len() - 1].to_vec()).is_err());
    }
});
