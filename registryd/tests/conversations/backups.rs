//! Backup and restore, with a registry that serves meanwhile.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use registryd::{Config, Server};
use registryd_proto::{Access, Code, HistoryAccess, PresenceState, Request};
use rusqlite::Connection;
use tempfile::TempDir;

use crate::{
    client::{Hello, Registry, at_rest_in, resume, resume_at},
    tool::{arg, registryd},
};

/// A registry with two users that have a room, and where its backup goes.
async fn begun() -> (Registry, TempDir, PathBuf) {
    let registry = Registry::start().await;
    let mut ann = registry.member("ann", 1).await;
    let mut bob = registry.member("bob", 2).await;
    ann.link.open_room("ops").await;
    let join = Request::JoinRoom { room: "ops".parse().expect("name"), password: None };
    bob.link.room(&join).await;
    let place = tempfile::tempdir().expect("temporary folder");
    let file = place.path().join("registry.backup");
    (registry, place, file)
}

/// Every file below a folder but the lock, with what is in it.
fn contents(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files.extend(contents(&path));
        } else if path.is_file() && !path.ends_with("registryd.lock") {
            files.push((path.clone(), fs::read(&path).expect("readable")));
        }
    }
    files.sort();
    files
}

async fn serve(folder: &TempDir) -> Registry {
    let config = Config {
        data_dir: folder.path().to_owned(),
        listen: "127.0.0.1:0".to_owned(),
        ..Config::default()
    };
    let server = Server::start(config).await.expect("started");
    Registry { folder: tempfile::tempdir().expect("temporary folder"), server }
}

#[tokio::test]
async fn a_backup_of_a_running_registry_begins_it_anew_elsewhere() {
    let (registry, place, file) = begun().await;
    let told = registryd(registry.folder.path(), &["backup", arg(&file)]).ok("registryd.backup/1");
    assert_eq!((&told["accounts"], &told["rooms"]), (&2.into(), &1.into()), "{told}");
    assert_eq!(told["key"], registry.server.key().to_string());
    let found = fs::metadata(&file).expect("a file");
    assert_eq!(
        (found.permissions().mode() & 0o777, told["bytes"].as_u64()),
        (0o600, Some(found.len()))
    );
    assert_eq!(contents(place.path()).len(), 1, "nothing is left beside it");
    let sound = registryd(place.path(), &["check", "--full", arg(&file)]).ok("registryd.check/1");
    assert_eq!((&sound["sound"], &sound["counts"]["accounts"]), (&true.into(), &2.into()));

    // What comes after the backup is forgotten; who is not, comes back with what he holds.
    let late = registry.member("late", 3).await;
    let mut bob = registry.peer("bob", 2).connect().await;
    let grant = bob.session(&resume(9)).await;
    registry.server.stop().await;
    let new = tempfile::tempdir().expect("temporary folder");
    let told = registryd(new.path(), &["restore", arg(&file)]).ok("registryd.restore/1");
    assert_eq!(told["kept"], serde_json::Value::Null);
    let restored = serve(&new).await;
    assert_eq!(restored.server.key(), late.peer.registry, "pins hold");
    let mut bob = restored.peer("bob", 2).connect().await;
    let again = bob.session(&resume_at(10, 1, grant.epoch)).await;
    assert!(again.epoch > grant.epoch, "no epoch comes twice: {} {}", again.epoch, grant.epoch);
    Hello::new(&again).await.say().await;
    let mut ann = restored.peer("ann", 1).connect().await;
    ann.session(&resume(11)).await;
    assert_eq!(ann.user("bob").await.presence, PresenceState::Online);
    let room = Request::RoomMembers { room: "ops".parse().expect("name"), after_epoch: 0 };
    assert_eq!(ann.room(&room).await.log.len(), 2);
    let nobody = Request::Search { username: late.peer.name.clone() };
    assert_eq!(ann.code(&nobody).await, Code::NotFound);
}

#[tokio::test]
async fn a_backup_is_one_moment_though_much_is_written() {
    let (registry, _place, file) = begun().await;
    let mut ann = registry.peer("ann", 1).connect().await;
    let folder = registry.folder.path().to_owned();
    let (target, written) = (file.clone(), Arc::new(AtomicBool::new(false)));
    let over = written.clone();
    // Again and again, for as long as something is written.
    let backup = tokio::task::spawn_blocking(move || {
        let mut backups = 0;
        while backups < 2 || !over.load(Ordering::Relaxed) {
            registryd(&folder, &["backup", "--force", arg(&target)]).ok("registryd.backup/1");
            backups += 1;
        }
    });
    for rooms in 0..20 {
        let room = Request::CreateRoom {
            room: format!("room{rooms}").parse().expect("name"),
            access: Access::Open,
            password: None,
            history: HistoryAccess::All,
        };
        ann.ask(&room).await.expect("made");
    }
    written.store(true, Ordering::Relaxed);
    backup.await.expect("backups");
    registryd(registry.folder.path(), &["check", "--full", arg(&file)]).ok("registryd.check/1");
    registryd(registry.folder.path(), &["check", "--full"]).ok("registryd.check/1");
}

