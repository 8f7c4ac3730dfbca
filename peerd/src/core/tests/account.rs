//! Accounts and sessions.

use peerd_proto::control::{EventKind, SessionState};
use registryd_proto::{Code, Digest, Endpoints, Keypair, Request};
use serde_json::json;

use super::world::{Told, World, name};
use crate::core::{Answer, Input, LinkKind, input::HelloInput};

fn login(user: &str) -> serde_json::Value {
    json!({"username": user, "password": "password"})
}

fn session(told: Told) -> (SessionState, u16) {
    match told.expect("a session") {
        Answer::Session(session) => (session.state, session.peer_port),
        other => panic!("no session: {other:?}"),
    }
}

fn status(world: &mut World, i: usize) -> SessionState {
    match world.verb(i, "status", json!({})).expect("status") {
        Answer::Status(status) => status.session,
        other => panic!("no status: {other:?}"),
    }
}

#[test]
fn a_registry_without_a_key_is_pinned_and_the_profile_is_its_for_good() {
    let mut world = World::unenrolled(1);
    assert_eq!(world.code(0, "search", json!({"username": "b"})), Code::NotLoggedIn);
    assert_eq!(world.code(0, "login", login("a")), Code::Usage);
    let account = json!({"username": "a", "registry": "registry:4700", "password": "password"});
    match world.verb(0, "create_account", account).expect("an account") {
        Answer::Account(account) => {
            assert!(account.newly_pinned);
            assert_eq!(account.registry, world.registry.address());
        }
        other => panic!("no account: {other:?}"),
    }
    assert_eq!(world.code(0, "login", login("b")), Code::Conflict);
    let wrong = json!({"username": "a", "password": "wrong password"});
    assert_eq!(world.code(0, "login", wrong), Code::BadCredentials);
    assert_eq!(status(&mut world, 0), SessionState::LoggedOut);
    assert_eq!(session(world.verb(0, "login", login("a"))).0, SessionState::Online);
    assert_eq!(session(world.verb(0, "login", login("a"))).0, SessionState::Online, "again");
}

#[test]
fn a_taken_port_is_told_before_the_registry_hears_of_it() {
    let mut world = World::unenrolled(1);
    world.enrol(0);
    world.taken = vec![5_000];
    let calls = world.peers[0].calls;
    let params = json!({"username": "a", "password": "password", "peer_port": 5_000});
    let failure = world.verb(0, "login", params).expect_err("taken");
    assert_eq!(failure.code, Code::Conflict);
    assert!(failure.message.contains("5000"), "{}", failure.message);
    assert_eq!(world.peers[0].calls, calls);
}

#[test]
fn a_start_resumes_on_other_ports_if_it_must_and_a_logout_holds() {
    let mut world = World::new(1);
    world.taken = vec![40_000];
    world.restart(0);
    assert_eq!(status(&mut world, 0), SessionState::Offline, "no port is free");
    world.taken.clear();
    world.pass(20_000);
    assert_eq!(status(&mut world, 0), SessionState::Online);
    world.registry_up = false;
    world.restart(0);
    world.pass(60_000);
    assert_eq!(status(&mut world, 0), SessionState::Offline);
    assert_eq!(world.count(0, |e| matches!(e, EventKind::RegistryDown {})), 1);
    let calls = world.peers[0].calls;
    assert!((4..60).contains(&calls), "a back-off, without end: {calls}");
    world.registry_up = true;
    world.pass(20_000);
    assert_eq!(status(&mut world, 0), SessionState::Online);
    assert_eq!(world.count(0, |e| matches!(e, EventKind::RegistryUp {})), 1);
    world.registry_up = false;
    assert_eq!(session(world.verb(0, "logout", json!({}))), (SessionState::LoggedOut, 0));
    world.registry_up = true;
    world.restart(0);
    world.pass(20_000);
    assert_eq!(status(&mut world, 0), SessionState::LoggedOut);
}

#[test]
fn a_swarm_comes_back_when_a_busy_registry_says_so_and_not_all_at_once() {
    const PEERS: usize = 20;
    let mut world = World::new(PEERS);
    world.registry.busy_ms = Some(30_000);
    (0..PEERS).for_each(|i| world.restart(i));
    let asked = |world: &World| world.peers.iter().map(|p| p.calls).sum::<usize>();
    let first = asked(&world);
    world.pass(30_000);
    assert_eq!(asked(&world), first, "nobody comes before the time");
    let mut came = Vec::new();
    for _ in 0..20 {
        let before = asked(&world);
        world.pass(50);
        came.push(asked(&world) - before);
    }
    assert_eq!(came.iter().sum::<usize>(), PEERS, "{came:?}");
    assert!(came.iter().all(|at_once| *at_once <= PEERS / 2), "{came:?}");
    world.registry.busy_ms = None;
    world.pass(40_000);
    assert!((0..PEERS).all(|i| status(&mut world, i) == SessionState::Online));
}

