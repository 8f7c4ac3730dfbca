//! A contact's key changes.

use peerd_proto::control::EventKind;
use registryd_proto::{Code, Keypair};
use serde_json::json;

use super::world::{World, name};
use crate::{
    core::{Answer, Input, input::HelloInput},
    keys::Keys,
};

fn send(to: &str, body: &str, id: &str) -> serde_json::Value {
    json!({"to": {"user": to}, "body": body, "id": id, "wait": "queued"})
}

fn number(world: &mut World, i: usize, of: &str) -> String {
    match world.verb(i, "verify", json!({"username": of})).expect("a number") {
        Answer::Verify(verify) => verify.number,
        other => panic!("no number: {other:?}"),
    }
}

#[test]
fn both_sides_see_one_verify_number_of_sixty_digits() {
    let mut world = World::new(2);
    let (a, b) = (number(&mut world, 0, "b"), number(&mut world, 1, "a"));
    assert_eq!(a, b);
    assert_eq!(a.split(' ').map(str::len).collect::<Vec<_>>(), [5; 12]);
}

fn allow(world: &mut World) {
    for (i, other) in ["b", "a"].iter().enumerate() {
        let policy = json!({"username": other, "policy": "allow"});
        world.verb(i, "policy", policy).expect("policy");
    }
}

/// Another device in the place of `b`, which `a` has heard of and does not trust yet.
fn move_b(world: &mut World) {
    let keys =
        Keys { peer: Keypair::from_secret(&[60; 32]), room: Keypair::from_secret(&[61; 32]) };
    world.registry.rebind(&name("b"), &keys.peer, &keys.room);
    world.verb(0, "search", json!({"username": "b"})).expect("the registry's word");
    world.replace(1, keys);
    world.log_in(1);
    world.verb(1, "policy", json!({"username": "a", "policy": "allow"})).expect("policy");
}

#[test]
fn what_is_moved_keeps_its_order_and_new_messages_come_behind_it() {
    let mut world = World::new(2);
    allow(&mut world);
    world.verb(0, "send", json!({"to": {"user": "b"}, "body": "zero"})).expect("delivered");
    world.set_reachable(1, false);
    let texts: Vec<String> = (1..=20).map(|n| format!("m{n}")).collect();
    for text in &texts {
        world.verb(0, "send", send("b", text, text)).expect("queued");
    }
    world.restart(0);
    world.verb(0, "send", send("b", "second stream", "s")).expect("queued");
    world.verb(0, "outbox_cancel", json!({"id": "m3"})).expect("cancelled");
    move_b(&mut world);
    world.hold_loads = true;
    world.verb(0, "trust", json!({"username": "b"})).expect("trusted");
    let late = world.begin_verb(0, "send", send("b", "late", "late"));
    world.release_loads();
    world.set_reachable(1, true);
    world.pass(60_000);
    world.told(0, late).expect("an answer").expect("queued");
    let mut expected: Vec<&str> = texts.iter().map(String::as_str).collect();
    expected.retain(|text| *text != "m3");
    expected.extend(["second stream", "late"]);
    assert_eq!(world.shown(1), expected);
    world.restart(0);
    world.pass(60_000);
    assert_eq!(world.shown(1), expected);
}

#[test]
fn a_moved_message_has_one_end_and_a_cancelled_one_stays_behind() {
    let mut world = World::new(2);
    allow(&mut world);
    world.verb(0, "send", json!({"to": {"user": "b"}, "body": "zero"})).expect("delivered");
    world.lose_frames_to = Some(1);
    for (id, expires_ms) in [("short", 400_000), ("gone", 1_000_000)] {
        let params = json!({"to": {"user": "b"}, "body": id, "id": id, "wait": "queued",
            "expires_ms": expires_ms});
        world.verb(0, "send", params).expect("queued");
    }
    world.verb(0, "outbox_cancel", json!({"id": "gone"})).expect("asked for");
    world.set_reachable(1, false);
    world.lose_frames_to = None;
    move_b(&mut world);
    world.verb(0, "trust", json!({"username": "b"})).expect("trusted");
    world.set_reachable(1, true);
    world.verb(0, "outbox_retry", json!({})).expect("at once");
    world.pass(300_000);
    assert_eq!(world.shown(1), ["short"], "the cancelled one was offered, and given up");
    world.pass(300_000);
    assert_eq!(world.count(0, |e| matches!(e, EventKind::Failed { .. })), 0);
}

