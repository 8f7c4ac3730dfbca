//! The answers of peerd.

use p2pchat_host::terminal::Escaped;
use peerd_proto::control::*;
use registryd_proto::{Code, PublicKey};

use super::{Show, Text, date, list, or_dash, word::*};

impl Show for AccountAnswer {
    fn schema(&self) -> &'static str {
        "account"
    }

    fn show(&self, text: &mut Text) {
        text.line(format_args!("{} at {}", text.bold(&self.username), self.registry));
        if self.newly_pinned {
            text.line("this registry's key was seen for the first time and is pinned now");
        }
    }
}

impl Show for SessionAnswer {
    fn schema(&self) -> &'static str {
        "session"
    }

    fn show(&self, text: &mut Text) {
        text.line(format_args!("{}: {}", text.bold(&self.username), session_state(self.state)));
        if self.state == SessionState::Online {
            let (peer, room) = (self.peer_port, self.room_port);
            text.line(format_args!("peer port {peer}, room port {room}, at {}", self.registry));
        }
        if self.newly_pinned {
            text.line("this registry's key was seen for the first time and is pinned now");
        }
    }
}

impl Show for UserAnswer {
    fn schema(&self) -> &'static str {
        "user"
    }

    fn show(&self, text: &mut Text) {
        text.line(format_args!("{}: {}", text.bold(&self.username), presence(self.presence)));
        text.line(format_args!("key        {}", self.key));
        text.line(format_args!("addresses  {}", list(&self.addresses)));
        if let Some(ms) = self.last_hello_ms_ago {
            text.line(format_args!("last HELLO {} ms ago", ms));
        }
        if !self.presence_confirmed {
            text.line("the registry restarted a moment ago and has not heard of this user since");
        }
    }
}

impl Show for ChatAnswer {
    fn schema(&self) -> &'static str {
        "chat"
    }

    fn show(&self, text: &mut Text) {
        text.line(format_args!("{}: {}", text.bold(&self.peer), chat_state(self.state)));
    }
}

impl Show for RequestsAnswer {
    fn schema(&self) -> &'static str {
        "requests"
    }

    fn show(&self, text: &mut Text) {
        for request in &self.requests {
            let what = if request.chat { "asks for a chat" } else { "asks to be heard" };
            let waiting = waiting(request.messages_waiting);
            let from = text.bold(&request.from);
            text.line(format_args!("{} {from} {what}{waiting}", date(request.since)));
        }
    }
}

impl Show for SentAnswer {
    fn schema(&self) -> &'static str {
        "sent"
    }

    fn show(&self, text: &mut Text) {
        text.line(format_args!("{} {}", message_state(self.state), self.id));
    }
}

impl Show for ListenAnswer {
    fn schema(&self) -> &'static str {
        "ack"
    }

    fn show(&self, text: &mut Text) {
        text.line(format_args!("head {} of log {}", self.head, Escaped::new(&self.log)));
    }
}

impl Show for HistoryMessage {
    fn schema(&self) -> &'static str {
        "event"
    }

    fn show(&self, text: &mut Text) {
        let state = match self.state {
            Some(state) if state != MessageState::Delivered => {
                text.dim(format_args!(" ({})", message_state(state)))
            }
            _ => String::new(),
        };
        let place = self.room.as_ref().map_or_else(String::new, |room| format!("#{room} "));
        let (time, from) = (text.dim(date(self.sent)), text.bold(&self.from));
        text.line(format_args!("{time} {place}{from}: {}{state}", Escaped::new(&self.body)));
    }
}

impl Show for RoomAnswer {
    fn schema(&self) -> &'static str {
        "room"
    }

    fn show(&self, text: &mut Text) {
        let owner = or_dash(self.owner.as_ref());
        let name = text.bold(format_args!("#{}", self.room));
        text.line(format_args!("{name} owner {owner}, access {}", access(self.access)));
        for member in &self.members {
            show_member(member, "  ", text);
        }
    }
}

fn show_member(member: &MemberAnswer, indent: &str, text: &mut Text) {
    let (role, link) = (role(member.role), link_state(member.link));
    text.line(format_args!("{indent}{} {role} {link}", member.username));
}

impl Show for RoomsAnswer {
    fn schema(&self) -> &'static str {
        "rooms"
    }

    fn show(&self, text: &mut Text) {
        for room in &self.rooms {
            let here = room.members.iter().filter(|m| m.link == LinkState::Connected).count();
            let (name, count) = (text.bold(format_args!("#{}", room.room)), room.members.len());
            text.line(format_args!("{name} {here} of {count} members connected"));
        }
    }
}

