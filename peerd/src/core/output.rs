//! What the core wants done.
//!
//! Invariant: the effects of an output happen only after its writes, and those of all outputs before it,
//! are on disk. So nothing leaves this peer, no client is told anything, and no vector acknowledges, what a
//! power loss could take back. The daemon keeps this order; many outputs share one commit.

use std::net::SocketAddr;

use peerd_proto::{
    control as api,
    wire::{ConversationId, Frame, Goodbye, MessageId, StreamId},
};
use registryd_proto::{Code, Failure, PublicKey, RegistryAddress, Request, SessionGrant};
use serde::Serialize;

use super::{
    durable::Write,
    input::{CallId, CommandId, LinkId, LinkKind, LoadId},
};

/// Writes, then effects, both in order.
#[derive(Debug, Default)]
pub struct Output {
    /// To be committed in one transaction.
    pub writes: Vec<Write>,
    /// To be done after the commit.
    pub effects: Vec<Effect>,
}

/// One thing to do.
#[derive(Debug)]
pub enum Effect {
    /// The only response to a command.
    Reply {
        /// Which command.
        id: CommandId,
        /// What to tell.
        result: Result<Answer, CommandFailure>,
    },
    /// Sends a frame. To a link that is down: nothing.
    Send {
        /// On which link.
        link: LinkId,
        /// What.
        frame: Frame,
    },
    /// Says goodbye and closes.
    Close {
        /// Which link.
        link: LinkId,
        /// Why.
        goodbye: Goodbye,
    },
    /// Dials a peer, under a time-out: `LinkUp` or `DialFailed` follows.
    Dial {
        /// From which endpoint.
        kind: LinkKind,
        /// Whom.
        key: PublicKey,
        /// Where it may be.
        addresses: Vec<SocketAddr>,
        /// How long it may take.
        timeout_ms: u64,
    },
    /// Opens both listeners (0: any free port); closes open ones first if the ports differ. `Bound` follows.
    Bind {
        /// Of the peer listener.
        peer_port: u16,
        /// Of the room listener.
        room_port: u16,
    },
    /// Closes both listeners and all links.
    Unbind,
    /// Asks a registry for nothing but its key, where none is pinned yet: `Input::Probed` follows. A
    /// request needs the key before it is sent, for the binding signs it.
    Probe {
        /// Which call.
        call: CallId,
        /// Where.
        registry: RegistryAddress,
    },
    /// Asks the registry: `Input::Registry` follows.
    Call {
        /// Which call.
        call: CallId,
        /// Where; with a key: no other is accepted.
        registry: RegistryAddress,
        /// What.
        request: Request,
    },
    /// Begins to say HELLO, replacing a session before it.
    StartHello {
        /// Where.
        registry: RegistryAddress,
        /// The session.
        grant: Box<SessionGrant>,
    },
    /// Says no HELLO any more.
    StopHello,
    /// Reads entries of one stream from the store: `Loaded` follows.
    Load {
        /// Which read.
        load: LoadId,
        /// The conversation.
        conversation: ConversationId,
        /// The author.
        author: PublicKey,
        /// The stream.
        stream: StreamId,
        /// From the entry behind this one.
        after_seq: u64,
        /// At most so many; the store may give fewer, to keep below a frame's size.
        limit: u32,
    },
    /// Looks for a message of ours by the id that its caller gave: `Recalled` follows. If several have it, a
    /// settled one is told.
    Recall {
        /// Which read.
        load: LoadId,
        /// The conversation.
        conversation: ConversationId,
        /// The id.
        id: MessageId,
    },
    /// All goodbyes are said; the process may end.
    Stopped,
}

/// What a command that succeeded tells: the answer type of its verb.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
#[expect(missing_docs, reason = "each variant is the answer type it holds")]
pub enum Answer {
    Account(api::AccountAnswer),
    Session(api::SessionAnswer),
    User(api::UserAnswer),
    Chat(api::ChatAnswer),
    Requests(api::RequestsAnswer),
    Sent(api::SentAnswer),
    Room(api::RoomAnswer),
    Rooms(api::RoomsAnswer),
    Member(api::MemberAnswer),
    Status(Box<api::StatusAnswer>),
    Contacts(api::ContactsAnswer),
    Contact(api::ContactAnswer),
    Verify(api::VerifyAnswer),
    Outbox(api::OutboxAnswer),
}

/// Why a command failed.
#[derive(Debug, Clone, PartialEq)]
pub struct CommandFailure {
    /// For programs.
    pub code: Code,
    /// For people.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// When trying again makes sense.
    pub retry_after_ms: Option<u64>,
    /// What is known nevertheless.
    pub details: Option<serde_json::Value>,
}

impl CommandFailure {
    /// A failure without hint or details.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: None, retry_after_ms: None, details: None }
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds what is known nevertheless.
    #[must_use]
    pub fn details(mut self, details: serde_json::Value) -> Self {
        self.details = Some(details);
        self
    }
}

impl From<Failure> for CommandFailure {
    fn from(failure: Failure) -> Self {
        Self { retry_after_ms: failure.retry_after_ms, ..Self::new(failure.code, failure.message) }
    }
}
