//! The door against registries made here, which are as wrong as a test wants.

use std::{future::Future, net::SocketAddr, time::Duration};

use futures_util::{SinkExt as _, StreamExt as _};
use registryd_proto::{
    Answer, Card, Code, Failure, KeyBinding, PublicKey, Reply, SessionGrant, Signed,
    frame::{self, Kind},
    hello::{self, HelloKey, SessionKey},
    tls,
};
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpListener, TcpStream, UdpSocket},
    time::{Instant, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::codec::Framed;

use super::*;
use crate::{
    core::input::HelloInput,
    daemon::{Doors, RegistryHandle},
};

/// Nothing here may take longer, not even on a busy machine.
const DEADLINE: Duration = Duration::from_secs(30);

fn keys(seed: u8) -> Keypair {
    Keypair::from_secret(&[seed; 32])
}

/// The door of the peer with key 2, with its inputs in the hands of the test.
struct Peer {
    door: RegistryHandle,
    inputs: mpsc::Receiver<Input>,
}

impl Peer {
    fn start() -> Self {
        let (handle, inputs) = Handle::new();
        let (doors, receivers) = Doors::new();
        tokio::spawn(run(keys(2), handle, receivers.registry));
        Self { door: doors.registry, inputs }
    }

    async fn next(&mut self) -> Input {
        timeout(DEADLINE, self.inputs.recv()).await.expect("an input in time").expect("it runs")
    }

    async fn call(&self, call: u64, registry: &RegistryAddress) {
        let request = Request::ListRooms;
        let registry = registry.clone();
        self.door.send(RegistryCommand::Call { call: CallId(call), registry, request }).await;
    }

    async fn probe(&self, registry: &RegistryAddress) {
        self.door
            .send(RegistryCommand::Probe { call: CallId(0), registry: registry.clone() })
            .await;
    }

    async fn result(&mut self, wanted: u64) -> Result<(PublicKey, Reply), CallFailure> {
        match self.next().await {
            Input::Registry { call, result } if call == CallId(wanted) => result,
            other => panic!("{other:?}"),
        }
    }

    async fn probed(&mut self) -> Result<PublicKey, CallFailure> {
        match self.next().await {
            Input::Probed { result, .. } => result,
            other => panic!("{other:?}"),
        }
    }

    async fn hello(&mut self) -> HelloInput {
        match self.next().await {
            Input::Hello(input) => input,
            other => panic!("{other:?}"),
        }
    }
}

/// A TLS server with key 1 that does `serve` with each connection, one after another.
async fn server<F, S>(serve: S) -> RegistryAddress
where
    S: Fn(TlsStream<TcpStream>) -> F + Send + 'static,
    F: Future<Output = ()> + Send,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("bound").port();
    let acceptor = TlsAcceptor::from(tls::server_config(&keys(1)).expect("config"));
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            if let Ok(stream) = acceptor.accept(tcp).await {
                serve(stream).await;
            }
        }
    });
    format!("localhost:{port}").parse().expect("an address")
}

/// Answers requests until the client leaves; each connection begins to count anew.
async fn honest(stream: TlsStream<TcpStream>) {
    let key = tls::remote_key(stream.get_ref().1).expect("a key");
    assert_eq!(key, keys(2).public(), "the client proves the peer key");
    let mut stream = Framed::new(stream, Kind::Request.codec());
    let mut asked = 0;
    while let Some(Ok(frame)) = stream.next().await {
        assert_eq!(frame::decode::<Request>(&frame).expect("a request"), Request::ListRooms);
        asked += 1;
        let answer = match asked % 2 {
            1 => Answer::Ok(Reply::Done),
            _ => Answer::Error(Failure::new(Code::NotFound, asked.to_string())),
        };
        let json = frame::encode(Kind::Reply, &answer).expect("small");
        if stream.send(json).await.is_err() {
            return;
        }
    }
}

fn not_found(message: &str) -> Result<(PublicKey, Reply), CallFailure> {
    Err(CallFailure::Failed(Failure::new(Code::NotFound, message)))
}

fn done() -> Result<(PublicKey, Reply), CallFailure> {
    Ok((keys(1).public(), Reply::Done))
}

