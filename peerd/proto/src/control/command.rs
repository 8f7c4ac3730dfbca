//! Commands: the verbs of the API with their params. One verb, one name, as in p2pctl.

use registryd_proto::{Access, HistoryAccess, Password, RegistryAddress, Role, RoomName, Username};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{answer::*, place::HistoryPlace};
use crate::wire::MessageId;

/// A verb: its params, with the type of its answer. Clients call by it; peerd dispatches on [`Command`].
pub trait Verb: Into<Command> {
    /// What peerd answers.
    type Answer: Serialize + DeserializeOwned;
}

macro_rules! verbs {
    ($($(#[$doc:meta])* $name:ident => $answer:ty;)*) => {
        /// Any verb, as `method` and `params` of a request.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "method", content = "params", rename_all = "snake_case")]
        pub enum Command {
            $($(#[$doc])* $name($name),)*
        }

        $(
            impl From<$name> for Command {
                fn from(params: $name) -> Command {
                    Command::$name(params)
                }
            }

            impl Verb for $name {
                type Answer = $answer;
            }
        )*
    };
}

verbs! {
    /// A new account at a registry, bound to this profile's keys.
    CreateAccount => AccountAnswer;
    /// Proves the password, opens both listeners, comes online.
    Login => SessionAnswer;
    /// Ends the session, durably.
    Logout => SessionAnswer;
    /// One user by exact name.
    Search => UserAnswer;
    /// Asks for a chat; answered when the peer has answered.
    Chat => ChatAnswer;
    /// Yes to a request.
    Accept => ChatAnswer;
    /// No to a request.
    Reject => ChatAnswer;
    /// Ends a chat, or withdraws our request.
    End => ChatAnswer;
    /// Who asks.
    Requests => RequestsAnswer;
    /// One message.
    Send => SentAnswer;
    /// Turns the connection into a stream of events.
    Listen => ListenAnswer;
    /// A named consumer has dealt with all up to a number.
    Ack => ListenAnswer;
    /// Messages of a conversation, oldest first.
    History => HistoryAnswer;
    /// A new room.
    CreateRoom => RoomAnswer;
    /// Become a member.
    JoinRoom => RoomAnswer;
    /// Leave a room, or decline an invitation.
    LeaveRoom => RoomAnswer;
    /// Our rooms.
    Rooms => RoomsAnswer;
    /// One room's members.
    Members => RoomAnswer;
    /// Lets a user join a room.
    Invite => RoomAnswer;
    /// Removes a member.
    Kick => RoomAnswer;
    /// Changes a member's role.
    SetRole => RoomAnswer;
    /// Deletes a room.
    DeleteRoom => RoomAnswer;
    /// How peerd is.
    Status => StatusAnswer;
    /// Answered when something has come true.
    Wait => WaitAnswer;
    /// The contacts.
    Contacts => ContactsAnswer;
    /// Reads or sets a contact's policy, or the default.
    Policy => ContactAnswer;
    /// The number that both sides can compare.
    Verify => VerifyAnswer;
    /// Takes the key that a contact shows now.
    Trust => ContactAnswer;
    /// Messages not yet delivered.
    Outbox => OutboxAnswer;
    /// Gives a message up.
    OutboxCancel => OutboxAnswer;
    /// Tries now to reach the recipients of waiting messages.
    OutboxRetry => OutboxAnswer;
    /// A new password.
    Passwd => AccountAnswer;
    /// Deletes the account at the registry.
    DeleteAccount => AccountAnswer;
    /// Which versions peerd speaks.
    Version => VersionAnswer;
}

/// Params of `create_account`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CreateAccount {
    /// The name wanted.
    pub username: Username,
    /// Where; without a key: trust on first use.
    pub registry: RegistryAddress,
    /// The password.
    pub password: Password,
    /// Where registration is by invite.
    #[serde(default)]
    pub invite: Option<String>,
}

/// Params of `login`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Login {
    /// The account.
    pub username: Username,
    /// Where; default: the registry that the profile belongs to.
    #[serde(default)]
    pub registry: Option<RegistryAddress>,
    /// The password.
    pub password: Password,
    /// UDP port of the peer listener; 0: any free one; default: the one used last, else any.
    #[serde(default)]
    pub peer_port: Option<u16>,
    /// UDP port of the room listener, likewise.
    #[serde(default)]
    pub room_port: Option<u16>,
    /// Log in though another device is online.
    #[serde(default)]
    pub takeover: bool,
}

/// Params of `logout`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Logout {}

/// Params of `search`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Search {
    /// The exact name.
    pub username: Username,
}

/// Params of `chat`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Chat {
    /// Whom.
    pub username: Username,
    /// How long it rings, in milliseconds: 1,000 to 3,600,000; default 60,000.
    #[serde(default)]
    pub ring_ms: Option<u32>,
}

/// Params of `accept`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Accept {
    /// Whose request.
    pub username: Username,
}

/// Params of `reject`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reject {
    /// Whose request.
    pub username: Username,
}

/// Params of `end`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct End {
    /// The chat with whom.
    pub username: Username,
}

/// Params of `requests`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Requests {}

/// A user or a room: `{"user":"bob"}` or `{"room":"den"}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// A 1:1 conversation.
    User(Username),
    /// A room.
    Room(RoomName),
}

/// How long `send` waits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WaitUntil {
    /// Until the message is durable here.
    Queued,
    /// Until all recipients have it on disk.
    #[default]
    Delivered,
}

