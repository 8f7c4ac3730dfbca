//! How answers look to people, and the name of their schema.
//!
//! Text is for eyes alone and may change; scripts use `--json`. Times are UTC. Names, keys, ids and
//! addresses are safe by their types; all other text of others goes through [`Escaped`].
//!
//! [`Escaped`]: p2pchat_host::terminal::Escaped

mod answer;
mod event;
mod word;

use std::fmt::{Display, Write};

use peerd_proto::control::Timestamp;
use serde::Serialize;

pub use word::{chat_state, message_state};

/// An answer that can be printed.
pub trait Show: Serialize {
    /// The NAME in `p2pctl.NAME/1`.
    fn schema(&self) -> &'static str;

    /// Appends the text for people, each line with its line feed.
    fn show(&self, text: &mut Text);
}

/// Text for people under construction.
#[derive(Debug)]
pub struct Text {
    buffer: String,
    color: bool,
}

impl Text {
    /// Empty; with or without colours.
    pub fn new(color: bool) -> Self {
        Self { buffer: String::new(), color }
    }

    /// Appends a line.
    pub fn line(&mut self, line: impl Display) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.buffer, "{line}");
    }

    /// `value` in bold, where there are colours.
    pub fn bold(&self, value: impl Display) -> String {
        if self.color { format!("\x1b[1m{value}\x1b[0m") } else { value.to_string() }
    }

    /// `value` dimmed, where there are colours.
    pub fn dim(&self, value: impl Display) -> String {
        if self.color { format!("\x1b[2m{value}\x1b[0m") } else { value.to_string() }
    }

    /// What has been written.
    pub fn into_string(self) -> String {
        self.buffer
    }
}

/// The time of day of a timestamp, UTC.
fn clock(time: Timestamp) -> String {
    time.to_string().get(11..19).unwrap_or_default().to_owned()
}

/// Date and time to the second, UTC.
fn date(time: Timestamp) -> String {
    time.to_string().get(..19).unwrap_or_default().replace('T', " ")
}

fn or_dash(value: Option<impl Display>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

fn list(values: impl IntoIterator<Item = impl Display>) -> String {
    let values: Vec<String> = values.into_iter().map(|value| value.to_string()).collect();
    if values.is_empty() { "-".to_owned() } else { values.join(", ") }
}
