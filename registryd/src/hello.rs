//! The HELLO port: datagrams in, answers out, and the upkeep of presence.
//!
//! What does not open is dropped in silence, and an answer has the size of its HELLO, so the port can be
//! used neither to learn anything nor to amplify.

use std::{
    convert::Infallible,
    io,
    net::{SocketAddr, UdpSocket},
    time::Duration,
};

use registryd_proto::hello::{Clear, Datagram, Direction, Hello, peek};
use tokio::{
    runtime,
    time::{self, MissedTickBehavior},
};
use tokio_util::sync::CancellationToken;

use crate::{
    clock::LOOK_EVERY,
    port::Port,
    presence::{Lookup, Outgoing, Secret, SessionKeys},
    registry::Registry,
    store::AccountId,
};

/// How often presence moves on and the interval is looked at.
pub(crate) const UPKEEP: Duration = Duration::from_millis(500);

/// How often limiters drop idle keys, in upkeeps: a minute.
const FORGET_EVERY: u32 = 120;

/// Answers HELLOs until told to stop. Blocking, for a thread of its own: no request delays a HELLO.
pub(crate) fn serve(registry: &Registry, socket: UdpSocket, stop: &CancellationToken) {
    let mut builder = runtime::Builder::new_current_thread();
    let served = builder.enable_io().enable_time().build().and_then(|runtime| {
        runtime.block_on(async {
            tokio::select! {
                () = stop.cancelled() => Ok(()),
                failed = answer_all(registry, socket) => failed,
                never = look_at_clock(registry) => match never {},
            }
        })
    });
    if let Err(error) = served {
        tracing::error!(%error, "the HELLO socket failed");
    }
}

async fn answer_all(registry: &Registry, socket: UdpSocket) -> io::Result<()> {
    let mut port = Port::new(socket)?;
    let mut batch = Batch::default();
    loop {
        port.receive().await?;
        batch.answer(registry, port.datagrams());
        port.send(&batch.answers);
    }
}

/// Keeps the time of presence going while nobody says HELLO. Here, where nothing waits for a disk: what keeps
/// this thread keeps HELLOs as well.
async fn look_at_clock(registry: &Registry) -> Infallible {
    let mut looks = time::interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        registry.now_ms();
    }
}

/// Takes one datagram.
#[cfg(any(test, feature = "simulation"))]
pub(crate) fn answer(registry: &Registry, datagram: &[u8], from: SocketAddr) {
    let mut batch = Batch::default();
    batch.answer(registry, [(datagram, from)].into_iter());
    for (_, answer) in &batch.answers {
        registry.outlet.send(answer, from);
    }
}

/// Datagrams on their way through: what each step of a batch leaves for the next. Presence is locked twice
/// for a batch, and never while a datagram is opened or sealed.
#[derive(Default)]
struct Batch {
    named: Vec<(usize, Clear)>,
    known: Vec<(usize, Clear, Secret)>,
    opened: Vec<Opened>,
    outgoing: Vec<(usize, Outgoing)>,
    /// The answers, each with the number of its datagram.
    answers: Vec<(usize, Datagram)>,
}

/// A HELLO that its session's key opened.
struct Opened {
    at: usize,
    hello: Hello,
    from: SocketAddr,
    /// The keys, if they were derived for it.
    derived: Option<SessionKeys>,
}

impl Batch {
    /// Answers a batch of datagrams. What costs least comes first: most of what is no HELLO is dropped by
    /// its clear bytes, and no HELLO is opened of which nothing would come.
    fn answer<'a>(
        &mut self,
        registry: &Registry,
        datagrams: impl Iterator<Item = (&'a [u8], SocketAddr)> + Clone,
    ) {
        self.name(registry, datagrams.clone().map(|(bytes, _)| bytes));
        self.look_up(registry);
        self.open(registry, datagrams);
        self.hear(registry);
        self.seal(registry);
    }

