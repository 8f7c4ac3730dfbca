//! Garbage, half frames and giant frames on every port and on the local socket: a clear error or silence,
//! all else goes on, memory stays bounded.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream, UdpSocket},
    os::unix::fs::PermissionsExt,
    time::{Duration, Instant},
};

use harness::{Ctl, DEADLINE, Peer, RegistryClient, binaries, eventually, running_as_root};
use peerd_proto::control::{LINE_BYTES_MAX, Status};
use registryd_proto::{Answer, Code, Keypair, Request};
use serde_json::Value;

use crate::{friends, online};

/// What a daemon may grow by while it is attacked.
const GROWTH_MAX_BYTES: u64 = 48 << 20;

/// Bytes that look random, the same in each run.
fn noise(seed: u64, count: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..count).map(|_| next()).collect()
}

fn tcp(place: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(place).expect("the registry listens");
    stream.set_read_timeout(Some(DEADLINE)).expect("not zero");
    stream
}

/// Reads to the end of the connection; whatever came is small.
fn drain(mut stream: TcpStream) {
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Ok(_) => assert!(answer.len() < 4096, "{} bytes for garbage", answer.len()),
        Err(e) => {
            assert_ne!(e.kind(), std::io::ErrorKind::WouldBlock, "neither answered nor closed")
        }
    }
}

#[test]
fn garbage_instead_of_tls_is_dropped() {
    let (mut registry, [bob]) = online(["bob"]);
    let before = registry.daemon().resident_bytes();
    let place = registry.socket_address();
    for seed in 0..50 {
        let mut stream = tcp(place);
        let _ = stream.write_all(&noise(seed, 1 + 997 * usize::try_from(seed).expect("small")));
        let _ = stream.shutdown(std::net::Shutdown::Write);
        drain(stream);
    }
    // The head of a TLS record that promises more than comes, held open by the others.
    let half: Vec<TcpStream> = (0..200)
        .map(|_| {
            let mut stream = tcp(place);
            let _ = stream.write_all(&[0x16, 0x03, 0x01, 0x40, 0x00, 0x01]);
            stream
        })
        .collect();
    bob.ctl(&["search", "bob"]).ok();
    drop(half);
    let grown = registry.daemon().resident_bytes().saturating_sub(before);
    assert!(grown < GROWTH_MAX_BYTES, "{grown} bytes more");
}

