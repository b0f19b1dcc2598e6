//! Which implementations there are, which this machine runs, and which one is taken.

use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;

use crate::algorithm::Algorithm;

/// An implementation of digests. Each makes the same digests; they differ in speed and in what they need.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BackendKind {
    /// AVX-512, for the SHA-2 family.
    Avx512,
    /// The SHA extensions, for SHA-224 and SHA-256.
    ShaNi,
    /// AVX2, for the SHA-2 family.
    Avx2,
    /// RustCrypto's, for every algorithm and on every processor.
    Portable,
}

/// The environment variable that forces a backend.
pub const BACKEND_VARIABLE: &str = "VERITY_DIGEST_BACKEND";

impl BackendKind {
    /// All, the fastest first.
    pub const ALL: [Self; 4] = [Self::Avx512, Self::ShaNi, Self::Avx2, Self::Portable];

    /// The name in [`BACKEND_VARIABLE`] and in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Avx512 => "avx512",
            Self::ShaNi => "sha-ni",
            Self::Avx2 => "avx2",
            Self::Portable => "portable",
        }
    }

    /// Whether this processor runs it.
    #[must_use]
    pub fn is_available(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        match self {
            Self::Avx512 => super::avx512::is_available(),
            Self::ShaNi => super::sha_ni::is_available(),
            Self::Avx2 => super::avx2::is_available(),
            Self::Portable => true,
        }
        #[cfg(not(target_arch = "x86_64"))]
        matches!(self, Self::Portable)
    }

    /// Whether it has kernels of its own for an algorithm; for the others it is the portable one.
    #[must_use]
    pub const fn covers(self, algorithm: Algorithm) -> bool {
        matches!(
            (self, algorithm),
            (Self::Portable, _)
                | (Self::Avx512 | Self::ShaNi | Self::Avx2, Algorithm::Sha224 | Algorithm::Sha256)
                | (Self::Avx512 | Self::Avx2, Algorithm::Sha384 | Algorithm::Sha512)
        )
    }

    /// What [`BACKEND_VARIABLE`] asks for, if it is set.
    ///
    /// # Errors
    /// [`BackendError`] if it names no backend, or one that this processor does not run.
    pub fn from_environment() -> Result<Option<Self>, BackendError> {
        let Some(value) = std::env::var_os(BACKEND_VARIABLE) else { return Ok(None) };
        let kind: Self = value.to_string_lossy().parse()?;
        if kind.is_available() { Ok(Some(kind)) } else { Err(BackendError::Unavailable(kind)) }
    }

    /// The fastest for an algorithm, or the one that the environment forces. Looked up once in a process.
    ///
    /// What the environment asks for in vain is answered with the portable backend, which is always right; ask
    /// [`from_environment`](Self::from_environment) first to hear about it.
    #[must_use]
    pub fn chosen_for(algorithm: Algorithm) -> Self {
        static FORCED: OnceLock<Option<BackendKind>> = OnceLock::new();
        let forced = FORCED.get_or_init(|| Self::from_environment().unwrap_or(Some(Self::Portable)));
        let fits = |kind: &Self| kind.covers(algorithm) && kind.is_available();
        forced.or_else(|| Self::ALL.into_iter().find(fits)).unwrap_or(Self::Portable)
    }
}

impl fmt::Display for BackendKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for BackendKind {
    type Err = BackendError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.name() == name)
            .ok_or_else(|| BackendError::Unknown(name.chars().take(64).collect()))
    }
}

/// A digest backend that cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BackendError {
    /// No backend has that name.
    #[error("digest backend {0:?} is unknown (known: avx512, sha-ni, avx2, portable)")]
    Unknown(String),
    /// The processor lacks the instructions.
    #[error("digest backend {0} needs instructions that this processor lacks")]
    Unavailable(BackendKind),
}
