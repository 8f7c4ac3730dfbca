//! Requests to the registry and its replies.
//!
//! A request is one JSON object with the tag `request`; the reply is `{"ok":{"reply":…}}` or
//! `{"error":{"code":…,"message":…,"retry_after_ms":…}}`. Readers ignore fields that they do not know.
//!
//! Without an enrolled key only `create_account` and `login` are answered; everything else is
//! `not_logged_in`. The key of a former device is answered `superseded`.
//!
//! Example, on the connection of bob's peer key:
//! `{"request":"search","username":"alice"}` is answered by
//! `{"ok":{"reply":"user","username":"alice","presence":"online","last_hello_ms_ago":412,…}}`.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::{
    card::{Card, KeyBinding},
    code::Code,
    digest::Digest,
    hello::SessionKey,
    membership::{Access, HistoryAccess, Member, MembershipRecord, Role, RoomId},
    name::{RoomName, Username},
    signed::Signed,
};

/// The most addresses a peer may register for each listener.
pub const ADDRESSES_MAX: usize = 16;

/// A password: 8 to 256 bytes. Debug shows nothing, memory is wiped on drop.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
#[serde(try_from = "String")]
pub struct Password(String);

/// The text has fewer than 8 or more than 256 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a password has 8 to 256 bytes")]
pub struct PasswordLength;

impl Password {
    /// Wraps a text of 8 to 256 bytes.
    ///
    /// # Errors
    /// [`PasswordLength`].
    pub fn new(text: String) -> Result<Self, PasswordLength> {
        if (8..=256).contains(&text.len()) { Ok(Self(text)) } else { Err(PasswordLength) }
    }

    /// The bytes, for the hash alone.
    pub fn expose(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl TryFrom<String> for Password {
    type Error = PasswordLength;
    fn try_from(text: String) -> Result<Self, PasswordLength> {
        Self::new(text)
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

/// Where a user's two listeners can be reached.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoints {
    /// Of the peer listener, best first; at most [`ADDRESSES_MAX`].
    pub peer: Vec<SocketAddr>,
    /// Of the room listener, best first; at most [`ADDRESSES_MAX`].
    pub room: Vec<SocketAddr>,
}

/// What a client asks. One verb, one name, as in p2pctl.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case")]
pub enum Request {
    /// A new account, bound to the keys given; the connection's key must be the peer key. → `account`
    CreateAccount {
        /// The name wanted.
        username: Username,
        /// The password.
        password: Password,
        /// The keys.
        binding: KeyBinding,
        /// Where registration is by invite.
        #[serde(default)]
        invite: Option<String>,
    },
    /// Proves the password, binds the keys, takes a new session epoch. → `session`
    Login {
        /// The account.
        username: Username,
        /// The password.
        password: Password,
        /// The keys.
        binding: KeyBinding,
        /// Drawn anew for each login: the same attempt again gets the same session.
        attempt: Digest,
        /// Log in though another device is online.
        #[serde(default)]
        takeover: bool,
        /// Where the listeners are. An address `0.0.0.0` or `[::]` stands for the one that the registry sees.
        endpoints: Endpoints,
    },
    /// A started peerd comes back by its key. → `session`
    Resume {
        /// As in login.
        attempt: Digest,
        /// As in login.
        endpoints: Endpoints,
        /// The highest card serial that the peer holds; the registry adopts it if it is behind.
        serial: u64,
        /// The highest session epoch that the peer holds, likewise.
        epoch: u64,
    },
    /// Ends the session, durably. → `done`
    Logout,
    /// One user by exact name. → `user`
    Search {
        /// The name.
        username: Username,
    },
    /// Tell me by a nudge, once, when this user comes online. Kept in memory until the registry restarts;
    /// at most 1,000 for an account. → `user`
    Watch {
        /// The name.
        username: Username,
    },
    /// What changed after an account version. → `sync`
    Sync {
        /// The version last seen; 0 for everything.
        version: u64,
    },
    /// A new room with the caller as owner. → `room`
    CreateRoom {
        /// Its name.
        room: RoomName,
        /// Who may join.
        access: Access,
        /// With access `password`, and only then.
        #[serde(default)]
        password: Option<Password>,
        /// What a joiner may read.
        history: HistoryAccess,
    },
    /// Become a member; a member already is answered the same. → `room`
    JoinRoom {
        /// Which.
        room: RoomName,
        /// With access `password`.
        #[serde(default)]
        password: Option<Password>,
    },
    /// Leave. The owner cannot while others are members: give the room away, or delete it. Who is no member
    /// but invited declines. → `done`
    LeaveRoom {
        /// Which.
        room: RoomName,
    },
    /// The caller's rooms. → `rooms`
    ListRooms,
    /// Log after an epoch, and where the members are; members only. → `room`
    RoomMembers {
        /// Which.
        room: RoomName,
        /// Only records with a higher epoch.
        #[serde(default)]
        after_epoch: u64,
    },
    /// Lets a user join a room with access `invite`; owner or moderator. → `done`
    Invite {
        /// Which room.
        room: RoomName,
        /// Whom.
        username: Username,
    },
    /// Removes a member of a lower role; owner or moderator. → `done`
    Kick {
        /// Which room.
        room: RoomName,
        /// Whom.
        username: Username,
    },
    /// Changes a role; owner. → `done`
    SetRole {
        /// Which room.
        room: RoomName,
        /// Whose.
        username: Username,
        /// The new role.
        role: Role,
    },
    /// Deletes the room; owner. → `done`
    DeleteRoom {
        /// Which.
        room: RoomName,
    },
    /// A new password, proved by the old one. → `done`
    ChangePassword {
        /// The old one.
        old: Password,
        /// The new one.
        new: Password,
    },
    /// Deletes the account: it leaves its rooms, owned rooms are deleted, the name stays taken for ever so
    /// that nobody inherits its contacts. → `done`
    DeleteAccount {
        /// The password.
        password: Password,
    },
}

/// A request that succeeded or failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// The value.
    Ok(Reply),
    /// The failure.
    Error(Failure),
}

/// Why a request failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{code}: {message}")]
pub struct Failure {
    /// For programs, for ever.
    pub code: Code,
    /// For people.
    pub message: String,
    /// When trying again makes sense, in milliseconds from now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}

impl Failure {
    /// A failure that does not say when to try again.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), retry_after_ms: None }
    }
}

/// The value of a request that succeeded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "snake_case")]
pub enum Reply {
    /// Of `create_account`.
    Account(Account),
    /// Of `login` and `resume`.
    Session(SessionGrant),
    /// Of requests that change something and say nothing more.
    Done,
    /// Of `search` and `watch`.
    User(UserView),
    /// Of `create_room`, `join_room` and `room_members`.
    Room(RoomView),
    /// Of `list_rooms`.
    Rooms {
        /// The caller's rooms.
        rooms: Vec<RoomListing>,
    },
    /// Of `sync`.
    Sync(SyncReply),
}

/// A new account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Its name.
    pub username: Username,
    /// Its first card.
    pub card: Signed<Card>,
}

/// A session: what peerd needs to say HELLO.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionGrant {
    /// The account.
    pub username: Username,
    /// The session's id at the registry.
    pub session: u64,
    /// Grows with each login and resume; a peerd that finds its epoch old is superseded.
    pub epoch: u64,
    /// Seals the HELLOs. In peerd's memory only.
    pub key: SessionKey,
    /// The UDP port of HELLO, on the host of the registry.
    pub hello_port: u16,
    /// The interval to begin with, in milliseconds.
    pub interval_ms: u32,
    /// The registry's current boot id, for the first HELLO.
    pub boot: u64,
    /// The caller's own card.
    pub card: Signed<Card>,
    /// The account's version now.
    pub version: u64,
    /// Registry time, milliseconds since 1970.
    pub server_time_ms: u64,
    /// The address from which the registry sees the caller.
    pub observed: IpAddr,
}

