//! Accounts, login with given ports, search, and the code of each thing that can go wrong.

use std::{net::UdpSocket, time::Duration};

use harness::{DEADLINE, Peer, Registry, eventually, free_udp_ports};
use registryd_proto::Code;
use serde_json::Value;

use crate::online;

fn has_port(addresses: &Value, port: u16) -> bool {
    let addresses = addresses.as_array().expect("a list");
    addresses.iter().any(|a| a.as_str().is_some_and(|a| a.ends_with(&format!(":{port}"))))
}

#[test]
fn users_are_found_online_at_the_ports_they_gave() {
    let registry = Registry::start();
    let alice = Peer::online("alice", &registry);
    let bob = Peer::start("bob");
    let account = bob.create_account(&registry.address()).ok();
    assert_eq!(account["schema"], "p2pctl.account/1");
    assert_eq!(account["username"], "bob");
    assert_eq!(alice.presence_of("bob"), "offline", "an account alone is not presence");

    let [peer_port, room_port] = free_udp_ports();
    let [peer, room] = [peer_port, room_port].map(|p| p.to_string());
    let session = bob.login(&["--peer-port", &peer, "--room-port", &room]).ok();
    assert_eq!(session["schema"], "p2pctl.session/1");
    assert_eq!(session["state"], "online");
    assert_eq!(session["peer_port"], peer_port);
    assert_eq!(session["room_port"], room_port);
    assert!(session["hello_interval_ms"].as_u64().is_some_and(|ms| ms >= 1000), "{session}");

    let found = eventually("bob is online", DEADLINE, || {
        let found = alice.ctl(&["search", "bob"]).ok();
        (found["presence"] == "online").then_some(found)
    });
    assert_eq!(found["schema"], "p2pctl.user/1");
    assert!(has_port(&found["addresses"], peer_port), "{found}");
    assert!(has_port(&found["room_addresses"], room_port), "{found}");
    assert!(found["last_hello_ms_ago"].is_u64(), "{found}");
    assert!(found["key"].as_str().is_some_and(|k| k.len() == 52), "{found}");
}

#[test]
fn wrong_password_and_unknown_user_cannot_be_told_apart() {
    let (registry, [bob]) = online(["bob"]);
    bob.ctl(&["logout"]).ok();
    let wrong = |name: &str| {
        let args = ["login", name, "--registry", &registry.address(), "--password-stdin"];
        let stranger = Peer::start("stranger");
        let output = stranger.ctl_with().args(&args).stdin("not the password\n").run();
        output.failed(Code::BadCredentials)["message"].clone()
    };
    assert_eq!(wrong("bob"), wrong("nobody"), "the same text for both");
}

#[test]
fn a_name_is_taken_once_and_strange_names_never() {
    let (registry, [bob]) = online(["bob"]);
    let other = Peer::start("other");
    let create = |name: &str| {
        let args = ["create-account", name, "--registry", &registry.address(), "--password-stdin"];
        other.ctl_with().args(&args).stdin("another password\n").run()
    };
    create("bob").failed(Code::Conflict);
    for name in ["Bob", "..", "-rf", "a b", "a\nb", "'; drop table account; --", ""] {
        create(name).failed(Code::Usage);
    }
    bob.ctl(&["search", "nobody"]).failed(Code::NotFound);
    create("other").ok();
}

#[test]
fn a_second_login_is_refused_until_it_takes_over() {
    let (registry, [mut first]) = online(["bob"]);
    let second = Peer::start("bob");
    let login = ["--registry", &registry.address()];
    let error = second.login(&login).failed(Code::AlreadyOnline);
    assert_eq!(error["retryable"], true);
    assert_eq!(first.status()["session"], "online", "the refused login changed nothing");

    second.login(&[&login[..], &["--takeover"]].concat()).ok();
    eventually("the first device is superseded", DEADLINE, || {
        first.status()["session"] == "superseded"
    });
    assert_eq!(first.ctl(&["status"]).code, Some(16));
    first.ctl(&["search", "bob"]).failed(Code::Superseded);
    first.kill();
    first.restart();
    assert_eq!(first.status()["session"], "superseded", "no resume by itself");
    assert_eq!(second.status()["session"], "online");
}

#[test]
fn a_taken_port_is_told_before_the_registry_is() {
    let (registry, [alice]) = online(["alice"]);
    let bob = Peer::start("bob");
    bob.create_account(&registry.address()).ok();
    let taken = UdpSocket::bind("0.0.0.0:0").expect("a free port");
    let port = taken.local_addr().expect("bound").port().to_string();
    for option in ["--peer-port", "--room-port"] {
        let error = bob.login(&[option, &port]).failed(Code::Conflict);
        let message = error["message"].as_str().expect("a text");
        assert!(message.contains(&port), "the message names the port: {message}");
        assert_eq!(alice.presence_of("bob"), "offline");
    }
    bob.login(&[]).ok();
}