#[tokio::test]
async fn calls_share_a_connection_that_is_closed_when_idle() {
    let (closed, mut closings) = mpsc::channel(1);
    let registry = server(move |stream| {
        let closed = closed.clone();
        async move {
            honest(stream).await;
            closed.send(Instant::now()).await.expect("awaited");
        }
    })
    .await;
    let mut peer = Peer::start();
    peer.call(1, &registry).await;
    assert_eq!(peer.result(1).await, done());
    for call in 2..=30 {
        peer.call(call, &registry).await;
    }
    for call in 2..=30 {
        let wanted = if call % 2 == 1 { done() } else { not_found(&call.to_string()) };
        assert_eq!(peer.result(call).await, wanted, "answers of one connection, in order");
    }
    timeout(DEADLINE, closings.recv()).await.expect("closed when idle").expect("runs");
    peer.call(31, &registry).await;
    assert_eq!(peer.result(31).await, done(), "a new connection");
}

#[tokio::test]
async fn the_pinned_key_is_the_only_one_taken() {
    let registry = server(honest).await;
    let mut peer = Peer::start();
    peer.probe(&registry).await;
    assert_eq!(peer.probed().await, Ok(keys(1).public()), "trust on first use");
    let pinned = registry.with_key(keys(1).public());
    peer.call(1, &pinned).await;
    assert_eq!(peer.result(1).await, done());
    let other = registry.with_key(keys(9).public());
    let wrong = CallFailure::WrongKey { shown: keys(1).public() };
    peer.call(2, &other).await;
    assert_eq!(peer.result(2).await, Err(wrong.clone()));
    peer.probe(&other).await;
    assert_eq!(peer.probed().await, Err(wrong));
}

#[tokio::test]
async fn half_replies_garbage_and_closed_doors_are_unreachable() {
    for reply in [&b"\0\0\0\x20{\"ok\":"[..], b"\0\0\0\x02{}", b"\xff\xff\xff\xff", b""] {
        let registry = server(move |mut stream| async move {
            // The client may be gone before it is all written.
            let _ = stream.write_all(reply).await;
            let _ = stream.shutdown().await;
        })
        .await;
        let mut peer = Peer::start();
        for call in 1..=3 {
            peer.call(call, &registry).await;
        }
        for call in 1..=3 {
            assert_eq!(peer.result(call).await, Err(CallFailure::Unreachable));
        }
    }
}

#[tokio::test]
async fn no_registry_holds_up_no_other() {
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let hangs = silent.local_addr().expect("bound");
    let refuses: RegistryAddress = "127.0.0.1:1".parse().expect("an address");
    let nowhere: RegistryAddress = "no-such-host.invalid:4700".parse().expect("an address");
    let hangs: RegistryAddress = hangs.to_string().parse().expect("an address");
    let works = server(honest).await;
    let mut peer = Peer::start();
    peer.call(1, &hangs).await;
    peer.call(2, &works).await;
    assert_eq!(peer.result(2).await, done());
    peer.call(3, &refuses).await;
    assert_eq!(peer.result(3).await, Err(CallFailure::Unreachable));
    peer.call(4, &nowhere).await;
    for _ in 0..2 {
        let Input::Registry { call, result } = peer.next().await else { panic!("a result") };
        assert!(matches!(call, CallId(1 | 4)), "{call:?}");
        assert_eq!(result, Err(CallFailure::Unreachable));
    }
}

#[tokio::test]
async fn too_many_calls_are_refused_and_the_others_answered() {
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = silent.local_addr().expect("bound").to_string();
    let registry: RegistryAddress = address.parse().expect("an address");
    let mut peer = Peer::start();
    let calls = u64::try_from(CALLS_MAX).expect("few") + 10;
    for call in 0..calls {
        peer.call(call, &registry).await;
    }
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..calls {
        let Input::Registry { call, result } = peer.next().await else { panic!("a result") };
        assert_eq!(result, Err(CallFailure::Unreachable));
        assert!(seen.insert(call), "answered once");
    }
}

const SESSION_KEY: [u8; 32] = [7; 32];

fn grant(hello_port: u16, boot: u64) -> Box<SessionGrant> {
    let [registry, peer, room] = [1, 2, 3].map(keys);
    let username: registryd_proto::Username = "bob".parse().expect("a name");
    let binding = KeyBinding::new(&registry.public(), &username, &peer, &room);
    let card = Card { username: username.clone(), binding, serial: 1, issued_ms: 0, expires_ms: 1 };
    Box::new(SessionGrant {
        username,
        session: 5,
        epoch: 6,
        key: SessionKey::from_bytes(SESSION_KEY),
        hello_port,
        interval_ms: 200,
        boot,
        card: Signed::seal(&card, &registry),
        version: 0,
        server_time_ms: 0,
        observed: [127, 0, 0, 1].into(),
    })
}

/// The registry's end of HELLO.
struct Responder {
    socket: UdpSocket,
    boot: u64,
    counter: u64,
}

impl Responder {
    async fn start(at: &str) -> Self {
        let socket = UdpSocket::bind(at).await.expect("a port");
        Self { socket, boot: 100, counter: 0 }
    }

