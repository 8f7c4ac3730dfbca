//! The machine of a simulated world: one queue of events in virtual time.
//!
//! Invariant: as in the daemon, the effects of an output happen only after its writes and those of all
//! outputs before it are applied to the disk; a crash loses outputs that were not. (Unless
//! [`World::effects_first`] plants the fault.)

use peerd::core::{
    durable::Write,
    input::{Inbound, Input, LinkKind, LoadId},
    output::Effect,
};
use peerd_proto::wire::{Content, Entry, Frame, VerifiedEntry};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use serde::{Deserialize, Serialize};

pub use crate::node::Node;
use crate::{
    Host, Violation,
    counts::{Counts, Fault, Messages},
    net::{End, Net, Passage},
    timeline::Timeline,
};

/// How long a connection lives without hearing from the other side.
const IDLE_TIMEOUT_MS: u64 = 6_000;
/// The longest way of a frame, with all delays: below the idle time-out, else its connection would end.
const FRAME_MS_MAX: u64 = 5_000;
/// After how long a frame that was lost is sent again; doubled each time.
const RESEND_MS: u64 = 100;
/// How often a frame is lost at most.
const LOSSES_MAX: u32 = 4;

/// How bad the world is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conditions {
    /// The longest way of a frame.
    pub delay_max_ms: u64,
    /// The longest commit.
    pub commit_max_ms: u64,
    /// Of 100 dials, so many are lost.
    pub dial_loss: u32,
    /// Of 100 frames, so many are lost and sent again later, with all behind them: links are streams.
    pub frame_loss: u32,
    /// Of 100 frames of entries or vectors, so many come twice.
    pub duplicates: u32,
}

impl Conditions {
    /// No faults.
    pub const CALM: Self =
        Self { delay_max_ms: 20, commit_max_ms: 5, dial_loss: 0, frame_loss: 0, duplicates: 0 };

    /// Drawn from a seed.
    pub fn draw(rng: &mut StdRng) -> Self {
        Self {
            delay_max_ms: *pick(rng, &[5, 40, 300, 2_000]),
            commit_max_ms: *pick(rng, &[2, 20, 200]),
            dial_loss: *pick(rng, &[0, 10, 50]),
            frame_loss: *pick(rng, &[0, 1, 10, 30]),
            duplicates: *pick(rng, &[0, 5, 30]),
        }
    }
}

fn pick<'a, T>(rng: &mut StdRng, of: &'a [T]) -> &'a T {
    &of[rng.random_range(0..of.len())]
}

/// What happens to entries between nodes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Transit {
    /// Of 1,000 frames of entries, so many have one of them altered.
    pub alters: u32,
    /// Whether the link checks signatures, and ends where one does not hold.
    pub verifies: bool,
}

/// What happens next in a world.
pub(crate) enum Happening {
    Deliver(Box<Passage>),
    Input { node: usize, start: u64, input: Box<Input> },
    Read { node: usize, start: u64, load: LoadId, entries: Vec<VerifiedEntry> },
    Commit { node: usize, start: u64 },
    Wake { node: usize, start: u64 },
    Dialled { from: usize, start: u64, kind: LinkKind, to: usize, timeout_ms: u64 },
    TimeOut { connection: u64 },
}

/// A check of one write at its commit: plan, nodes, which node, the write.
pub type OnCommit<H> = fn(&<H as Host>::Plan, &[Node<H>], usize, &Write) -> Option<Violation>;

/// A world.
pub struct World<H: Host> {
    /// Who is who.
    pub plan: H::Plan,
    /// The nodes.
    pub nodes: Vec<Node<H>>,
    /// The connections.
    pub net: Net,
    /// The time.
    pub now_ms: u64,
    /// Draws all that is random.
    pub rng: StdRng,
    /// How bad it is.
    pub conditions: Conditions,
    /// What happens to entries on the way.
    pub transit: Transit,
    /// Plants a fault: effects happen before their writes are committed.
    pub effects_first: bool,
    /// Plants a fault: listeners are told events before they are committed.
    pub shows_first: bool,
    /// Called for each write that is committed.
    pub on_commit: OnCommit<H>,
    /// What was found on the way.
    pub violations: Vec<Violation>,
    /// Whether to hash what happens: costs more than the run itself.
    pub traced: bool,
    /// What was injected.
    pub counts: Counts,
    /// What became of messages.
    pub messages: Messages,
    /// When an entry was last committed anywhere.
    pub last_change_ms: u64,
    queue: Timeline<Happening>,
    trace: blake3::Hasher,
}

