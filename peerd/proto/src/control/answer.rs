//! Answers: what a verb that succeeded tells.
//!
//! p2pctl prints them with `"schema": "p2pctl.NAME/1"` in front; fields are only ever added.

use std::net::SocketAddr;

use registryd_proto::{
    Access, Code, HistoryAccess, PublicKey, RegistryAddress, Role, RoomName, Username,
};
use serde::{Deserialize, Serialize};

use super::{command::PolicyName, place::HistoryPlace, time::Timestamp};
use crate::wire::MessageId;

/// Of `create_account`, `passwd`, `delete_account` (schema `account`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountAnswer {
    /// The account.
    pub username: Username,
    /// The registry with its key.
    pub registry: RegistryAddress,
    /// Whether this call pinned the registry's key by trust on first use.
    #[serde(default)]
    pub newly_pinned: bool,
}

/// Where a session stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionState {
    /// The registry answers our HELLOs.
    Online,
    /// Logged in, but the registry does not answer; it is tried again.
    Offline,
    /// No session.
    LoggedOut,
    /// Another device took over.
    Superseded,
}

/// Of `login`, `logout` and `wait online` (schema `session`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionAnswer {
    /// The account.
    pub username: Username,
    /// Where it stands.
    pub state: SessionState,
    /// The UDP port of the peer listener; 0 when it is closed.
    pub peer_port: u16,
    /// The UDP port of the room listener; 0 when it is closed.
    pub room_port: u16,
    /// The registry with its key.
    pub registry: RegistryAddress,
    /// The interval of HELLO now, in milliseconds; 0 without a session.
    pub hello_interval_ms: u32,
    /// Whether this call pinned the registry's key by trust on first use.
    #[serde(default)]
    pub newly_pinned: bool,
}

/// Whether a user can be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Presence {
    /// HELLO came in time, or a link is up.
    Online,
    /// Neither.
    Offline,
}

/// Of `search` and `wait peer` (schema `user`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserAnswer {
    /// The account.
    pub username: Username,
    /// By HELLO alone.
    pub presence: Presence,
    /// Its peer key.
    pub key: PublicKey,
    /// Where its peer listener was at the last login or resume.
    pub addresses: Vec<SocketAddr>,
    /// Where its room listener was.
    #[serde(default)]
    pub room_addresses: Vec<SocketAddr>,
    /// Since the last HELLO, in milliseconds.
    pub last_hello_ms_ago: Option<u64>,
    /// Whether the registry knows it. `false`: it restarted a moment ago and has not heard of the user since.
    /// Left out while `true`.
    #[serde(default = "confirmed", skip_serializing_if = "is_true")]
    pub presence_confirmed: bool,
}

/// What a peerd meant that did not say it.
fn confirmed() -> bool {
    true
}

fn is_true(value: &bool) -> bool {
    *value
}

/// Where a chat stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChatState {
    /// Asked, not answered.
    Pending,
    /// Both are in it.
    Active,
    /// The peer vanished; it goes on when it is back.
    Interrupted,
    /// The peer said no.
    Rejected,
    /// The peer is in another chat.
    Busy,
    /// Nobody answered in time.
    TimedOut,
    /// Over.
    Ended,
    /// No chat, but messages of this user are taken from now on (`accept` of waiting messages).
    Allowed,
}

/// Of `chat`, `accept`, `reject` and `end` (schema `chat`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChatAnswer {
    /// The other side.
    pub peer: Username,
    /// Where it stands.
    pub state: ChatState,
}

/// Of `requests` (schema `requests`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestsAnswer {
    /// Oldest first.
    pub requests: Vec<RequestAnswer>,
}

/// Somebody who asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestAnswer {
    /// Who.
    pub from: Username,
    /// Since when.
    pub since: Timestamp,
    /// How many messages wait at the sender.
    pub messages_waiting: u64,
    /// Whether a chat rings.
    #[serde(default)]
    pub chat: bool,
}

/// The state of our message, each durable before it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MessageState {
    /// On our disk.
    Queued,
    /// On the disks of all recipients.
    Delivered,
    /// Its time ran out.
    Expired,
    /// A recipient said no.
    Rejected,
    /// It cannot be delivered, or was cancelled.
    Failed,
}

/// Of `send` (schema `sent`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SentAnswer {
    /// The message's id.
    pub id: MessageId,
    /// The recipient of a 1:1 message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Username>,
    /// The room.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub room: Option<RoomName>,
    /// Its state.
    pub state: MessageState,
    /// How many recipients confirmed it themselves.
    pub delivered: u32,
    /// How many there are: members at the entry's epoch less the author; 1 in a 1:1 conversation.
    pub of: u32,
}

/// Of `listen` and `ack`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListenAnswer {
    /// The id of the event log: numbers of another log mean nothing here.
    pub log: String,
    /// The newest number.
    pub head: u64,
}

/// Of `history`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryAnswer {
    /// Oldest first.
    pub messages: Vec<HistoryMessage>,
    /// Set where not all that was asked for fits a line: `before` of the next page, which is older.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub earlier: Option<HistoryPlace>,
}

