//! The room listener: links between members' room keys, by ALPN `p2pchat/room/1`.
//!
//! Called by `run`. What a listener does is in `link`; which messages it carries is for the core.

use peerd_proto::wire::ALPN_ROOM;

use crate::{core::LinkKind, keys::Keys, link::Listener};

/// The listener of the profile's room key.
pub fn listener(keys: &Keys) -> Listener {
    Listener { kind: LinkKind::Room, alpn: ALPN_ROOM, keys: keys.room.clone() }
}
