//! Cuts: both ways, one way, in mid-link, of a room in halves.

use std::time::Duration;

use harness::{DEADLINE, Quality, Town, User, converge, eventually, never};

use super::{bodies, den, drained, queue, say, send_briefly, told_delivered, waits};

/// Long enough for a delivery, were there a way.
const ACROSS: Duration = Duration::from_secs(8);

/// Cuts, sends, heals; the message must wait and then arrive once.
fn crosses(town: &Town, alice: &User, bob: &User, name: &str, cut: impl Fn()) {
    alice.ctl(&["send", "bob", &format!("before {name}")]).ok();
    cut();
    let id = waits(alice, &send_briefly(alice, "bob", &format!("alice, {name}")));
    let back = queue(bob, "alice", &format!("bob, {name}"));
    town.net.heal_all();
    drained(&[alice, bob]);
    assert_eq!(told_delivered(alice, &id), 1);
    assert_eq!(told_delivered(bob, &back), 1);
    for user in [alice, bob] {
        let other = if user.name() == "bob" { "alice" } else { "bob" };
        let history = user.history(&[other]);
        for body in [format!("before {name}"), format!("alice, {name}"), format!("bob, {name}")] {
            let times = bodies(&history).iter().filter(|&&b| b == body).count();
            assert_eq!(times, 1, "{body}, at {}", user.name());
        }
    }
}

/// Row 10: partition peer to peer.
#[test]
fn a_message_to_a_peer_behind_a_cut_waits_and_arrives_once_after_healing() {
    let Some((town, [alice, bob])) = Town::of(10, ["alice", "bob"]) else { return };
    crosses(&town, &alice, &bob, "cut", || town.net.cut(&alice.host, &bob.host));
}

/// Row 10: one-way partition, either way.
#[test]
fn a_link_that_carries_only_one_way_says_nothing_false_and_heals() {
    let Some((town, [alice, bob])) = Town::of(11, ["alice", "bob"]) else { return };
    let one_way = |from, to| town.net.set_one_way(from, to, Quality::CUT);
    crosses(&town, &alice, &bob, "no way there", || one_way(&alice.host, &bob.host));
    crosses(&town, &alice, &bob, "no way back", || one_way(&bob.host, &alice.host));
}

/// Row 10: half-open link. One end of it is gone and could not say so.
#[test]
fn a_link_whose_other_end_died_unheard_delivers_nothing_until_it_is_back() {
    let Some((town, [alice, mut bob])) = Town::of(12, ["alice", "bob"]) else { return };
    alice.ctl(&["send", "bob", "before"]).ok();
    town.net.cut(&alice.host, &bob.host);
    bob.kill();
    let id = waits(&alice, &send_briefly(&alice, "bob", "into the dead end"));
    bob.restart();
    bob.wait_online();
    never("a delivery through the cut", ACROSS, || alice.outbox().is_empty());
    assert_eq!(told_delivered(&alice, &id), 0);
    town.net.heal_all();
    drained(&[&alice, &bob]);
    assert_eq!(told_delivered(&alice, &id), 1);
    assert_eq!(bodies(&bob.history(&["alice"])), ["before", "into the dead end"]);
}

/// Row 11: the registry is reached by all, the halves do not reach each other.
#[test]
fn a_room_split_in_halves_goes_on_in_both_and_converges_after_healing() {
    let names = ["ann", "ben", "cem", "dan"];
    let Some((town, [ann, ben, cem, dan])) = Town::of(13, names) else { return };
    den(&ann, &[&ben, &cem, &dan]);
    say(&ann, "all are here");
    converge("den", &[&ann, &ben, &cem, &dan], 1);

    for one in [&ann, &ben] {
        for other in [&cem, &dan] {
            town.net.cut(&one.host, &other.host);
        }
    }
    for n in 0..5 {
        for user in [&ann, &ben, &cem, &dan] {
            say(user, &format!("{} {n}", user.name()));
        }
    }
    for half in [[&ann, &ben], [&cem, &dan]] {
        converge("den", &half.map(|user| &**user), 11);
    }
    town.net.heal_all();
    drained(&[&ann, &ben, &cem, &dan]);
    let history = converge("den", &[&ann, &ben, &cem, &dan], 21);
    for user in names {
        let own: Vec<&str> =
            history.iter().filter(|(from, _)| from == user).map(|(_, b)| b.as_str()).collect();
        let expected: Vec<String> = (0..5).map(|n| format!("{user} {n}")).collect();
        assert!(own.ends_with(&expected.iter().map(String::as_str).collect::<Vec<_>>()), "{own:?}");
    }
}

/// Row 29: there is no relay in the product yet, so what a relay that is gone leaves is the rule: who cannot
/// be reached directly is waited for, and the reason is told.
#[test]
fn without_a_relay_whoever_cannot_be_reached_is_queued_for_with_a_reason() {
    let Some((town, [alice, bob, cem])) = Town::of(29, ["alice", "bob", "cem"]) else { return };
    town.net.cut(&alice.host, &bob.host);
    waits(&alice, &send_briefly(&alice, "bob", "are you there?"));
    eventually("the reason is told", DEADLINE, || {
        super::reasons(&alice) == [Some("peer_offline".to_owned())]
    });
    assert_eq!(alice.ctl(&["send", "cem", "direct"]).ok()["state"], "delivered");
    assert_eq!(bob.ctl(&["send", "cem", "direct, too"]).ok()["state"], "delivered");
    town.net.heal_all();
    drained(&[&alice]);
    assert_eq!(bodies(&bob.history(&["alice"])), ["are you there?"]);
    drop(cem);
}
