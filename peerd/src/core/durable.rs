//! What the core keeps for ever: the rows it writes, and the snapshot from which it starts again.
//!
//! The core decides what is written; the store only keeps it. `Snapshot` is what the store gives back at a
//! start: everything but the entries themselves, which the core asks for by `Effect::Load`.

use peerd_proto::{
    control::{Event, MessageState, PolicyName},
    wire::{
        ChatId, ChatPhase, ConversationId, Exception, ExceptionKind, MessageId, Position, StreamId,
        VerifiedEntry,
    },
};
use registryd_proto::{
    Card, Code, Digest, Endpoints, MembershipRecord, PublicKey, RegistryAddress, RoomId, RoomName,
    Signature, Signed, Username,
};
use serde::{Deserialize, Serialize};

/// One change of the durable state. Each names a row by its key and replaces it whole.
#[derive(Debug, Clone)]
pub enum Write {
    /// The one profile.
    Profile(Profile),
    /// The account was deleted: every row that belonged to it goes, and the profile's keys may be bound
    /// anew. Events and their readers stay, and the numbers of events go on.
    ForgetProfile,
    /// By username.
    Contact(Contact),
    /// The policy for unknown users.
    DefaultPolicy(PolicyName),
    /// By id.
    Conversation(Conversation),
    /// A new entry at the end of its stream; the store moves the stream's head with it.
    Entry {
        /// The entry, with or without its body.
        entry: Box<VerifiedEntry>,
        /// When we recorded it, by our clock.
        recorded_ms: u64,
        /// The number of the event that showed it; `None` for our own, void ones and repeated ids.
        shown: Option<u64>,
    },
    /// The body of an entry of ours is dropped; its header stays.
    DropBody {
        /// The conversation.
        conversation: ConversationId,
        /// The author.
        author: PublicKey,
        /// The stream.
        stream: StreamId,
        /// The entry.
        seq: u64,
        /// Our signature that it is void, unless others may have the body and pass it on.
        void: Option<Signature>,
    },
    /// By (conversation, stream, seq): our own message and its state.
    Outgoing(Outgoing),
    /// By (conversation, member, stream): how far a member has confirmed one of our streams itself.
    Acked(Acked),
    /// By (conversation, holder, author, stream, seq).
    Exception {
        /// The conversation.
        conversation: ConversationId,
        /// Who does not hold it: a member, or ourselves.
        holder: PublicKey,
        /// What.
        exception: Exception,
    },
    /// A stream is frozen before this entry, with the proof.
    Fork {
        /// One header and signature.
        a: Box<VerifiedEntry>,
        /// The other.
        b: Box<VerifiedEntry>,
    },
    /// By username: the chat with a contact.
    Chat(ChatRow),
    /// By username.
    Request(RequestRow),
    /// A request was answered, withdrawn or ran out.
    ForgetRequest(Username),
    /// By id: whether we are a member.
    Room(RoomRow),
    /// The next record of a room's log.
    Membership {
        /// The room.
        room: RoomId,
        /// Its epoch.
        epoch: u64,
        /// The record.
        record: Signed<MembershipRecord>,
    },
    /// The next event.
    Event(Event),
}

/// Everything a core needs to start.
#[derive(Debug, Clone, Default)]
#[expect(missing_docs, reason = "each field holds the rows of its type")]
pub struct Snapshot {
    pub profile: Option<Profile>,
    pub contacts: Vec<Contact>,
    pub default_policy: Option<PolicyName>,
    pub conversations: Vec<Conversation>,
    /// The head of every stream, in the order in which the streams were first seen.
    pub streams: Vec<StreamHead>,
    /// Messages that are queued, and behind them the newest [`SETTLED_READ_MAX`] of others whose ids their
    /// callers gave, oldest first.
    pub outgoing: Vec<Outgoing>,
    /// Whether there may be more of the latter.
    pub forgets_ids: bool,
    pub acked: Vec<Acked>,
    pub exceptions: Vec<(ConversationId, PublicKey, Exception)>,
    pub forks: Vec<(VerifiedEntry, VerifiedEntry)>,
    pub chats: Vec<ChatRow>,
    pub requests: Vec<RequestRow>,
    pub rooms: Vec<RoomRow>,
    /// By room, in the order of epochs.
    pub membership: Vec<(RoomId, Signed<MembershipRecord>)>,
    /// [`shown_id_hash`] of every message that was shown, to show none twice.
    pub shown_ids: Vec<u128>,
    /// The newest event's number; 0 if there is none.
    pub event_head: u64,
}

/// How many settled messages a start reads.
pub const SETTLED_READ_MAX: usize = 256;

/// The hash by which a shown message is known: its conversation, author and id.
pub fn shown_id_hash(conversation: &ConversationId, author: &PublicKey, id: &MessageId) -> u128 {
    let parts: [&[u8]; 3] = [&conversation.0.0, author.as_bytes(), id.as_str().as_bytes()];
    let digest = Digest::derive("p2pchat 2026-11 shown message id", &parts);
    u128::from_le_bytes(digest.0[..16].try_into().expect("a digest has 32 bytes"))
}

