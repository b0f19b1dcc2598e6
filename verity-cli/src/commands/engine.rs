//! The engine's errors in the command line's words.

use std::io;

use verity_core::tree::{Device, Error};

use super::layout::bad_geometry;
use crate::failure::{Code, Failure, plain};
use crate::interrupt;

/// The failure that an engine's error is. `name` is what the user called a device.
pub(crate) fn failure(error: &Error, name: impl Fn(Device) -> String) -> Failure {
    match error {
        Error::Read { device, offset, length, source } => {
            let why = match source.kind() {
                io::ErrorKind::UnexpectedEof => "it ends before that".to_owned(),
                _ => plain(source),
            };
            let what = format!("{device} {}: reading {length} bytes at byte {offset} failed: {why}", name(*device));
            let failure = Failure::new(memory_or_general(source), what)
                .veritysetup(Code::General, "Verification of data area failed.");
            match source.kind() {
                io::ErrorKind::UnexpectedEof => {
                    failure.hint("it is truncated, or was made shorter while it was read")
                }
                _ => failure,
            }
        }
        Error::Write { device, offset, length, source } => {
            let what = format!(
                "{device} {}: writing {length} bytes at byte {offset} failed: {}",
                name(*device),
                plain(source)
            );
            let failure = Failure::new(memory_or_general(source), what)
                .veritysetup(Code::General, "Input/output error while creating hash area.");
            match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                    failure.hint("make room")
                }
                _ => failure,
            }
        }
        Error::RootHash { expected, found } => Failure::new(
            Code::General,
            format_args!("wrong root hash: {expected} was given, the tree's is {found}"),
        )
        .hint("give the root hash that format printed for this very image; if it is that one, the image was replaced")
        .veritysetup(Code::General, "Verification of root hash failed."),
        Error::PartialBlock { .. } => {
            Failure::new(Code::General, error).hint("pad the data to whole blocks")
        }
        Error::Geometry(error) => bad_geometry(error),
        Error::Cancelled => match interrupt::received() {
            Some(signal) => Failure::new(Code::General, format_args!("interrupted by signal {signal}")),
            None => Failure::new(Code::General, error),
        },
        _ => Failure::new(Code::General, error),
    }
}

fn memory_or_general(error: &io::Error) -> Code {
    match Code::of(error) {
        Code::Memory => Code::Memory,
        _ => Code::General,
    }
}
