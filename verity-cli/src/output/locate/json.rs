//! Where damage is and what it hits, for programs; `docs/json.md` lists the fields.

use std::ops::Range;

use serde_json::{Map as Fields, Value, json};
use verity_core::erofs::FileKind;
use verity_core::locate::{Affected, Area, Files, Map, Owner, Pieces, Span, State, Strip};

use crate::commands::Located;

/// The fields `map` and `files`, as far as they were asked for.
pub(crate) fn located(located: &Located) -> Value {
    let mut fields = Fields::new();
    if let Some(map) = &located.map {
        fields.insert("map".to_owned(), self::map(map, located.limit));
    }
    match &located.files {
        Some(Ok(found)) => {
            fields.insert("files".to_owned(), files(found));
        }
        Some(Err(reason)) => {
            fields.insert("files".to_owned(), json!({"error": reason}));
        }
        None => {}
    }
    Value::Object(fields)
}

fn map(map: &Map, limit: usize) -> Value {
    json!({
        "data": strip(map.strip(Area::Data), limit),
        "tree": strip(map.strip(Area::Tree), limit),
        "unplaced_blocks": map.unplaced_blocks,
    })
}

fn strip(strip: &Strip, limit: usize) -> Value {
    let ranges: Vec<_> = strip.spans().take(limit).map(|span| range(&span)).collect();
    json!({
        "blocks": strip.blocks(),
        "block_size": strip.block_size(),
        "good_blocks": strip.count(State::Good),
        "repairable_blocks": strip.count(State::Repairable),
        "unverifiable_blocks": strip.count(State::Unverifiable),
        "damaged_blocks": strip.count(State::Damaged),
        "unlisted_ranges": strip.spans().count() - ranges.len(),
        "ranges": ranges,
    })
}

fn range(span: &Span) -> Value {
    json!({
        "state": span.state.name(),
        "first_block": span.blocks.start,
        "blocks": span.blocks.end - span.blocks.start,
        "first_byte": span.bytes.start,
        "end_byte": span.bytes.end,
    })
}

fn files(files: &Files) -> Value {
    let gaps: Vec<_> = files
        .gaps
        .iter()
        .map(|gap| {
            let path = Some(gap.path.display().to_string()).filter(|path| !path.is_empty());
            json!({"path": path, "reason": gap.error.to_string()})
        })
        .collect();
    json!({
        "error": null,
        "complete": files.complete,
        "affected": files.affected.iter().map(affected).collect::<Vec<_>>(),
        "unlisted_affected": files.unlisted,
        "gaps": gaps,
        "unlisted_gaps": files.unlisted_gaps,
    })
}

fn affected(affected: &Affected) -> Value {
    let mut fields = json!({
        "kind": kind(&affected.owner),
        "state": affected.state.name(),
        "image_bytes": pieces(&affected.device),
        "unlisted_image_bytes": affected.device.unlisted,
    });
    if let (Owner::Inode { paths, unlisted_paths, size, .. }, Value::Object(fields)) =
        (&affected.owner, &mut fields)
    {
        let paths: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
        fields.insert("paths".to_owned(), json!(paths));
        fields.insert("unlisted_paths".to_owned(), json!(unlisted_paths));
        fields.insert("size".to_owned(), json!(size));
        let parts: Vec<_> = affected.parts.iter().map(|part| part.name()).collect();
        fields.insert("parts".to_owned(), json!(parts));
        fields.insert("content_bytes".to_owned(), pieces(&affected.content));
        fields.insert("unlisted_content_bytes".to_owned(), json!(affected.content.unlisted));
    }
    fields
}

fn kind(owner: &Owner) -> &'static str {
    match owner {
        Owner::Superblock => "superblock",
        Owner::DeviceTable => "device-table",
        Owner::XattrPrefixes => "xattr-prefixes",
        Owner::SharedXattrs => "shared-xattrs",
        Owner::PackedInode => "packed-inode",
        Owner::Inode { kind, .. } => match kind {
            FileKind::File => "file",
            FileKind::Directory => "directory",
            FileKind::Symlink => "symlink",
            FileKind::Other => "special-file",
        },
        Owner::Unused => "unused",
        _ => "unknown",
    }
}

fn pieces(pieces: &Pieces) -> Value {
    let piece = |bytes: &Range<u64>| json!({"first_byte": bytes.start, "end_byte": bytes.end});
    Value::Array(pieces.listed.iter().map(piece).collect())
}
