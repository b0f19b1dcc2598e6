//! JSON of bounded size.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Error;

/// No description of a layer has more bytes; a manifest of 500 layers has a tenth.
const MOST_BYTES: usize = 4 << 20;

/// Reads a document that is all of `bytes`.
pub(super) fn parse<T: DeserializeOwned>(what: &'static str, bytes: &[u8]) -> Result<T, Error> {
    if bytes.len() > MOST_BYTES {
        return Err(Error::TooLarge { what, found: bytes.len() as u64, most: MOST_BYTES as u64 });
    }
    // An array would do for serde where a struct is meant.
    if bytes.trim_ascii_start().first().is_some_and(|&first| first != b'{') {
        return Err(super::field(what, "text", "no JSON object"));
    }
    serde_json::from_slice(bytes).map_err(|source| Error::Json { what, source })
}

/// A document on one line.
pub(super) fn compact<T: Serialize>(what: &'static str, value: &T) -> Result<String, Error> {
    serde_json::to_string(value).map_err(|source| Error::Json { what, source })
}

/// A document for people and files, with a newline at its end.
pub(super) fn pretty<T: Serialize>(what: &'static str, value: &T) -> Result<String, Error> {
    serde_json::to_string_pretty(value).map(|text| text + "\n").map_err(|source| Error::Json { what, source })
}
