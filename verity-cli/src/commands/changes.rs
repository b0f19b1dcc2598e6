//! Where data changed: told in a file, found by comparing, or read off a sparse delta.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::ops::Range;
use std::path::{Path, PathBuf};

use clap::Args;
use nix::errno::Errno;
use nix::unistd::{Whence, lseek};
use verity_core::block::BlockSize;
use verity_core::tree::{self, Options};

use super::engine;
use crate::cli::values;
use crate::failure::{Failure, plain};
use crate::files::{Input, Role};

/// How many ranges a file may hold: 16 bytes of memory each.
const MOST_RANGES: usize = 16 << 20;

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

impl ChangeArguments {
    /// The changed ranges, in bytes of the data; `blocks` is how many the old and the new data have in common.
    pub(super) fn find(
        &self,
        data: &Input,
        block_size: BlockSize,
        blocks: u64,
        options: &Options<'_>,
    ) -> Result<Vec<Range<u64>>, Failure> {
        if let Some(path) = &self.old_data {
            let old = Input::open(path, Role::Data)?;
            if old.extent == data.extent {
                return Err(Failure::argument(format_args!("--old-data {path:?} is the data itself"))
                    .hint("give the image as it was before the change"));
            }
            let name = |_| format!("{:?} or {:?}", data.path, path);
            return tree::changed_ranges(&old.file, &data.file, block_size, blocks, options)
                .map_err(|error| engine::failure(&error, name));
        }
        match (&self.ranges, &self.delta) {
            (Some(path), _) if path == Path::new("-") => read_ranges(std::io::stdin().lock(), path),
            (Some(path), _) => {
                let file = File::open(path)
                    .map_err(|error| Failure::system(format_args!("--ranges {path:?}"), &error))?;
                read_ranges(BufReader::new(file), path)
            }
            (None, Some(path)) => extents(path),
            // The group of options has one of the three.
            (None, None) => Ok(Vec::new()),
        }
    }
}

fn read_ranges(lines: impl BufRead, path: &Path) -> Result<Vec<Range<u64>>, Failure> {
    let mut ranges = Vec::new();
    for (number, line) in (1..).zip(lines.split(b'\n')) {
        let line = line.map_err(|error| Failure::system(format_args!("--ranges {path:?}"), &error))?;
        let line = String::from_utf8_lossy(&line);
        let text = line.split('#').next().unwrap_or_default().trim();
        if text.is_empty() {
            continue;
        }
        let range = parse_range(text).map_err(|why| {
            let text: String = text.chars().take(80).collect();
            Failure::argument(format_args!("--ranges {path:?}, line {number}: {text:?}: {why}"))
                .hint("a line holds a range's offset and length in bytes, decimal, with a space between")
        })?;
        if ranges.len() == MOST_RANGES {
            return Err(Failure::argument(format_args!("--ranges {path:?}: more than {MOST_RANGES} ranges"))
                .hint("join neighbouring ranges, or format the whole image"));
        }
        ranges.push(range);
    }
    Ok(ranges)
}

fn parse_range(text: &str) -> Result<Range<u64>, String> {
    let mut fields = text.split_whitespace();
    let (Some(offset), Some(length), None) = (fields.next(), fields.next(), fields.next()) else {
        return Err("not two numbers".to_owned());
    };
    let (offset, length) = (values::number(offset)?, values::number(length)?);
    offset.checked_add(length).map(|end| offset..end).ok_or_else(|| "it ends beyond 2^64 bytes".to_owned())
}

/// The parts of a file that are no holes.
fn extents(path: &Path) -> Result<Vec<Range<u64>>, Failure> {
    let delta = Input::open(path, Role::Data)?;
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

    #[test]
    fn ranges_are_two_numbers_a_line() {
        let text = "# changed\n0 4096\n  8192\t1 # one byte\n\n";
        assert_eq!(read_ranges(text.as_bytes(), Path::new("r")).unwrap(), [0..4096, 8192..8193]);
        for bad in ["1", "1 2 3", "-1 2", "a b", "1 18446744073709551615", "1,2"] {
            let failure = read_ranges(bad.as_bytes(), Path::new("r")).unwrap_err();
            assert!(failure.message.contains("line 1"), "{}", failure.message);
        }
    }
}
