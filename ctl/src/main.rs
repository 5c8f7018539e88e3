//! The command line's binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    deployctl::cli::main()
}
