//! A candidate of an election, for tests.

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    match ms_tests::run_candidate(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("candidate: {failure}");
            ExitCode::FAILURE
        }
    }
}
