//! Chats from request to end.

use peerd_proto::control::{ChatState, EventKind};
use registryd_proto::Code;
use serde_json::json;

use super::world::{Told, World};
use crate::core::{Answer, CommandId, Input, LinkKind};

fn chat(world: &mut World, from: usize, to: &str) -> CommandId {
    let id = world.begin_verb(from, "chat", json!({"username": to}));
    world.run();
    id
}

fn state(told: Option<Told>) -> ChatState {
    match told.expect("an answer").expect("no failure") {
        Answer::Chat(answer) => answer.state,
        other => panic!("no chat answer: {other:?}"),
    }
}

fn who(name: &str) -> serde_json::Value {
    json!({"username": name})
}

fn active(world: &mut World, from: usize, to: usize) {
    let [caller, callee] = [from, to].map(|i| world.peers[i].name.to_string());
    let id = chat(world, from, &callee);
    world.verb(to, "accept", who(&caller)).expect("accepted");
    assert_eq!(state(world.told(from, id)), ChatState::Active);
}

fn chats(world: &mut World, i: usize) -> Vec<ChatState> {
    match world.verb(i, "status", json!({})).expect("status") {
        Answer::Status(status) => status.chats.iter().map(|c| c.state).collect(),
        other => panic!("no status: {other:?}"),
    }
}

#[test]
fn accept_makes_it_active_at_both_and_end_ends_it_at_both() {
    let mut world = World::new(2);
    active(&mut world, 0, 1);
    for i in 0..2 {
        assert_eq!(world.count(i, |e| matches!(e, EventKind::ChatActive { .. })), 1);
        assert_eq!(chats(&mut world, i), [ChatState::Active]);
    }
    world.verb(1, "end", who("a")).expect("ended");
    for i in 0..2 {
        assert_eq!(world.count(i, |e| matches!(e, EventKind::ChatEnded { .. })), 1);
        assert!(chats(&mut world, i).is_empty());
    }
}

#[test]
fn reject_tells_the_caller() {
    let mut world = World::new(2);
    let id = chat(&mut world, 0, "b");
    world.verb(1, "reject", who("a")).expect("rejected");
    assert_eq!(state(world.told(0, id)), ChatState::Rejected);
    assert_eq!(world.code(1, "accept", who("a")), Code::NotFound);
}

#[test]
fn a_peer_in_a_chat_is_busy_but_ringing_makes_nobody_busy() {
    let mut world = World::new(3);
    let first = chat(&mut world, 0, "c");
    let second = chat(&mut world, 1, "c");
    assert!(world.told(1, second).is_none(), "ringing takes no slot");
    world.verb(2, "accept", who("a")).expect("accepted");
    assert_eq!(state(world.told(0, first)), ChatState::Active);
    assert_eq!(world.code(2, "accept", who("b")), Code::Busy);
    world.verb(2, "reject", who("b")).expect("rejected");
    assert_eq!(state(world.told(1, second)), ChatState::Rejected);
    let third = chat(&mut world, 1, "c");
    assert_eq!(state(world.told(1, third)), ChatState::Busy);
    assert_eq!(world.count(1, |e| matches!(e, EventKind::ChatBusy { .. })), 1);
}

#[test]
fn a_request_that_nobody_answers_ends_at_both() {
    let mut world = World::new(2);
    let told = world.verb(0, "chat", json!({"username": "b", "ring_ms": 5_000}));
    assert_eq!(state(Some(told)), ChatState::TimedOut);
    assert_eq!(world.count(1, |e| matches!(e, EventKind::ChatEnded { .. })), 1);
    assert_eq!(world.code(1, "accept", who("a")), Code::NotFound);
}

#[test]
fn a_caller_who_leaves_withdraws() {
    let mut world = World::new(2);
    let id = chat(&mut world, 0, "b");
    world.input(0, Input::Abandoned { id });
    assert_eq!(world.code(1, "accept", who("a")), Code::NotFound);
    world.pass(100_000);
    assert!(world.told(0, id).is_none());
}

