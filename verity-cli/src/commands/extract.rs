//! `verity extract`: verified data in a new file.

use std::path::PathBuf;

use clap::Args;
use verity_core::block::RootHash;
use verity_core::reader::{self, Extracted};
use verity_core::tree::{self, Device};

use super::layout::Layout;
use super::source::{Source, SourceArguments, TreeArguments};
use crate::cli::help::exit_codes;
use crate::cli::options::{Common, WorkOptions};
use crate::failure::{Code, Failure};
use crate::files::NewFile;
use crate::output::json;
use crate::session::{Session, engine_options};

const HELP: &str = concat!(
    "\
OUTPUT is a new file, with mode 0600. It appears when all of it was checked and is on disk; if a block does not match, there is no \
file, and the exit code is 2. Blocks of zeros become holes. \
With --fec-device damaged blocks are restored from parity, and checked like all others; 'verity repair' mends the image itself.

Examples:
  verity extract image.img image.verity ROOT_HASH copy.img
  verity extract image.img image.verity --root-hash-file image.roothash copy.img
  verity extract /dev/sdb1 /dev/sdb2 ROOT_HASH copy.img --json
  verity extract image.img image.verity ROOT_HASH copy.img --fec-device image.fec

",
    exit_codes!()
);

/// Write data to a new file, each block checked against a root hash
///
/// Copies the data that the tree covers, on all processors, while every block is checked.
#[derive(Args, Debug)]
#[command(disable_help_flag = true, after_long_help = HELP)]
#[command(override_usage = "verity extract [OPTIONS] <DATA> <HASH> [ROOT_HASH] <OUTPUT>")]
pub(crate) struct Arguments {
    #[command(flatten)]
    source: SourceArguments,

    /// The file that is made; the third argument where the root hash is in a file
    output: Option<PathBuf>,

    #[command(flatten)]
    tree: TreeArguments,
    #[command(flatten)]
    work: WorkOptions,
    #[command(flatten)]
    pub(super) common: Common,
}

/// A finished copy.
pub(crate) struct Copied {
    pub(crate) data: PathBuf,
    pub(crate) hash: PathBuf,
    pub(crate) output: PathBuf,
    pub(crate) layout: Layout,
    pub(crate) root: RootHash,
    pub(crate) extracted: Extracted,
    /// How many blocks were restored from parity.
    pub(crate) repairs: u64,
}

impl Arguments {
    /// Where the data go, which is the last argument.
    fn take_output(&mut self) -> Result<PathBuf, Failure> {
        let last = self.output.take().or_else(|| self.source.root.take_other_argument());
        last.ok_or_else(|| {
            Failure::argument("extract: <OUTPUT> missing")
                .hint("give the file that is to be made as the last argument, behind the root hash")
        })
    }
}

pub(super) fn run(mut arguments: Arguments, session: &Session) -> Result<Code, Failure> {
    let path = arguments.take_output()?;
    let source = Source::open(&arguments.source, &arguments.tree, session)?;
    let output = NewFile::create(&path, source.layout.geometry.data_bytes())?;
    session.debug(|| format!("Copying {} data blocks.", source.layout.geometry.data_blocks()));
    let progress = session.progress();
    let options = engine_options(&progress, arguments.work.threads);
    let reader = source.reader()?;
    let extracted = reader.extract(output.file(), &options).map_err(|error| match &error {
        reader::Error::Tree(tree::Error::Write { source, .. }) => output.cannot_write(source),
        error => source.failure(error, &options, |device| match device {
            Device::Output => format!("{path:?}"),
            device => source.name(device),
        }),
    })?;
    output.publish()?;
    drop(progress);
    source.tell_repairs(&reader, session);
    let repairs = reader.repairs();
    drop(reader);

    let Source { layout, root, .. } = source;
    let SourceArguments { data, hash, .. } = arguments.source;
    let copied = Copied { data, hash, output: path, layout, root, extracted, repairs };
    session.print(String::new, || json::copied(&copied))?;
    Ok(Code::Success)
}
