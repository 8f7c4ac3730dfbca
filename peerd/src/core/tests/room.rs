//! Rooms: join, mesh, kick, leave.

use peerd_proto::{
    control::{EventKind, LinkState, MessageState, RoomAnswer},
    wire::Frame,
};
use registryd_proto::{Code, Request, Room, RoomName};
use serde_json::json;

use super::world::{Told, World};
use crate::core::{
    Answer, Input, LinkKind,
    input::{HelloInput, Inbound},
};

fn room(told: Told) -> RoomAnswer {
    match told.expect("a room") {
        Answer::Room(room) => room,
        other => panic!("no room: {other:?}"),
    }
}

fn den(world: &mut World, count: usize) {
    let params = json!({"room": "den", "access": "open", "history": "joined"});
    assert_eq!(room(world.verb(0, "create_room", params)).members.len(), 1);
    for i in 1..count {
        let joined = room(world.verb(i, "join_room", json!({"room": "den"})));
        assert_eq!(joined.members.len(), i + 1);
    }
    world.pass(5_000);
}

fn connected(world: &mut World, i: usize) -> usize {
    let room = room(world.verb(i, "members", json!({"room": "den"})));
    room.members.iter().filter(|m| m.link == LinkState::Connected).count()
}

fn send(body: &str) -> serde_json::Value {
    json!({"to": {"room": "den"}, "body": body, "timeout_ms": 5_000})
}

#[test]
fn members_form_a_mesh_and_hear_each_other() {
    let mut world = World::new(3);
    den(&mut world, 3);
    for i in 0..3 {
        assert_eq!(connected(&mut world, i), 3);
        assert_eq!(world.links(i), 2);
    }
    assert_eq!(world.count(0, |e| matches!(e, EventKind::MemberJoined { .. })), 2);
    match world.verb(0, "send", send("hello")).expect("delivered") {
        Answer::Sent(sent) => assert_eq!((sent.delivered, sent.of), (2, 2)),
        other => panic!("not sent: {other:?}"),
    }
    assert_eq!(world.shown(1), ["hello"]);
    assert_eq!(world.shown(2), ["hello"]);
    let wait = json!({"for": "member", "room": "den", "username": "c"});
    world.verb(0, "wait", wait).expect("connected");
}

#[test]
fn who_is_invited_declines_by_leaving_what_it_never_was_in() {
    let mut world = World::new(2);
    den(&mut world, 1);
    room(world.verb(0, "invite", json!({"room": "den", "username": "b"})));
    world.pass(1_000);
    let invited = |world: &mut World| match world.verb(1, "status", json!({})).expect("told") {
        Answer::Status(status) => status.invited,
        other => panic!("no status: {other:?}"),
    };
    assert_eq!(invited(&mut world), ["den".parse().expect("a name")]);
    let declined = room(world.verb(1, "leave_room", json!({"room": "den"})));
    assert_eq!((declined.epoch, declined.members.len(), declined.owner), (0, 0, None));
    assert!(invited(&mut world).is_empty());
    assert_eq!(world.count(1, |e| matches!(e, EventKind::RoomLeft { .. })), 0, "it was never in");
    assert_eq!(world.count(1, |e| matches!(e, EventKind::RoomInvited { .. })), 1);
}

#[test]
fn a_second_room_of_members_who_are_linked_already_is_heard_both_ways() {
    let mut world = World::new(2);
    den(&mut world, 2);
    let params = json!({"room": "attic", "access": "open", "history": "joined"});
    room(world.verb(0, "create_room", params));
    // What the joiner says of its room comes before the registry has told the owner who joined.
    room(world.verb(1, "join_room", json!({"room": "attic"})));
    world.pass(5_000);
    for from in [1, 0] {
        let message = json!({"to": {"room": "attic"}, "body": "hello", "timeout_ms": 5_000});
        world.verb(from, "send", message).expect("delivered");
        assert_eq!(world.shown(1 - from), ["hello"]);
    }
}

