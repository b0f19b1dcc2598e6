//! Where the files of a tar lie: an archive is read at these places, and never unpacked.

use std::collections::BTreeMap;
use std::io::{self, Read, Seek};

use crate::layer::tar::{self, EntryKind};

/// The most entries that are kept: a blob each.
const ENTRIES_MAX: usize = 1 << 20;
/// The most bytes of names and links' targets that are kept: 64 MiB.
const NAMES_MAX: usize = 64 << 20;
/// The most links that are followed from one to the next.
const LINKS_MAX: usize = 16;

/// Where the files of a tar lie.
#[derive(Debug, Default)]
pub(super) struct Positions {
    entries: BTreeMap<Vec<u8>, Place>,
}

/// The bytes of a file in a tar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Extent {
    /// Where the first one is.
    pub(super) offset: u64,
    /// How many they are.
    pub(super) size: u64,
}

#[derive(Debug)]
enum Place {
    File(Extent),
    /// From the link's own directory on.
    Symlink(Vec<u8>),
    /// From the root on.
    HardLink(Vec<u8>),
}

/// Why there are no positions.
#[derive(Debug)]
pub(super) enum Failure {
    Tar(tar::Error),
    Read(io::Error),
    Problem(String),
}

impl From<tar::Error> for Failure {
    fn from(error: tar::Error) -> Self {
        Self::Tar(error)
    }
}

fn problem<T>(problem: impl Into<String>) -> Result<T, Failure> {
    Err(Failure::Problem(problem.into()))
}

impl Positions {
    /// Reads the headers of an archive of `size` bytes.
    pub(super) fn of(source: impl Read + Seek, size: u64) -> Result<Self, Failure> {
        let mut reader = tar::Reader::new(source);
        let mut positions = Self::default();
        let mut names = 0_usize;
        while let Some(entry) = reader.next_entry()? {
            let (offset, stored) = reader.content_place();
            let text = || String::from_utf8_lossy(&entry.path).escape_debug().to_string();
            let place = match entry.kind {
                EntryKind::File { size: whole, data } => {
                    if whole != stored || data.len() > 1 {
                        return problem(format!("{} is stored as a sparse file", text()));
                    }
                    if offset.checked_add(stored).is_none_or(|end| end > size) {
                        return problem(format!("it ends within {}: it was cut off", text()));
                    }
                    Some(Place::File(Extent { offset, size: stored }))
                }
                EntryKind::Symlink(target) => Some(Place::Symlink(target)),
                EntryKind::HardLink(target) => Some(Place::HardLink(target)),
                // Directories say nothing, and nothing else has a place in an archive of an image.
                EntryKind::Directory => None,
                _ => return problem(format!("{} is a device or a pipe", text())),
            };
            reader.seek_over().map_err(Failure::Read)?;
            let Some(place) = place else { continue };
            let target = match &place {
                Place::File(_) => 0,
                Place::Symlink(target) | Place::HardLink(target) => target.len(),
            };
            names = names.saturating_add(entry.path.len()).saturating_add(target);
            if positions.entries.len() == ENTRIES_MAX || names > NAMES_MAX {
                return problem(format!(
                    "it has more than {ENTRIES_MAX} files, or more than {NAMES_MAX} bytes of names"
                ));
            }
            let duplicate = positions.entries.contains_key(&entry.path).then(text);
            if let Some(name) = duplicate {
                return problem(format!("{name} comes twice, and readers differ in which one counts"));
            }
            positions.entries.insert(entry.path, place);
        }
        if reader.is_marked() { Ok(positions) } else { problem("it has no end marker: it was cut off") }
    }

    /// The file of that name, with links followed within the archive; `None` if there is none.
    pub(super) fn find(&self, name: &str) -> Result<Option<Extent>, String> {
        let shown = name.escape_debug();
        let Some(mut path) = join(b"", name.as_bytes()) else {
            return Err(format!("the name {shown} leads out of the archive"));
        };
        for _ in 0..=LINKS_MAX {
            let next = match self.entries.get(&path) {
                None => return Ok(None),
                Some(Place::File(extent)) => return Ok(Some(*extent)),
                Some(Place::HardLink(target)) => join(b"", target),
                Some(Place::Symlink(target)) if target.starts_with(b"/") => None,
                Some(Place::Symlink(target)) => {
                    let end = path.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
                    join(&path[..end], target)
                }
            };
            path = next.ok_or_else(|| format!("{shown} is a link that leads out of the archive"))?;
        }
        Err(format!("{shown} is a link to a link to a link, more than {LINKS_MAX} of them"))
    }
}

