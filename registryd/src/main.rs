//! The binary of registryd: arguments in, exit code out.

use std::process::ExitCode;

fn main() -> ExitCode {
    registryd::run(std::env::args_os())
}