/// Params of `send`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Send {
    /// To whom.
    pub to: Target,
    /// The text: 1 byte to 64 KiB.
    pub body: String,
    /// What to wait for.
    #[serde(default)]
    pub wait: WaitUntil,
    /// How long to wait, in milliseconds; default 30,000. Then `timed_out` or `partial`, still queued.
    #[serde(default)]
    pub timeout_ms: Option<u64>,
    /// The same id again with the same body is the same message; with another body it is `conflict`.
    #[serde(default)]
    pub id: Option<MessageId>,
    /// Give up after so many milliseconds if it is not delivered by then. Default: never.
    #[serde(default)]
    pub expires_ms: Option<u64>,
}

/// Params of `listen`. The filters leave events out; the numbers of those that come do not change.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Listen {
    /// Begin with the event after this number; default: after the newest.
    #[serde(default)]
    pub after: Option<u64>,
    /// A named consumer: begins after what it acknowledged; a new name begins at the newest event.
    #[serde(default)]
    pub consumer: Option<String>,
    /// The consumer acknowledges an event as soon as its line is written.
    #[serde(default)]
    pub ack_written: bool,
    /// Only events about this user.
    #[serde(default)]
    pub from: Option<Username>,
    /// Only events about this room.
    #[serde(default)]
    pub room: Option<RoomName>,
    /// Only these types; empty: all.
    #[serde(default)]
    pub types: Vec<String>,
}

/// Params of `ack`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ack {
    /// The consumer's name, `[a-z0-9._-]{1,32}`.
    pub consumer: String,
    /// The highest number dealt with.
    pub n: u64,
}

/// Params of `history`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// With whom, or where.
    pub target: Target,
    /// The newest so many, at most 10,000; default 100.
    #[serde(default)]
    pub limit: Option<u32>,
    /// Only messages whose text contains this.
    #[serde(default)]
    pub search: Option<String>,
    /// Only messages before this place: [`HistoryAnswer::earlier`] of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<HistoryPlace>,
}

/// Params of `create_room`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CreateRoom {
    /// Its name.
    pub room: RoomName,
    /// Who may join.
    pub access: Access,
    /// What a joiner may read.
    pub history: HistoryAccess,
    /// With access `password`, and only then.
    #[serde(default)]
    pub password: Option<Password>,
}

/// Params of `join_room`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JoinRoom {
    /// Which.
    pub room: RoomName,
    /// With access `password`.
    #[serde(default)]
    pub password: Option<Password>,
}

/// Params of `leave_room`. The answer is the room as it was; of one that we were only invited to, nothing is
/// known: it has epoch 0 and no members.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LeaveRoom {
    /// Which.
    pub room: RoomName,
}

/// Params of `rooms`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Rooms {}

/// Params of `members`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Members {
    /// Which room.
    pub room: RoomName,
}

/// Params of `invite`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Invite {
    /// Which room.
    pub room: RoomName,
    /// Whom.
    pub username: Username,
}

/// Params of `kick`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Kick {
    /// Which room.
    pub room: RoomName,
    /// Whom.
    pub username: Username,
}

/// Params of `set_role`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SetRole {
    /// Which room.
    pub room: RoomName,
    /// Whose.
    pub username: Username,
    /// The new role.
    pub role: Role,
}

/// Params of `delete_room`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeleteRoom {
    /// Which.
    pub room: RoomName,
}

/// Params of `status`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {}

/// What `wait` waits for: `{"for":"online"}`, `{"for":"peer","username":"bob"}` …
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "for", rename_all = "snake_case")]
pub enum WaitFor {
    /// Our session is online.
    Online,
    /// A peer is online at the registry, or linked to us.
    Peer {
        /// Who.
        username: Username,
    },
    /// A member's room link is connected.
    Member {
        /// Which room.
        room: RoomName,
        /// Who.
        username: Username,
    },
}

/// Params of `wait`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Wait {
    /// For what.
    #[serde(flatten)]
    pub what: WaitFor,
    /// How long, in milliseconds; default 30,000. Then `timed_out`.
    #[serde(default)]
    pub timeout_ms: Option<u64>,
}

/// Params of `contacts`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Contacts {}

/// What a contact may do without a chat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PolicyName {
    /// Messages are taken at once.
    Allow,
    /// Messages wait at the sender until `accept` or `reject`.
    Ask,
    /// Nothing is taken.
    Block,
}

/// Params of `policy`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Policy {
    /// Whose; `None`: the default for unknown users.
    #[serde(default)]
    pub username: Option<Username>,
    /// The new policy; `None`: only tell.
    #[serde(default)]
    pub policy: Option<PolicyName>,
}

/// Params of `verify`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verify {
    /// Whom.
    pub username: Username,
    /// Marks the contact verified: the numbers were compared and are equal.
    #[serde(default)]
    pub confirm: bool,
}

/// Params of `trust`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trust {
    /// Whom.
    pub username: Username,
    /// Only if the key shown now is this one.
    #[serde(default)]
    pub key: Option<registryd_proto::PublicKey>,
}

/// Params of `outbox`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Outbox {}

/// Params of `outbox_cancel`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OutboxCancel {
    /// The message.
    pub id: MessageId,
}

/// Params of `outbox_retry`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct OutboxRetry {}

/// Params of `passwd`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Passwd {
    /// The old password.
    pub old: Password,
    /// The new one.
    pub new: Password,
}

/// Params of `delete_account`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeleteAccount {
    /// The password.
    pub password: Password,
}

/// Params of `version`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Version {}
