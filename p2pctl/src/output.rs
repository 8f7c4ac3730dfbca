//! stdout and stderr; no other file writes to them.
//!
//! The answer of a verb goes to stdout as text for people or, with `--json`, as one object a line whose
//! first field is its schema. Errors and remarks go to stderr. A reader that goes away (broken pipe) is no
//! failure: what was done is done; streams ask [`Output::is_closed`] and stop.

use std::io::{self, IsTerminal, Write};

use clap::ColorChoice;
use p2pchat_host::terminal::{Escaped, json_line};
use registryd_proto::Code;
use serde::Serialize;

use crate::{
    error::{Error, Report},
    show::{Show, Text},
};

/// The two streams and how to write to them.
#[derive(Debug)]
pub struct Output {
    json: bool,
    color: bool,
    closed: bool,
}

#[derive(Serialize)]
struct WithSchema<'a, T: Serialize> {
    schema: String,
    #[serde(flatten)]
    answer: &'a T,
}

impl Output {
    /// Colours are for text on a terminal: `Auto` obeys `NO_COLOR`.
    pub fn new(json: bool, color: ColorChoice) -> Self {
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let color = match color {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => !no_color && io::stdout().is_terminal(),
        };
        Self { json, color: color && !json, closed: false }
    }

    /// Whether answers are JSON.
    pub fn is_json(&self) -> bool {
        self.json
    }

    /// Whether text has colours.
    pub fn has_color(&self) -> bool {
        self.color
    }

    /// Whether the reader of stdout went away.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Prints the answer of a verb, and flushes.
    ///
    /// # Errors
    /// [`Error::Stdout`], but not for a broken pipe.
    pub fn answer<T: Show>(&mut self, answer: &T) -> Result<(), Error> {
        if self.json { self.json(answer.schema(), answer) } else { self.text(&self.render(answer)) }
    }

    /// Prints one object with `schema` (the NAME of `p2pctl.NAME/1`) in front, and flushes.
    ///
    /// # Errors
    /// [`Error::Stdout`], but not for a broken pipe.
    pub fn json<T: Serialize>(&mut self, schema: &str, answer: &T) -> Result<(), Error> {
        let object = WithSchema { schema: format!("p2pctl.{schema}/1"), answer };
        let json = serde_json::to_string(&object).map_err(|error| Error::Stdout(error.into()))?;
        self.text(&format!("{}\n", json_line(&json)))
    }

    /// The text of an answer, as [`Output::answer`] would print it.
    pub fn render<T: Show>(&self, answer: &T) -> String {
        let mut text = Text::new(self.color);
        answer.show(&mut text);
        text.into_string()
    }

    /// Writes text that is already safe to stdout, and flushes.
    ///
    /// # Errors
    /// [`Error::Stdout`], but not for a broken pipe.
    pub fn text(&mut self, text: &str) -> Result<(), Error> {
        if self.closed {
            return Ok(());
        }
        let mut stdout = io::stdout().lock();
        match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.closed = true;
                Ok(())
            }
            Err(error) => Err(Error::Stdout(error)),
        }
    }

    /// A remark for people on stderr; with `--json` nothing, for there stderr carries errors alone.
    pub fn remark(&mut self, text: &str) {
        if !self.json {
            self.complain(&format!("{}\n", Escaped::new(text)));
        }
    }

    /// Prints why a verb failed: one JSON object, or a line and a line with the hint.
    pub fn error(&mut self, report: &Report) {
        if self.json {
            let object = WithSchema { schema: "p2pctl.error/1".to_owned(), answer: report };
            if let Ok(json) = serde_json::to_string(&object) {
                self.complain(&format!("{}\n", json_line(&json)));
            }
            return;
        }
        let mut text = String::new();
        for (index, line) in report.message.trim_end().lines().enumerate() {
            let prefix = if index == 0 { "p2pctl: " } else { "" };
            text.push_str(&format!("{prefix}{}\n", Escaped::new(line)));
        }
        // Somebody has to compare the keys: all that is known of them is shown.
        if report.code == Code::UntrustedKey {
            for (name, value) in &report.details {
                let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                text.push_str(&format!("  {}: {}\n", Escaped::new(name), Escaped::new(&value)));
            }
        }
        if !report.hint.is_empty() {
            text.push_str(&format!("hint: {}\n", Escaped::new(&report.hint)));
        }
        self.complain(&text);
    }

    /// There is nobody to tell when stderr itself fails.
    fn complain(&mut self, text: &str) {
        let _ = io::stderr().lock().write_all(text.as_bytes());
    }
}
