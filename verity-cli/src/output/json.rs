//! What programs read: one document a command. Fields are added, never renamed or removed; `docs/json.md` lists them.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use verity_core::block::RootHash;
use verity_core::device::{Active, DeviceInfo, DeviceName, DeviceRef, Error, Mapping, Repairs};
use verity_core::repair::Restored;
use verity_core::tree::{Fault, Finding, Place, Report};

use super::{human, locate};
use crate::commands::{
    Attached, Closed, Copied, Diagnosis, FecFinding, Formatted, Layout, Outcome, Parity, Repaired, Verified,
};
use crate::failure::Failure;

/// A document's text.
pub(crate) fn document(value: &Value) -> String {
    format!("{value:#}\n")
}

/// Puts documents together, field after field.
pub(super) fn merged(parts: impl IntoIterator<Item = Value>) -> Value {
    let mut fields = Map::new();
    for part in parts {
        if let Value::Object(part) = part {
            fields.extend(part);
        }
    }
    Value::Object(fields)
}

/// A path. JSON holds text, so what is no UTF-8 in it is replaced.
pub(super) fn text(path: &Path) -> String {
    path.display().to_string()
}

/// An error; the exit code is that of this program, whatever name it was called by.
pub(crate) fn failure(failure: &Failure) -> Value {
    json!({
        "error": {
            "exit_code": failure.code.number(),
            "kind": failure.code.name(),
            "message": failure.message,
            "hint": failure.hint,
        }
    })
}

