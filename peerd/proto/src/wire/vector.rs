//! Vectors: what a member holds on disk of each author's streams.

use registryd_proto::{Digest, PublicKey};
use serde::{Deserialize, Serialize};

use super::id::{ConversationId, StreamId};

/// How far a member holds one stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// The author.
    pub author: PublicKey,
    /// The author's stream.
    pub stream: StreamId,
    /// The highest seq held on disk; everything below is held as well.
    pub seq: u64,
    /// The hash of that entry's header bytes. Unequal hashes at one seq prove a fork.
    pub hash: Digest,
}

/// An entry that a vector covers though its body is not held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exception {
    /// The author.
    pub author: PublicKey,
    /// The stream.
    pub stream: StreamId,
    /// The entry.
    pub seq: u64,
    /// Why.
    pub kind: ExceptionKind,
}

/// Why a covered entry is not held whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExceptionKind {
    /// The recipient will not have it (its policy, a limit).
    Refused,
    /// It came void, or without its body from its author: expired, cancelled or rejected there.
    Void,
}

/// A member's vector of one conversation, or what changed of it. It acknowledges all that it covers, less
/// the exceptions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Have {
    /// The conversation.
    pub conversation: ConversationId,
    /// The newest membership epoch held; 0 in a 1:1 conversation.
    pub epoch: u64,
    /// Whether this is the whole vector: the receiver then begins anew to send what is lacking.
    pub full: bool,
    /// At most [`super::HAVE_POSITIONS_MAX`].
    pub positions: Vec<Position>,
    /// Exceptions among the receiver's own entries that the positions cover.
    pub exceptions: Vec<Exception>,
}

impl Have {
    /// In a room: a question for the other side's whole vector. It is an empty change of epoch 0, which tells
    /// nothing: rooms begin with epoch 1.
    pub fn question(conversation: ConversationId) -> Self {
        let (positions, exceptions) = (Vec::new(), Vec::new());
        Self { conversation, epoch: 0, full: false, positions, exceptions }
    }

    /// Whether it is [`Have::question`], if it came in a room.
    pub fn is_question(&self) -> bool {
        *self == Self::question(self.conversation)
    }
}
