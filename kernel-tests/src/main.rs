//! The harness; see the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    kernel_tests::host::main()
}
