//! Where data changed: told in a file, found by comparing, or read off a sparse delta.

use std::fs::{File, OpenOptions};
use std::io::{IsTerminal, stdin};
use std::ops::Range;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap::Args;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::unistd::{Whence, lseek};
use verity_core::block::BlockSize;
use verity_core::tree::{self, Options};

use super::engine;
use super::stream::read_some;
use crate::cli::values;
use crate::failure::{Code, Failure, plain};
use crate::files::{Extent, Input, Role};

/// How many ranges there may be: 16 bytes of memory each.
const MOST_RANGES: usize = 16 << 20;

/// More than any line has: what is longer is no list of ranges, and perhaps without an end.
const MOST_LINE_BYTES: usize = 4096;

/// Bytes read at once.
const READ_BYTES: usize = 64 * 1024;

/// Where the changes are found. One of these has to be given.
#[derive(Args, Debug)]
#[command(next_help_heading = "What changed")]
#[group(required = true, multiple = false)]
pub(super) struct ChangeArguments {
    /// A file ('-' is standard input) with a line 'OFFSET LENGTH' in bytes for each changed range; '#' begins a comment
    #[arg(long, value_name = "PATH")]
    ranges: Option<PathBuf>,

    /// The data as it was; every block is compared
    #[arg(long, value_name = "PATH")]
    old_data: Option<PathBuf>,

    /// A sparse file whose holes are where nothing changed
    #[arg(long, value_name = "PATH")]
    delta: Option<PathBuf>,
}

/// What tells where data changed, open for reading.
pub(super) enum Changes {
    Ranges { path: PathBuf, file: File },
    OldData(Input),
    Delta(Input),
}

impl ChangeArguments {
    /// Opens what was given, so that all inputs are known before anything is written.
    pub(super) fn open(&self, data: &Input) -> Result<Changes, Failure> {
        let Self { ranges, old_data, delta } = self;
        match (ranges, old_data, delta) {
            (Some(path), _, _) => open_ranges(path).map(|file| Changes::Ranges { path: path.clone(), file }),
            (None, Some(path), _) => {
                let old = Input::open(path, Role::Data)?;
                if old.extent == data.extent {
                    return Err(Failure::argument(format_args!("--old-data {path:?} is the data itself"))
                        .hint("give the image as it was before the change"));
                }
                Ok(Changes::OldData(old))
            }
            (None, None, Some(path)) => Input::open(path, Role::Data).map(Changes::Delta),
            // The group of options has one of the three.
            (None, None, None) => Err(Failure::argument("--ranges, --old-data or --delta is missing")),
        }
    }
}

impl Changes {
    /// The option, and the place whose bytes are not to be overwritten.
    pub(super) fn place(&self) -> Result<(&'static str, Extent, Range<u64>), Failure> {
        match self {
            Self::Ranges { path, file } => {
                let metadata = file
                    .metadata()
                    .map_err(|error| Failure::system(format_args!("--ranges {path:?}"), &error))?;
                Ok(("--ranges", Extent::of(&metadata), 0..u64::MAX))
            }
            Self::OldData(input) => Ok(("--old-data", input.extent, input.bytes())),
            Self::Delta(input) => Ok(("--delta", input.extent, input.bytes())),
        }
    }

    /// The changed ranges, in bytes of the data; `blocks` is how many the old and the new data have in common.
    pub(super) fn find(
        &self,
        data: &Input,
        block_size: BlockSize,
        blocks: u64,
        options: &Options<'_>,
    ) -> Result<Vec<Range<u64>>, Failure> {
        match self {
            Self::Ranges { path, file } => read_ranges(file, path, options),
            Self::OldData(old) => {
                let name = |_| format!("{:?} or {:?}", data.path, old.path);
                tree::changed_ranges(&old.file, &data.file, block_size, blocks, options)
                    .map_err(|error| engine::failure(&error, name))
            }
            Self::Delta(delta) => extents(delta),
        }
    }
}

/// Opens a file, or standard input, without waiting for a pipe's writer.
fn open_ranges(path: &Path) -> Result<File, Failure> {
    let failed = |error| Failure::system(format_args!("--ranges {path:?}"), &error);
    let file = if path == Path::new("-") {
        stdin().as_fd().try_clone_to_owned().map(File::from).map_err(failed)?
    } else {
        let flags = OFlag::O_NONBLOCK.bits() | OFlag::O_NOCTTY.bits();
        OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(failed)?
    };
    let what = if file.is_terminal() {
        "a terminal"
    } else if file.metadata().map_err(failed)?.is_dir() {
        "a directory"
    } else {
        return Ok(file);
    };
    Err(Failure::new(Code::General, format_args!("--ranges {path:?} is {what}"))
        .hint("give a file or a pipe with a line 'OFFSET LENGTH' for each range"))
}