/// One message of a history (schema `event`, type `message`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryMessage {
    /// The event's number, of messages that came; null for our own.
    pub n: Option<u64>,
    /// When peerd recorded it.
    pub time: Timestamp,
    /// Always `message`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its author.
    pub from: Username,
    /// The room, or null.
    pub room: Option<RoomName>,
    /// Known by its author.
    pub id: MessageId,
    /// The text.
    pub body: String,
    /// When its author wrote it, by the author's clock.
    pub sent: Timestamp,
    /// Of our own messages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<MessageState>,
}

/// Whether a member's room link is up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkState {
    /// Up; ourselves always.
    Connected,
    /// Not there now. Absent is not gone.
    Absent,
}

/// Of the verbs about one room (schema `room`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomAnswer {
    /// Its name.
    pub room: RoomName,
    /// Who owns it.
    pub owner: Option<Username>,
    /// Who may join.
    pub access: Access,
    /// What a joiner may read.
    pub history: HistoryAccess,
    /// The newest membership epoch known.
    pub epoch: u64,
    /// By name.
    pub members: Vec<MemberAnswer>,
}

/// A member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberAnswer {
    /// Who.
    pub username: Username,
    /// What it may do.
    pub role: Role,
    /// Whether its link is up.
    pub link: LinkState,
}

/// Of `rooms` (schema `rooms`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomsAnswer {
    /// By name.
    pub rooms: Vec<RoomAnswer>,
}

/// Of `status` (schema `status`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusAnswer {
    /// The account, if the profile has one.
    pub username: Option<Username>,
    /// Where the session stands.
    pub session: SessionState,
    /// The registry with its key, if the profile has one.
    pub registry: Option<RegistryAddress>,
    /// The address of the peer listener, if it is open.
    pub peer_listener: Option<SocketAddr>,
    /// The address of the room listener, if it is open.
    pub room_listener: Option<SocketAddr>,
    /// Chats that are pending, active or interrupted.
    pub chats: Vec<ChatAnswer>,
    /// Names of our rooms.
    pub rooms: Vec<RoomName>,
    /// How many messages wait.
    pub outbox: u64,
    /// peerd's version.
    pub version: String,
    /// The interval of HELLO now, in milliseconds; 0 without a session.
    #[serde(default)]
    pub hello_interval_ms: u32,
    /// The newest event.
    #[serde(default)]
    pub head: u64,
    /// Room requests that wait for `join-room`.
    #[serde(default)]
    pub invited: Vec<RoomName>,
    /// Whether peerd waits for space on its disk: it only reads then.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub disk_full: bool,
}

/// Of `wait`: what `status`, `search` or `members` would tell now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum WaitAnswer {
    /// Of `wait online`.
    Status(Box<StatusAnswer>),
    /// Of `wait peer`.
    User(UserAnswer),
    /// Of `wait member`.
    Member(MemberAnswer),
}

/// Of `contacts` (schema `contacts`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContactsAnswer {
    /// The policy for unknown users.
    pub default_policy: PolicyName,
    /// By name.
    pub contacts: Vec<ContactAnswer>,
}

/// One contact (schema `contact`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContactAnswer {
    /// Who; `None` where the default policy is told.
    pub username: Option<Username>,
    /// The pinned key.
    pub key: Option<PublicKey>,
    /// The policy that holds.
    pub policy: PolicyName,
    /// Whether the numbers were compared.
    #[serde(default)]
    pub verified: bool,
    /// Another key that the registry shows, and nobody has trusted yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub untrusted_key: Option<PublicKey>,
    /// Whether a link is up.
    pub link: LinkState,
}

/// Of `verify` (schema `verify`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifyAnswer {
    /// Who.
    pub username: Username,
    /// 60 digits in groups of five, the same at both sides.
    pub number: String,
    /// Our key.
    pub our_key: PublicKey,
    /// Theirs.
    pub their_key: PublicKey,
    /// Whether the numbers were compared.
    pub verified: bool,
}

/// Of `outbox`, `outbox_cancel` and `outbox_retry` (schema `outbox`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutboxAnswer {
    /// Oldest first.
    pub messages: Vec<OutboxMessage>,
}

/// A message not yet delivered to all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutboxMessage {
    /// Its id.
    pub id: MessageId,
    /// The recipient of a 1:1 message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Username>,
    /// The room.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub room: Option<RoomName>,
    /// Its state.
    pub state: MessageState,
    /// Since when it waits.
    pub queued: Timestamp,
    /// How many recipients confirmed it themselves.
    pub delivered: u32,
    /// How many there are.
    pub of: u32,
    /// Why it waits or failed: `peer_offline`, `untrusted_key`, `blocked`, `rejected` …; `null` while under
    /// way.
    #[serde(default)]
    pub reason: Option<Code>,
}

/// Of `version` (schema `version`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionAnswer {
    /// peerd's version.
    pub peerd: String,
    /// [`super::API_VERSION`].
    pub api: u32,
}