#[test]
fn a_room_whose_log_is_longer_than_a_reply_is_joined_and_joined_again() {
    let mut world = World::new(3);
    world.registry.page = 3;
    den(&mut world, 2);
    for _ in 0..4 {
        world.verb(1, "leave_room", json!({"room": "den"})).expect("left");
        room(world.verb(1, "join_room", json!({"room": "den"})));
    }
    for _ in 0..2 {
        let joined = room(world.verb(2, "join_room", json!({"room": "den"})));
        assert_eq!(joined.members.len(), 3);
        world.pass(5_000);
        world.verb(0, "send", send("hello")).expect("delivered");
        world.verb(2, "leave_room", json!({"room": "den"})).expect("left");
    }
    assert_eq!(world.shown(2), ["hello"; 2]);
}

#[test]
fn a_log_of_which_a_part_has_come_goes_on_after_a_restart() {
    let mut world = World::new(3);
    world.registry.page = 3;
    den(&mut world, 2);
    for _ in 0..4 {
        world.verb(1, "leave_room", json!({"room": "den"})).expect("left");
        room(world.verb(1, "join_room", json!({"room": "den"})));
    }
    let key = world.key(2, LinkKind::Peer);
    let den: RoomName = "den".parse().expect("a name");
    let join = Request::JoinRoom { room: den.clone(), password: None };
    world.registry.handle(&key, join).expect("joined, and the reply is lost");
    world.restart(2);
    world.pass(5_000);
    assert_eq!(room(world.verb(2, "members", json!({"room": "den"}))).members.len(), 3);
}

#[test]
fn who_is_not_known_yet_brings_nobody_back_into_a_room_that_is_deleted() {
    let mut world = World::new(3);
    den(&mut world, 2);
    let (key, den): (_, RoomName) = (world.key(2, LinkKind::Peer), "den".parse().expect("a name"));
    world
        .registry
        .handle(&key, Request::JoinRoom { room: den.clone(), password: None })
        .expect("in");
    world.registry.nudges.clear();
    let records = world.registry.log(&den);
    let id = Room::from_log(&records, &world.registry.key.public()).expect("a log").id;
    world
        .registry
        .handle(&world.key(0, LinkKind::Peer), Request::DeleteRoom { room: den })
        .expect("gone");
    world.run();
    assert_eq!(world.count(0, |e| matches!(e, EventKind::RoomLeft { .. })), 1);
    // What a link of nobody we know is for is asked, and not answered.
    world.registry_up = false;
    world.connect(1, 0, LinkKind::Room);
    world.run();
    let links = world.link_ids(0);
    assert_eq!(links.len(), 1);
    for link in links {
        let frame = Frame::Membership { room: id, records: records.clone() };
        world.input(0, Input::LinkFrame { link, frame: Inbound::Other(frame) });
    }
    assert_eq!(
        world.count(0, |e| matches!(e, EventKind::RoomJoined { .. })),
        1,
        "when it was made"
    );
}

#[test]
fn an_absent_member_makes_it_partial_and_hears_it_later() {
    let mut world = World::new(3);
    den(&mut world, 3);
    world.set_reachable(2, false);
    let failure = world.verb(0, "send", send("hello")).expect_err("one is away");
    assert_eq!(failure.code, Code::Partial);
    let details = failure.details.expect("how far");
    assert_eq!((&details["delivered"], &details["of"]), (&json!(1), &json!(2)));
    world.set_reachable(2, true);
    world.pass(60_000);
    assert_eq!(world.shown(2), ["hello"]);
    assert_eq!(world.count(0, |e| matches!(e, EventKind::Delivered { .. })), 1);
}

#[test]
fn a_kicked_member_is_out_at_once() {
    let mut world = World::new(3);
    den(&mut world, 3);
    world.verb(0, "kick", json!({"room": "den", "username": "c"})).expect("kicked");
    world.pass(100);
    assert_eq!(world.count(2, |e| matches!(e, EventKind::RoomLeft { .. })), 1);
    assert_eq!(world.count(1, |e| matches!(e, EventKind::MemberLeft { .. })), 1);
    assert_eq!(world.links(2), 0);
    assert_eq!(world.code(2, "send", send("still here?")), Code::NotFound);
    world.verb(1, "send", send("among us")).expect("delivered");
    world.pass(60_000);
    assert!(world.shown(2).is_empty());
}

