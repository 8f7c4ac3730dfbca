//! Peers that move: another address, another mapping of a NAT, a while asleep.

use std::time::{Duration, Instant};

use harness::{Count, Town, User, eventually, never};

use super::{SLOW, bodies, den, links, queue, say};

/// What row 14 promises.
const BACK_WITHIN: Duration = Duration::from_secs(15);
/// Longer than links stay up without a word from the other side.
const ASLEEP: Duration = Duration::from_secs(9);
/// Packets that open QUIC connections, in one such outage and one direction. A dial sends five of them in
/// its four seconds, and dials come ever slower; a storm is hundreds.
const OPENINGS_MAX: u64 = 40;
/// Connections to the registry in one such outage.
const CONNECTIONS_MAX: u64 = 8;

/// Waits for the delivery of what waits at `author`, in time.
#[track_caller]
fn back_in_time(author: &User, since: Instant) {
    let what = format!("what {} said arrives", author.name());
    eventually(&what, BACK_WITHIN * SLOW, || author.outbox().is_empty());
    assert!(since.elapsed() < BACK_WITHIN * SLOW, "after {:?}", since.elapsed());
}

#[track_caller]
fn no_storm(town: &Town, from: &User, to: &User, before: (Count, Count)) {
    let dials = town.net.sent(&from.host, &to.host).quic_openings - before.0.quic_openings;
    assert!(dials <= OPENINGS_MAX, "{} dials {}: {dials} packets", from.name(), to.name());
    let calls = town.net.sent(&from.host, &town.hall).tcp_openings - before.1.tcp_openings;
    assert!(calls <= CONNECTIONS_MAX, "{} asks the registry {calls} times", from.name());
}

fn counts(town: &Town, from: &User, to: &User) -> (Count, Count) {
    (town.net.sent(&from.host, &to.host), town.net.sent(&from.host, &town.hall))
}

/// Row 14: address change, seen from the peer that moves.
#[test]
fn a_peer_that_moves_to_another_address_reaches_the_others_from_there() {
    let Some((town, [alice, bob])) = Town::of(141, ["alice", "bob"]) else { return };
    bob.ctl(&["send", "alice", "here"]).ok();
    let before = counts(&town, &bob, &alice);
    bob.host.readdress(town.net.free_address());
    let moved = Instant::now();
    queue(&bob, "alice", "there");
    back_in_time(&bob, moved);
    assert_eq!(bodies(&alice.history(&["bob"])), ["here", "there"]);
    no_storm(&town, &bob, &alice, before);
}

/// Row 14: address change, seen from the others: they learn from the registry where the peer is.
#[test]
fn a_peer_that_moves_to_another_address_is_found_there() {
    let Some((town, [alice, bob])) = Town::of(142, ["alice", "bob"]) else { return };
    alice.ctl(&["send", "bob", "here"]).ok();
    let before = town.net.sent(&alice.host, &town.hall);
    bob.host.readdress(town.net.free_address());
    let moved = Instant::now();
    queue(&alice, "bob", "there");
    back_in_time(&alice, moved);
    assert_eq!(bodies(&bob.history(&["alice"])), ["here", "there"]);
    no_storm(&town, &alice, &bob, (Count::default(), before));
}

/// Row 14: address change, seen from somebody who has no link that could follow.
#[test]
fn a_peer_that_moved_is_found_by_whoever_was_not_linked_with_it() {
    let Some((town, [mut alice, bob])) = Town::of(146, ["alice", "bob"]) else { return };
    alice.ctl(&["send", "bob", "here"]).ok();
    alice.kill();
    bob.host.readdress(town.net.free_address());
    let address = bob.host.address().to_string();
    alice.restart();
    alice.wait_online();
    let moved = Instant::now();
    let before = counts(&town, &alice, &bob);
    queue(&alice, "bob", "there");
    back_in_time(&alice, moved);
    assert_eq!(bodies(&bob.history(&["alice"])), ["here", "there"]);
    let found = alice.ctl(&["search", "bob"]).ok();
    let addresses = found["addresses"].as_array().expect("a list");
    assert!(addresses[0].as_str().is_some_and(|a| a.starts_with(&address)), "{addresses:?}");
    no_storm(&town, &alice, &bob, before);
}

