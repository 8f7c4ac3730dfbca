//! Peers that are online: each says HELLO at the interval that its answers give, as peerd does.
//!
//! One thread plays them all from one socket. It keeps its own promises or tells by how much it did not
//! ([`Told::late_ms`]): a peer that this machine could not play in time is no fault of the registry.

use std::{
    io, mem,
    net::SocketAddr,
    sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

use registryd_proto::hello::{Answer, DATAGRAM_BYTES, Datagram, Direction, Hello, HelloKey, peek};

use super::{
    people::{EPOCH, FIRST, Peer, Stride},
    wire::{BATCH, Wire},
};

/// What a slot of the wheel holds: peers that are due within so many milliseconds.
const SLOT_MS: u64 = 10;

/// More than the longest interval.
const SLOTS: usize = 1 << 16;

/// How long the crowd waits for answers before it looks at the time again.
const PATIENCE: Duration = Duration::from_millis(2);

/// The longest interval that fits the wheel.
const INTERVAL_MS_MAX: u32 = 600_000;

/// The longest that an answer is on its way, on a machine that is not at its end.
const WAY_MS: u32 = 500;

/// Answers of a blast of which one is opened.
const SAMPLE: u64 = 97;

/// Intervals without a HELLO after which a peer is offline, and not before.
const MISSED_INTERVALS: u32 = 3;

/// What others may see of the crowd, and how they end it.
#[derive(Debug)]
pub(crate) struct Told {
    start: Instant,
    /// Until when each peer must count as online, in milliseconds since the start: its last HELLO was answered.
    live_until_ms: Vec<AtomicU32>,
    /// Ends the crowd.
    pub(crate) stop: AtomicBool,
    /// HELLOs sent.
    pub(crate) sent: AtomicU64,
    /// HELLOs answered.
    pub(crate) answered: AtomicU64,
    /// Peers that the registry counts as online in its newest boot: it has answered their boot id.
    pub(crate) online: AtomicU64,
    /// The interval told last.
    pub(crate) interval_ms: AtomicU32,
    /// The most that a HELLO was sent late.
    pub(crate) late_ms: AtomicU64,
    /// Datagrams that are no answer to an outstanding HELLO.
    pub(crate) wrong: AtomicU64,
}

impl Told {
    /// Of so many peers, none of which has said anything.
    pub(crate) fn of(peers: usize) -> Self {
        Self {
            start: Instant::now(),
            live_until_ms: (0..peers).map(|_| AtomicU32::new(0)).collect(),
            stop: AtomicBool::new(false),
            sent: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            online: AtomicU64::new(0),
            interval_ms: AtomicU32::new(0),
            late_ms: AtomicU64::new(0),
            wrong: AtomicU64::new(0),
        }
    }

    /// Until when an account must count as online, by what is known now.
    pub(crate) fn live_until(&self, number: u64) -> Instant {
        let at = usize::try_from(number - FIRST).unwrap_or(usize::MAX);
        let until_ms = self.live_until_ms.get(at).map_or(0, |until| until.load(Relaxed));
        self.start + Duration::from_millis(until_ms.into())
    }

    fn heard(&self, at: usize, interval_ms: u32) {
        let now_ms = u32::try_from(self.start.elapsed().as_millis()).unwrap_or(u32::MAX);
        // Less what the answer may have been on its way.
        let until_ms = (MISSED_INTERVALS * interval_ms).saturating_sub(WAY_MS) + now_ms;
        self.live_until_ms[at].store(until_ms, Relaxed);
    }

    /// Ends the crowd when dropped, also by a panic.
    pub(crate) fn stop_at_end(&self) -> StopAtEnd<'_> {
        StopAtEnd(&self.stop)
    }
}

/// Tells the crowd to end when dropped.
#[derive(Debug)]
pub(crate) struct StopAtEnd<'a>(&'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// All peers.
#[derive(Debug)]
pub(crate) struct Crowd {
    peers: Vec<Peer>,
    /// The registry's newest boot.
    boot: u64,
    order: Stride,
}

impl Crowd {
    /// None of them has said anything.
    pub(crate) fn new(peers: Vec<Peer>) -> Self {
        let order = Stride::over(peers.len());
        Self { peers, boot: 0, order }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.peers.len()
    }

