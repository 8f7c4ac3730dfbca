//! The peer listener: 1:1 links between peer keys, by ALPN `p2pchat/peer/1`.
//!
//! Called by `run`. What a listener does is in `link`; which messages it carries is for the core.

use peerd_proto::wire::ALPN_PEER;

use crate::{core::LinkKind, keys::Keys, link::Listener};

/// The listener of the profile's peer key.
pub fn listener(keys: &Keys) -> Listener {
    Listener { kind: LinkKind::Peer, alpn: ALPN_PEER, keys: keys.peer.clone() }
}
