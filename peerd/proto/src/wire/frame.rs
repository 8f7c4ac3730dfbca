//! Frames: what travels on a link, and its encoding.

use bytes::{BufMut as _, Bytes, BytesMut};
use registryd_proto::{Card, Digest, MembershipRecord, PublicKey, RoomId, Signed, Username};
use serde::{Deserialize, Serialize};

use super::{
    FRAME_BYTES_MAX,
    chat::ChatFrame,
    entry::Entry,
    id::{ConversationId, StreamId},
    vector::Have,
};

/// Why a frame is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Longer than [`FRAME_BYTES_MAX`].
    #[error("a frame of {bytes} bytes is over the limit")]
    TooLarge {
        /// The length announced or encoded.
        bytes: usize,
    },
    /// The bytes are no frame.
    #[error("a frame cannot be read")]
    Format,
}

/// One message of a link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Frame {
    /// The first frame of each side.
    Hello(Hello),
    /// What the sender of this frame lets the other do.
    Standing(Standing),
    /// Under `ask`: so much waits at the sender. Bodies stay there.
    Waiting {
        /// How many messages.
        messages: u64,
        /// The newest of them: stream and seq at the sender.
        through: (StreamId, u64),
    },
    /// The answer to `waiting` when its user says no: all up to `through` is rejected.
    Decline {
        /// As in `waiting`.
        through: (StreamId, u64),
    },
    /// A vector, or what changed of it.
    Have(Have),
    /// Entries, each author's in order. At most [`super::FRAME_ENTRIES_MAX`].
    Entries {
        /// Their conversation.
        conversation: ConversationId,
        /// The entries.
        entries: Vec<Entry>,
    },
    /// Membership records that the other lacks, in order.
    Membership {
        /// The room.
        room: RoomId,
        /// The records.
        records: Vec<Signed<MembershipRecord>>,
    },
    /// Two headers with one number and both signatures: the proof of a fork. Bodies are left out.
    Fork {
        /// One.
        a: Entry,
        /// The other.
        b: Entry,
    },
    /// A step of a chat. Peer links only.
    Chat(ChatFrame),
    /// The sender closes the link on purpose.
    Goodbye(Goodbye),
}

/// Who speaks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`super::PROTOCOL_VERSION`].
    pub version: u32,
    /// The registry of the speaker's account.
    pub registry: PublicKey,
    /// The account.
    pub username: Username,
    /// Its newest card, signed by that registry.
    pub card: Signed<Card>,
    /// Drawn at each start of the speaker's peerd: tells a reconnect from a restart.
    pub boot: Digest,
}

/// A user's policy toward the other side of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Standing {
    /// Entries are taken.
    Allow,
    /// The user has to say yes first.
    Ask,
    /// Nothing is taken.
    Block,
}

/// Why a side leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Goodbye {
    /// peerd stops; it will be back.
    Stopping,
    /// The user logged out.
    LoggedOut,
    /// Another link of the pair is kept.
    Duplicate,
    /// The other side may not be linked: no member, wrong registry, untrusted key.
    NotWelcome,
    /// The versions do not fit.
    Version,
}

impl Frame {
    /// The frame behind its length, ready to write.
    ///
    /// # Errors
    /// [`FrameError::TooLarge`].
    pub fn encode(&self) -> Result<Bytes, FrameError> {
        let body = postcard::to_stdvec(self).map_err(|_| FrameError::Format)?;
        let mut bytes = BytesMut::with_capacity(4 + body.len());
        bytes.put_u32(Self::check_length(body.len())?);
        bytes.put_slice(&body);
        Ok(bytes.freeze())
    }

    /// Reads a frame from the bytes behind the length, all of them.
    ///
    /// # Errors
    /// [`FrameError`].
    pub fn decode(body: &[u8]) -> Result<Self, FrameError> {
        Self::check_length(body.len())?;
        match postcard::take_from_bytes(body) {
            Ok((frame, [])) => Ok(frame),
            _ => Err(FrameError::Format),
        }
    }

    /// Checks an announced length before anything is allocated for it.
    ///
    /// # Errors
    /// [`FrameError::TooLarge`].
    pub fn check_length(bytes: usize) -> Result<u32, FrameError> {
        match u32::try_from(bytes) {
            Ok(length) if bytes <= FRAME_BYTES_MAX => Ok(length),
            _ => Err(FrameError::TooLarge { bytes }),
        }
    }
}
