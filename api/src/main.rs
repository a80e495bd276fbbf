//! The `tandem` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    tandem_api::cli::main()
}
