//! The store without a network: batches, and rooms under random changes.

use std::{sync::Arc, time::Duration};

use proptest::prelude::*;
use registryd_proto::{
    Access, Digest, Endpoints, HistoryAccess, KeyBinding, Keypair, Role, Room, RoomName, Username,
};
use tempfile::TempDir;
use tokio::sync::oneshot;

use super::{
    AccountId, Change, Entry, LoginRequest, NewAccount, NewRoom, ResumeRequest, Rule, Store,
    StoreError, membership::member,
};
use crate::instance::Begun;

const NAMES: [&str; 4] = ["ann", "bob", "cat", "dan"];

fn registry() -> Keypair {
    Keypair::from_secret(&[1; 32])
}

fn store(folder: &TempDir) -> Store {
    let path = folder.path().join("registry.db");
    Store::open(&path, Arc::new(registry()), Begun::Anew).expect("opened")
}

fn name(at: usize) -> Username {
    NAMES[at].parse().expect("name")
}

fn den() -> RoomName {
    "den".parse().expect("name")
}

fn account(at: usize, key: u8) -> NewAccount {
    let [peer, room] = [key, key + 100].map(|s| Keypair::from_secret(&[s; 32]));
    let binding = KeyBinding::new(&registry().public(), &name(at), &peer, &room);
    NewAccount { username: name(at), password_hash: String::new(), binding, invite: None }
}

async fn is_there(store: &Store, username: &Username) -> bool {
    let key = registry().public();
    let found = store.search(key, vec![username.clone()], 0).await.expect("read");
    found.contacts[0].is_some()
}

async fn accounts(store: &Store) -> Vec<AccountId> {
    let mut ids = Vec::new();
    for at in 0..NAMES.len() {
        let (profile, _) =
            store.create_account(account(at, 10 + at as u8), 0).await.expect("a free name");
        ids.push(profile.account);
    }
    ids
}

#[tokio::test]
async fn one_that_fails_takes_nothing_of_its_batch_back() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let store = store(&folder);
    let mut tasks = tokio::task::JoinSet::new();
    for turn in 0..40_u8 {
        let store = store.clone();
        // Every name is asked for ten times at once, with another key each time.
        let new = account(usize::from(turn % 4), 10 + turn);
        tasks.spawn(async move { store.create_account(new, 0).await.map(|(p, _)| p.username) });
    }
    let mut made = Vec::new();
    while let Some(result) = tasks.join_next().await {
        match result.expect("no panic") {
            Ok(username) => made.push(username),
            Err(StoreError::Rule(Rule::UsernameTaken)) => {}
            Err(error) => panic!("{error}"),
        }
    }
    made.sort();
    assert_eq!(made, [0, 1, 2, 3].map(name), "each once");
    for username in made {
        assert!(is_there(&store, &username).await, "committed");
    }
}

#[tokio::test]
async fn what_was_committed_is_in_every_read_that_begins_later() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let store = store(&folder);
    let (begun, has_begun) = oneshot::channel();
    let (release, released) = std::sync::mpsc::channel();
    let slow = store.clone();
    let slow = tokio::spawn(async move {
        slow.read(move |db| {
            let accounts: i64 = db.query_row("SELECT count(*) FROM account", [], |r| r.get(0))?;
            begun.send(()).expect("awaited");
            released.recv().expect("released");
            Ok(accounts)
        })
        .await
    });
    has_begun.await.expect("it runs");
    store.create_account(account(0, 10), 0).await.expect("a free name");
    let ann = name(0);
    // Polled in this order: the second read waits in line before the first one ends.
    let (found, ()) =
        tokio::join!(is_there(&store, &ann), async { release.send(()).expect("read") });
    assert!(found, "committed before it was asked");
    assert_eq!(slow.await.expect("no panic").expect("read"), 0);
}