#[test]
fn crossed_requests_become_one_chat() {
    let mut world = World::new(2);
    world.verb(0, "policy", json!({"username": "b", "policy": "allow"})).expect("policy");
    let first = chat(&mut world, 0, "b");
    world.verb(0, "end", who("b")).expect("ended");
    assert_eq!(state(world.told(0, first)), ChatState::Ended);
    world.hold_frames = true;
    let low = chat(&mut world, 0, "b");
    let high = chat(&mut world, 1, "a");
    world.hold_frames = false;
    // The requests were lost with the link; both ask again on the next one.
    world.cut_all(0);
    world.run();
    world.pass(3_000);
    assert_eq!(state(world.told(0, low)), ChatState::Active);
    assert_eq!(state(world.told(1, high)), ChatState::Active);
    assert_eq!(world.count(0, |e| matches!(e, EventKind::ChatActive { .. })), 1);
    assert_eq!(world.count(1, |e| matches!(e, EventKind::ChatActive { .. })), 1);
}

#[test]
fn a_lost_peer_interrupts_and_its_return_resumes() {
    let mut world = World::new(3);
    active(&mut world, 0, 1);
    world.set_reachable(1, false);
    assert_eq!(chats(&mut world, 0), [ChatState::Interrupted]);
    world.set_reachable(1, true);
    world.pass(40_000);
    assert_eq!(chats(&mut world, 0), [ChatState::Active]);
    assert_eq!(chats(&mut world, 1), [ChatState::Active]);
    world.restart(1);
    world.pass(40_000);
    assert_eq!(chats(&mut world, 0), [ChatState::Active]);
    assert_eq!(chats(&mut world, 1), [ChatState::Active]);
}

#[test]
fn an_interrupted_chat_holds_no_slot_and_waits_for_one() {
    let mut world = World::new(3);
    active(&mut world, 0, 1);
    world.set_reachable(1, false);
    active(&mut world, 0, 2);
    world.set_reachable(1, true);
    world.pass(40_000);
    assert_eq!(chats(&mut world, 1), [ChatState::Interrupted]);
    world.verb(0, "end", who("c")).expect("ended");
    world.pass(1_000);
    assert_eq!(chats(&mut world, 0), [ChatState::Active]);
    assert_eq!(chats(&mut world, 1), [ChatState::Active]);
}

#[test]
fn an_offline_peer_is_told_at_once() {
    let mut world = World::new(2);
    world.verb(1, "logout", json!({})).expect("logged out");
    assert_eq!(world.code(0, "chat", who("b")), Code::PeerOffline);
    assert_eq!(world.code(0, "chat", who("nobody")), Code::NotFound);
}

#[test]
fn a_blocked_caller_is_rejected_unheard() {
    let mut world = World::new(2);
    world.verb(1, "policy", json!({"username": "a", "policy": "block"})).expect("policy");
    let id = chat(&mut world, 0, "b");
    assert_eq!(state(world.told(0, id)), ChatState::Rejected);
    assert_eq!(world.count(1, |e| matches!(e, EventKind::ChatRequest { .. })), 0);
}

#[test]
fn two_links_of_one_pair_become_one_without_a_break() {
    let mut world = World::new(2);
    active(&mut world, 0, 1);
    world.connect(1, 0, LinkKind::Peer);
    world.run();
    assert_eq!((world.links(0), world.links(1)), (1, 1));
    world.connect(0, 1, LinkKind::Peer);
    world.run();
    assert_eq!((world.links(0), world.links(1)), (1, 1));
    world.connect(0, 1, LinkKind::Peer);
    world.connect(1, 0, LinkKind::Peer);
    world.run();
    world.pass(20_000);
    assert_eq!((world.links(0), world.links(1)), (1, 1));
    for i in 0..2 {
        assert_eq!(chats(&mut world, i), [ChatState::Active]);
    }
}

#[test]
fn logout_ends_chats() {
    let mut world = World::new(2);
    active(&mut world, 0, 1);
    world.verb(0, "logout", json!({})).expect("logged out");
    assert!(chats(&mut world, 1).is_empty());
    assert_eq!(world.code(0, "chat", who("b")), Code::NotLoggedIn);
}
