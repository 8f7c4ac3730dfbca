//! Rooms of real daemons: everything at all members, in order, through crashes; nothing to others.

use harness::{DEADLINE, Peer, eventually, never};
use registryd_proto::Code;
use serde_json::Value;
use std::time::Duration;

use crate::{bodies, online};

const FIVE: [&str; 5] = ["ann", "ben", "cem", "dan", "eva"];

/// `owner` makes the room `den`, the others join; returns when every pair is linked.
fn den(owner: &Peer, others: &[&Peer], args: &[&str]) {
    owner.ctl(&[&["create-room", "den"][..], args].concat()).ok();
    for peer in others {
        peer.ctl(&["join-room", "den"]).ok();
    }
    let all: Vec<&Peer> = [&[owner], others].concat();
    for peer in &all {
        eventually(&format!("{} is linked to all", peer.name()), DEADLINE, || {
            let members = members(peer);
            members.len() == all.len() && members.iter().all(|(_, link)| link == "connected")
        });
    }
}

/// Names and links of the members of `den`, as `peer` sees them.
fn members(peer: &Peer) -> Vec<(String, String)> {
    let answer = peer.ctl(&["members", "den"]).ok();
    let text = |v: &Value| v.as_str().expect("a word").to_owned();
    let list = answer["members"].as_array().expect("a list").clone();
    list.iter().map(|m| (text(&m["username"]), text(&m["link"]))).collect()
}

fn say(peer: &Peer, body: &str) -> Value {
    peer.ctl(&["send", "--room", "den", body]).ok()
}

fn heard(peer: &Peer) -> Vec<(String, String)> {
    peer.history(&["--room", "den"])
}

#[test]
fn five_members_all_hear_all_in_each_authors_order() {
    let (_registry, peers) = online(FIVE);
    let [ann, others @ ..] = &peers;
    den(ann, &others.each_ref(), &["--access", "open"]);

    let lines: String = (0..20).map(|n| format!("line {n}\n")).collect();
    let sending = peers.each_ref().map(|peer| {
        let call = peer.ctl_with().args(&["send", "--room", "den", "-", "--lines"]);
        call.stdin(lines.clone()).spawn()
    });
    for output in sending.map(harness::Running::wait) {
        let sent = output.ok_lines();
        assert_eq!(sent.len(), 20);
        assert!(sent.iter().all(|s| s["state"] == "delivered" && s["of"] == 4), "{sent:?}");
    }
    let expected: Vec<String> = (0..20).map(|n| format!("line {n}")).collect();
    let reference = heard(ann);
    assert_eq!(reference.len(), 100);
    for peer in &peers {
        let history = heard(peer);
        assert_eq!(history, reference, "the same order for all once sets are equal");
        for author in FIVE {
            let of_author: Vec<&String> =
                history.iter().filter(|(from, _)| from == author).map(|(_, b)| b).collect();
            assert_eq!(of_author, expected.iter().collect::<Vec<_>>(), "{author}'s order");
        }
        let messages = peer.listen(&["--after", "0", "--type", "message"]);
        eventually("each is shown", DEADLINE, || messages.count() == 80);
    }
}

#[test]
fn a_killed_member_catches_up_on_return() {
    let (_registry, mut peers) = online(FIVE);
    {
        let [ann, others @ ..] = &peers;
        den(ann, &others.each_ref(), &[]);
    }
    say(&peers[0], "before");
    peers[4].kill();
    for n in 0..10 {
        let body = format!("while eva is away {n}");
        let author = &peers[n % 4];
        author.ctl(&["send", "--room", "den", &body, "--wait", "queued"]).ok();
    }
    let [.., eva] = &mut peers;
    eva.restart();
    eventually("eva has all", DEADLINE, || heard(&peers[4]).len() == 11);
    eventually("the others as well", DEADLINE, || heard(&peers[0]) == heard(&peers[4]));
    for peer in &peers[..4] {
        eventually("nothing waits", DEADLINE, || peer.outbox().is_empty());
    }
}