/// Whether the profile has a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProfileState {
    /// An account, but never logged in, or logged out: no resume by itself.
    LoggedOut,
    /// Resumes at each start.
    LoggedIn,
    /// Another device took over: no resume by itself.
    Superseded,
}

/// The account that this profile belongs to, for good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    /// With its pinned key.
    pub registry: RegistryAddress,
    /// The account.
    pub username: Username,
    /// Session or not.
    pub state: ProfileState,
    /// The highest serial of our card; once another device took over, the least that our next card has.
    pub serial: u64,
    /// The highest session epoch.
    pub epoch: u64,
    /// Our newest card.
    pub card: Signed<Card>,
    /// The ports last used; 0 before the first login.
    pub peer_port: u16,
    /// Likewise.
    pub room_port: u16,
    /// The account version last synced.
    pub version: u64,
}

/// A user whom we know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contact {
    /// The account.
    pub username: Username,
    /// The pinned key.
    pub peer_key: PublicKey,
    /// The room key of the newest trusted card.
    pub room_key: PublicKey,
    /// The highest trusted serial.
    pub serial: u64,
    /// The newest trusted card.
    pub card: Signed<Card>,
    /// A card with a higher serial and another key, until `trust` says yes.
    pub untrusted: Option<Signed<Card>>,
    /// `None`: the default holds.
    pub policy: Option<PolicyName>,
    /// Whether the user compared the numbers.
    pub verified: bool,
    /// Where the listeners were last seen.
    pub endpoints: Endpoints,
}

/// A conversation and what it belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conversation {
    /// Its id.
    pub id: ConversationId,
    /// Its members.
    pub kind: ConversationKind,
}

/// What a conversation belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConversationKind {
    /// Ourselves and one peer key of a contact.
    Direct {
        /// The contact.
        username: Username,
        /// The key; a contact with a new key has a new conversation.
        peer_key: PublicKey,
    },
    /// A room.
    Room {
        /// Its id.
        room: RoomId,
        /// Its name.
        name: RoomName,
    },
}

/// The end of a stream as the store holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamHead {
    /// The conversation.
    pub conversation: ConversationId,
    /// Author, stream, seq and hash.
    pub position: Position,
    /// The Lamport time of the head.
    pub lamport: u64,
}

/// A message of ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outgoing {
    /// The conversation.
    pub conversation: ConversationId,
    /// The stream of ours.
    pub stream: StreamId,
    /// The entry.
    pub seq: u64,
    /// The id.
    pub id: MessageId,
    /// Whether the caller gave the id.
    pub caller_id: bool,
    /// The hash of the text alone, to tell the same message from another one under the same id.
    pub text_hash: Digest,
    /// The room epoch of the entry; 0 in a 1:1 conversation.
    pub epoch: u64,
    /// The state, durable before it is told.
    pub state: MessageState,
    /// Why it failed.
    pub reason: Option<Code>,
    /// Since when it waits, by our clock.
    pub queued_ms: u64,
    /// When it expires, by our clock.
    pub expires_ms: Option<u64>,
    /// Whether its body was ever sent to anybody: then only the recipient can void it.
    pub offered: bool,
    /// It was offered and is given up: its body goes to nobody any more, and what the recipients confirm
    /// decides between this and `delivered`.
    #[serde(default)]
    pub giving_up: Option<GiveUp>,
}

/// A message of ours, as the store keeps it when the core has forgotten it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Its row.
    pub message: Outgoing,
    /// Members who cover it and do not hold its body.
    pub lacking: Vec<(PublicKey, ExceptionKind)>,
}

/// The state that a message takes once its recipients confirm that they do not hold its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct GiveUp {
    /// Expired, rejected, or failed (cancelled).
    pub state: MessageState,
    /// Why.
    pub reason: Option<Code>,
}

/// How far a member has confirmed a stream of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acked {
    /// The conversation.
    pub conversation: ConversationId,
    /// The member's peer key.
    pub member: PublicKey,
    /// The stream of ours.
    pub stream: StreamId,
    /// Covered by the member's own vector up to here.
    pub seq: u64,
}

/// The chat with a contact, if one was ever asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChatRow {
    /// With whom.
    pub peer: Username,
    /// The newest chat.
    pub chat: ChatId,
    /// Its phase.
    pub phase: ChatPhase,
    /// Whether we asked.
    pub caller: bool,
    /// Since when, by our clock.
    pub since_ms: u64,
}

/// Somebody who asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestRow {
    /// Who.
    pub from: Username,
    /// Since when, by our clock.
    pub since_ms: u64,
    /// How many messages wait at the sender.
    pub messages_waiting: u64,
    /// The newest of them.
    pub through: Option<(StreamId, u64)>,
    /// The chat that rings.
    pub chat: Option<ChatId>,
}

/// A room that we are, or were, in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomRow {
    /// Its id.
    pub id: RoomId,
    /// Its name.
    pub name: RoomName,
    /// Whether we are a member by the newest epoch known.
    pub joined: bool,
}
