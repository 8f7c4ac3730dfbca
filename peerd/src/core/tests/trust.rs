//! A contact's key changes.

use peerd_proto::control::EventKind;
use registryd_proto::{Code, Keypair};
use serde_json::json;

use super::world::{World, name};
use crate::{core::Answer, keys::Keys};

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
