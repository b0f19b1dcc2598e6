//! Writes what was measured into the documentation.

use std::fs;
use std::path::Path;

use crate::cases::Bench;
use crate::chart::{self, Bar};
use crate::goals::Unit;
use crate::page;
use crate::report::{self, Outcome, Row};
use crate::stop::{Result, Stop};

/// Replaces the table in `docs/performance.md` and the chart beside it.
pub(crate) fn publish(rows: &[Row], about: &[String], bench: &Bench) -> Result<()> {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    let path = docs.join("performance.md");
    let mut part = String::from("![How many times as fast as the peer](performance.svg)\n\n");
    for line in about {
        part.push_str(&format!("- {line}\n"));
    }
    part.push('\n');
    part.push_str(&report::markdown(rows));
    let page = page::replaced(&fs::read_to_string(&path)?, &part).ok_or_else(|| {
        Stop::failed(format_args!("{path:?} has not the two marks, each once and in order"))
    })?;
    let subtitle = format!(
        "median of {} pairs; whiskers: least and most; red: floor; {}",
        bench.repetition.pairs,
        bench.machine.short()
    );
    let svg = chart::svg("How many times as fast as the peer", &subtitle, &bars(rows));
    fs::write(docs.join("performance.svg"), svg)?;
    fs::write(path, page)?;
    Ok(())
}

/// The cases whose figure is a speed-up: of the others, less is better.
fn bars(rows: &[Row]) -> Vec<Bar> {
    rows.iter()
        .filter_map(|row| {
            let Outcome::Measured(measured) = &row.outcome else { return None };
            (measured.figure.unit == Unit::Times).then(|| Bar {
                label: row.title.clone(),
                spread: measured.figure.spread,
                floor: row.goal.filter(|_| row.applies).map(|goal| goal.floor()),
            })
        })
        .collect()
}
