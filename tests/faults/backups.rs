//! Old backups put back: of a peer, who writes on in a new stream, and of the registry, which knows less.

use std::{fs, path::Path};

use harness::{DEADLINE, Peer, Registry, eventually};

use crate::people::{bodies, friends};

fn copy(from: &Path, to: &Path) {
    if to.exists() {
        fs::remove_dir_all(to).expect("our own folder");
    }
    fs::create_dir_all(to).expect("our own folder");
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    fs::set_permissions(to, private).expect("our own folder");
    for entry in fs::read_dir(from).expect("a data folder") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name");
        fs::copy(&path, to.join(name)).expect("a file that can be read");
    }
}

/// The history of `peer` becomes this, whatever the order across authors.
#[track_caller]
fn assert_becomes(peer: &Peer, target: &[&str], expected: &[&str]) {
    let mut expected = expected.to_vec();
    expected.sort_unstable();
    eventually(&format!("{} holds {expected:?}", peer.name()), 2 * DEADLINE, || {
        let history = peer.history(target);
        let mut held = bodies(&history);
        held.sort_unstable();
        held == expected
    });
}

/// Each message event once.
#[track_caller]
fn assert_shown_once(peer: &Peer, count: usize) {
    let shown = peer.listen(&["--after", "0", "--type", "message"]);
    eventually(&format!("{} was shown {count}", peer.name()), DEADLINE, || shown.count() >= count);
    let mut seen: Vec<String> =
        shown.events().iter().map(|e| e["body"].as_str().expect("a text").to_owned()).collect();
    seen.sort_unstable();
    let all = seen.len();
    seen.dedup();
    assert_eq!((all, seen.len()), (count, count), "{seen:?}");
}

/// Row 20: bob's folder is put back to an hour ago; what he wrote and read since comes back from the others.
#[test]
fn a_peer_restored_from_an_old_backup_catches_up_and_doubles_nothing() {
    let (_registry, [alice, mut bob, carol]) = friends(["alice", "bob", "carol"]);
    alice.ctl(&["create-room", "ops", "--access", "open"]).ok();
    for member in [&bob, &carol] {
        member.ctl(&["join-room", "ops"]).ok();
    }
    for member in ["bob", "carol"] {
        alice.ctl(&["wait", "member", "ops", member]).ok();
    }
    bob.ctl(&["wait", "member", "ops", "carol"]).ok();
    let say = |peer: &Peer, direct: Option<&str>, room: &str| {
        if let Some(direct) = direct {
            let to = if peer.name() == "bob" { "alice" } else { "bob" };
            peer.ctl(&["send", to, direct, "--timeout", "60s"]).ok();
        }
        peer.ctl(&["send", "--room", "ops", room, "--timeout", "60s"]).ok();
    };
    say(&bob, Some("direct 1"), "room 1");
    assert!(bob.stop().success());
    let backup = tempfile::tempdir().expect("a temporary folder");
    copy(&bob.data(), &backup.path().join("bob"));

    bob.restart();
    bob.wait_online();
    for member in ["alice", "carol"] {
        bob.ctl(&["wait", "member", "ops", member, "--timeout", "60s"]).ok();
    }
    say(&bob, Some("direct 2"), "room 2");
    say(&alice, Some("direct 3"), "room 3");
    bob.kill();
    copy(&backup.path().join("bob"), &bob.data());

    bob.restart();
    bob.wait_online();
    say(&bob, Some("direct 4"), "room 4");
    let direct = ["direct 1", "direct 2", "direct 3", "direct 4"];
    let room = ["room 1", "room 2", "room 3", "room 4"];
    for peer in [&alice, &bob] {
        let other = if peer.name() == "bob" { "alice" } else { "bob" };
        assert_becomes(peer, &[other], &direct);
    }
    for peer in [&alice, &bob, &carol] {
        assert_becomes(peer, &["--room", "ops"], &room);
        let forks = peer.listen(&["--after", "0"]);
        forks.wait_for_type("message");
        assert!(!forks.events().iter().any(|e| e["type"] == "fork_found"), "a new stream, no fork");
    }
    // Of the others each message is shown once: to alice bob's four, to carol the room's four.
    assert_shown_once(&alice, 3 + 3);
    assert_shown_once(&carol, 4);
}

/// Row 20: the registry forgets a join, a room and an account; members are told, and go on.
#[test]
fn a_registry_restored_from_an_old_backup_is_noticed_and_nothing_said_is_lost() {
    let (mut registry, [alice, bob, mut carol]) = friends(["alice", "bob", "carol"]);
    alice.ctl(&["create-room", "ops", "--access", "open"]).ok();
    bob.ctl(&["join-room", "ops"]).ok();
    alice.ctl(&["wait", "member", "ops", "bob"]).ok();
    alice.ctl(&["send", "--room", "ops", "before"]).ok();
    assert!(registry.daemon().stop().success());
    let backup = tempfile::tempdir().expect("a temporary folder");
    copy(&registry.data(), &backup.path().join("registry"));

    registry.restart();
    for peer in [&alice, &bob, &carol] {
        peer.wait_online();
    }
    carol.ctl(&["join-room", "ops"]).ok();
    for member in ["alice", "bob"] {
        carol.ctl(&["wait", "member", "ops", member]).ok();
    }
    bob.ctl(&["create-room", "late", "--access", "open"]).ok();
    let dave = Peer::online("dave", &registry);
    alice.ctl(&["send", "--room", "ops", "with carol"]).ok();
    registry.kill();
    copy(&backup.path().join("registry"), &registry.data());
    registry.restart();

    for peer in [&alice, &bob] {
        let told = peer.listen(&["--after", "0"]);
        eventually(&format!("{} is told", peer.name()), 4 * DEADLINE, || {
            told.events().iter().any(|e| e["type"] == "room_diverged" && e["room"] == "ops")
        });
        peer.ctl(&["wait", "online", "--timeout", "90s"]).ok();
        assert_eq!(bodies(&peer.history(&["--room", "ops"])), ["before", "with carol"]);
    }
    // A registry that went back may by chance count up to the version that she knows, before she hears of a
    // lower one: then a start is what makes her ask.
    carol.restart();
    carol.listen(&["--after", "0"]).wait_for_type("room_left");
    bob.ctl(&["create-room", "late", "--access", "open"]).ok();
    alice.ctl(&["send", "bob", "still here", "--timeout", "60s"]).ok();
    back_with_a_new_account(&dave, &registry, &alice);
}

/// The registry does not know dave any more: he is told to register, and can, with the same keys.
fn back_with_a_new_account(dave: &Peer, registry: &Registry, alice: &Peer) {
    eventually("dave's session ends", 4 * DEADLINE, || dave.status()["session"] == "logged_out");
    dave.create_account(&registry.address()).ok();
    dave.login(&[]).ok();
    dave.ctl(&["send", "alice", "hello again", "--timeout", "60s"]).ok();
    assert_eq!(bodies(&alice.history(&["dave"])), ["hello again"]);
}
