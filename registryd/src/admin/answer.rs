//! What an operator is told: the answers, as they stand in a line and in the output of `registryd admin --json`.
//!
//! Each has its schema in front. Times are RFC 3339 in UTC.

use std::{
    fmt,
    net::IpAddr,
    time::{Duration, UNIX_EPOCH},
};

use registryd_proto::{Access, Code, HistoryAccess, PublicKey, Role, RoomId, RoomName, Username};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use serde_json::value::RawValue;

/// An answer with a schema of its own.
pub(crate) trait Answer: Serialize {
    /// The NAME of `registryd.admin.NAME/1`.
    const NAME: &'static str;

    /// As JSON, with its schema in front.
    fn to_json(&self) -> Box<RawValue> {
        #[derive(Serialize)]
        struct WithSchema<'a, T: ?Sized> {
            schema: String,
            #[serde(flatten)]
            answer: &'a T,
        }
        let schema = format!("registryd.admin.{}/1", Self::NAME);
        serde_json::value::to_raw_value(&WithSchema { schema, answer: self })
            .expect("answers are plain JSON")
    }
}

/// A line of the server: an answer or a refusal.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Response {
    /// Of the request; `null` if it could not be read.
    pub(crate) id: Option<u64>,
    /// It ended well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) result: Option<Box<RawValue>>,
    /// It did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<Refusal>,
}

/// Why not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Refusal {
    /// The word of the table of codes.
    pub(crate) code: Code,
    /// For people.
    pub(crate) message: String,
    /// What helps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) hint: Option<String>,
    /// Whether the same request may succeed later.
    pub(crate) retryable: bool,
    /// When that makes sense.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) retry_after_ms: Option<u64>,
}

/// A wall-clock time in milliseconds since 1970, written as `2026-11-22T10:00:00.000Z`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Time(pub(crate) u64);

/// The end of the year 9999, the last time that RFC 3339 can write.
const LAST_MS: u64 = 253_402_300_799_999;

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = UNIX_EPOCH + Duration::from_millis(self.0.min(LAST_MS));
        humantime::format_rfc3339_millis(time).fmt(f)
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let time = humantime::parse_rfc3339(&text).map_err(D::Error::custom)?;
        let since = time.duration_since(UNIX_EPOCH).map_err(D::Error::custom)?;
        Ok(Self(u64::try_from(since.as_millis()).map_err(D::Error::custom)?))
    }
}

/// Where an account stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum UserState {
    /// In use.
    Active,
    /// The operator made it, no device has logged in yet: for others it is not there.
    New,
    /// Nobody is let in.
    Disabled,
    /// Only the name is kept.
    Deleted,
}

/// Whether somebody is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Presence {
    /// A HELLO came in time.
    Online,
    /// None did.
    Offline,
    /// The registry restarted a moment ago: nobody knows yet.
    Unknown,
}

/// An account in a list.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct UserItem {
    /// Its name.
    pub(crate) username: Username,
    /// Where it stands.
    pub(crate) state: UserState,
    /// Whether its device is there.
    pub(crate) presence: Presence,
    /// When it was made.
    pub(crate) created: Time,
    /// When its session was opened; `null`: logged out.
    pub(crate) session: Option<Time>,
}

/// A page of accounts.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Users {
    /// By name.
    pub(crate) users: Vec<UserItem>,
    /// What to ask for the page after this one; `null`: this is the last.
    pub(crate) next: Option<Username>,
}

impl Answer for Users {
    const NAME: &'static str = "users";
}

/// An account.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct User {
    /// As in a list.
    #[serde(flatten)]
    pub(crate) item: UserItem,
    /// Since its last HELLO, if one came since the registry started.
    pub(crate) last_hello_ms_ago: Option<u64>,
    /// From where its last HELLO came.
    pub(crate) address: Option<IpAddr>,
    /// The key of its device; `null`: none has logged in yet.
    pub(crate) key: Option<PublicKey>,
    /// The number of the invitation that made it.
    pub(crate) invited_by: Option<u64>,
    /// By name.
    pub(crate) rooms: Vec<UserRoom>,
}

impl Answer for User {
    const NAME: &'static str = "user";
}