    fn name<'a>(&mut self, registry: &Registry, datagrams: impl Iterator<Item = &'a [u8]>) {
        let stats = &registry.stats.hello;
        self.named.clear();
        for (at, bytes) in datagrams.enumerate() {
            stats.received.count();
            match peek(bytes).filter(|clear| clear.direction == Direction::Peer) {
                Some(clear) => self.named.push((at, clear)),
                None => stats.malformed.count(),
            }
        }
    }

    fn look_up(&mut self, registry: &Registry) {
        let stats = &registry.stats.hello;
        self.known.clear();
        if self.named.is_empty() {
            return;
        }
        let presence = registry.presence();
        for (at, clear) in self.named.drain(..) {
            match presence.look_up(&clear) {
                Lookup::Secret(secret) => self.known.push((at, clear, secret)),
                Lookup::Unknown => stats.unknown_session.count(),
                Lookup::Replayed => stats.replayed.count(),
            }
        }
    }

    fn open<'a>(
        &mut self,
        registry: &Registry,
        datagrams: impl Iterator<Item = (&'a [u8], SocketAddr)>,
    ) {
        self.opened.clear();
        let mut datagrams = datagrams.enumerate();
        for (at, clear, secret) in self.known.drain(..) {
            let Some((_, (bytes, from))) = datagrams.find(|(number, _)| *number == at) else {
                continue;
            };
            let is_new = matches!(secret, Secret::Salt(_));
            let keys = registry.session_keys(AccountId(clear.session), clear.epoch, secret);
            match Hello::open(bytes, &keys.peer) {
                Some(hello) => {
                    let derived = is_new.then_some(keys);
                    self.opened.push(Opened { at, hello, from, derived });
                }
                None => registry.stats.hello.unsealed.count(),
            }
        }
    }

    fn hear(&mut self, registry: &Registry) {
        self.outgoing.clear();
        if self.opened.is_empty() {
            return;
        }
        let now_ms = registry.now_ms();
        let mut presence = registry.presence();
        for Opened { at, hello, from, derived } in self.opened.drain(..) {
            if let Some(keys) = derived {
                presence.learn(AccountId(hello.session), hello.epoch, &keys);
            }
            match presence.on_hello(&hello, from, now_ms) {
                Some(outgoing) => self.outgoing.push((at, outgoing)),
                None => registry.stats.hello.replayed.count(),
            }
        }
        if presence.has_arrived() {
            registry.arrived.notify_one();
        }
    }

    fn seal(&mut self, registry: &Registry) {
        self.answers.clear();
        for (at, outgoing) in self.outgoing.drain(..) {
            self.answers.push((at, registry.seal(outgoing)));
            registry.stats.hello.answered.count();
        }
    }
}

/// Moves presence on, adapts the interval, and tells watchers, until told to stop.
pub(crate) async fn upkeep(registry: &Registry, stop: &CancellationToken) {
    let mut ticks = time::interval(UPKEEP);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut count = 0_u32;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = registry.arrived.notified() => tell_watchers(registry).await,
            _ = ticks.tick() => {
                move_on(registry).await;
                count = count.wrapping_add(1);
                if count.is_multiple_of(FORGET_EVERY) {
                    registry.limits.forget_idle();
                }
            }
        }
    }
}

/// One upkeep: counts out who is gone, adapts the interval, and tells watchers who could not be told before.
pub(crate) async fn move_on(registry: &Registry) {
    while registry.presence().tick(registry.now_ms()) {
        tokio::task::yield_now().await;
    }
    registry.stats.presence_moved();
    adapt_interval(registry).await;
    // While the disk is full others try whether it still is.
    if registry.presence().has_untold() && !registry.store.is_full() {
        tell_watchers(registry).await;
    }
}

/// A longer interval is on disk before it is offered, and a shorter one only after all that is longer is out
/// of use: the grace after a restart depends on it.
async fn adapt_interval(registry: &Registry) {
    let (offered_ms, kept_ms) = {
        let (presence, now_ms) = (registry.presence(), registry.now_ms());
        (presence.wanted_interval_ms(now_ms), presence.wanted_kept_interval_ms(now_ms))
    };
    if let Some(kept_ms) = kept_ms {
        if let Err(error) = registry.store.set_interval(interval(kept_ms)).await {
            tracing::error!(%error, "the HELLO interval cannot be kept");
            return;
        }
        registry.presence().keep_interval(kept_ms);
    }
    if let Some(offered_ms) = offered_ms {
        let mut presence = registry.presence();
        presence.set_interval(offered_ms);
        let online = presence.online();
        tracing::info!(online, interval_ms = offered_ms, "the HELLO interval changed");
    }
}

fn interval(ms: u32) -> Duration {
    Duration::from_millis(u64::from(ms))
}

/// Raises the versions of those who waited for somebody that came online, and nudges them.
pub(crate) async fn tell_watchers(registry: &Registry) {
    let arrived = registry.presence().take_arrived();
    if arrived.is_empty() {
        return;
    }
    let watchers = arrived.iter().map(|arrival| arrival.watcher).collect();
    match registry.store.bump(watchers).await {
        Ok(bumped) => {
            // Raised in order, one by one; a watcher that is gone was left out.
            let mut versions = bumped.iter().copied().peekable();
            for arrival in arrived {
                if let Some((_, version)) = versions.next_if(|(who, _)| *who == arrival.watcher) {
                    registry.presence().date_arrival(arrival, version);
                }
            }
            registry.announce(&bumped);
        }
        Err(error) => {
            registry.presence().put_arrived_back();
            tracing::error!(%error, "watchers cannot be told");
        }
    }
}
