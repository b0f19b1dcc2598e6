//! Signature files: a root hash's signature in DER, as openssl writes it.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::fcntl::OFlag;
use verity_core::signature::{Signature, SignatureError};

use crate::failure::{Code, Failure};

/// Reads a signature: a regular file that holds nothing else.
pub(crate) fn read(path: &Path) -> Result<Signature, Failure> {
    let invalid = |failure: Failure| {
        failure.veritysetup(Code::General, format_args!("Invalid signature file {}.", path.display()))
    };
    let unreadable = |error: &std::io::Error| {
        Failure::system(format_args!("signature file {path:?} cannot be read"), error)
            .code(Code::General)
            .hint("check the path")
    };
    let metadata = path.metadata().map_err(|error| invalid(unreadable(&error)))?;
    if !metadata.is_file() {
        let failure = Failure::argument(format_args!("signature file {path:?} is not a regular file"));
        return Err(invalid(failure.hint("give the file with the signature in DER")));
    }
    let mut bytes = Vec::new();
    open(path).and_then(|file| file.take(MOST_BYTES).read_to_end(&mut bytes)).map_err(|error| {
        let text = format_args!("Cannot read signature file {}.", path.display()).to_string();
        unreadable(&error).veritysetup(Code::General, text)
    })?;
    Signature::from_der(bytes).map_err(|error| invalid(malformed(path, &error)))
}

/// One more than is allowed, so that a larger file is seen to be one.
const MOST_BYTES: u64 = Signature::MAX_SIZE as u64 + 1;

fn open(path: &Path) -> std::io::Result<File> {
    // It can have become a pipe since it was looked at.
    OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path)
}

/// What is wrong with a signature.
pub(crate) fn malformed(what: impl std::fmt::Debug, error: &SignatureError) -> Failure {
    let hint = match error {
        SignatureError::Pem => "convert it: openssl pkcs7 -outform der, or sign with -outform der",
        SignatureError::Attached => "sign without -nodetach",
        _ => {
            "make it with 'openssl smime -sign -nocerts -noattr -binary -outform der'; docs/signatures.md shows how"
        }
    };
    Failure::argument(format_args!("signature file {what:?}: {error}")).hint(hint)
}
