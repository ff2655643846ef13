//! Arguments to exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    watchpost::cli::main()
}
