//! veritytab files: text of a bounded size.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::failure::{Code, Failure};

/// Thousands of entries.
const MOST_BYTES: u64 = 1 << 20;

/// Reads the text of a veritytab.
pub(crate) fn read(path: &Path) -> Result<String, Failure> {
    let unreadable = |error: &std::io::Error| {
        Failure::system(format_args!("veritytab {path:?} cannot be read"), error)
            .hint("give the path of a veritytab; without one it is /etc/veritytab")
    };
    if !path.metadata().map_err(|error| unreadable(&error))?.is_file() {
        let failure = Failure::new(Code::NoDevice, format_args!("veritytab {path:?} is not a regular file"));
        return Err(failure.hint("give the path of a veritytab"));
    }
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MOST_BYTES + 1).read_to_end(&mut bytes))
        .map_err(|error| unreadable(&error))?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(Failure::argument(format_args!(
            "veritytab {path:?} is too large: at most {MOST_BYTES} bytes"
        )));
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Failure::argument(format_args!("veritytab {path:?} is no text: byte {at} is not UTF-8"))
    })
}
