//! Test only: a whole registry in virtual time, without sockets, threads or waiting.
//!
//! All that decides is the code of the daemon: handlers, store over SQLite in memory, presence, and the
//! sealing of HELLO. What is replaced is what lies around it: the clocks, the randomness, the disk, the way
//! out for datagrams, and the cost of a password. The limits on how often anybody may ask are off.
//!
//! The same seed and the same calls give the same answers, byte for byte. A [`Registry`] is driven by one
//! caller, which calls [`Registry::tick`] when [`Registry::next_wake_ms`] says so. A crash drops the registry and
//! keeps a [`Disk`]; a request that a crash cut is one whose answer the caller drops.

mod outside;
#[cfg(test)]
mod tests;

use std::{
    net::{IpAddr, SocketAddr},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, Waker},
};

use registryd_proto::{Answer, Keypair, PublicKey, RegistryAddress, Request, hello::Datagram};

pub(crate) use self::outside::{Outbox, Seeded, VirtualClock, pause};
use crate::{
    clock::{Clock, LOOK_EVERY},
    config::{Config, HelloConfig},
    handler::{self, Caller, Owner},
    hello,
    instance::Begun,
    limits::Limits,
    outlet::Outlet,
    password::Passwords,
    random::Random,
    registry::{self, Surroundings},
    store::{Memory, Store},
};

/// The port of requests and of HELLO.
pub const PORT: u16 = 4700;

/// Two for each transaction, of which no request has more than a few hundred.
const POLLS_MAX: u32 = 100_000;

const KEY_CONTEXT: &str = "p2pchat simulated registry key";
const RANDOM_CONTEXT: &str = "p2pchat simulated registry randomness";

/// What the clocks of the machine show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Never goes back; its beginning means nothing.
    pub monotonic_ms: u64,
    /// Since 1970; jumps as it likes.
    pub wall_ms: u64,
}

/// Rules that a registry breaks, for the checks of the simulator to find. The default breaks none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Planted {
    /// HELLO counters need not grow: an old datagram brings a dead peer back, or moves its address.
    pub counter_reset: bool,
    /// Nobody who is logged in hears that something changed: neither by a nudge nor by the next answer.
    pub forgets_versions: bool,
    /// A restart takes the boot id of the boot before: nobody is challenged.
    pub same_boot_id: bool,
    /// What was answered since the last tick is not on the disk yet.
    pub answers_before_commit: bool,
    /// A restart forgets how long peers may be silent: whoever was online counts as offline at once.
    pub no_grace: bool,
    /// A restart forgets all sessions.
    pub forgets_sessions: bool,
    /// A restart takes the newest record of each room out of its log.
    pub cuts_logs: bool,
}

/// What stays the same over restarts.
#[derive(Debug, Clone, Copy, Default)]
pub struct Setup {
    /// How HELLO is paced.
    pub hello: HelloConfig,
    /// What is broken.
    pub planted: Planted,
}

/// What is left of a registry after a crash, or in a backup: its key, and all that it committed. Two are
/// equal if every byte is.
#[derive(Debug, Clone)]
pub struct Disk {
    database: Arc<[u8]>,
    keys: Arc<Keypair>,
    setup: Setup,
}

impl PartialEq for Disk {
    fn eq(&self, other: &Self) -> bool {
        self.keys.public() == other.keys.public() && self.database == other.database
    }
}

impl Eq for Disk {}

/// A request that is being answered. A crash drops it with its registry.
pub struct Pending {
    answer: Pin<Box<dyn Future<Output = Answer> + Send>>,
    registry: Arc<registry::Registry>,
}

impl std::fmt::Debug for Pending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pending").finish_non_exhaustive()
    }
}

/// A registry that runs.
pub struct Registry {
    inner: Arc<registry::Registry>,
    memory: Memory,
    clock: VirtualClock,
    outbox: Outbox,
    next_upkeep_ms: u64,
    setup: Setup,
    /// As of the last tick, where answers are planted to go out before their commit.
    flushed: Option<Disk>,
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registry").field("key", &self.key()).finish_non_exhaustive()
    }
}

impl Registry {
    /// The first start ever: nobody is known. The seed decides the registry's key as well.
    pub fn new(seed: u64, now: Now, setup: Setup) -> Registry {
        let secret = blake3::derive_key(KEY_CONTEXT, &seed.to_be_bytes());
        let keys = Arc::new(Keypair::from_secret(&secret));
        let random = seeded(seed);
        let (memory, store) = Memory::new(&keys, &random);
        Self::begin(keys, (memory, store), random, now, setup)
    }

    /// A start on what another one left: after a crash, or from a backup. The seed must be a new one, for
    /// randomness that comes twice is a fault of its own.
    pub fn restart(disk: &Disk, seed: u64, now: Now) -> Registry {
        let Disk { database, keys, setup } = disk;
        let random = seeded(seed);
        let (memory, store) = Memory::open(database, Begun::Before, keys, &random);
        if setup.planted.no_grace {
            memory.forget_interval();
        }
        if setup.planted.forgets_sessions {
            memory.forget_sessions();
        }
        if setup.planted.cuts_logs {
            memory.cut_logs();
        }
        Self::begin(keys.clone(), (memory, store), random, now, *setup)
    }

