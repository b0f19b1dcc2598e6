//! The names in a directory block.

use super::format::{DirectoryEntry, NAME_MAX, file_type};
use super::{Error, FileKind};

/// A name in a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name<'a> {
    /// The name: 1 to 255 bytes, without a slash or a NUL.
    pub name: &'a [u8],
    /// The number of what it names.
    pub nid: u64,
    /// What it names, as far as the directory says.
    pub kind: FileKind,
}

/// The names in a directory block, `.` and `..` among them: entries first, each with the position of its name, then the
/// names. The last block of a directory may be shorter than a block.
///
/// # Errors
/// [`Error::Invalid`], instead of the entries or in the place of one, after which there are no more.
pub fn names(block: &[u8]) -> Result<impl Iterator<Item = Result<Name<'_>, Error>>, Error> {
    let first = entry(block, 0).map(|entry| usize::from(entry.name_offset));
    let end = first.filter(|&offset| {
        offset >= DirectoryEntry::SIZE && offset.is_multiple_of(DirectoryEntry::SIZE) && offset < block.len()
    });
    let Some(end) = end else {
        return Err(invalid(first.unwrap_or_default()));
    };
    let count = end / DirectoryEntry::SIZE;
    let mut failed = false;
    Ok((0..count).map_while(move |index| {
        let named = (!failed).then(|| name(block, index, count));
        failed |= matches!(named, Some(Err(_)));
        named
    }))
}

fn name(block: &[u8], index: usize, count: usize) -> Result<Name<'_>, Error> {
    let found = entry(block, index).ok_or_else(|| invalid(0))?;
    let start = usize::from(found.name_offset);
    let end = match entry(block, index + 1) {
        Some(next) if index + 1 < count => usize::from(next.name_offset),
        _ => block.len(),
    };
    let name = block.get(start..end).ok_or_else(|| invalid(start))?;
    // Behind the last name there may be zeros.
    let length = if index + 1 == count { name.iter().position(|&byte| byte == 0) } else { None };
    let name = &name[..length.unwrap_or(name.len())];
    if name.is_empty() || name.len() > NAME_MAX || name.iter().any(|byte| matches!(byte, 0 | b'/')) {
        return Err(invalid(start));
    }
    let kind = match found.file_type {
        file_type::REGULAR => FileKind::File,
        file_type::DIRECTORY => FileKind::Directory,
        file_type::SYMLINK => FileKind::Symlink,
        _ => FileKind::Other,
    };
    Ok(Name { name, nid: found.nid, kind })
}

fn entry(block: &[u8], index: usize) -> Option<DirectoryEntry> {
    let start = index * DirectoryEntry::SIZE;
    block.get(start..)?.first_chunk().map(DirectoryEntry::decode)
}

fn invalid(offset: usize) -> Error {
    Error::Invalid { field: "the position of a name in a directory block", value: offset as u64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(entries: &[(u64, u16, u8)], names: &[u8]) -> Vec<u8> {
        let mut block = Vec::new();
        for &(nid, offset, kind) in entries {
            block.extend(nid.to_le_bytes());
            block.extend(offset.to_le_bytes());
            block.extend([kind, 0]);
        }
        block.extend(names);
        block
    }

    fn all(block: &[u8]) -> Vec<Option<(u64, Vec<u8>)>> {
        match names(block) {
            Ok(names) => names.map(|name| name.ok().map(|name| (name.nid, name.name.to_vec()))).collect(),
            Err(_) => vec![None],
        }
    }

    #[test]
    fn the_last_name_ends_at_a_zero_or_with_the_block() {
        let entries = [(1, 24, 2), (7, 25, 1)];
        for tail in [&b".abc"[..], b".abc\0", b".abc\0\0\0x"] {
            let found = all(&block(&entries, tail));
            assert_eq!(found, [Some((1, b".".to_vec())), Some((7, b"abc".to_vec()))]);
        }
    }

    #[test]
    fn no_position_is_believed() {
        assert_eq!(all(&[]), [None]);
        assert_eq!(all(&[0; 11]), [None]);
        for first in [0, 1, 13, 24, 36, 60_000] {
            assert_eq!(all(&block(&[(1, first, 1)], b"name")), [None], "{first}");
        }
        // The second name begins before the first, or behind the block: the first has no end then.
        for second in [0, 23, 29, u16::MAX] {
            assert_eq!(all(&block(&[(1, 24, 1), (2, second, 1)], b"name")), [None], "{second}");
        }
        for name in [&b"\0abc"[..], b"a/b", &[b'a'; 256]] {
            assert_eq!(all(&block(&[(1, 12, 1)], name)), [None], "{name:?}");
        }
        assert_eq!(all(&block(&[(1, 12, 1)], &[b'a'; 255])).len(), 1);
    }
}
