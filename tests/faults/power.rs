//! Power lost, and disks that fail or hang at a sync.
//!
//! One run is journaled: every write, sync and change of a name. Then the power fails at many moments of it,
//! each time with another choice of what was not yet on the disk, and the daemon starts on what is left.
//! `P2P_FAULT_SEED=N` repeats a run's choices, `P2P_FAULT_LOSSES=N` says how many there are.

use harness::{
    Chance, DEADLINE, Peer, Registry, eventually,
    preload::{Faults, power::Disk},
};
use rusqlite::Connection;
use tempfile::TempDir;

use crate::{
    people::friends,
    sweep::{number, seed},
};

/// How many power losses a test plays unless told otherwise.
const LOSSES: u64 = 30;

/// Something that was acknowledged when the journal had so many bytes.
struct Fact<T>(u64, T);

/// Moments and seeds of the losses to play.
#[expect(clippy::print_stderr, reason = "a failed test tells how it is repeated")]
fn losses(disk: &Disk) -> impl Iterator<Item = (usize, u64)> {
    let first = seed();
    eprintln!("{} moments; P2P_FAULT_SEED={first}", disk.moments());
    let moments = disk.moments();
    let losses = number("P2P_FAULT_LOSSES").unwrap_or(LOSSES);
    (first..first + losses).map(move |seed| (Chance::of(seed).index(moments), seed))
}

/// A home for a peer, with an empty data folder; and where that is.
fn home_for(name: &str) -> (TempDir, std::path::PathBuf) {
    let home = tempfile::tempdir().expect("a temporary folder");
    let data = home.path().join("data/p2pchat").join(name);
    std::fs::create_dir_all(&data).expect("our own folder");
    for folder in [data.as_path(), data.parent().expect("a parent")] {
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        std::fs::set_permissions(folder, private).expect("our own folder");
    }
    (home, data)
}

/// Row 5: the power fails at a peer; what it had acknowledged is there, once and in order.
#[test]
fn a_peer_that_loses_power_keeps_all_that_it_acknowledged() {
    let Some(faults) = Faults::new() else { return };
    let (mut registry, [mut alice, mut bob]) = friends(["alice", "bob"]);
    bob.stop();
    let mut disk = Disk::before(&bob.data());
    let faults = faults.journal(&bob.data());
    assert!(bob.restart_in(&faults.environment()));
    let (mut got, mut sent) = (Vec::new(), Vec::new());
    for n in 0..10 {
        let body = format!("to bob {n}");
        alice.ctl(&["send", "bob", &body]).ok();
        got.push(Fact(faults.journal_bytes(), body));
        let body = format!("of bob {n}");
        bob.ctl(&["send", "alice", &body, "--wait", "queued"]).ok();
        sent.push(Fact(faults.journal_bytes(), body));
    }
    // Nobody may bring back what bob lost.
    bob.kill();
    alice.kill();
    registry.kill();
    disk.read_journal(&faults.journal_file());
    for (moment, seed) in losses(&disk) {
        let (home, data) = home_for("bob");
        disk.lose_power(moment, seed, &data);
        let mut after = Peer::launch("bob", home, &[]);
        let when = format!("at moment {moment}, seed {seed}");
        assert!(!after.daemon().ready().is_null(), "no start {when}");
        // Nothing with alice yet is an error of `history`, and no messages.
        let none = after.ctl(&["history", "alice"]).code == Some(6);
        let history = if none { Vec::new() } else { after.history(&["alice"]) };
        for (author, facts) in [("alice", &got), ("bob", &sent)] {
            let held: Vec<&String> =
                history.iter().filter(|(from, _)| from == author).map(|(_, body)| body).collect();
            let all: Vec<&String> = facts.iter().map(|Fact(_, body)| body).collect();
            assert_eq!(held, all[..held.len()], "each once and in order, {when}");
            let told = facts.iter().filter(|f| f.0 <= disk.journal_bytes(moment)).count();
            assert!(held.len() >= told, "{} of {told} of {author}'s {when}", held.len());
        }
    }
}

/// Row 5: the power fails in the first start of a peer; the next one works.
#[test]
fn a_peer_that_loses_power_in_its_first_start_starts() {
    let Some(faults) = Faults::new() else { return };
    let (home, data) = home_for("alice");
    let mut disk = Disk::before(&data);
    let faults = faults.journal(&data);
    Peer::launch("alice", home, &faults.environment()).kill();
    disk.read_journal(&faults.journal_file());
    for (moment, seed) in losses(&disk) {
        let (home, data) = home_for("alice");
        disk.lose_power(moment, seed, &data);
        let mut after = Peer::launch("alice", home, &[]);
        let ready = !after.daemon().ready().is_null();
        assert!(ready, "no start, power lost at moment {moment}, seed {seed}");
    }
}

