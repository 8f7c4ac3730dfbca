//! Ids given by callers: taken for good, and held in memory for a while only.

use peerd_proto::control::MessageState;
use registryd_proto::Code;
use serde_json::json;

use super::world::World;
use crate::core::{Answer, CommandId, Input, Recalled, replica::SETTLED_MAX};

fn send(id: Option<&str>, body: &str) -> serde_json::Value {
    json!({"to": {"user": "b"}, "body": body, "id": id})
}

/// Two who may write to each other, one of whom has forgotten ids.
fn forgetful() -> World {
    let mut world = World::new(2);
    world.verb(1, "policy", json!({"username": "a", "policy": "allow"})).expect("allowed");
    for n in 0..SETTLED_MAX * 20 {
        let id = format!("m{n}");
        world.verb(0, "send", send(Some(&id), &id)).expect("delivered");
        world.verb(0, "send", send(None, &id)).expect("delivered");
    }
    world
}

fn state(told: Option<Result<Answer, crate::core::CommandFailure>>) -> Option<MessageState> {
    match told?.expect("an answer") {
        Answer::Sent(sent) => Some(sent.state),
        other => panic!("{other:?}"),
    }
}

#[test]
fn memory_holds_what_waits_and_not_what_was_ever_sent() {
    let mut world = forgetful();
    assert_eq!(world.messages_in_memory(0), SETTLED_MAX);
    world.restart(0);
    world.pass(2_000);
    assert_eq!(world.messages_in_memory(0), SETTLED_MAX);
}

#[test]
fn an_id_that_was_forgotten_stays_taken() {
    let mut world = forgetful();
    for _ in 0..2 {
        let before = world.shown(1).len();
        let Ok(Answer::Sent(sent)) = world.verb(0, "send", send(Some("m1"), "m1")) else {
            panic!("it is the message that was sent")
        };
        assert_eq!((sent.state, sent.delivered, sent.of), (MessageState::Delivered, 1, 1));
        assert_eq!(world.code(0, "send", send(Some("m1"), "another")), Code::Conflict);
        assert_eq!(world.shown(1).len(), before);
        world.restart(0);
        world.pass(2_000);
    }
}

#[test]
fn sends_keep_their_order_however_late_the_store_answers() {
    let mut world = forgetful();
    let before = world.shown(1).len();
    world.hold_loads = true;
    let sends = [
        send(Some("x"), "one"),
        send(None, "two"),
        send(Some("y"), "three"),
        send(Some("x"), "one"),
        send(Some("y"), "another"),
        send(Some("m1"), "m1"),
        send(None, "four"),
    ];
    let ids: Vec<CommandId> =
        sends.into_iter().map(|params| world.begin_verb(0, "send", params)).collect();
    assert_eq!(world.shown(1).len(), before, "the store has not answered");
    world.release_loads();
    world.pass(2_000);
    assert_eq!(world.shown(1)[before..], ["one", "two", "three", "four"]);
    for (n, id) in ids.into_iter().enumerate() {
        match n {
            4 => {
                let told = world.told(0, id).expect("a reply").expect_err("another text");
                assert_eq!(told.code, Code::Conflict);
            }
            _ => assert_eq!(state(world.told(0, id)), Some(MessageState::Delivered), "{n}"),
        }
    }
}

#[test]
fn who_goes_away_while_the_store_is_asked_holds_up_nobody() {
    let mut world = forgetful();
    let before = world.shown(1).len();
    world.hold_loads = true;
    let gone = world.begin_verb(0, "send", send(Some("x"), "one"));
    let mut late = send(Some("y"), "two");
    late["timeout_ms"] = json!(0);
    let late = world.begin_verb(0, "send", late);
    let next = world.begin_verb(0, "send", send(None, "three"));
    world.input(0, Input::Abandoned { id: gone });
    assert_eq!(world.shown(1).len(), before, "the store has not answered the second");
    world.pass(1_500);
    assert!(world.told(0, late).is_none(), "the time of the caller has not begun");
    world.pass(9_000);
    let told = world.told(0, late).expect("a reply").expect_err("the disk is too slow");
    assert_eq!(told.code, Code::RateLimited, "a time-out would say that it is queued");
    assert_eq!(state(world.told(0, next)), Some(MessageState::Delivered));
    world.release_loads();
    world.pass(2_000);
    assert_eq!(world.shown(1)[before..], ["three"], "what was given up is not sent");
}

#[test]
fn the_time_of_a_caller_begins_when_the_disk_has_answered() {
    let mut world = forgetful();
    let mut params = send(Some("x"), "one");
    params["timeout_ms"] = json!(0);
    let told = world.verb(0, "send", params).expect_err("nobody waits for it");
    assert_eq!(told.code, Code::TimedOut);
    world.pass(2_000);
    assert_eq!(world.shown(1).last(), Some(&"one"), "it was queued, as that code says");
}

#[test]
fn nothing_is_sent_under_an_id_that_the_store_cannot_look_up() {
    let mut world = forgetful();
    let before = world.shown(1).len();
    world.hold_loads = true;
    let id = world.begin_verb(0, "send", send(Some("m1"), "m1"));
    world.fail_loads();
    let told = world.told(0, id).expect("a reply").expect_err("the store cannot be read");
    assert_eq!(told.code, Code::Internal);
    assert_eq!(world.shown(1).len(), before);
}

impl World {
    /// The reads of our messages that are held back fail.
    fn fail_loads(&mut self) {
        self.change_loads(|input| match input {
            Input::Recalled { load, .. } => Input::Recalled { load, found: Recalled::Failed },
            other => other,
        });
        self.release_loads();
    }
}
