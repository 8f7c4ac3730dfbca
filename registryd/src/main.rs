//! The binary of registryd: arguments in, exit code out.

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    registryd::run(&registryd::Cli::parse())
}
