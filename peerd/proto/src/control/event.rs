//! Events: every change that a user may want to know of, with a durable number.

use registryd_proto::{Code, RoomName, Username};
use serde::{Deserialize, Serialize};

use super::{answer::Presence, time::Timestamp};
use crate::wire::{ChatId, MessageId};

/// One event of a profile's log.
///
/// Example: `{"n":17,"time":"2026-11-22T10:00:00.000Z","type":"message","from":"alice","room":null,"id":"…","body":"hi"}`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// 1, 2, 3 … without a gap for a profile, durable.
    pub n: u64,
    /// When peerd recorded it.
    pub time: Timestamp,
    /// What happened.
    #[serde(flatten)]
    pub kind: EventKind,
}

/// What happened. Readers ignore types that they do not know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum EventKind {
    /// A message came.
    Message {
        /// Its author.
        from: Username,
        /// The room, or null in a 1:1 conversation.
        room: Option<RoomName>,
        /// Known by its author.
        id: MessageId,
        /// The text.
        body: String,
        /// When its author wrote it, by the author's clock.
        sent: Timestamp,
    },
    /// Somebody asks: for a chat (`chat` is set), or to be heard at all.
    ChatRequest {
        /// Who.
        from: Username,
        /// The chat asked for.
        chat: Option<ChatId>,
        /// How many messages wait for the answer.
        messages_waiting: u64,
    },
    /// A chat began.
    ChatActive {
        /// With whom.
        peer: Username,
        /// Which.
        chat: ChatId,
    },
    /// Our request was rejected.
    ChatRejected {
        /// By whom.
        peer: Username,
        /// Which.
        chat: ChatId,
    },
    /// Our request met a peer in another chat.
    ChatBusy {
        /// Who.
        peer: Username,
        /// Which.
        chat: ChatId,
    },
    /// A chat is over, or a request was withdrawn or not answered.
    ChatEnded {
        /// With whom.
        peer: Username,
        /// Which.
        chat: ChatId,
    },
    /// The peer of an active chat vanished; it goes on when it is back.
    ChatInterrupted {
        /// Who.
        peer: Username,
        /// Which.
        chat: ChatId,
    },
    /// All recipients of our message have it on disk.
    Delivered {
        /// The recipient of a 1:1 message.
        to: Option<Username>,
        /// The room.
        room: Option<RoomName>,
        /// The message.
        id: MessageId,
    },
    /// Our message will not be delivered.
    Failed {
        /// The recipient of a 1:1 message.
        to: Option<Username>,
        /// The room.
        room: Option<RoomName>,
        /// The message.
        id: MessageId,
        /// Why: `rejected`, `blocked`, `timed_out` (expired), `conflict` (cancelled) …
        code: Code,
    },
    /// We are a member.
    RoomJoined {
        /// Which room.
        room: RoomName,
    },
    /// We are no member any more: left, kicked, or the room was deleted.
    RoomLeft {
        /// Which room.
        room: RoomName,
    },
    /// A member more.
    MemberJoined {
        /// Which room.
        room: RoomName,
        /// Who.
        member: Username,
    },
    /// A member less.
    MemberLeft {
        /// Which room.
        room: RoomName,
        /// Who.
        member: Username,
    },
    /// A link to a contact came or went.
    Presence {
        /// Who.
        peer: Username,
        /// Reachable or not.
        presence: Presence,
    },
    /// The registry answers again.
    RegistryUp {},
    /// The registry does not answer.
    RegistryDown {},
    /// A contact shows another key; nothing goes either way until `trust` says yes.
    KeyChanged {
        /// Who.
        peer: Username,
        /// The key that was pinned.
        old_key: String,
        /// The key shown now.
        new_key: String,
    },
    /// Another device took over this account.
    Superseded {},
    /// The registry ended the session: its operator did, or it was restored from a backup of before. Not told
    /// of a `logout`.
    LoggedOut {},
    /// Room members hold two different entries with one number: the author's stream is frozen.
    ForkFound {
        /// Whose stream.
        author: Username,
        /// The room, or null in a 1:1 conversation.
        room: Option<RoomName>,
    },
    /// The registry or a member showed a membership log that contradicts the one held: it is not followed.
    RoomDiverged {
        /// Which.
        room: RoomName,
    },
    /// We were asked into a room; `join-room` accepts.
    RoomInvited {
        /// Which.
        room: RoomName,
    },
}

