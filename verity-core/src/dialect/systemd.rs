//! systemd: `NAME.verity`, `NAME.roothash` and `NAME.roothash.p7s` beside the image `NAME.raw`; and the content of a signature partition.
//!
//! Source: `src/shared/dissect-image.c` of systemd (`verity_settings_load`, `dissected_image_load_verity_sig_partition`) and the Discoverable Partitions
//! Specification. The sidecar `.verity` holds superblock and tree from its first byte on; `.roothash` the root hash in hexadecimal; `.roothash.p7s`
//! its signature in DER. A signature partition holds them as JSON, padded with NUL bytes:
//!
//! ```json
//! {"rootHash": "<hexadecimal>", "signature": "<base64 of DER>", "certificateFingerprint": "<SHA-256 of the certificate, hexadecimal>"}
//! ```

use std::ffi::{OsStr, OsString};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Error, clip, field, json, sha256_root};
use crate::block::RootHash;
use crate::signature::Signature;

const WHAT: &str = "verity signature partition";

/// What systemd's images may end in, which their sidecars do not repeat.
const RAW: &str = ".raw";

/// The files beside an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sidecar {
    /// Superblock and tree.
    Verity,
    /// The root hash, in hexadecimal.
    RootHash,
    /// The root hash's signature, in DER.
    Signature,
}

impl Sidecar {
    /// What the sidecar's name has in place of `.raw`, or behind a name of another ending.
    #[must_use]
    pub const fn suffix(self) -> &'static str {
        match self {
            Self::Verity => ".verity",
            Self::RootHash => ".roothash",
            Self::Signature => ".roothash.p7s",
        }
    }

    /// The sidecar's name, for an image of this name.
    ///
    /// ```
    /// use verity_core::dialect::systemd::Sidecar;
    /// assert_eq!(Sidecar::RootHash.name("layer.raw".as_ref()), "layer.roothash");
    /// assert_eq!(Sidecar::Signature.name("layer.erofs".as_ref()), "layer.erofs.roothash.p7s");
    /// ```
    #[must_use]
    pub fn name(self, image: &OsStr) -> OsString {
        let stem = image.to_str().and_then(|name| name.strip_suffix(RAW)).filter(|stem| !stem.is_empty());
        let mut name = stem.map_or_else(|| image.to_owned(), OsString::from);
        name.push(self.suffix());
        name
    }
}

/// What a signature partition holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignaturePartition {
    /// The root hash that is signed.
    pub root: RootHash,
    /// Its signature.
    pub signature: Signature,
    /// The SHA-256 of the certificate in DER, where it is told.
    pub fingerprint: Option<[u8; 32]>,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Document {
    root_hash: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate_fingerprint: Option<String>,
    signature: String,
}

impl SignaturePartition {
    /// The largest partition that is read, in bytes, as systemd has it.
    pub const MAX_SIZE: u64 = 4 << 20;

    /// Reads a partition, with the NUL bytes behind the text.
    ///
    /// # Errors
    /// [`Error::Json`], or [`Error::Field`] for what is no root hash of 32 bytes, no signature or no fingerprint.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let length = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
        let document: Document = json::parse(WHAT, &bytes[..length])?;
        let Document { root_hash, certificate_fingerprint, signature } = document;
        let der = STANDARD.decode(signature).map_err(|error| field(WHAT, "signature", error))?;
        let fingerprint = certificate_fingerprint.map(|text| {
            let mut bytes = [0; 32];
            hex::decode_to_slice(&text, &mut bytes).map(|()| bytes).map_err(|_| {
                let problem = format_args!("{} is not 64 hexadecimal digits", clip(&text));
                field(WHAT, "certificateFingerprint", problem)
            })
        });
        let fingerprint = fingerprint.transpose()?;
        Ok(Self {
            root: sha256_root(WHAT, "rootHash", &root_hash)?,
            signature: Signature::from_der(der).map_err(|error| field(WHAT, "signature", error))?,
            fingerprint,
        })
    }

    /// The text, without padding.
    ///
    /// # Errors
    /// [`Error::Json`], which a signature gives no occasion for.
    pub fn encode(&self) -> Result<String, Error> {
        let document = Document {
            root_hash: self.root.to_string(),
            certificate_fingerprint: self.fingerprint.map(hex::encode),
            signature: STANDARD.encode(self.signature.as_bytes()),
        };
        json::compact(WHAT, &document)
    }
}

/// The fingerprint of a certificate: PEM text or DER.
///
/// # Errors
/// [`Error::Field`] for what is neither.
pub fn fingerprint(certificate: &[u8]) -> Result<[u8; 32], Error> {
    const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
    const END: &str = "-----END CERTIFICATE-----";
    let problem = |text: &str| field("certificate", "form", text);
    // A SEQUENCE with a length of two bytes: no certificate is shorter than 256 bytes or longer than 64 KiB.
    if certificate.starts_with(&[0x30, 0x82]) {
        return Ok(Sha256::digest(certificate).into());
    }
    let text = std::str::from_utf8(certificate).map_err(|_| problem("neither PEM nor DER"))?;
    let inner = text.split_once(BEGIN).and_then(|(_, rest)| rest.split_once(END));
    let (inner, _) = inner.ok_or_else(|| problem("neither PEM nor DER: no \"BEGIN CERTIFICATE\""))?;
    let base64: String = inner.split_ascii_whitespace().collect();
    let der = STANDARD.decode(base64).map_err(|error| field("certificate", "PEM", error))?;
    Ok(Sha256::digest(der).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_as_systemd_makes_them() {
        for (image, expected) in
            [("a.raw", "a.verity"), ("a.raw.raw", "a.raw.verity"), ("a", "a.verity"), (".raw", ".raw.verity")]
        {
            assert_eq!(Sidecar::Verity.name(image.as_ref()), expected);
        }
    }

    #[test]
    fn partitions_of_other_content_are_refused_by_name() {
        let root = "ab".repeat(32);
        for (text, said) in [
            ("", "EOF"),
            ("{}", "rootHash"),
            (format!(r#"{{"rootHash":"{root}","signature":"!"}}"#).as_str(), "signature"),
            (format!(r#"{{"rootHash":"{root}","signature":"AAAA"}}"#).as_str(), "PKCS#7"),
            (
                format!(r#"{{"rootHash":"{root}","signature":"AAAA","certificateFingerprint":"12"}}"#)
                    .as_str(),
                "64",
            ),
            (format!(r#"{{"rootHash":"{root}","signature":"AAAA","more":1}}"#).as_str(), "more"),
        ] {
            let error = SignaturePartition::parse(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(said), "{text}: {error}");
        }
    }

    #[test]
    fn fingerprints_are_of_the_der() {
        let der = [&[0x30, 0x82, 1, 0][..], &[7; 300]].concat();
        let pem = format!(
            "text\n-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
            STANDARD.encode(&der)
        );
        assert_eq!(fingerprint(&der).unwrap(), fingerprint(pem.as_bytes()).unwrap());
        assert!(fingerprint(b"nothing").is_err() && fingerprint(&[0xff; 40]).is_err());
    }
}
