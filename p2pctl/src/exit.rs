//! How the process ends: 0, or the exit code of a [`Code`].

use std::process::ExitCode;

use registryd_proto::Code;

/// How a verb that printed its answer ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// All that was asked for is so: exit code 0.
    Done,
    /// The answer is on stdout, and it means this (a `status` without a session, a rejected chat).
    Code(Code),
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        match exit {
            Exit::Done => ExitCode::SUCCESS,
            Exit::Code(code) => ExitCode::from(code.exit_code()),
        }
    }
}