#[test]
fn what_reached_one_member_reaches_all_though_its_author_died() {
    let (_registry, mut peers) = online(FIVE);
    {
        let [ann, others @ ..] = &peers;
        den(ann, &others.each_ref(), &[]);
    }
    for peer in &mut peers[2..] {
        peer.daemon().freeze();
    }
    let [ann, ben, ..] = &mut peers;
    ann.ctl(&["send", "--room", "den", "last words", "--wait", "queued"]).ok();
    eventually("ben has it", DEADLINE, || bodies(&heard(ben)) == ["last words"]);
    ann.kill();
    for peer in &mut peers[2..] {
        peer.daemon().thaw();
    }
    for peer in &peers[2..] {
        eventually("the others get it from ben", 2 * DEADLINE, || {
            bodies(&heard(peer)) == ["last words"]
        });
    }
}

#[test]
fn who_is_no_member_gets_nothing() {
    let (_registry, [ann, ben, eve]) = online(["ann", "ben", "eve"]);
    ann.ctl(&["create-room", "den", "--access", "invite"]).ok();
    ann.ctl(&["invite", "den", "ben"]).ok();
    ben.ctl(&["join-room", "den"]).ok();
    ann.ctl(&["wait", "member", "den", "ben"]).ok();
    say(&ann, "members-only-marker");
    eve.ctl(&["join-room", "den"]).failed(Code::Blocked);
    eve.ctl(&["send", "--room", "den", "let me in"]).failed(Code::NotFound);
    eve.ctl(&["history", "--room", "den"]).failed(Code::NotFound);
    eve.ctl(&["members", "den"]).failed(Code::NotFound);
    assert!(!crate::secrets::holds(&eve.data(), b"members-only-marker"));
    assert_eq!(bodies(&heard(&ben)), ["members-only-marker"]);

    ann.ctl(&["invite", "den", "eve"]).ok();
    let asked = eve.listen(&["--after", "0", "--type", "room_invited"]);
    eventually("eve is invited", DEADLINE, || asked.count() == 1);
    assert_eq!(eve.ctl(&["leave-room", "den"]).ok()["members"], Value::Array(vec![]));
    eve.ctl(&["leave-room", "den"]).failed(Code::NotFound);
    eve.ctl(&["join-room", "den"]).failed(Code::Blocked);

    ann.ctl(&["invite", "den", "eve"]).ok();
    eventually("eve is invited anew", DEADLINE, || asked.count() == 2);
    eve.ctl(&["join-room", "den"]).ok();
    eventually("eve is a member for all", DEADLINE, || members(&ben).len() == 3);
    say(&ben, "welcome");
    assert_eq!(bodies(&heard(&eve)), ["welcome"], "history since the join alone");
}

#[test]
fn a_kicked_member_gets_nothing_new() {
    let (_registry, [ann, ben, eve]) = online(["ann", "ben", "eve"]);
    den(&ann, &[&ben, &eve], &[]);
    say(&ann, "all of us");
    ann.ctl(&["kick", "den", "eve"]).ok();
    eventually("eve is out for ben", DEADLINE, || members(&ben).len() == 2);
    let left = eve.listen(&["--after", "0"]).wait_for_type("room_left");
    assert_eq!(left["room"], "den");
    for peer in [&ann, &ben] {
        let sent = say(peer, "now-without-eve");
        assert_eq!(sent["of"], 1, "{sent}");
    }
    eve.ctl(&["send", "--room", "den", "still here?"]).failed(Code::NotFound);
    never("eve hears what came after", Duration::from_secs(2), || {
        crate::secrets::holds(&eve.data(), b"now-without-eve")
    });
    assert_eq!(heard(&ann).len(), 3);
}

