//! Out of file descriptors or memory: new work is refused, what is there goes on.

use std::{io::Write as _, net::TcpStream, os::unix::net::UnixStream, time::Duration};

use harness::{
    DEADLINE, Daemon, RegistryClient, Rpc, bare, binaries, descriptor_limits, eventually, never,
};
use peerd_proto::control::{Send, Status, Target, WaitUntil};
use registryd_proto::Keypair;

use crate::people::{friends, online};

/// Enough for what a daemon holds with a session and a chat, and for a few clients.
const DESCRIPTORS: u64 = 64;

/// More clients than that.
const CROWD: usize = 120;

/// What a daemon may grow by while it is flooded.
const GROWTH_MAX_BYTES: u64 = 64 << 20;

fn send(to: &str, body: &str) -> Send {
    Send {
        to: Target::User(to.parse().expect("a name")),
        body: body.to_owned(),
        wait: WaitUntil::Delivered,
        timeout_ms: Some(20_000),
        id: None,
        expires_ms: None,
    }
}

#[track_caller]
fn assert_delivered(rpc: &mut Rpc, to: &str, body: &str) {
    let answer = rpc.call(send(to, body));
    assert_eq!(answer["result"]["state"], "delivered", "{answer}");
}

/// Row 16: clients beyond what the descriptors allow wait or are turned away; who is in goes on, chat and
/// session too; when clients go, others come in, without a restart.
#[test]
fn a_peerd_out_of_descriptors_keeps_its_session_and_its_chat() {
    let (_registry, [alice, mut bob]) = friends(["alice", "bob"]);
    alice.chat_with(&bob);
    let mut inside = bob.rpc();
    assert_delivered(&mut inside, "alice", "before");
    bob.daemon().limit_descriptors(DESCRIPTORS);
    let crowd: Vec<Rpc> = (0..CROWD).map(|_| bob.rpc()).collect();
    eventually("it is out of descriptors", DEADLINE, || {
        bob.daemon().log().contains("a client cannot be accepted")
    });
    for n in 0..5 {
        assert_delivered(&mut inside, "alice", &format!("meanwhile {n}"));
        alice.ctl(&["send", "bob", &format!("and back {n}")]).ok();
    }
    assert_eq!(inside.call(Status {})["result"]["session"], "online");
    never("alice sees bob go", Duration::from_secs(4), || alice.presence_of("bob") != "online");
    assert!(bob.daemon().is_running());
    drop(crowd);
    eventually("new clients are served again", DEADLINE, || {
        bob.ctl_with().args(&["status", "--timeout", "5s"]).run().code == Some(0)
    });
    assert_eq!(alice.history(&["bob"]).len(), 11, "nothing lost, nothing twice");
    assert_eq!(alice.history(&["bob"]), bob.history(&["alice"]));
    let events = alice.listen(&["--after", "0"]);
    events.wait_for_body("meanwhile 4");
    assert!(!events.events().iter().any(|e| e["type"] == "chat_interrupted"));
}

/// Row 16: the same of the registry: HELLO needs no descriptor, so everybody stays online.
#[test]
fn a_registry_out_of_descriptors_keeps_everybody_online() {
    let (mut registry, [alice, bob]) = online(["alice", "bob"]);
    eventually("bob is online", DEADLINE, || alice.presence_of("bob") == "online");
    let keys = Keypair::generate().expect("the system has randomness");
    let (place, key) = (registry.socket_address(), registry.key());
    let mut inside = RegistryClient::connect(place, key, &keys);
    inside.write_frame(b"{}").expect("the handshake works");
    registry.daemon().limit_descriptors(DESCRIPTORS);
    let crowd: Vec<TcpStream> =
        (0..CROWD).map(|_| TcpStream::connect(place).expect("the kernel takes them")).collect();
    eventually("it is out of descriptors", DEADLINE, || {
        registry.daemon().log().contains("a connection was not accepted")
    });
    let interval = bob.status()["hello_interval_ms"].as_u64().expect("online");
    never("somebody is offline", Duration::from_millis(4 * interval), || {
        [&alice, &bob].iter().any(|p| p.status()["session"] != "online")
    });
    assert!(registry.daemon().is_running());
    drop(crowd);
    eventually("requests are served again", DEADLINE, || {
        alice.ctl(&["search", "bob", "--timeout", "5s"]).code == Some(0)
    });
    assert_eq!(alice.presence_of("bob"), "online");
    let log = registry.daemon().log();
    assert_eq!(log.matches("logged in").count(), 2, "nobody had to log in again");
}

