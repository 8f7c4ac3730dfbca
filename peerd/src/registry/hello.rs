//! HELLO: the socket and the clock of the session's [`HelloClient`].
//!
//! Says HELLO when the client says so, tells the core what came of it, and looks for the registry anew
//! where it does not answer. The session's key is in this task and in the grant that it was given, and
//! wiped with them.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use registryd_proto::{
    RegistryAddress, SessionGrant,
    hello::{DATAGRAM_BYTES, HelloClient, Outcome, SILENT_AFTER},
};
use tokio::{
    net::UdpSocket,
    sync::watch,
    time::{Instant, sleep},
};

use super::connect::resolve;
use crate::{
    core::{Input, input::HelloInput},
    daemon::{self, Gone, Handle},
};

/// Between two look-ups of a registry that does not answer: doubled each time, up to the longest.
const LOOK_UP_MIN: Duration = Duration::from_secs(5);
const LOOK_UP_MAX: Duration = Duration::from_secs(60);
/// The longest sleep. Timers stop while the machine is suspended, the daemon's clock does not: a HELLO
/// that fell due meanwhile is said this late at most.
const SLEEP_MAX: Duration = Duration::from_secs(10);

/// The session to say HELLO for.
#[derive(Debug, Clone)]
pub(super) struct Session {
    /// Where.
    pub(super) registry: RegistryAddress,
    /// With what.
    pub(super) grant: Box<SessionGrant>,
}

