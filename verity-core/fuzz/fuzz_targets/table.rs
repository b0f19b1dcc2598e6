//! Tables, status lines and kernel versions: what is read is written as text that reads the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use verity_core::device::{KernelVersion, Status, Table};

fuzz_target!(|text: &str| {
    if let Ok(table) = text.parse::<Table>() {
        assert_eq!(table.to_string().parse::<Table>().ok().as_ref(), Some(&table));
    }
    if let Ok(status) = text.parse::<Status>() {
        assert_eq!(status.to_string().parse::<Status>().ok().as_ref(), Some(&status));
    }
    let _ = text.parse::<KernelVersion>();
});
