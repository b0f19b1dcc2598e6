//! What a case is, and what it needs of the guest that runs it.

use std::fmt;
use std::time::Duration;

use crate::guest::Context;

/// The body of a case. `Err` fails it, unless the error is a [`Skip`].
pub(crate) type Body = fn(&mut Context) -> anyhow::Result<()>;

/// One case: a claim about the tools and the kernel, and the function that checks it.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    /// `theme/name`, unique.
    pub(crate) name: String,
    /// The claim, in one line.
    pub(crate) claim: String,
    /// What checks it.
    pub(crate) body: Body,
    /// The kernels of which the claim speaks.
    pub(crate) kernels: Kernels,
    /// What is special about the boot, if anything is. A case without needs shares its boot with others.
    pub(crate) own_boot: Option<OwnBoot>,
    /// After this time in the guest it has failed.
    pub(crate) limit: Duration,
}

impl Case {
    /// A case for every kernel, in a shared guest, with three minutes of time.
    pub(crate) fn new(name: impl Into<String>, claim: impl Into<String>, body: Body) -> Self {
        Self {
            name: name.into(),
            claim: claim.into(),
            body,
            kernels: Kernels::default(),
            own_boot: None,
            limit: Duration::from_secs(180),
        }
    }

    /// Speaks of this kernel and later ones only.
    pub(crate) fn since(mut self, major: u32, minor: u32) -> Self {
        self.kernels.since = Some((major, minor));
        self
    }

    /// Speaks only of kernels older than this one.
    pub(crate) fn before(mut self, major: u32, minor: u32) -> Self {
        self.kernels.before = Some((major, minor));
        self
    }

    /// May take longer than other cases.
    pub(crate) fn limit(mut self, seconds: u64) -> Self {
        self.limit = Duration::from_secs(seconds);
        self
    }

    /// Gets a guest of its own.
    pub(crate) fn own_boot(mut self, own: OwnBoot) -> Self {
        self.own_boot = Some(own);
        self
    }
}

/// A range of kernel versions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Kernels {
    since: Option<(u32, u32)>,
    before: Option<(u32, u32)>,
}

impl Kernels {
    /// Whether the kernel with this `uname -r` is in the range. One whose version cannot be read is.
    pub(crate) fn contain(self, release: &str) -> bool {
        let Some(version) = version_of(release) else { return true };
        self.since.is_none_or(|since| version >= since) && self.before.is_none_or(|before| version < before)
    }
}

impl fmt::Display for Kernels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.since, self.before) {
            (None, None) => write!(f, "all kernels"),
            (Some((major, minor)), None) => write!(f, "since {major}.{minor}"),
            (None, Some((major, minor))) => write!(f, "before {major}.{minor}"),
            (Some(a), Some(b)) => write!(f, "since {}.{}, before {}.{}", a.0, a.1, b.0, b.1),
        }
    }
}

/// Major and minor number of `uname -r`.
pub(crate) fn version_of(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// What a guest that is booted for one case looks like, and how it ends.
#[derive(Debug, Clone, Default)]
pub(crate) struct OwnBoot {
    /// Added to the kernel command line; `module.parameter=value` reaches the module too.
    pub(crate) arguments: &'static [&'static str],
    /// Modules that are not loaded.
    pub(crate) without_modules: &'static [&'static str],
    /// Sizes of empty extra disks, in MiB: `/dev/vda`, ...
    pub(crate) disks_mib: &'static [u64],
    /// UEFI firmware, whose `db` holds the certificate of the tests' trusted key, instead of a BIOS.
    pub(crate) uefi: bool,
    /// How the guest must end.
    pub(crate) ending: Ending,
}

impl OwnBoot {
    /// Whether its guest starts like any other.
    pub(crate) fn starts_plain(&self) -> bool {
        let Self { arguments, without_modules, disks_mib, uefi, ending: _ } = self;
        arguments.is_empty() && without_modules.is_empty() && disks_mib.is_empty() && !uefi
    }
}

/// How a guest ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The case returns, then the harness powers the guest off.
    #[default]
    PowerOff,
    /// The kernel restarts the machine, after the case armed.
    Restart,
    /// The kernel panics, after the case armed.
    Panic,
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PowerOff => "power-off",
            Self::Restart => "restart",
            Self::Panic => "panic",
        })
    }
}

/// The error of a case that could not run: this guest lacks something that the claim needs.
#[derive(Debug)]
pub(crate) struct Skip(pub(crate) String);

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Skip {}

/// Whether `name` matches `pattern`, in which `*` stands for any run of characters and `?` for one.
#[cfg(feature = "host")]
pub(crate) fn matches(pattern: &str, name: &str) -> bool {
    // The usual greedy walk: on a mismatch, let the last star swallow one more byte.
    let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(&c) if c == b'?' || c == name[n] => {
                p += 1;
                n += 1;
            }
            _ => match star {
                Some((at, taken)) => {
                    star = Some((at, taken + 1));
                    p = at + 1;
                    n = taken + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|&c| c == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        let range = Kernels { since: Some((6, 12)), before: None };
        assert!(!range.contain("6.1.0-50-cloud-amd64"));
        assert!(!range.contain("6.2.1"));
        assert!(range.contain("6.12.95+deb12-cloud-amd64"));
        assert!(range.contain("7.0"));
        let range = Kernels { since: None, before: Some((6, 12)) };
        assert!(range.contain("6.1.0"));
        assert!(!range.contain("6.12.0"));
        assert_eq!(version_of("7.2-rc1"), Some((7, 2)));
        assert_eq!(version_of("next"), None);
    }

    #[cfg(feature = "host")]
    #[test]
    fn patterns() {
        for (pattern, name) in [
            ("*", ""),
            ("*", "a/b"),
            ("a/*", "a/b"),
            ("*b", "a/b"),
            ("a?b", "a/b"),
            ("a*c*e", "abcde"),
            ("a/b", "a/b"),
            ("*ab", "aab"),
        ] {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [("", "a"), ("a", "ab"), ("a/*", "b/a"), ("?", ""), ("a*c", "ab")] {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
    }
}
