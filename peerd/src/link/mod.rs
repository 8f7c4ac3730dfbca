//! Links to peers: what the peer listener and the room listener have in common.
//!
//! [`run`] is the links' task. It carries out [`LinksCommand`]s and reports by the daemon's [`Handle`]:
//! a link is reported up once it can carry frames, down exactly once, and nothing in between is lost or
//! reordered. It never decides which of two links of a pair stays, and never waits for the daemon, for the
//! daemon waits for it: tasks of links, dials and listeners report instead.
//!
//! On the dialling side a link is up when the connection is; on the other side when the first bytes came
//! on the stream, which the dialler's `hello` is. So a caller that says nothing is never a link.
//!
//! iroh is named in this module alone.

mod accept;
mod dial;
mod endpoint;
mod queue;
mod stream;
mod task;
#[cfg(test)]
mod tests;

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use futures_util::future::join_all;
use iroh::{Endpoint, endpoint::Connection};
use peerd_proto::wire::{Frame, Goodbye};
use registryd_proto::{Keypair, PublicKey};
use tokio::{
    sync::{Semaphore, mpsc},
    task::JoinSet,
    time::timeout,
};

use self::{
    dial::{DialError, Dialler},
    queue::Queue,
    task::{CloseCode, DRAIN, Established, close},
};
use crate::{
    core::{
        Input, LinkId, LinkKind,
        input::{BindFailure, Listeners},
    },
    daemon::{Handle, LinksCommand},
};

/// Connections of one listener that others opened, and as many that we did, handshakes included: five
/// times the largest room. Counted apart, so that a crowd of callers does not keep us from dialling.
const CONNECTIONS_MAX: usize = 1024;
/// Links of one kind to one key: a restarted peer dials again before the old link is seen to be dead.
const KEY_LINKS_MAX: usize = 4;
/// Dials in flight; more wait. Measured: enough to dial a room of 200 in 0.2 s.
const DIALS_MAX: usize = 64;
/// Dials in flight or waiting: both kinds of a thousand contacts at once fail in part, and are tried again.
const DIALS_WAITING_MAX: usize = 1024;
/// Connections that wait to become links.
const ESTABLISHED_MAX: usize = 64;
/// How long an endpoint may take to tell its peers that it closes.
const ENDPOINT_CLOSE: Duration = Duration::from_secs(1);

/// One of the two listeners: what tells it from the other.
#[derive(Debug)]
pub struct Listener {
    /// Peer or room.
    pub kind: LinkKind,
    /// The protocol that it speaks.
    pub alpn: &'static [u8],
    /// The key that it proves.
    pub keys: Keypair,
}

/// Runs links until the daemon drops its end of `commands`; then closes all, in bounded time.
pub async fn run(
    peer: Listener,
    room: Listener,
    handle: Handle,
    mut commands: mpsc::Receiver<LinksCommand>,
) {
    let (established_sender, mut established) = mpsc::channel(ESTABLISHED_MAX);
    let mut links = Links {
        peer: Arc::new(peer),
        room: Arc::new(room),
        handle,
        established: established_sender,
        dial_slots: Arc::new(Semaphore::new(DIALS_MAX)),
        open: None,
        generation: 0,
        links: HashMap::new(),
        leaving: HashMap::new(),
        last_link: 0,
        dialling: HashSet::new(),
        tasks: JoinSet::new(),
    };
    loop {
        tokio::select! {
            command = commands.recv() => match command {
                Some(command) => links.carry_out(command).await,
                None => break,
            },
            Some(link) = established.recv() => links.add(link),
            Some(done) = links.tasks.join_next() => match done {
                Ok(done) => links.finish(done),
                Err(error) => tracing::error!(%error, "a task of the links failed"),
            },
        }
    }
    links.close_all().await;
    links.tasks.shutdown().await;
}

/// What a task of ours leaves behind.
#[derive(Debug)]
enum Done {
    /// A link is down and reported.
    Link(LinkId),
    /// A dial succeeded.
    Dialled(Box<Established>),
    /// A dial failed and is reported.
    NotDialled(LinkKind, PublicKey),
    /// Something was reported, or a listener ended.
    Nothing,
}

/// Both listeners, open.
#[derive(Debug)]
struct Open {
    peer: Side,
    room: Side,
    bound: Listeners,
}

