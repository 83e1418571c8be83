//! The node program, for tests; `bench node` is the same.

use std::process::ExitCode;

fn main() -> ExitCode {
    let options = std::env::args().nth(1).unwrap_or_default();
    match ms_tests::run_node(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("node: {failure}");
            ExitCode::FAILURE
        }
    }
}