#[test]
fn leave_takes_one_and_delete_takes_all() {
    let (_registry, [ann, ben, cem]) = online(["ann", "ben", "cem"]);
    den(&ann, &[&ben, &cem], &[]);
    ben.ctl(&["leave-room", "den"]).ok();
    eventually("ben is out for cem", DEADLINE, || members(&cem).len() == 2);
    let sent = say(&cem, "two of us");
    assert_eq!((&sent["state"], &sent["of"]), (&"delivered".into(), &1.into()));
    ben.ctl(&["send", "--room", "den", "one more thing"]).failed(Code::NotFound);
    ann.ctl(&["leave-room", "den"]).failed(Code::Conflict);
    cem.ctl(&["delete-room", "den"]).failed(Code::Blocked);
    ann.ctl(&["delete-room", "den"]).ok();
    cem.listen(&["--after", "0"]).wait_for_type("room_left");
    cem.ctl(&["send", "--room", "den", "anybody?"]).failed(Code::NotFound);
}

#[test]
fn a_room_password_is_needed_and_enough() {
    let (_registry, [ann, ben]) = online(["ann", "ben"]);
    let create = ["create-room", "den", "--access", "password", "--password-stdin"];
    ann.ctl_with().args(&create).stdin("open sesame\n").run().ok();
    let join = |password: &str| {
        let call = ben.ctl_with().args(&["join-room", "den", "--password-stdin"]);
        call.stdin(format!("{password}\n")).run()
    };
    join("open barley").failed(Code::BadCredentials);
    let room = join("open sesame").ok();
    assert_eq!(room["schema"], "p2pctl.room/1");
    assert_eq!(room["owner"], "ann");
    assert_eq!(room["members"].as_array().map(Vec::len), Some(2));
}

#[test]
fn a_joiner_reads_back_where_the_room_says_so() {
    let (_registry, [ann, ben, cem]) = online(["ann", "ben", "cem"]);
    den(&ann, &[&ben], &["--history", "all"]);
    say(&ann, "from the time before");
    cem.ctl(&["join-room", "den"]).ok();
    eventually("cem reads back", DEADLINE, || bodies(&heard(&cem)) == ["from the time before"]);
}

#[test]
fn a_message_that_some_have_exits_15_and_is_completed_later() {
    let (_registry, mut peers) = online(["ann", "ben", "cem"]);
    {
        let [ann, ben, cem] = &peers;
        den(ann, &[ben, cem], &[]);
    }
    peers[2].kill();
    let call = ["send", "--room", "den", "some of you", "--timeout", "3s"];
    let error = peers[0].ctl(&call).failed(Code::Partial);
    assert_eq!((&error["delivered"], &error["of"]), (&1.into(), &2.into()), "{error}");
    peers[2].restart();
    let delivered = peers[0].listen(&["--after", "0"]).wait_for_type("delivered");
    assert_eq!(delivered["id"], error["id"]);
    assert_eq!(bodies(&heard(&peers[2])), ["some of you"]);
}

#[test]
fn moderation_needs_the_role() {
    let (_registry, [ann, ben, cem]) = online(["ann", "ben", "cem"]);
    den(&ann, &[&ben, &cem], &[]);
    ben.ctl(&["kick", "den", "cem"]).failed(Code::Blocked);
    ben.ctl(&["set-role", "den", "ben", "moderator"]).failed(Code::Blocked);
    ann.ctl(&["set-role", "den", "ben", "moderator"]).ok();
    ben.ctl(&["kick", "den", "ann"]).failed(Code::Blocked);
    ben.ctl(&["kick", "den", "cem"]).ok();
    eventually("cem is out for ann", DEADLINE, || members(&ann).len() == 2);
    let names: Vec<Value> = ben.ctl(&["rooms"]).ok()["rooms"].as_array().cloned().expect("a list");
    assert_eq!(names.len(), 1);
    assert_eq!(names[0]["room"], "den");
}
