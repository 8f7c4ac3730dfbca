//! stdout and stderr; no other file writes to them.
//!
//! Answers go to stdout, everything else to stderr. With `--json` an answer is one object a line, and a
//! failure one object on stderr with stdout empty. A reader that went away (broken pipe) is no failure: what
//! was done is done.

use std::{
    ffi::OsString,
    io::{self, Write},
};

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
        self.text(&format!("{}\n", plain_json(json)))
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
            format!("{}\n", plain_json(&json))
        } else {
            let lines: Vec<String> = message.trim_end().lines().map(safe).collect();
            format!("registryd: {}\nhint: {}\n", lines.join("\n"), safe(hint))
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

/// Text that somebody wrote, in one line that does nothing to a terminal: what cannot be seen is spelt out.
pub(crate) fn safe(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\'' | '"' | '\\' => safe.push(c),
            // The standard library knows what can be printed: no control, no bidi, nothing invisible.
            _ => safe.extend(c.escape_debug()),
        }
    }
    safe
}

/// The same JSON in printable ASCII: other characters, which stand only inside its strings, are spelt out.
fn plain_json(json: &str) -> String {
    let mut plain = String::with_capacity(json.len());
    for c in json.chars() {
        if matches!(c, ' '..='~') {
            plain.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                plain.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What must never reach a terminal: escapes, line ends, bidi, what cannot be seen.
    const ATTACKS: &str = "\0\x07\x08\n\r\x1b\x7f\u{80}\u{9b}\u{9f}\u{200b}\u{200d}\u{202e}\u{2066}\u{2028}\u{feff}\u{e0041}";

    #[test]
    fn what_acts_on_a_terminal_is_spelt_out() {
        let shown = safe(ATTACKS);
        assert!(!shown.chars().any(|c| ATTACKS.contains(c)), "{shown}");
        let plain = "it's \"fine\" \\ שלום 日本語";
        assert_eq!(safe(plain), plain);
    }

    proptest! {
        #[test]
        fn json_says_the_same_in_ascii(text in any::<String>()) {
            let json = serde_json::to_string(&text).expect("text");
            let line = plain_json(&json);
            prop_assert!(line.chars().all(|c| matches!(c, ' '..='~')));
            prop_assert_eq!(serde_json::from_str::<String>(&line).expect("JSON"), text);
        }
    }
}
