//! How answers look to people. Text is for eyes alone and may change; scripts use `--json`.
//!
//! Names, keys and addresses are safe by their types; a note, and everything else that somebody wrote, goes
//! through [`Escaped`].

use std::fmt::{Display, Write as _};

use p2pchat_host::terminal::Escaped;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::admin::answer::{
    Invite, Invites, MemberItem, Room, RoomState, Rooms, Session, Sessions, Time, User, UserRoom,
    Users,
};

/// An answer that can be shown.
pub(super) trait Show {
    /// Appends its lines.
    fn show(&self, text: &mut Text);
}

/// Text under construction.
#[derive(Debug, Default)]
pub(super) struct Text {
    buffer: String,
    /// Of the columns of a table; empty before its header.
    widths: Vec<usize>,
}

impl Text {
    /// What was appended since the last time.
    pub(super) fn take(&mut self) -> String {
        std::mem::take(&mut self.buffer)
    }

    fn line(&mut self, line: impl Display) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.buffer, "{line}");
    }

    /// Appends rows; the first ones decide how wide the columns are, and get a header.
    fn rows<const N: usize>(&mut self, header: [&str; N], rows: Vec<[String; N]>) {
        if self.widths.is_empty() {
            let widest = |column: usize| {
                let cells = rows.iter().map(|row| row[column].chars().count());
                cells.chain([header[column].len()]).max().unwrap_or(0)
            };
            self.widths = (0..N).map(widest).collect();
            self.row(&header);
        }
        for row in rows {
            self.row(&row);
        }
    }

    fn row<T: Display, const N: usize>(&mut self, cells: &[T; N]) {
        let padded: Vec<String> =
            cells.iter().zip(&self.widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        self.line(padded.join("  ").trim_end());
    }
}

/// The word of a plain enum, as in JSON without the quotes.
fn word<T: Serialize>(value: &T) -> String {
    match serde_json::to_value(value) {
        Ok(Value::String(word)) => word.replace('_', " "),
        _ => "?".to_owned(),
    }
}

fn time(time: Time) -> String {
    // To the second, without the letters between date and time.
    let text = time.to_string();
    text.get(..19).map_or_else(|| text.clone(), |text| text.replace('T', " "))
}