impl Show for StatusAnswer {
    fn schema(&self) -> &'static str {
        "status"
    }

    fn show(&self, text: &mut Text) {
        let chats = self.chats.iter().map(|c| format!("{} ({})", c.peer, chat_state(c.state)));
        let user = text.bold(or_dash(self.username.as_ref()));
        text.line(format_args!("user          {user}"));
        text.line(format_args!("session       {}", session_state(self.session)));
        text.line(format_args!("registry      {}", or_dash(self.registry.as_ref())));
        text.line(format_args!("peer listener {}", or_dash(self.peer_listener)));
        text.line(format_args!("room listener {}", or_dash(self.room_listener)));
        text.line(format_args!("chats         {}", list(chats)));
        text.line(format_args!("rooms         {}", list(&self.rooms)));
        if !self.invited.is_empty() {
            text.line(format_args!("invited to    {}", list(&self.invited)));
        }
        text.line(format_args!("outbox        {}", self.outbox));
        if self.disk_full {
            text.line("disk          full: only reading works until there is space");
        }
        text.line(format_args!("peerd         {}", Escaped::new(&self.version)));
    }
}

impl Show for WaitAnswer {
    fn schema(&self) -> &'static str {
        match self {
            WaitAnswer::Status(answer) => answer.schema(),
            WaitAnswer::User(answer) => answer.schema(),
            WaitAnswer::Member(_) => "member",
        }
    }

    fn show(&self, text: &mut Text) {
        match self {
            WaitAnswer::Status(answer) => answer.show(text),
            WaitAnswer::User(answer) => answer.show(text),
            WaitAnswer::Member(answer) => show_member(answer, "", text),
        }
    }
}

impl Show for ContactsAnswer {
    fn schema(&self) -> &'static str {
        "contacts"
    }

    fn show(&self, text: &mut Text) {
        text.line(format_args!("unknown users: {}", policy(self.default_policy)));
        for contact in &self.contacts {
            contact.show(text);
        }
    }
}

impl Show for ContactAnswer {
    fn schema(&self) -> &'static str {
        "contact"
    }

    fn show(&self, text: &mut Text) {
        let Some(username) = &self.username else {
            text.line(format_args!("unknown users: {}", policy(self.policy)));
            return;
        };
        let verified = if self.verified { "verified" } else { "not verified" };
        let (name, key) = (text.bold(username), or_dash(self.key.as_ref()));
        let (policy, link) = (policy(self.policy), link_state(self.link));
        text.line(format_args!("{name} {policy}, {link}, {verified}, key {key}"));
        if let Some(key) = &self.untrusted_key {
            text.line(format_args!("  shows another key, not trusted: {key}"));
        }
    }
}

impl Show for VerifyAnswer {
    fn schema(&self) -> &'static str {
        "verify"
    }

    fn show(&self, text: &mut Text) {
        text.line(text.bold(Escaped::new(&self.number)));
        show_key(text, "our key", &self.our_key);
        show_key(text, self.username.as_str(), &self.their_key);
        text.line(if self.verified {
            "verified: the numbers were compared"
        } else {
            "not verified: compare this number with theirs, then add --confirm"
        });
    }
}

fn show_key(text: &mut Text, whose: &str, key: &PublicKey) {
    text.line(format_args!("{whose}: {key}"));
}

impl Show for OutboxAnswer {
    fn schema(&self) -> &'static str {
        "outbox"
    }

    fn show(&self, text: &mut Text) {
        for message in &self.messages {
            let to = match (&message.to, &message.room) {
                (Some(user), _) => user.to_string(),
                (None, room) => format!("#{}", or_dash(room.as_ref())),
            };
            let reason = match (message.state, message.reason) {
                // A policy that refuses for good ends the message.
                (MessageState::Queued, Some(Code::Blocked)) => {
                    ", waits for their accept".to_owned()
                }
                (MessageState::Failed, Some(code)) => format!(", {}", given_up(code)),
                (_, reason) => reason.map_or_else(String::new, |code| format!(", {code}")),
            };
            let (state, of) = (message_state(message.state), message.of);
            text.line(format_args!(
                "{} {} to {to}: {state}, {} of {of}{reason}",
                date(message.queued),
                message.id,
                message.delivered
            ));
        }
    }
}