#[tokio::test]
async fn a_batch_that_lost_its_transaction_is_answered_as_not_committed_and_nothing_stays() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let store = store(&folder);
    let (begun, has_begun) = oneshot::channel();
    let (release, released) = std::sync::mpsc::channel();
    let first = store.write(move |_| {
        begun.send(()).expect("awaited");
        released.recv().expect("released");
        Ok(())
    });
    let before = store.create_account(account(0, 10), 0);
    // As SQLite does by itself after some faults of the disk.
    let fault = store.write(|db| Ok(db.execute_batch("ROLLBACK")?));
    let after = store.create_account(account(1, 11), 0);
    let unblock = async {
        has_begun.await.expect("it runs");
        release.send(()).expect("awaited");
    };
    let (first, before, fault, after, ()) = tokio::join!(first, before, fault, after, unblock);
    assert!(matches!(first, Err(StoreError::NotCommitted)), "{first:?}");
    assert!(matches!(before, Err(StoreError::NotCommitted)), "{before:?}");
    assert!(fault.is_err());
    for (at, made) in [before, after].into_iter().enumerate() {
        let found = is_there(&store, &name(at)).await;
        assert_eq!(made.is_ok(), found, "{made:?}");
    }
}

#[tokio::test]
async fn a_full_disk_is_told_to_each_that_writes_and_takes_nothing_of_them_until_there_is_space() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let store = store(&folder);
    let set_space = async |pages: u32| {
        let sql = format!("PRAGMA max_page_count = {pages}");
        let set = move |db: &rusqlite::Connection| Ok(db.query_row(&sql, [], |_| Ok(()))?);
        store.write(set).await.expect("a pragma");
    };
    store.create_account(account(0, 10), 0).await.expect("there is space");
    set_space(1).await;
    let large = NewAccount { password_hash: "x".repeat(100_000), ..account(1, 11) };
    let full = store.create_account(large.clone(), 0).await;
    assert!(matches!(full, Err(StoreError::Full)), "{full:?}");
    assert!(is_there(&store, &name(0)).await, "reading goes on");
    assert!(!is_there(&store, &name(1)).await);
    set_space(1_000_000).await;
    store.create_account(large, 0).await.expect("there is space again");
}

#[tokio::test]
async fn a_store_whose_thread_ended_says_so() {
    for reading in [false, true] {
        let folder = tempfile::tempdir().expect("temporary folder");
        let store = store(&folder);
        let ended = match reading {
            true => store.read::<()>(|_| panic!("a fault in a job")).await,
            false => store.write::<()>(|_| panic!("a fault in a job")).await,
        };
        assert!(matches!(ended, Err(StoreError::Stopped)));
        tokio::time::timeout(Duration::from_secs(10), store.failed()).await.expect("it is told");
    }
}

#[tokio::test]
async fn damage_found_while_the_file_is_used_ends_the_store() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let sound = store(&folder);
    let path = folder.path().join("registry.db");
    sound
        .write(|db| Ok(db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?))
        .await
        .expect("on disk");
    let mut bytes = std::fs::read(&path).expect("file");
    bytes[4096..8192].fill(0x5a);
    std::fs::write(&path, &bytes).expect("written");
    let reading = super::schema::open_reader(&path).expect("opened");
    super::check_in_use(reading, path.into(), sound.damaged.clone()).expect("a thread");
    tokio::time::timeout(Duration::from_secs(10), sound.failed()).await.expect("it is told");
}

#[tokio::test]
async fn a_thread_that_hangs_is_told() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let store = store(&folder);
    let (release, released) = std::sync::mpsc::channel::<()>();
    let hanging = store.clone();
    let hanging = tokio::spawn(async move {
        // Ends when the test drops its end.
        hanging.write(move |_| Ok(released.recv().is_err())).await
    });
    let told =
        tokio::time::timeout(Duration::from_secs(10), store.hung(Duration::from_millis(50), || {}));
    told.await.expect("it is told");
    drop(release);
    assert!(hanging.await.expect("no panic").expect("committed"), "it hung until then");
}

