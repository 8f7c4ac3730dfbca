//! `cargo demo`: a registry and users on this machine, really chatting.
//!
//! With a terminal the newcomer is alice and talks to bob, a small bot made of `p2pctl listen` and `p2pctl
//! send`. Without one it prints a transcript of real commands with their output, and fails if any of them
//! does not do what it should. Everything happens in temporary folders, which are removed at the end.

mod talk;
mod transcript;

use std::{
    io::{self, IsTerminal as _, Write as _},
    process::ExitCode,
};

/// Why the demo stopped.
#[derive(Debug, thiserror::Error)]
enum DemoError {
    /// The terminal or a pipe is gone.
    #[error("cannot write: {0}")]
    Write(#[from] io::Error),
    /// A command did not do what it should.
    #[error("`{command}` exited with {code:?}, expected {expected}: {stderr}")]
    Code { command: String, code: Option<i32>, expected: i32, stderr: String },
    /// A command did not tell what it should.
    #[error("`{command}` did not print {expected:?}, but: {stdout}")]
    Text { command: String, expected: String, stdout: String },
    /// p2pctl could not be run on the terminal.
    #[error("cannot run p2pctl: {0}")]
    Run(#[source] io::Error),
}

fn main() -> ExitCode {
    outlive_interrupts();
    let interactive = io::stdin().is_terminal() && io::stdout().is_terminal();
    let result = if interactive { talk::run() } else { transcript::run() };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "the demo failed: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Ctrl-C ends the programs that we run, not us: what we started must be cleaned up.
fn outlive_interrupts() {
    std::thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        if let Ok(runtime) = runtime {
            runtime.block_on(async { while tokio::signal::ctrl_c().await.is_ok() {} });
        }
    });
}
