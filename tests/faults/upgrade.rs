//! Databases of every released schema, and migrations cut short.
//!
//! `fixtures/VERSION` holds what the programs of that version left behind when they were stopped. A release
//! that changes a schema adds its own by
//! `UPDATE=1 cargo test -p p2pchat-tests --test faults databases_of_every_release`, which never touches one
//! that exists.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use harness::{
    Ctl, CtlOutput, DEADLINE, Peer, Registry, binaries, eventually,
    preload::{ALL, Faults},
};
use registryd_proto::Code;
use rusqlite::Connection;
use tempfile::TempDir;

use crate::{
    people::{bodies, friends},
    sweep::sweep,
};

/// What each of alice and bob has heard in the fixtures, in the talk of the two and in the room `den`.
const TALK: [&str; 4] = ["one", "two", "zwei \u{2192} \u{1f600}", "back"];
const DEN: [&str; 3] = ["den one", "den two", "den back"];
/// What waits at alice for bob.
const WAITING: &str = "waits for bob";

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("faults/fixtures")
}

/// Copies the files of a folder, private as the daemons want them.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("our own folder");
    fs::set_permissions(to, fs::Permissions::from_mode(0o700)).expect("our own folder");
    for entry in fs::read_dir(from).expect("a fixture") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a file");
        // Locks, sockets and logs are no content.
        if path.is_file() && name != "lock" && name != "registryd.lock" {
            fs::copy(&path, to.join(name)).expect("our own folder");
            let private = fs::Permissions::from_mode(0o600);
            fs::set_permissions(to.join(name), private).expect("our own file");
        }
    }
}

/// Makes the fixture of these programs.
fn make(fixture: &Path) {
    let (mut registry, [mut alice, mut bob]) = friends(["alice", "bob"]);
    for (n, text) in TALK[..3].iter().enumerate() {
        alice.ctl(&["send", "bob", text, "--id", &format!("talk-{n}")]).ok();
    }
    bob.ctl(&["send", "alice", TALK[3]]).ok();
    alice.ctl(&["create-room", "den", "--access", "open"]).ok();
    bob.ctl(&["join-room", "den"]).ok();
    alice.ctl(&["wait", "member", "den", "bob"]).ok();
    alice.ctl(&["send", "--room", "den", DEN[0]]).ok();
    alice.ctl(&["send", "--room", "den", DEN[1]]).ok();
    bob.ctl(&["send", "--room", "den", DEN[2]]).ok();
    alice.ctl(&["policy", "bob", "allow"]).ok();
    bob.ctl(&["policy", "alice", "allow"]).ok();
    bob.stop();
    alice.ctl(&["send", "bob", WAITING, "--wait", "queued", "--id", "waiting"]).ok();
    alice.stop();
    registry.daemon().stop();
    // What is in its log goes into the database itself.
    let database = Connection::open(registry.data().join("registry.db")).expect("a database");
    let settle = "PRAGMA wal_checkpoint(TRUNCATE)";
    database.query_row(settle, [], |_| Ok(())).expect("nobody else has it open");
    drop(database);
    copy(&registry.data(), &fixture.join("registry"));
    copy(&alice.data(), &fixture.join("alice"));
    copy(&bob.data(), &fixture.join("bob"));
}

/// A home with the data of `user` in it; its registry is at `host_port`, its listeners where there is room.
fn home(fixture: &Path, user: &str, host_port: &str) -> TempDir {
    let home = tempfile::tempdir().expect("a temporary folder");
    let data = home.path().join("data/p2pchat").join(user);
    copy(&fixture.join(user), &data);
    let database = Connection::open(data.join("peerd.db")).expect("a database");
    let address = "SELECT json ->> '$.registry' FROM profile";
    let address: String = database.query_row(address, [], |row| row.get(0)).expect("a profile");
    let (key, _) = address.split_once('@').expect("an address with its key");
    let moved = "UPDATE profile SET json = json_set(json, '$.registry', ?1, '$.peer_port', 0, \
                 '$.room_port', 0)";
    assert_eq!(database.execute(moved, [format!("{key}@{host_port}")]).expect("moved"), 1);
    home
}

fn registry(fixture: &Path) -> Registry {
    let folder = tempfile::tempdir().expect("a temporary folder");
    copy(&fixture.join("registry"), &folder.path().join("data"));
    Registry::launch(folder, &[])
}

#[track_caller]
fn has_its_content(peer: &Peer, other: &str) {
    assert_eq!(bodies(&peer.history(&[other])).get(..4), Some(&TALK[..]), "{}", peer.name());
    assert_eq!(bodies(&peer.history(&["--room", "den"])), DEN, "{}", peer.name());
    let contacts = peer.ctl(&["contacts"]).ok();
    let contact = &contacts["contacts"][0];
    assert_eq!((&contact["username"], &contact["policy"]), (&other.into(), &"allow".into()));
}

