//! Which kernel runs, and which one each option needs.

use std::fmt;
use std::str::FromStr;

use super::options::{Corruption, OnError, TableOptions};
use super::table::Table;

/// A kernel's version, as `uname -r` begins: `6.1.0-50-cloud-amd64` is 6.1.0.
///
/// ```
/// use verity_core::device::KernelVersion;
/// let version: KernelVersion = "7.2.13+deb14-cloud-amd64".parse()?;
/// assert_eq!(version, KernelVersion::new(7, 2, 13));
/// assert!(version > KernelVersion::new(6, 12, 95));
/// # Ok::<(), verity_core::device::BadKernelVersion>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KernelVersion {
    major: u16,
    minor: u16,
    patch: u16,
}

impl KernelVersion {
    /// The version `major.minor.patch`.
    #[must_use]
    pub const fn new(major: u16, minor: u16, patch: u16) -> Self {
        Self { major, minor, patch }
    }

    /// The version of the kernel that runs.
    ///
    /// # Errors
    /// [`BadKernelVersion`] if the kernel names itself in a way that begins with no version.
    pub fn running() -> Result<Self, BadKernelVersion> {
        let release = nix::sys::utsname::uname().map_err(|_| BadKernelVersion(String::new()))?;
        let text = release.release().to_string_lossy();
        text.parse()
    }

    /// Checks that this kernel has every one of `features`.
    ///
    /// # Errors
    /// [`Unsupported`] for the first one that it lacks.
    pub fn require(self, features: &[Feature]) -> Result<(), Unsupported> {
        match features.iter().find(|feature| feature.since() > self) {
            Some(&feature) => Err(Unsupported { feature, running: self }),
            None => Ok(()),
        }
    }
}

impl fmt::Display for KernelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)?;
        if self.patch == 0 { Ok(()) } else { write!(f, ".{}", self.patch) }
    }
}

impl FromStr for KernelVersion {
    type Err = BadKernelVersion;

    fn from_str(release: &str) -> Result<Self, Self::Err> {
        let bad = || BadKernelVersion(release.chars().take(64).collect());
        // What distributions append begins with something that is neither a digit nor a point.
        let version = release.split(|c: char| !c.is_ascii_digit() && c != '.').next().unwrap_or_default();
        let mut parts = version.split('.');
        let mut part = || parts.next().filter(|part| !part.is_empty());
        let number = |part: &str| part.parse().map_err(|_| bad());
        let major = number(part().ok_or_else(bad)?)?;
        let minor = number(part().ok_or_else(bad)?)?;
        let patch = part().map_or(Ok(0), number)?;
        Ok(Self { major, minor, patch })
    }
}

/// A release name that begins with no version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("kernel release {0:?} begins with no version")]
pub struct BadKernelVersion(String);

/// An optional ability of dm-verity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[allow(missing_docs)] // Each variant is the option whose name `option` returns.
pub enum Feature {
    IgnoreCorruption,
    RestartOnCorruption,
    PanicOnCorruption,
    RestartOnError,
    PanicOnError,
    IgnoreZeroBlocks,
    CheckAtMostOnce,
    TryVerifyInTasklet,
    Fec,
    Signature,
}

impl Feature {
    /// The word that asks for it in a table.
    #[must_use]
    pub const fn option(self) -> &'static str {
        self.facts().0
    }

    /// The first kernel that has it. Distributions add features to older kernels, and a build may lack them.
    #[must_use]
    pub const fn since(self) -> KernelVersion {
        let (_, major, minor) = self.facts();
        KernelVersion::new(major, minor, 0)
    }

    const fn facts(self) -> (&'static str, u16, u16) {
        match self {
            Self::IgnoreCorruption => ("ignore_corruption", 4, 1),
            Self::RestartOnCorruption => ("restart_on_corruption", 4, 1),
            Self::PanicOnCorruption => ("panic_on_corruption", 5, 9),
            Self::RestartOnError => ("restart_on_error", 6, 12),
            Self::PanicOnError => ("panic_on_error", 6, 12),
            Self::IgnoreZeroBlocks => ("ignore_zero_blocks", 4, 5),
            Self::CheckAtMostOnce => ("check_at_most_once", 4, 17),
            Self::TryVerifyInTasklet => ("try_verify_in_tasklet", 6, 0),
            Self::Fec => ("use_fec_from_device", 4, 5),
            Self::Signature => ("root_hash_sig_key_desc", 5, 4),
        }
    }

    /// The features that options ask for.
    #[must_use]
    pub fn of_options(options: &TableOptions) -> Vec<Self> {
        let corruption = match options.corruption {
            Corruption::Fail => None,
            Corruption::Ignore => Some(Self::IgnoreCorruption),
            Corruption::Restart => Some(Self::RestartOnCorruption),
            Corruption::Panic => Some(Self::PanicOnCorruption),
        };
        let on_error = match options.on_error {
            OnError::Fail => None,
            OnError::Restart => Some(Self::RestartOnError),
            OnError::Panic => Some(Self::PanicOnError),
        };
        let flags = [
            corruption,
            on_error,
            options.ignore_zero_blocks.then_some(Self::IgnoreZeroBlocks),
            options.check_at_most_once.then_some(Self::CheckAtMostOnce),
            options.try_verify_in_tasklet.then_some(Self::TryVerifyInTasklet),
            options.signature_key.as_ref().map(|_| Self::Signature),
        ];
        flags.into_iter().flatten().collect()
    }

    /// The features that a table uses.
    #[must_use]
    pub fn of_table(table: &Table) -> Vec<Self> {
        let mut features = Self::of_options(table.options());
        features.extend(table.fec().map(|_| Self::Fec));
        features
    }
}

