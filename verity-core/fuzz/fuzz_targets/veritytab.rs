//! veritytab: every entry and every error is of a line that is there, and no name is taken twice.
#![no_main]

use std::collections::HashSet;

use libfuzzer_sys::fuzz_target;
use verity_core::veritytab::parse;

fuzz_target!(|text: &str| {
    let lines = text.lines().count();
    let (mut last, mut names) = (0, HashSet::new());
    for entry in parse(text) {
        let line = match &entry {
            Ok(entry) => entry.line,
            Err(error) => error.line,
        };
        assert!(last < line && line <= lines);
        last = line;
        match entry {
            Ok(entry) => assert!(names.insert(entry.name) && entry.data.path().is_absolute()),
            Err(error) => assert!(error.to_string().len() < 4096),
        }
    }
});
