//! Going to the background, and telling whoever started peerd how the start went.
//!
//! The fork comes before any thread is made. The parent returns only when the daemon says through a pipe that
//! it is ready, or why it is not; a daemon that dies without a word is a failure. Standard output is
//! written here alone.

use std::{
    io::{self, PipeReader, PipeWriter, Read as _, Write as _},
    process::ExitCode,
};

use daemonize::{Daemonize, Outcome};
use registryd_proto::Code;
use serde::{Deserialize, Serialize};

use crate::{config::Settings, error::StartError};

/// The longest report of a daemon.
const REPORT_BYTES_MAX: u64 = 64 * 1024;

/// The line of `--ready-json`.
#[derive(Debug, Serialize)]
struct Ready<'a> {
    schema: &'a str,
    profile: &'a str,
    socket: &'a str,
}

/// What the daemon tells its parent.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Told {
    Ready,
    Failed { exit: u8, message: String },
}

/// Which of the two processes this is after the fork.
#[derive(Debug)]
pub enum Role {
    /// The daemon, or peerd in the foreground.
    Daemon(Report),
    /// The parent: all is said, end with this code.
    Parent(ExitCode),
}

/// Tells how the start went, once.
#[derive(Debug)]
pub struct Report {
    pipe: Option<PipeWriter>,
    ready_line: Option<String>,
}

/// Forks if the settings say so.
///
/// # Errors
/// [`StartError::Daemonize`] or [`StartError::Pipe`].
pub fn detach(settings: &Settings) -> Result<Role, StartError> {
    let ready_line = settings.ready_json.then(|| {
        let socket = settings.socket.to_string_lossy();
        let ready = Ready { schema: "peerd.ready/1", profile: &settings.profile, socket: &socket };
        serde_json::to_string(&ready).expect("three texts are plain JSON") + "\n"
    });
    if !settings.daemonize {
        return Ok(Role::Daemon(Report { pipe: None, ready_line }));
    }
    let (reader, writer) = io::pipe().map_err(StartError::Pipe)?;
    match Daemonize::new().working_directory("/").umask(0o077).execute() {
        Outcome::Parent(Err(error)) | Outcome::Child(Err(error)) => {
            Err(StartError::Daemonize(error))
        }
        Outcome::Parent(Ok(_)) => {
            drop(writer);
            Ok(Role::Parent(wait(reader, ready_line.as_deref())))
        }
        Outcome::Child(Ok(_)) => Ok(Role::Daemon(Report { pipe: Some(writer), ready_line: None })),
    }
}

fn wait(reader: PipeReader, ready_line: Option<&str>) -> ExitCode {
    let mut text = String::new();
    let told = match reader.take(REPORT_BYTES_MAX).read_to_string(&mut text) {
        Ok(_) => serde_json::from_str(&text).ok(),
        Err(_) => None,
    };
    match told {
        Some(Told::Ready) => {
            say(ready_line);
            ExitCode::SUCCESS
        }
        Some(Told::Failed { exit, message }) => {
            complain(&message);
            ExitCode::from(exit)
        }
        None => {
            complain("the daemon died before it was ready");
            ExitCode::from(Code::Internal.exit_code())
        }
    }
}

impl Report {
    /// The daemon serves.
    pub fn ready(self) {
        match self.pipe {
            Some(pipe) => tell(pipe, &Told::Ready),
            None => say(self.ready_line.as_deref()),
        }
    }

    /// It does not, and ends.
    pub fn failed(self, error: &StartError) {
        let message = error.to_line();
        match self.pipe {
            Some(pipe) => tell(pipe, &Told::Failed { exit: error.code().exit_code(), message }),
            None => complain(&message),
        }
    }
}

fn tell(mut pipe: PipeWriter, told: &Told) {
    let line = serde_json::to_vec(told).expect("a report is plain JSON");
    if let Err(error) = pipe.write_all(&line) {
        tracing::debug!(%error, "whoever started this daemon is gone");
    }
}

/// A closed standard output is no failure.
fn say(line: Option<&str>) {
    let Some(line) = line else { return };
    let mut out = io::stdout().lock();
    if let Err(error) = out.write_all(line.as_bytes()).and_then(|()| out.flush()) {
        tracing::debug!(%error, "standard output is closed");
    }
}

/// One line on standard error.
pub(crate) fn complain(message: &str) {
    if let Err(error) = writeln!(io::stderr().lock(), "peerd: {message}") {
        tracing::debug!(%error, "standard error is closed");
    }
}
