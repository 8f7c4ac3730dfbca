//! Messages without a chat: allow, ask and block, and what the sender is told.

use harness::{DEADLINE, Peer, eventually};
use registryd_proto::Code;

use crate::{bodies, online};

/// Sends under `ask`: it is held, and the sender's call ends with its id.
fn held(from: &Peer, to: &Peer, body: &str) -> String {
    let error = from.ctl(&["send", to.name(), body, "--timeout", "1s"]).failed(Code::TimedOut);
    to.wait_for_request(from.name());
    error["id"].as_str().expect("the id is told").to_owned()
}

#[test]
fn under_ask_the_body_waits_at_its_author_until_accept() {
    let (_registry, [alice, bob]) = online(["alice", "bob"]);
    let id = held(&alice, &bob, "let-me-in-please");
    let requests = bob.ctl(&["requests"]).ok();
    assert_eq!(requests["schema"], "p2pctl.requests/1");
    assert_eq!(requests["requests"][0]["from"], "alice");
    assert_eq!(requests["requests"][0]["messages_waiting"], 1);
    assert_eq!(alice.outbox(), [id]);
    assert!(!crate::secrets::holds(&bob.data(), b"let-me-in-please"), "the body did not travel");

    assert_eq!(bob.ctl(&["accept", "alice"]).ok()["state"], "allowed");
    eventually("it is delivered", DEADLINE, || alice.outbox().is_empty());
    assert_eq!(bodies(&bob.history(&["alice"])), ["let-me-in-please"]);
    assert_eq!(bob.ctl(&["policy", "alice"]).ok()["policy"], "allow", "durably");
    alice.ctl(&["send", "bob", "and again"]).ok();
}

#[test]
fn reject_answers_what_waits_with_8() {
    let (_registry, [alice, bob]) = online(["alice", "bob"]);
    let sending = alice.ctl_with().args(&["send", "bob", "sell you something"]).spawn();
    bob.wait_for_request("alice");
    bob.ctl(&["reject", "alice"]).ok();
    sending.wait().failed(Code::Rejected);
    assert!(alice.outbox().is_empty());
    assert!(bob.history(&["alice"]).is_empty());
}

#[test]
fn block_takes_nothing_and_says_so() {
    let (_registry, [alice, bob]) = online(["alice", "bob"]);
    bob.ctl(&["policy", "alice", "block"]).ok();
    alice.ctl(&["send", "bob", "hello?", "--timeout", "10s"]).failed(Code::Blocked);
    assert!(bob.history(&["alice"]).is_empty());
    let output = alice.ctl(&["chat", "bob", "--request", "--ring", "1s"]);
    assert_ne!(output.code, Some(0), "{output:#?}");
    assert_eq!(bob.ctl(&["requests"]).ok()["requests"].as_array().map(Vec::len), Some(0));
}

#[test]
fn the_default_policy_holds_for_unknown_users_alone() {
    let (_registry, [alice, bob, carol]) = online(["alice", "bob", "carol"]);
    assert_eq!(bob.ctl(&["policy"]).ok()["policy"], "ask", "unless told otherwise");
    bob.ctl(&["policy", "carol", "block"]).ok();
    bob.ctl(&["policy", "--default", "allow"]).ok();
    alice.ctl(&["send", "bob", "no question asked"]).ok();
    carol.ctl(&["send", "bob", "hello?", "--timeout", "10s"]).failed(Code::Blocked);
}

#[test]
fn both_sides_see_the_same_number_to_compare() {
    let (_registry, [alice, bob]) = online(["alice", "bob"]);
    let [a, b] = [(&alice, "bob"), (&bob, "alice")]
        .map(|(who, whom)| who.ctl(&["verify", whom]).ok()["number"].clone());
    assert_eq!(a, b);
    let digits = a.as_str().expect("a text").bytes().filter(u8::is_ascii_digit).count();
    assert_eq!(digits, 60);
}

#[test]
fn a_changed_key_stops_both_directions_until_trust() {
    let (registry, [alice, mut bob]) = online(["alice", "bob"]);
    for (who, whom) in [(&alice, "bob"), (&bob, "alice")] {
        who.allow(whom);
    }
    alice.ctl(&["send", "bob", "before"]).ok();
    bob.kill();
    let id = alice.ctl(&["send", "bob", "waiting", "--wait", "queued"]).ok()["id"].clone();

    let new_bob = Peer::start("bob");
    new_bob.login(&["--registry", &registry.address(), "--takeover"]).ok();
    new_bob.allow("alice");
    alice.ctl(&["send", "bob", "to whom?", "--timeout", "15s"]).failed(Code::UntrustedKey);
    let event = alice.listen(&["--after", "0"]).wait_for_type("key_changed");
    assert_eq!(event["peer"], "bob");
    assert_ne!(event["old_key"], event["new_key"]);
    assert!(new_bob.history(&["alice"]).is_empty(), "nothing goes to the new key");

    alice.ctl(&["trust", "bob"]).ok();
    eventually("what waited goes to the new key", DEADLINE, || alice.outbox().is_empty());
    let history = new_bob.history(&["alice"]);
    assert!(bodies(&history).contains(&"waiting"), "{history:?}");
    let again = alice.ctl(&["send", "bob", "waiting", "--id", id.as_str().expect("an id")]).ok();
    assert_eq!(again["state"], "delivered", "under the same id");
}
