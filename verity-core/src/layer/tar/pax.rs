//! PAX records: `LENGTH KEY=VALUE\n`, one behind the other.
//!
//! Source: POSIX.1-2017 `pax`, "pax Extended Header"; GNU tar's manual, "Storing Sparse Files", for `GNU.sparse.*`; star's for
//! `SCHILY.xattr.*`.
//!
//! Records that say nothing about what an entry is (`atime`, `uname`, `comment`, what other programs keep for themselves) are passed over, as
//! everybody does.

use std::collections::{BTreeMap, BTreeSet};

use super::error::{Fault, clip};

const XATTR: &[u8] = b"SCHILY.xattr.";
const SPARSE: &[u8] = b"GNU.sparse.";

/// Keys of which an entry has one value, even if that is none.
const SINGLE: [&[u8]; 13] = [
    b"path",
    b"linkpath",
    b"size",
    b"uid",
    b"gid",
    b"mtime",
    b"GNU.sparse.major",
    b"GNU.sparse.minor",
    b"GNU.sparse.name",
    b"GNU.sparse.size",
    b"GNU.sparse.realsize",
    b"GNU.sparse.numblocks",
    b"GNU.sparse.map",
];

/// What the records of one entry say. What they do not say, the header does.
#[derive(Debug, Default)]
pub(super) struct Records {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link_path: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
    /// Seconds and nanoseconds.
    pub(super) mtime: Option<(i64, u32)>,
    /// By their full names.
    pub(super) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    pub(super) sparse: Option<SparseRecords>,
}

/// GNU's records for sparse files.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct SparseRecords {
    pub(super) major: Option<u64>,
    pub(super) minor: Option<u64>,
    pub(super) name: Option<Vec<u8>>,
    /// The size of the file with its holes, of all formats.
    pub(super) size: Option<u64>,
    /// How many pieces there are, of formats 0.0 and 0.1.
    pub(super) count: Option<u64>,
    /// Offset, length, offset, length...: of formats 0.0 and 0.1.
    pub(super) map: Vec<u64>,
}

impl Records {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Fault> {
        let mut records = Self::default();
        let mut seen = BTreeSet::new();
        for record in each(bytes) {
            let (key, value) = record?;
            if SINGLE.contains(&key) && !seen.insert(key) {
                return Err(Fault::UnknownRecord {
                    key: clip(key).to_vec(),
                    why: "comes twice in one header: readers differ in which one counts",
                });
            }
            records.take(key, value)?;
        }
        Ok(records)
    }

    fn take(&mut self, key: &[u8], value: &[u8]) -> Result<(), Fault> {
        if let Some(name) = key.strip_prefix(XATTR) {
            if name.is_empty() {
                return Err(Fault::Record("an extended attribute without a name"));
            }
            self.xattrs.insert(name.to_vec(), value.to_vec());
            return Ok(());
        }
        if let Some(name) = key.strip_prefix(SPARSE) {
            return self.sparse.get_or_insert_default().take(name, value);
        }
        if key == b"SCHILY.realsize" || key.starts_with(b"GNU.volume.") {
            return Err(Fault::UnknownRecord {
                key: clip(key).to_vec(),
                why: "belongs to a way of storing files that layers do not have",
            });
        }
        if value.is_empty() {
            // As if it were not there.
            return Ok(());
        }
        match key {
            b"path" => self.path = Some(value.to_vec()),
            b"linkpath" => self.link_path = Some(value.to_vec()),
            b"size" => self.size = Some(decimal("size", value)?),
            b"uid" => self.uid = Some(id("uid", value)?),
            b"gid" => self.gid = Some(id("gid", value)?),
            b"mtime" => {
                self.mtime = Some(time(value).ok_or_else(|| bad_value("mtime", value))?);
            }
            _ => {}
        }
        Ok(())
    }
}

impl SparseRecords {
    /// It has two names, and readers differ in which one counts.
    fn set_size(&mut self, size: u64) -> Result<(), Fault> {
        match self.size.replace(size) {
            Some(other) if other != size => Err(Fault::Sparse("the file has two sizes")),
            _ => Ok(()),
        }
    }

