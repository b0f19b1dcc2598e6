//! What `benchmark` prints.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::commands::Benchmark;

pub(crate) fn human(benchmark: &Benchmark) -> String {
    let mut text = String::new();
    let Benchmark { processor, block_size, mebibytes, backends, trees, read } = benchmark;
    let _ = writeln!(text, "# {}", processor.as_deref().unwrap_or("unknown processor"));
    let _ = writeln!(
        text,
        "# digests: one thread, blocks of {block_size} bytes in the core's cache, 32 bytes of salt"
    );
    let _ = writeln!(text, "{:<12} {:<10} {:>8} {:>13}", "# algorithm", "backend", "GiB/s", "cycles/byte");
    for speed in backends {
        let cycles = speed.cycles_per_byte.map_or_else(|| "-".to_owned(), |cycles| format!("{cycles:.2}"));
        let _ = writeln!(
            text,
            "{:<12} {:<10} {:>8.2} {cycles:>13}",
            speed.algorithm, speed.kind, speed.gib_per_second
        );
    }
    let _ = writeln!(text, "# trees: {mebibytes} MiB of data in memory");
    let _ = writeln!(text, "{:<12} {:<10} {:>8} {:>13}", "# algorithm", "threads", "build", "verify (GiB/s)");
    for speed in trees {
        let _ = writeln!(
            text,
            "{:<12} {:<10} {:>8.2} {:>13.2}",
            speed.algorithm, speed.threads, speed.build, speed.verify
        );
    }
    if let Some((path, speed)) = read {
        let _ = writeln!(text, "# reading {}\n{speed:.2} GiB/s", path.display());
    }
    text
}

pub(crate) fn json(benchmark: &Benchmark) -> Value {
    let Benchmark { processor, block_size, mebibytes, backends, trees, read } = benchmark;
    json!({
        "command": "benchmark",
        "processor": processor,
        "block_size": block_size.get(),
        "tree_mebibytes": mebibytes,
        "backends": backends.iter().map(|speed| json!({
            "algorithm": speed.algorithm.name(),
            "backend": speed.kind.name(),
            "gib_per_second": speed.gib_per_second,
            "cycles_per_byte": speed.cycles_per_byte,
        })).collect::<Vec<_>>(),
        "trees": trees.iter().map(|speed| json!({
            "algorithm": speed.algorithm.name(),
            "threads": speed.threads,
            "build_gib_per_second": speed.build,
            "verify_gib_per_second": speed.verify,
        })).collect::<Vec<_>>(),
        "read": read.as_ref().map(|(path, speed)| json!({
            "path": path.display().to_string(),
            "gib_per_second": speed,
        })),
    })
}