#[test]
fn who_waits_is_told_how_many_confirmed_not_how_many_were_members() {
    let mut world = World::new(3);
    den(&mut world, 3);
    world.set_reachable(2, false);
    let id = world.begin_verb(0, "send", send("hello"));
    world.pass(1_000);
    assert_eq!(world.shown(1), ["hello"]);
    world.verb(0, "kick", json!({"room": "den", "username": "c"})).expect("kicked");
    match world.told(0, id).expect("nobody is waited for any more").expect("sent") {
        Answer::Sent(sent) => {
            assert_eq!((sent.state, sent.delivered, sent.of), (MessageState::Delivered, 1, 2));
        }
        other => panic!("not sent: {other:?}"),
    }
}

#[test]
fn how_many_confirmed_a_cancelled_message_is_known_after_a_restart() {
    let mut world = World::new(3);
    den(&mut world, 3);
    world.set_reachable(2, false);
    let message =
        json!({"to": {"room": "den"}, "body": "hello", "id": "once", "timeout_ms": 1_000});
    assert_eq!(world.code(0, "send", message.clone()), Code::Partial);
    world.verb(0, "outbox_cancel", json!({"id": "once"})).expect("asked for");
    world.set_reachable(2, true);
    world.pass(60_000);
    assert!(world.shown(2).is_empty(), "void for who was away");
    for round in ["at once", "after a restart"] {
        let failure = world.verb(0, "send", message.clone()).expect_err("cancelled");
        let details = failure.details.expect("how far");
        assert_eq!((&details["delivered"], &details["of"]), (&json!(1), &json!(2)), "{round}");
        world.restart(0);
    }
}

#[test]
fn who_leaves_may_come_back_and_reads_only_what_was_said_since() {
    let mut world = World::new(2);
    den(&mut world, 2);
    world.verb(1, "leave_room", json!({"room": "den"})).expect("left");
    world.pass(100);
    world.verb(0, "send", send("alone")).expect("nobody else is there");
    world.verb(1, "join_room", json!({"room": "den"})).expect("back");
    world.pass(10_000);
    world.verb(0, "send", send("together")).expect("delivered");
    assert_eq!(world.shown(1), ["together"]);
    assert_eq!(connected(&mut world, 1), 2);
}

#[test]
fn a_room_lives_on_while_the_registry_is_away_and_members_restart() {
    let mut world = World::new(3);
    den(&mut world, 3);
    world.registry_up = false;
    world.restart(1);
    world.pass(30_000);
    assert_eq!(connected(&mut world, 1), 3, "cached addresses lead to the others");
    world.verb(1, "send", send("hello")).expect("delivered");
    assert_eq!(world.shown(2), ["hello"]);
}

#[test]
fn a_room_made_anew_takes_the_place_of_the_old_one() {
    let mut world = World::new(2);
    den(&mut world, 2);
    for round in 1..=8 {
        let params = json!({"room": "den", "access": "open", "history": "joined"});
        let made = room(world.verb(0, "create_room", params));
        assert_eq!((made.epoch, made.members.len()), (1, 1), "the new one is told");
        world.pass(1_000);
        assert_eq!(world.count(0, |e| matches!(e, EventKind::RoomLeft { .. })), round);
    }
}

#[test]
fn a_room_that_is_listed_again_is_entered_again() {
    let mut world = World::new(2);
    den(&mut world, 2);
    for hidden in [true, false] {
        world.registry.hide_rooms = hidden;
        world.registry.bump(&"b".parse().expect("a name"));
        world.run();
        world.pass(20_000);
        let held = world.verb(1, "members", json!({"room": "den"}));
        assert_eq!(held.is_err(), hidden);
    }
    world.verb(0, "send", send("hello")).expect("delivered");
    assert_eq!(world.shown(1), ["hello"]);
}

#[test]
fn a_registry_whose_log_of_a_room_is_shorter_than_ours_is_told_once() {
    let mut world = World::new(3);
    den(&mut world, 3);
    let told = |world: &World, i| world.count(i, |e| matches!(e, EventKind::RoomDiverged { .. }));
    assert_eq!(told(&world, 0), 0);
    world.registry.lose_record(&"den".parse().expect("a name"));
    for _ in 0..2 {
        for name in ["a", "b", "c"] {
            world.registry.bump(&name.parse().expect("a name"));
        }
        world.run();
        world.pass(20_000);
    }
    assert_eq!([told(&world, 0), told(&world, 1)], [1, 1]);
    assert_eq!(world.code(0, "send", send("the longer log holds")), Code::Partial);
    assert_eq!(world.shown(1), ["the longer log holds"]);
}