    fn begin(
        keys: Arc<Keypair>,
        (memory, store): (Memory, Store),
        random: Random,
        now: Now,
        setup: Setup,
    ) -> Registry {
        let (clock, outbox) = (VirtualClock::new(now), Outbox::default());
        let surroundings = Surroundings {
            clock: Clock::Virtual(clock.clone()),
            passwords: Passwords::weak(random.clone()).expect("the least work is in range"),
            limits: Limits::off(),
            // Drawn from for the boot id alone.
            random: if setup.planted.same_boot_id { seeded(0) } else { random },
            outlet: Outlet::Outbox(outbox.clone()),
            port: PORT,
        };
        let config = Config { hello: setup.hello, ..Config::default() };
        let inner = at_once(registry::Registry::begin(config, keys, store, surroundings))
            .expect("a store in memory that takes commits");
        let inner = Arc::new(inner);
        inner.presence().plant(setup.planted);
        let next_upkeep_ms = now.monotonic_ms;
        let mut registry =
            Self { inner, memory, clock, outbox, next_upkeep_ms, setup, flushed: None };
        registry.flush();
        registry
    }

    /// The registry's key.
    pub fn key(&self) -> PublicKey {
        self.inner.keys.public()
    }

    /// The address as peers are told it, with the key.
    pub fn address(&self) -> RegistryAddress {
        let place: RegistryAddress = format!("registry:{PORT}").parse().expect("HOST:PORT");
        place.with_key(self.key())
    }

    /// The answer to a request on a connection that proved `key` and comes from `from`, with nothing else
    /// in between.
    pub fn request(&mut self, key: &PublicKey, from: IpAddr, request: Request, now: Now) -> Answer {
        self.pass(now);
        at_once(self.accept(key, from, request).answer)
    }

    /// As [`request`](Self::request), but nothing of it is done before the first [`step`](Self::step).
    pub fn accept(&self, key: &PublicKey, from: IpAddr, request: Request) -> Pending {
        let (registry, key, address) = (self.inner.clone(), *key, from.to_canonical());
        let answer = Box::pin(async move {
            let owner = Owner::default();
            let caller = Caller { registry: &registry, key, address, owner: &owner };
            match request {
                Request::Search { username } => {
                    let mut said = handler::answer_searches(caller, vec![username]).await;
                    said.pop().expect("as many answers as searches").read()
                }
                other => handler::answer(caller, other).await.read(),
            }
        });
        Pending { answer, registry: self.inner.clone() }
    }

    /// Goes on with a request until just before or just after its next transaction; between two steps
    /// others may have their turn, as they have in the daemon. `None` while there is more to do; not to be
    /// called again after the answer.
    ///
    /// # Panics
    /// If the request was accepted by another registry.
    pub fn step(&mut self, pending: &mut Pending, now: Now) -> Option<Answer> {
        assert!(
            Arc::ptr_eq(&self.inner, &pending.registry),
            "a request of a registry that is gone"
        );
        self.pass(now);
        match poll(pending.answer.as_mut()) {
            Poll::Ready(answer) => Some(answer),
            Poll::Pending => None,
        }
    }

    /// A datagram at the HELLO port.
    pub fn datagram(&mut self, from: SocketAddr, bytes: &[u8], now: Now) {
        self.pass(now);
        hello::answer(&self.inner, bytes, from);
    }

    /// Upkeep, if it is time: watchers are told of arrivals, presence moves on, the interval is adapted. One
    /// that comes late is as a machine that was busy.
    pub fn tick(&mut self, now: Now) {
        self.pass(now);
        at_once(hello::tell_watchers(&self.inner));
        if self.next_upkeep_ms <= now.monotonic_ms {
            at_once(hello::move_on(&self.inner));
            let pause_ms = u64::try_from(hello::UPKEEP.as_millis()).unwrap_or(u64::MAX);
            self.next_upkeep_ms = now.monotonic_ms.saturating_add(pause_ms);
        }
        self.flush();
    }

    /// The monotonic time of the next [`tick`](Self::tick). In the past while watchers are to be told.
    pub fn next_wake_ms(&self) -> u64 {
        if self.inner.presence().has_arrived() { 0 } else { self.next_upkeep_ms }
    }

    /// All of it stands still until then, as a process that is stopped. Else it runs, whenever it is called.
    pub fn stand_still(&mut self, until: Now) {
        self.clock.set(until);
    }

    /// Time passes, and the registry looks at its clock as the daemon does.
    fn pass(&self, until: Now) {
        let step_ms = u64::try_from(LOOK_EVERY.as_millis()).unwrap_or(u64::MAX);
        let mut now = self.clock.now();
        while now.monotonic_ms.saturating_add(step_ms) < until.monotonic_ms {
            now.monotonic_ms += step_ms;
            self.clock.set(now);
            self.inner.now_ms();
        }
        self.clock.set(until);
    }

    /// Answers and nudges since the last call, in order, and where they go.
    pub fn take_datagrams(&mut self) -> Vec<(SocketAddr, Datagram)> {
        self.outbox.take()
    }

    /// What a crash at this moment leaves, or a backup made now holds.
    pub fn disk(&self) -> Disk {
        self.flushed.clone().unwrap_or_else(|| self.committed())
    }

    /// Whether the disk is full from here on: then requests that change something fail.
    pub fn set_disk_full(&mut self, is_full: bool) {
        self.memory.refuse_commits(is_full);
    }

    fn committed(&self) -> Disk {
        let database = self.memory.image().into();
        Disk { database, keys: self.inner.keys.clone(), setup: self.setup }
    }

    fn flush(&mut self) {
        self.flushed = self.setup.planted.answers_before_commit.then(|| self.committed());
    }
}

fn seeded(seed: u64) -> Random {
    Random::Seeded(Seeded::new(blake3::derive_key(RANDOM_CONTEXT, &seed.to_be_bytes())))
}

/// The value of a future that pauses but waits for nothing.
fn at_once<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    for _ in 0..POLLS_MAX {
        if let Poll::Ready(value) = poll(future.as_mut()) {
            return value;
        }
    }
    panic!("store, passwords and outlet of a simulation never wait")
}

fn poll<T>(future: Pin<&mut (impl Future<Output = T> + ?Sized)>) -> Poll<T> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}
