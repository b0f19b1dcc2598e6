//! What people read. Byte for byte what veritysetup 2.8 prints, where veritysetup prints it.

use std::fmt::Write;
use std::path::Path;

use verity_core::block::RootHash;
use verity_core::device::{DeviceInfo, DeviceRef, Error, Fec, Mapping, Repairs, backing_file, node_of};
use verity_core::repair::Restored;
use verity_core::tree::Report;

use crate::commands::{FecFinding, Formatted, Layout, Parity, Repaired, Verified};

/// A UUID as it is printed.
pub(crate) fn uuid(bytes: [u8; 16]) -> String {
    uuid::Uuid::from_bytes(bytes).hyphenated().to_string()
}

/// What `format` and `dump` print.
pub(crate) fn header(
    hash: &Path,
    layout: &Layout,
    parity: Option<&Parity>,
    root: Option<&RootHash>,
) -> String {
    let Layout { uuid: id, params, geometry } = layout;
    let mut lines = vec![
        format!("VERITY header information for {}.", hash.display()),
        format!("UUID:            \t{}", id.map(uuid).unwrap_or_default()),
        format!("Hash type:       \t{}", params.hash_type),
        format!("Data blocks:     \t{}", geometry.data_blocks()),
        format!("Data block size: \t{} [bytes]", params.data_block_size),
        format!("Hash blocks:     \t{}", geometry.hash_blocks()),
        format!("Hash block size: \t{} [bytes]", params.hash_block_size),
        format!("Hash algorithm:  \t{}", params.algorithm),
    ];
    if let Some(parity) = parity {
        lines.push(format!("FEC RS roots:   \t{}", parity.places.roots()));
        lines.push(format!("FEC blocks:     \t{}", parity.blocks()));
    }
    lines.push(format!("Salt:            \t{}", params.salt));
    lines.extend(root.map(|root| format!("Root hash:      \t{root}")));
    if geometry.area().offset() == 0 {
        // veritysetup does not count what lies between tree and parity.
        let with_it = parity.filter(|parity| parity.with_hash).map_or(0, |it| it.places.parity_bytes());
        lines.push(format!("Hash device size: \t{} [bytes]", geometry.hash_area_end() + with_it));
    }
    if let Some(parity) = parity.filter(|parity| !parity.with_hash && parity.places.offset() == 0) {
        lines.push(format!("FEC device size: \t{} [bytes]", parity.places.parity_bytes()));
    }
    lines.join("\n") + "\n"
}

/// What `format` prints.
pub(crate) fn formatted(formatted: &Formatted) -> String {
    header(&formatted.hash, &formatted.layout, formatted.parity.as_ref(), Some(&formatted.root))
}

/// What `verify` found, and what of it the parity cannot restore.
pub(crate) fn verified(verified: &Verified) -> String {
    let mut text = findings(&verified.report);
    if let Some(FecFinding::Damaged(repair)) = verified.diagnosis.as_ref().map(|it| &it.finding)
        && !repair.is_complete()
    {
        text += "Beyond repair:\n";
        text += &findings(&repair.remaining);
    }
    text
}

/// What `repair` restored, one block a line, and what it could not.
pub(crate) fn repaired(repaired: &Repaired) -> String {
    let report = &repaired.report;
    if report.was_intact() {
        return "intact: nothing to repair\n".to_owned();
    }
    let word = if repaired.kept { "restored" } else { "can be restored" };
    let mut text = String::new();
    for Restored { place, block, bytes, .. } in &report.restored {
        let _ = writeln!(text, "{place} block {block} (bytes {} to {}): {word}", bytes.start, bytes.end - 1);
    }
    let listed = report.restored.len() as u64;
    if report.restored_blocks() > listed {
        let more = report.restored_blocks() - listed;
        let _ = writeln!(text, "... and {more} more: {word} (--max-findings lists more)");
    }
    text + &findings(&report.remaining)
}

/// The bad blocks, one a line.
pub(crate) fn findings(report: &Report) -> String {
    let mut text = String::new();
    for finding in &report.findings {
        let _ = writeln!(text, "{finding}");
    }
    if report.unlisted > 0 {
        let _ = writeln!(text, "... and {} more (--max-findings lists more)", report.unlisted);
    }
    text
}