/// A path from a directory on; `None` if that leads out of the root.
fn join(dir: &[u8], path: &[u8]) -> Option<Vec<u8>> {
    let mut components: Vec<_> =
        dir.split(|&byte| byte == b'/').filter(|component| !component.is_empty()).collect();
    for component in path.split(|&byte| byte == b'/') {
        match component {
            b"" | b"." => {}
            b".." => {
                components.pop()?;
            }
            component => components.push(component),
        }
    }
    Some(components.join(&b'/'))
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;
    use crate::erofs::write::Attributes;
    use crate::layer::tar::Writer;

    type Entry<'a> = (&'a str, EntryKind, &'a [u8]);

    fn file<'a>(path: &'a str, bytes: &'a [u8]) -> Entry<'a> {
        let size = bytes.len() as u64;
        let data = if size == 0 { Vec::new() } else { std::iter::once(0..size).collect() };
        (path, EntryKind::File { size, data }, bytes)
    }

    fn link<'a>(path: &'a str, target: &str) -> Entry<'a> {
        (path, EntryKind::Symlink(target.as_bytes().to_vec()), b"")
    }

    fn hard<'a>(path: &'a str, target: &str) -> Entry<'a> {
        (path, EntryKind::HardLink(target.as_bytes().to_vec()), b"")
    }

    fn archive(entries: &[Entry<'_>]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut writer = Writer::new(&mut bytes);
        for (path, kind, content) in entries {
            writer.add(path.as_bytes(), &Attributes::default(), kind, &mut &content[..]).unwrap();
        }
        writer.finish().unwrap();
        bytes
    }

    fn positions(bytes: &[u8]) -> Result<Positions, Failure> {
        Positions::of(Cursor::new(bytes), bytes.len() as u64)
    }

    #[test]
    fn files_and_links_are_found() {
        let bytes = archive(&[
            file("blobs/a", b"hello"),
            link("legacy/layer.tar", "../blobs/a"),
            link("second", "./legacy/layer.tar"),
            hard("third", "second"),
            file("empty", b""),
        ]);
        let positions = positions(&bytes).unwrap();
        for name in ["blobs/a", "./blobs//a", "legacy/layer.tar", "second", "third"] {
            let Extent { offset, size } = positions.find(name).unwrap().unwrap();
            let start = usize::try_from(offset).unwrap();
            assert_eq!((&bytes[start..start + 5], size), (&b"hello"[..], 5), "{name}");
        }
        assert_eq!(positions.find("empty").unwrap().unwrap().size, 0);
        for name in ["blobs", "blobs/b", "", "blobs/a/b"] {
            assert_eq!(positions.find(name), Ok(None), "{name}");
        }
    }

    #[test]
    fn links_stay_in_the_archive_and_end() {
        let bytes = archive(&[
            link("out", "../etc/passwd"),
            link("abs", "/etc/passwd"),
            link("loop", "pool"),
            link("pool", "loop"),
            link("gone", "nowhere"),
        ]);
        let positions = positions(&bytes).unwrap();
        for name in ["out", "abs", "../x"] {
            assert!(positions.find(name).unwrap_err().contains("leads out"), "{name}");
        }
        assert!(positions.find("loop").unwrap_err().contains("link to a link"));
        assert_eq!(positions.find("gone"), Ok(None));
    }

    #[test]
    fn what_was_cut_off_or_comes_twice_is_refused() {
        let bytes = archive(&[file("a", &[7; 3000])]);
        for length in [512, 1024, 3500, 3584] {
            assert!(positions(&bytes[..length]).is_err(), "{length}");
        }
        let twice = archive(&[file("a", b"1"), file("./a", b"2")]);
        assert!(matches!(positions(&twice), Err(Failure::Problem(text)) if text.contains("a comes twice")));
        let device = archive(&[("null", EntryKind::CharDevice { major: 1, minor: 3 }, b"")]);
        assert!(matches!(positions(&device), Err(Failure::Problem(text)) if text.contains("device")));
    }
}
