//! What an operator can ask: the verbs and their parameters, as they stand in a line.

use registryd_proto::{Password, RoomName, Username};
use serde::{Deserialize, Serialize};

/// The most bytes of a request's line: the longest parameters are a password and a note.
pub(crate) const LINE_BYTES_MAX: usize = 16 * 1024;

/// The most items in one page: an answer stays well below a megabyte.
pub(crate) const PAGE_MAX: u32 = 500;

/// A request.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Request {
    /// Comes back in the answer.
    pub(crate) id: u64,
    /// What is asked.
    #[serde(flatten)]
    pub(crate) verb: Verb,
}

/// What is asked.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "method", content = "params", rename_all = "snake_case")]
pub(crate) enum Verb {
    /// A new account, whose first device comes with the first login. → `user`
    UsersAdd {
        /// The name wanted.
        username: Username,
        /// For the first login.
        password: Password,
    },
    /// Ends the session of an account and lets nobody in. → `user`
    UsersDisable(User),
    /// Takes that back. → `user`
    UsersEnable(User),
    /// Replaces a password; a session goes on. → `user`
    UsersPasswd {
        /// Whose.
        username: Username,
        /// The new one.
        password: Password,
    },
    /// Deletes an account as its owner can: the name stays taken. → `user`
    UsersDelete(User),
    /// All accounts, by name. → `users`
    UsersList(Page<Username>),
    /// One account. → `user`
    UsersShow(User),
    /// All sessions, by the age of their accounts. → `sessions`
    SessionsList(Page<Username>),
    /// Ends a session as a logout does. → `session`
    SessionsKick(User),
    /// All rooms, by name. → `rooms`
    RoomsList(Page<RoomName>),
    /// One room with its members. → `room`
    RoomsShow(Room),
    /// Deletes a room in its owner's place. → `room`
    RoomsDelete(Room),
    /// A new invitation to the registry. → `invite`, with its code
    InvitesCreate {
        /// How many accounts it makes; 1 to 1,000,000.
        uses: u32,
        /// How long it holds, in milliseconds; at most ten years.
        expires_ms: u64,
        /// For the operator; at most 500 bytes.
        note: String,
    },
    /// All invitations, by number, without their codes. → `invites`
    InvitesList(Page<u64>),
    /// Takes an invitation back. → `invite`
    InvitesRevoke {
        /// Its number.
        id: u64,
    },
    /// What the registry has counted since it started. → `stats`
    Stats,
    /// Whether it can do its work. → `health`
    Health,
}

/// A user by exact name.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct User {
    /// The name.
    pub(crate) username: Username,
}

/// A room by exact name.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Room {
    /// The name.
    pub(crate) room: RoomName,
}

/// A page of a list.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Page<K> {
    /// The `next` of the page before; without it the first page.
    #[serde(default = "none")]
    pub(crate) after: Option<K>,
    /// So many items at most; never more than [`PAGE_MAX`].
    #[serde(default = "page_max")]
    pub(crate) limit: u32,
}

fn none<K>() -> Option<K> {
    None
}

fn page_max() -> u32 {
    PAGE_MAX
}
