//! One block of 512 bytes: the fixed fields that all dialects share, and where they differ.
//!
//! Source: POSIX.1-2017 `pax`, "ustar Interchange Format"; GNU tar's manual, "Basic Tar Format".

use std::ops::{Range, RangeInclusive};

use super::error::{Fault, clip};
use super::sparse::add_entries;

/// A tar is made of blocks of so many bytes.
pub(super) const BLOCK: usize = 512;

/// Who wrote a header, as far as fields differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flavour {
    /// Before 1988.
    V7,
    /// POSIX.
    Ustar,
    /// GNU tar's own.
    Gnu,
    /// Jörg Schilling's: ustar with a shorter prefix.
    Star,
}

/// A number in a header.
#[derive(Clone, Debug)]
pub(super) struct Field {
    name: &'static str,
    at: Range<usize>,
}

impl Field {
    pub(super) fn range(&self) -> Range<usize> {
        self.at.clone()
    }
}

const fn field(name: &'static str, start: usize, length: usize) -> Field {
    Field { name, at: start..start + length }
}

pub(super) const MODE: Field = field("mode", 100, 8);
pub(super) const UID: Field = field("uid", 108, 8);
pub(super) const GID: Field = field("gid", 116, 8);
pub(super) const SIZE: Field = field("size", 124, 12);
pub(super) const MTIME: Field = field("mtime", 136, 12);
pub(super) const MAJOR: Field = field("devmajor", 329, 8);
pub(super) const MINOR: Field = field("devminor", 337, 8);
/// The times of access and change, in GNU's headers.
const ATIME: Field = field("atime", 345, 12);
const CTIME: Field = field("ctime", 357, 12);
/// The size of a sparse file, in GNU's headers.
pub(super) const REAL_SIZE: Field = field("realsize", 483, 12);

const CHECKSUM: Field = field("checksum", 148, 8);
const NAME: Range<usize> = 0..100;
const LINK_NAME: Range<usize> = 157..257;
const MAGIC: Range<usize> = 257..265;
const PREFIX: Range<usize> = 345..500;
const STAR_PREFIX: Range<usize> = 345..476;
const STAR_TRAILER: Range<usize> = 508..512;
/// Four entries; whether there are more says the byte behind them.
const SPARSE: Range<usize> = 386..482;
const TYPE: usize = 156;

/// A header whose checksum is right.
pub(super) struct Header<'b> {
    block: &'b [u8; BLOCK],
    pub(super) flavour: Flavour,
}

impl<'b> Header<'b> {
    pub(super) fn new(block: &'b [u8; BLOCK]) -> Result<Self, Fault> {
        let stated = number(&block[CHECKSUM.at]);
        let sums = |sum: fn(u8) -> i64| -> i64 {
            let own = CHECKSUM.at;
            // Its own field counts as blanks.
            block.iter().enumerate().map(|(at, &byte)| sum(if own.contains(&at) { b' ' } else { byte })).sum()
        };
        let found = sums(i64::from);
        // Some old programs added up signed bytes.
        if stated != Some(found) && stated != Some(sums(|byte| i64::from(byte.cast_signed()))) {
            return Err(Fault::Checksum { stated: stated.unwrap_or(-1), found });
        }
        let flavour = match &block[MAGIC] {
            b"ustar  \0" => Flavour::Gnu,
            magic if magic.starts_with(b"ustar\0") && block[STAR_TRAILER] == *b"tar\0" => Flavour::Star,
            magic if magic.starts_with(b"ustar\0") => Flavour::Ustar,
            _ => Flavour::V7,
        };
        let header = Self { block, flavour };
        if flavour == Flavour::Gnu {
            // Old writers put a prefix here, and Go's reader takes it for one if it is no time.
            header.number(&ATIME)?;
            header.number(&CTIME)?;
        }
        Ok(header)
    }

    pub(super) const fn kind(&self) -> u8 {
        self.block[TYPE]
    }

