//! The failures that earlier programs of this kind fell to. One test for each, by name.
//!
//! Two of the list are shown where the tools for them are: forged sender names by
//! `impostors::a_message_under_anothers_name_is_never_shown` and `nobody_speaks_under_anothers_card`, and a
//! stranger's OK by `impostors::a_strangers_accept_or_confirm_makes_nobody_busy`.

use std::{net::UdpSocket, time::Duration};

use harness::{DEADLINE, Impostor, Peer, Proxy, Registry, RegistryClient, eventually, never};
use peerd_proto::control::Request as ControlRequest;
use registryd_proto::{
    Answer, Code, Keypair, Reply, Request,
    hello::{Hello, HelloKey, SessionKey, peek},
};
use serde_json::json;

use crate::{bodies, friends, online};

#[test]
fn one_bad_datagram_does_not_kill_the_registry() {
    let (registry, [alice, bob]) = online(["alice", "bob"]);
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    for datagram in [&b""[..], b"HELLO", b"\xff\xfe", &[0x11; 72], &[0x12; 72], &[0; 65_000]] {
        socket.send_to(datagram, registry.socket_address()).expect("loopback");
    }
    bob.wait_online();
    eventually("bob stays online", DEADLINE, || alice.presence_of("bob") == "online");
}

#[test]
fn nobody_logs_another_out() {
    let (registry, [alice, bob]) = online(["alice", "bob"]);
    let stranger = Keypair::generate().expect("randomness");
    let mut client = RegistryClient::connect(registry.socket_address(), registry.key(), &stranger);
    let answer = client.ask(&Request::Logout);
    assert!(matches!(answer, Answer::Error(f) if f.code == Code::NotLoggedIn));

    let mut mallory = Impostor::registered("mallory", &registry);
    let named = json!({"request": "logout", "username": "bob"}).to_string();
    mallory.client().write_frame(named.as_bytes()).expect("the registry reads");
    let answer: Answer =
        serde_json::from_slice(&mallory.client().read_frame().expect("an answer")).expect("JSON");
    assert_eq!(answer, Answer::Ok(Reply::Done), "she logged herself out");
    never("bob is offline", Duration::from_secs(1), || alice.presence_of("bob") == "offline");
    assert_eq!(bob.status()["session"], "online");
    assert_eq!(alice.presence_of("mallory"), "offline");
}

#[test]
fn nobody_says_hello_for_another() {
    let registry = Registry::start();
    let proxy = Proxy::start(&registry);
    let alice = Peer::online("alice", &registry);
    let mut bob = Peer::start("bob");
    bob.create_account(proxy.address()).ok();
    bob.login(&[]).ok();
    eventually("a HELLO is captured", DEADLINE, || !proxy.hellos().is_empty());
    bob.kill();
    eventually("bob is offline", DEADLINE, || alice.presence_of("bob") == "offline");

    let seen = peek(proxy.hellos().last().expect("captured")).expect("a HELLO");
    let guessed = HelloKey::peer(&SessionKey::from_bytes([0; 32]));
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    for counter in seen.counter..seen.counter + 50 {
        let (session, epoch, boot) = (seen.session, seen.epoch, seen.boot);
        let forged = Hello { session, epoch, boot, counter, interval_ms: 1000 }.seal(&guessed);
        socket.send_to(&forged, registry.socket_address()).expect("loopback");
    }
    never("a forged HELLO brings bob online", Duration::from_secs(2), || {
        alice.presence_of("bob") == "online"
    });
}

#[test]
fn passwords_are_in_no_database_and_no_log() {
    let (registry, [bob]) = online(["bob"]);
    bob.ctl(&["logout"]).ok();
    let wrong = bob.ctl_with().args(&["login", "bob", "--password-stdin"]);
    wrong.stdin("a-wrong-but-secret-guess\n").run().failed(Code::BadCredentials);
    bob.login(&[]).ok();
    let registry_folder = registry.data();
    let registry_folder = registry_folder.parent().expect("the registry's folder");
    for secret in [harness::PASSWORD, "a-wrong-but-secret-guess"] {
        for folder in [registry_folder, bob.home()] {
            assert!(!crate::secrets::holds(folder, secret.as_bytes()), "{}", folder.display());
        }
    }
}

#[test]
fn requests_in_one_segment_or_in_single_bytes_are_told_apart() {
    let registry = Registry::start();
    let mut mallory = Impostor::registered("mallory", &registry);
    let frame = |name: &str| {
        let body = json!({"request": "search", "username": name}).to_string().into_bytes();
        let length = u32::try_from(body.len()).expect("small").to_be_bytes();
        [&length[..], &body].concat()
    };
    let names = ["mallory", "nobody", "mallory", "nobody", "mallory"];
    let merged: Vec<u8> = names.iter().flat_map(|n| frame(n)).collect();
    let client = mallory.client();
    client.write(&merged).expect("the registry reads");
    let mut found = Vec::new();
    for _ in names {
        found.push(client.read_frame().expect("an answer for each"));
    }
    for byte in frame("mallory") {
        client.write(&[byte]).expect("the registry reads");
    }
    found.push(client.read_frame().expect("an answer"));
    let is_ok = |answer: &Vec<u8>| matches!(serde_json::from_slice(answer), Ok(Answer::Ok(_)));
    let order: Vec<bool> = found.iter().map(is_ok).collect();
    assert_eq!(order, [true, false, true, false, true, true], "each answered, in order");
}

