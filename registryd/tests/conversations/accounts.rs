//! create-account, passwords, change-password, delete-account.

use std::{num::NonZeroU32, time::Duration};

use registryd::{Rate, Registration};
use registryd_proto::{
    Access, Card, Code, Digest, HistoryAccess, KeyBinding, PresenceState, Reply, Request, Role,
};
use tokio::time::Instant;

use crate::client::{Hello, Registry, SECRET, password, resume};

#[tokio::test]
async fn an_account_binds_a_name_to_keys() {
    let registry = Registry::start().await;
    let bob = registry.peer("bob", 2);
    let mut link = bob.connect().await;
    let Reply::Account(account) = link.ask(&bob.create()).await.expect("a free name") else {
        panic!("expected an account");
    };
    let card = Card::open(&account.card, &registry.server.key()).expect("signed");
    assert_eq!((card.username, card.serial), (bob.name.clone(), 1));
    assert_eq!(card.binding, bob.binding());

    assert_eq!(link.code(&bob.create()).await, Code::Conflict, "one account for a key");
    let eve = registry.peer("bob", 3);
    assert_eq!(eve.connect().await.code(&eve.create()).await, Code::Conflict, "the name is taken");
}

#[tokio::test]
async fn nobody_binds_the_keys_of_another() {
    let registry = Registry::start().await;
    let (bob, eve) = (registry.peer("bob", 2), registry.peer("eve", 3));
    let mut link = eve.connect().await;
    assert_eq!(link.code(&bob.create()).await, Code::Usage, "bob's keys on eve's connection");

    let mut forged = bob.binding();
    forged.peer_key = eve.keys.public();
    let request = Request::CreateAccount {
        username: eve.name.clone(),
        password: password(SECRET),
        binding: forged,
        invite: None,
    };
    assert_eq!(link.code(&request).await, Code::Usage, "a binding that was not signed");
    let elsewhere = KeyBinding::new(&bob.keys.public(), &eve.name, &eve.keys, &eve.room_keys);
    let request = Request::CreateAccount {
        username: eve.name.clone(),
        password: password(SECRET),
        binding: elsewhere,
        invite: None,
    };
    assert_eq!(link.code(&request).await, Code::Usage, "a binding for another registry");
}

#[tokio::test]
async fn registration_can_be_closed() {
    for closed in [Registration::Closed, Registration::Invite] {
        let registry = Registry::start_with(|c| c.registration = closed).await;
        let bob = registry.peer("bob", 2);
        assert_eq!(bob.connect().await.code(&bob.create()).await, Code::Blocked);
    }
}

#[tokio::test]
async fn a_wrong_password_and_an_unknown_user_are_one_answer() {
    let registry = Registry::start().await;
    registry.member("bob", 2).await;
    let (wrong, unknown) = (registry.peer("bob", 3), registry.peer("nobody", 3));
    let mut link = wrong.connect().await;
    let wrong = serde_json::to_vec(&wrong.login_by("wrong horse", 1, true)).expect("plain");
    let unknown = serde_json::to_vec(&unknown.login_by(SECRET, 1, true)).expect("plain");

    let mut spent = [Duration::MAX; 2];
    let mut answers = Vec::new();
    for _ in 0..5 {
        for (request, spent) in [&wrong, &unknown].into_iter().zip(&mut spent) {
            let begin = Instant::now();
            answers.push(link.raw(request).await);
            *spent = begin.elapsed().min(*spent);
        }
    }
    assert!(answers.iter().all(|a| *a == answers[0]), "byte by byte");
    assert!(String::from_utf8_lossy(&answers[0]).contains("bad_credentials"));
    let [wrong, unknown] = spent;
    assert!(unknown > wrong / 3 && wrong > unknown / 3, "{wrong:?} and {unknown:?}");
}

#[tokio::test]
async fn guessing_is_limited_and_locks_no_owner_out() {
    let registry = Registry::start().await;
    let mut bob = registry.member("bob", 2).await;
    let eve = registry.peer("bob", 3);
    let mut link = eve.connect().await;
    let guess = eve.login_by("wrong horse", 1, true);
    let mut tried = 0;
    let limited = loop {
        let failure = link.ask(&guess).await.expect_err("wrong");
        if failure.code == Code::RateLimited {
            break failure;
        }
        assert_eq!(failure.code, Code::BadCredentials);
        tried += 1;
        assert!(tried < 30, "guesses are not limited");
    };
    assert!(limited.retry_after_ms.expect("when") <= 3_000);
    bob.link.session(&resume(9)).await;
    bob.link.ask(&Request::Logout).await.expect("done");
    // The same address as the guesser's, as behind one router.
    bob.link.session(&bob.peer.login(10)).await;
}

#[tokio::test]
async fn logins_with_ever_other_keys_are_limited_and_those_with_the_same_are_not() {
    let few = Rate {
        burst: NonZeroU32::new(2).expect("not 0"),
        every_ms: NonZeroU32::new(600_000).expect("not 0"),
    };
    let registry = Registry::start_with(|c| c.limits.rebinds = few).await;
    registry.member("bob", 2).await;
    for seed in [30, 31] {
        let other = registry.peer("bob", seed);
        let login = other.login_by(SECRET, seed, true);
        other.connect().await.session(&login).await;
    }
    let other = registry.peer("bob", 32);
    let mut link = other.connect().await;
    assert_eq!(link.code(&other.login_by(SECRET, 32, true)).await, Code::RateLimited);
    let last = registry.peer("bob", 31);
    last.connect().await.session(&last.login_by(SECRET, 33, true)).await;
}