fn failed(event: &EventKind) -> bool {
    matches!(event, EventKind::Failed { code: Code::NotFound, .. })
}

#[test]
fn what_waits_in_a_room_that_was_left_ends() {
    let mut world = World::new(3);
    den(&mut world, 3);
    world.set_reachable(2, false);
    let sending = world.begin_verb(0, "send", json!({"to": {"room": "den"}, "body": "to both"}));
    world.pass(1_000);
    assert_eq!(world.shown(1), ["to both"]);
    world.verb(0, "leave_room", json!({"room": "den"})).expect("left");
    assert_eq!(world.told(0, sending).expect("told").expect_err("it failed").code, Code::NotFound);
    assert_eq!(world.count(0, failed), 1);
    match world.verb(0, "outbox", json!({})).expect("outbox") {
        Answer::Outbox(outbox) => assert!(outbox.messages.is_empty(), "{outbox:?}"),
        other => panic!("no outbox: {other:?}"),
    }
    world.set_reachable(2, true);
    world.pass(60_000);
    assert_eq!(world.shown(2), ["to both"], "who stay agree on it");
}

#[test]
fn what_a_member_holds_is_not_told_as_cancelled_when_the_room_is_left() {
    let mut world = World::new(3);
    den(&mut world, 3);
    world.set_reachable(2, false);
    let message = json!({"to": {"room": "den"}, "body": "to one", "id": "once", "wait": "queued"});
    world.verb(0, "send", message).expect("queued");
    world.pass(1_000);
    assert_eq!(world.shown(1), ["to one"]);
    world.verb(0, "outbox_cancel", json!({"id": "once"})).expect("asked for");
    world.verb(0, "leave_room", json!({"room": "den"})).expect("left");
    assert_eq!(world.count(0, failed), 1, "not that it was cancelled: one shows it");
    world.set_reachable(2, true);
    world.pass(60_000);
    assert_eq!(world.shown(2), ["to one"], "who stay agree on it");
}

#[test]
fn what_waits_ends_for_who_is_kicked_and_all_who_stay_agree_on_it() {
    let mut world = World::new(3);
    den(&mut world, 3);
    world.set_reachable(2, false);
    let send = json!({"to": {"room": "den"}, "body": "to both", "wait": "queued"});
    world.verb(1, "send", send).expect("queued");
    world.set_reachable(0, false);
    let send = json!({"to": {"room": "den"}, "body": "to nobody", "wait": "queued"});
    world.verb(1, "send", send).expect("queued");
    world.set_reachable(0, true);
    world.set_reachable(1, false);
    world.verb(0, "kick", json!({"room": "den", "username": "b"})).expect("kicked");
    world.set_reachable(1, true);
    world.registry.bump(&"b".parse().expect("a name"));
    world.run();
    world.pass(60_000);
    assert_eq!(world.count(1, failed), 2);
    world.verb(1, "join_room", json!({"room": "den"})).expect("back");
    world.set_reachable(2, true);
    world.pass(60_000);
    assert_eq!(world.shown(0), ["to both"]);
    assert_eq!(world.shown(2), ["to both"], "the other one was void");
}

#[test]
fn who_leaves_and_comes_back_over_a_link_that_stays_is_heard_though_the_others_hear_of_both_at_once()
 {
    let mut world = World::new(2);
    den(&mut world, 2);
    let attic = json!({"room": "attic", "access": "open", "history": "joined"});
    world.verb(0, "create_room", attic).expect("made");
    world.verb(1, "join_room", json!({"room": "attic"})).expect("a room that keeps the link");
    world.pass(5_000);
    let (links, key) = (world.link_ids(0), world.key(1, LinkKind::Peer));
    let room: RoomName = "den".parse().expect("a name");
    let leave = Request::LeaveRoom { room: room.clone() };
    for request in [leave, Request::JoinRoom { room, password: None }] {
        world.registry.handle(&key, request).expect("done");
        // Only the one who leaves and comes back hears of it from the registry.
        world.registry.nudges.clear();
        world.input(1, Input::Hello(HelloInput::Nudged { version: u64::MAX }));
        world.pass(1_000);
    }
    world.pass(5_000);
    assert_eq!(world.link_ids(0), links);
    for from in [1, 0] {
        world.verb(from, "send", send("hello")).expect("delivered");
        assert_eq!(world.shown(1 - from), ["hello"]);
    }
}
