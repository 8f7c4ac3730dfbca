//! `send`, policies and requests.

use peerd_proto::control::{EventKind, MessageState};
use registryd_proto::Code;
use serde_json::json;

use super::world::World;
use crate::core::Answer;

fn send(to: &str, body: &str) -> serde_json::Value {
    json!({"to": {"user": to}, "body": body})
}

#[test]
fn a_message_waits_for_accept_and_then_flows() {
    let mut world = World::new(2);
    let id = world.begin_verb(0, "send", send("b", "one"));
    world.pass(2_000);
    assert!(world.told(0, id).is_none(), "bob was not asked yet");
    let asks =
        |e: &EventKind| matches!(e, EventKind::ChatRequest { chat: None, messages_waiting: 1, .. });
    assert_eq!(world.count(1, asks), 1);
    world.verb(1, "accept", json!({"username": "a"})).expect("accepted");
    let Some(Ok(Answer::Sent(sent))) = world.told(0, id) else { panic!("delivered at once") };
    assert_eq!(sent.state, MessageState::Delivered);
    world.verb(0, "send", send("b", "two")).expect("delivered");
    world.verb(1, "send", send("a", "three")).expect("whom we write to may answer");
    assert_eq!(world.shown(1), ["one", "two"]);
    assert_eq!(world.shown(0), ["three"]);
}

#[test]
fn whoever_waits_too_short_is_told_that_the_other_must_accept() {
    let mut world = World::new(2);
    let mut params = send("b", "one");
    params["timeout_ms"] = json!(3_000);
    let failure = world.verb(0, "send", params).expect_err("bob was asked and says nothing");
    assert_eq!(failure.code, Code::TimedOut);
    assert!(failure.message.contains("b has not accepted yet"), "{}", failure.message);
    let hint = failure.hint.expect("what to do");
    assert!(hint.contains("p2pctl accept a"), "{hint}");
    assert_eq!(failure.details.expect("how far")["state"], "queued");
}

#[test]
fn reject_answers_what_waits_and_block_answers_all() {
    let mut world = World::new(2);
    let id = world.begin_verb(0, "send", send("b", "one"));
    world.pass(1_000);
    world.verb(1, "reject", json!({"username": "a"})).expect("rejected");
    let told = world.told(0, id).expect("an answer");
    assert_eq!(told.expect_err("rejected").code, Code::Rejected);
    world.verb(1, "policy", json!({"username": "a", "policy": "block"})).expect("blocked");
    assert_eq!(world.code(0, "send", send("b", "two")), Code::Blocked);
    assert!(world.shown(1).is_empty());
}

#[test]
fn who_learns_only_of_a_message_that_expired_has_not_confirmed_it() {
    let mut world = World::new(2);
    world.verb(1, "policy", json!({"username": "a", "policy": "allow"})).expect("allowed");
    world.verb(0, "send", send("b", "known")).expect("delivered");
    world.set_reachable(1, false);
    let mut params = send("b", "short");
    (params["id"], params["expires_ms"], params["wait"]) =
        (json!("once"), json!(1_000), json!("queued"));
    world.verb(0, "send", params.clone()).expect("queued");
    world.pass(5_000);
    world.set_reachable(1, true);
    world.verb(0, "send", send("b", "later")).expect("delivered");
    assert_eq!(world.shown(1), ["known", "later"]);
    for round in ["at once", "after a restart"] {
        let failure = world.verb(0, "send", params.clone()).expect_err("expired");
        let details = failure.details.expect("how far");
        assert_eq!((&details["delivered"], &details["of"]), (&json!(0), &json!(1)), "{round}");
        world.restart(0);
    }
}