#[test]
fn hostile_frames_over_tls_are_refused() {
    let (mut registry, [bob]) = online(["bob"]);
    let before = registry.daemon().resident_bytes();
    let (place, key) = (registry.socket_address(), registry.key());
    let connect = || {
        let keys = Keypair::generate().expect("randomness");
        RegistryClient::connect(place, key, &keys)
    };
    let mut giant = connect();
    giant.write(&u32::MAX.to_be_bytes()).expect("the handshake works");
    let _ = giant.write(&noise(1, 64 * 1024));
    while let Ok(answer) = giant.read_frame() {
        let answer: Answer = serde_json::from_slice(&answer).expect("JSON");
        assert!(matches!(answer, Answer::Error(_)), "{answer:?}");
    }
    let deep = "[".repeat(10_000).into_bytes();
    let cases: [&[u8]; 7] =
        [b"", b"{", b"null", &deep, br#"{"request":"no_such"}"#, &[0xff, 0xfe], b"{\"request\":7}"];
    for body in cases {
        let mut client = connect();
        client.write_frame(body).expect("the handshake works");
        // An error or a closed connection, never anything else.
        if let Ok(answer) = client.read_frame() {
            let answer: Answer = serde_json::from_slice(&answer).expect("JSON");
            let Answer::Error(failure) = answer else { panic!("{answer:?}") };
            assert_eq!(failure.code, Code::Usage, "{failure:?}");
        }
    }
    let mut half = connect();
    half.write(&[0, 0, 0, 100, b'{']).expect("the handshake works");
    let stranger = connect().ask(&Request::ListRooms);
    assert!(matches!(stranger, Answer::Error(f) if f.code == Code::NotLoggedIn));
    bob.ctl(&["search", "bob"]).ok();
    let grown = registry.daemon().resident_bytes().saturating_sub(before);
    assert!(grown < GROWTH_MAX_BYTES, "{grown} bytes more");
}

/// Datagrams of all sizes at a UDP port.
fn flood(place: SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    for n in 0..10_000_u64 {
        let size = usize::try_from(n % 1473).expect("small");
        // A full buffer on loopback is the kernel's way to drop.
        let _ = socket.send_to(&noise(n, size), place);
    }
}

#[test]
fn garbage_at_the_hello_port_is_dropped() {
    let (mut registry, [alice, bob]) = online(["alice", "bob"]);
    let before = registry.daemon().resident_bytes();
    flood(registry.socket_address());
    alice.ctl(&["search", "bob"]).ok();
    eventually("bob stays online", DEADLINE, || alice.presence_of("bob") == "online");
    bob.wait_online();
    let grown = registry.daemon().resident_bytes().saturating_sub(before);
    assert!(grown < GROWTH_MAX_BYTES, "{grown} bytes more");
}

#[test]
fn garbage_at_the_listeners_is_dropped() {
    let (_registry, [alice, mut bob]) = friends(["alice", "bob"]);
    alice.ctl(&["send", "bob", "before"]).ok();
    let before = bob.daemon().resident_bytes();
    let status = bob.status();
    for listener in ["peer_listener", "room_listener"] {
        let address = status[listener].as_str().expect("an address");
        let port = address.rsplit_once(':').expect("with a port").1.parse().expect("a number");
        flood(SocketAddr::from(([127, 0, 0, 1], port)));
    }
    alice.ctl(&["send", "bob", "after"]).ok();
    assert_eq!(crate::bodies(&bob.history(&["alice"])), ["before", "after"]);
    let grown = bob.daemon().resident_bytes().saturating_sub(before);
    assert!(grown < GROWTH_MAX_BYTES, "{grown} bytes more");
}

#[test]
fn hostile_lines_on_the_local_socket_are_answered_or_cut() {
    let (_registry, [mut bob]) = online(["bob"]);
    let before = bob.daemon().resident_bytes();
    let deep = "[".repeat(100_000);
    let cases: [(&[u8], i64); 7] = [
        (b"garbage", -32700),
        (b"{", -32700),
        (b"\xff\xfe", -32700),
        (deep.as_bytes(), -32700),
        (b"{}", -32600),
        (br#"{"jsonrpc":"2.0","id":7,"method":"no_such","params":{}}"#, -32601),
        (br#"{"jsonrpc":"2.0","id":7,"method":"search","params":{"username":"A B"}}"#, -32602),
    ];
    for (line, code) in cases {
        let mut rpc = bob.rpc();
        rpc.write(&[line, b"\n"].concat()).expect("peerd reads");
        let answer = rpc.read().expect("peerd answers");
        let shown = String::from_utf8_lossy(&line[..line.len().min(60)]);
        assert_eq!(answer["error"]["code"], code, "{shown}: {answer}");
        assert_eq!(answer["error"]["data"]["code"], "usage", "{shown}: {answer}");
        assert!(rpc.call(Status {})["result"].is_object(), "the connection still serves");
    }
    for _ in 0..3 {
        let mut rpc = bob.rpc();
        let flood = vec![b'x'; 1 << 20];
        for _ in 0..64 {
            if rpc.write(&flood).is_err() {
                break;
            }
        }
        // One answer at most, then the end.
        let answers = std::iter::from_fn(|| rpc.read()).take(3).count();
        assert!(answers <= 1, "{answers}");
    }
    let mut half = bob.rpc();
    half.write(br#"{"jsonrpc":"2.0","id":1,"meth"#).expect("peerd reads");
    let longest = vec![b' '; LINE_BYTES_MAX - 200];
    let mut rpc = bob.rpc();
    rpc.write(&longest).expect("peerd reads");
    assert!(rpc.call(Status {})["result"].is_object(), "a long line within the limit is served");
    drop(half);
    assert_eq!(bob.ctl(&["status"]).code, Some(0));
    let grown = bob.daemon().resident_bytes().saturating_sub(before);
    assert!(grown < GROWTH_MAX_BYTES, "{grown} bytes more");
}

#[test]
fn many_idle_clients_keep_nobody_out() {
    let (_registry, [mut bob]) = online(["bob"]);
    let before = bob.daemon().resident_bytes();
    let clients: Vec<_> = (0..50).map(|_| bob.rpc()).collect();
    assert_eq!(bob.ctl(&["status"]).code, Some(0));
    drop(clients);
    let grown = bob.daemon().resident_bytes().saturating_sub(before);
    assert!(grown < GROWTH_MAX_BYTES, "{grown} bytes more");
}

#[test]
fn requests_on_one_connection_each_get_one_answer() {
    let (_registry, [bob]) = online(["bob"]);
    let mut rpc = bob.rpc();
    let mut ids: Vec<u64> = (0..100).map(|_| rpc.send(Status {})).collect();
    while !ids.is_empty() {
        let line = rpc.read().expect("an answer for each");
        let id = line["id"].as_u64().expect("the id of a request");
        let at = ids.iter().position(|i| *i == id).expect("one that is open");
        ids.swap_remove(at);
    }
}

#[test]
fn another_user_of_the_machine_gets_nothing() {
    let (_registry, [mut bob]) = online(["bob"]);
    let socket = bob.socket();
    let mode = |path: &std::path::Path| {
        std::fs::metadata(path).expect("it is there").permissions().mode() & 0o777
    };
    assert_eq!(mode(&socket), 0o600);
    assert_eq!(mode(socket.parent().expect("a folder")), 0o700);
    assert_eq!(mode(&bob.data()), 0o700);
    for entry in std::fs::read_dir(bob.data()).expect("our own folder") {
        let path = entry.expect("an entry").path();
        assert_eq!(mode(&path) & 0o077, 0, "{}", path.display());
    }
    if running_as_root() {
        second_user_tries(&mut bob);
    }
}

/// Opens every folder on the way and the socket itself: the check of the uid still stands.
fn second_user_tries(bob: &mut Peer) {
    const NOBODY: u32 = 65534;
    let socket = bob.socket();
    let shared = tempfile::tempdir().expect("a temporary folder");
    let program = shared.path().join("p2pctl");
    std::fs::copy(&binaries().p2pctl, &program).expect("a copy that nobody can run");
    let open = |path: &std::path::Path| {
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o777)).expect("we are root");
    };
    open(shared.path());
    open(&program);
    let status = || {
        let mut command = std::process::Command::new(&program);
        std::os::unix::process::CommandExt::uid(&mut command, NOBODY);
        std::os::unix::process::CommandExt::gid(&mut command, NOBODY);
        command.env_clear().current_dir("/").arg("--socket").arg(&socket);
        Ctl::of(command).args(&["--json", "status"]).run()
    };
    status().failed(Code::Blocked);
    open(&socket);
    for folder in socket.ancestors().skip(1).take_while(|f| f.starts_with(bob.home())) {
        open(folder);
    }
    let output = status();
    assert_ne!(output.code, Some(0), "{output:#?}");
    assert_eq!(output.stdout, "", "{output:#?}");
    assert!(!output.stderr.contains(&Value::from("bob").to_string()), "{output:#?}");
}

#[test]
fn a_slow_client_does_not_hold_the_registry_up() {
    let (registry, [bob]) = online(["bob"]);
    let slow: Vec<TcpStream> = (0..100).map(|_| tcp(registry.socket_address())).collect();
    let start = Instant::now();
    bob.ctl(&["search", "bob"]).ok();
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    drop(slow);
}
