//! A registry in this process, and peers that talk to it.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use registryd::{Config, HelloConfig, Server};
use registryd_proto::{
    Access, Answer, Code, Digest, Endpoints, Failure, HistoryAccess, KeyBinding, Keypair, Password,
    PresenceState, PublicKey, Reply, Request, RoomView, SessionGrant, SyncReply, UserView,
    Username,
    frame::{self, Kind},
    hello::{HelloClient, Outcome},
    tls,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, UdpSocket},
    time::{Instant, interval, timeout},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

pub(crate) const PATIENCE: Duration = Duration::from_secs(15);
pub(crate) const SECRET: &str = "correct horse battery";

/// The HELLO interval of these tests: a peer is offline 3 s after its last HELLO, which
/// is longer than a loaded machine lets a few requests take.
pub(crate) const INTERVAL_MS: u32 = 1000;

/// A registry with its folder; it can be restarted.
pub(crate) struct Registry {
    pub(crate) folder: TempDir,
    pub(crate) server: Server,
}

impl Registry {
    pub(crate) async fn start() -> Registry {
        let folder = tempfile::tempdir().expect("temporary folder");
        let server = Server::start(config(&folder)).await.expect("started");
        Registry { folder, server }
    }

    pub(crate) async fn start_with(change: impl FnOnce(&mut Config)) -> Registry {
        let folder = tempfile::tempdir().expect("temporary folder");
        let mut config = config(&folder);
        change(&mut config);
        let server = Server::start(config).await.expect("started");
        Registry { folder, server }
    }

    /// Stops and starts again on the same folder and port.
    pub(crate) async fn restart(self) -> Registry {
        self.restart_with(|_| {}).await
    }

    /// The same, with another configuration.
    pub(crate) async fn restart_with(self, change: impl FnOnce(&mut Config)) -> Registry {
        let listen = self.server.local_address().to_string();
        self.server.stop().await;
        let mut config = Config { listen, ..config(&self.folder) };
        change(&mut config);
        let server = Server::start(config).await.expect("started again");
        Registry { folder: self.folder, server }
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.folder.path().join("registry.db")
    }

    pub(crate) fn peer(&self, name: &str, seed: u8) -> Peer {
        Peer {
            name: name.parse().expect("name"),
            keys: Keypair::from_secret(&[seed; 32]),
            room_keys: Keypair::from_secret(&[seed ^ 0x80; 32]),
            registry: self.server.key(),
            address: self.server.local_address(),
        }
    }

    /// A peer with an account and a session.
    pub(crate) async fn member(&self, name: &str, seed: u8) -> Member {
        let peer = self.peer(name, seed);
        let mut link = peer.connect().await;
        link.ask(&peer.create()).await.expect("a free name");
        let grant = link.session(&peer.login(seed)).await;
        Member { peer, link, grant }
    }
}

fn config(folder: &TempDir) -> Config {
    Config {
        data_dir: folder.path().to_owned(),
        listen: "127.0.0.1:0".to_owned(),
        hello: HelloConfig { interval_min_ms: INTERVAL_MS, ..HelloConfig::default() },
        ..Config::default()
    }
}

/// Waits until a registry that was stopped in this process has closed its database, and leaves one file of it:
/// who opens it last and writes takes its log away.
pub(crate) async fn at_rest_in(folder: &Path) {
    let deadline = Instant::now() + PATIENCE;
    while folder.join("registry.db-wal").exists() {
        assert!(Instant::now() < deadline, "the store closes");
        let database = rusqlite::Connection::open(folder.join("registry.db")).expect("a database");
        let checkpoint = "PRAGMA wal_checkpoint(TRUNCATE)";
        let _ = database.query_row(checkpoint, [], |_| Ok(()));
        drop(database);
        tokio::task::yield_now().await;
    }
}

/// A name and its keys.
#[derive(Clone)]
pub(crate) struct Peer {
    pub(crate) name: Username,
    pub(crate) keys: Keypair,
    pub(crate) room_keys: Keypair,
    pub(crate) registry: PublicKey,
    pub(crate) address: SocketAddr,
}

/// A peer that is logged in.
pub(crate) struct Member {
    pub(crate) peer: Peer,
    pub(crate) link: Link,
    pub(crate) grant: SessionGrant,
}

pub(crate) fn password(text: &str) -> Password {
    Password::new(text.to_owned()).expect("length")
}

impl Peer {
    pub(crate) fn binding(&self) -> KeyBinding {
        KeyBinding::new(&self.registry, &self.name, &self.keys, &self.room_keys)
    }

    pub(crate) fn create(&self) -> Request {
        Request::CreateAccount {
            username: self.name.clone(),
            password: password(SECRET),
            binding: self.binding(),
            invite: None,
        }
    }

    pub(crate) fn login(&self, attempt: u8) -> Request {
        self.login_by(SECRET, attempt, false)
    }

    pub(crate) fn login_by(&self, secret: &str, attempt: u8, takeover: bool) -> Request {
        Request::Login {
            username: self.name.clone(),
            password: password(secret),
            binding: self.binding(),
            attempt: Digest([attempt; 32]),
            takeover,
            endpoints: endpoints(),
        }
    }