#[test]
fn a_silent_registry_is_down_until_it_answers() {
    let mut world = World::new(1);
    world.input(0, Input::Hello(HelloInput::Silent));
    assert_eq!(status(&mut world, 0), SessionState::Offline);
    world.pass(300_000);
    assert_eq!(status(&mut world, 0), SessionState::Offline, "only HELLO says that we are online");
    let answered = HelloInput::Answered { version: 0, interval_ms: 2_000 };
    world.input(0, Input::Hello(answered));
    assert_eq!(status(&mut world, 0), SessionState::Online);
    assert_eq!(world.count(0, |e| matches!(e, EventKind::RegistryDown {})), 1);
    assert_eq!(world.count(0, |e| matches!(e, EventKind::RegistryUp {})), 1);
}

/// A copy of device 0, with its keys, takes the session.
fn resume_elsewhere(world: &mut World) {
    let (key, attempt) = (world.key(0, LinkKind::Peer), Digest::derive("another attempt", &[]));
    let endpoints = Endpoints::default();
    let resume = Request::Resume { attempt, endpoints, serial: 0, epoch: 0 };
    world.registry.handle(&key, resume).expect("resumed");
}

#[test]
fn a_device_whose_hellos_are_not_answered_and_its_copy_do_not_take_the_session_from_each_other_for_ever()
 {
    let mut world = World::new(1);
    world.input(0, Input::Hello(HelloInput::Silent));
    world.pass(300_000);
    assert_eq!(status(&mut world, 0), SessionState::Offline, "it resumes now and then");
    // One of them may have been about to resume: then the other one gives way.
    for _ in 0..3 {
        resume_elsewhere(&mut world);
        world.pass(120_000);
    }
    assert_eq!(status(&mut world, 0), SessionState::Superseded);
}

#[test]
fn a_resume_that_failed_long_ago_excuses_no_newer_session() {
    let mut world = World::new(1);
    world.input(0, Input::Hello(HelloInput::Silent));
    world.pass(90_000);
    world.registry_up = false;
    world.pass(120_000);
    world.registry_up = true;
    let (version, interval_ms) = (0, 2_000);
    world.input(0, Input::Hello(HelloInput::Answered { version, interval_ms }));
    assert_eq!(status(&mut world, 0), SessionState::Online);
    world.pass(300_000);
    resume_elsewhere(&mut world);
    world.input(0, Input::Hello(HelloInput::Nudged { version: u64::MAX }));
    assert_eq!(status(&mut world, 0), SessionState::Superseded);
}

#[test]
fn nobody_asks_a_registry_that_was_away_what_changed_where_hello_says_nothing_did() {
    let mut world = World::new(1);
    world.pass(10_000);
    world.registry_up = false;
    world.input(0, Input::Hello(HelloInput::Silent));
    world.pass(600_000);
    world.registry_up = true;
    let version = world.registry.version(&name("a"));
    let calls = world.peers[0].calls;
    for _ in 0..60 {
        world.input(0, Input::Hello(HelloInput::Answered { version, interval_ms: 1_000 }));
        world.pass(1_000);
    }
    assert_eq!(status(&mut world, 0), SessionState::Online);
    assert_eq!(world.peers[0].calls, calls, "else a million come at once");
}

#[test]
fn a_login_that_fails_on_other_ports_leaves_the_session_reachable_on_them() {
    let mut world = World::new(2);
    world.registry.busy_ms = Some(1);
    let mut params = login("a");
    params["peer_port"] = json!(5_001);
    assert_eq!(world.code(0, "login", params), Code::RateLimited);
    world.registry.busy_ms = None;
    world.pass(30_000);
    assert_eq!(status(&mut world, 0), SessionState::Online);
    match world.verb(1, "search", json!({"username": "a"})).expect("there") {
        Answer::User(user) => {
            assert!(user.addresses.iter().any(|a| a.port() == 5_001), "{user:?}");
        }
        other => panic!("no user: {other:?}"),
    }
}

#[test]
fn wait_tells_when_a_peer_comes_though_the_registry_was_away_when_it_began() {
    let mut world = World::new(2);
    world.verb(0, "policy", json!({"username": "b", "policy": "allow"})).expect("known");
    world.verb(1, "logout", json!({})).expect("logged out");
    world.registry_up = false;
    let params = json!({"for": "peer", "username": "b", "timeout_ms": 120_000});
    let id = world.begin_verb(0, "wait", params);
    world.pass(5_000);
    world.registry_up = true;
    world.pass(30_000);
    world.log_in(1);
    world.pass(1_000);
    assert!(matches!(world.told(0, id), Some(Ok(Answer::User(_)))));
}

