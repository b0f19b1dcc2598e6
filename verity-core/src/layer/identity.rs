//! UUID and salt of a layer.

use sha2::{Digest as _, Sha256};

use super::digest::Digest;
use crate::block::Salt;

/// What would be random elsewhere follows from the diffID, so that everybody makes the same file of one layer.
///
/// - UUID: the first 16 bytes of `SHA-256("verity layer 1 uuid" 0x00 DIFFID)`, with the version 8 and the variant of RFC 9562.
/// - Salt: `SHA-256("verity layer 1 salt" 0x00 DIFFID)`, 32 bytes.
///
/// DIFFID is its text, `sha256:` and 64 digits.
///
/// The salt makes blocks of one layer have other digests than the same blocks of another. It need not be secret or unpredictable: who makes a layer
/// could choose it anyway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The UUID of image and tree.
    pub uuid: [u8; 16],
    /// The salt of the tree.
    pub salt: Salt,
}

impl Identity {
    /// That of the layer with this diffID.
    #[must_use]
    pub fn of(diff_id: &Digest) -> Self {
        let derive =
            |purpose: &str| Sha256::digest(format!("verity layer 1 {purpose}\0{diff_id}").as_bytes());
        let mut uuid = [0; 16];
        uuid.copy_from_slice(&derive("uuid")[..16]);
        uuid[6] = uuid[6] & 0x0f | 0x80;
        uuid[8] = uuid[8] & 0x3f | 0x80;
        // 32 bytes are a salt.
        let salt = Salt::new(&derive("salt")).unwrap_or_default();
        Self { uuid, salt }
    }
}
