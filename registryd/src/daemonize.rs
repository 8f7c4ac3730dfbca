//! Into the background, and back to the caller only when the registry serves or has failed.
//!
//! The fork comes before any thread and any runtime. A pipe ties the two: the child writes one line when
//! it serves, or the reason why it does not; its end without a line is a failure as well.
//!
//! This is the only file that names the crate `daemonize`.

use std::io::{self, PipeReader, PipeWriter, Read as _, Write as _};

use daemonize::{Daemonize, Outcome};

/// The child's line when it serves begins with this; the address follows.
const READY: &str = "ready ";
const FAILED: &str = "failed ";

/// Longest line that the parent reads.
const LINE_BYTES_MAX: u64 = 4096;

/// Why there is no daemon.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DaemonizeError {
    #[error("cannot make a pipe: {0}")]
    Pipe(#[from] io::Error),
    #[error("cannot go into the background: {0}")]
    Fork(#[from] daemonize::Error),
}

/// Which of the two processes this is.
pub(crate) enum Side {
    /// The caller's: the daemon serves at this address, or this is why not with its exit code.
    Parent(Result<String, Failed>),
    /// The daemon's: to say how it went.
    Child(Reporter),
}

/// The daemon did not start.
pub(crate) struct Failed {
    pub(crate) exit_code: u8,
    pub(crate) reason: String,
}

/// Says once how the start went.
pub(crate) struct Reporter(PipeWriter);

impl Reporter {
    /// The registry serves. A caller that went away needs no answer.
    pub(crate) fn ready(mut self, address: &str) {
        let _ = writeln!(self.0, "{READY}{address}");
    }

    /// It does not.
    pub(crate) fn failed(mut self, exit_code: u8, reason: &str) {
        let _ = writeln!(self.0, "{FAILED}{exit_code} {reason}");
    }
}

/// Forks. The child leaves session, terminal and folder; its standard streams are closed.
pub(crate) fn fork() -> Result<Side, DaemonizeError> {
    let (reader, writer) = io::pipe()?;
    match Daemonize::new().umask(0o077).execute() {
        Outcome::Parent(outcome) => {
            outcome?;
            drop(writer);
            Ok(Side::Parent(wait(reader)?))
        }
        Outcome::Child(outcome) => {
            drop(reader);
            outcome?;
            Ok(Side::Child(Reporter(writer)))
        }
    }
}

fn wait(reader: PipeReader) -> io::Result<Result<String, Failed>> {
    let mut line = String::new();
    reader.take(LINE_BYTES_MAX).read_to_string(&mut line)?;
    let line = line.trim_end();
    if let Some(address) = line.strip_prefix(READY) {
        return Ok(Ok(address.to_owned()));
    }
    let told = line.strip_prefix(FAILED).and_then(|rest| rest.split_once(' '));
    let (exit_code, reason) = match told {
        Some((code, reason)) => (code.parse().unwrap_or(1), reason.to_owned()),
        None => (1, "the daemon ended before it served".to_owned()),
    };
    Ok(Err(Failed { exit_code, reason }))
}
