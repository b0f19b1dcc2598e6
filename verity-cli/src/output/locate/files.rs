//! The files that damage belongs to, for people.

use std::fmt::Write;
use std::ops::Range;
use std::path::Path;

use verity_core::erofs::FileKind;
use verity_core::locate::{Affected, Files, Owner, Part, Pieces};

/// How many ranges of bytes a line holds; a document holds more.
const RANGES_IN_A_LINE: usize = 4;

/// What is affected, one thing a line.
pub(super) fn list(files: &Files) -> String {
    let mut text = String::new();
    if files.affected.is_empty() && files.unlisted == 0 && files.complete {
        return "No file is affected.\n".to_owned();
    }
    for affected in &files.affected {
        let _ = writeln!(text, "{:<12} {}", affected.state, describe(affected));
    }
    if files.unlisted > 0 {
        let _ = writeln!(text, "... and {} more (--max-findings lists more)", files.unlisted);
    }
    for gap in &files.gaps {
        let _ = writeln!(text, "not looked at: {gap}");
    }
    if files.unlisted_gaps > 0 {
        let _ = writeln!(text, "... and {} more (--max-findings lists more)", files.unlisted_gaps);
    }
    if !files.complete {
        text += "Some metadata cannot be trusted: more files may be affected than these.\n";
    }
    text
}

fn describe(affected: &Affected) -> String {
    let what = match &affected.owner {
        Owner::Inode { .. } => return inode(affected),
        Owner::Superblock => "the superblock",
        Owner::DeviceTable => "the table of devices",
        Owner::XattrPrefixes => "the table of attribute names",
        Owner::SharedXattrs => "extended attributes that files share",
        Owner::PackedInode => "the packed ends of files",
        Owner::Unused => "unused space",
        _ => "space of which the use is not known",
    };
    format!("{what}: {} of the image", pieces(&affected.device))
}

fn inode(affected: &Affected) -> String {
    let Owner::Inode { kind, paths, unlisted_paths, size } = &affected.owner else { return String::new() };
    let mut text = paths.iter().map(|path| quoted(path)).collect::<Vec<_>>().join(", ");
    if *unlisted_paths > 0 {
        let _ = write!(text, " and {unlisted_paths} more names");
    }
    let parts: Vec<String> = affected
        .parts
        .iter()
        .map(|part| match (part, kind) {
            (Part::Inode, FileKind::Directory) => "its inode, hence all that is in it".to_owned(),
            (Part::Inode, _) => "its inode, hence all of it".to_owned(),
            (Part::Attributes, _) => "its extended attributes".to_owned(),
            (Part::Index, _) => "the list of its blocks".to_owned(),
            (Part::Content, FileKind::Directory) => "names in it".to_owned(),
            (Part::Content, FileKind::Symlink) => "where it points to".to_owned(),
            (Part::Content, _) if affected.content.listed.is_empty() => {
                "unused space behind its end".to_owned()
            }
            (Part::Content, _) => {
                let size = size.map(|size| format!(" of {size}")).unwrap_or_default();
                format!("{}{size}", pieces(&affected.content))
            }
        })
        .collect();
    let kind = if *kind == FileKind::Directory { "directory " } else { "" };
    format!("{kind}{text}: {}", parts.join("; "))
}

fn pieces(pieces: &Pieces) -> String {
    let Pieces { listed, unlisted } = pieces;
    let range = |bytes: &Range<u64>| format!("{} to {}", bytes.start, bytes.end - 1);
    let shown: Vec<_> = listed.iter().take(RANGES_IN_A_LINE).map(range).collect();
    let more = (listed.len() - shown.len()) as u64 + unlisted;
    let more = if more > 0 { format!(" and {more} more ranges") } else { String::new() };
    format!("bytes {}{more}", shown.join(", "))
}

/// A path from an image: as it is, or quoted if there is anything in it that a terminal would not simply show.
fn quoted(path: &Path) -> String {
    let quoted = format!("{path:?}");
    match (path.to_str(), quoted.strip_prefix('"').and_then(|text| text.strip_suffix('"'))) {
        (Some(plain), Some(inner)) if plain == inner => plain.to_owned(),
        _ => quoted,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    #[test]
    fn a_path_does_nothing_to_a_terminal() {
        let path = |bytes: &[u8]| quoted(Path::new(std::ffi::OsStr::from_bytes(bytes)));
        assert_eq!(path(b"/usr/bin/[ x"), "/usr/bin/[ x");
        assert_eq!(path("/häuser".as_bytes()), "/häuser");
        assert_eq!(path(b"/a\x1b[2Jb"), r#""/a\u{1b}[2Jb""#);
        assert_eq!(path(b"/a\nb"), r#""/a\nb""#);
        assert_eq!(path(b"/\xff"), r#""/\xFF""#);
        assert_eq!(path("/a\u{202e}b".as_bytes()), r#""/a\u{202e}b""#);
    }

    #[test]
    fn only_some_ranges_are_in_a_line() {
        let listed = (0..6).map(|at| at * 10..at * 10 + 2).collect();
        let text = pieces(&Pieces { listed, unlisted: 5 });
        assert_eq!(text, "bytes 0 to 1, 10 to 11, 20 to 21, 30 to 31 and 7 more ranges");
    }
}
