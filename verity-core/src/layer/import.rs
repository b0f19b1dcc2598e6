//! From the entries of a tar to those of an image.

use std::io::Read;

use super::Limits;
use super::error::{Error, Problem};
use super::pipeline::Stream;
use super::tar::{Entry, EntryKind, Fault, Reader};
use super::whiteout::{Cut, Hidden, Whiteouts};
use crate::erofs::write::{self, Kind, Writer};

/// What was read.
#[derive(Debug, Default)]
pub(super) struct Imported {
    pub(super) entries: u64,
    pub(super) hidden: Hidden,
    pub(super) cut: Cut,
    /// Extended attributes of kinds that Linux does not have, which are left out.
    pub(super) dropped_xattrs: u64,
}

/// Attributes that change what other layers show, by the prefixes of their names.
pub(super) const OVERLAY: [&[u8]; 2] = [b"trusted.overlay.", b"user.overlay."];

/// Reads all entries. `may_lack_end` says that a tar without an end marker is known to be whole by other means.
pub(super) fn import(
    stream: &mut Stream<'_>,
    writer: &mut Writer<'_>,
    limits: &Limits,
    may_lack_end: bool,
) -> Result<Imported, Error> {
    let mut reader = Reader::new(stream);
    let mut whiteouts = Whiteouts::default();
    let mut imported = Imported::default();
    while let Some(mut entry) = reader.next_entry()? {
        imported.entries += 1;
        if imported.entries > limits.entries {
            return Err(Error::Entries(limits.entries));
        }
        if whiteouts.take(&entry)? {
            // The writer does not know of them yet.
            if whiteouts.memory().saturating_add(writer.memory()) > limits.memory {
                return Err(write::Error::Memory { most: limits.memory }.into());
            }
            continue;
        }
        imported.dropped_xattrs += check(&mut entry)?;
        if let EntryKind::File { size, data } = &entry.kind {
            let stored: u64 = data.iter().map(|piece| piece.end - piece.start).sum();
            reader.source().expand(size - stored)?;
        }
        add(&entry, &mut reader, writer)?;
    }
    if !reader.is_marked() && !may_lack_end {
        return Err(reader.error(Fault::NoEnd).into());
    }
    (imported.hidden, imported.cut) = whiteouts.apply(writer)?;
    Ok(imported)
}

/// Refuses what would say something about other layers; returns how many attributes were left out.
fn check(entry: &mut Entry) -> Result<u64, Error> {
    let Entry { path, attributes, kind } = entry;
    let refused = |problem| Err(Error::Entry { path: path.clone(), problem });
    match kind {
        EntryKind::CharDevice { major: 0, minor: 0 } => return refused(Problem::WhiteoutDevice),
        EntryKind::HardLink(target) if Whiteouts::is_marker(target) => {
            return refused(Problem::LinkToWhiteout);
        }
        EntryKind::HardLink(target) if target == path => return refused(Problem::LinkToItself),
        _ => {}
    }
    if let Some(name) = attributes.xattrs.keys().find(|name| OVERLAY.iter().any(|own| name.starts_with(own)))
    {
        return refused(Problem::OverlayAttribute(String::from_utf8_lossy(name).into_owned()));
    }
    let before = attributes.xattrs.len();
    attributes.xattrs.retain(|name, _| exists_on_linux(name));
    Ok((before - attributes.xattrs.len()) as u64)
}

/// Attributes of other systems (`com.apple.*`) are no more than ballast, which runtimes pass over, too.
fn exists_on_linux(name: &[u8]) -> bool {
    let prefixes: [&[u8]; 3] = [b"user.", b"trusted.", b"security."];
    prefixes.iter().any(|prefix| name.starts_with(prefix))
        || matches!(name, b"system.posix_acl_access" | b"system.posix_acl_default")
}

fn add<R: Read>(entry: &Entry, reader: &mut Reader<R>, writer: &mut Writer<'_>) -> Result<(), Error> {
    let Entry { path, attributes, kind } = entry;
    let kind = match kind {
        EntryKind::HardLink(target) => return Ok(writer.link(path, target)?),
        EntryKind::Directory => Kind::Directory,
        EntryKind::Symlink(target) => Kind::Symlink(target),
        EntryKind::CharDevice { major, minor } => Kind::CharDevice { major: *major, minor: *minor },
        EntryKind::BlockDevice { major, minor } => Kind::BlockDevice { major: *major, minor: *minor },
        EntryKind::Fifo => Kind::Fifo,
        EntryKind::File { size, data } => {
            let mut content = reader.content();
            let whole = matches!(&data[..], [piece] if *piece == (0..*size)) || *size == 0;
            let kind = if whole {
                Kind::File { size: *size, content: &mut content }
            } else {
                Kind::Sparse { size: *size, data, content: &mut content }
            };
            let added = writer.add(path, attributes, kind);
            // What went wrong with the content, the reader knows better.
            return match reader.take_failure() {
                Some(failure) => Err(failure.into()),
                None => Ok(added?),
            };
        }
    };
    Ok(writer.add(path, attributes, kind)?)
}
