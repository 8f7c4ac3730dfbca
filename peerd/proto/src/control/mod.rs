//! The local control API: JSON-RPC 2.0, one object a line, over peerd's local socket.
//!
//! Any program of the same user can drive peerd with it; p2pctl is one such program.
//!
//! # Order and limits
//!
//! A line has at most [`LINE_BYTES_MAX`] bytes, in both directions. Each request with an id gets exactly
//! one response; responses may come out of the order of their requests. A request that is open when its
//! connection closes is given up: a ringing chat request is withdrawn, a `send` that waits stays queued.
//! After a `listen` the connection carries notifications `event` and `lagged` between the responses.
//!
//! # Example
//!
//! ```text
//! → {"jsonrpc":"2.0","id":1,"method":"search","params":{"username":"bob"}}
//! ← {"jsonrpc":"2.0","id":1,"result":{"username":"bob","presence":"online",…}}
//! → {"jsonrpc":"2.0","id":2,"method":"search","params":{"username":"nobody"}}
//! ← {"jsonrpc":"2.0","id":2,"error":{"code":-32000,"message":"no user nobody","data":{"code":"not_found","retryable":false}}}
//! → {"jsonrpc":"2.0","id":3,"method":"listen","params":{"after":16}}
//! ← {"jsonrpc":"2.0","id":3,"result":{"log":"…","head":17}}
//! ← {"jsonrpc":"2.0","method":"event","params":{"n":17,"time":"2026-11-22T10:00:00.000Z","type":"message",…}}
//! ```

mod answer;
mod command;
mod event;
mod place;
mod rpc;
mod time;

pub use answer::{
    AccountAnswer, ChatAnswer, ChatState, ContactAnswer, ContactsAnswer, HistoryAnswer,
    HistoryMessage, LinkState, ListenAnswer, MemberAnswer, MessageState, OutboxAnswer,
    OutboxMessage, Presence, RequestAnswer, RequestsAnswer, RoomAnswer, RoomsAnswer, SentAnswer,
    SessionAnswer, SessionState, StatusAnswer, UserAnswer, VerifyAnswer, VersionAnswer, WaitAnswer,
};
pub use command::{
    Accept, Ack, Chat, Command, Contacts, CreateAccount, CreateRoom, DeleteAccount, DeleteRoom,
    End, History, Invite, JoinRoom, Kick, LeaveRoom, Listen, Login, Logout, Members, Outbox,
    OutboxCancel, OutboxRetry, Passwd, Policy, PolicyName, Reject, Requests, Rooms, Search, Send,
    SetRole, Status, Target, Trust, Verb, Verify, Version, Wait, WaitFor, WaitUntil,
};
pub use event::{Event, EventKind};
pub use place::{HistoryPlace, PlaceError};
pub use rpc::{Notice, Notification, Request, Response, RpcError, RpcErrorData, VersionTag};
pub use time::Timestamp;

/// The version of this API; `version` tells it. A change that breaks an old client raises it.
pub const API_VERSION: u32 = 1;

/// The longest line in bytes, with its line feed: the largest body with every byte escaped fits.
pub const LINE_BYTES_MAX: usize = 512 * 1024;