/// Whether HELLOs come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PresenceState {
    /// HELLO came in time.
    Online,
    /// It did not.
    Offline,
}

/// What the registry tells of a user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserView {
    /// The account.
    pub username: Username,
    /// By HELLO alone.
    pub presence: PresenceState,
    /// Since the last HELLO, in milliseconds; `None` if there was none since the registry started.
    pub last_hello_ms_ago: Option<u64>,
    /// Whether presence is known. `false`: the registry restarted a moment ago and has not heard of the user
    /// since, so `offline` says only that. Left out while `true`.
    #[serde(default = "confirmed", skip_serializing_if = "is_true")]
    pub confirmed: bool,
    /// The card.
    pub card: Signed<Card>,
    /// Where the listeners were at the last login or resume.
    pub endpoints: Endpoints,
}

/// What a registry meant that did not say it.
fn confirmed() -> bool {
    true
}

fn is_true(value: &bool) -> bool {
    *value
}

/// A room in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomListing {
    /// Its id.
    pub id: RoomId,
    /// Its name.
    pub room: RoomName,
    /// Who may join.
    pub access: Access,
    /// The caller's role.
    pub role: Role,
    /// How many members.
    pub members: u32,
    /// The newest epoch.
    pub epoch: u64,
}

/// A room, its log and where its members are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomView {
    /// Its id.
    pub id: RoomId,
    /// Its name.
    pub room: RoomName,
    /// The newest epoch. If the last record of `log` has a lower one, ask again from there.
    pub epoch: u64,
    /// Records after the epoch asked for, in order.
    pub log: Vec<Signed<MembershipRecord>>,
    /// The members now.
    pub members: Vec<RoomMember>,
}

/// A member and where it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomMember {
    /// Name, keys, role.
    #[serde(flatten)]
    pub member: Member,
    /// Its room listener.
    pub addresses: Vec<SocketAddr>,
    /// By HELLO alone.
    pub presence: PresenceState,
}

/// What changed for an account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncReply {
    /// The account's version now.
    pub version: u64,
    /// The account's session epoch now; 0 without a session. A peerd whose own epoch is lower is superseded.
    #[serde(default)]
    pub epoch: u64,
    /// All rooms of the account, with their newest epochs.
    pub rooms: Vec<RoomListing>,
    /// Rooms with access `invite` that wait for a `join_room`.
    #[serde(default)]
    pub invited: Vec<RoomName>,
    /// Watched users that came online since the version asked for.
    #[serde(default)]
    pub online: Vec<UserView>,
}
