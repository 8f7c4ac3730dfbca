//! SIGTERM under load: a clean end in time, and nothing acknowledged is lost. SIGSTOP of a registry: nobody is
//! offline for what it did not hear.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use harness::{DEADLINE, Daemon, Peer, Registry, Running, eventually, never};
use registryd_proto::Code;

use crate::people::friends;

/// What the contract gives.
const STOP_WITHIN: Duration = Duration::from_secs(5);

const SENDERS: usize = 4;
const LINES: usize = 300;

/// Senders of numbered lines; each line is acknowledged by one on stdout.
fn senders(from: &Peer, to: &[&str], label: &str) -> Vec<Running> {
    (0..SENDERS)
        .map(|sender| {
            let lines: String = (0..LINES).map(|n| format!("{label}{sender} {n}\n")).collect();
            let call = from.ctl_with().args(&["send"]).args(to);
            call.args(&["-", "--lines", "--wait", "queued"]).stdin(lines).spawn()
        })
        .collect()
}

#[track_caller]
fn assert_stops(daemon: &mut Daemon) {
    let begun = Instant::now();
    assert!(daemon.stop().success(), "exit 0");
    assert!(begun.elapsed() < STOP_WITHIN, "{:?}", begun.elapsed());
}

/// Of each sender what was acknowledged is there, each line once and in its order.
fn assert_kept(label: &str, acknowledged: &[usize], history: &[(String, String)]) {
    for (sender, acknowledged) in acknowledged.iter().enumerate() {
        let start = format!("{label}{sender} ");
        let got: Vec<usize> = history
            .iter()
            .filter_map(|(_, body)| body.strip_prefix(&start)?.parse().ok())
            .collect();
        assert!(got.len() >= *acknowledged, "{start}: {} of {acknowledged}", got.len());
        assert_eq!(got, (0..got.len()).collect::<Vec<_>>(), "{start}");
    }
}

/// Row 28: a peerd with senders in it, a room, and one that sends to it.
#[test]
fn a_peerd_stopped_under_load_loses_and_doubles_nothing() {
    let (_registry, [mut alice, bob]) = friends(["alice", "bob"]);
    alice.ctl(&["create-room", "ops", "--access", "open"]).ok();
    bob.ctl(&["join-room", "ops"]).ok();
    alice.ctl(&["wait", "member", "ops", "bob"]).ok();
    let out = senders(&alice, &["bob"], "out");
    let room = senders(&alice, &["--room", "ops"], "room");
    let back = senders(&bob, &["alice"], "in");
    let seen = bob.listen(&["--after", "0", "--type", "message"]);
    let heard = alice.listen(&["--after", "0", "--type", "message", "--from", "bob"]);
    eventually("the load is on", 2 * DEADLINE, || seen.count() > 40 && heard.count() > 10);
    assert_stops(alice.daemon());
    let count = |calls: Vec<Running>| -> Vec<usize> {
        calls.into_iter().map(|call| call.wait().stdout.lines().count()).collect()
    };
    let (out, room, back) = (count(out), count(room), count(back));
    assert_eq!(back, [LINES; SENDERS], "bob's own senders do not notice");
    alice.restart();
    eventually("nothing waits any more", 4 * DEADLINE, || {
        alice.outbox().is_empty() && bob.outbox().is_empty()
    });
    assert_kept("out", &out, &bob.history(&["alice"]));
    assert_kept("room", &room, &bob.history(&["--room", "ops"]));
    assert_kept("in", &back, &alice.history(&["bob"]));
}

/// Row 28: a registry while accounts and rooms are made.
#[test]
fn a_registry_stopped_under_load_keeps_what_it_has_acknowledged() {
    let mut registry = Registry::start();
    let peers: Vec<Peer> = (0..4).map(|n| Peer::online(&format!("user{n}"), &registry)).collect();
    let made: Vec<BTreeSet<String>> = std::thread::scope(|scope| {
        let threads: Vec<_> = peers
            .iter()
            .map(|peer| {
                scope.spawn(|| {
                    let mut made = BTreeSet::new();
                    for n in 0..200 {
                        let room = format!("{}-{n}", peer.name());
                        if peer.ctl(&["create-room", &room, "--timeout", "5s"]).code != Some(0) {
                            break;
                        }
                        made.insert(room);
                    }
                    made
                })
            })
            .collect();
        eventually("the load is on", 2 * DEADLINE, || {
            peers.iter().all(|peer| rooms(peer).len() > 2)
        });
        assert_stops(registry.daemon());
        threads.into_iter().map(|t| t.join().expect("a caller ends")).collect()
    });
    registry.restart();
    let late = Peer::online("late", &registry);
    for (peer, made) in peers.iter().zip(&made) {
        assert!(made.len() > 2 && made.len() < 200, "it was stopped in between: {}", made.len());
        peer.wait_online();
        for room in made {
            late.ctl(&["join-room", room]).ok();
        }
    }
}

fn rooms(peer: &Peer) -> Vec<String> {
    let answer = peer.ctl(&["rooms"]).ok();
    let rooms = answer["rooms"].as_array().expect("a list");
    rooms.iter().map(|r| r["room"].as_str().expect("a name").to_owned()).collect()
}

/// A slow machine has time for a login within three of these.
const SLOW_HELLO: Duration = Duration::from_secs(3);

/// Row 14: the registry's process stands still for more than three intervals.
#[test]
fn a_registry_that_slept_tells_nobody_offline_when_it_wakes() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let config = folder.path().join("registry.toml");
    let hello = format!("[hello]\ninterval_min_ms = {}\n", SLOW_HELLO.as_millis());
    std::fs::write(&config, hello).expect("written");
    let config = config.to_str().expect("a plain name");
    let mut registry = Registry::start_with(&["--config", config], "info");
    let [alice, mut bob] = ["alice", "bob"].map(|name| Peer::online(name, &registry));
    eventually("bob is online", DEADLINE, || alice.presence_of("bob") == "online");
    let (address, second) = (registry.address(), Peer::start("bob"));
    // No HELLO of his waits in the registry's socket for the moment in which it wakes.
    bob.daemon().freeze();
    registry.daemon().freeze();
    let search = ["search", "bob", "--timeout", "1s"];
    never("an answer", 3 * SLOW_HELLO + SLOW_HELLO / 2, || alice.ctl(&search).code == Some(0));
    registry.daemon().thaw();
    second.login(&["--registry", &address]).failed(Code::AlreadyOnline);
    bob.daemon().thaw();
    eventually("bob is heard again", DEADLINE, || bob.status()["session"] == "online");
    eventually("and alice sees him", DEADLINE, || {
        let found = alice.ctl(&["search", "bob"]);
        found.code == Some(0) && found.object()["presence"] == "online"
    });
}