#[test]
fn a_new_key_stops_everything_until_trust_and_nothing_is_lost() {
    let mut world = World::new(2);
    for (i, other) in ["b", "a"].iter().enumerate() {
        let policy = json!({"username": other, "policy": "allow"});
        world.verb(i, "policy", policy).expect("policy");
    }
    world.verb(0, "send", json!({"to": {"user": "b"}, "body": "one"})).expect("delivered");
    world.set_reachable(1, false);
    world.verb(0, "send", send("b", "two", "m2")).expect("queued");

    let keys =
        Keys { peer: Keypair::from_secret(&[60; 32]), room: Keypair::from_secret(&[61; 32]) };
    world.registry.rebind(&name("b"), &keys.peer, &keys.room);
    world.verb(0, "search", json!({"username": "b"})).expect("the registry's word");
    assert_eq!(world.count(0, |e| matches!(e, EventKind::KeyChanged { .. })), 1);
    let failure = world.verb(0, "send", send("b", "three", "m3")).expect_err("stopped");
    assert_eq!(failure.code, Code::UntrustedKey);
    assert_eq!(failure.details.expect("both keys")["shown"], keys.peer.public().to_string());
    assert_eq!(world.code(0, "chat", json!({"username": "b"})), Code::UntrustedKey);

    world.replace(1, keys);
    world.log_in(1);
    world.set_reachable(1, true);
    world.verb(1, "policy", json!({"username": "a", "policy": "allow"})).expect("policy");
    world.pass(60_000);
    assert_eq!(world.shown(1), [""; 0], "the new key gets nothing");
    let wrong = json!({"username": "b", "key": world.registry.key.public()});
    assert_eq!(world.code(0, "trust", wrong), Code::Conflict);
    world.verb(0, "trust", json!({"username": "b"})).expect("trusted");
    world.pass(60_000);
    assert_eq!(world.shown(1), ["two"]);
    world.verb(0, "send", send("b", "two", "m2")).expect("the same message under the same id");
    assert_eq!(world.code(0, "send", send("b", "other", "m2")), Code::Conflict);
    assert_eq!(world.count(0, |e| matches!(e, EventKind::Failed { .. })), 0);
}

/// `b` has heard that another device took the account of `a` over, and trusts it or not; the registry goes back to
/// a backup from before.
#[test]
fn a_replaced_device_that_logs_in_again_is_taken_though_the_registry_has_forgotten_its_successor() {
    for trusted in [false, true] {
        let mut world = World::new(2);
        allow(&mut world);
        let keys =
            Keys { peer: Keypair::from_secret(&[60; 32]), room: Keypair::from_secret(&[61; 32]) };
        let own = world.peers[0].keys.clone();
        world.registry.rebind(&name("a"), &keys.peer, &keys.room);
        world.verb(1, "search", json!({"username": "a"})).expect("the registry's word");
        if trusted {
            world.verb(1, "trust", json!({"username": "a"})).expect("trusted");
        }
        assert_eq!(world.code(0, "search", json!({"username": "b"})), Code::Superseded);
        world.input(0, Input::Hello(HelloInput::Silent));
        world.pass(10_000);
        assert_eq!(world.count(0, |e| matches!(e, EventKind::Superseded {})), 1);

        world.registry.rebind(&name("a"), &own.peer, &own.room);
        world.registry.set_counts(&name("a"), 1, 1);
        world.restart(0);
        world.log_in(0);
        world.verb(1, "search", json!({"username": "a"})).expect("the registry's word");
        if trusted {
            world.verb(1, "trust", json!({"username": "a"})).expect("trusted");
        }
        world.verb(1, "send", json!({"to": {"user": "a"}, "body": "one"})).expect("delivered");
        assert_eq!(world.shown(0), ["one"], "trusted: {trusted}");
    }
}
