//! The digests that a hash tree can be made with.

use std::fmt;
use std::str::FromStr;

/// A digest algorithm that both veritysetup and the kernel know.
///
/// `FromStr` takes exactly the names that a superblock holds (lower case); command lines, which
/// veritysetup reads without regard to case, use [`Algorithm::from_name_ignore_case`].
///
/// ```
/// use verity_core::algorithm::Algorithm;
/// let algorithm: Algorithm = "sha256".parse()?;
/// assert_eq!(algorithm.digest_size(), 32);
/// assert!("SHA256".parse::<Algorithm>().is_err());
/// # Ok::<(), verity_core::algorithm::UnknownAlgorithm>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)] // Each variant is the algorithm of that name.
#[non_exhaustive]
pub enum Algorithm {
    Md5,
    Sha1,
    Sha224,
    #[default]
    Sha256,
    Sha384,
    Sha512,
    Sha3_224,
    Sha3_256,
    Sha3_384,
    Sha3_512,
    Blake2b512,
    Blake2s256,
    Ripemd160,
    Sm3,
    Whirlpool,
}

/// One row of the table behind [`Algorithm`]'s methods.
struct Facts {
    name: &'static str,
    /// What the kernel's crypto API calls it, where that differs.
    kernel_name: &'static str,
    digest_size: usize,
    weakness: Option<&'static str>,
}

const fn facts(name: &'static str, digest_size: usize) -> Facts {
    Facts { name, kernel_name: name, digest_size, weakness: None }
}

/// The largest digest of any algorithm, in bytes.
pub const MAX_DIGEST_SIZE: usize = 64;

impl Algorithm {
    /// Every algorithm, in the order in which help texts list them.
    pub const ALL: [Self; 15] = [
        Self::Sha256,
        Self::Sha224,
        Self::Sha384,
        Self::Sha512,
        Self::Sha3_224,
        Self::Sha3_256,
        Self::Sha3_384,
        Self::Sha3_512,
        Self::Blake2b512,
        Self::Blake2s256,
        Self::Sm3,
        Self::Whirlpool,
        Self::Ripemd160,
        Self::Sha1,
        Self::Md5,
    ];

    const fn facts(self) -> Facts {
        match self {
            Self::Md5 => Facts {
                weakness: Some(
                    "collisions can be made in seconds: whoever makes an image can make two with one root hash",
                ),
                ..facts("md5", 16)
            },
            Self::Sha1 => Facts {
                weakness: Some(
                    "collisions have been made: whoever makes an image could make two with one root hash",
                ),
                ..facts("sha1", 20)
            },
            Self::Sha224 => facts("sha224", 28),
            Self::Sha256 => facts("sha256", 32),
            Self::Sha384 => facts("sha384", 48),
            Self::Sha512 => facts("sha512", 64),
            Self::Sha3_224 => facts("sha3-224", 28),
            Self::Sha3_256 => facts("sha3-256", 32),
            Self::Sha3_384 => facts("sha3-384", 48),
            Self::Sha3_512 => facts("sha3-512", 64),
            Self::Blake2b512 => facts("blake2b-512", 64),
            Self::Blake2s256 => facts("blake2s-256", 32),
            Self::Ripemd160 => Facts {
                kernel_name: "rmd160",
                weakness: Some("a digest of 160 bits leaves a collision within reach of about 2^80 work"),
                ..facts("ripemd160", 20)
            },
            Self::Sm3 => facts("sm3", 32),
            Self::Whirlpool => Facts { kernel_name: "wp512", ..facts("whirlpool", 64) },
        }
    }

    /// The name in superblocks and on veritysetup's command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.facts().name
    }

    /// The name in the kernel's crypto API, which a dm-verity table must use.
    #[must_use]
    pub const fn kernel_name(self) -> &'static str {
        self.facts().kernel_name
    }

    /// The digest's size in bytes.
    #[must_use]
    pub const fn digest_size(self) -> usize {
        self.facts().digest_size
    }

    /// Why this algorithm should not be chosen for a new image, if it should not.
    #[must_use]
    pub const fn weakness(self) -> Option<&'static str> {
        self.facts().weakness
    }

    /// Parses a name as veritysetup's `--hash` does: in any case.
    ///
    /// # Errors
    /// [`UnknownAlgorithm`] if no algorithm has that name.
    pub fn from_name_ignore_case(name: &str) -> Result<Self, UnknownAlgorithm> {
        name.to_ascii_lowercase().parse().map_err(|_| UnknownAlgorithm::new(name))
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Algorithm {
    type Err = UnknownAlgorithm;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        // veritysetup writes either name of the two that have one of their own in the kernel.
        Self::ALL
            .into_iter()
            .find(|algorithm| algorithm.name() == name || algorithm.kernel_name() == name)
            .ok_or_else(|| UnknownAlgorithm::new(name))
    }
}

/// A name that is no algorithm's. Never a default: a tree that is read with another digest is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("hash algorithm {name:?} is unknown (known: {})", known())]
pub struct UnknownAlgorithm {
    name: String,
}

impl UnknownAlgorithm {
    pub(crate) fn new(name: &str) -> Self {
        Self { name: name.chars().take(64).collect() }
    }
}

fn known() -> String {
    Algorithm::ALL.map(Algorithm::name).join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for algorithm in Algorithm::ALL {
            assert_eq!(algorithm.name().parse(), Ok(algorithm));
            assert_eq!(algorithm.kernel_name().parse(), Ok(algorithm));
            assert!(algorithm.digest_size() <= MAX_DIGEST_SIZE);
        }
    }

    #[test]
    fn case_matters_in_files_but_not_on_command_lines() {
        assert!("Sha256".parse::<Algorithm>().is_err());
        assert_eq!(Algorithm::from_name_ignore_case("Sha256"), Ok(Algorithm::Sha256));
    }

    #[test]
    fn an_unknown_name_is_refused_with_the_known_ones() {
        let error = "sha0".parse::<Algorithm>().unwrap_err().to_string();
        assert!(error.contains("\"sha0\"") && error.contains("sha256"), "{error}");
    }
}
