//! Users for the tests of this folder.

use harness::{Peer, Registry};

/// A registry and users that are online there.
pub(crate) fn online<const N: usize>(names: [&str; N]) -> (Registry, [Peer; N]) {
    let registry = Registry::start();
    let peers = names.map(|name| Peer::online(name, &registry));
    (registry, peers)
}

/// As [`online`], where everybody lets everybody write.
pub(crate) fn friends<const N: usize>(names: [&str; N]) -> (Registry, [Peer; N]) {
    let (registry, peers) = online(names);
    for peer in &peers {
        peer.ctl(&["policy", "--default", "allow"]).ok();
    }
    (registry, peers)
}

/// The bodies of a history, in order.
pub(crate) fn bodies(history: &[(String, String)]) -> Vec<&str> {
    history.iter().map(|(_, body)| body.as_str()).collect()
}
