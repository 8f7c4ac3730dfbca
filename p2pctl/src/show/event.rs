//! Events, as `listen` and `chat` print them.

use std::fmt::Write;

use p2pchat_host::terminal::Escaped;
use peerd_proto::control::EventKind;

use super::{
    Show, Text, clock, or_dash,
    word::{given_up, presence, waiting},
};
use crate::client::EventLine;

impl Show for EventLine {
    fn schema(&self) -> &'static str {
        "event"
    }

    fn show(&self, text: &mut Text) {
        let time = text.dim(clock(self.time));
        let what = match self.known() {
            Some(kind) => describe(&kind, text),
            None => self.describe_unknown(),
        };
        text.line(format_args!("{time} {what}"));
    }
}

impl EventLine {
    /// The event, if this version knows its type.
    pub fn known(&self) -> Option<EventKind> {
        let mut fields = self.fields.clone();
        fields.insert("type".to_owned(), self.kind.clone().into());
        serde_json::from_value(fields.into()).ok()
    }

    fn describe_unknown(&self) -> String {
        let mut what = format!("* {}", Escaped::new(&self.kind));
        for (name, value) in &self.fields {
            let (name, value) = (Escaped::new(name), value.to_string());
            // Writing to a String cannot fail.
            let _ = write!(what, " {name}={}", Escaped::new(&value));
        }
        what
    }
}

fn describe(kind: &EventKind, text: &Text) -> String {
    let target = |to: &Option<_>, room: &Option<_>| match (to, room) {
        (Some(user), _) => format!("{user}"),
        (None, room) => format!("#{}", or_dash(room.as_ref())),
    };
    match kind {
        EventKind::Message { from, room, body, .. } => {
            let place = room.as_ref().map_or_else(String::new, |room| format!("#{room} "));
            format!("{place}{}: {}", text.bold(from), Escaped::new(body))
        }
        EventKind::ChatRequest { from, chat: Some(_), .. } => {
            format!("* {from} asks for a chat: p2pctl accept {from}, or reject")
        }
        EventKind::ChatRequest { from, messages_waiting, .. } => {
            let waiting = waiting(*messages_waiting);
            format!("* {from} asks to be heard{waiting}: p2pctl accept {from}, or reject")
        }
        EventKind::ChatActive { peer, .. } => format!("* chat with {peer} is active"),
        EventKind::ChatRejected { peer, .. } => format!("* {peer} rejected the chat"),
        EventKind::ChatBusy { peer, .. } => format!("* {peer} is in another chat"),
        EventKind::ChatEnded { peer, .. } => format!("* chat with {peer} is over"),
        EventKind::ChatInterrupted { peer, .. } => {
            format!("* {peer} vanished; the chat goes on when it is back")
        }
        EventKind::Delivered { to, room, id } => {
            format!("* delivered to {}: {id}", target(to, room))
        }
        EventKind::Failed { to, room, id, code } => {
            format!("* not delivered to {}: {id} ({})", target(to, room), given_up(*code))
        }
        EventKind::RoomJoined { room } => format!("* joined #{room}"),
        EventKind::RoomLeft { room } => format!("* left #{room}"),
        EventKind::MemberJoined { room, member } => format!("#{room} * {member} joined"),
        EventKind::MemberLeft { room, member } => format!("#{room} * {member} left"),
        EventKind::Presence { peer, presence: state } => {
            format!("* {peer} is {}", presence(*state))
        }
        EventKind::RegistryUp {} => "* the registry answers".to_owned(),
        EventKind::RegistryDown {} => "* the registry does not answer".to_owned(),
        EventKind::KeyChanged { peer, old_key, new_key } => {
            let (old, new) = (Escaped::new(old_key), Escaped::new(new_key));
            format!("* {peer} shows another key: was {old}, is {new}; p2pctl trust {peer} takes it")
        }
        EventKind::Superseded {} => "* another device took over".to_owned(),
        EventKind::LoggedOut {} => "* the registry ended the session: log in again".to_owned(),
        EventKind::ForkFound { author, room } => {
            let place = room.as_ref().map_or_else(String::new, |room| format!(" in #{room}"));
            format!(
                "* {author} signed two different entries with one number{place}: its messages stop there"
            )
        }
        EventKind::RoomDiverged { room } => {
            format!("* #{room}: its membership log contradicts the one held; it is not followed")
        }
        EventKind::RoomInvited { room } => {
            format!("* asked into #{room}: p2pctl join-room {room}")
        }
    }
}
