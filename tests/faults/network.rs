//! Links that lose, delay, duplicate, reorder, go one way, move or end, in namespaces of their own.
//!
//! Every test ends by showing that no packet went to a host that nobody configured.

use harness::{DEADLINE, Town, eventually};

/// The bodies of a history, in order.
fn bodies(history: &[(String, String)]) -> Vec<&str> {
    history.iter().map(|(_, body)| body.as_str()).collect()
}

/// Row 10: peer to peer.
#[test]
fn a_message_across_a_cut_is_queued_and_delivered_once_after_healing() {
    let Some((town, [alice, bob])) = Town::of(10, ["alice", "bob"]) else { return };
    alice.ctl(&["send", "bob", "before"]).ok();
    town.net.cut(&alice.host, &bob.host);
    let call = ["send", "bob", "meanwhile", "--wait", "delivered", "--timeout", "2s"];
    alice.ctl(&call).failed(registryd_proto::Code::TimedOut);
    town.net.heal_all();
    eventually("delivered", DEADLINE, || alice.outbox().is_empty());
    assert_eq!(bodies(&bob.history(&["alice"])), ["before", "meanwhile"]);
    assert!(town.net.strangers().is_empty(), "{:?}", town.net.strangers());
}
