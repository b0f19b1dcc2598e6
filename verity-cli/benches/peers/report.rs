//! The table: for a terminal and for a page.

use crate::goals::{Figure, Goal};

/// A case's line.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) title: String,
    pub(crate) goal: Option<Goal>,
    /// Whether the goal was set for a machine like this one, and for these sizes.
    pub(crate) applies: bool,
    pub(crate) outcome: Outcome,
}

/// What became of a case.
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    Measured(Measured),
    /// It could not be measured here, and why.
    Skipped(String),
}

#[derive(Clone, Debug)]
pub(crate) struct Measured {
    pub(crate) ours: String,
    pub(crate) peer: String,
    pub(crate) figure: Figure,
}

const HEADINGS: [&str; 6] = ["case", "ours", "peer", "ratio (least to most)", "floor", "met"];

impl Row {
    /// Whether the floor is reached; `None` where there is none, where it does not apply, or nothing was measured.
    pub(crate) fn met(&self) -> Option<bool> {
        match (&self.outcome, &self.goal) {
            (Outcome::Measured(measured), Some(goal)) if self.applies => {
                Some(goal.is_met_by(&measured.figure))
            }
            _ => None,
        }
    }

    fn cells(&self) -> [String; 6] {
        let dash = || "-".to_owned();
        let floor = self.goal.as_ref().map_or_else(dash, Goal::text);
        match &self.outcome {
            Outcome::Measured(Measured { ours, peer, figure }) => {
                let met = match (self.met(), &self.goal) {
                    (Some(true), _) => "yes".to_owned(),
                    (Some(false), _) => "no".to_owned(),
                    (None, Some(_)) => "n/a".to_owned(),
                    (None, None) => dash(),
                };
                [self.title.clone(), ours.clone(), peer.clone(), figure.text(), floor, met]
            }
            Outcome::Skipped(why) => {
                [self.title.clone(), dash(), dash(), format!("skipped: {why}"), floor, dash()]
            }
        }
    }
}

/// Columns as wide as what is in them.
pub(crate) fn text(rows: &[Row]) -> String {
    let mut lines = vec![HEADINGS.map(str::to_owned)];
    lines.extend(rows.iter().map(Row::cells));
    let mut widths = [0; HEADINGS.len()];
    for line in &lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut text = String::new();
    for line in lines {
        let cells: Vec<_> = line.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

pub(crate) fn markdown(rows: &[Row]) -> String {
    let line = |cells: &[String; 6]| format!("| {} |\n", cells.join(" | "));
    let mut text = line(&HEADINGS.map(str::to_owned));
    text.push_str("|---|---|---|---|---|---|\n");
    for row in rows {
        text.push_str(&line(&row.cells().map(|cell| cell.replace('|', "\\|"))));
    }
    text
}
