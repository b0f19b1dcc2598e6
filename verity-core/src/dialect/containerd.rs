//! containerd's EROFS snapshotter: `layer.erofs` with its tree appended, and `layer.erofs.dmverity` beside it.
//!
//! Source: `internal/dmverity/dmverity.go` and `plugins/diff/erofs` of containerd. The superblock lies at the end of the image; the
//! sidecar says where that is:
//!
//! ```json
//! {"roothash": "<64 hexadecimal digits>", "hashoffset": 4489216}
//! ```

use serde::{Deserialize, Serialize};

use super::{Error, json, sha256_root};
use crate::block::{BlockSize, RootHash, Salt};
use crate::params::Params;

const WHAT: &str = "containerd's .dmverity file";

/// What the sidecar's name has behind the blob's.
pub const SUFFIX: &str = ".dmverity";

/// A sidecar's content.
///
/// ```
/// use verity_core::dialect::containerd::Sidecar;
/// let text = r#"{"roothash": "b576fb772077f697eca5a96e8f6f0bc3cbc1d408e53e7c8b6da7d28d91146e06", "hashoffset": 4489216}"#;
/// assert_eq!(Sidecar::parse(text.as_bytes())?.hash_offset, 4_489_216);
/// # Ok::<(), verity_core::dialect::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sidecar {
    /// The root hash.
    pub root: RootHash,
    /// Where the superblock lies in the blob, in bytes.
    pub hash_offset: u64,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Document {
    roothash: String,
    hashoffset: u64,
}

impl Sidecar {
    /// Reads a sidecar.
    ///
    /// # Errors
    /// [`Error::Json`], [`Error::TooLarge`], or [`Error::Field`] where the root hash is none of SHA-256.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let Document { roothash, hashoffset } = json::parse(WHAT, bytes)?;
        Ok(Self { root: sha256_root(WHAT, "roothash", &roothash)?, hash_offset: hashoffset })
    }

    /// The sidecar's text.
    ///
    /// # Errors
    /// [`Error::Json`], which a sidecar gives no occasion for.
    pub fn encode(&self) -> Result<String, Error> {
        json::pretty(WHAT, &Document { roothash: self.root.to_string(), hashoffset: self.hash_offset })
    }
}

/// The parameters that containerd makes trees with: blocks of 4096 bytes, or of 512 where the image is an index of a tar.
///
/// # Errors
/// [`Error::Field`] for other block sizes.
pub fn params(block_size: BlockSize) -> Result<Params, Error> {
    if ![512, 4096].contains(&block_size.get()) {
        return Err(super::field(WHAT, "block size", format_args!("{block_size} is neither 4096 nor 512")));
    }
    Ok(zero_salt(block_size))
}

/// SHA-256 with 32 zero bytes of salt.
pub(super) fn zero_salt(block_size: BlockSize) -> Params {
    // A salt of 32 bytes is never too long.
    let salt = Salt::new(&[0; 32]).unwrap_or_default();
    Params { data_block_size: block_size, hash_block_size: block_size, salt, ..Params::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the change that brought dm-verity to the snapshotter.
    const PUBLISHED: &str = r#"{
  "roothash": "b576fb772077f697eca5a96e8f6f0bc3cbc1d408e53e7c8b6da7d28d91146e06",
  "hashoffset": 4489216
}"#;

    #[test]
    fn the_published_example_is_read_and_written() {
        let sidecar = Sidecar::parse(PUBLISHED.as_bytes()).unwrap();
        assert_eq!(sidecar.hash_offset, 4_489_216);
        assert_eq!(
            sidecar.root.to_string(),
            "b576fb772077f697eca5a96e8f6f0bc3cbc1d408e53e7c8b6da7d28d91146e06"
        );
        assert_eq!(sidecar.encode().unwrap().trim_end(), PUBLISHED);
    }

    #[test]
    fn what_containerd_refuses_is_refused_and_more() {
        // The first five are those of containerd's own test; its valid examples have root hashes of 60 digits.
        for (text, said) in [
            (r#"{"roothash":"","hashoffset":12288}"#, "roothash"),
            (r#"{"hashoffset":12288}"#, "roothash"),
            ("not valid json", "no JSON object"),
            (
                r#"{"roothash":"abc123def456789012345678901234567890123456789012345678901234","hashoffset":1}"#,
                "60",
            ),
            ("", "EOF"),
            (PUBLISHED.replace("4489216", "-1").as_str(), "-1"),
            (PUBLISHED.replace("4489216", "1, \"salt\": \"00\"").as_str(), "salt"),
            (PUBLISHED.replace("b576", "zzzz").as_str(), "not hexadecimal"),
        ] {
            let error = Sidecar::parse(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(said), "{text}: {error}");
        }
        let large = vec![b' '; (4 << 20) + 1];
        assert!(matches!(Sidecar::parse(&large), Err(Error::TooLarge { .. })));
    }

    #[test]
    fn two_block_sizes_are_known() {
        assert_eq!(params(BlockSize::default()).unwrap().salt.as_bytes(), [0; 32]);
        assert!(params(BlockSize::MIN).is_ok() && params(BlockSize::new(1024).unwrap()).is_err());
    }
}