    /// The longest interval that an answer told, in milliseconds.
    pub(crate) fn interval_ms(&self) -> u64 {
        u64::from(self.peers.iter().map(|peer| peer.interval_ms).max().unwrap_or(1000))
    }

    /// So many HELLOs, sealed in the order in which they must be sent; over all peers, in an order that is
    /// not that of memory.
    pub(crate) fn seal(&mut self, count: usize) -> Vec<Datagram> {
        let order = self.order.by_ref().take(count);
        order.map(|at| hello(&mut self.peers[at], FIRST + at as u64)).collect()
    }

    /// Believes what `datagram` says if it answers any HELLO, the newest or not.
    pub(crate) fn hear(&mut self, datagram: &[u8]) -> Heard {
        let Some(clear) = peek(datagram).filter(|c| c.direction == Direction::Registry) else {
            return Heard::Nothing;
        };
        let at = usize::try_from(clear.session.wrapping_sub(FIRST)).unwrap_or(usize::MAX);
        let Some(peer) = self.peers.get_mut(at) else { return Heard::Nothing };
        let key = HelloKey::registry(&peer.session, clear.boot);
        let Some(answer) = Answer::open(datagram, &key) else { return Heard::Nothing };
        if answer.echo == 0 {
            return Heard::Nudge;
        }
        if answer.echo > peer.counter {
            return Heard::Nothing;
        }
        let used_ms = peer.interval_ms;
        peer.interval_ms = answer.interval_ms.clamp(1, INTERVAL_MS_MAX);
        let first = peer.heard_in != answer.boot && peer.boot == answer.boot;
        if peer.boot == answer.boot {
            peer.heard_in = answer.boot;
        }
        let rebooted = mem::replace(&mut peer.boot, answer.boot) != answer.boot;
        Heard::Answer { at, boot: answer.boot, first, rebooted, used_ms }
    }

    /// Lets every peer know the boot and the interval that one answer told, for a blast: what follows is answered as usual.
    pub(crate) fn meet(&mut self, wire: &mut Wire) -> io::Result<()> {
        for _ in 0..50 {
            let first = self.seal(1);
            wire.send(&first)?;
            let mut boot = None;
            wire.receive(|datagram| {
                if let Heard::Answer { at, boot: told, .. } = self.hear(datagram) {
                    boot = Some((told, self.peers[at].interval_ms));
                }
            })?;
            if let Some((boot, interval_ms)) = boot {
                for peer in &mut self.peers {
                    (peer.boot, peer.interval_ms) = (boot, interval_ms);
                }
                return Ok(());
            }
        }
        Err(io::Error::other("no HELLO is answered"))
    }

    /// Whether an answer of a blast is what it should be: all by their open part, some by their seal.
    pub(crate) fn check(&mut self, datagram: &[u8], count: u64) -> bool {
        let in_form = datagram.len() == DATAGRAM_BYTES
            && peek(datagram).is_some_and(|clear| clear.direction == Direction::Registry);
        in_form
            && (!count.is_multiple_of(SAMPLE)
                || matches!(self.hear(datagram), Heard::Answer { .. }))
    }

    /// Says HELLO for all until told to stop. The first HELLOs are spread over `spread_ms`.
    ///
    /// # Errors
    /// Those of the socket.
    pub(crate) fn run(&mut self, place: SocketAddr, told: &Told, spread_ms: u64) -> io::Result<()> {
        let wire = &mut Wire::connect(place, PATIENCE)?;
        let mut wheel = Wheel::new(self.peers.len(), spread_ms.min(u64::from(INTERVAL_MS_MAX)));
        let start = Instant::now();
        self.boot = 0;
        self.peers.iter_mut().for_each(|peer| peer.heard_in = 0);
        told.online.store(0, Relaxed);
        let mut hurried = Vec::new();
        while !told.stop.load(Relaxed) {
            let now_ms = millis(start.elapsed());
            while let Some((due_ms, due)) = wheel.next(now_ms) {
                let late_ms = millis(start.elapsed()).saturating_sub(due_ms + SLOT_MS);
                told.late_ms.fetch_max(late_ms, Relaxed);
                for some in due.chunks(BATCH) {
                    let now_ms = millis(start.elapsed());
                    self.speak(wire, told, some, |at, peer| {
                        wheel.insert(at, next_ms(peer, at, now_ms))
                    })?;
                    self.listen(wire, told, &mut hurried, false)?;
                }
            }
            self.listen(wire, told, &mut hurried, true)?;
            for some in mem::take(&mut hurried).chunks(BATCH) {
                self.speak(wire, told, some, |_, _| {})?;
            }
        }
        Ok(())
    }