/// Row 21: the databases of every release open, nobody proves a password again, and all goes on.
#[test]
fn databases_of_every_release_open_and_their_users_go_on_where_they_were() {
    let current = fixtures().join(env!("CARGO_PKG_VERSION"));
    if std::env::var_os("UPDATE").is_some() && !current.exists() {
        make(&current);
    }
    let releases = fs::read_dir(fixtures()).expect("fixtures");
    let releases: Vec<PathBuf> = releases.map(|entry| entry.expect("an entry").path()).collect();
    assert!(!releases.is_empty());
    for fixture in releases {
        let registry = registry(&fixture);
        let host_port = registry.socket_address().to_string();
        let [alice, bob] =
            ["alice", "bob"].map(|user| Peer::launch(user, home(&fixture, user, &host_port), &[]));
        // By key: nothing has asked for a password.
        alice.wait_online();
        bob.wait_online();
        has_its_content(&alice, "bob");
        has_its_content(&bob, "alice");
        eventually("what waited is delivered", DEADLINE, || alice.outbox().is_empty());
        assert_eq!(bodies(&bob.history(&["alice"])).last(), Some(&WAITING));
        let again = alice.ctl(&["send", "bob", TALK[0], "--id", "talk-0"]).ok();
        assert_eq!(again["state"], "delivered", "the ids that callers gave are known");
        alice.ctl(&["send", "--room", "den", "on it goes"]).ok();
        assert_eq!(bob.history(&["alice"]).len(), 5, "each once");
        for peer in [&alice, &bob] {
            let (copy, is_new) =
                (peer.data().join("peerd.db.v1.backup"), fixture.ends_with("0.1.0"));
            assert_eq!(copy.exists(), is_new, "a copy of what was migrated");
        }
    }
}

/// Row 21: kill -9 of peerd at any call of an upgrade.
#[test]
fn an_upgrade_killed_at_any_system_call_leaves_the_old_database_or_the_new_one() {
    let Some(counting) = Faults::new() else { return };
    let counting = counting.count(ALL);
    let fixture = fixtures().join("0.1.0");
    // Nobody listens there: this is about the database.
    let start = |faults: &Faults| {
        Peer::launch("alice", home(&fixture, "alice", "127.0.0.1:9"), &faults.environment())
    };
    start(&counting).stop();
    let all: Vec<&str> = [&TALK[..], &[WAITING]].concat();
    for (at, how) in sweep(counting.calls(), 40) {
        let faults = Faults::new().expect("built before").kill_at(at, ALL, how);
        let mut peer = start(&faults);
        assert!(peer.restart_in(&[]), "no start after a kill at call {at}, {how:?}");
        assert_eq!(bodies(&peer.history(&["bob"])), all, "after a kill at call {at}, {how:?}");
        assert_eq!(peer.outbox(), ["waiting"]);
    }
}

/// A start of both daemons on data that `spoil` was let at, and what each told.
fn starts_on(spoil: impl Fn(&Path)) -> [CtlOutput; 2] {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let fixture = fixtures().join("0.1.0");
    let programs = [(&binaries().peerd, "alice"), (&binaries().registryd, "registry")];
    programs.map(|(program, name)| {
        let data = folder.path().join(name);
        copy(&fixture.join(name), &data);
        let database = data.join(if name == "registry" { "registry.db" } else { "peerd.db" });
        spoil(&database);
        let before = fs::read(&database).ok();
        let mut command = Command::new(program);
        command.env("XDG_RUNTIME_DIR", folder.path()).arg("--data-dir").arg(&data);
        if name == "alice" {
            command.arg("--socket").arg(folder.path().join("socket/peerd.sock"));
        } else {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        let output = Ctl::of(command).run();
        assert_eq!(fs::read(&database).ok(), before, "it is left as it is: {output:?}");
        output
    })
}

/// Row 21: a downgrade.
#[test]
fn a_database_of_a_newer_version_is_refused_with_a_hint() {
    for output in starts_on(|database| {
        let database = Connection::open(database).expect("a database");
        database.pragma_update(None, "user_version", 99).expect("a version");
    }) {
        assert_eq!(output.code, Some(i32::from(Code::VersionMismatch.exit_code())), "{output:?}");
        assert!(output.stderr.contains("newer"), "{output:?}");
        assert!(output.stderr.contains("backup"), "{output:?}");
    }
}

/// Row 25: no database at all, an empty one, and damaged ones, at the head and in the middle.
#[test]
fn a_damaged_or_lost_database_is_refused_with_what_to_do_and_never_replaced() {
    let spoils: [fn(&Path); 4] = [
        |database| fs::remove_file(database).expect("it is there"),
        |database| fs::write(database, "").expect("our own file"),
        |database| {
            let mut bytes = fs::read(database).expect("it is there");
            bytes[..100].fill(0x5a);
            fs::write(database, bytes).expect("our own file");
        },
        |database| {
            let mut bytes = fs::read(database).expect("it is there");
            let middle = bytes.len() / 2;
            bytes[middle..middle + 8192].fill(0x5a);
            fs::write(database, bytes).expect("our own file");
        },
    ];
    for spoil in spoils {
        for output in starts_on(spoil) {
            assert_eq!(output.code, Some(1), "{output:?}");
            assert!(output.stderr.contains("restore it from a backup"), "{output:?}");
        }
    }
}
