//! Thousands of sessions in one thread: accounts written into the registry's database, sessions resumed over
//! TLS as peerd does, and from then on nothing but HELLO.

use std::{
    collections::HashMap,
    net::UdpSocket,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use registryd_proto::{
    Answer, Digest, Endpoints, KeyBinding, Keypair, Reply, Request, SessionGrant, Username,
    hello::{DATAGRAM_BYTES, HelloClient, Outcome, peek},
};
use rusqlite::{Connection, params};

use crate::{registry::Registry, stranger::RegistryClient};

/// How long the thread waits for datagrams before it looks what is due.
const TURN: Duration = Duration::from_millis(2);

/// Datagrams sent before those that came are read: a full buffer of ours would look like a fault of theirs.
const BATCH: usize = 64;

/// Threads that resume sessions.
const RESUMERS: usize = 4;

#[derive(Debug, Default)]
struct Shared {
    gone: AtomicBool,
    /// How many are answered in the registry's current boot, as far as they know.
    online: AtomicUsize,
    /// How often any was told of a restart.
    reboots: AtomicUsize,
    /// HELLOs sent.
    hellos: AtomicUsize,
}

/// The sessions. Dropped, they fall silent.
#[derive(Debug)]
pub struct Swarm {
    shared: Arc<Shared>,
    names: Vec<Username>,
    thread: Option<JoinHandle<()>>,
}

impl Swarm {
    /// Writes `count` accounts into the database of a registry, which is restarted for it, resumes a session
    /// for each, and begins to say HELLO.
    ///
    /// # Panics
    /// If the registry refuses any of it.
    pub fn start(registry: &mut Registry, count: usize) -> Self {
        let users: Vec<(Username, Keypair)> = (0..count)
            .map(|n| {
                let name = format!("swarm{n}").parse().expect("a name");
                (name, Keypair::generate().expect("the system has randomness"))
            })
            .collect();
        assert!(registry.daemon().stop().success(), "the registry stops");
        enrol(registry, &users);
        registry.restart();
        let grants = resume_all(registry, &users);
        let shared = Arc::new(Shared::default());
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        socket.connect(registry.socket_address()).expect("loopback");
        socket.set_read_timeout(Some(TURN)).expect("not zero");
        let driver = Driver::new(socket, &grants, Arc::clone(&shared));
        let thread = thread::spawn(move || driver.run());
        let names = users.into_iter().map(|(name, _)| name).collect();
        Self { shared, names, thread: Some(thread) }
    }

    /// The users' names.
    pub fn names(&self) -> &[Username] {
        &self.names
    }

    /// How many the registry counts as online, as far as they know.
    pub fn online(&self) -> usize {
        self.shared.online.load(Ordering::SeqCst)
    }

    /// How often any of them was told that the registry restarted.
    pub fn reboots(&self) -> usize {
        self.shared.reboots.load(Ordering::SeqCst)
    }

    /// How many HELLOs they have said.
    pub fn hellos(&self) -> usize {
        self.shared.hellos.load(Ordering::SeqCst)
    }
}

impl Drop for Swarm {
    fn drop(&mut self) {
        self.shared.gone.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            // A panic there shows in what the test waits for.
            let _ = thread.join();
        }
    }
}

/// What create-account and login would write, less the passwords: those are not what is tested.
fn enrol(registry: &Registry, users: &[(Username, Keypair)]) {
    let mut database = Connection::open(registry.data().join("registry.db")).expect("stopped");
    let transaction = database.transaction().expect("nobody else writes");
    let endpoints = serde_json::to_string(&Endpoints::default()).expect("endpoints are JSON");
    for (name, keys) in users {
        let room = Keypair::generate().expect("the system has randomness");
        let binding = KeyBinding::new(&registry.key(), name, keys, &room);
        let binding = serde_json::to_string(&binding).expect("a binding is JSON");
        transaction
            .execute(
                "INSERT INTO account (username, password_hash, binding, endpoints, serial, epoch,
                     version, created_ms, deleted) VALUES (?1, '', ?2, ?3, 1, 1, 1, 0, 0)",
                params![name.as_str(), binding, endpoints],
            )
            .expect("the schema of today");
        let id = transaction.last_insert_rowid();
        transaction
            .execute(
                "INSERT INTO peer_key (key, account, current) VALUES (?1, ?2, 1)",
                params![keys.public().as_bytes(), id],
            )
            .expect("the schema of today");
        transaction
            .execute(
                "INSERT INTO session (account, salt, attempt, opened_ms) VALUES (?1, ?2, ?3, 0)",
                params![id, [0_u8; 16], [0_u8; 32]],
            )
            .expect("the schema of today");
    }
    transaction.commit().expect("a disk with room");
}