#[derive(Debug)]
struct Side {
    endpoint: Endpoint,
    accepted: Arc<Semaphore>,
    dialled: Arc<Semaphore>,
}

impl Side {
    fn new(endpoint: Endpoint) -> Self {
        let [accepted, dialled] = [(); 2].map(|()| Arc::new(Semaphore::new(CONNECTIONS_MAX)));
        Self { endpoint, accepted, dialled }
    }
}

#[derive(Debug)]
struct Link {
    kind: LinkKind,
    key: PublicKey,
    connection: Connection,
    queue: Queue,
}

#[derive(Debug)]
struct Links {
    peer: Arc<Listener>,
    room: Arc<Listener>,
    handle: Handle,
    established: mpsc::Sender<Established>,
    dial_slots: Arc<Semaphore>,
    open: Option<Open>,
    /// Counts openings, so that what an older one still brings is told apart.
    generation: u64,
    /// Links that take frames.
    links: HashMap<LinkId, Link>,
    /// Links that say goodbye: their tasks are still at work.
    leaving: HashMap<LinkId, Connection>,
    last_link: u64,
    dialling: HashSet<(LinkKind, PublicKey)>,
    tasks: JoinSet<Done>,
}

impl Links {
    async fn carry_out(&mut self, command: LinksCommand) {
        match command {
            LinksCommand::Send { link, frame } => self.send(link, frame),
            LinksCommand::Close { link, goodbye } => self.close(link, goodbye),
            LinksCommand::Dial { kind, key, addresses, timeout_ms } => {
                self.dial(kind, key, addresses, Duration::from_millis(timeout_ms));
            }
            LinksCommand::Bind { peer_port, room_port } => {
                let bound = self.bind(peer_port, room_port).await;
                self.report(Input::Bound(bound));
            }
            LinksCommand::Unbind => self.close_all().await,
        }
    }

    fn send(&mut self, id: LinkId, frame: Frame) {
        let Some(link) = self.links.get(&id) else { return };
        if link.queue.push(frame).is_err() {
            tracing::info!(link = id.0, key = ?link.key, "a peer reads too slowly; its link is cut");
            close(&link.connection, CloseCode::TooSlow);
            self.links.remove(&id);
        }
    }

    /// Says goodbye behind what is queued. The link's task ends it, and reports.
    fn close(&mut self, id: LinkId, goodbye: Goodbye) {
        let Some(link) = self.links.remove(&id) else { return };
        if goodbye == Goodbye::Version {
            let key = &link.key;
            tracing::warn!(link = id.0, ?key, "a peer speaks another version: upgrade the older");
        }
        if link.queue.push(Frame::Goodbye(goodbye)).is_err() {
            close(&link.connection, CloseCode::TooSlow);
        }
        self.leaving.insert(id, link.connection);
    }

    /// A dial of a key that is being dialled is the same dial.
    fn dial(
        &mut self,
        kind: LinkKind,
        key: PublicKey,
        addresses: Vec<SocketAddr>,
        within: Duration,
    ) {
        if self.dialling.contains(&(kind, key)) {
            return;
        }
        let dialler = match &self.open {
            Some(open) if self.dialling.len() < DIALS_WAITING_MAX => {
                let (side, listener) = match kind {
                    LinkKind::Peer => (&open.peer, &self.peer),
                    LinkKind::Room => (&open.room, &self.room),
                };
                Dialler {
                    listener: Arc::clone(listener),
                    generation: self.generation,
                    endpoint: side.endpoint.clone(),
                    slots: Arc::clone(&self.dial_slots),
                    connections: Arc::clone(&side.dialled),
                }
            }
            _ => return self.report(Input::DialFailed { kind, key }),
        };
        self.dialling.insert((kind, key));
        let handle = self.handle.clone();
        self.tasks.spawn(async move {
            match dialler.dial(key, addresses, within).await {
                Ok(link) => Done::Dialled(Box::new(link)),
                Err(error) => {
                    match error {
                        DialError::TimedOut => tracing::debug!(?kind, ?key, "nobody answered"),
                        error => tracing::debug!(?kind, ?key, %error, "a dial failed"),
                    }
                    // A daemon that has stopped needs no report.
                    let _ = handle.send(Input::DialFailed { kind, key }).await;
                    Done::NotDialled(kind, key)
                }
            }
        });
    }