/// Row 16: a daemon takes what the administrator allows, not what the shell it was started from has.
#[test]
fn daemons_raise_their_soft_limit_of_descriptors() {
    let home = tempfile::tempdir().expect("a temporary folder");
    let limited = |program: &std::path::Path| {
        let mut command = bare(std::path::Path::new("sh"), home.path());
        command.args(["-c", "ulimit -S -n 200; exec \"$@\"", "sh"]).arg(program);
        command.arg("--ready-json").arg("--data-dir");
        command
    };
    let mut registry = limited(&binaries().registryd);
    registry.arg(home.path().join("registry")).args(["--listen", "127.0.0.1:0"]);
    let mut peer = limited(&binaries().peerd);
    peer.arg(home.path().join("peer")).arg("--socket").arg(home.path().join("run/p.sock"));
    for (name, command) in [("registryd", registry), ("peerd", peer)] {
        let daemon = Daemon::start(name, command, &home.path().join("log"));
        let (soft, hard) = descriptor_limits(daemon.pid());
        assert!(hard > 200, "this machine allows no more than {hard}: nothing to see");
        assert_eq!(soft, hard, "{name}");
    }
}

/// Row 16: memory does not grow with what is asked of a peerd, while the chat goes on.
#[test]
fn a_flood_of_requests_at_a_peerd_stays_within_bounds() {
    let (_registry, [alice, mut bob]) = friends(["alice", "bob"]);
    alice.chat_with(&bob);
    let before = bob.daemon().resident_bytes();
    let mut clients: Vec<UnixStream> =
        (0..40).map(|_| UnixStream::connect(bob.socket()).expect("peerd listens")).collect();
    let mut seen = 0;
    for round in 0..8 {
        // Nobody reads the answers: peerd stops reading from whoever does not.
        for client in &mut clients {
            client.set_nonblocking(true).expect("our own socket");
            let ask = format!(
                "{{\"jsonrpc\":\"2.0\",\"id\":{round},\"method\":\"history\",\"params\":{{\"target\":{{\"user\":\"alice\"}}}}}}\n"
            );
            let _ = client.write_all(ask.repeat(100).as_bytes());
        }
        alice.ctl(&["send", "bob", &format!("round {round}"), "--timeout", "60s"]).ok();
        seen = seen.max(bob.daemon().resident_bytes().saturating_sub(before));
    }
    assert!(seen < GROWTH_MAX_BYTES, "{seen} bytes more");
    drop(clients);
    eventually("clients are served", DEADLINE, || bob.ctl(&["status"]).code == Some(0));
    assert_eq!(bob.history(&["alice"]).len(), 8);
}

/// Row 16: connections and requests at a registry cost it a bounded amount, while it serves.
#[test]
fn a_flood_of_connections_at_a_registry_stays_within_bounds() {
    let (mut registry, [alice, _bob]) = online(["alice", "bob"]);
    let before = registry.daemon().resident_bytes();
    let (place, key) = (registry.socket_address(), registry.key());
    let mut seen = 0;
    for _ in 0..4 {
        let crowd: Vec<RegistryClient> = (0..150)
            .filter_map(|_| {
                let keys = Keypair::generate().expect("the system has randomness");
                let mut client = RegistryClient::connect(place, key, &keys);
                client.write_frame(br#"{"request":"list_rooms"}"#).ok()?;
                Some(client)
            })
            .collect();
        seen = seen.max(registry.daemon().resident_bytes().saturating_sub(before));
        assert_eq!(alice.presence_of("bob"), "online");
        drop(crowd);
    }
    assert!(seen < GROWTH_MAX_BYTES, "{seen} bytes more");
}