fn salt(layout: &Layout) -> String {
    layout.params.salt.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(super) fn layout(layout: &Layout) -> Value {
    let Layout { uuid, params, geometry } = layout;
    json!({
        "uuid": uuid.map(human::uuid),
        "hash_type": params.hash_type.number(),
        "data_blocks": geometry.data_blocks(),
        "data_block_size": params.data_block_size.get(),
        "hash_blocks": geometry.hash_blocks(),
        "hash_block_size": params.hash_block_size.get(),
        "hash_algorithm": params.algorithm.name(),
        "salt": salt(layout),
        "superblock": geometry.area().has_superblock(),
        "hash_offset": geometry.area().offset(),
        "hash_start_block": geometry.hash_start_block(),
        "hash_area_end": geometry.hash_area_end(),
    })
}

pub(crate) fn formatted(command: &str, formatted: &Formatted) -> Value {
    let Formatted { data, hash, layout: tree, parity, root } = formatted;
    merged([
        json!({"command": command, "data_device": text(data), "hash_device": text(hash)}),
        layout(tree),
        json!({"root_hash": root.to_string(), "fec": parity.as_ref().map(fec)}),
    ])
}

pub(crate) fn dumped(hash: &Path, tree: &Layout, parity: Option<&Parity>) -> Value {
    let parity = json!({"fec": parity.map(fec)});
    merged([json!({"command": "dump", "hash_device": text(hash)}), layout(tree), parity])
}

pub(super) fn fec(parity: &Parity) -> Value {
    json!({
        "device": text(&parity.device),
        "roots": parity.places.roots().get(),
        "offset": parity.places.offset(),
        "bytes": parity.places.parity_bytes(),
        "covered_blocks": parity.places.covered_blocks(),
    })
}

pub(crate) fn verified(verified: &Verified) -> Value {
    let Verified { data, hash, layout: tree, root, report, diagnosis, located } = verified;
    merged([
        json!({
            "command": "verify",
            "intact": report.is_intact(),
            "data_device": text(data),
            "hash_device": text(hash),
        }),
        layout(tree),
        json!({
            "root_hash": root.to_string(),
        }),
        findings(report),
        json!({"fec": diagnosis.as_ref().map(diagnosed)}),
        locate::json(located),
    ])
}

pub(crate) fn copied(copied: &Copied) -> Value {
    let Copied { data, hash, output, layout: tree, root, extracted, repairs } = copied;
    merged([
        json!({
            "command": "extract",
            "data_device": text(data),
            "hash_device": text(hash),
            "output": text(output),
        }),
        layout(tree),
        json!({
            "root_hash": root.to_string(),
            "bytes": extracted.bytes,
            "zero_bytes": extracted.zero_bytes,
            "repaired_blocks": repairs,
        }),
    ])
}

pub(super) fn findings(report: &Report) -> Value {
    json!({
        "bad_data_blocks": report.bad_data_blocks,
        "bad_hash_blocks": report.bad_hash_blocks,
        "unverifiable_blocks": report.unverifiable_blocks,
        "findings": report.findings.iter().map(finding).collect::<Vec<_>>(),
        "unlisted_findings": report.unlisted,
    })
}

fn diagnosed(diagnosis: &Diagnosis) -> Value {
    let (verdict, repair, differing) = match &diagnosis.finding {
        FecFinding::Intact { differing } => ("intact", None, *differing),
        FecFinding::Damaged(repair) if repair.is_complete() => ("repairable", Some(repair), None),
        FecFinding::Damaged(repair) => ("beyond-repair", Some(repair), None),
    };
    merged([
        fec(&diagnosis.parity),
        json!({
            "verdict": verdict,
            "parity_blocks": diagnosis.parity.blocks(),
            "differing_parity_blocks": differing,
            "repairable_data_blocks": repair.map(|repair| repair.data_blocks),
            "repairable_hash_blocks": repair.map(|repair| repair.hash_blocks),
            "remaining": repair.map(|repair| findings(&repair.remaining)),
        }),
    ])
}

pub(crate) fn repaired(repaired: &Repaired) -> Value {
    let Repaired { data, hash, layout: tree, parity, root, report, kept } = repaired;
    let restored = report.restored.iter().map(|Restored { place, block, bytes, .. }| {
        let (area, level) = area(*place);
        json!({
            "area": area,
            "level": level,
            "block": block,
            "first_byte": bytes.start,
            "end_byte": bytes.end,
        })
    });
    merged([
        json!({
            "command": "repair",
            "complete": report.is_complete(),
            "was_intact": report.was_intact(),
            "kept": kept,
            "data_device": text(data),
            "hash_device": text(hash),
        }),
        layout(tree),
        json!({
            "root_hash": root.to_string(),
            "fec": fec(parity),
            "restored_data_blocks": report.data_blocks,
            "restored_hash_blocks": report.hash_blocks,
            "restored_bytes": report.bytes,
            "restored": restored.collect::<Vec<_>>(),
            "remaining": findings(&report.remaining),
        }),
    ])
}

pub(crate) fn encoded(
    data: &Path,
    hash: &Path,
    tree: &Layout,
    parity: &Parity,
    root: Option<&RootHash>,
) -> Value {
    let command = json!({"command": "fec encode", "data_device": text(data), "hash_device": text(hash)});
    let made = json!({"root_hash": root.map(ToString::to_string), "fec": fec(parity)});
    merged([command, layout(tree), made])
}

fn area(place: Place) -> (&'static str, Option<usize>) {
    match place {
        Place::Data => ("data", None),
        Place::Hash { level } => ("hash", Some(level)),
    }
}

fn finding(finding: &Finding) -> Value {
    let (area, level) = area(finding.place);
    let fault = match &finding.fault {
        Fault::Digest { expected, found } => json!({
            "fault": "digest",
            "expected_digest": expected.to_string(),
            "found_digest": found.to_string(),
        }),
        Fault::Spare { offset } => json!({"fault": "spare-not-zero", "offset_in_block": offset}),
        Fault::Unverifiable => json!({"fault": "unverifiable"}),
        _ => json!({"fault": "other"}),
    };
    let place = json!({
        "area": area,
        "level": level,
        "first_block": finding.first_block,
        "blocks": finding.blocks,
        "first_byte": finding.bytes.start,
        "end_byte": finding.bytes.end,
    });
    merged([place, fault])
}

pub(crate) fn opened(name: &DeviceName, active: &Active, root: &RootHash) -> Value {
    json!({
        "command": "open",
        "name": name.to_string(),
        "node": text(&active.node),
        "device": active.number.to_string(),
        "status": active.status.verdict.to_string(),
        "root_hash": root.to_string(),
    })
}

pub(crate) fn closed(name: &DeviceName, closed: Closed) -> Value {
    let result = match closed {
        Closed::Removed => "removed",
        Closed::Deferred => "deferred",
        Closed::Kept => "kept",
    };
    json!({"command": "close", "name": name.to_string(), "result": result})
}

/// What became of the entries of a veritytab.
pub(crate) fn veritytab(command: &str, path: &Path, entries: &[Attached]) -> Value {
    let entries: Vec<Value> = entries.iter().map(entry).collect();
    json!({"command": command, "veritytab": text(path), "entries": entries})
}

fn entry(entry: &Attached) -> Value {
    let error = match &entry.outcome {
        Outcome::Failed(error) => Some(failure(error)),
        _ => None,
    };
    merged([
        json!({
            "line": entry.line,
            "name": entry.name.as_ref().map(ToString::to_string),
            "required": entry.required,
            "result": entry.outcome.name(),
        }),
        error.unwrap_or_default(),
    ])
}

pub(crate) fn inactive(name: &str, node: &Path) -> Value {
    json!({"command": "status", "name": name, "node": text(node), "active": false})
}

pub(crate) fn status(info: &DeviceInfo) -> Value {
    merged([json!({"command": "status"}), device(info)])
}

pub(crate) fn list(devices: &[Result<DeviceInfo, Error>]) -> Value {
    let devices: Vec<Value> = devices
        .iter()
        .map(|described| match described {
            Ok(info) => device(info),
            Err(error) => json!({"error": error.to_string()}),
        })
        .collect();
    json!({"command": "list", "devices": devices})
}

fn device(info: &DeviceInfo) -> Value {
    let common = json!({
        "name": info.name.to_string(),
        "node": text(&info.node()),
        "active": true,
        "device": info.number.to_string(),
        "dm_uuid": info.uuid,
        "open_count": info.open_count,
        "read_only": info.read_only,
        "suspended": info.suspended,
        "deferred_remove": info.deferred_remove,
    });
    merged([common, info.mapping.as_ref().map(mapping).unwrap_or_default()])
}

fn mapping(mapping: &Mapping) -> Value {
    let Mapping { table, sectors, status } = mapping;
    let params = table.params();
    let fec = table.fec().map(|fec| {
        json!({
            "device": device_path(&fec.device),
            "start_block": fec.start_block,
            "blocks": fec.blocks,
            "roots": fec.roots.get(),
        })
    });
    json!({
        "status": status.verdict.to_string(),
        "hash_type": params.hash_type.number(),
        "data_blocks": table.data_blocks(),
        "data_block_size": params.data_block_size.get(),
        "hash_block_size": params.hash_block_size.get(),
        "hash_algorithm": params.algorithm.name(),
        "salt": params.salt.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect::<String>(),
        "root_hash": table.root_hash().to_string(),
        "hash_start_block": table.hash_start_block(),
        "bytes": sectors.saturating_mul(512),
        "data_device": device_path(table.data()),
        "data_loop": human::loop_file(table.data()),
        "hash_device": device_path(table.hash()),
        "hash_loop": human::loop_file(table.hash()),
        "signature_key": table.options().signature_key.as_ref().map(ToString::to_string),
        "flags": human::flags(mapping),
        "fec": fec,
        "fec_repairs": match status.repairs {
            Repairs::Count(count) => Some(count),
            _ => None,
        },
        "table": table.to_string(),
    })
}

fn device_path(device: &DeviceRef) -> String {
    human::device(device)
}

pub(crate) fn recovered(hash: &Path, result: &str) -> Value {
    json!({"command": "recover", "hash_device": text(hash), "result": result})
}

pub(crate) fn completions(shell: &str, script: &str) -> Value {
    json!({"command": "completions", "shell": shell, "script": script})
}

pub(crate) fn manual(page: &str) -> Value {
    json!({"command": "man", "page": page})
}

pub(crate) fn manual_files(files: &[PathBuf]) -> Value {
    json!({"command": "man", "files": files.iter().map(|file| text(file)).collect::<Vec<_>>()})
}