#[test]
fn local_requests_in_one_write_or_in_single_bytes_are_told_apart() {
    let (_registry, [bob]) = online(["bob"]);
    let line = |id: u32| {
        format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"method\":\"status\",\"params\":{{}}}}\n")
    };
    assert!(serde_json::from_str::<ControlRequest>(&line(1)).is_ok());
    let mut rpc = bob.rpc();
    rpc.write([line(1), line(2), line(3)].concat().as_bytes()).expect("peerd reads");
    for byte in line(4).bytes() {
        rpc.write(&[byte]).expect("peerd reads");
    }
    let mut ids: Vec<u64> = (0..4)
        .map(|_| rpc.read().expect("an answer for each")["id"].as_u64().expect("an id"))
        .collect();
    ids.sort_unstable();
    assert_eq!(ids, [1, 2, 3, 4]);
}

#[test]
fn one_that_leaves_does_not_empty_the_room() {
    let (_registry, [ann, ben, cem]) = online(["ann", "ben", "cem"]);
    ann.ctl(&["create-room", "den"]).ok();
    for peer in [&ben, &cem] {
        peer.ctl(&["join-room", "den"]).ok();
    }
    cem.ctl(&["leave-room", "den"]).ok();
    let members = |peer: &Peer| {
        let answer = peer.ctl(&["members", "den"]).ok();
        answer["members"].as_array().expect("a list").len()
    };
    for peer in [&ann, &ben] {
        eventually("two stay", DEADLINE, || members(peer) == 2);
    }
    ann.ctl(&["send", "--room", "den", "we are still here"]).ok();
    assert_eq!(bodies(&ben.history(&["--room", "den"])), ["we are still here"]);
}

#[test]
fn nothing_that_a_peer_writes_is_executed() {
    let (_registry, [alice, bob]) = friends(["alice", "bob"]);
    let witness = bob.home().join("executed");
    let path = witness.to_str().expect("a temporary path");
    let texts = [
        format!("__import__('os').system('touch {path}')"),
        format!("$(touch {path})"),
        format!("`touch {path}`"),
        format!("; touch {path} #"),
        format!(
            "\"}}\n{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"logout\",\"params\":{{}}}}\n{path}"
        ),
        "'); drop table event; --".to_owned(),
        "{\"ok\":{\"reply\":\"done\"}}".to_owned(),
    ];
    for text in &texts {
        alice.ctl(&["send", "bob", text]).ok();
    }
    assert_eq!(bodies(&bob.history(&["alice"])), texts.each_ref().map(String::as_str));
    let search = bob.ctl(&["history", "alice", "--search", "%' OR '1'='1"]);
    assert!(search.ok_lines().is_empty(), "a search text is a text");
    assert_eq!(bob.ctl(&["history", "alice", "--search", "'); drop"]).ok_lines().len(), 1);
    assert!(!witness.exists());
    assert_eq!(bob.status()["session"], "online");
}

#[test]
fn no_field_of_a_request_names_the_sender() {
    let (_registry, [alice, bob]) = friends(["alice", "bob"]);
    let mut rpc = alice.rpc();
    let line = json!({"jsonrpc": "2.0", "id": 1, "method": "send", "params": {
        "to": {"user": "bob"}, "body": "who am I?", "from": "carol", "username": "carol"}});
    rpc.write(format!("{line}\n").as_bytes()).expect("peerd reads");
    let answer = rpc.read().expect("an answer");
    assert_eq!(answer["result"]["state"], "delivered", "{answer}");
    assert_eq!(bob.history(&["alice"]), [("alice".to_owned(), "who am I?".to_owned())]);
}

#[test]
fn a_crash_locks_no_account_as_online() {
    let (_registry, [alice, mut bob]) = online(["alice", "bob"]);
    bob.kill();
    bob.restart();
    bob.wait_online();
    bob.login(&[]).ok();
    bob.kill();
    eventually("bob is offline", DEADLINE, || alice.presence_of("bob") == "offline");
    bob.restart();
    eventually("bob is online", DEADLINE, || alice.presence_of("bob") == "online");
}

#[test]
fn a_crash_of_the_first_device_does_not_lock_the_second_out() {
    let (registry, [alice, mut lost]) = online(["alice", "bob"]);
    lost.kill();
    eventually("bob is offline", DEADLINE, || alice.presence_of("bob") == "offline");
    let new = Peer::start("bob");
    new.login(&["--registry", &registry.address()]).ok();
}
