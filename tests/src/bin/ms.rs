//! The command `ms`, built with every registry, for tests of its processes.

use std::process::ExitCode;

fn main() -> ExitCode {
    ms_cli::main()
}
