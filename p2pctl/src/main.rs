//! The program; all of it is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    p2pctl::run(std::env::args_os())
}
