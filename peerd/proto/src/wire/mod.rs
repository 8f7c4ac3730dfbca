//! The links between peers, version [`PROTOCOL_VERSION`].
//!
//! A link is one QUIC connection, mutually authenticated by the keys of the two endpoints, with one
//! bidirectional stream that the dialling side opens. ALPN [`ALPN_PEER`] joins peer keys (1:1),
//! [`ALPN_ROOM`] joins room keys (rooms). Both sides send frames, each [`Frame`] in postcard behind a length
//! of four bytes, big endian, of at most [`FRAME_BYTES_MAX`].
//!
//! # Order
//!
//! 1. Each side's first frame is `hello`. Its card must hold the key of the connection. Anything else as
//!    the first frame, or a second `hello`, closes the link.
//! 2. On a peer link each side then sends its `standing` toward the other, and again whenever it changes.
//!    Entries are pushed only to a side whose standing is `allow`; under `ask` the sender tells how much
//!    is `waiting`, and under `block` it sends nothing.
//! 3. For each conversation of the link (the one of the pair; each room that both are members of) both
//!    sides send `have` with `full: true`, then what the other lacks as `entries`, each author's streams in
//!    order. After a commit a side sends `have` with what changed: that is the acknowledgement.
//! 4. On a room link `membership` records that the other lacks precede the entries that need them.
//!
//! Whoever breaks a limit or sends what cannot be verified is disconnected; no frame is answered by an
//! error.

mod chat;
mod entry;
mod frame;
mod id;
mod vector;

pub use chat::{BusyReason, ChatFrame, ChatPhase};
pub use entry::{
    BODY_BYTES_MAX, Body, Content, Context, Entry, EntryError, HEADER_BYTES_MAX, Header, Kind,
    Origin, Salt, VerifiedEntry, void_signature,
};
pub use frame::{Frame, FrameError, Goodbye, Hello, Standing};
pub use id::{ChatId, ConversationId, IdError, MESSAGE_ID_BYTES_MAX, MessageId, StreamId};
pub use vector::{Exception, ExceptionKind, Have, Position};

/// The version that `hello` names. Peers refuse any other. 2: void entries.
pub const PROTOCOL_VERSION: u32 = 2;
/// ALPN of the peer listener: 1:1 conversations and chats.
pub const ALPN_PEER: &[u8] = b"p2pchat/peer/1";
/// ALPN of the room listener.
pub const ALPN_ROOM: &[u8] = b"p2pchat/room/1";
/// The largest frame in bytes: an entry of the largest body fits 15 times.
pub const FRAME_BYTES_MAX: usize = 1024 * 1024;
/// The most entries in one frame.
pub const FRAME_ENTRIES_MAX: usize = 256;
/// The most positions in one `have`; a longer vector goes in several frames, the first with `full: true`.
pub const HAVE_POSITIONS_MAX: usize = 8192;