    fn speak(
        &mut self,
        wire: &mut Wire,
        told: &Told,
        some: &[u32],
        mut plan: impl FnMut(u32, &Peer),
    ) -> io::Result<()> {
        let mut datagrams = [[0; DATAGRAM_BYTES]; BATCH];
        for (datagram, at) in datagrams.iter_mut().zip(some) {
            let peer = &mut self.peers[*at as usize];
            *datagram = hello(peer, FIRST + u64::from(*at));
            plan(*at, peer);
        }
        let sent = wire.send(&datagrams[..some.len().min(BATCH)])?;
        told.sent.fetch_add(sent as u64, Relaxed);
        Ok(())
    }

    fn listen(
        &mut self,
        wire: &mut Wire,
        told: &Told,
        hurried: &mut Vec<u32>,
        wait: bool,
    ) -> io::Result<()> {
        let each = |datagram: &[u8]| match self.hear(datagram) {
            Heard::Nothing => {
                told.wrong.fetch_add(1, Relaxed);
            }
            Heard::Nudge => {}
            Heard::Answer { at, boot, first, rebooted, used_ms } => {
                told.answered.fetch_add(1, Relaxed);
                if !rebooted {
                    told.heard(at, used_ms);
                }
                told.interval_ms.store(self.peers[at].interval_ms, Relaxed);
                if mem::replace(&mut self.boot, boot) != boot {
                    told.online.store(0, Relaxed);
                }
                if rebooted {
                    hurried.push(at as u32);
                } else if first {
                    told.online.fetch_add(1, Relaxed);
                }
            }
        };
        if wait {
            wire.receive(each)?
        } else {
            wire.receive_now(each)?
        };
        Ok(())
    }
}

/// What a datagram meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Heard {
    /// It is none of ours.
    Nothing,
    /// A nudge.
    Nudge,
    /// An answer.
    Answer {
        /// Whose.
        at: usize,
        /// The registry's boot.
        boot: u64,
        /// The first that tells this peer that it is online.
        first: bool,
        /// The peer knew another boot: its HELLO did not count.
        rebooted: bool,
        /// The interval that it had said to use.
        used_ms: u32,
    },
}

fn hello(peer: &mut Peer, session: u64) -> Datagram {
    peer.counter += 1;
    let (boot, counter, interval_ms) = (peer.boot, peer.counter, peer.interval_ms);
    Hello { session, epoch: EPOCH, boot, counter, interval_ms }.seal(&peer.key)
}

/// As peerd: up to a tenth of the interval early, different each time.
fn next_ms(peer: &Peer, at: u32, now_ms: u64) -> u64 {
    let mixed = (u64::from(at) ^ peer.counter.rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let interval_ms = u64::from(peer.interval_ms);
    now_ms + interval_ms - interval_ms / 10 * (mixed >> 48) / u64::from(u16::MAX)
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Who is due when.
#[derive(Debug)]
struct Wheel {
    slots: Vec<Vec<u32>>,
    /// The slot that is looked at next.
    next: u64,
}

impl Wheel {
    /// Everybody is due once within `spread_ms`.
    fn new(count: usize, spread_ms: u64) -> Self {
        let mut wheel = Self { slots: vec![Vec::new(); SLOTS], next: 0 };
        for (turn, at) in Stride::over(count).take(count).enumerate() {
            wheel.insert(at as u32, spread_ms * turn as u64 / count as u64);
        }
        wheel
    }

    /// Due in the slot before the one that holds `due_ms`, for a slot is looked at when it is over.
    fn insert(&mut self, at: u32, due_ms: u64) {
        let slot = (due_ms / SLOT_MS).saturating_sub(1).max(self.next);
        self.slots[slot as usize % SLOTS].push(at);
    }

    /// The next slot that is over, with when it began.
    fn next(&mut self, now_ms: u64) -> Option<(u64, Vec<u32>)> {
        if (self.next + 1) * SLOT_MS > now_ms {
            return None;
        }
        let due = mem::take(&mut self.slots[self.next as usize % SLOTS]);
        let due_ms = self.next * SLOT_MS;
        self.next += 1;
        Some((due_ms, due))
    }
}
