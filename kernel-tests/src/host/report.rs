//! What came out, for people and for programs.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;

use crate::case::Case;
use crate::protocol::Verdict;

use super::kernels::Kernel;

/// How one case came out on one kernel.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Outcome {
    /// The verdict.
    pub(super) verdict: Verdict,
    /// Time in the guest, in milliseconds.
    pub(super) millis: u64,
    /// What it said on the way.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) said: Vec<String>,
    /// The guest's console, where it is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) console: Option<PathBuf>,
}

/// Outcomes by index of case and kernel. A pair that is not in it was not run: the case does not speak of the kernel.
pub(super) type Outcomes = BTreeMap<(usize, usize), Outcome>;

/// Number of outcomes of each kind.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct Counts {
    /// As claimed.
    pub(super) passed: usize,
    /// Not as claimed.
    pub(super) failed: usize,
    /// Could not run.
    pub(super) skipped: usize,
}

impl Counts {
    /// Counts.
    pub(super) fn of(outcomes: &Outcomes) -> Self {
        let mut counts = Self::default();
        for outcome in outcomes.values() {
            match outcome.verdict {
                Verdict::Passed => counts.passed += 1,
                Verdict::Failed(_) => counts.failed += 1,
                Verdict::Skipped(_) => counts.skipped += 1,
            }
        }
        counts
    }

    /// Adds another run's.
    pub(super) fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }

    /// The closing line.
    pub(super) fn line(self) -> String {
        format!("{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

/// A table of cases and kernels with times, and below it each failure and each skipped case.
pub(super) fn table(cases: &[Case], kernels: &[Kernel], outcomes: &Outcomes) -> String {
    let width = cases.iter().map(|case| case.name.len()).max().unwrap_or(0);
    let columns: Vec<usize> = kernels.iter().map(|kernel| kernel.label.len().max(12)).collect();
    let mut text = format!("{:width$}", "");
    for (kernel, column) in kernels.iter().zip(&columns) {
        text.push_str(&format!("  {:>column$}", kernel.label));
    }
    text.push('\n');
    for (index, case) in cases.iter().enumerate() {
        text.push_str(&format!("{:width$}", case.name));
        for (kernel, column) in columns.iter().enumerate() {
            let cell = outcomes.get(&(index, kernel)).map_or_else(|| "-".to_owned(), cell);
            text.push_str(&format!("  {cell:>column$}"));
        }
        text.push('\n');
    }
    for ((case, kernel), outcome) in outcomes {
        let (word, why) = match &outcome.verdict {
            Verdict::Passed => continue,
            Verdict::Failed(why) => ("FAILED", why),
            Verdict::Skipped(why) => ("skipped", why),
        };
        let (Some(case), Some(kernel)) = (cases.get(*case), kernels.get(*kernel)) else { continue };
        text.push_str(&format!("\n{word} {} on {}: {why}\n", case.name, kernel.version));
        if let Some(console) = &outcome.console {
            text.push_str(&format!("  console: {}\n", console.display()));
        }
    }
    text.push('\n');
    for kernel in kernels {
        text.push_str(&format!("{} is Linux {}\n", kernel.label, kernel.version));
    }
    text
}

fn cell(outcome: &Outcome) -> String {
    match outcome.verdict {
        Verdict::Passed => seconds(outcome.millis),
        Verdict::Failed(_) => "FAILED".to_owned(),
        Verdict::Skipped(_) => "skipped".to_owned(),
    }
}

/// Milliseconds as seconds.
pub(super) fn seconds(millis: u64) -> String {
    format!("{}.{:02} s", millis / 1000, millis % 1000 / 10)
}

/// One outcome as a line of JSON.
pub(super) fn json(case: &Case, kernel: &Kernel, round: u32, outcome: &Outcome) -> String {
    #[derive(Serialize)]
    struct Line<'a> {
        case: &'a str,
        kernel: &'a str,
        version: &'a str,
        round: u32,
        #[serde(flatten)]
        outcome: &'a Outcome,
    }
    let line = Line { case: &case.name, kernel: &kernel.label, version: &kernel.version, round, outcome };
    // Strings and numbers only: nothing in it can fail to be written.
    serde_json::to_string(&line).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(verdict: Verdict) -> Outcome {
        Outcome { verdict, millis: 1234, said: Vec::new(), console: None }
    }

    fn fixture() -> (Vec<Case>, Vec<Kernel>, Outcomes) {
        let cases = ["a/one", "a/two"].map(|name| Case::new(name, "", |_| Ok(()))).to_vec();
        let kernel = |label: &str| Kernel {
            label: label.into(),
            version: format!("{label}.0-test"),
            image: PathBuf::new(),
            modules: PathBuf::new(),
        };
        let outcomes = Outcomes::from([
            ((0, 0), outcome(Verdict::Passed)),
            ((0, 1), outcome(Verdict::Skipped("no such disk".into()))),
            ((1, 1), outcome(Verdict::Failed("it went wrong".into()))),
        ]);
        (cases, vec![kernel("6.1"), kernel("7.x")], outcomes)
    }

    #[test]
    fn the_table_names_all() {
        let (cases, kernels, outcomes) = fixture();
        let text = table(&cases, &kernels, &outcomes);
        let line =
            |name: &str| text.lines().find(|line| line.starts_with(name)).unwrap_or_default().to_owned();
        assert_eq!(line("a/one").split_whitespace().collect::<Vec<_>>(), ["a/one", "1.23", "s", "skipped"]);
        assert_eq!(line("a/two").split_whitespace().collect::<Vec<_>>(), ["a/two", "-", "FAILED"]);
        assert!(text.contains("FAILED a/two on 7.x.0-test: it went wrong"), "{text}");
        assert!(text.contains("6.1 is Linux 6.1.0-test"), "{text}");
    }

    #[test]
    fn counting() {
        let (_, _, outcomes) = fixture();
        let mut counts = Counts::of(&outcomes);
        assert_eq!(counts.line(), "1 passed, 1 failed, 1 skipped");
        counts.add(counts);
        assert_eq!(counts, Counts { passed: 2, failed: 2, skipped: 2 });
    }

    #[test]
    fn a_line_of_json_has_the_verdict_and_its_reason() {
        let (cases, kernels, outcomes) = fixture();
        let line = json(&cases[1], &kernels[1], 3, &outcomes[&(1, 1)]);
        let value: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(value["case"], "a/two");
        assert_eq!(value["verdict"]["is"], "failed");
        assert_eq!(value["verdict"]["why"], "it went wrong");
        assert_eq!(value["round"], 3);
    }
}