#[test]
fn a_session_that_the_registry_ended_is_told_once_and_a_logout_is_not() {
    let mut world = World::new(2);
    let told = |world: &World, i| world.count(i, |e| matches!(e, EventKind::LoggedOut {}));
    world.registry.lose_account(&name("a"));
    assert_eq!(world.code(0, "search", json!({"username": "b"})), Code::NotLoggedIn);
    assert_eq!(status(&mut world, 0), SessionState::LoggedOut);
    world.pass(60_000);
    world.restart(0);
    world.pass(60_000);
    assert_eq!(told(&world, 0), 1);
    world.verb(1, "logout", json!({})).expect("logged out");
    assert_eq!(told(&world, 1), 0);
}

#[test]
fn an_account_that_is_made_twice_is_told_to_be_ones_own() {
    let mut world = World::new(2);
    let made =
        |user: &str| json!({"username": user, "registry": "registry:4700", "password": "password"});
    let again = world.verb(0, "create_account", made("a")).expect_err("it is there");
    assert_eq!(again.code, Code::Conflict);
    assert!(again.message.contains("this profile has the account a"), "{}", again.message);
    let mut new = World::unenrolled(1);
    new.registry = world.registry;
    let taken = new.verb(0, "create_account", made("b")).expect_err("of somebody else");
    assert_eq!(taken.code, Code::Conflict);
    assert!(!taken.message.contains("this profile"), "{}", taken.message);
}

#[test]
fn listeners_that_are_to_share_a_port_are_refused() {
    let mut world = World::new(1);
    let ports = |peer, room| json!({"username": "a", "password": "password", "peer_port": peer, "room_port": room});
    let before = status(&mut world, 0);
    assert_eq!(world.code(0, "login", ports(4701, 4701)), Code::Usage);
    assert_eq!(status(&mut world, 0), before);
    world.verb(0, "login", ports(0, 0)).expect("any two ports");
}

#[test]
fn another_device_supersedes_this_one_durably() {
    let mut world = World::new(2);
    let [peer, room] = [90, 91].map(|n| Keypair::from_secret(&[n; 32]));
    world.registry.rebind(&name("a"), &peer, &room);
    assert_eq!(world.code(0, "search", json!({"username": "b"})), Code::Superseded);
    assert_eq!(status(&mut world, 0), SessionState::Superseded);
    assert_eq!(world.count(0, |e| matches!(e, EventKind::Superseded {})), 1);
    world.restart(0);
    world.pass(60_000);
    assert_eq!(status(&mut world, 0), SessionState::Superseded);
    assert_eq!(world.code(0, "wait", json!({"for": "online"})), Code::Superseded);
}

#[test]
fn another_registry_key_is_a_hard_stop_without_a_storm() {
    let mut world = World::new(2);
    let right = std::mem::replace(&mut world.registry.key, Keypair::from_secret(&[77; 32]));
    let failure = world.verb(0, "search", json!({"username": "b"})).expect_err("another key");
    assert_eq!(failure.code, Code::UntrustedKey);
    let details = failure.details.expect("both keys");
    assert_eq!(details["pinned"], right.public().to_string());
    assert_ne!(details["shown"], details["pinned"]);
    let calls = world.peers[0].calls;
    world.pass(300_000);
    assert_eq!(world.peers[0].calls, calls, "nothing is tried by itself");
    world.registry.key = right;
    world.verb(0, "search", json!({"username": "b"})).expect("the right key again");
    world.pass(20_000);
    assert_eq!(status(&mut world, 0), SessionState::Online);
}

#[test]
fn wait_tells_when_a_peer_comes() {
    let mut world = World::new(2);
    world.verb(1, "logout", json!({})).expect("logged out");
    let params = json!({"for": "peer", "username": "b", "timeout_ms": 60_000});
    let id = world.begin_verb(0, "wait", params);
    world.pass(5_000);
    assert!(world.told(0, id).is_none());
    world.log_in(1);
    world.pass(1_000);
    assert!(matches!(world.told(0, id), Some(Ok(Answer::User(_)))));
    let params = json!({"for": "peer", "username": "nobody", "timeout_ms": 1_000});
    assert_eq!(world.code(0, "wait", params), Code::NotFound);
}

