//! The registry away, restarted, and lied to: chats do not notice, everybody comes back, nobody else does.

use std::{
    net::UdpSocket,
    time::{Duration, Instant},
};

use harness::{DEADLINE, Peer, Proxy, Registry, eventually, never};
use registryd_proto::{Code, hello::DATAGRAM_BYTES};

use crate::{bodies, online};

/// Looking takes time too: a search starts two processes on a busy machine.
const LOOK: Duration = Duration::from_secs(2);

/// Three of the intervals in use.
fn three_intervals(peer: &Peer) -> Duration {
    let ms = peer.status()["hello_interval_ms"].as_u64().expect("online");
    assert!((1000..=10_000).contains(&ms), "short while few are online: {ms} ms");
    3 * Duration::from_millis(ms)
}

#[test]
fn chats_do_not_notice_and_all_are_back_within_three_intervals() {
    let (mut registry, [alice, bob, carol]) = online(["alice", "bob", "carol"]);
    alice.chat_with(&bob);
    let limit = three_intervals(&alice);
    registry.kill();
    for n in 0..3 {
        alice.ctl(&["send", "bob", &format!("without {n}")]).ok();
        bob.ctl(&["send", "alice", &format!("registry {n}")]).ok();
    }
    registry.restart();
    let start = Instant::now();
    for (looks, at) in [(&alice, "bob"), (&bob, "alice"), (&alice, "carol")] {
        eventually(&format!("{at} is online"), limit + LOOK, || looks.presence_of(at) == "online");
    }
    assert!(start.elapsed() < limit + LOOK, "{:?}", start.elapsed());
    carol.wait_online();
    let told = bob.listen(&["--after", "0"]).events();
    assert!(!told.iter().any(|e| e["type"] == "chat_interrupted"), "{told:?}");
    assert_eq!(alice.history(&["bob"]).len(), 6);
    assert!(!registry.daemon().log().contains("login"), "nobody logs in again after a restart");
}

#[test]
fn a_killed_user_is_offline_within_three_intervals() {
    let (_registry, [alice, mut bob]) = online(["alice", "bob"]);
    eventually("bob is online", DEADLINE, || alice.presence_of("bob") == "online");
    let limit = three_intervals(&bob);
    bob.kill();
    eventually("bob is offline", limit + LOOK, || alice.presence_of("bob") == "offline");
}

#[test]
fn a_user_killed_while_the_registry_was_away_is_offline_as_soon() {
    let (mut registry, [alice, mut bob]) = online(["alice", "bob"]);
    eventually("bob is online", DEADLINE, || alice.presence_of("bob") == "online");
    let limit = three_intervals(&bob);
    registry.kill();
    bob.kill();
    registry.restart();
    alice.wait_online();
    eventually("bob is offline", limit + LOOK, || alice.presence_of("bob") == "offline");
    never("bob is back", limit, || alice.presence_of("bob") == "online");
}

#[test]
fn replayed_hellos_change_nothing_before_and_after_a_restart() {
    let mut registry = Registry::start();
    let proxy = Proxy::start(&registry);
    let alice = Peer::online("alice", &registry);
    let mut bob = Peer::start("bob");
    bob.create_account(proxy.address()).ok();
    bob.login(&[]).ok();
    eventually("bob's HELLOs are captured", DEADLINE, || proxy.hellos().len() >= 3);
    eventually("bob is online", DEADLINE, || alice.presence_of("bob") == "online");
    bob.kill();
    eventually("bob is offline", DEADLINE, || alice.presence_of("bob") == "offline");

    let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    socket.set_nonblocking(true).expect("a socket of ours");
    let replay = || {
        for datagram in proxy.hellos() {
            socket.send_to(&datagram, registry.socket_address()).expect("loopback");
        }
    };
    replay();
    never("a replay brings bob back", Duration::from_secs(2), || {
        alice.presence_of("bob") == "online"
    });
    registry.restart();
    alice.wait_online();
    for datagram in proxy.hellos() {
        socket.send_to(&datagram, registry.socket_address()).expect("loopback");
    }
    never("a replay after the restart brings bob back", Duration::from_secs(3), || {
        alice.presence_of("bob") == "online"
    });
    bob.restart();
    eventually("bob's own return does", DEADLINE, || alice.presence_of("bob") == "online");
}

#[test]
fn the_hello_port_never_sends_more_than_it_gets() {
    let registry = Registry::start();
    let proxy = Proxy::start(&registry);
    let bob = Peer::start("bob");
    bob.create_account(proxy.address()).ok();
    bob.login(&[]).ok();
    eventually("a HELLO is captured", DEADLINE, || !proxy.hellos().is_empty());
    let hello = proxy.hellos()[0].clone();
    assert_eq!(hello.len(), DATAGRAM_BYTES);

    let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    socket.set_read_timeout(Some(Duration::from_millis(500))).expect("not zero");
    let (mut sent, mut got) = (0, 0);
    for size in (1..200).chain([508, 1200, 1472]) {
        let mut junk = hello.repeat(size / hello.len() + 1);
        junk.truncate(size);
        sent += socket.send_to(&junk, registry.socket_address()).expect("loopback");
    }
    let mut buffer = [0; 2048];
    while let Ok((count, _)) = socket.recv_from(&mut buffer) {
        got += count;
    }
    assert!(got <= sent, "{got} bytes out for {sent} bytes in");
    bob.wait_online();
}

#[test]
fn known_peers_chat_on_though_one_restarts_without_the_registry() {
    let (mut registry, [alice, mut bob]) = online(["alice", "bob"]);
    for (who, whom) in [(&alice, "bob"), (&bob, "alice")] {
        who.allow(whom);
    }
    alice.ctl(&["send", "bob", "first contact"]).ok();
    registry.kill();
    bob.kill();
    bob.restart();
    alice.ctl(&["send", "bob", "by cached card and address", "--timeout", "60s"]).ok();
    assert_eq!(bodies(&bob.history(&["alice"])).len(), 2);
    let start = Instant::now();
    alice.ctl(&["search", "bob"]).failed(Code::RegistryUnreachable);
    assert!(start.elapsed() < Duration::from_secs(15), "search fails fast");
    registry.restart();
    bob.wait_online();
}

#[test]
fn a_cut_way_to_the_registry_is_told_and_heals() {
    let registry = Registry::start();
    let proxy = Proxy::start(&registry);
    let bob = Peer::start("bob");
    bob.create_account(proxy.address()).ok();
    bob.login(&[]).ok();
    proxy.set_open(false);
    let events = bob.listen(&["--after", "0"]);
    events.wait_for_type("registry_down");
    eventually("status tells it", DEADLINE, || bob.ctl(&["status"]).code == Some(5));
    proxy.set_open(true);
    let down = events.events().len();
    eventually("the way back is told", DEADLINE, || {
        events.events()[down - 1..].iter().any(|e| e["type"] == "registry_up")
    });
    eventually("status is healthy", DEADLINE, || bob.ctl(&["status"]).code == Some(0));
}