impl<H: Host> World<H> {
    /// A world of `count` nodes, all down.
    pub fn new(plan: H::Plan, count: usize, seed: u64, conditions: Conditions) -> Self {
        Self {
            plan,
            nodes: (0..count).map(|_| Node::default()).collect(),
            net: Net::default(),
            now_ms: 1_000,
            rng: StdRng::seed_from_u64(seed),
            conditions,
            transit: Transit::default(),
            effects_first: false,
            shows_first: false,
            on_commit: |_, _, _, _| None,
            violations: Vec::new(),
            traced: false,
            counts: Counts::default(),
            messages: Messages::default(),
            last_change_ms: 0,
            queue: Timeline::default(),
            trace: blake3::Hasher::new(),
        }
    }

    /// A hash of all inputs of all nodes, if [`World::traced`].
    pub fn trace(&self) -> [u8; 32] {
        *self.trace.finalize().as_bytes()
    }

    /// Puts an input into the trace.
    pub(crate) fn note(&mut self, node: usize, input: &Input) {
        if self.traced {
            let text = format!("{} {node} {input:?}", self.now_ms);
            self.trace.update(text.as_bytes());
        }
    }

    /// Breaks a connection: both ends notice at some time.
    pub fn break_off(&mut self, connection: u64) {
        for (node, link) in self.net.break_off(connection).into_iter().flatten() {
            let delay = self.rng.random_range(0..IDLE_TIMEOUT_MS);
            self.later_input(node, delay, Input::LinkDown { link });
        }
    }

    /// Cuts one direction; connections across it time out if it lasts.
    pub fn cut(&mut self, from: usize, to: usize) {
        self.net.cut(from, to);
        for connection in self.net.all() {
            if self.net.is_cut(connection) {
                self.push(IDLE_TIMEOUT_MS, Happening::TimeOut { connection });
            }
        }
    }

    /// Heals all cuts.
    pub fn heal(&mut self) {
        let delay = self.delay();
        for passage in self.net.heal(self.now_ms, delay) {
            self.push_at(passage.at_ms, Happening::Deliver(Box::new(passage)));
        }
    }

    /// Runs until `until_ms`.
    pub fn run_until(&mut self, until_ms: u64) {
        while let Some((at_ms, event)) = self.queue.pop_until(until_ms) {
            self.now_ms = self.now_ms.max(at_ms);
            self.happen(event);
        }
        self.now_ms = self.now_ms.max(until_ms);
    }

    fn happen(&mut self, event: Happening) {
        match event {
            Happening::Deliver(passage) => self.deliver(*passage),
            Happening::Input { node, start, input } => self.input(node, start, *input),
            Happening::Read { node, start, load, entries } => {
                self.input(node, start, Input::Loaded { load, entries });
            }
            Happening::Commit { node, start } => self.commit(node, start),
            Happening::Wake { node, start } => self.wake(node, start),
            Happening::Dialled { from, start, kind, to, timeout_ms } => {
                if self.nodes[from].starts == start {
                    self.dialled(from, kind, to, timeout_ms);
                }
            }
            Happening::TimeOut { connection } => {
                if self.net.is_cut(connection) {
                    self.break_off(connection);
                }
            }
        }
    }

    fn deliver(&mut self, passage: Passage) {
        if !self.net.is_up(passage.connection) {
            return;
        }
        let (node, link) = passage.to;
        let Some(frame) = self.arrive(passage.frame) else {
            return self.break_off(passage.connection);
        };
        let start = self.nodes[node].starts;
        self.input(node, start, Input::LinkFrame { link, frame });
    }

    fn arrive(&mut self, mut frame: Frame) -> Option<Inbound> {
        if let Frame::Entries { entries, .. } = &mut frame
            && self.transit.alters > 0
            && self.rng.random_range(0..1_000) < self.transit.alters
        {
            entries.iter_mut().take(1).for_each(alter);
            self.counts.count(Fault::AlteredEntry);
        }
        inbound(frame, self.transit.verifies)
    }

    fn dialled(&mut self, from: usize, kind: LinkKind, to: usize, timeout_ms: u64) {
        let lost = self.rng.random_range(0..100) < self.conditions.dial_loss;
        let up = |node: usize| self.nodes[node].host.is_some();
        if !up(from) {
            return;
        }
        if lost || !up(to) || !self.net.reaches(from, to) {
            if lost {
                self.counts.count(Fault::LostDial);
            }
            let key = H::key_of(&self.plan, kind, to);
            self.later_input(from, timeout_ms, Input::DialFailed { kind, key });
            return;
        }
        let (_, ends) = self.net.connect(from, to);
        for (side, (node, link)) in ends.into_iter().enumerate() {
            let key = H::key_of(&self.plan, kind, ends[1 - side].0);
            let dialled = side == 0;
            let start = self.nodes[node].starts;
            self.input(node, start, Input::LinkUp { link, kind, key, dialled, remote: None });
        }
    }