    fn port(&self) -> u16 {
        self.socket.local_addr().expect("bound").port()
    }

    async fn hear(&self) -> (hello::Hello, SocketAddr) {
        let mut buffer = [0; 200];
        let received = timeout(DEADLINE, self.socket.recv_from(&mut buffer)).await;
        let (bytes, from) = received.expect("a HELLO in time").expect("received");
        let key = HelloKey::peer(&SessionKey::from_bytes(SESSION_KEY));
        (hello::Hello::open(&buffer[..bytes], &key).expect("sealed"), from)
    }

    async fn say(&mut self, to: SocketAddr, echo: u64, version: u64) {
        self.counter += 1;
        let answer = hello::Answer {
            session: 5,
            epoch: 6,
            boot: self.boot,
            counter: self.counter,
            echo,
            interval_ms: 300,
            version,
        };
        let key = HelloKey::registry(&SessionKey::from_bytes(SESSION_KEY), self.boot);
        self.socket.send_to(&answer.seal(&key), to).await.expect("sent");
    }
}

async fn start_hello(peer: &Peer, port: u16) {
    let registry = format!("localhost:{port}").parse().expect("an address");
    peer.door.send(RegistryCommand::StartHello { registry, grant: grant(port, 100) }).await;
}

#[tokio::test]
async fn hello_is_said_answered_nudged_and_survives_a_restart_of_the_registry() {
    let mut registry = Responder::start("127.0.0.1:0").await;
    let mut peer = Peer::start();
    start_hello(&peer, registry.port()).await;
    let (hello, from) = registry.hear().await;
    assert_eq!((hello.session, hello.epoch, hello.boot), (5, 6, 100));
    registry.say(from, hello.counter, 3).await;
    assert_eq!(peer.hello().await, HelloInput::Answered { version: 3, interval_ms: 300 });
    registry.say(from, 0, 4).await;
    assert_eq!(peer.hello().await, HelloInput::Nudged { version: 4 });

    registry.boot = 101;
    let (hello, from) = registry.hear().await;
    registry.say(from, hello.counter, 4).await;
    assert_eq!(peer.hello().await, HelloInput::Rebooted);
    let (hello, from) = registry.hear().await;
    assert_eq!(hello.boot, 101, "the new boot is confirmed");
    registry.say(from, hello.counter, 4).await;
    assert_eq!(peer.hello().await, HelloInput::Answered { version: 4, interval_ms: 300 });
}

#[tokio::test]
async fn silence_is_told_once_and_ends_with_an_answer() {
    let mut registry = Responder::start("127.0.0.1:0").await;
    let mut peer = Peer::start();
    start_hello(&peer, registry.port()).await;
    let (_, first) = registry.hear().await;
    registry.socket.send_to(&[0x12; 72], first).await.expect("sent");
    assert_eq!(peer.hello().await, HelloInput::Silent, "garbage is no answer");
    // More silence, until another port of the peer shows that it looked anew.
    let (hello, from) = loop {
        let (hello, from) = registry.hear().await;
        if from != first {
            break (hello, from);
        }
    };
    registry.say(from, hello.counter, 9).await;
    assert_eq!(peer.hello().await, HelloInput::Answered { version: 9, interval_ms: 300 });
}

#[tokio::test]
async fn a_registry_that_is_away_is_found_when_it_is_back() {
    let port = Responder::start("127.0.0.1:0").await.port();
    let mut peer = Peer::start();
    start_hello(&peer, port).await;
    assert_eq!(peer.hello().await, HelloInput::Silent);
    let mut registry = Responder::start(&format!("127.0.0.1:{port}")).await;
    let (hello, from) = registry.hear().await;
    registry.say(from, hello.counter, 1).await;
    assert_eq!(peer.hello().await, HelloInput::Answered { version: 1, interval_ms: 300 });
}

#[tokio::test]
async fn hello_stops_when_told() {
    let registry = Responder::start("127.0.0.1:0").await;
    let mut peer = Peer::start();
    start_hello(&peer, registry.port()).await;
    registry.hear().await;
    peer.door.send(RegistryCommand::StopHello).await;
    // The order of commands: when this one is done, HELLO has been told.
    peer.probe(&"127.0.0.1:1".parse().expect("an address")).await;
    assert_eq!(peer.probed().await, Err(CallFailure::Unreachable));
    let mut buffer = [0; 72];
    while registry.socket.try_recv(&mut buffer).is_ok() {}
    let more = timeout(Duration::from_secs(1), registry.socket.recv(&mut buffer)).await;
    assert!(more.is_err(), "five intervals without a HELLO");
}