#[tokio::test]
async fn a_changed_password_is_the_only_one() {
    let registry = Registry::start().await;
    let mut bob = registry.member("bob", 2).await;
    let change =
        |old: &str, new: &str| Request::ChangePassword { old: password(old), new: password(new) };
    assert_eq!(bob.link.code(&change("wrong horse", "whatever it is")).await, Code::BadCredentials);
    assert_eq!(bob.link.ask(&change(SECRET, "another horse")).await, Ok(Reply::Done));
    assert_eq!(bob.link.code(&bob.peer.login(7)).await, Code::BadCredentials);
    bob.link.session(&bob.peer.login_by("another horse", 7, false)).await;
}

#[tokio::test]
async fn a_deleted_account_leaves_its_rooms_and_keeps_its_name() {
    let registry = Registry::start().await;
    let (mut ann, mut bob) = (registry.member("ann", 1).await, registry.member("bob", 2).await);
    for (link, room) in [(&mut ann.link, "attic"), (&mut bob.link, "den")] {
        link.open_room(room).await;
    }
    let join = |room: &str| Request::JoinRoom { room: room.parse().expect("name"), password: None };
    bob.link.room(&join("attic")).await;
    ann.link.room(&join("den")).await;
    Hello::new(&bob.grant).await.say().await;
    ann.link.until("bob", PresenceState::Online).await;

    let delete = |secret: &str| Request::DeleteAccount { password: password(secret) };
    assert_eq!(bob.link.code(&delete("wrong horse")).await, Code::BadCredentials);
    assert_eq!(bob.link.ask(&delete(SECRET)).await, Ok(Reply::Done));
    assert_eq!(bob.link.code(&Request::ListRooms).await, Code::NotLoggedIn);
    assert_eq!(bob.link.code(&bob.peer.login(7)).await, Code::BadCredentials);

    let rooms = ann.link.sync(0).await.rooms;
    assert_eq!(rooms.len(), 1, "bob's own room is gone: {rooms:?}");
    assert_eq!((rooms[0].members, rooms[0].role), (1, Role::Owner));
    let search = Request::Search { username: bob.peer.name.clone() };
    assert_eq!(ann.link.code(&search).await, Code::NotFound);
    let heir = registry.peer("bob", 9);
    assert_eq!(heir.connect().await.code(&heir.create()).await, Code::Conflict);
}

#[tokio::test]
async fn a_hostile_stored_hash_is_refused_before_it_is_run() {
    let registry = Registry::start().await;
    let bob = registry.member("bob", 2).await;
    let database = rusqlite::Connection::open(registry.database()).expect("opened");
    let hostile = "$argon2id$v=19$m=4194304,t=10,p=1$c29tZXNhbHRzb21lc2FsdA$RdescudvJCsgt3ub+b7dWRWJTmaOsvPQCDkNLnq12s4";
    database
        .execute("UPDATE account SET password_hash = ?1 WHERE username = 'bob'", [hostile])
        .expect("written");
    let begin = Instant::now();
    let failure = bob.peer.connect().await.ask(&bob.peer.login(7)).await.expect_err("refused");
    assert_eq!(failure.code, Code::Internal);
    assert!(!failure.message.contains("argon"), "{}", failure.message);
    assert!(begin.elapsed() < Duration::from_secs(2), "4 GiB were not filled");
}

#[tokio::test]
async fn every_request_needs_an_enrolled_key_with_a_session() {
    let registry = Registry::start().await;
    registry.member("bob", 2).await;
    let stranger = registry.peer("eve", 3);
    let mut link = stranger.connect().await;
    for request in enrolled_requests() {
        assert_eq!(link.code(&request).await, Code::NotLoggedIn, "{request:?}");
    }
    link.ask(&stranger.create()).await.expect("a free name");
    for request in enrolled_requests() {
        assert_eq!(link.code(&request).await, Code::NotLoggedIn, "no session: {request:?}");
    }
    let mut bob = registry.peer("bob", 2).connect().await;
    bob.session(&resume(8)).await;
}

/// Every request that needs a session.
pub(crate) fn enrolled_requests() -> Vec<Request> {
    let room = || "den".parse().expect("name");
    let username = || "bob".parse().expect("name");
    vec![
        Request::Resume {
            attempt: Digest([1; 32]),
            endpoints: Default::default(),
            serial: 0,
            epoch: 0,
        },
        Request::Logout,
        Request::Search { username: username() },
        Request::Watch { username: username() },
        Request::Sync { version: 0 },
        Request::CreateRoom {
            room: room(),
            access: Access::Open,
            password: None,
            history: HistoryAccess::All,
        },
        Request::JoinRoom { room: room(), password: None },
        Request::LeaveRoom { room: room() },
        Request::ListRooms,
        Request::RoomMembers { room: room(), after_epoch: 0 },
        Request::Invite { room: room(), username: username() },
        Request::Kick { room: room(), username: username() },
        Request::SetRole { room: room(), username: username(), role: Role::Owner },
        Request::DeleteRoom { room: room() },
        Request::ChangePassword { old: password(SECRET), new: password(SECRET) },
        Request::DeleteAccount { password: password(SECRET) },
    ]
}
