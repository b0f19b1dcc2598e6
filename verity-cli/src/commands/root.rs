//! The root hash that a command is given: as an argument or in a file.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;
use verity_core::algorithm::Algorithm;
use verity_core::block::RootHash;

use crate::failure::{Code, Failure};
use crate::files::RootHashFile;
use crate::session::Session;

/// Where the root hash comes from.
#[derive(Args, Clone, Debug)]
pub(crate) struct RootArguments {
    /// The root hash in hexadecimal, as format printed it
    #[arg(value_name = "ROOT_HASH")]
    root_hash: Option<OsString>,

    /// Read the root hash from a file
    #[arg(long, value_name = "PATH")]
    root_hash_file: Option<PathBuf>,
}

impl RootArguments {
    /// Whether there is one.
    pub(crate) fn is_given(&self) -> bool {
        self.root_hash.is_some() || self.root_hash_file.is_some()
    }

    /// The argument in the root hash's place, where the root hash is in a file and this thus something else.
    pub(crate) fn take_other_argument(&mut self) -> Option<PathBuf> {
        self.root_hash_file.as_ref().and_then(|_| self.root_hash.take()).map(PathBuf::from)
    }

    /// The text, read before anything else is opened.
    pub(crate) fn text(&self, session: &Session) -> Result<String, Failure> {
        match (&self.root_hash, &self.root_hash_file) {
            (Some(_), Some(_)) if !session.is_veritysetup() => {
                Err(Failure::argument("the root hash is given twice, as an argument and as --root-hash-file")
                    .hint("leave one of them out"))
            }
            (_, Some(path)) => RootHashFile::read(path),
            (Some(text), None) => Ok(text.to_string_lossy().into_owned()),
            (None, None) => Err(Failure::argument("the root hash is missing")
                .hint("give it as the last argument, or --root-hash-file PATH")
                .veritysetup(
                    Code::General,
                    "Command requires <root_hash> or --root-hash-file option as argument.",
                )),
        }
    }
}

/// Parses the text as a digest of the tree's algorithm.
pub(crate) fn parse(text: &str, algorithm: Algorithm) -> Result<RootHash, Failure> {
    RootHash::from_hex(algorithm, text).map_err(|error| {
        Failure::argument(error)
            .hint("give the root hash as format printed it")
            .veritysetup(Code::General, "Invalid root hash string specified.")
    })
}