fn read_ranges(file: &File, path: &Path, options: &Options<'_>) -> Result<Vec<Range<u64>>, Failure> {
    let mut lines = Lines::new(path);
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let failed = |error: &_| Failure::system(format_args!("--ranges {path:?}"), error);
        match read_some(file, &mut buffer, options.observer, failed)? {
            0 => return lines.finish(),
            count => lines.push(&buffer[..count])?,
        }
    }
}

/// Lines that come in pieces.
struct Lines<'a> {
    path: &'a Path,
    /// A line's beginning, whose end has not come yet.
    rest: Vec<u8>,
    number: u64,
    ranges: Vec<Range<u64>>,
}

impl<'a> Lines<'a> {
    fn new(path: &'a Path) -> Self {
        Self { path, rest: Vec::new(), number: 1, ranges: Vec::new() }
    }

    fn push(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
            if self.rest.len() + piece.len() > MOST_LINE_BYTES {
                let (path, number) = (self.path, self.number);
                return Err(Failure::argument(format_args!(
                    "--ranges {path:?}, line {number}: longer than {MOST_LINE_BYTES} bytes"
                ))
                .hint(LINE_HINT));
            }
            self.rest.extend(piece);
            if piece.ends_with(b"\n") {
                self.end_line()?;
            }
        }
        Ok(())
    }

    fn end_line(&mut self) -> Result<(), Failure> {
        let (path, number) = (self.path, self.number);
        let line = String::from_utf8_lossy(&self.rest);
        let text = line.split('#').next().unwrap_or_default().trim();
        if !text.is_empty() {
            let range = parse_range(text).map_err(|why| {
                let text: String = text.chars().take(80).collect();
                Failure::argument(format_args!("--ranges {path:?}, line {number}: {text:?}: {why}"))
                    .hint(LINE_HINT)
            })?;
            if self.ranges.len() == MOST_RANGES {
                return Err(Failure::argument(format_args!(
                    "--ranges {path:?}: more than {MOST_RANGES} ranges"
                ))
                .hint("join neighbouring ranges, or format the whole image"));
            }
            self.ranges.push(range);
        }
        self.rest.clear();
        self.number += 1;
        Ok(())
    }

    fn finish(mut self) -> Result<Vec<Range<u64>>, Failure> {
        self.end_line()?;
        Ok(self.ranges)
    }
}

const LINE_HINT: &str = "a line holds a range's offset and length in bytes, decimal, with a space between";

fn parse_range(text: &str) -> Result<Range<u64>, String> {
    let mut fields = text.split_whitespace();
    let (Some(offset), Some(length), None) = (fields.next(), fields.next(), fields.next()) else {
        return Err("not two numbers".to_owned());
    };
    let (offset, length) = (values::number(offset)?, values::number(length)?);
    offset.checked_add(length).map(|end| offset..end).ok_or_else(|| "it ends beyond 2^64 bytes".to_owned())
}

/// The parts of a file that are no holes.
fn extents(delta: &Input) -> Result<Vec<Range<u64>>, Failure> {
    let path = &delta.path;
    let failed = |errno: Errno| {
        Failure::argument(format_args!(
            "--delta {path:?}: its holes cannot be found: {}",
            plain(&errno.into())
        ))
        .hint("give a file on a file system that keeps holes, or --ranges")
    };
    let seek = |offset: i64, whence| match lseek(&delta.file, offset, whence) {
        Ok(position) => Ok(Some(position)),
        Err(Errno::ENXIO) => Ok(None),
        Err(errno) => Err(failed(errno)),
    };
    let mut ranges = Vec::new();
    let mut position = 0;
    while let Some(start) = seek(position, Whence::SeekData)? {
        let Some(end) = seek(start, Whence::SeekHole)? else { break };
        let bytes = |offset: i64| u64::try_from(offset).unwrap_or(0);
        ranges.push(bytes(start)..bytes(end));
        position = end;
    }
    Ok(ranges)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Comes in pieces of so many bytes, as from a pipe.
    fn read(text: &str, piece: usize) -> Result<Vec<Range<u64>>, Failure> {
        let mut lines = Lines::new(Path::new("r"));
        for piece in text.as_bytes().chunks(piece) {
            lines.push(piece)?;
        }
        lines.finish()
    }

    #[test]
    fn ranges_are_two_numbers_a_line() {
        let text = "# changed\n0 4096\n  8192\t1 # one byte\n\n5 6";
        for piece in [1, 7, 1000] {
            assert_eq!(read(text, piece).unwrap(), [0..4096, 8192..8193, 5..11], "{piece}");
        }
        for bad in ["1", "1 2 3", "-1 2", "a b", "1 18446744073709551615", "1,2"] {
            let failure = read(bad, 2).unwrap_err();
            assert!(failure.message.contains("line 1"), "{}", failure.message);
        }
    }

    /// As of /dev/zero: bounded by its length and not by the memory.
    #[test]
    fn a_line_without_an_end_is_refused() {
        let failure = read(&format!("0 1\n{}", "0".repeat(1 << 20)), 1000).unwrap_err();
        assert_eq!(failure.message, "--ranges \"r\", line 2: longer than 4096 bytes");
    }
}
