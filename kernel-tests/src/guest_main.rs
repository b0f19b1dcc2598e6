//! The guest program; see the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    kernel_tests::guest::main()
}
