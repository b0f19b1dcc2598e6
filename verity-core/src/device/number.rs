//! Device numbers, the names that block devices have for the kernel.

use std::fmt;
use std::str::FromStr;

/// A block device's number, `major:minor` as text.
///
/// Tables name devices by number wherever this project writes them: a number cannot be redirected by a symlink
/// and needs no node below `/dev`.
///
/// ```
/// use verity_core::device::DeviceNumber;
/// let number: DeviceNumber = "7:12".parse()?;
/// assert_eq!((number.major(), number.minor()), (7, 12));
/// assert!("7:012".parse::<DeviceNumber>().is_err());
/// # Ok::<(), verity_core::device::BadDeviceNumber>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeviceNumber {
    major: u32,
    minor: u32,
}

impl DeviceNumber {
    /// The largest major number, 12 bits in the kernel.
    pub const MAX_MAJOR: u32 = (1 << 12) - 1;
    /// The largest minor number, 20 bits in the kernel.
    pub const MAX_MINOR: u32 = (1 << 20) - 1;

    /// Checks a pair of numbers.
    ///
    /// # Errors
    /// [`BadDeviceNumber`] if one of them is larger than the kernel's device numbers are.
    pub fn new(major: u32, minor: u32) -> Result<Self, BadDeviceNumber> {
        if major > Self::MAX_MAJOR || minor > Self::MAX_MINOR {
            return Err(BadDeviceNumber(format!("{major}:{minor}")));
        }
        Ok(Self { major, minor })
    }

    /// The driver's number.
    #[must_use]
    pub const fn major(self) -> u32 {
        self.major
    }

    /// The device's number within its driver.
    #[must_use]
    pub const fn minor(self) -> u32 {
        self.minor
    }

    /// Reads what `stat` calls `st_rdev`.
    pub(super) fn from_rdev(rdev: u64) -> Result<Self, BadDeviceNumber> {
        let part = |number: u64| u32::try_from(number).map_err(|_| BadDeviceNumber(format!("{rdev:#x}")));
        Self::new(part(nix::sys::stat::major(rdev))?, part(nix::sys::stat::minor(rdev))?)
    }

    /// Reads the kernel's own packing, which device-mapper's ioctls carry: `mmmM MMmm` in 32 bits.
    pub(super) const fn from_packed(packed: u64) -> Self {
        // Each mask keeps fewer bits than the result has.
        #[allow(clippy::cast_possible_truncation)]
        let (major, minor) =
            (((packed & 0xf_ff00) >> 8) as u32, ((packed & 0xff) | ((packed >> 12) & 0xf_ff00)) as u32);
        Self { major, minor }
    }

    /// What `mknod` takes.
    pub(super) fn rdev(self) -> u64 {
        nix::sys::stat::makedev(u64::from(self.major), u64::from(self.minor))
    }
}

impl fmt::Display for DeviceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

impl FromStr for DeviceNumber {
    type Err = BadDeviceNumber;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || BadDeviceNumber(text.chars().take(64).collect());
        let (major, minor) = text.split_once(':').ok_or_else(bad)?;
        Self::new(decimal(major).ok_or_else(bad)?, decimal(minor).ok_or_else(bad)?).map_err(|_| bad())
    }
}

/// A number as the kernel prints it: digits only, no sign, no leading zero.
pub(super) fn decimal<T: FromStr>(text: &str) -> Option<T> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if plain { text.parse().ok() } else { None }
}

/// Text or numbers that are no device number.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no device number (major:minor, at most 4095:1048575)")]
pub struct BadDeviceNumber(String);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn text_and_system_calls_give_the_same_number_back(major in 0..=4095u32, minor in 0..=0xf_ffffu32) {
            let number = DeviceNumber::new(major, minor).unwrap();
            prop_assert_eq!(number.to_string().parse(), Ok(number));
            prop_assert_eq!(DeviceNumber::from_rdev(number.rdev()), Ok(number));
        }
    }

    #[test]
    fn the_kernels_packing_is_read() {
        // Minor 0x12345, major 0x0fd: low minor byte, major, high minor bits.
        let number = DeviceNumber::from_packed(0x1230_0000 | 0x0fd << 8 | 0x45);
        assert_eq!(number, DeviceNumber::new(0xfd, 0x12345).unwrap());
    }

    #[test]
    fn what_the_kernel_never_prints_is_refused() {
        for text in [
            "",
            ":",
            "7",
            "7:",
            ":1",
            "7:-1",
            "+7:1",
            "7:1:1",
            "07:1",
            " 7:1",
            "4096:0",
            "0:1048576",
            "/dev/x",
        ] {
            assert!(text.parse::<DeviceNumber>().is_err(), "{text:?}");
        }
    }
}