    fn take(&mut self, name: &[u8], value: &[u8]) -> Result<(), Fault> {
        match name {
            b"major" => self.major = Some(version("GNU.sparse.major", value)?),
            b"minor" => self.minor = Some(version("GNU.sparse.minor", value)?),
            b"name" => self.name = Some(value.to_vec()),
            b"size" => self.set_size(decimal("GNU.sparse.size", value)?)?,
            b"realsize" => self.set_size(decimal("GNU.sparse.realsize", value)?)?,
            b"numblocks" => self.count = Some(decimal("GNU.sparse.numblocks", value)?),
            b"offset" if self.map.len().is_multiple_of(2) => {
                self.map.push(decimal("GNU.sparse.offset", value)?);
            }
            b"numbytes" if !self.map.len().is_multiple_of(2) => {
                self.map.push(decimal("GNU.sparse.numbytes", value)?);
            }
            b"offset" | b"numbytes" => return Err(Fault::Sparse("offsets and lengths do not take turns")),
            b"map" => {
                let numbers = value.split(|&byte| byte == b',').filter(|_| !value.is_empty());
                self.map =
                    numbers.map(|number| decimal("GNU.sparse.map", number)).collect::<Result<_, _>>()?;
            }
            _ => {
                return Err(Fault::UnknownRecord {
                    key: clip(&[SPARSE, name].concat()).to_vec(),
                    why: "says something about a sparse file that is not known here",
                });
            }
        }
        Ok(())
    }
}

/// A part of a version: one digit, as some readers compare it as text.
fn version(key: &'static str, value: &[u8]) -> Result<u64, Fault> {
    if value.len() == 1 { decimal(key, value) } else { Err(bad_value(key, value)) }
}

/// Checks records for all entries that follow. Runtimes pass over them and POSIX applies them: those that would change an entry are refused.
pub(super) fn check_global(bytes: &[u8]) -> Result<(), Fault> {
    for record in each(bytes) {
        let (key, _) = record?;
        let counts = matches!(key, b"path" | b"linkpath" | b"size" | b"uid" | b"gid" | b"mtime")
            || key.starts_with(XATTR)
            || key.starts_with(SPARSE);
        if counts {
            return Err(Fault::UnknownRecord {
                key: clip(key).to_vec(),
                why: "is to hold for all entries that follow, which some readers do and others do not",
            });
        }
    }
    Ok(())
}

/// The records' keys and values; behind an error there are no more.
fn each(bytes: &[u8]) -> impl Iterator<Item = Result<(&[u8], &[u8]), Fault>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let record = Record::first(rest);
        rest = record.as_ref().map_or(&[], |record| record.behind);
        Some(record.map(|record| (record.key, record.value)))
    })
}

/// A record, and what comes after it.
struct Record<'b> {
    key: &'b [u8],
    value: &'b [u8],
    behind: &'b [u8],
}

impl<'b> Record<'b> {
    fn first(bytes: &'b [u8]) -> Result<Self, Fault> {
        let bad = |why| Err(Fault::Record(why));
        let Some(digits) = bytes.iter().position(|&byte| byte == b' ') else {
            return bad("a length without a blank behind it");
        };
        let Some(length) = parse(&bytes[..digits]) else {
            return bad("a length that is no number");
        };
        let record = usize::try_from(length).ok().and_then(|length| bytes.get(digits + 1..length));
        let Some((b'\n', record)) = record.and_then(<[u8]>::split_last) else {
            return bad("a length that does not lead to a line's end");
        };
        let Some(equals) = record.iter().position(|&byte| byte == b'=') else {
            return bad("a record without '='");
        };
        let (key, value) = (&record[..equals], &record[equals + 1..]);
        if key.is_empty() || key.contains(&0) {
            return bad("a key that is empty or has a NUL in it");
        }
        Ok(Self { key, value, behind: &bytes[digits + record.len() + 2..] })
    }
}

fn bad_value(key: &'static str, value: &[u8]) -> Fault {
    Fault::RecordValue { key, value: clip(value).to_vec() }
}

pub(super) fn decimal(key: &'static str, value: &[u8]) -> Result<u64, Fault> {
    // What is no offset of a file is no size either.
    parse(value).filter(|&value| i64::try_from(value).is_ok()).ok_or_else(|| bad_value(key, value))
}

fn id(key: &'static str, value: &[u8]) -> Result<u32, Fault> {
    parse(value).and_then(|value| u32::try_from(value).ok()).ok_or_else(|| bad_value(key, value))
}

/// Decimal digits, at least one, and nothing else.
fn parse(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |value, &digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        value.checked_mul(10)?.checked_add(digit)
    })
}

