//! What the kernel says of an active verity device.

use std::fmt;
use std::str::FromStr;

use super::number::decimal;

/// Whether the kernel has seen a block that does not match.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Every block that was read so far matched.
    Verified,
    /// At least one block did not match. This stays until the device is removed.
    Corrupted,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Verified => "verified",
            Self::Corrupted => "corrupted",
        })
    }
}

/// What the kernel says about error correction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Repairs {
    /// Nothing: kernels before 6.19, which say only `V` or `C`.
    Unknown,
    /// The device has no parity (`-`).
    None,
    /// So many blocks were repaired since the device was made.
    Count(u64),
}

/// A verity target's status line: `V`, `C`, and on newer kernels a second word (`V -`, `V 0`, `C 12`).
///
/// ```
/// use verity_core::device::{Repairs, Status, Verdict};
/// let status: Status = "V 12".parse()?;
/// assert_eq!((status.verdict, status.repairs), (Verdict::Verified, Repairs::Count(12)));
/// # Ok::<(), verity_core::device::StatusError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Status {
    /// Whether a bad block was seen.
    pub verdict: Verdict,
    /// What error correction did.
    pub repairs: Repairs,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.verdict {
            Verdict::Verified => "V",
            Verdict::Corrupted => "C",
        })?;
        match self.repairs {
            Repairs::Unknown => Ok(()),
            Repairs::None => f.write_str(" -"),
            Repairs::Count(count) => write!(f, " {count}"),
        }
    }
}

impl FromStr for Status {
    type Err = StatusError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || StatusError(text.chars().take(64).collect());
        let (verdict, rest) = match text.split_once(' ') {
            Some((verdict, rest)) => (verdict, Some(rest)),
            None => (text, None),
        };
        let verdict = match verdict {
            "V" => Verdict::Verified,
            "C" => Verdict::Corrupted,
            _ => return Err(bad()),
        };
        let repairs = match rest {
            None => Repairs::Unknown,
            Some("-") => Repairs::None,
            Some(count) => Repairs::Count(decimal(count).ok_or_else(bad)?),
        };
        Ok(Self { verdict, repairs })
    }
}

/// A status line that no known kernel prints. It is not taken for a good one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("verity status {0:?} is unknown (known: V or C, then nothing, - or a number)")]
pub struct StatusError(String);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_form_that_kernels_print_is_read_back() {
        for text in ["V", "C", "V -", "C -", "V 0", "C 0", "V 12", "C 18446744073709551615"] {
            assert_eq!(text.parse::<Status>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in ["", " ", "v", "VC", "V ", " V", "V  0", "V 0 ", "V 0 0", "V -1", "V +1", "V 01", "V 0x1"]
            .into_iter()
            .chain(["V 18446744073709551616", "V\n", "I", "C,"])
        {
            assert!(text.parse::<Status>().is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_accepted_is_printed_the_same(text in "[VC]?[ -]{0,2}[0-9]{0,20}") {
            if let Ok(status) = text.parse::<Status>() {
                prop_assert_eq!(status.to_string(), text);
            }
        }
    }
}