/// One TLS connection and one `resume` for each.
fn resume_all(registry: &Registry, users: &[(Username, Keypair)]) -> Vec<SessionGrant> {
    let (place, key) = (registry.socket_address(), registry.key());
    let share = users.len().div_ceil(RESUMERS).max(1);
    thread::scope(|scope| {
        let resume = |keys: &Keypair| {
            let request = Request::Resume {
                attempt: Digest([1; 32]),
                endpoints: Endpoints::default(),
                serial: 1,
                epoch: 1,
            };
            match RegistryClient::connect(place, key, keys).ask(&request) {
                Answer::Ok(Reply::Session(grant)) => grant,
                other => panic!("no session: {other:?}"),
            }
        };
        let threads: Vec<_> = users
            .chunks(share)
            .map(|part| scope.spawn(move || part.iter().map(|(_, k)| resume(k)).collect()))
            .collect();
        let results = threads.into_iter().map(|t| t.join().expect("all are resumed"));
        results.collect::<Vec<Vec<SessionGrant>>>().concat()
    })
}

struct Member {
    client: HelloClient,
    online: bool,
}

struct Driver {
    socket: UdpSocket,
    begin: Instant,
    members: Vec<Member>,
    by_session: HashMap<u64, usize>,
    shared: Arc<Shared>,
}

impl Driver {
    fn new(socket: UdpSocket, grants: &[SessionGrant], shared: Arc<Shared>) -> Self {
        let members = grants
            .iter()
            .map(|grant| Member { client: HelloClient::new(grant, 0), online: false })
            .collect();
        let by_session = grants.iter().enumerate().map(|(at, grant)| (grant.session, at)).collect();
        Self { socket, begin: Instant::now(), members, by_session, shared }
    }

    fn run(mut self) {
        while !self.shared.gone.load(Ordering::SeqCst) {
            for at in 0..self.members.len() {
                let now = self.now();
                if let Some(datagram) = self.members[at].client.poll(now) {
                    // While the registry is away loopback says so: the HELLO is lost, as it should be.
                    let _ = self.socket.send(&datagram);
                    self.shared.hellos.fetch_add(1, Ordering::SeqCst);
                }
                if at % BATCH == 0 {
                    self.receive_all();
                }
            }
            self.receive_all();
        }
    }

    fn receive_all(&mut self) {
        let mut buffer = [0; DATAGRAM_BYTES + 1];
        while let Ok(count) = self.socket.recv(&mut buffer) {
            self.receive(&buffer[..count]);
        }
    }

    fn receive(&mut self, datagram: &[u8]) {
        let now = self.now();
        let at = peek(datagram).and_then(|clear| self.by_session.get(&clear.session));
        let Some(member) = at.and_then(|at| self.members.get_mut(*at)) else { return };
        let online = match member.client.on_datagram(datagram, now) {
            Outcome::Answered { .. } => true,
            Outcome::Rebooted => {
                self.shared.reboots.fetch_add(1, Ordering::SeqCst);
                false
            }
            Outcome::Nudged { .. } | Outcome::Ignored => return,
        };
        if std::mem::replace(&mut member.online, online) != online {
            let count = &self.shared.online;
            if online {
                count.fetch_add(1, Ordering::SeqCst);
            } else {
                count.fetch_sub(1, Ordering::SeqCst);
            }
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.begin.elapsed().as_millis()).expect("a test is short")
    }
}
