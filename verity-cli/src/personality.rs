//! The two names that this program answers to.

use std::ffi::OsString;
use std::path::Path;

/// Which program the caller believes to have started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Personality {
    /// Itself.
    Verity,
    /// veritysetup: its texts, its exit codes, its order of things.
    Veritysetup,
}

impl Personality {
    /// Decides by the name under which the program was called, whatever folder or link it was called through.
    pub(crate) fn of(program: Option<&OsString>) -> Self {
        let name = program.and_then(|program| Path::new(program).file_name());
        if name.is_some_and(|name| name == "veritysetup") { Self::Veritysetup } else { Self::Verity }
    }

    /// The name to print.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Verity => "verity",
            Self::Veritysetup => "veritysetup",
        }
    }

    pub(crate) fn is_veritysetup(self) -> bool {
        self == Self::Veritysetup
    }

    /// What `--version` prints behind the name.
    ///
    /// Under veritysetup's name: first the veritysetup release whose output is printed, since scripts compare it.
    pub(crate) const fn version(self) -> &'static str {
        match self {
            Self::Verity => env!("CARGO_PKG_VERSION"),
            Self::Veritysetup => concat!("2.8.8 (verity ", env!("CARGO_PKG_VERSION"), ")"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_part_of_the_name_decides() {
        for (name, expected) in [
            ("veritysetup", Personality::Veritysetup),
            ("/usr/sbin/veritysetup", Personality::Veritysetup),
            ("verity", Personality::Verity),
            ("/veritysetup/verity", Personality::Verity),
            ("veritysetup2", Personality::Verity),
        ] {
            assert_eq!(Personality::of(Some(&name.into())), expected, "{name}");
        }
        assert_eq!(Personality::of(None), Personality::Verity);
    }
}