/// A room of an account.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct UserRoom {
    /// Its name.
    pub(crate) room: RoomName,
    /// The account's role there.
    pub(crate) role: Role,
}

/// A session in a list.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SessionItem {
    /// Whose.
    pub(crate) username: Username,
    /// Whether the device is there.
    pub(crate) presence: Presence,
    /// Since its last HELLO, if one came since the registry started.
    pub(crate) last_hello_ms_ago: Option<u64>,
    /// From where that came.
    pub(crate) address: Option<IpAddr>,
    /// When it was opened.
    pub(crate) opened: Time,
    /// Grows with each login and each start of a device.
    pub(crate) epoch: u64,
}

/// A page of sessions.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Sessions {
    /// By the age of their accounts.
    pub(crate) sessions: Vec<SessionItem>,
    /// What to ask for the page after this one; `null`: this is the last.
    pub(crate) next: Option<Username>,
}

impl Answer for Sessions {
    const NAME: &'static str = "sessions";
}

/// What became of a session.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Session {
    /// Whose.
    pub(crate) username: Username,
    /// Always `ended`.
    pub(crate) state: SessionState,
}

/// Where a session stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum SessionState {
    /// Over: the device is logged out.
    Ended,
}

impl Answer for Session {
    const NAME: &'static str = "session";
}

/// Where a room stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RoomState {
    /// In use.
    Active,
    /// Deleted by this very request.
    Deleted,
}

/// A room in a list.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct RoomItem {
    /// Its name.
    pub(crate) room: RoomName,
    /// Who owns it.
    pub(crate) owner: Username,
    /// Who may join.
    pub(crate) access: Access,
    /// How many members it has.
    pub(crate) member_count: u32,
    /// The newest epoch of its log.
    pub(crate) epoch: u64,
}

/// A page of rooms.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Rooms {
    /// By name.
    pub(crate) rooms: Vec<RoomItem>,
    /// What to ask for the page after this one; `null`: this is the last.
    pub(crate) next: Option<RoomName>,
}

impl Answer for Rooms {
    const NAME: &'static str = "rooms";
}

/// A member of a room.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct MemberItem {
    /// Who.
    pub(crate) username: Username,
    /// What it may do.
    pub(crate) role: Role,
    /// Whether it is there.
    pub(crate) presence: Presence,
}

/// A room.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Room {
    /// As in a list.
    #[serde(flatten)]
    pub(crate) item: RoomItem,
    /// Where it stands.
    pub(crate) state: RoomState,
    /// Its id, which no other room ever has.
    pub(crate) id: RoomId,
    /// What a joiner may read.
    pub(crate) history: HistoryAccess,
    /// By name; those of the end, if it was deleted.
    pub(crate) members: Vec<MemberItem>,
}

impl Answer for Room {
    const NAME: &'static str = "room";
}

/// Where an invitation stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum InviteState {
    /// It makes accounts.
    Open,
    /// It has made all its accounts.
    UsedUp,
    /// Its time is over.
    Expired,
    /// The operator took it back.
    Revoked,
}

/// An invitation to the registry.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Invite {
    /// Its number, to revoke it by.
    pub(crate) id: u64,
    /// What `p2pctl create-account --invite` takes; told once, when it is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) code: Option<String>,
    /// Where it stands.
    pub(crate) state: InviteState,
    /// How many accounts it makes in all.
    pub(crate) uses: u32,
    /// How many it has made.
    pub(crate) used: u32,
    /// When it was made.
    pub(crate) created: Time,
    /// From when on it is void.
    pub(crate) expires: Time,
    /// As the operator wrote it.
    pub(crate) note: String,
}

impl Answer for Invite {
    const NAME: &'static str = "invite";
}

/// A page of invitations.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Invites {
    /// By number.
    pub(crate) invites: Vec<Invite>,
    /// What to ask for the page after this one; `null`: this is the last.
    pub(crate) next: Option<u64>,
}

impl Answer for Invites {
    const NAME: &'static str = "invites";
}

impl Answer for crate::stats::snapshot::Snapshot {
    const NAME: &'static str = "stats";
}

impl Answer for crate::stats::health::Health {
    const NAME: &'static str = "health";
}