#[test]
fn logout_is_durable_and_login_ends_it() {
    let (_registry, [alice, mut bob]) = online(["alice", "bob"]);
    assert_eq!(bob.ctl(&["logout"]).ok()["state"], "logged_out");
    assert_eq!(alice.presence_of("bob"), "offline", "at once, not after three intervals");
    bob.ctl(&["search", "alice"]).failed(Code::NotLoggedIn);
    assert!(bob.stop().success());
    bob.restart();
    assert_eq!(bob.status()["session"], "logged_out");
    assert_eq!(bob.ctl(&["status"]).code, Some(4));
    bob.login(&[]).ok();
    eventually("bob is online", DEADLINE, || alice.presence_of("bob") == "online");
}

#[test]
fn a_restarted_peerd_is_back_by_its_key_at_the_same_ports() {
    let (_registry, [alice, mut bob]) = online(["alice", "bob"]);
    let before = bob.status();
    assert!(bob.stop().success(), "SIGTERM is a clean stop");
    assert!(!bob.daemon().log().contains("did not end in time"), "nothing was left running");
    for restart in ["stopped", "killed"] {
        bob.restart();
        bob.wait_online();
        let after = bob.status();
        for field in ["peer_listener", "room_listener", "username", "registry"] {
            assert_eq!(after[field], before[field], "{field}, {restart}");
        }
        eventually("bob is online", DEADLINE, || alice.presence_of("bob") == "online");
        bob.kill();
    }
}

#[test]
fn another_registry_behind_the_pinned_address_is_a_hard_stop() {
    let mut registry = Registry::start();
    let place = registry.socket_address().to_string();
    let alice = Peer::start("alice");
    let account = alice.create_account(&place).ok();
    assert_eq!(account["newly_pinned"], true, "trust on first use is told");
    assert_eq!(account["registry"], registry.address(), "with the key that was pinned");
    alice.login(&[]).ok();
    alice.ctl(&["logout"]).ok();

    registry.kill();
    let _impostor = Registry::start_at(&place);
    alice.login(&[]).failed(Code::UntrustedKey);
}

#[test]
fn a_profile_belongs_to_one_account_for_good() {
    let (registry, [bob]) = online(["bob"]);
    bob.ctl(&["logout"]).ok();
    let args = ["create-account", "robert", "--registry", &registry.address(), "--password-stdin"];
    bob.ctl_with().args(&args).stdin("another password\n").run().failed(Code::Conflict);
}

#[test]
fn a_changed_password_counts_and_a_deleted_name_stays_taken() {
    let (registry, [alice, bob]) = online(["alice", "bob"]);
    let passwords = format!("{}\nanother password\n", harness::PASSWORD);
    bob.ctl_with().args(&["passwd", "--password-stdin"]).stdin(passwords).run().ok();
    bob.ctl(&["logout"]).ok();
    bob.login(&[]).failed(Code::BadCredentials);
    let again = bob.ctl_with().args(&["login", "bob", "--password-stdin"]);
    again.stdin("another password\n").run().ok();

    let delete = bob.ctl_with().args(&["delete-account", "--password-stdin"]);
    delete.stdin("another password\n").run().ok();
    alice.ctl(&["search", "bob"]).failed(Code::NotFound);
    let heir = Peer::start("bob");
    heir.create_account(&registry.address()).failed(Code::Conflict);
}

#[test]
fn two_daemons_for_one_profile_are_one() {
    let (_registry, [mut bob]) = online(["bob"]);
    let pid = bob.daemon().pid().to_string();
    let second = bob.second_daemon();
    assert_eq!(second.code, Some(18), "{second:#?}");
    assert!(second.stderr.contains(&pid), "the second says who runs: {second:#?}");
    assert_eq!(bob.status()["session"], "online", "the first does not notice");
}

#[test]
fn a_stale_socket_does_not_stop_the_next_start() {
    let (_registry, [mut bob]) = online(["bob"]);
    bob.kill();
    assert!(bob.socket().exists(), "kill -9 leaves the socket behind");
    bob.restart();
    bob.wait_online();
}

#[test]
fn a_stop_is_quick() {
    let (mut registry, [mut bob]) = online(["bob"]);
    let start = std::time::Instant::now();
    assert!(bob.stop().success());
    assert!(registry.daemon().stop().success());
    assert!(start.elapsed() < Duration::from_secs(10), "two stops of at most 5 s each");
}