#[tokio::test]
async fn a_replaced_key_ends_and_resumes_nothing() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let store = store(&folder);
    let [old, new] = [account(0, 10).binding, account(0, 11).binding];
    let ann = store.create_account(account(0, 10), 0).await.expect("a free name").0.account;
    for binding in [old.clone(), new] {
        let attempt = Digest(*binding.peer_key.as_bytes());
        let entry = Entry::Free;
        let endpoints = Endpoints::default();
        let request = LoginRequest { account: ann, binding, attempt, endpoints, entry };
        store.login(request, 0).await.expect("a session");
    }
    let ended = store.logout(old.peer_key).await;
    assert!(matches!(ended, Err(StoreError::Rule(Rule::Superseded))), "{ended:?}");
    let request = ResumeRequest {
        key: old.peer_key,
        attempt: Digest([9; 32]),
        endpoints: Endpoints::default(),
        serial: 0,
        epoch: 0,
    };
    let resumed = store.resume(request, 0).await;
    assert!(matches!(resumed, Err(StoreError::Rule(Rule::Superseded))), "{resumed:?}");
    assert_eq!(
        store.sessions(AccountId(0), 2).await.expect("read").len(),
        1,
        "the new device's session stays"
    );
}

#[tokio::test]
async fn a_password_opens_the_room_that_it_was_checked_for_alone() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let store = store(&folder);
    let ids = accounts(&store).await;
    let new = |owner: AccountId| NewRoom {
        owner,
        name: den(),
        access: Access::Password,
        history: HistoryAccess::All,
        password_hash: String::new(),
    };
    store.create_room(new(ids[0]), 0).await.expect("a free name");
    let checked = store.room_key(&den(), ids[1]).await.expect("a room").id;
    store.change_room(&den(), ids[0], Change::Delete, 0).await.expect("the owner");
    store.create_room(new(ids[2]), 0).await.expect("a free name");
    let joined = store.join_room(&den(), checked, ids[1], 0).await;
    assert!(matches!(joined, Err(StoreError::Rule(Rule::NoRoom))), "{joined:?}");
}

/// One step of a random walk: who does what to whom.
#[derive(Debug, Clone)]
enum Step {
    Join(usize),
    Wish(usize, usize, u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (0..4_usize).prop_map(Step::Join),
        (0..4_usize, 0..4_usize, 0..6_u8).prop_map(|(by, on, wish)| Step::Wish(by, on, wish)),
    ];
    proptest::collection::vec(step, 1..40)
}

fn wish(on: usize, wish: u8) -> Change {
    match wish {
        0 => Change::Leave,
        1 => Change::Kick(name(on)),
        2 => Change::SetRole(name(on), Role::Member),
        3 => Change::SetRole(name(on), Role::Moderator),
        4 => Change::SetRole(name(on), Role::Owner),
        _ => Change::Invite(name(on)),
    }
}

async fn join(store: &Store, who: AccountId) -> Result<(), StoreError> {
    let room = store.room_key(&den(), who).await?.id;
    store.join_room(&den(), room, who, 0).await.map(|_| ())
}

/// The log folds, says the same as the tables, and there is one owner.
async fn check(store: &Store, ids: &[AccountId]) {
    for id in ids {
        let state = match store.room(&den(), *id, 0).await {
            Ok(state) => state,
            Err(StoreError::Rule(Rule::NoMember | Rule::NoRoom)) => continue,
            Err(error) => panic!("{error}"),
        };
        let room = Room::from_log(&state.log, &registry().public()).expect("a log that folds");
        assert_eq!(room.epoch, state.epoch);
        let listed: Vec<_> = state.members.iter().map(|(p, role)| member(p, *role)).collect();
        let mut folded: Vec<_> = room.members().cloned().collect();
        folded.sort_by_key(|m| listed.iter().position(|l| l.username == m.username));
        assert_eq!(folded, listed);
        assert_eq!(listed.iter().filter(|m| m.role == Role::Owner).count(), 1);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn whatever_members_do_log_and_tables_agree(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("runtime");
        runtime.block_on(async {
            let folder = tempfile::tempdir().expect("temporary folder");
            let store = store(&folder);
            let ids = accounts(&store).await;
            let new = NewRoom {
                owner: ids[0],
                name: den(),
                access: Access::Open,
                history: HistoryAccess::Joined,
                password_hash: String::new(),
            };
            store.create_room(new, 0).await.expect("a free name");
            for step in steps {
                let result = match step {
                    Step::Join(who) => join(&store, ids[who]).await,
                    Step::Wish(by, on, what) => {
                        store.change_room(&den(), ids[by], wish(on, what), 0).await.map(|_| ())
                    }
                };
                assert!(matches!(result, Ok(()) | Err(StoreError::Rule(_))), "{result:?}");
                check(&store, &ids).await;
            }
        });
    }
}
