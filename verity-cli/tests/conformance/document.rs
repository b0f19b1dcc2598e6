//! The list of differences and the page that gives the reason for each have to say the same.

use std::collections::BTreeSet;

use super::script::Script;

const PAGE: &str = include_str!("../../../docs/veritysetup.md");

/// The heading above the table of what is better under both names, and of what differs.
const TABLES: [&str; 2] = ["## What verity does better", "## How the drop-in differs from veritysetup"];

/// Reasons that no script names: the comparison applies them by rule.
const RULES: [&str; 2] = ["debug", "usage"];

/// Fails unless every reason that a script gives has a row in the page, and every row a script.
pub(crate) fn check(scripts: &[Script]) {
    let cases = scripts.iter().flat_map(|script| &script.cases);
    let mut used: BTreeSet<&str> =
        cases.flat_map(|case| &case.allowed).map(|allowed| allowed.reason.as_str()).collect();
    used.extend(RULES);
    let [better, differences] = TABLES.map(keys);
    for reason in &used {
        assert!(
            better.contains(reason) || differences.contains(reason),
            "a script may differ because of {reason:?}, which docs/veritysetup.md does not tell"
        );
    }
    for key in differences {
        assert!(used.contains(key), "docs/veritysetup.md tells of {key:?}, which no script shows");
    }
}

/// The first cells of the rows of the table below a heading. In the table of what is better, only of rows that say that
/// the drop-in does it, too.
fn keys(heading: &str) -> BTreeSet<&'static str> {
    let (_, below) = PAGE.split_once(heading).unwrap_or_else(|| panic!("no {heading:?}"));
    let section = below.split_once("\n## ").map_or(below, |(section, _)| section);
    let rows = section.lines().skip_while(|line| !line.starts_with("|---"));
    let rows = rows.filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"));
    let rows = rows.filter(|row| !row.ends_with("| own name"));
    let keys: BTreeSet<_> = rows.filter_map(|row| Some(row.split_once(" | ")?.0.trim_matches('`'))).collect();
    assert!(!keys.is_empty(), "{heading}: no table");
    keys
}
