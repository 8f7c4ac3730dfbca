//! `registryd check`: silent of a sound folder, and each kind of damage is told.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
};

use rusqlite::Connection;
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    client::{Registry, at_rest_in},
    tool::{arg, plain, registryd},
};

/// The folder of a registry at rest, with two users in a room.
async fn at_rest() -> TempDir {
    let registry = Registry::start().await;
    let mut ann = registry.member("ann", 1).await;
    registry.member("bob", 2).await;
    ann.link.open_room("ops").await;
    let sound = registryd(registry.folder.path(), &["check", "--full"]).ok("registryd.check/1");
    assert_eq!(sound["counts"]["accounts"], 2, "while it runs as well: {sound}");
    let Registry { folder, server } = registry;
    server.stop().await;
    at_rest_in(folder.path()).await;
    registryd(folder.path(), &["check", "--full"]).ok("registryd.check/1");
    folder
}

/// What is found, as `(check, what)`.
fn found(folder: &TempDir, args: &[&str]) -> Vec<(String, String)> {
    let told = registryd(folder.path(), &[&["check"], args].concat());
    assert_eq!((told.code, &told.object["sound"]), (1, &Value::from(false)), "{}", told.object);
    let text = |finding: &Value, key: &str| finding[key].as_str().expect("a text").to_owned();
    let findings = told.object["findings"].as_array().expect("a list").iter();
    findings.map(|finding| (text(finding, "check"), text(finding, "what"))).collect()
}

#[track_caller]
fn assert_one(findings: &[(String, String)], check: &str, words: &str) {
    let [(found, what)] = findings else { panic!("one finding: {findings:?}") };
    assert_eq!(found, check, "{what}");
    assert!(what.contains(words), "{what}");
}

fn change(folder: &TempDir, sql: &str) {
    let db = Connection::open(folder.path().join("registry.db")).expect("a database");
    db.execute_batch(sql).expect("our own tables");
}

#[tokio::test]
async fn files_that_others_can_read_are_told() {
    let folder = at_rest().await;
    let database = folder.path().join("registry.db");
    fs::set_permissions(&database, Permissions::from_mode(0o640)).expect("chmod");
    let findings = found(&folder, &[]);
    // SQLite gives the files beside it the same mode.
    assert!(findings.iter().all(|(check, _)| check == "permissions"), "{findings:?}");
    assert!(findings.iter().any(|(_, what)| what.contains("registry.db has mode 0640")));
    let text = plain(folder.path(), &["check"]);
    assert!(String::from_utf8_lossy(&text.stdout).contains("NOT SOUND"), "{text:?}");
    let folder = at_rest().await;
    fs::set_permissions(folder.path(), Permissions::from_mode(0o770)).expect("chmod");
    assert_one(&found(&folder, &[]), "permissions", "has mode 0770");
}

#[tokio::test]
async fn a_doctored_account_is_told_by_a_full_check() {
    let folder = at_rest().await;
    change(
        &folder,
        "UPDATE account SET binding = (SELECT binding FROM account WHERE username = 'bob')
                     WHERE username = 'ann'",
    );
    registryd(folder.path(), &["check"]).ok("registryd.check/1");
    assert_one(&found(&folder, &["--full"]), "accounts", "\"ann\": its keys did not sign");

    let folder = at_rest().await;
    change(&folder, "UPDATE peer_key SET current = 0");
    let findings = found(&folder, &["--full"]);
    assert_eq!(findings.len(), 2, "{findings:?}");
    assert!(findings.iter().all(|(_, what)| what.contains("current key")), "{findings:?}");
}

#[tokio::test]
async fn a_doctored_room_is_told_by_a_full_check() {
    for (sql, words) in [
        ("UPDATE member SET role = 'member'", "its members are not those of its log"),
        ("UPDATE room SET head = zeroblob(32)", "its head is not the one of its log"),
        ("UPDATE room SET epoch = 7", "its epoch is not the one of its log"),
        ("UPDATE room SET name = 'spo'", "its name is not the one of its log"),
        ("UPDATE record SET signed = replace(signed, 'ops', 'spo')", "its log does not hold"),
        ("UPDATE record SET signed = '{}'", "cannot be read"),
    ] {
        let folder = at_rest().await;
        change(&folder, sql);
        registryd(folder.path(), &["check"]).ok("registryd.check/1");
        assert_one(&found(&folder, &["--full"]), "rooms", words);
    }
}

#[tokio::test]
async fn damage_of_the_file_is_told() {
    let folder = at_rest().await;
    change(&folder, "PRAGMA foreign_keys = OFF; DELETE FROM account WHERE username = 'bob'");
    let findings = found(&folder, &[]);
    assert!(findings.iter().all(|(check, _)| check == "references"), "{findings:?}");
    assert!(!findings.is_empty());

    let folder = at_rest().await;
    let path = folder.path().join("registry.db");
    let mut bytes = fs::read(&path).expect("a database");
    bytes[4096..8192].fill(0x5a);
    fs::write(&path, &bytes).expect("written");
    let findings = found(&folder, &[]);
    assert!(findings.iter().any(|(check, _)| check == "structure"), "{findings:?}");
    fs::write(&path, [b'x'; 8192]).expect("written");
    assert_one(&found(&folder, &[]), "structure", "it is no database");
}

#[tokio::test]
async fn a_lost_or_foreign_key_and_another_version_are_told() {
    let folder = at_rest().await;
    let key = folder.path().join("registry.key");
    let other = at_rest().await;
    fs::copy(other.path().join("registry.key"), &key).expect("copied");
    assert_one(&found(&folder, &[]), "key", "another key");
    fs::write(&key, "garbage").expect("written");
    assert_one(&found(&folder, &[]), "key", "holds no key");
    fs::remove_file(&key).expect("removed");
    assert_one(&found(&folder, &[]), "key", "there is no key");
    fs::remove_file(folder.path().join("registry.db")).expect("removed");
    registryd(folder.path(), &["check"]).failed(6, "not_found");
    change(&other, "PRAGMA user_version = 99");
    assert_one(&found(&other, &[]), "schema", "schema 99");
}

#[tokio::test]
async fn a_backup_can_be_checked_too() {
    let folder = at_rest().await;
    let place = tempfile::tempdir().expect("temporary folder");
    let file = place.path().join("b");
    registryd(folder.path(), &["backup", arg(&file)]).ok("registryd.backup/1");
    registryd(folder.path(), &["check", "--full", arg(&file)]).ok("registryd.check/1");
    let mut bytes = fs::read(&file).expect("a backup");
    bytes[4096 * 3..4096 * 4].fill(0x5a);
    fs::write(&file, &bytes).expect("written");
    let findings = found(&folder, &[arg(&file)]);
    assert!(findings.iter().any(|(check, _)| check == "structure"), "{findings:?}");
    fs::write(&file, "something else").expect("written");
    registryd(folder.path(), &["check", arg(&file)]).failed(2, "usage");
}