/// Seconds since 1970, which may be negative and have a fraction; what is finer than a nanosecond is cut off downwards.
fn time(value: &[u8]) -> Option<(i64, u32)> {
    let (negative, value) = match value.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, value),
    };
    let mut parts = value.splitn(2, |&byte| byte == b'.');
    let seconds = i64::try_from(parse(parts.next()?)?).ok()?;
    let fraction = parts.next().unwrap_or_default();
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digit = |at: usize| fraction.get(at).map_or(0, |digit| u32::from(digit - b'0'));
    let mut nanoseconds = (0..9).fold(0, |value, at| value * 10 + digit(at));
    if !negative {
        return Some((seconds, nanoseconds));
    }
    // Downwards: a rest below a nanosecond is one more.
    if fraction.iter().skip(9).any(|&digit| digit != b'0') {
        nanoseconds += 1;
    }
    match nanoseconds {
        0 => Some((-seconds, 0)),
        1_000_000_000 => Some((-seconds - 1, 0)),
        _ => Some((-seconds - 1, 1_000_000_000 - nanoseconds)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(key: &str, value: &[u8]) -> Vec<u8> {
        let body = key.len() + value.len() + 3;
        let length = (1..).find(|digits| (body + digits).to_string().len() == *digits).unwrap() + body;
        [format!("{length} {key}=").as_bytes(), value, b"\n"].concat()
    }

    #[test]
    fn records_hold_any_bytes() {
        let bytes = [
            record("path", b"a\xff b=c\nd"),
            record("SCHILY.xattr.security.capability", b"\0\n=\x01"),
            record("SCHILY.xattr.user.empty", b""),
            record("comment", &[b'x'; 93]),
            record("uid", b"4294967295"),
            record("gid", b""),
        ]
        .concat();
        let records = Records::parse(&bytes).unwrap();
        assert_eq!(records.path.as_deref(), Some(&b"a\xff b=c\nd"[..]));
        assert_eq!((records.uid, records.gid), (Some(u32::MAX), None));
        assert_eq!(records.xattrs[&b"security.capability"[..]], b"\0\n=\x01");
        assert_eq!(records.xattrs[&b"user.empty"[..]], b"");
    }

    #[test]
    fn lies_are_refused() {
        for bytes in [
            &b"5 a=b"[..],
            b"99 path=x\n",
            b"0 path=x\n",
            b"3 path=x\n",
            b"99999999999999999999999 path=x\n",
            b"-9 path=x\n",
            b" path=x\n",
            b"path=x\n",
            b"7 path\n",
            b"5 =x\n",
            b"8 pa\0h=\n",
            b"9 path=x\n\0\0",
            b"2 ",
        ] {
            assert!(Records::parse(bytes).is_err(), "{:?}", String::from_utf8_lossy(bytes));
        }
        for (key, value) in [
            ("uid", "4294967296"),
            ("uid", "-1"),
            ("size", "9223372036854775808"),
            ("size", "1 "),
            ("mtime", "1.2.3"),
            ("mtime", "x"),
            ("GNU.sparse.numbytes", "1"),
            ("GNU.sparse.map", "1,,2"),
            ("GNU.sparse.other", "1"),
            ("SCHILY.realsize", "5"),
            ("SCHILY.xattr.", "5"),
        ] {
            assert!(Records::parse(&record(key, value.as_bytes())).is_err(), "{key}={value}");
        }
    }

    #[test]
    fn global_records_may_only_tell() {
        assert!(check_global(&record("comment", b"0123")).is_ok());
        for key in ["path", "uid", "SCHILY.xattr.user.a", "GNU.sparse.name"] {
            assert!(check_global(&record(key, b"1")).is_err(), "{key}");
        }
    }

    #[test]
    fn times_have_nanoseconds() {
        for (text, time_is) in [
            ("0", Some((0, 0))),
            ("1350244992.023960108", Some((1_350_244_992, 23_960_108))),
            ("1.5", Some((1, 500_000_000))),
            ("1.1234567899", Some((1, 123_456_789))),
            ("-1.5", Some((-2, 500_000_000))),
            ("-1", Some((-1, 0))),
            ("-0.0000000001", Some((-1, 999_999_999))),
            ("-0.9999999999", Some((-1, 0))),
            ("1.", Some((1, 0))),
            (".5", None),
            ("", None),
            ("--1", None),
        ] {
            assert_eq!(time(text.as_bytes()), time_is, "{text}");
        }
    }
}
