//! peerd's entry.

use std::process::ExitCode;

fn main() -> ExitCode {
    peerd::run_process()
}