#[tokio::test]
async fn a_backup_writes_over_nothing_unless_told() {
    let (registry, place, file) = begun().await;
    fs::write(&file, "somebody's").expect("written");
    let folder = registry.folder.path();
    let why = registryd(folder, &["backup", arg(&file)]).failed(13, "conflict");
    assert!(why.contains("--force"), "{why}");
    assert_eq!(fs::read(&file).expect("kept"), b"somebody's");
    registryd(folder, &["backup", "--force", arg(&file)]).ok("registryd.backup/1");
    assert!(fs::read(&file).expect("a file").starts_with(b"SQLite format 3"));
    // Neither a folder that is none, nor one that holds no registry.
    registryd(place.path(), &["backup", "x"]).failed(6, "not_found");
    registryd(&place.path().join("none"), &["backup", "x"]).failed(6, "not_found");
    let nowhere = place.path().join("none/file");
    registryd(folder, &["backup", arg(&nowhere)]).failed(6, "not_found");
    // A registry that is at rest is as good, and a backup leaves it as it is.
    let address = registry.server.local_address();
    registry.server.stop().await;
    registryd(folder, &["backup", "--force", arg(&file)]).ok("registryd.backup/1");
    assert!(std::net::TcpStream::connect(address).is_err(), "nothing runs");
}

#[tokio::test]
async fn a_restore_keeps_what_was_there_and_refuses_a_folder_in_use() {
    let (registry, _place, file) = begun().await;
    let folder = registry.folder.path();
    registryd(folder, &["backup", arg(&file)]).ok("registryd.backup/1");
    registry.member("late", 3).await;
    registryd(folder, &["restore", arg(&file)]).failed(18, "state_in_use");

    let Registry { folder, server } = registry;
    server.stop().await;
    let told = registryd(folder.path(), &["restore", arg(&file)]).ok("registryd.restore/1");
    assert_eq!(told["exposed"], false);
    let kept = Path::new(told["kept"].as_str().expect("a folder"));
    let former = Connection::open(kept.join("registry.db")).expect("a database");
    let accounts = former.query_row("SELECT count(*) FROM account", [], |row| row.get(0));
    assert_eq!(accounts, Ok(3), "with what came after the backup");
    assert!(kept.join("registry.key").is_file());
    let restored = serve(&folder).await;
    let mut ann = restored.peer("ann", 1).connect().await;
    ann.session(&resume(7)).await;
    let late = Request::Search { username: "late".parse().expect("name") };
    assert_eq!(ann.code(&late).await, Code::NotFound);
    registryd(folder.path(), &["check", "--full"]).ok("registryd.check/1");
}

#[tokio::test]
async fn what_is_no_whole_backup_is_refused_and_changes_nothing() {
    let (registry, place, file) = begun().await;
    let folder = registry.folder.path().to_owned();
    registryd(&folder, &["backup", arg(&file)]).ok("registryd.backup/1");
    let whole = fs::read(&file).expect("a backup");
    let Registry { folder: _kept, server } = registry;
    server.stop().await;
    at_rest_in(&folder).await;
    let before = contents(&folder);
    let bad = place.path().join("bad");
    let refused = |bytes: &[u8], exit_code, code| {
        fs::write(&bad, bytes).expect("written");
        let why = registryd(&folder, &["restore", arg(&bad)]).failed(exit_code, code);
        assert!(contents(&folder) == before, "{why}");
        why
    };
    refused(b"", 2, "usage");
    refused(b"no database at all, but long enough to be looked at as one", 2, "usage");
    refused(&whole[..whole.len() - 4096], 1, "internal");
    let mut hole = whole.clone();
    hole[4096 * 5..4096 * 6].fill(0x5a);
    assert!(refused(&hole, 1, "internal").contains("damaged"));
    let database = fs::read(folder.join("registry.db")).expect("a database");
    assert!(refused(&database, 2, "usage").contains("no backup"));
    // `user_version` is at byte 60 of the file.
    let mut newer = whole.clone();
    newer[60..64].copy_from_slice(&99_u32.to_be_bytes());
    assert!(refused(&newer, 19, "version_mismatch").contains("newer"));
    registryd(&folder, &["restore", arg(&place.path().join("none"))]).failed(6, "not_found");
    assert!(contents(&folder) == before);
}

#[tokio::test]
async fn a_folder_of_another_registry_is_not_taken_by_mistake() {
    let (registry, _place, file) = begun().await;
    registryd(registry.folder.path(), &["backup", arg(&file)]).ok("registryd.backup/1");
    let Registry { folder: other, server } = Registry::start().await;
    let other_key = server.key();
    server.stop().await;
    let why = registryd(other.path(), &["restore", arg(&file)]).failed(13, "conflict");
    let keys = [other_key, registry.server.key()].map(|key| key.to_string());
    assert!(keys.iter().all(|key| why.contains(key)), "{why}");
    registryd(other.path(), &["restore", "--force", arg(&file)]).ok("registryd.restore/1");
    assert_eq!(serve(&other).await.server.key(), registry.server.key());
}
