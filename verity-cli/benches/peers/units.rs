//! Figures as people read them.

pub(crate) const KIB: u64 = 1 << 10;
pub(crate) const MIB: u64 = 1 << 20;
pub(crate) const GIB: u64 = 1 << 30;
pub(crate) const TIB: u64 = 1 << 40;

/// A size in the largest unit that leaves no fraction: `2 GiB`.
pub(crate) fn size(bytes: u64) -> String {
    let units = [(TIB, "TiB"), (GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")];
    match units.into_iter().find(|(unit, _)| bytes >= *unit && bytes.is_multiple_of(*unit)) {
        Some((unit, name)) => format!("{} {name}", bytes / unit),
        None => format!("{bytes} bytes"),
    }
}

/// Three digits that count.
pub(crate) fn three(value: f64) -> String {
    let decimals = match value {
        value if value >= 99.95 => 0,
        value if value >= 9.995 => 1,
        _ => 2,
    };
    format!("{value:.decimals$}")
}

pub(crate) fn seconds(value: f64) -> String {
    if value < 1.0 { format!("{} ms", three(value * 1e3)) } else { format!("{} s", three(value)) }
}

/// The speed of one GiB in `seconds`.
pub(crate) fn speed(seconds: f64) -> String {
    format!("{} GiB/s", three(1.0 / seconds))
}

pub(crate) fn mebibytes(bytes: f64) -> String {
    format!("{:.1}", bytes / MIB as f64)
}