    pub(crate) async fn connect(&self) -> Link {
        let config = tls::client_config(&self.keys, Some(self.registry)).expect("config");
        let stream = TcpStream::connect(self.address).await.expect("connected");
        let stream = TlsConnector::from(config)
            .connect(tls::server_name(), stream)
            .await
            .expect("handshake");
        Link { stream }
    }
}

pub(crate) fn endpoints() -> Endpoints {
    Endpoints {
        peer: vec!["0.0.0.0:4001".parse().expect("address")],
        room: vec!["[::]:4002".parse().expect("address")],
    }
}

pub(crate) fn resume(attempt: u8) -> Request {
    resume_at(attempt, 0, 0)
}

pub(crate) fn resume_at(attempt: u8, serial: u64, epoch: u64) -> Request {
    Request::Resume { attempt: Digest([attempt; 32]), endpoints: endpoints(), serial, epoch }
}

/// A connection.
pub(crate) struct Link {
    pub(crate) stream: TlsStream<TcpStream>,
}

impl Link {
    /// The bytes of the answer.
    pub(crate) async fn raw(&mut self, json: &[u8]) -> Vec<u8> {
        let length = u32::try_from(json.len()).expect("small").to_be_bytes();
        self.stream.write_all(&[&length, json].concat()).await.expect("written");
        self.stream.flush().await.expect("written");
        timeout(PATIENCE, self.reply()).await.expect("an answer in time")
    }

    pub(crate) async fn reply(&mut self) -> Vec<u8> {
        let length = self.stream.read_u32().await.expect("an answer");
        let mut json = vec![0; length as usize];
        self.stream.read_exact(&mut json).await.expect("a whole answer");
        json
    }

    pub(crate) async fn ask(&mut self, request: &Request) -> Result<Reply, Failure> {
        let json = frame::encode(Kind::Request, request).expect("small");
        let answer = self.raw(&json).await;
        match frame::decode(&answer).expect("an answer") {
            Answer::Ok(reply) => Ok(reply),
            Answer::Error(failure) => Err(failure),
        }
    }

    pub(crate) async fn code(&mut self, request: &Request) -> Code {
        self.ask(request).await.expect_err("a refusal").code
    }

    pub(crate) async fn session(&mut self, request: &Request) -> SessionGrant {
        match self.ask(request).await.expect("a session") {
            Reply::Session(grant) => grant,
            other => panic!("expected a session, got {other:?}"),
        }
    }

    pub(crate) async fn user(&mut self, name: &str) -> UserView {
        let request = Request::Search { username: name.parse().expect("name") };
        match self.ask(&request).await.expect("a user") {
            Reply::User(user) => user,
            other => panic!("expected a user, got {other:?}"),
        }
    }

    pub(crate) async fn room(&mut self, request: &Request) -> RoomView {
        match self.ask(request).await.expect("a room") {
            Reply::Room(room) => room,
            other => panic!("expected a room, got {other:?}"),
        }
    }

    /// Makes a room that anybody may join and that shows nothing of before.
    pub(crate) async fn open_room(&mut self, name: &str) -> RoomView {
        let request = Request::CreateRoom {
            room: name.parse().expect("name"),
            access: Access::Open,
            password: None,
            history: HistoryAccess::Joined,
        };
        self.room(&request).await
    }

    pub(crate) async fn sync(&mut self, version: u64) -> SyncReply {
        match self.ask(&Request::Sync { version }).await.expect("a sync") {
            Reply::Sync(sync) => sync,
            other => panic!("expected a sync, got {other:?}"),
        }
    }

    /// Asks until a user's presence is as wanted.
    pub(crate) async fn until(&mut self, name: &str, wanted: PresenceState) {
        let deadline = Instant::now() + PATIENCE;
        // Slower than the limit on searches.
        let mut turns = interval(Duration::from_millis(60));
        while self.user(name).await.presence != wanted {
            assert!(Instant::now() < deadline, "{name} is not {wanted:?} in time");
            turns.tick().await;
        }
    }
}

/// A peer's HELLOs: one at a time, whenever the test wants.
pub(crate) struct Hello {
    pub(crate) client: HelloClient,
    pub(crate) socket: UdpSocket,
}

impl Hello {
    pub(crate) async fn new(grant: &SessionGrant) -> Hello {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("bound");
        socket.connect(("127.0.0.1", grant.hello_port)).await.expect("connected");
        Hello { client: HelloClient::new(grant, 0), socket }
    }

    /// Seals the next HELLO without sending it.
    pub(crate) fn seal(&mut self) -> [u8; 72] {
        let due = self.client.next_due();
        self.client.poll(due).expect("due")
    }

    pub(crate) async fn say(&mut self) -> Outcome {
        let datagram = self.seal();
        self.socket.send(&datagram).await.expect("sent");
        self.hear().await
    }

    pub(crate) async fn hear(&mut self) -> Outcome {
        let mut buffer = [0; 100];
        let heard = timeout(PATIENCE, self.socket.recv(&mut buffer)).await;
        let length = heard.expect("an answer in time").expect("received");
        assert_eq!(length, 72, "an answer has the size of its HELLO");
        self.client.on_datagram(&buffer[..length], self.client.next_due())
    }

    /// Nothing comes back for what was sent before a good HELLO, which is answered.
    pub(crate) async fn silent_but_for_the_next(&mut self) -> Outcome {
        let outcome = self.say().await;
        assert_ne!(outcome, Outcome::Ignored, "something else was answered");
        outcome
    }
}