/// What `status` prints about an active device.
pub(crate) fn status(path: &Path, info: &DeviceInfo) -> String {
    let in_use = if info.open_count > 0 { " and is in use" } else { "" };
    let mut text = format!("{} is active{in_use}.\n  type:        VERITY\n", path.display());
    if let Some(mapping) = &info.mapping {
        let mode = if info.read_only { "readonly" } else { "read/write" };
        for (label, value) in mapping_lines(mapping, mode) {
            let _ = writeln!(text, "  {:<12} {value}", format!("{label}:"));
        }
    }
    text
}

fn mapping_lines(mapping: &Mapping, mode: &str) -> Vec<(&'static str, String)> {
    let Mapping { table, sectors, status } = mapping;
    let params = table.params();
    let signature = if table.options().signature_key.is_some() { " (with signature)" } else { "" };
    let mut lines = vec![
        ("status", format!("{}{signature}", status.verdict)),
        ("hash type", params.hash_type.to_string()),
        ("data block", format!("{} [bytes]", params.data_block_size)),
        ("hash block", format!("{} [bytes]", params.hash_block_size)),
        ("hash name", params.algorithm.to_string()),
        ("salt", params.salt.to_string()),
        ("data device", device(table.data())),
    ];
    lines.extend(loop_file(table.data()).map(|file| ("data loop", file)));
    lines.push(("size", units(*sectors)));
    lines.push(("mode", mode.to_owned()));
    lines.push(("hash device", device(table.hash())));
    lines.extend(loop_file(table.hash()).map(|file| ("hash loop", file)));
    lines.push(("hash offset", block_units(table.hash_start_block(), params.hash_block_size.as_u64())));
    if let Some(Fec { device: parity, start_block, roots, .. }) = table.fec() {
        lines.push(("FEC device", device(parity)));
        lines.extend(loop_file(parity).map(|file| ("FEC loop", file)));
        lines.push(("FEC offset", block_units(*start_block, params.hash_block_size.as_u64())));
        lines.push(("FEC roots", roots.to_string()));
        if let Repairs::Count(count) = status.repairs {
            lines.push(("FEC repaired", format!("{count} [events]")));
        }
    }
    lines.push(("root hash", table.root_hash().to_string()));
    let flags = flags(mapping);
    if let Some(last) = flags.last() {
        // veritysetup ends most of these words in a space, the last one too.
        let end = if matches!(*last, "check_at_most_once" | "try_verify_in_tasklet" | "restart_on_error") {
            ""
        } else {
            " "
        };
        lines.push(("flags", flags.join(" ") + end));
    }
    lines
}

/// The words of the table's options.
pub(crate) fn flags(mapping: &Mapping) -> Vec<&'static str> {
    let options = mapping.table.options();
    [
        options.corruption.word(),
        options.on_error.word(),
        options.ignore_zero_blocks.then_some("ignore_zero_blocks"),
        options.check_at_most_once.then_some("check_at_most_once"),
        options.try_verify_in_tasklet.then_some("try_verify_in_tasklet"),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// A device's usual path, or its number where there is none.
pub(crate) fn device(device: &DeviceRef) -> String {
    match device {
        DeviceRef::Number(number) => {
            node_of(*number).map_or_else(|| number.to_string(), |node| node.display().to_string())
        }
        DeviceRef::Path(_) => device.to_string(),
    }
}

/// The file behind a loop device.
pub(crate) fn loop_file(device: &DeviceRef) -> Option<String> {
    match device {
        DeviceRef::Number(number) => backing_file(*number).map(|file| file.display().to_string()),
        DeviceRef::Path(_) => None,
    }
}

fn units(sectors: u64) -> String {
    format!("{sectors} [512-byte units] ({} [bytes])", sectors.saturating_mul(512))
}

fn block_units(block: u64, block_size: u64) -> String {
    let bytes = block.saturating_mul(block_size);
    format!("{} [512-byte units] ({bytes} [bytes])", bytes / 512)
}

/// The names of all devices, one a line.
pub(crate) fn names(devices: &[Result<DeviceInfo, Error>]) -> String {
    devices.iter().flatten().fold(String::new(), |text, info| text + &info.name.to_string() + "\n")
}

/// All devices in columns.
pub(crate) fn list(devices: &[Result<DeviceInfo, Error>]) -> String {
    let mut rows = vec![["NAME", "STATUS", "USES", "BYTES", "DATA"].map(str::to_owned)];
    let mut text = String::new();
    for described in devices {
        match described {
            Ok(info) => rows.push(row(info)),
            Err(error) => {
                let _ = writeln!(text, "{error}");
            }
        }
    }
    if rows.len() == 1 {
        return text;
    }
    let widths: Vec<usize> =
        (0..4).map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0)).collect();
    let mut table = String::new();
    for [name, status, uses, bytes, data] in &rows {
        let _ = writeln!(
            table,
            "{name:<0$}  {status:<1$}  {uses:>2$}  {bytes:>3$}  {data}",
            widths[0], widths[1], widths[2], widths[3]
        );
    }
    table + &text
}