/// Row 14: address change of a member: its room's links come back by themselves.
#[test]
fn a_member_that_moves_to_another_address_is_back_in_its_room() {
    let Some((town, [ann, ben, cem])) = Town::of(143, ["ann", "ben", "cem"]) else { return };
    den(&ann, &[&ben, &cem]);
    let before = counts(&town, &cem, &ann);
    cem.host.readdress(town.net.free_address());
    let moved = Instant::now();
    say(&ann, "where is cem?");
    back_in_time(&ann, moved);
    for user in [&ann, &ben, &cem] {
        eventually("all links are back", BACK_WITHIN * SLOW, || {
            links(user).iter().all(|link| link == "connected")
        });
    }
    no_storm(&town, &cem, &ann, before);
}

/// Row 14: address change of two members at once: no link can follow, and each must be told where the other is.
#[test]
fn two_members_that_move_at_once_find_each_other() {
    let Some((town, [ann, ben, cem])) = Town::of(147, ["ann", "ben", "cem"]) else { return };
    den(&ann, &[&ben, &cem]);
    let before = counts(&town, &cem, &ann);
    for user in [&ann, &cem] {
        user.host.readdress(town.net.free_address());
    }
    let moved = Instant::now();
    for (one, other) in [(&ann, "cem"), (&cem, "ann")] {
        queue(one, other, "where are you?");
        say(one, "where are you all?");
    }
    back_in_time(&ann, moved);
    back_in_time(&cem, moved);
    for user in [&ann, &ben, &cem] {
        eventually("all links are back", BACK_WITHIN * SLOW, || {
            links(user).iter().all(|link| link == "connected")
        });
    }
    // To the new address alone, as before it was nobody's.
    no_storm(&town, &cem, &ann, (Count::default(), before.1));
}

/// Row 14: NAT rebinding. The mapping changes under a link that is up; either side speaks first.
#[test]
fn a_link_survives_a_nat_that_forgets_it() {
    let Some((town, [alice])) = Town::of(144, ["alice"]) else { return };
    let host = town.net.host_behind_nat();
    let bob = town.settle_at("bob", host, &town.registry.address());
    for (n, (author, reader)) in [(&alice, &bob), (&bob, &alice)].into_iter().enumerate() {
        bob.ctl(&["send", "alice", &format!("link {n}")]).ok();
        let before = counts(&town, author, reader);
        bob.host.rebind();
        let moved = Instant::now();
        queue(author, reader.name(), &format!("over the new mapping {n}"));
        back_in_time(author, moved);
        no_storm(&town, author, reader, before);
    }
    let mut expected = Vec::new();
    for n in 0..2 {
        expected.extend([format!("link {n}"), format!("over the new mapping {n}")]);
    }
    assert_eq!(bodies(&bob.history(&["alice"])), expected);
    assert_eq!(bodies(&alice.history(&["bob"])), expected);
}

/// Row 14: suspend and resume: every process of the machine stands still, longer than links stay up.
#[test]
fn a_peer_that_slept_is_back_soon_after_it_wakes() {
    let Some((town, [alice, mut bob])) = Town::of(145, ["alice", "bob"]) else { return };
    alice.ctl(&["send", "bob", "good night"]).ok();
    let before = counts(&town, &alice, &bob);
    let back_before = counts(&town, &bob, &alice);
    bob.daemon().freeze();
    queue(&alice, "bob", "are you awake?");
    never("a delivery to a sleeper", ASLEEP, || alice.outbox().is_empty());
    bob.daemon().thaw();
    let woken = Instant::now();
    queue(&bob, "alice", "good morning");
    back_in_time(&bob, woken);
    back_in_time(&alice, woken);
    assert_eq!(bodies(&alice.history(&["bob"])).len(), 3);
    no_storm(&town, &alice, &bob, before);
    no_storm(&town, &bob, &alice, back_before);
}
