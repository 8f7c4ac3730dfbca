//! What is said to the registry.
//!
//! This crate is the specification of the registry's protocol, version [`PROTOCOL_VERSION`]:
//! names and keys, the requests and replies that travel over TLS, the sealed HELLO datagrams, and the
//! two documents that the registry signs for others to keep: contact cards and membership records.
//!
//! It holds no socket and no clock. The registry, peerd and the tests use it; it imports none of them.
//!
//! # Order and limits
//!
//! A connection is TLS 1.3 on TCP, both sides authenticated by a raw Ed25519 public key (RFC 7250), with
//! the ALPN [`ALPN`]. The client sends requests, each a JSON object behind a length of four bytes, big
//! endian, of at most [`REQUEST_BYTES_MAX`]; the registry answers each with one reply of at most
//! [`REPLY_BYTES_MAX`], in the order of the requests. Who speaks is the key of the connection, never a
//! field of a request.

mod address;
mod card;
mod code;
mod digest;
mod key;
mod membership;
mod name;
mod octets;
mod request;
mod signed;

pub mod frame;
pub mod hello;
pub mod tls;

pub use address::{AddressError, RegistryAddress};
pub use card::{CARD_LIFETIME_MS, Card, KeyBinding};
pub use code::Code;
pub use digest::Digest;
pub use key::{KeyError, Keypair, PublicKey, Signature};
pub use membership::{
    Access, HistoryAccess, Member, MembershipError, MembershipOp, MembershipRecord, Role, Room,
    RoomId,
};
pub use name::{NAME_BYTES_MAX, NameError, RoomName, Username};
pub use request::{
    ADDRESSES_MAX, Account, Answer, Endpoints, Failure, Password, PasswordLength, PresenceState,
    Reply, Request, RoomListing, RoomMember, RoomView, SessionGrant, SyncReply, UserView,
};
pub use signed::{Document, Signed, SignedError};

/// The version of everything in this crate. A change that an old reader misunderstands raises it, and
/// with it [`ALPN`].
pub const PROTOCOL_VERSION: u32 = 1;

/// The ALPN of the registry's TLS port. A client that does not offer it is refused by the handshake.
pub const ALPN: &[u8] = b"p2pchat/registry/1";

/// The largest request in bytes. The largest real one, a login with 2 × 16 addresses, is below 4 KiB.
pub const REQUEST_BYTES_MAX: usize = 16 * 1024;

/// The largest reply in bytes: a room's membership log is paged below it.
pub const REPLY_BYTES_MAX: usize = 1024 * 1024;
