//! Old backups put back: of the registry, which knows less than its users then.

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

/// Row 20: the registry forgets a join, a room and an account; members are told, and go on.
#[test]
fn a_registry_restored_from_an_old_backup_is_noticed_and_nothing_said_is_lost() {
    let (mut registry, [alice, bob, carol]) = friends(["alice", "bob", "carol"]);
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
