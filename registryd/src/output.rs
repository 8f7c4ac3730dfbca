//! stdout and stderr; no other file writes to them.
//!
//! Answers go to stdout, everything else to stderr. With `--json` an answer is one object a line, and a
//! failure one object on stderr with stdout empty. A reader that went away (broken pipe) is no failure: what
//! was done is done.

use std::{
    ffi::OsString,
    io::{self, Write},
};

use p2pchat_host::terminal::{Escaped, escaped_lines, json_line};
use registryd_proto::Code;
use serde::Serialize;

use crate::cli::{CliError, Report};

/// The line that says where the registry serves.
#[derive(Serialize)]
struct Ready<'a> {
    schema: &'static str,
    address: &'a str,
}

/// Says why registryd ends. A closed stderr is no failure.
pub(crate) fn complain(reason: &str) {
    let _ = writeln!(io::stderr(), "registryd: {reason}");
}

/// Says where the registry serves.
pub(crate) fn ready(address: &str) {
    let ready = Ready { schema: "registryd.ready/1", address };
    let line = serde_json::to_string(&ready).expect("two texts are plain JSON");
    let mut stdout = io::stdout();
    // Whoever started us may have gone; the registry serves all the same.
    let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
}

/// Where a subcommand answers.
#[derive(Debug)]
pub(crate) struct Output {
    json: bool,
    closed: bool,
}

impl Output {
    /// With JSON or text.
    pub(crate) fn new(json: bool) -> Self {
        Self { json, closed: false }
    }

    /// Whether answers are JSON.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// Whether the reader of stdout went away.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Writes an object, which is valid JSON in one line.
    ///
    /// # Errors
    /// [`CliError::Stdout`].
    pub(crate) fn json_line(&mut self, json: &str) -> Result<(), CliError> {
        self.text(&format!("{}\n", json_line(json)))
    }

    /// Writes text that is safe already.
    ///
    /// # Errors
    /// [`CliError::Stdout`].
    pub(crate) fn text(&mut self, text: &str) -> Result<(), CliError> {
        let mut stdout = io::stdout().lock();
        match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.closed = true;
                Ok(())
            }
            Err(error) => Err(CliError::Stdout(error)),
        }
    }

    /// Says why a subcommand failed, and returns the exit code.
    pub(crate) fn fail(&mut self, error: &CliError) -> u8 {
        let report = error.report();
        let Report { code, message, hint, .. } = &report;
        let text = if self.json {
            let json = serde_json::to_string(&report).expect("a report is plain JSON");
            format!("{}\n", json_line(&json))
        } else {
            let message = escaped_lines(message.trim_end());
            format!("registryd: {message}\nhint: {}\n", Escaped::new(hint))
        };
        // There is nobody to tell when stderr itself fails.
        let _ = io::stderr().lock().write_all(text.as_bytes());
        code.exit_code()
    }
}

/// Prints what clap says: help and version are answers, the rest are errors of usage. Returns the exit code.
pub(crate) fn usage(args: &[OsString], error: &clap::Error) -> u8 {
    let json = args.iter().skip(1).take_while(|arg| *arg != "--").any(|arg| arg == "--json");
    if error.use_stderr() && json {
        let text = error.render().to_string();
        let text = text.strip_prefix("error: ").unwrap_or(&text).trim_end().to_owned();
        return Output::new(json).fail(&CliError::Usage(text));
    }
    let _ = error.print();
    if error.use_stderr() { Code::Usage.exit_code() } else { 0 }
}
