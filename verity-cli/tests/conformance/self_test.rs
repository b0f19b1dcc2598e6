//! The reader of scripts and the comparison, on examples.

use std::collections::BTreeMap;

use super::compare::{Channel, File, Seen, compare};
use super::script::{Allowed, Case, Script};

/// Checks the reader itself.
pub(crate) fn check_parser() {
    let script = Script::parse("file", "first\n## one\n#~ stderr code: why\necho 1\n## two\necho 2\n");
    assert_eq!(script.setup, "first\n");
    assert_eq!(script.cases.len(), 2);
    let [one, two] = script.cases.as_slice() else { unreachable!("two cases") };
    assert_eq!((one.name.as_str(), one.body.as_str()), ("one", "echo 1\n"));
    let allowed = Allowed { channels: vec![Channel::Stderr, Channel::Code], reason: "why".to_owned() };
    assert_eq!(one.allowed, [allowed]);
    assert!(two.allowed.is_empty());
    assert!(script.text(two).ends_with("first\n\necho 2\n"));
    assert_eq!(script.title(one), "file: one");
}

/// Checks that a difference is seen, in every channel, and that the rules hide no other.
pub(crate) fn check_compare() {
    let seen = |stdout: &str, stderr: &str| Seen {
        stdout: stdout.to_owned(),
        stderr: stderr.to_owned(),
        code: Some(0),
        files: BTreeMap::new(),
    };
    let none = Case::default();
    let one = seen("Data block size: \t4096\n# debug\n", "Usage: veritysetup x\n   [y]\nlast\n");
    let two = seen("Data block size: \t4096 [bytes]\n# other\n", "last\n");
    let compared = compare(&none, &one, &two, true);
    assert_eq!((compared.to_string(), compared.unexpected), ("differs: debug, usage".to_owned(), None));
    for other in [
        seen("Data block size: \t512\n", "last\n"),
        seen("Data block size: \t4096\n", "last\nmore\n"),
        Seen { code: Some(1), ..two.clone() },
        Seen {
            files: BTreeMap::from([("f".to_owned(), File { kind: "file", mode: 0o600, bytes: vec![1] })]),
            ..two.clone()
        },
    ] {
        assert!(compare(&none, &one, &other, true).unexpected.is_some(), "{other:?}");
    }
    let allowed = Allowed { channels: vec![Channel::Stderr], reason: "why".to_owned() };
    let case = Case { allowed: vec![allowed], ..Case::default() };
    let compared = compare(&case, &two, &seen("Data block size: \t4096\n", "other\n"), true);
    assert_eq!((compared.reasons.last().map(String::as_str), compared.unexpected), (Some("why"), None));
    assert!(compare(&case, &two, &two, true).unexpected.is_some(), "an allowance that is not used");
    assert!(compare(&case, &two, &two, false).unexpected.is_none(), "with another release it may be");
}
