//! Scripts as users write them, in cases: what the two programs have to answer in the same way.
//!
//! A file is POSIX shell. What stands before the first case is run before each of them; a case starts with a line
//! `## NAME` and goes to the next one. A line `#~ CHANNEL...: REASON` in it allows these channels (`stdout`, `stderr`,
//! `code`, `files`) to differ; the reason is a key of the tables in `docs/veritysetup.md`.

use super::compare::Channel;

/// What every case can use: `run`, `blocks`, `flip` and the like.
const PRELUDE: &str = include_str!("prelude.sh");

/// A file of cases.
#[derive(Debug)]
pub(crate) struct Script {
    /// The file's name without its ending.
    pub(crate) name: &'static str,
    pub(super) setup: String,
    /// The cases, in the file's order.
    pub(crate) cases: Vec<Case>,
}

/// A case.
#[derive(Debug, Default)]
pub(crate) struct Case {
    /// What it is about, unique in its file.
    pub(crate) name: String,
    pub(super) body: String,
    /// In what the programs may differ, and why.
    pub(crate) allowed: Vec<Allowed>,
}

/// A difference that is meant.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Allowed {
    pub(crate) channels: Vec<Channel>,
    /// A key of the documentation's tables.
    pub(crate) reason: String,
}

impl Script {
    /// Reads a file.
    ///
    /// # Panics
    /// Where the file is not as described above: it is part of the tests.
    pub(crate) fn parse(name: &'static str, text: &str) -> Self {
        let mut script = Self { name, setup: String::new(), cases: Vec::new() };
        for line in text.lines() {
            if let Some(case) = line.strip_prefix("## ") {
                assert!(script.cases.iter().all(|other| other.name != case), "{name}: {case} is there twice");
                script.cases.push(Case { name: case.to_owned(), ..Case::default() });
            } else if let Some(allowed) = line.strip_prefix("#~ ") {
                let case = script.cases.last_mut().unwrap_or_else(|| panic!("{name}: {line}: in no case"));
                case.allowed.push(Allowed::parse(allowed));
            } else {
                let part = script.cases.last_mut().map_or(&mut script.setup, |case| &mut case.body);
                part.push_str(line);
                part.push('\n');
            }
        }
        assert!(!script.cases.is_empty(), "{name} has no case");
        script
    }

    /// The whole text that the shell gets for one case.
    pub(crate) fn text(&self, case: &Case) -> String {
        format!("{PRELUDE}\n{}\n{}", self.setup, case.body)
    }

    /// `FILE: NAME`, for tables and messages.
    pub(crate) fn title(&self, case: &Case) -> String {
        format!("{}: {}", self.name, case.name)
    }
}

impl Allowed {
    fn parse(text: &str) -> Self {
        let (channels, reason) = text.split_once(": ").unwrap_or_else(|| panic!("{text}: no reason"));
        let channels = channels.split(' ').map(Channel::of).collect();
        Self { channels, reason: reason.trim().to_owned() }
    }
}