    pub(super) fn name(&self) -> Vec<u8> {
        let name = text(&self.block[NAME]);
        let prefix = match self.flavour {
            Flavour::Ustar => text(&self.block[PREFIX]),
            Flavour::Star => text(&self.block[STAR_PREFIX]),
            Flavour::V7 | Flavour::Gnu => &[],
        };
        if prefix.is_empty() { name.to_vec() } else { [prefix, b"/", name].concat() }
    }

    pub(super) fn link_name(&self) -> Vec<u8> {
        text(&self.block[LINK_NAME]).to_vec()
    }

    pub(super) fn number(&self, field: &Field) -> Result<i64, Fault> {
        let value = &self.block[field.at.clone()];
        number(value).ok_or_else(|| Fault::Number { field: field.name, value: clip(value).to_vec() })
    }

    /// Adds the numbers of a sparse file's pieces that fit in here. True if a block with more of them follows.
    pub(super) fn sparse_entries(&self, numbers: &mut Vec<u64>) -> Result<bool, Fault> {
        add_entries(&self.block[SPARSE], numbers)?;
        Ok(self.block[SPARSE.end] != 0)
    }

    /// A number that has to be one of `range`.
    pub(super) fn number_in(&self, field: &Field, range: &RangeInclusive<i64>) -> Result<i64, Fault> {
        let value = self.number(field)?;
        if range.contains(&value) {
            Ok(value)
        } else {
            Err(Fault::Range { field: field.name, value, lowest: *range.start(), highest: *range.end() })
        }
    }
}

/// Bytes up to the first NUL.
pub(super) fn text(bytes: &[u8]) -> &[u8] {
    bytes.split(|&byte| byte == 0).next().unwrap_or_default()
}

/// A number: octal digits between blanks, or binary behind a set bit. Nothing at all is 0.
pub(super) fn number(bytes: &[u8]) -> Option<i64> {
    match bytes.first() {
        Some(first) if first & 0x80 != 0 => binary(bytes),
        _ => octal(bytes),
    }
}

fn octal(bytes: &[u8]) -> Option<i64> {
    let blank = |byte: &u8| matches!(byte, 0 | b' ');
    let start = bytes.iter().position(|byte| !blank(byte)).unwrap_or(bytes.len());
    let rest = &bytes[start..];
    let length = rest.iter().position(blank).unwrap_or(rest.len());
    if !rest[length..].iter().all(blank) {
        return None;
    }
    rest[..length].iter().try_fold(0_i64, |value, &digit| match digit {
        b'0'..=b'7' => value.checked_mul(8)?.checked_add(i64::from(digit - b'0')),
        _ => None,
    })
}

/// Big-endian, in two's complement of as many bits as there are but the first.
fn binary(bytes: &[u8]) -> Option<i64> {
    let (&first, rest) = bytes.split_first()?;
    // The first bit says that it is binary, the next one is the sign.
    let first =
        if first & 0x40 == 0 { i64::from(first & 0x3f) } else { i64::from(first | 0x80).checked_sub(256)? };
    rest.iter().try_fold(first, |value, &byte| value.checked_mul(256)?.checked_add(i64::from(byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_octal_or_binary() {
        for (bytes, value) in [
            (&b"0000644\0"[..], Some(0o644)),
            (b"   644 \0", Some(0o644)),
            (b"\0\0\0\0\0\0\0\0", Some(0)),
            (b"        ", Some(0)),
            (b"777777777777", Some(0o777_777_777_777)),
            (b"12 34\0\0\0", None),
            (b"0000648\0", None),
            (b"-000644\0", None),
            (b"0x1a\0\0\0\0", None),
            (&[0x80, 0, 0, 0, 0, 1, 0, 0], Some(65_536)),
            (&[0xff; 12], Some(-1)),
            (&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe], Some(-2)),
            (&[0x80, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], Some(i64::MAX)),
            (&[0x80, 0, 0, 0, 0x80, 0, 0, 0, 0, 0, 0, 0], None),
            (&[0xff, 0xff, 0xff, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0], Some(i64::MIN)),
            (&[0x80, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], None),
        ] {
            assert_eq!(number(bytes), value, "{bytes:x?}");
        }
    }
}
