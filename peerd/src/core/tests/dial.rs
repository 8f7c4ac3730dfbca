//! When a peer is dialled.

use serde_json::json;

use super::world::World;
use crate::core::Input;

fn queue(to: &str, body: &str) -> serde_json::Value {
    json!({"to": {"user": to}, "body": body, "wait": "queued"})
}

/// Two peers with a link since a while, and a registry that helps nobody.
fn linked() -> World {
    let mut world = World::new(2);
    world.silent_dials = true;
    world.verb(1, "policy", json!({"username": "a", "policy": "allow"})).expect("allowed");
    world.verb(0, "send", json!({"to": {"user": "b"}, "body": "one"})).expect("delivered");
    world.pass(60_000);
    world.registry_up = false;
    world
}

#[test]
fn who_was_linked_and_is_back_is_found_soon() {
    for away_ms in (500..14_000).step_by(250) {
        let mut world = linked();
        world.set_reachable(1, false);
        world.verb(0, "send", queue("b", "two")).expect("queued");
        world.pass(away_ms);
        world.set_reachable(1, true);
        // A dial that was begun before may still wait, then a pause.
        world.pass(4_000 + 750);
        assert_eq!(world.shown(1), ["one", "two"], "away for {away_ms} ms");
    }
}

#[test]
fn who_stays_away_is_tried_ever_slower() {
    let mut world = linked();
    world.set_reachable(1, false);
    world.verb(0, "send", queue("b", "two")).expect("queued");
    let dials = world.peers[0].dials;
    world.pass(15_000);
    let brisk = world.peers[0].dials - dials;
    assert!((4..=8).contains(&brisk), "{brisk} dials in the first 15 s");
    world.pass(15_000);
    let before = world.peers[0].dials;
    world.pass(60_000);
    let slow = world.peers[0].dials - before;
    assert!((5..=10).contains(&slow), "{slow} dials in a later minute");
}

#[test]
fn a_dial_may_take_longer_each_time() {
    let mut world = linked();
    world.set_reachable(1, false);
    world.verb(0, "send", queue("b", "two")).expect("queued");
    world.pass(15_000);
    assert_eq!(world.peers[0].timeouts[..4], [1_000, 2_000, 4_000, 4_000]);
}

/// Two peers whose link the first one has lost, and the second one has not noticed.
fn half_open(lost_by: usize) -> World {
    let mut world = linked();
    let link = world.link_ids(lost_by)[0];
    world.forget_wire(lost_by, link);
    world.input(lost_by, Input::LinkDown { link });
    world
}

#[test]
fn whoever_has_lost_a_link_gets_a_new_one_at_once() {
    for lost_by in [0, 1] {
        let mut world = half_open(lost_by);
        let (from, to) = if lost_by == 0 { ("a", "b") } else { ("b", "a") };
        let allow = json!({"username": from, "policy": "allow"});
        world.verb(1 - lost_by, "policy", allow).expect("allowed");
        world.verb(lost_by, "send", queue(to, "again")).expect("queued");
        world.pass(1_000);
        assert!(world.shown(1 - lost_by).contains(&"again"), "the other key is {lost_by}");
    }
}

#[test]
fn nobody_is_dialled_again_while_the_first_dial_is_in_its_hello() {
    let mut world = World::new(2);
    world.hold_frames = true;
    world.verb(0, "send", queue("b", "one")).expect("queued");
    assert_eq!(world.peers[0].dials, 1);
    let name = world.peers[1].name.clone();
    for _ in 0..5 {
        world.pass(1_000);
        world.verb(0, "search", json!({"username": name})).expect("found");
    }
    assert_eq!(world.peers[0].dials, 1);
    world.pass(30_000);
    assert!(world.peers[0].dials > 1, "a hello that never comes is given up");
}
