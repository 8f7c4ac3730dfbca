//! HELLO over real sockets: presence, nudges, restarts, replays.

use registryd_proto::{PresenceState, Request, hello::Outcome};

use crate::client::{Hello, Registry, resume};

#[tokio::test]
async fn online_is_who_says_hello() {
    let registry = Registry::start().await;
    let (bob, mut ann) = (registry.member("bob", 2).await, registry.member("ann", 1).await);
    let user = ann.link.user("bob").await;
    assert_eq!((user.presence, user.last_hello_ms_ago), (PresenceState::Offline, None));
    let mut hello = Hello::new(&bob.grant).await;
    assert_eq!(hello.say().await, Outcome::Answered { version: bob.grant.version });
    let user = ann.link.user("bob").await;
    assert_eq!(user.presence, PresenceState::Online);
    assert!(user.last_hello_ms_ago.expect("a HELLO") < 10_000);
    ann.link.until("bob", PresenceState::Offline).await;
}

#[tokio::test]
async fn a_restart_keeps_sessions_and_challenges_them() {
    let registry = Registry::start().await;
    let bob = registry.member("bob", 2).await;
    let mut ann = registry.member("ann", 1).await;
    let mut hello = Hello::new(&bob.grant).await;
    let recorded = hello.seal();
    hello.socket.send(&recorded).await.expect("sent");
    assert!(matches!(hello.hear().await, Outcome::Answered { .. }));

    let registry = registry.restart().await;
    ann.link = ann.peer.connect().await;
    assert_eq!(ann.link.user("bob").await.presence, PresenceState::Offline);
    hello.socket.send(&recorded).await.expect("sent");
    assert_eq!(hello.hear().await, Outcome::Ignored, "a challenge for a HELLO long answered");
    assert_eq!(ann.link.user("bob").await.presence, PresenceState::Offline, "a replay");

    assert_eq!(hello.say().await, Outcome::Rebooted);
    assert_eq!(ann.link.user("bob").await.presence, PresenceState::Offline, "not yet");
    assert!(matches!(hello.say().await, Outcome::Answered { .. }));
    assert_eq!(ann.link.user("bob").await.presence, PresenceState::Online);
    drop(registry);
}

#[tokio::test]
async fn replays_and_forgeries_are_silent_and_change_nothing() {
    let registry = Registry::start().await;
    let (mut bob, mut ann) = (registry.member("bob", 2).await, registry.member("ann", 1).await);
    let mut hello = Hello::new(&bob.grant).await;
    let recorded = hello.seal();
    hello.socket.send(&recorded).await.expect("sent");
    assert!(matches!(hello.hear().await, Outcome::Answered { .. }));
    ann.link.until("bob", PresenceState::Offline).await;

    let thief = tokio::net::UdpSocket::bind("127.0.0.1:0").await.expect("bound");
    thief.connect(registry.server.local_address()).await.expect("connected");
    let mut forged = recorded;
    forged[32] += 1;
    let garbage: [&[u8]; 6] = [&recorded, &forged, &[0; 72], &[0x11; 72], &[], &[0x11; 2000]];
    for datagram in garbage {
        thief.send(datagram).await.expect("sent");
    }
    let old = bob.grant.clone();
    bob.grant = bob.link.session(&resume(7)).await;
    let mut old = Hello::new(&old).await;
    let stale = old.seal();
    thief.send(&stale).await.expect("sent");

    // Datagrams are taken in order: when ann's is answered, all of the above were looked at.
    Hello::new(&ann.grant).await.silent_but_for_the_next().await;
    assert_eq!(ann.link.user("bob").await.presence, PresenceState::Offline);
    let answered = thief.try_recv(&mut [0; 100]);
    assert!(answered.is_err(), "the port answers nobody without a key");
}

#[tokio::test]
async fn a_watcher_is_nudged_once_when_the_user_comes() {
    let registry = Registry::start().await;
    let (bob, mut ann) = (registry.member("bob", 2).await, registry.member("ann", 1).await);
    let mut hello = Hello::new(&ann.grant).await;
    hello.say().await;
    let version = ann.link.sync(0).await.version;
    ann.link.ask(&Request::Watch { username: bob.peer.name.clone() }).await.expect("a known user");
    Hello::new(&bob.grant).await.say().await;
    let Outcome::Nudged { version: nudged } = hello.hear().await else {
        panic!("expected a nudge");
    };
    assert!(nudged > version);
    let sync = ann.link.sync(version).await;
    assert_eq!(sync.version, nudged);
    let names: Vec<_> = sync.online.iter().map(|u| u.username.as_str()).collect();
    assert_eq!(names, ["bob"]);
    assert_eq!(sync.online[0].presence, PresenceState::Online);
    assert!(ann.link.sync(nudged).await.online.is_empty(), "told and done");
}

#[tokio::test]
async fn a_logged_out_session_is_not_answered() {
    let registry = Registry::start().await;
    let (mut bob, mut ann) = (registry.member("bob", 2).await, registry.member("ann", 1).await);
    let mut hello = Hello::new(&bob.grant).await;
    hello.say().await;
    bob.link.ask(&Request::Logout).await.expect("done");
    assert_eq!(ann.link.user("bob").await.presence, PresenceState::Offline);
    let datagram = hello.seal();
    hello.socket.send(&datagram).await.expect("sent");
    Hello::new(&ann.grant).await.say().await;
    assert_eq!(ann.link.user("bob").await.presence, PresenceState::Offline);
    assert!(hello.socket.try_recv(&mut [0; 100]).is_err());
}
