//! The command `ms`.

use std::process::ExitCode;

fn main() -> ExitCode {
    ms_cli::main()
}
