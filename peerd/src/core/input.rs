//! What comes into the core: commands, frames, replies of the registry, and time.

use std::net::SocketAddr;

use peerd_proto::{
    control::Command,
    wire::{ConversationId, Frame, VerifiedEntry},
};
use registryd_proto::{Failure, PublicKey, Reply};

use super::durable::Kept;

/// The time of an input. The core has no clock of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds of a monotonic clock that counts suspended time as well. All deadlines are in it.
    pub mono_ms: u64,
    /// Milliseconds since 1970. Shown and stored, never used for order or liveness.
    pub wall_ms: u64,
}

/// One command of one local client, from request to its only response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommandId(pub u64);

/// One connection to a peer, for as long as it is up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u64);

/// One request to the registry, from the effect to its only reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub u64);

/// One read of the store, from the effect to its only answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LoadId(pub u64);

/// Which of the two listeners a link belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LinkKind {
    /// 1:1, between peer keys.
    Peer,
    /// Rooms, between room keys.
    Room,
}

impl LinkKind {
    /// The word for people.
    pub fn name(self) -> &'static str {
        match self {
            LinkKind::Peer => "peer",
            LinkKind::Room => "room",
        }
    }
}

/// Anything that happens to the core.
#[derive(Debug)]
pub enum Input {
    /// A local client asks. Answered by exactly one `Effect::Reply`.
    Command {
        /// Which.
        id: CommandId,
        /// What.
        command: Command,
    },
    /// The client of an open command is gone; no reply is wanted any more.
    Abandoned {
        /// Which.
        id: CommandId,
    },
    /// A connection is up and authenticated. No frame was exchanged yet.
    LinkUp {
        /// Its id.
        link: LinkId,
        /// Peer or room.
        kind: LinkKind,
        /// The key that the other side proved.
        key: PublicKey,
        /// Whether we dialled it.
        dialled: bool,
        /// Where the other side is, if the path is direct.
        remote: Option<SocketAddr>,
    },
    /// A frame came.
    LinkFrame {
        /// On which link.
        link: LinkId,
        /// The frame, with entries verified.
        frame: Inbound,
    },
    /// A link is gone, by whichever side. Nothing follows for it.
    LinkDown {
        /// Which.
        link: LinkId,
    },
    /// A dial led to nothing.
    DialFailed {
        /// Peer or room.
        kind: LinkKind,
        /// Whom.
        key: PublicKey,
    },
    /// The answer to `Effect::Bind`.
    Bound(Result<Listeners, BindFailure>),
    /// The answer to `Effect::Probe`.
    Probed {
        /// Which call.
        call: CallId,
        /// The key that the registry proved.
        result: Result<PublicKey, CallFailure>,
    },
    /// The answer to `Effect::Call`.
    Registry {
        /// Which call.
        call: CallId,
        /// The reply, with the key that the registry proved.
        result: Result<(PublicKey, Reply), CallFailure>,
    },
    /// What HELLO tells.
    Hello(HelloInput),
    /// The answer to `Effect::Load`: consecutive entries, as many as are there and fit.
    Loaded {
        /// Which read.
        load: LoadId,
        /// The entries, in order.
        entries: Vec<VerifiedEntry>,
    },
    /// The answer to `Effect::Recall`.
    Recalled {
        /// Which read.
        load: LoadId,
        /// What the store knows.
        found: Recalled,
    },
    /// `Core::next_wake` has come.
    Tick,
    /// peerd stops: say goodbye; `Effect::Stopped` follows.
    Stop,
}

/// A frame whose entries were verified by the link, off the owner's task.
#[derive(Debug, Clone)]
#[expect(
    clippy::large_enum_variant,
    reason = "moved once, from a queue to its reader: a box for each would cost more"
)]
pub enum Inbound {
    /// `Frame::Entries`.
    Entries {
        /// Their conversation.
        conversation: ConversationId,
        /// In the order of the frame.
        entries: Vec<VerifiedEntry>,
    },
    /// `Frame::Fork`.
    Fork {
        /// One.
        a: VerifiedEntry,
        /// The other.
        b: VerifiedEntry,
    },
    /// Any other frame.
    Other(Frame),
}

/// What the store knows of an id of a caller's.
#[derive(Debug)]
pub enum Recalled {
    /// Nothing was sent under it.
    New,
    /// A message of ours has it.
    Kept(Box<Kept>),
    /// The store cannot be read.
    Failed,
}

/// The open listeners.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listeners {
    /// Where the peer listener is bound.
    pub peer: SocketAddr,
    /// Where the room listener is bound.
    pub room: SocketAddr,
}

/// Why the listeners could not be opened. Neither is open then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BindFailure {
    /// Another program has the port.
    Taken {
        /// Which listener.
        kind: LinkKind,
        /// Which port.
        port: u16,
    },
    /// Anything else; the log has it.
    Failed,
}

/// Why a call to the registry gave no reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallFailure {
    /// No connection, or it broke, or time ran out. Whether the request was carried out is not known.
    Unreachable,
    /// The registry showed another key than the pinned one: a hard stop.
    WrongKey {
        /// The key shown.
        shown: PublicKey,
    },
    /// The registry said no.
    Failed(Failure),
}

/// What HELLO tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HelloInput {
    /// Our HELLO was answered.
    Answered {
        /// The account's version at the registry.
        version: u64,
        /// The interval from now on.
        interval_ms: u32,
    },
    /// The registry told a new version unasked.
    Nudged {
        /// The account's version at the registry.
        version: u64,
    },
    /// The registry has started anew: what it kept in memory (watches) is gone.
    Rebooted,
    /// Three HELLOs in a row were not answered.
    Silent,
}