fn row(info: &DeviceInfo) -> [String; 5] {
    let (status, bytes, data) = match &info.mapping {
        Some(mapping) => {
            let data = mapping.table.data();
            let file = loop_file(data).unwrap_or_else(|| device(data));
            (mapping.status.verdict.to_string(), mapping.sectors.saturating_mul(512).to_string(), file)
        }
        None => ("empty".to_owned(), "0".to_owned(), "-".to_owned()),
    };
    [info.name.to_string(), status, info.open_count.to_string(), bytes, data]
}

#[cfg(test)]
mod tests {
    use super::*;

    use verity_core::device::{DeviceNumber, Status};

    /// A device over devices that no machine has, so that nothing is looked up.
    fn device(options: &str, status: &str) -> DeviceInfo {
        let table = format!(
            "1 4095:1 4095:2 4096 4096 2048 1 sha256 {} {}{options}",
            "ab".repeat(32),
            "00".repeat(2)
        );
        DeviceInfo {
            name: "layer".parse().unwrap(),
            uuid: None,
            number: DeviceNumber::new(4095, 0).unwrap(),
            open_count: 0,
            read_only: true,
            suspended: false,
            deferred_remove: false,
            mapping: Some(Mapping {
                table: table.parse().unwrap(),
                sectors: 16_384,
                status: status.parse::<Status>().unwrap(),
            }),
        }
    }

    #[test]
    fn status_is_veritysetups() {
        let info = device("", "V");
        let expected = "\
/dev/mapper/layer is active.
  type:        VERITY
  status:      verified
  hash type:   1
  data block:  4096 [bytes]
  hash block:  4096 [bytes]
  hash name:   sha256
  salt:        0000
  data device: 4095:1
  size:        16384 [512-byte units] (8388608 [bytes])
  mode:        readonly
  hash device: 4095:2
  hash offset: 8 [512-byte units] (4096 [bytes])
  root hash:   abababababababababababababababababababababababababababababababab
";
        assert_eq!(status(&info.node(), &info), expected);
    }

    #[test]
    fn status_tells_of_corruption_use_and_options() {
        let mut info = device(" 2 ignore_corruption check_at_most_once", "C");
        info.open_count = 1;
        let text = status(&info.node(), &info);
        assert!(text.starts_with("/dev/mapper/layer is active and is in use.\n"), "{text}");
        assert!(text.contains("\n  status:      corrupted\n"), "{text}");
        assert!(text.ends_with("\n  flags:       ignore_corruption check_at_most_once\n"), "{text}");
        let info = device(" 1 ignore_zero_blocks", "V");
        assert!(status(&info.node(), &info).ends_with("\n  flags:       ignore_zero_blocks \n"));
    }

    #[test]
    fn status_tells_of_error_correction_and_signatures() {
        let fec = " 10 use_fec_from_device 4095:3 fec_blocks 2080 fec_start 2 fec_roots 2 root_hash_sig_key_desc key";
        let text = {
            let info = device(fec, "V 7");
            status(&info.node(), &info)
        };
        assert!(text.contains("  status:      verified (with signature)\n"), "{text}");
        let lines = "  FEC device:  4095:3\n  FEC offset:  16 [512-byte units] (8192 [bytes])\n  FEC roots:   2\n  \
                     FEC repaired: 7 [events]\n";
        assert!(text.contains(lines), "{text}");
    }

    #[test]
    fn a_device_without_a_table_is_described_as_far_as_it_goes() {
        let info = DeviceInfo { mapping: None, ..device("", "V") };
        assert_eq!(status(&info.node(), &info), "/dev/mapper/layer is active.\n  type:        VERITY\n");
    }

    #[test]
    fn the_list_has_columns() {
        let other = DeviceInfo { name: "a-longer-name".parse().unwrap(), mapping: None, ..device("", "V") };
        let devices = [Ok(device("", "C")), Ok(other)];
        let expected = "\
NAME           STATUS     USES    BYTES  DATA
layer          corrupted     0  8388608  4095:1
a-longer-name  empty         0        0  -
";
        assert_eq!(list(&devices), expected);
        assert_eq!(names(&devices), "layer\na-longer-name\n");
        assert_eq!(list(&[]), "");
    }
}
