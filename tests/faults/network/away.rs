//! A registry that is away for long, and a name service that never answers.

use std::time::{Duration, Instant};

use harness::{Count, DEADLINE, PeerOptions, Quality, Town, User, Weather, eventually, never};
use registryd_proto::Code;

use super::{SLOW, bodies, drained, queue};

/// An hour at the interval of a large registry: so many HELLOs are lost.
const HELLOS_LOST: u32 = 20;
/// What "fast" is for a command that must fail: a dead address shows by silence, for three seconds.
const FAST: Duration = Duration::from_secs(5);
/// What a command that has nothing to do with the fault may take.
const AT_ONCE: Duration = Duration::from_secs(2);
/// Connections that a peer may open to the registry while all comes back.
const CONNECTIONS_MAX: u64 = 6;

fn counts(town: &Town, users: &[&User]) -> Vec<Count> {
    users.iter().map(|user| town.net.sent(&user.host, &town.hall)).collect()
}

fn within(limit: Duration, what: &str, act: impl FnOnce()) {
    let start = Instant::now();
    act();
    assert!(start.elapsed() < limit * SLOW, "{what} took {:?}", start.elapsed());
}

/// Row 8: an hour is played by many lost HELLOs. Restarted peers know each other by cached cards.
#[test]
fn a_registry_that_is_away_for_long_stops_no_chat_and_is_not_stormed_when_it_is_back() {
    let names = ["alice", "bob", "carol"];
    let Some((town, [alice, mut bob, carol])) = Town::of(81, names) else { return };
    alice.ctl(&["send", "bob", "before"]).ok();
    for user in [&alice, &bob, &carol] {
        town.net.cut(&user.host, &town.hall);
    }
    bob.kill();
    bob.restart();
    assert_eq!(alice.ctl(&["send", "bob", "without a registry"]).ok()["state"], "delivered");
    alice.chat_with(&bob);
    assert_eq!(bob.ctl(&["send", "alice", "so am I"]).ok()["state"], "delivered");
    within(FAST, "a search that must fail", || {
        carol.ctl(&["search", "dave"]).failed(Code::RegistryUnreachable);
    });
    let interval = alice.status()["hello_interval_ms"].as_u64().expect("a number");
    let long = Duration::from_millis(interval) * HELLOS_LOST;
    never("a session is given up", long, || alice.status()["session"] == "logged_out");
    within(FAST, "a search that must fail", || {
        alice.ctl(&["search", "dave"]).failed(Code::RegistryUnreachable);
    });

    let users = [&alice, &bob, &carol];
    let before = counts(&town, &users);
    town.net.heal_all();
    for user in users {
        user.wait_online();
    }
    eventually("all are seen online", DEADLINE, || {
        names.iter().all(|name| alice.presence_of(name) == "online")
    });
    drained(&users);
    let storms = || {
        let after = counts(&town, &users).into_iter();
        after.zip(&before).any(|(now, then)| (now - *then).tcp_openings > CONNECTIONS_MAX)
    };
    never("a storm of connections", long / 4, storms);
    assert_eq!(bodies(&bob.history(&["alice"])), ["before", "without a registry", "so am I"]);
}

/// Row 30: the name service takes every question and answers none.
#[test]
fn a_name_service_that_never_answers_keeps_nobody_waiting() {
    let Some((town, [bob])) = Town::of(301, ["bob"]) else { return };
    let host = town.net.host();
    let named = format!("{}@registry.example:4700", town.registry.key());
    host.set_names(&format!("{} registry.example\n", town.hall.address()));
    let mut alice = town.settle_at("alice", host, &named);
    alice.ctl(&["send", "bob", "before"]).ok();

    let black_hole = town.net.free_address();
    town.net.expect(black_hole);
    alice.host.set_names("");
    alice.host.set_name_server(black_hole);
    alice.kill();
    alice.restart();
    let mut search = alice.ctl_with().args(&["search", "bob"]).spawn();
    for n in 0..10 {
        within(AT_ONCE, "a status", || assert_eq!(alice.status()["username"], "alice"));
        within(AT_ONCE, "a message", || {
            alice.ctl(&["send", "bob", &format!("unhindered {n}")]).ok();
            bob.ctl(&["send", "alice", &format!("and back {n}")]).ok();
        });
    }
    let questions = |user: &User| town.net.sent_to(&user.host, black_hole).packets;
    eventually("the name service is asked", DEADLINE, || questions(&alice) > 0);
    eventually("the search ends", DEADLINE, || !search.is_running());
    search.wait().failed(Code::RegistryUnreachable);
    assert_eq!(questions(&bob), 0, "a registry that is given by its address needs no names");
    alice.host.set_names(&format!("{} registry.example\n", town.hall.address()));
    eventually("online again", 3 * DEADLINE, || alice.status()["session"] == "online");
}

/// Threat 27: a bad day from start to end, with restarts, and every packet of every host accounted for.
#[test]
fn no_packet_ever_goes_to_a_host_that_nobody_configured() {
    let Some(town) = Town::empty(271) else { return };
    let nobody = town.net.free_address();
    let aside = town.net.host();
    aside.set_name_server(nobody);
    let quiet = PeerOptions { prefix: aside.prefix(), ..PeerOptions::default() };
    let never_logged_in = harness::Peer::start_with("nobody", quiet);
    let mut users = town.crowd(3);
    for user in &users {
        // Whoever asks a name service, a relay or a time server would be seen asking this one.
        user.host.set_name_server(nobody);
    }
    let mut weather = Weather::new(271);
    for round in 0..12 {
        let hosts: Vec<_> = users.iter().map(|u| &u.host).chain([&town.hall]).collect();
        weather.turn(&town.net, &hosts);
        for (n, user) in users.iter().enumerate() {
            queue(user, users[(n + 1) % 3].name(), &format!("round {round}"));
        }
        let restarted = &mut users[round % 3];
        restarted.kill();
        restarted.restart();
    }
    town.net.set_all(Quality::default());
    let all: Vec<&User> = users.iter().collect();
    for user in &all {
        user.wait_online();
    }
    drained(&all);
    drop(never_logged_in);
    assert!(town.net.strangers().is_empty(), "{:?}", town.net.strangers());
}
