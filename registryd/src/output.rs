//! stdout and stderr; no other file writes to them.
//!
//! Answers go to stdout, everything else to stderr. A reader that went away (broken pipe) is no failure:
//! what was done is done.

use std::io::{self, Write as _};

use serde::Serialize;

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

/// Prints what clap says: help and version are answers, the rest are errors of usage. Returns the exit code.
pub(crate) fn usage(error: &clap::Error) -> u8 {
    let _ = error.print();
    u8::try_from(error.exit_code()).unwrap_or(u8::MAX)
}