fn or_dash(value: Option<impl Display>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

fn ago(ms: Option<u64>) -> String {
    match ms {
        None => "-".to_owned(),
        Some(ms) if ms < 10_000 => format!("{ms} ms ago"),
        Some(ms) => format!("{} s ago", ms / 1000),
    }
}

impl Show for Users {
    fn show(&self, text: &mut Text) {
        let rows = self.users.iter().map(|user| {
            [
                user.username.to_string(),
                word(&user.state),
                word(&user.presence),
                time(user.created),
                or_dash(user.session.map(time)),
            ]
        });
        text.rows(["USER", "STATE", "PRESENCE", "CREATED (UTC)", "SESSION SINCE"], rows.collect());
    }
}

impl Show for User {
    fn show(&self, text: &mut Text) {
        let item = &self.item;
        text.line(format_args!("{}: {}", item.username, word(&item.state)));
        text.line(format_args!("  created: {}", time(item.created)));
        if let Some(invitation) = self.invited_by {
            text.line(format_args!("  invitation: {invitation}"));
        }
        if let Some(key) = &self.key {
            text.line(format_args!("  key: {key}"));
        }
        if let Some(opened) = item.session {
            text.line(format_args!("  session: {}, since {}", word(&item.presence), time(opened)));
        }
        if self.last_hello_ms_ago.is_some() {
            let (ago, from) = (ago(self.last_hello_ms_ago), or_dash(self.address));
            text.line(format_args!("  last HELLO: {ago}, from {from}"));
        }
        for UserRoom { room, role } in &self.rooms {
            text.line(format_args!("  room: {room}, as {}", word(role)));
        }
    }
}

impl Show for Sessions {
    fn show(&self, text: &mut Text) {
        let rows = self.sessions.iter().map(|session| {
            [
                session.username.to_string(),
                word(&session.presence),
                time(session.opened),
                ago(session.last_hello_ms_ago),
                or_dash(session.address),
            ]
        });
        text.rows(["USER", "PRESENCE", "OPENED (UTC)", "LAST HELLO", "FROM"], rows.collect());
    }
}

impl Show for Session {
    fn show(&self, text: &mut Text) {
        text.line(format_args!("{}: session {}", self.username, word(&self.state)));
    }
}

impl Show for Rooms {
    fn show(&self, text: &mut Text) {
        let rows = self.rooms.iter().map(|room| {
            [
                room.room.to_string(),
                room.owner.to_string(),
                word(&room.access),
                room.member_count.to_string(),
            ]
        });
        text.rows(["ROOM", "OWNER", "ACCESS", "MEMBERS"], rows.collect());
    }
}

impl Show for Room {
    fn show(&self, text: &mut Text) {
        let item = &self.item;
        let deleted = if self.state == RoomState::Deleted { ": deleted" } else { "" };
        text.line(format_args!("#{}{deleted}", item.room));
        text.line(format_args!("  id: {}", self.id.0));
        text.line(format_args!("  access: {}", word(&item.access)));
        text.line(format_args!("  history: {}", word(&self.history)));
        text.line(format_args!("  epoch: {}", item.epoch));
        for MemberItem { username, role, presence } in &self.members {
            let (role, presence) = (word(role), word(presence));
            text.line(format_args!("  member: {username}, {role}, {presence}"));
        }
    }
}

impl Show for Invites {
    fn show(&self, text: &mut Text) {
        let rows = self.invites.iter().map(|invite| {
            [
                invite.id.to_string(),
                word(&invite.state),
                format!("{}/{}", invite.used, invite.uses),
                time(invite.expires),
                Escaped::new(&invite.note).to_string(),
            ]
        });
        text.rows(["ID", "STATE", "USED", "EXPIRES (UTC)", "NOTE"], rows.collect());
    }
}

impl Show for Invite {
    fn show(&self, text: &mut Text) {
        let (id, state) = (self.id, word(&self.state));
        text.line(format_args!("invitation {id}: {state}, {} of {} used", self.used, self.uses));
        text.line(format_args!("  expires: {}", time(self.expires)));
        if !self.note.is_empty() {
            text.line(format_args!("  note: {}", Escaped::new(&self.note)));
        }
        if let Some(code) = &self.code {
            text.line(format_args!("  code: {}", Escaped::new(code)));
            text.line("  It is not shown again: p2pctl create-account USER --registry ADDRESS --invite CODE");
        }
    }
}

/// Figures of any shape: each gets a line with the way to it.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub(super) struct Figures(pub(super) Value);

impl Show for Figures {
    fn show(&self, text: &mut Text) {
        figures(&self.0, "", text);
    }
}

fn figures(value: &Value, way: &str, text: &mut Text) {
    match value {
        Value::Object(fields) if fields.contains_key("buckets") => {
            let number = |name: &str| fields.get(name).and_then(Value::as_f64).unwrap_or(0.0);
            let (count, sum) = (number("count"), number("sum"));
            let mean = if count > 0.0 { sum / count } else { 0.0 };
            text.line(format_args!("{way}: {count} values, {mean:.6} on average"));
        }
        Value::Object(fields) => {
            for (name, value) in fields {
                let name = Escaped::new(name);
                let way = if way.is_empty() { name.to_string() } else { format!("{way}.{name}") };
                figures(value, &way, text);
            }
        }
        Value::String(word) if way != "schema" => {
            text.line(format_args!("{way}: {}", Escaped::new(word)))
        }
        Value::String(_) => {}
        other => text.line(format_args!("{way}: {other}")),
    }
}
