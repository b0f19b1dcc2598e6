//! `verity format -`: data from a pipe, whose length is known only at its end.

use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::AsFd;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use verity_core::progress::{Observer, Phase};
use verity_core::tree::{Error, TreeWriter};

use super::engine;
use super::format::{Formatted, Request, device_name, unfinished};
use crate::failure::{Code, Failure};
use crate::files::{Extent, Plan, Role, leaf_store};
use crate::session::{Session, engine_options};

/// Bytes read at once; what a pipe can hold by default.
const READ_BYTES: usize = 64 * 1024;

/// How long a read that waits for its writer does not see a signal, in milliseconds.
pub(super) const WAIT_MS: u16 = 100;

pub(super) fn format(request: &Request, session: &Session) -> Result<Formatted, Failure> {
    let arguments = &request.arguments;
    if arguments.fec.device(session)?.is_some() {
        return Err(Failure::argument(
            "--fec-device: parity goes across the data, which a pipe gives only once",
        )
        .hint("make the tree first, and the parity with 'verity fec encode' when the data is in a file"));
    }
    let stdin = stdin("data")?;
    let extent =
        stdin.metadata().map(|metadata| Extent::of(&metadata)).map_err(|error| cannot_read(&error))?;
    let plan = Plan::inspect(&arguments.hash, Role::Hash)?;
    if plan.extent().is_some_and(|hash| hash.same_storage(extent)) {
        return Err(Failure::argument(format_args!(
            "hash device {:?} is the file that standard input is read from",
            arguments.hash
        ))
        .hint("give the file's name as the data, with --data-blocks and --hash-offset"));
    }
    let root_hash_file = request.root_hash_file(Some(extent), &plan, None)?;
    let store = leaf_store(&arguments.hash)?;

    let progress = session.progress();
    let options = engine_options(&progress, arguments.work.threads);
    let mut writer = TreeWriter::new(io::sink(), store, &request.params, options.threads);
    let length = copy(&stdin, &mut writer, request.length(), &progress)?;
    let geometry = request.geometry(request.blocks_in(length)?)?;
    let area = request.area.offset()..geometry.hash_area_end();
    let target = plan.open(&area, request.area.has_superblock(), false)?;
    let built = writer.finish(target.file(), request.area, &options).map_err(|error| {
        unfinished(engine::failure(&error, |device| device_name(arguments, device)), &target)
    })?;
    drop(progress);
    request.finish(built.geometry, built.root, target, root_hash_file)
}

impl Request {
    /// How many bytes are to be read, if that was said.
    fn length(&self) -> Option<u64> {
        let blocks = self.data_blocks()?;
        // It is the length of a geometry that was laid out, so it does not overflow.
        blocks.checked_mul(self.params.data_block_size.as_u64())
    }

    /// How many blocks the bytes that came are.
    fn blocks_in(&self, length: u64) -> Result<u64, Failure> {
        let block_size = self.params.data_block_size.as_u64();
        if let Some(wanted) = self.length()
            && length < wanted
        {
            return Err(Failure::argument(format_args!(
                "--data-blocks: standard input ended after {length} bytes of {wanted}"
            )));
        }
        if length == 0 || !length.is_multiple_of(block_size) {
            let why =
                format!("standard input: {length} bytes are no multiple of the block size {block_size}");
            return Err(Failure::new(Code::General, why)
                .hint("pad the data to whole blocks; a tree covers at least one"));
        }
        Ok(length / block_size)
    }
}

fn cannot_read(error: &io::Error) -> Failure {
    Failure::system("standard input cannot be read", error)
}

/// Standard input as a file of its own, without the buffer of Rust's. `what` it is to be, messages say.
pub(super) fn stdin(what: &str) -> Result<File, Failure> {
    let stdin = io::stdin();
    if stdin.is_terminal() {
        return Err(Failure::argument(format_args!("{what} '-': standard input is a terminal"))
            .hint(format_args!("pipe the {what} in")));
    }
    stdin.as_fd().try_clone_to_owned().map(File::from).map_err(|error| cannot_read(&error))
}

/// Copies until the end, or until `most` bytes.
fn copy(
    from: &File,
    to: &mut impl Write,
    most: Option<u64>,
    observer: &dyn Observer,
) -> Result<u64, Failure> {
    observer.begin(Phase::Build, most);
    let mut buffer = vec![0; READ_BYTES];
    let mut length: u64 = 0;
    loop {
        let rest = most.map_or(u64::MAX, |most| most - length);
        let room = usize::try_from(rest).unwrap_or(usize::MAX).min(READ_BYTES);
        if room == 0 {
            return Ok(length);
        }
        match read_some(from, &mut buffer[..room], observer, cannot_read)? {
            0 => return Ok(length),
            count => {
                to.write_all(&buffer[..count]).map_err(|error| hashing_failed(&error))?;
                length += count as u64;
                observer.advance(count as u64);
            }
        }
    }
}

/// Reads what there is; 0 is the end. A read that waits for its writer sees that it is cancelled.
pub(super) fn read_some(
    mut from: &File,
    buffer: &mut [u8],
    observer: &dyn Observer,
    failed: impl Fn(&io::Error) -> Failure,
) -> Result<usize, Failure> {
    loop {
        if observer.cancelled() {
            return Err(engine::failure(&Error::Cancelled, |_| String::new()));
        }
        let mut wait = [PollFd::new(from.as_fd(), PollFlags::POLLIN)];
        match poll(&mut wait, PollTimeout::from(WAIT_MS)) {
            Ok(0) | Err(nix::Error::EINTR) => continue,
            Ok(_) => {}
            Err(errno) => return Err(failed(&errno.into())),
        }
        match from.read(buffer) {
            Err(error) if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => {}
            read => return read.map_err(|error| failed(&error)),
        }
    }
}

/// A tree writer wraps the engine's error, which says more.
fn hashing_failed(error: &io::Error) -> Failure {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(error) => engine::failure(error, |_| "beside the hash device".to_owned()),
        None => Failure::system("the data cannot be hashed", error),
    }
}