    pub(crate) fn effect(&mut self, node: usize, effect: Effect) {
        match effect {
            Effect::Send { link, frame } => self.send((node, link), frame),
            Effect::Close { link, goodbye } => {
                self.send((node, link), Frame::Goodbye(goodbye));
                if let Some(connection) = self.net.connection_of((node, link)) {
                    self.break_off(connection);
                }
            }
            Effect::Dial { kind, key, timeout_ms, .. } => {
                let Some(to) = H::node_of(&self.plan, kind, &key) else { return };
                let start = self.nodes[node].starts;
                let delay = self.delay();
                self.push(delay, Happening::Dialled { from: node, start, kind, to, timeout_ms });
            }
            Effect::Load { load, conversation, author, stream, after_seq, limit } => {
                let from = (conversation, author, stream);
                let entries = self.nodes[node].disk.load(&from, after_seq, limit.min(50));
                let start = self.nodes[node].starts;
                let delay = self.disk_delay(node);
                self.push(delay, Happening::Read { node, start, load, entries });
            }
            other => {
                let now = self.now();
                for (to, delay, input) in H::environment(&mut self.plan, node, other, now) {
                    self.later_input(to, delay, input);
                }
            }
        }
    }

    fn send(&mut self, from: End, frame: Frame) {
        let data = matches!(frame, Frame::Entries { .. } | Frame::Have(_));
        let twice = data && self.rng.random_range(0..100) < self.conditions.duplicates;
        if twice {
            self.counts.count(Fault::DoubledFrame);
        }
        let slowness = self.nodes[from.0].slowness;
        for frame in std::iter::repeat_n(frame, 1 + usize::from(twice)) {
            let delay = (self.delay() * slowness + self.losses()).min(FRAME_MS_MAX);
            if let Some(passage) = self.net.send(from, frame, self.now_ms, delay) {
                self.push_at(passage.at_ms, Happening::Deliver(Box::new(passage)));
            }
        }
    }

    /// How much longer a frame takes since it is lost on the way.
    fn losses(&mut self) -> u64 {
        let mut losses = 0;
        while losses < LOSSES_MAX && self.rng.random_range(0..100) < self.conditions.frame_loss {
            losses += 1;
            self.counts.count(Fault::LostFrame);
        }
        RESEND_MS * ((1 << losses) - 1)
    }

    fn delay(&mut self) -> u64 {
        self.rng.random_range(1..=self.conditions.delay_max_ms)
    }

    fn later_input(&mut self, node: usize, delay_ms: u64, input: Input) {
        let start = self.nodes[node].starts;
        self.push(delay_ms, Happening::Input { node, start, input: Box::new(input) });
    }

    pub(crate) fn push(&mut self, delay_ms: u64, event: Happening) {
        self.push_at(self.now_ms + delay_ms, event);
    }

    pub(crate) fn push_at(&mut self, at_ms: u64, event: Happening) {
        self.queue.push(at_ms, event);
    }
}

/// A frame as the link hands it to the core; `None` if an entry does not hold. A check of the signature
/// costs most of a run.
fn inbound(frame: Frame, verifies: bool) -> Option<Inbound> {
    let check = |entry: Entry| if verifies { entry.verify() } else { entry.trust() };
    Some(match frame {
        Frame::Entries { conversation, entries } => {
            let entries = entries.into_iter().map(check);
            Inbound::Entries { conversation, entries: entries.collect::<Result<_, _>>().ok()? }
        }
        Frame::Fork { a, b } => Inbound::Fork { a: check(a).ok()?, b: check(b).ok()? },
        other => Inbound::Other(other),
    })
}

/// What a member that forwards an entry may make of it: another text, with a header that fits.
fn alter(entry: &mut Entry) {
    let Ok(honest) = entry.clone().trust() else { return };
    let Content::Body(body) = &mut entry.content else { return };
    body.text.push('!');
    let mut header = honest.header().clone();
    header.body = body.hash();
    if let Ok(bytes) = postcard::to_stdvec(&header) {
        entry.header = bytes.into();
    }
}
