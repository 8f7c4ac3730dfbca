//! login, resume, logout, takeover.

use std::num::NonZeroU32;

use registryd::Rate;
use registryd_proto::{Card, Code, MembershipOp, PresenceState, Reply, Request, Room};

use crate::{
    accounts::enrolled_requests,
    client::{Hello, Registry, resume, resume_at},
};

#[tokio::test]
async fn a_session_tells_what_peerd_needs() {
    let registry = Registry::start().await;
    let mut bob = registry.member("bob", 2).await;
    assert_eq!(bob.grant.hello_port, registry.server.local_address().port());
    assert_eq!(bob.grant.observed.to_string(), "127.0.0.1");
    let user = bob.link.user("bob").await;
    assert_eq!(user.endpoints.peer, ["127.0.0.1:4001".parse().expect("address")]);
    assert_eq!(user.endpoints.room, ["127.0.0.1:4002".parse().expect("address")]);
}

#[tokio::test]
async fn the_same_attempt_gets_the_same_session_and_a_new_one_a_new_epoch() {
    let registry = Registry::start().await;
    let mut bob = registry.member("bob", 2).await;
    let again = bob.link.session(&bob.peer.login(2)).await;
    assert_eq!((again.epoch, &again.key), (bob.grant.epoch, &bob.grant.key));
    let next = bob.link.session(&resume(3)).await;
    assert_eq!(next.epoch, bob.grant.epoch + 1);
    assert_ne!(next.key, bob.grant.key);
    let again = bob.link.session(&resume(3)).await;
    assert_eq!((again.epoch, &again.key), (next.epoch, &next.key));
    assert_eq!(bob.link.sync(0).await.epoch, next.epoch);
}

#[tokio::test]
async fn a_logout_is_durable() {
    let registry = Registry::start().await;
    let mut bob = registry.member("bob", 2).await;
    Hello::new(&bob.grant).await.say().await;
    assert_eq!(bob.link.ask(&Request::Logout).await, Ok(Reply::Done));
    assert_eq!(bob.link.code(&resume(3)).await, Code::NotLoggedIn);
    let registry = registry.restart().await;
    let mut link = registry.peer("bob", 2).connect().await;
    assert_eq!(link.code(&resume(3)).await, Code::NotLoggedIn);
    let grant = link.session(&bob.peer.login(4)).await;
    assert!(grant.epoch > bob.grant.epoch);
}

#[tokio::test]
async fn a_registry_that_is_behind_adopts_serial_and_epoch() {
    let registry = Registry::start().await;
    let mut bob = registry.member("bob", 2).await;
    let grant = bob.link.session(&resume_at(3, 41, 77)).await;
    assert_eq!(grant.epoch, 78);
    let card = Card::open(&grant.card, &registry.server.key()).expect("signed");
    assert_eq!(card.serial, 41);
    assert_eq!(bob.link.code(&resume_at(4, u64::MAX, 1)).await, Code::Usage);
    assert_eq!(bob.link.code(&resume_at(4, 1, u64::MAX)).await, Code::Usage);
}

#[tokio::test]
async fn another_device_waits_or_takes_over() {
    let registry = Registry::start_with(|c| c.hello.interval_min_ms = 20_000).await;
    let mut bob = registry.member("bob", 2).await;
    bob.link.open_room("den").await;
    let mut hello = Hello::new(&bob.grant).await;
    hello.say().await;

    let other = registry.peer("bob", 3);
    let mut link = other.connect().await;
    assert_eq!(link.code(&other.login(5)).await, Code::AlreadyOnline);
    bob.link.session(&bob.peer.login(6)).await;

    let grant = link.session(&other.login_by(crate::client::SECRET, 5, true)).await;
    let card = Card::open(&grant.card, &registry.server.key()).expect("signed");
    assert_eq!((card.serial, card.binding), (2, other.binding()));
    for request in enrolled_requests() {
        assert_eq!(bob.link.code(&request).await, Code::Superseded, "{request:?}");
    }

    let members = Request::RoomMembers { room: "den".parse().expect("name"), after_epoch: 0 };
    let view = link.room(&members).await;
    let room = Room::from_log(&view.log, &registry.server.key()).expect("a log that folds");
    assert_eq!(room.epoch, 2);
    assert!(room.was_member(&bob.peer.keys.public(), 1));
    assert!(!room.was_member(&bob.peer.keys.public(), 2));
    assert!(room.was_member(&other.keys.public(), 2));
    let last = view.log[1].open(&registry.server.key()).expect("signed");
    assert!(matches!(last.op, MembershipOp::Rebind { .. }));
}

#[tokio::test]
async fn a_device_that_was_replaced_uses_up_nothing_of_its_account() {
    let registry = Registry::start_with(|c| {
        let burst = NonZeroU32::new(20).expect("positive");
        let every_ms = NonZeroU32::new(3_600_000).expect("positive");
        c.limits.requests = Rate { burst, every_ms };
    })
    .await;
    let mut bob = registry.member("bob", 2).await;
    bob.link.sync(0).await;
    let other = registry.peer("bob", 3);
    let mut link = other.connect().await;
    link.session(&other.login_by(crate::client::SECRET, 5, true)).await;
    let search = Request::Search { username: bob.peer.name.clone() };
    for _ in 0..30 {
        assert_eq!(bob.link.code(&search).await, Code::Superseded);
        assert_eq!(bob.link.code(&Request::ListRooms).await, Code::Superseded);
    }
    for _ in 0..10 {
        link.sync(0).await;
    }
}

#[tokio::test]
async fn another_device_is_let_in_once_nobody_is_online() {
    let registry = Registry::start().await;
    let (bob, mut ann) = (registry.member("bob", 2).await, registry.member("ann", 1).await);
    Hello::new(&bob.grant).await.say().await;
    ann.link.until("bob", PresenceState::Offline).await;
    let other = registry.peer("bob", 3);
    other.connect().await.session(&other.login(5)).await;
    let taken = registry.peer("bob", 1);
    let code = taken.connect().await.code(&taken.login(5)).await;
    assert_eq!(code, Code::Conflict, "ann's key is ann's");
}

#[tokio::test]
async fn right_after_a_restart_another_device_is_told_when_to_come_back() {
    let registry = Registry::start_with(|c| c.hello.interval_min_ms = 20_000).await;
    registry.member("bob", 2).await;
    let registry = registry.restart().await;
    let other = registry.peer("bob", 3);
    let mut link = other.connect().await;
    let failure = link.ask(&other.login(5)).await.expect_err("unknown yet");
    assert_eq!(failure.code, Code::AlreadyOnline);
    let wait = failure.retry_after_ms.expect("when");
    assert!((40_000..=60_000).contains(&wait), "{wait}");
    let same = registry.peer("bob", 2);
    same.connect().await.session(&same.login(6)).await;
}

#[tokio::test]
async fn a_wildcard_serves_both_families_on_one_number() {
    let registry = Registry::start_with(|c| c.listen = "[::]:0".to_owned()).await;
    let port = registry.server.local_address().port();
    assert!(registry.server.address().ends_with(&format!("@localhost:{port}")));
    let mut bob = registry.peer("bob", 2);
    bob.address = ([127, 0, 0, 1], port).into();
    let mut link = bob.connect().await;
    link.ask(&bob.create()).await.expect("a free name");
    let grant = link.session(&bob.login(1)).await;
    assert_eq!(grant.observed.to_string(), "127.0.0.1", "never as a mapped address");
    Hello::new(&grant).await.say().await;
    assert_eq!(link.user("bob").await.presence, PresenceState::Online);
}