/// An option that the running kernel is too old for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("option {} needs kernel {} or newer; {running} is running", feature.option(), feature.since())]
pub struct Unsupported {
    /// The feature.
    pub feature: Feature,
    /// The kernel that runs.
    pub running: KernelVersion,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_of_distributions_are_read() {
        for (release, version) in [
            ("6.1.0-50-cloud-amd64", (6, 1, 0)),
            ("7.2.13+deb14-cloud-amd64", (7, 2, 13)),
            ("6.12.95+deb12-cloud-amd64", (6, 12, 95)),
            ("5.14.0-503.11.1.el9_5.x86_64", (5, 14, 0)),
            ("6.18-rc3", (6, 18, 0)),
            ("6.6.87.2-microsoft-standard-WSL2", (6, 6, 87)),
            ("7.0", (7, 0, 0)),
        ] {
            let (major, minor, patch) = version;
            assert_eq!(release.parse(), Ok(KernelVersion::new(major, minor, patch)), "{release}");
        }
        for release in ["", "6", "6.", ".1", "linux-6.1", "six.one", "70000.1", "-6.1"] {
            assert!(release.parse::<KernelVersion>().is_err(), "{release:?}");
        }
    }

    #[test]
    fn the_running_kernel_has_a_version() {
        assert!(KernelVersion::running().unwrap() > KernelVersion::new(3, 0, 0));
    }

    #[test]
    fn an_option_for_newer_kernels_is_refused_with_both_versions() {
        let root = "0".repeat(64);
        let table: Table =
            format!("1 7:1 7:0 4096 4096 1 0 sha256 {root} - 2 ignore_zero_blocks panic_on_error")
                .parse()
                .unwrap();
        assert_eq!(Feature::of_table(&table), [Feature::PanicOnError, Feature::IgnoreZeroBlocks]);
        let features = Feature::of_table(&table);
        assert_eq!(KernelVersion::new(6, 12, 0).require(&features), Ok(()));
        let error = KernelVersion::new(6, 11, 11).require(&features).unwrap_err();
        assert_eq!(error.to_string(), "option panic_on_error needs kernel 6.12 or newer; 6.11.11 is running");
        let error = KernelVersion::new(4, 4, 0).require(&features).unwrap_err();
        assert_eq!(error.feature, Feature::PanicOnError);
    }

    #[test]
    fn every_option_word_of_a_table_has_a_feature() {
        let root = "0".repeat(64);
        let words = [
            (1, "ignore_corruption"),
            (1, "restart_on_corruption"),
            (1, "panic_on_corruption"),
            (1, "restart_on_error"),
            (1, "panic_on_error"),
            (1, "ignore_zero_blocks"),
            (1, "check_at_most_once"),
            (1, "try_verify_in_tasklet"),
            (8, "use_fec_from_device 7:2 fec_blocks 1 fec_start 0 fec_roots 2"),
            (2, "root_hash_sig_key_desc k"),
        ];
        for (count, words) in words {
            let table: Table =
                format!("1 7:1 7:0 4096 4096 1 0 sha256 {root} - {count} {words}").parse().unwrap();
            let features = Feature::of_table(&table);
            assert_eq!(features.len(), 1, "{words}");
            assert!(words.starts_with(features[0].option()));
        }
    }
}
