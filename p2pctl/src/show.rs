//! How answers look to people, and the name of their schema.
//!
//! Text is for eyes alone and may change; scripts use `--json`. Times are UTC. Names, keys, ids and
//! addresses are safe by their types; all other text of others goes through [`Escaped`].

use std::fmt::{self, Display, Write};

use peerd_proto::control::*;
use registryd_proto::{Access, PublicKey, Role};
use serde::Serialize;

use crate::{client::EventLine, terminal::Escaped};

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
pub fn clock(time: Timestamp) -> String {
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

fn session_state(state: SessionState) -> &'static str {
    match state {
        SessionState::Online => "online",
        SessionState::Offline => "offline: the registry does not answer",
        SessionState::LoggedOut => "logged out",
        SessionState::Superseded => "superseded by another device",
    }
}

fn presence(presence: Presence) -> &'static str {
    match presence {
        Presence::Online => "online",
        Presence::Offline => "offline",
    }
}

/// The word for where a chat stands.
pub fn chat_state(state: ChatState) -> &'static str {
    match state {
        ChatState::Pending => "ringing",
        ChatState::Active => "active",
        ChatState::Interrupted => "interrupted",
        ChatState::Rejected => "rejected",
        ChatState::Busy => "busy",
        ChatState::TimedOut => "no answer",
        ChatState::Ended => "ended",
        ChatState::Allowed => "allowed",
    }
}

/// The word for where a message is.
pub fn message_state(state: MessageState) -> &'static str {
    match state {
        MessageState::Queued => "queued",
        MessageState::Delivered => "delivered",
        MessageState::Expired => "expired",
        MessageState::Rejected => "rejected",
        MessageState::Failed => "failed",
    }
}

fn link_state(state: LinkState) -> &'static str {
    match state {
        LinkState::Connected => "connected",
        LinkState::Absent => "absent",
    }
}

fn role(role: Role) -> &'static str {
    match role {
        Role::Member => "member",
        Role::Moderator => "moderator",
        Role::Owner => "owner",
    }
}

fn access(access: Access) -> &'static str {
    match access {
        Access::Open => "open",
        Access::Password => "password",
        Access::Invite => "invite",
    }
}

fn policy(policy: PolicyName) -> &'static str {
    match policy {
        PolicyName::Allow => "allow",
        PolicyName::Ask => "ask",
        PolicyName::Block => "block",
    }
}

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
            let waiting = request.messages_waiting;
            let from = text.bold(&request.from);
            text.line(format_args!(
                "{} {from} {what}, {waiting} messages wait",
                date(request.since)
            ));
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
            let reason = message.reason.map_or_else(String::new, |code| format!(", {code}"));
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
            format!(
                "* {from} asks to be heard, {messages_waiting} messages wait: p2pctl accept {from}, or reject"
            )
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
            format!("* not delivered to {}: {id} ({code})", target(to, room))
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
        EventKind::ForkFound { author, room } => {
            let place = room.as_ref().map_or_else(String::new, |room| format!(" in #{room}"));
            format!(
                "* {author} signed two different entries with one number{place}: its messages stop there"
            )
        }
        EventKind::RoomInvited { room } => {
            format!("* asked into #{room}: p2pctl join-room {room}")
        }
    }
}

impl fmt::Display for EventLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = Text::new(false);
        self.show(&mut text);
        f.write_str(text.into_string().trim_end_matches('\n'))
    }
}
