//! `verity cat`: verified data on standard output.

use std::fs::File;
use std::io::{self, Write};
use std::ops::Range;
use std::os::fd::AsFd;

use clap::Args;
use verity_core::reader::VerityReader;
use verity_core::tree::Options;

use super::source::{Source, SourceArguments, TreeArguments};
use crate::cli::help::exit_codes;
use crate::cli::options::Common;
use crate::cli::values;
use crate::failure::{Code, Failure};
use crate::session::Session;

const HELP: &str = concat!(
    "\
Nothing is written that was not checked against the root hash. At the first block that does not match, cat stops with exit \
code 2 and names it; what was written before that is good. Blocks that are not read are not checked: 'verity verify' looks at \
all of them, and 'verity extract' writes a file that is whole or not there.

With --fec-device damaged blocks are restored from parity while they are read, and checked like all others.

Examples:
  verity cat image.img image.verity ROOT_HASH | tar -x
  verity cat image.img image.verity ROOT_HASH --offset 1048576 --length 4096 | xxd
  verity cat image.img image.verity --root-hash-file image.roothash | cmp - original.img
  verity cat image.img image.verity ROOT_HASH --fec-device image.fec > image.mended

",
    exit_codes!()
);

/// Bytes that are read and written at once.
const BUFFER_BYTES: usize = 256 * 1024;

/// Write data to standard output, each block checked against a root hash
///
/// Reads as the kernel does from an active device, without being root.
#[derive(Args, Debug)]
#[command(disable_help_flag = true, after_long_help = HELP)]
pub(crate) struct Arguments {
    #[command(flatten)]
    source: SourceArguments,

    /// The first byte that is written
    #[arg(long, value_name = "BYTES", value_parser = values::number, default_value = "0")]
    offset: u64,

    /// How many bytes are written [default: all up to the end]
    #[arg(long, value_name = "BYTES", value_parser = values::number)]
    length: Option<u64>,

    #[command(flatten)]
    tree: TreeArguments,
    #[command(flatten)]
    pub(super) common: Common,
}

pub(super) fn run(arguments: &Arguments, session: &Session) -> Result<Code, Failure> {
    if session.json {
        return Err(Failure::argument("--json: what cat prints are the data themselves")
            .hint("leave it out; 'verity verify --json' and 'verity extract --json' report"));
    }
    let source = Source::open(&arguments.source, &arguments.tree, session)?;
    let reader = source.reader()?;
    let range = arguments.range(reader.data_bytes())?;
    let output = io::stdout().as_fd().try_clone_to_owned().map_err(|error| cannot_write(&error))?;
    session.debug(|| format!("Reading bytes {} to {} of the data.", range.start, range.end));
    let copied = copy(&source, &reader, range, &File::from(output));
    source.tell_repairs(&reader, session);
    copied?;
    Ok(Code::Success)
}

impl Arguments {
    /// The bytes that are asked for. All of them have to be there.
    fn range(&self, data_bytes: u64) -> Result<Range<u64>, Failure> {
        if self.offset > data_bytes {
            return Err(Failure::argument(format_args!(
                "--offset {} lies behind the end: there are {data_bytes} bytes of data",
                self.offset
            )));
        }
        let rest = data_bytes - self.offset;
        match self.length {
            Some(length) if length > rest => Err(Failure::argument(format_args!(
                "--length {length} reaches beyond the end: from byte {} on there are {rest} bytes of data",
                self.offset
            ))),
            length => Ok(self.offset..self.offset + length.unwrap_or(rest)),
        }
    }
}

fn copy(
    source: &Source,
    reader: &VerityReader<'_>,
    range: Range<u64>,
    mut output: &File,
) -> Result<(), Failure> {
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut offset = range.start;
    while offset < range.end {
        // After the first read, whole blocks at a time.
        let room = BUFFER_BYTES as u64 - offset % BUFFER_BYTES as u64;
        let length = usize::try_from(room.min(range.end - offset)).unwrap_or(BUFFER_BYTES);
        let count = reader.read_at(&mut buffer[..length], offset).map_err(|error| {
            let mut failure = source.failure(&error, &Options::default(), |device| source.name(device));
            if offset > range.start {
                failure.message += &format!("; the data before byte {offset} were written");
            }
            failure
        })?;
        match output.write_all(&buffer[..count]) {
            // Whoever read has seen what he wanted.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            written => written.map_err(|error| cannot_write(&error))?,
        }
        offset += count as u64;
    }
    Ok(())
}

fn cannot_write(error: &io::Error) -> Failure {
    Failure::system("standard output cannot be written", error).code(Code::General)
}
