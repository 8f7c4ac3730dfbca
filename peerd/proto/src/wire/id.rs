//! The ids that entries and frames carry.

use std::{fmt, str::FromStr};

use registryd_proto::{Digest, PublicKey, RoomId};
use serde::{Deserialize, Serialize};

/// The longest message id in bytes.
pub const MESSAGE_ID_BYTES_MAX: usize = 64;

/// A conversation: a set of append-only logs that its members replicate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ConversationId(pub Digest);

impl ConversationId {
    /// The conversation of two peers at one registry: the same from both sides.
    pub fn direct(registry: &PublicKey, a: &PublicKey, b: &PublicKey) -> Self {
        let (low, high) = if a <= b { (a, b) } else { (b, a) };
        let parts: [&[u8]; 3] = [registry.as_bytes(), low.as_bytes(), high.as_bytes()];
        Self(Digest::derive("p2pchat 2026-11 conversation of two peers", &parts))
    }

    /// The conversation of a room.
    pub fn room(registry: &PublicKey, room: &RoomId) -> Self {
        let parts: [&[u8]; 2] = [registry.as_bytes(), &room.0.0];
        Self(Digest::derive("p2pchat 2026-11 conversation of a room", &parts))
    }
}

macro_rules! random_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub uuid::Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.simple().fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0.simple().to_string()[..8])
            }
        }
    };
}

random_id!(
    /// One stream of an author in a conversation: 16 random bytes, new after each start of its peerd.
    StreamId
);
random_id!(
    /// One chat, from request to end: 16 random bytes drawn by the caller.
    ChatId
);

/// The id of a message: 1 to [`MESSAGE_ID_BYTES_MAX`] visible ASCII characters. Made by peerd (a UUIDv7)
/// or given by the caller with `--id`. Known by its author: two authors may use the same one.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MessageId(String);

/// The text is no message id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a message id has 1 to {MESSAGE_ID_BYTES_MAX} visible ASCII characters")]
pub struct IdError;

impl MessageId {
    /// The id as text: safe to print.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for MessageId {
    type Error = IdError;
    fn try_from(text: String) -> Result<Self, IdError> {
        let visible = text.bytes().all(|b| b.is_ascii_graphic());
        if text.is_empty() || text.len() > MESSAGE_ID_BYTES_MAX || !visible {
            return Err(IdError);
        }
        Ok(Self(text))
    }
}

impl FromStr for MessageId {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        Self::try_from(text.to_owned())
    }
}

impl From<MessageId> for String {
    fn from(id: MessageId) -> String {
        id.0
    }
}

impl From<uuid::Uuid> for MessageId {
    fn from(id: uuid::Uuid) -> Self {
        Self(id.hyphenated().to_string())
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