#[test]
fn a_deleted_account_leaves_nothing_behind_and_may_come_again() {
    let mut world = World::new(2);
    let allow = |world: &mut World| {
        for (i, other) in ["b", "a"].iter().enumerate() {
            let policy = json!({"username": other, "policy": "allow"});
            world.verb(i, "policy", policy).expect("policy");
        }
    };
    let send = |to: &str, body: &str| json!({"to": {"user": to}, "body": body});
    allow(&mut world);
    world.verb(0, "policy", json!({"policy": "block"})).expect("policy");
    world.verb(0, "send", send("b", "one")).expect("delivered");
    world.verb(1, "send", send("a", "two")).expect("delivered");
    let room = json!({"room": "den", "access": "open", "history": "joined"});
    world.verb(0, "create_room", room).expect("a room");
    let member = json!({"for": "member", "room": "den", "username": "b"});
    let waits = world.begin_verb(0, "wait", member);
    world.verb(0, "delete_account", json!({"password": "password"})).expect("deleted");
    let told = world.told(0, waits).expect("every command is answered");
    assert_eq!(told.expect_err("no account").code, Code::NotLoggedIn);
    assert!(world.is_bare(0), "nothing of the account is kept");
    for restarts in [false, true] {
        if restarts {
            world.verb(0, "delete_account", json!({"password": "password"})).expect("deleted");
            world.restart(0);
        }
        world.enrol(0);
        world.log_in(0);
        match world.verb(0, "contacts", json!({})).expect("contacts") {
            Answer::Contacts(told) => {
                assert!(told.contacts.is_empty(), "no pin comes back");
                assert_eq!(told.default_policy, peerd_proto::control::PolicyName::Ask);
            }
            other => panic!("no contacts: {other:?}"),
        }
        allow(&mut world);
        world.pass(60_000);
        world.verb(0, "send", send("b", "again")).expect("delivered");
        world.verb(1, "send", send("a", "hello")).expect("delivered");
    }
    assert_eq!(world.shown(1), ["one", "again", "again"]);
}

#[test]
fn a_registry_with_a_lower_version_is_synced_once() {
    let mut world = World::new(1);
    world.pass(1_000);
    let calls = world.peers[0].calls;
    let old = HelloInput::Answered { version: 0, interval_ms: 2_000 };
    world.input(0, Input::Hello(old));
    world.pass(60_000);
    assert_eq!(world.peers[0].calls, calls + 1);
}

#[test]
fn stop_answers_everybody() {
    let mut world = World::new(2);
    let id = world.begin_verb(0, "wait", json!({"for": "member", "room": "x", "username": "b"}));
    assert_eq!(world.told(0, id).expect("told").expect_err("no room").code, Code::NotFound);
    let id = world.begin_verb(0, "send", json!({"to": {"user": "b"}, "body": "x"}));
    world.input(0, Input::Stop);
    assert_eq!(world.told(0, id).expect("told").expect_err("stops").code, Code::PeerdNotRunning);
    assert_eq!(world.code(0, "status", json!({})), Code::PeerdNotRunning);
}

#[test]
fn a_registry_that_was_put_back_learns_by_a_login_what_we_hold() {
    let mut world = World::new(2);
    let a = name("a");
    world.verb(1, "policy", json!({"username": "a", "policy": "allow"})).expect("allowed");
    world.registry.set_counts(&a, 7, 9);
    world.restart(0);
    world.verb(0, "send", json!({"to": {"user": "b"}, "body": "one"})).expect("delivered");
    world.registry.set_counts(&a, 2, 3);
    assert_eq!(session(world.verb(0, "login", login("a"))).0, SessionState::Online);
    world.cut_all(1);
    world.run();
    world.verb(0, "send", json!({"to": {"user": "b"}, "body": "two"})).expect("delivered");
    assert_eq!(world.shown(1), ["one", "two"]);
    assert_eq!(world.count(0, |e| matches!(e, EventKind::Superseded {})), 0);
}

#[test]
fn a_resume_of_a_run_before_supersedes_nobody_but_another_device_does() {
    let mut world = World::new(1);
    let told = |world: &World| world.count(0, |e| matches!(e, EventKind::Superseded {}));
    world.restart(0);
    world.registry.resume_late(&name("a"));
    world.run();
    world.pass(10_000);
    assert_eq!((told(&world), status(&mut world, 0)), (0, SessionState::Online));
    world.registry.resume_late(&name("a"));
    world.run();
    world.pass(10_000);
    assert_eq!((told(&world), status(&mut world, 0)), (1, SessionState::Superseded), "once");
}

#[test]
fn a_device_with_our_key_supersedes_us_long_after_a_start() {
    let mut world = World::new(1);
    world.pass(200_000);
    world.registry.resume_late(&name("a"));
    world.run();
    world.pass(10_000);
    assert_eq!(status(&mut world, 0), SessionState::Superseded);
}