impl EventKind {
    /// Every word in `type`, for filters; `lagged` is said to a reader who was too slow, and is in no log.
    pub const TYPES: [&str; 23] = [
        "message",
        "chat_request",
        "chat_active",
        "chat_rejected",
        "chat_busy",
        "chat_ended",
        "chat_interrupted",
        "delivered",
        "failed",
        "room_joined",
        "room_left",
        "room_invited",
        "room_diverged",
        "member_joined",
        "member_left",
        "presence",
        "registry_up",
        "registry_down",
        "key_changed",
        "superseded",
        "logged_out",
        "fork_found",
        "lagged",
    ];

    /// The word in `type`: one of [`TYPES`](Self::TYPES).
    pub fn type_name(&self) -> &'static str {
        match self {
            EventKind::Message { .. } => "message",
            EventKind::ChatRequest { .. } => "chat_request",
            EventKind::ChatActive { .. } => "chat_active",
            EventKind::ChatRejected { .. } => "chat_rejected",
            EventKind::ChatBusy { .. } => "chat_busy",
            EventKind::ChatEnded { .. } => "chat_ended",
            EventKind::ChatInterrupted { .. } => "chat_interrupted",
            EventKind::Delivered { .. } => "delivered",
            EventKind::Failed { .. } => "failed",
            EventKind::RoomJoined { .. } => "room_joined",
            EventKind::RoomLeft { .. } => "room_left",
            EventKind::MemberJoined { .. } => "member_joined",
            EventKind::MemberLeft { .. } => "member_left",
            EventKind::Presence { .. } => "presence",
            EventKind::RegistryUp {} => "registry_up",
            EventKind::RegistryDown {} => "registry_down",
            EventKind::KeyChanged { .. } => "key_changed",
            EventKind::Superseded {} => "superseded",
            EventKind::LoggedOut {} => "logged_out",
            EventKind::ForkFound { .. } => "fork_found",
            EventKind::RoomDiverged { .. } => "room_diverged",
            EventKind::RoomInvited { .. } => "room_invited",
        }
    }

    /// The user whom the event is about: author, caller, peer, recipient or member.
    pub fn user(&self) -> Option<&Username> {
        match self {
            EventKind::Message { from, .. } | EventKind::ChatRequest { from, .. } => Some(from),
            EventKind::ChatActive { peer, .. }
            | EventKind::ChatRejected { peer, .. }
            | EventKind::ChatBusy { peer, .. }
            | EventKind::ChatEnded { peer, .. }
            | EventKind::ChatInterrupted { peer, .. }
            | EventKind::Presence { peer, .. }
            | EventKind::KeyChanged { peer, .. } => Some(peer),
            EventKind::Delivered { to, .. } | EventKind::Failed { to, .. } => to.as_ref(),
            EventKind::MemberJoined { member, .. } | EventKind::MemberLeft { member, .. } => {
                Some(member)
            }
            EventKind::ForkFound { author, .. } => Some(author),
            EventKind::RoomJoined { .. }
            | EventKind::RoomLeft { .. }
            | EventKind::RegistryUp {}
            | EventKind::RegistryDown {}
            | EventKind::Superseded {}
            | EventKind::LoggedOut {}
            | EventKind::RoomDiverged { .. }
            | EventKind::RoomInvited { .. } => None,
        }
    }

    /// The room that the event is about.
    pub fn room(&self) -> Option<&RoomName> {
        match self {
            EventKind::Message { room, .. }
            | EventKind::Delivered { room, .. }
            | EventKind::Failed { room, .. }
            | EventKind::ForkFound { room, .. } => room.as_ref(),
            EventKind::RoomJoined { room }
            | EventKind::RoomLeft { room }
            | EventKind::MemberJoined { room, .. }
            | EventKind::MemberLeft { room, .. }
            | EventKind::RoomDiverged { room }
            | EventKind::RoomInvited { room } => Some(room),
            EventKind::ChatRequest { .. }
            | EventKind::ChatActive { .. }
            | EventKind::ChatRejected { .. }
            | EventKind::ChatBusy { .. }
            | EventKind::ChatEnded { .. }
            | EventKind::ChatInterrupted { .. }
            | EventKind::Presence { .. }
            | EventKind::RegistryUp {}
            | EventKind::RegistryDown {}
            | EventKind::KeyChanged { .. }
            | EventKind::Superseded {}
            | EventKind::LoggedOut {} => None,
        }
    }
}
