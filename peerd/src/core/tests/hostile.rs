//! Peers that do not play by the rules, and bad luck.

use peerd_proto::{
    control::{EventKind, MessageState},
    wire::{
        Body, ChatFrame, ChatId, Context, ConversationId, Frame, Have, Header, Kind, Position,
        StreamId, VerifiedEntry,
    },
};
use registryd_proto::{Code, Digest, Keypair};
use serde_json::json;

use super::world::World;
use crate::core::{Answer, Input, LinkKind, input::Inbound};

fn send(to: &str, body: &str) -> serde_json::Value {
    json!({"to": {"user": to}, "body": body})
}

fn queue(to: &str, body: &str) -> serde_json::Value {
    json!({"to": {"user": to}, "body": body, "wait": "queued"})
}

#[test]
fn a_message_expires_by_itself() {
    let mut world = World::new(2);
    world.verb(0, "send", queue("b", "early")).expect("queued");
    world.set_reachable(1, false);
    let params =
        json!({"to": {"user": "b"}, "body": "late", "wait": "queued", "expires_ms": 5_000});
    world.verb(0, "send", params).expect("queued");
    world.pass(10_000);
    let failed = |e: &EventKind| matches!(e, EventKind::Failed { code: Code::TimedOut, .. });
    assert_eq!(world.count(0, failed), 1);
}

#[test]
fn what_failed_as_blocked_is_not_shown_later() {
    let mut world = World::new(2);
    world.verb(1, "policy", json!({"username": "a", "policy": "block"})).expect("blocked");
    assert_eq!(world.code(0, "send", send("b", "one")), Code::Blocked);
    assert_eq!(world.code(0, "send", send("b", "two")), Code::Blocked);
    world.verb(1, "policy", json!({"username": "a", "policy": "allow"})).expect("allowed");
    world.pass(5_000);
    world.verb(0, "send", send("b", "three")).expect("delivered");
    assert_eq!(world.shown(1), ["three"]);
}

#[test]
fn who_is_thrown_out_dials_no_loop_and_gets_through_in_the_end() {
    let mut world = World::new(3);
    world.verb(1, "policy", json!({"username": "a", "policy": "allow"})).expect("allowed");
    world.verb(0, "send", send("b", "one")).expect("delivered");
    let (peer, room) = (world.peers[2].keys.peer.clone(), world.peers[2].keys.room.clone());
    let (own_peer, own_room) = (world.peers[0].keys.peer.clone(), world.peers[0].keys.room.clone());
    let a = "a".parse().expect("a name");
    world.registry.rebind(&a, &peer, &room);
    world.verb(1, "search", json!({"username": "a"})).expect("found");
    world.registry.rebind(&a, &own_peer, &own_room);
    let (dials, events) = (world.peers[0].dials, world.peers[0].events.len());
    world.verb(0, "send", queue("b", "two")).expect("queued");
    world.pass(120_000);
    let dials = world.peers[0].dials - dials;
    assert!((2..40).contains(&dials), "{dials} dials in two minutes");
    let events = world.peers[0].events.len() - events;
    assert!(events < 4, "{events} events for a peer that does not want us");
    assert_eq!(world.shown(1), ["one"]);
    world.verb(1, "search", json!({"username": "a"})).expect("found");
    world.restart(0);
    world.pass(20_000);
    assert_eq!(world.shown(1), ["one", "two"]);
}

fn den() -> serde_json::Value {
    json!({"room": "den", "access": "open", "history": "joined"})
}

#[test]
fn a_full_room_of_absent_members_wakes_nobody_for_nothing() {
    let mut world = World::new(20);
    world.verb(0, "create_room", den()).expect("a room");
    for i in 1..20 {
        world.verb(i, "join_room", json!({"room": "den"})).expect("joined");
    }
    world.pass(10_000);
    world.hang_dials = true;
    world.restart(0);
    // `pass` checks that a core that was woken does not want to be woken again at once.
    world.pass(3_000);
    assert!(world.peers[0].dials > 0);
}

#[test]
fn strangers_meet_after_a_day_without_a_login() {
    let mut world = World::new(2);
    world.pass(26 * 60 * 60 * 1_000);
    world.verb(1, "policy", json!({"policy": "allow"})).expect("allowed");
    let Ok(Answer::Sent(sent)) = world.verb(0, "send", send("b", "one")) else {
        panic!("a peer that is online for a day can be met");
    };
    assert_eq!(sent.state, MessageState::Delivered);
}

