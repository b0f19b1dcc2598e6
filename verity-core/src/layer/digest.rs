//! Digests of blobs, as OCI writes them.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest as _, Sha256, Sha512};

use crate::algorithm::Algorithm;

/// A digest such as `sha256:` and 64 hexadecimal digits: that of a layer's blob, or, of what is in it uncompressed, its diffID.
///
/// The algorithms are those that OCI's image specification registers: sha256 and sha512.
///
/// ```
/// use verity_core::layer::Digest;
/// let text = format!("sha256:{}", "0f".repeat(32));
/// let digest: Digest = text.parse()?;
/// assert_eq!(digest.to_string(), text);
/// assert!("sha256:0F".parse::<Digest>().is_err());
/// # Ok::<(), verity_core::layer::DigestError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest {
    algorithm: Algorithm,
    bytes: Vec<u8>,
}

/// Text that is no digest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no digest: sha256: and 64 lower-case hexadecimal digits, or sha512: and 128")]
pub struct DigestError {
    text: String,
}

impl Digest {
    /// The sha256 digest of `bytes`.
    #[must_use]
    pub fn sha256(bytes: &[u8]) -> Self {
        Self { algorithm: Algorithm::Sha256, bytes: Sha256::digest(bytes).to_vec() }
    }

    /// The digest of `bytes` in the same algorithm as this one, to be compared with it.
    #[must_use]
    pub fn of_same(&self, bytes: &[u8]) -> Self {
        match self.algorithm {
            Algorithm::Sha512 => Self { algorithm: self.algorithm, bytes: Sha512::digest(bytes).to_vec() },
            _ => Self::sha256(bytes),
        }
    }

    /// The algorithm: sha256 or sha512.
    #[must_use]
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The digest's bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm, hex::encode(&self.bytes))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refused = || DigestError { text: text.chars().take(150).collect() };
        let (name, digits) = text.split_once(':').ok_or_else(refused)?;
        let algorithm = [Algorithm::Sha256, Algorithm::Sha512]
            .into_iter()
            .find(|algorithm| algorithm.name() == name)
            .ok_or_else(refused)?;
        // One digest has one text.
        let canonical = digits.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
        let bytes = hex::decode(digits).map_err(|_| refused())?;
        if canonical && bytes.len() == algorithm.digest_size() {
            Ok(Self { algorithm, bytes })
        } else {
            Err(refused())
        }
    }
}

/// Digests a stream.
pub(crate) struct Hasher {
    sha256: Sha256,
    sha512: Option<Sha512>,
    length: u64,
}

/// The digests of a stream, and how long it was.
#[derive(Clone, Debug)]
pub(crate) struct Digests {
    pub(crate) sha256: Digest,
    sha512: Option<Digest>,
    /// In bytes.
    pub(crate) length: u64,
}

impl Hasher {
    /// Makes sha256, and what `expected` is to be compared with.
    pub(crate) fn new(expected: Option<&Digest>) -> Self {
        let sha512 = expected.filter(|digest| digest.algorithm == Algorithm::Sha512).map(|_| Sha512::new());
        Self { sha256: Sha256::new(), sha512, length: 0 }
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.sha256.update(bytes);
        if let Some(sha512) = &mut self.sha512 {
            sha512.update(bytes);
        }
        self.length += bytes.len() as u64;
    }

    pub(crate) fn finish(self) -> Digests {
        let digest = |algorithm, bytes: &[u8]| Digest { algorithm, bytes: bytes.to_vec() };
        Digests {
            sha256: digest(Algorithm::Sha256, &self.sha256.finalize()),
            sha512: self.sha512.map(|sha512| digest(Algorithm::Sha512, &sha512.finalize())),
            length: self.length,
        }
    }
}

impl Digests {
    /// The one of the same algorithm as `expected`.
    pub(crate) fn like(&self, expected: &Digest) -> &Digest {
        match &self.sha512 {
            Some(sha512) if expected.algorithm == Algorithm::Sha512 => sha512,
            _ => &self.sha256,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_algorithms_have_their_known_digests() {
        let sha512: Digest = format!("sha512:{}", "0".repeat(128)).parse().unwrap();
        let mut hasher = Hasher::new(Some(&sha512));
        hasher.update(b"a");
        hasher.update(b"bc");
        let digests = hasher.finish();
        assert_eq!(
            digests.sha256.to_string(),
            "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert!(digests.like(&sha512).to_string().starts_with("sha512:ddaf35a193617abacc417349ae204131"));
        assert_eq!((digests.like(&digests.sha256), digests.length), (&digests.sha256, 3));
    }

    #[test]
    fn a_digest_has_one_text() {
        for text in [
            "",
            "sha256",
            "sha256:",
            "sha1:da39a3ee5e6b4b0d3255bfef95601890afd80709",
            "sha256:zz",
            "SHA256:00",
        ] {
            assert!(text.parse::<Digest>().is_err(), "{text}");
        }
        assert!(format!("sha256:{}", "AB".repeat(32)).parse::<Digest>().is_err());
        assert!(format!("sha512:{}", "ab".repeat(32)).parse::<Digest>().is_err());
    }
}
