//! Single values as they are written on the command line.

use verity_core::algorithm::{Algorithm, UnknownAlgorithm};
use verity_core::block::{BlockSize, Salt};
use verity_core::dialect::ddi::{Architecture, UnknownArchitecture};
use verity_core::dialect::{Dialect, UnknownDialect};
use verity_core::fec::Roots;
use verity_core::oci::{Platform, PlatformError};
use verity_core::params::HashType;
use verity_core::tree::Threads;

/// A number of bytes, blocks or findings: decimal digits, no sign, no suffix.
pub(crate) fn number(text: &str) -> Result<u64, String> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("not a number (decimal digits only, no sign, no unit)".to_owned());
    }
    text.parse().map_err(|_| format!("too large (at most {})", u64::MAX))
}

/// A block size in bytes.
pub(crate) fn block_size(text: &str) -> Result<BlockSize, String> {
    let bytes = number(text)?;
    u32::try_from(bytes)
        .ok()
        .and_then(|bytes| BlockSize::new(bytes).ok())
        .ok_or_else(|| format!("not a power of two from {} to {}", BlockSize::MIN, BlockSize::MAX))
}

/// A hash algorithm, in any case as veritysetup takes it.
pub(crate) fn algorithm(text: &str) -> Result<Algorithm, UnknownAlgorithm> {
    Algorithm::from_name_ignore_case(text)
}

/// A hash type.
pub(crate) fn hash_type(text: &str) -> Result<HashType, String> {
    let unknown = || "not a hash type (1 is the normal one, 0 Chrome OS's)".to_owned();
    let number = u32::try_from(number(text)?).map_err(|_| unknown())?;
    HashType::try_from(number).map_err(|_| unknown())
}

/// A salt in hexadecimal; `-` and nothing are the empty one.
pub(crate) fn salt(text: &str) -> Result<Salt, String> {
    text.parse().map_err(|error: verity_core::block::BlockError| error.to_string())
}

/// A UUID in its usual form, as libuuid reads it: with dashes, in either case.
pub(crate) fn uuid(text: &str) -> Result<[u8; 16], String> {
    if text.len() != 36 {
        return Err("not a UUID (like 01234567-89ab-cdef-0123-456789abcdef)".to_owned());
    }
    uuid::Uuid::try_parse(text)
        .map(uuid::Uuid::into_bytes)
        .map_err(|_| "not a UUID (like 01234567-89ab-cdef-0123-456789abcdef)".to_owned())
}

/// A number of parity bytes.
pub(crate) fn roots(text: &str) -> Result<Roots, String> {
    Roots::new(number(text)?).map_err(|_| format!("not from {} to {}", Roots::MIN, Roots::MAX))
}

/// A dialect in which a layer is described.
pub(crate) fn dialect(text: &str) -> Result<Dialect, UnknownDialect> {
    text.parse()
}

/// What an image runs on; `host` is what this machine is.
pub(crate) fn platform(text: &str) -> Result<Platform, PlatformError> {
    if text == "host" { Ok(Platform::host()) } else { text.parse() }
}

/// An architecture that has partition types.
pub(crate) fn architecture(text: &str) -> Result<Architecture, UnknownArchitecture> {
    text.parse()
}

/// A number of threads.
pub(crate) fn threads(text: &str) -> Result<Threads, String> {
    let range = || format!("not from 1 to {}", Threads::MAX);
    let count = usize::try_from(number(text)?).map_err(|_| range())?;
    Threads::new(count).map_err(|_| range())
}

/// A number of findings to list.
pub(crate) fn count(text: &str) -> Result<usize, String> {
    usize::try_from(number(text)?).map_err(|_| format!("too large (at most {})", usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_no_sign_and_no_unit() {
        assert_eq!(number("4096"), Ok(4096));
        assert_eq!(number("18446744073709551615"), Ok(u64::MAX));
        for text in ["", "-1", "+1", "4k", "0x10", " 1", "1.0", "18446744073709551616", "٣"] {
            assert!(number(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn each_value_says_what_it_takes() {
        assert_eq!(block_size("4096").unwrap().get(), 4096);
        assert!(block_size("4294971392").unwrap_err().contains("power of two"));
        assert_eq!(hash_type("0"), Ok(HashType::ChromeOs));
        assert!(hash_type("2").is_err());
        assert_eq!(salt("").unwrap(), salt("-").unwrap());
        assert!(uuid("01234567-89AB-cdef-0123-456789abcdef").is_ok());
        for text in ["", "foo", "0123456789abcdef0123456789abcdef", "{1234567-89ab-cdef-0123-456789abcde}"] {
            assert!(uuid(text).is_err(), "{text:?}");
        }
        assert!(threads("0").is_err() && threads("1025").is_err() && threads("1024").is_ok());
    }
}
