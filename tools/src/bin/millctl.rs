//! `millctl`: see [`millrace_tools::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    millrace_tools::cli::main().into()
}