    fn finish(&mut self, done: Done) {
        match done {
            Done::Link(id) => {
                self.links.remove(&id);
                self.leaving.remove(&id);
            }
            Done::Dialled(link) => {
                self.dialling.remove(&(link.kind, link.key));
                self.add(*link);
            }
            Done::NotDialled(kind, key) => {
                self.dialling.remove(&(kind, key));
            }
            Done::Nothing => {}
        }
    }

    /// Makes a link of a connection.
    fn add(&mut self, link: Established) {
        let Established { kind, key, .. } = link;
        let known = self.links.values().filter(|l| (l.kind, l.key) == (kind, key)).count();
        let current = self.open.is_some() && link.generation == self.generation;
        if !current || known >= KEY_LINKS_MAX {
            close(&link.connection, if current { CloseCode::TooMany } else { CloseCode::Gone });
            if link.dialled {
                self.report(Input::DialFailed { kind, key });
            }
            return;
        }
        self.last_link += 1;
        let id = LinkId(self.last_link);
        let (queue, outbox) = queue::queue();
        self.links.insert(id, Link { kind, key, connection: link.connection.clone(), queue });
        let handle = self.handle.clone();
        self.tasks.spawn(async move { Done::Link(task::run(id, link, outbox, handle).await) });
    }

    async fn bind(&mut self, peer_port: u16, room_port: u16) -> Result<Listeners, BindFailure> {
        let fits = |wanted: u16, bound: SocketAddr| wanted == 0 || wanted == bound.port();
        if let Some(Open { bound, .. }) = &self.open
            && fits(peer_port, bound.peer)
            && fits(room_port, bound.room)
        {
            return Ok(*bound);
        }
        self.close_all().await;
        let peer = open(&self.peer, peer_port).await?;
        let room = match open(&self.room, room_port).await {
            Ok(room) => room,
            Err(failure) => {
                close_endpoint(&peer).await;
                return Err(failure);
            }
        };
        let bound = (endpoint::bound(&peer), endpoint::bound(&room));
        let (Some(peer_bound), Some(room_bound)) = bound else { return Err(BindFailure::Failed) };
        let bound = Listeners { peer: peer_bound, room: room_bound };
        tracing::info!(peer = %bound.peer, room = %bound.room, "listeners open");
        self.generation += 1;
        let open = Open { peer: Side::new(peer), room: Side::new(room), bound };
        for (listener, side) in [(&self.peer, &open.peer), (&self.room, &open.room)] {
            let accept = accept::run(
                Arc::clone(listener),
                self.generation,
                side.endpoint.clone(),
                Arc::clone(&side.accepted),
                self.established.clone(),
            );
            self.tasks.spawn(async move {
                accept.await;
                Done::Nothing
            });
        }
        self.open = Some(open);
        Ok(bound)
    }

    /// Closes links, then listeners. Waits for the network, at most about [`DRAIN`] and twice
    /// [`ENDPOINT_CLOSE`], and never for the daemon.
    async fn close_all(&mut self) {
        let Some(open) = self.open.take() else { return };
        // Dropping a link's queue lets its task send what waits and then close.
        let leaving = self.leaving.values().cloned().collect::<Vec<_>>();
        let connections: Vec<_> =
            self.links.drain().map(|(_, link)| link.connection).chain(leaving).collect();
        let closed = join_all(connections.iter().map(Connection::closed));
        if timeout(DRAIN, closed).await.is_err() {
            connections.iter().for_each(|connection| close(connection, CloseCode::Gone));
        }
        tokio::join!(close_endpoint(&open.peer.endpoint), close_endpoint(&open.room.endpoint));
        tracing::info!("listeners closed");
    }

    fn report(&mut self, input: Input) {
        let handle = self.handle.clone();
        self.tasks.spawn(async move {
            // A daemon that has stopped needs no report.
            let _ = handle.send(input).await;
            Done::Nothing
        });
    }
}

async fn open(listener: &Listener, port: u16) -> Result<Endpoint, BindFailure> {
    endpoint::open(listener, port).await.map_err(|error| {
        tracing::warn!(kind = ?listener.kind, port, %error, "a listener cannot be opened");
        error.failure(listener, port)
    })
}

async fn close_endpoint(endpoint: &Endpoint) {
    if timeout(ENDPOINT_CLOSE, endpoint.close()).await.is_err() {
        tracing::debug!("an endpoint took too long to close");
    }
}
