//! The root hash that a command is given: as an argument or in a file.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

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

/// A root hash before the algorithm is known that gives its length.
#[derive(Debug)]
pub(crate) struct RootText {
    text: String,
    /// The file that it comes from, where that is read as veritysetup does: so far as the root hash is long.
    prefix_of: Option<PathBuf>,
}

impl RootText {
    /// A text that stands by itself.
    pub(crate) const fn whole(text: String) -> Self {
        Self { text, prefix_of: None }
    }
}

impl RootArguments {
    /// Whether there is one.
    pub(crate) fn is_given(&self) -> bool {
        self.root_hash.is_some() || self.root_hash_file.is_some()
    }

    /// The file that it is read from.
    pub(crate) fn file(&self) -> Option<&Path> {
        self.root_hash_file.as_deref()
    }

    /// The argument in the root hash's place, where the root hash is in a file and this thus something else.
    pub(crate) fn take_other_argument(&mut self) -> Option<PathBuf> {
        self.root_hash_file.as_ref().and_then(|_| self.root_hash.take()).map(PathBuf::from)
    }

    /// The same, without taking it.
    pub(crate) fn other_argument(&self) -> Option<&Path> {
        self.root_hash.as_ref().filter(|_| self.root_hash_file.is_some()).map(Path::new)
    }

    /// The text, read before anything else is opened.
    pub(crate) fn text(&self, session: &Session) -> Result<RootText, Failure> {
        match (&self.root_hash, &self.root_hash_file) {
            (Some(_), Some(_)) if !session.is_veritysetup() => {
                Err(Failure::argument("the root hash is given twice, as an argument and as --root-hash-file")
                    .hint("leave one of them out"))
            }
            (_, Some(path)) => Ok(RootText {
                text: RootHashFile::read(path)?,
                prefix_of: session.is_veritysetup().then(|| path.clone()),
            }),
            (Some(text), None) => Ok(RootText::whole(text.to_string_lossy().into_owned())),
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
pub(crate) fn parse(root: &RootText, algorithm: Algorithm) -> Result<RootHash, Failure> {
    let RootText { text, prefix_of } = root;
    let digits = 2 * algorithm.digest_size();
    let (text, complaint) = match prefix_of {
        Some(path) => {
            (text.get(..digits).unwrap_or(text), format!("Invalid root hash file {}.", path.display()))
        }
        None => (text.as_str(), "Invalid root hash string specified.".to_owned()),
    };
    RootHash::from_hex(algorithm, text).map_err(|error| {
        Failure::argument(error)
            .hint("give the root hash as format printed it")
            .veritysetup(Code::General, complaint)
    })
}