/// Says HELLO for the newest session, until the other end of `sessions` is dropped.
pub(super) async fn run(mut sessions: watch::Receiver<Option<Session>>, handle: Handle) {
    loop {
        let session = sessions.borrow_and_update().clone();
        let spoken = async {
            match session {
                Some(session) => Speaker::new(session).run(&handle).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = sessions.changed() => if changed.is_err() { return },
            Gone = spoken => return,
        }
    }
}

#[derive(Debug)]
struct Speaker {
    client: HelloClient,
    host: String,
    port: u16,
    /// Where the registry may be, and which of them is in use or next.
    addresses: Vec<SocketAddr>,
    at: usize,
    /// Addresses not yet tried since the registry answered or was looked up.
    untried: usize,
    look_up_at: Instant,
    look_up_pause: Duration,
    socket: Option<UdpSocket>,
    /// HELLOs in a row without an answer.
    unanswered: u64,
    untold: Untold,
}

/// What the core was not told yet. HELLO never waits for it: it may take no inputs for long, as while the
/// disk is full.
#[derive(Debug, Default)]
struct Untold {
    rebooted: bool,
    /// The newest of the others: it holds what those before it told.
    newest: Option<HelloInput>,
}

impl Untold {
    fn add(&mut self, input: HelloInput) {
        match input {
            HelloInput::Rebooted => self.rebooted = true,
            HelloInput::Answered { .. } | HelloInput::Nudged { .. } | HelloInput::Silent => {
                self.newest = Some(input);
            }
        }
    }

    fn is_empty(&self) -> bool {
        !self.rebooted && self.newest.is_none()
    }

    fn take(&mut self) -> Option<HelloInput> {
        if std::mem::take(&mut self.rebooted) {
            return Some(HelloInput::Rebooted);
        }
        self.newest.take()
    }
}

impl Speaker {
    fn new(Session { registry, grant }: Session) -> Self {
        Self {
            client: HelloClient::new(&grant, now_ms()),
            host: registry.host().to_owned(),
            port: grant.hello_port,
            addresses: Vec::new(),
            at: 0,
            untried: 0,
            look_up_at: Instant::now(),
            look_up_pause: LOOK_UP_MIN,
            socket: None,
            unanswered: 0,
            untold: Untold::default(),
        }
    }

    async fn run(mut self, handle: &Handle) -> Gone {
        loop {
            let mut buffer = [0; DATAGRAM_BYTES + 1];
            let due = Duration::from_millis(self.client.next_due().saturating_sub(now_ms()));
            tokio::select! {
                permit = handle.reserve(), if !self.untold.is_empty() => match permit {
                    Ok(permit) => {
                        if let Some(input) = self.untold.take() {
                            permit.send(Input::Hello(input));
                        }
                    }
                    Err(gone) => return gone,
                },
                received = receive(self.socket.as_ref(), &mut buffer) => match received {
                    Ok(bytes) => self.hear(&buffer[..bytes]),
                    Err(error) => self.lose(&error),
                },
                () = sleep(due.min(SLEEP_MAX)) => self.say().await,
            }
        }
    }

    /// Says HELLO, if it is due.
    async fn say(&mut self) {
        if now_ms() < self.client.next_due() {
            return;
        }
        if self.unanswered > 0 && self.unanswered.is_multiple_of(SILENT_AFTER) {
            // Another address, and another port of ours: a NAT may have forgotten the old one.
            self.turn();
        }
        if self.socket.is_none() {
            self.open().await;
        }
        // Without a socket the HELLO counts as lost, which it is.
        let Some(datagram) = self.client.poll(now_ms()) else { return };
        self.unanswered += 1;
        if let Some(socket) = &self.socket
            && let Err(error) = socket.send(&datagram).await
        {
            self.lose(&error);
        }
        if self.unanswered == SILENT_AFTER {
            tracing::info!(registry = self.host, "the registry does not answer HELLO");
            self.untold.add(HelloInput::Silent);
        }
    }

    fn hear(&mut self, datagram: &[u8]) {
        let input = match self.client.on_datagram(datagram, now_ms()) {
            Outcome::Ignored => return,
            Outcome::Nudged { version } => return self.untold.add(HelloInput::Nudged { version }),
            Outcome::Answered { version } => {
                HelloInput::Answered { version, interval_ms: self.client.interval_ms() }
            }
            Outcome::Rebooted => HelloInput::Rebooted,
        };
        self.unanswered = 0;
        self.untried = self.addresses.len();
        self.look_up_pause = LOOK_UP_MIN;
        self.untold.add(input);
    }

    /// An address that refuses: the next one is tried at once, unless all were.
    fn lose(&mut self, error: &io::Error) {
        tracing::debug!(registry = self.host, %error, "HELLO cannot be said here");
        self.turn();
        if self.untried > 0 {
            self.client.hurry(now_ms());
        }
    }

    fn turn(&mut self) {
        self.socket = None;
        self.at += 1;
        self.untried = self.untried.saturating_sub(1);
    }

    async fn open(&mut self) {
        let exhausted = self.at >= self.addresses.len();
        if exhausted && Instant::now() >= self.look_up_at {
            match resolve(&self.host, self.port).await {
                Ok(addresses) => {
                    if addresses != self.addresses {
                        self.untried = addresses.len();
                    }
                    self.addresses = addresses;
                }
                // The addresses known before may still be right.
                Err(error) => tracing::info!(registry = self.host, %error, "no HELLO"),
            }
            self.look_up_at = Instant::now() + self.look_up_pause;
            self.look_up_pause = (self.look_up_pause * 2).min(LOOK_UP_MAX);
        }
        if exhausted {
            self.at = 0;
        }
        while let Some(address) = self.addresses.get(self.at) {
            match socket(*address).await {
                Ok(socket) => return self.socket = Some(socket),
                Err(error) => {
                    tracing::debug!(%address, %error, "no way to say HELLO there");
                    self.turn();
                }
            }
        }
    }
}

fn now_ms() -> u64 {
    daemon::now().mono_ms
}

/// A socket that hears the registry alone.
async fn socket(registry: SocketAddr) -> io::Result<UdpSocket> {
    let any: SocketAddr = match registry {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(registry).await?;
    Ok(socket)
}

async fn receive(socket: Option<&UdpSocket>, buffer: &mut [u8]) -> io::Result<usize> {
    match socket {
        Some(socket) => socket.recv(buffer).await,
        None => std::future::pending().await,
    }
}