#[test]
fn an_unknown_room_peer_parks_little_memory() {
    let mut world = World::new(2);
    world.connect(1, 0, LinkKind::Room);
    world.run();
    let link = world.link_ids(0)[0];
    let position = Position {
        author: world.key(1, LinkKind::Peer),
        stream: StreamId(uuid::Uuid::nil()),
        seq: 1,
        hash: Digest::default(),
    };
    for n in 0..3 {
        let have = Have {
            conversation: ConversationId(Digest([n; 32])),
            epoch: 1,
            full: true,
            positions: vec![position; 8_000],
            exceptions: Vec::new(),
        };
        let frame = Inbound::Other(Frame::Have(have));
        world.input(0, Input::LinkFrame { link, frame });
    }
    world.pass(20_000);
    assert!(world.link_ids(0).is_empty(), "it was thrown out");
}

#[test]
fn a_link_that_tells_of_a_busy_room_before_we_know_of_it_stays() {
    let mut world = World::new(2);
    world.verb(0, "create_room", den()).expect("made");
    world.verb(1, "join_room", json!({"room": "den"})).expect("joined");
    world.pass(5_000);
    let link = world.link_ids(0)[0];
    for seq in 0..1_000 {
        let position = Position {
            author: world.key(1, LinkKind::Peer),
            stream: StreamId(uuid::Uuid::nil()),
            seq,
            hash: Digest::default(),
        };
        let have = Have {
            conversation: ConversationId(Digest::default()),
            epoch: 1,
            full: seq == 0,
            positions: vec![position],
            exceptions: Vec::new(),
        };
        let frame = Inbound::Other(Frame::Have(have));
        world.input(0, Input::LinkFrame { link, frame });
    }
    assert_eq!(world.link_ids(0), [link]);
}

#[test]
fn a_login_whose_reply_is_lost_supersedes_nobody() {
    let mut world = World::new(2);
    world.lose_replies = true;
    let again = json!({"username": "a", "password": "password"});
    assert_eq!(world.code(0, "login", again), Code::RegistryUnreachable);
    world.lose_replies = false;
    world.pass(30_000);
    assert_eq!(world.count(0, |e| matches!(e, EventKind::Superseded {})), 0);
    world.verb(1, "policy", json!({"username": "a", "policy": "allow"})).expect("allowed");
    world.verb(0, "send", send("b", "one")).expect("delivered");
}

fn forked(keys: &Keypair, conversation: ConversationId, n: u128) -> (VerifiedEntry, VerifiedEntry) {
    let sign = |text: &str| {
        let body = Body { salt: [0; 16], text: text.to_owned() };
        let header = Header {
            conversation,
            author: keys.public(),
            stream: StreamId(uuid::Uuid::from_u128(n)),
            seq: 1,
            previous: Digest::default(),
            origin: None,
            id: "x".parse().expect("an id"),
            lamport: 1,
            wall_ms: 0,
            context: Context::Direct { chat: None },
            kind: Kind::Text,
            body: body.hash(),
        };
        VerifiedEntry::sign(header, body, keys)
    };
    (sign("one"), sign("other"))
}

#[test]
fn an_author_of_many_forks_fills_no_disk() {
    let mut world = World::new(2);
    world.verb(0, "policy", json!({"username": "b", "policy": "allow"})).expect("allowed");
    world.verb(0, "send", queue("b", "one")).expect("queued");
    let link = world.link_ids(0)[0];
    let (ours, theirs) = (world.key(0, LinkKind::Peer), world.key(1, LinkKind::Peer));
    let conversation = ConversationId::direct(&world.registry.key.public(), &ours, &theirs);
    for n in 0..100 {
        let (a, b) = forked(&world.peers[1].keys.peer, conversation, n);
        world.input(0, Input::LinkFrame { link, frame: Inbound::Fork { a, b } });
    }
    let found = world.count(0, |e| matches!(e, EventKind::ForkFound { .. }));
    assert_eq!(found, 16);
}

#[test]
fn a_peer_that_asks_and_takes_back_or_comes_and_goes_fills_no_disk() {
    let mut world = World::new(2);
    world.verb(1, "send", queue("a", "held")).expect("queued");
    let before = world.peers[0].events.len();
    let link = world.link_ids(0)[0];
    for n in 0..200 {
        let chat = ChatId(uuid::Uuid::from_u128(n));
        for frame in [ChatFrame::Request { chat, ring_ms: 60_000 }, ChatFrame::Withdraw { chat }] {
            let frame = Inbound::Other(Frame::Chat(frame));
            world.input(0, Input::LinkFrame { link, frame });
        }
    }
    for _ in 0..50 {
        world.cut_all(1);
        world.run();
        world.connect(1, 0, LinkKind::Peer);
        world.run();
    }
    let events = world.peers[0].events.len() - before;
    assert!(events <= 45, "{events} events");
}