/// Row 5: the power fails at the registry, from its first start on; what it answered is there.
#[test]
fn a_registry_that_loses_power_keeps_all_that_it_acknowledged() {
    let Some(faults) = Faults::new() else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let data = folder.path().join("data");
    std::fs::create_dir(&data).expect("our own folder");
    let mut disk = Disk::before(&data);
    let faults = faults.journal(&data);
    let mut registry = Registry::launch(folder, &faults.environment());
    let address = registry.address();
    let mut facts = vec![Fact(faults.journal_bytes(), "SELECT 1".to_owned())];
    let mut peers = Vec::new();
    let mut told = |query: String| facts.push(Fact(faults.journal_bytes(), query));
    for name in ["alice", "bob", "carol"] {
        let peer = Peer::start(name);
        peer.create_account(&address).ok();
        told(format!("SELECT 1 FROM account WHERE username = '{name}'"));
        peer.login(&[]).ok();
        told(format!(
            "SELECT 1 FROM session JOIN account ON id = account WHERE username = '{name}'"
        ));
        let room = format!("of-{name}");
        peer.ctl(&["create-room", &room, "--access", "open"]).ok();
        told(format!("SELECT 1 FROM room WHERE name = '{room}'"));
        if !peers.is_empty() {
            peer.ctl(&["join-room", "of-alice"]).ok();
            told(format!(
                "SELECT 1 FROM member JOIN room ON room.id = room JOIN account ON account.id = account \
                 WHERE room.name = 'of-alice' AND username = '{name}'"
            ));
        }
        peers.push(peer);
    }
    registry.kill();
    disk.read_journal(&faults.journal_file());
    for (moment, seed) in losses(&disk) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let data = folder.path().join("data");
        std::fs::create_dir(&data).expect("our own folder");
        disk.lose_power(moment, seed, &data);
        let mut after = Registry::launch(folder, &[]);
        let when = format!("at moment {moment}, seed {seed}");
        let known = facts.iter().filter(|f| f.0 <= disk.journal_bytes(moment));
        let known: Vec<&str> = known.map(|f| f.1.as_str()).collect();
        if !known.is_empty() {
            assert_eq!(after.key(), registry.key(), "the key that was told {when}");
        }
        after.kill();
        let database = Connection::open(after.data().join("registry.db")).expect("a database");
        for query in known {
            let found = database.query_row(query, [], |row| row.get::<_, i64>(0));
            assert_eq!(found.ok(), Some(1), "{query} {when}");
        }
    }
}

/// Row 7: one sync fails at a peer. It stops at once, for the next sync could claim that all is well.
#[test]
fn a_peer_whose_disk_fails_stops_and_has_lost_nothing_after_a_restart() {
    let Some(faults) = Faults::new() else { return };
    let (_registry, [alice, mut bob]) = friends(["alice", "bob"]);
    assert!(bob.restart_in(&faults.environment()));
    alice.ctl(&["send", "bob", "before"]).ok();
    bob.ctl(&["send", "alice", "before too"]).ok();
    faults.fail_syncs(1);
    let call = ["send", "alice", "in the fault", "--id", "one"];
    assert_ne!(bob.ctl(&call).code, Some(0), "nothing is acknowledged that is not on the disk");
    let status = bob.daemon().wait_for_end(DEADLINE);
    assert!(status.code().is_some_and(|code| code != 0), "{status}");
    let log = bob.daemon().log();
    assert!(log.contains("ERROR") && log.contains("commit failed"), "the log says why");

    alice.ctl(&["send", "bob", "while away", "--wait", "queued"]).ok();
    assert!(bob.restart_in(&[]));
    bob.ctl(&call).ok();
    eventually("nothing waits", DEADLINE, || alice.outbox().is_empty());
    let history = bob.history(&["alice"]);
    assert_eq!(history, alice.history(&["bob"]));
    let mut bodies: Vec<&str> = history.iter().map(|(_, body)| body.as_str()).collect();
    bodies.sort_unstable();
    assert_eq!(bodies, ["before", "before too", "in the fault", "while away"]);
}

/// Row 7: one sync fails at the registry.
#[test]
fn a_registry_whose_disk_fails_stops_and_has_lost_nothing_after_a_restart() {
    let Some(faults) = Faults::new() else { return };
    let (mut registry, [alice, bob]) = friends(["alice", "bob"]);
    assert!(registry.restart_in(&faults.environment()));
    alice.ctl(&["create-room", "before", "--access", "open"]).ok();
    alice.ctl(&["send", "bob", "first contact"]).ok();
    faults.fail_syncs(1);
    let create = ["create-room", "in-the-fault", "--access", "open"];
    assert_ne!(alice.ctl(&create).code, Some(0), "nothing is acknowledged that is not on the disk");
    let status = registry.daemon().wait_for_end(DEADLINE);
    assert!(status.code().is_some_and(|code| code != 0), "{status}");
    assert!(registry.daemon().log().contains("the disk failed"), "the log says why");
    alice.chat_with(&bob);

    registry.restart();
    alice.wait_online();
    bob.ctl(&["join-room", "before"]).ok();
    // The failed commit may be on the disk after all: the caller was told of no success, and asks again.
    let again = alice.ctl(&create);
    assert!(matches!(again.code, Some(0 | 13)), "{again:?}");
    bob.ctl(&["join-room", "in-the-fault"]).ok();
}
