//! The machine of a simulated world: one queue of events in virtual time.
//!
//! Invariant: as in the daemon, the effects of an output happen only after its writes and those of all
//! outputs before it are applied to the disk; a crash loses outputs that were not. (Unless
//! [`World::effects_first`] plants the fault.)

use std::collections::BTreeMap;

use peerd::core::{
    durable::Write,
    input::{Inbound, Input, LinkKind, LoadId, Now},
    memory::Disk,
    output::{Effect, Output},
};
use peerd_proto::wire::{Entry, Frame};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

use crate::{
    Host, Violation,
    net::{End, Net, Passage},
};

/// The wall clock at the start of each world.
const WALL_START_MS: u64 = 1_790_000_000_000;
/// How long a connection lives without hearing from the other side.
const IDLE_TIMEOUT_MS: u64 = 6_000;
/// How long a dial takes to fail.
const DIAL_TIMEOUT_MS: u64 = 3_000;

/// How bad the world is.
#[derive(Debug, Clone, Copy)]
pub struct Conditions {
    /// The longest way of a frame.
    pub delay_max_ms: u64,
    /// The longest commit.
    pub commit_max_ms: u64,
    /// Of 100 dials, so many are lost.
    pub dial_loss: u32,
    /// Of 100 frames of entries or vectors, so many come twice.
    pub duplicates: u32,
}

impl Conditions {
    /// No faults.
    pub const CALM: Self = Self { delay_max_ms: 20, commit_max_ms: 5, dial_loss: 0, duplicates: 0 };

    /// Drawn from a seed.
    pub fn draw(rng: &mut StdRng) -> Self {
        Self {
            delay_max_ms: *pick(rng, &[5, 40, 300, 2_000]),
            commit_max_ms: *pick(rng, &[2, 20, 200]),
            dial_loss: *pick(rng, &[0, 10, 50]),
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

/// One node.
pub struct Node<H> {
    /// `None` while it is down.
    pub host: Option<H>,
    /// What it committed.
    pub disk: Disk,
    /// An old state of the disk.
    pub backup: Option<Disk>,
    /// How often the disk went back to a backup.
    pub rollbacks: u32,
    /// How often it was started.
    pub starts: u64,
    uncommitted: Vec<Output>,
    wake_at_ms: Option<u64>,
}

enum Event {
    Deliver(Box<Passage>),
    Input { node: usize, start: u64, input: Box<Input> },
    Read { node: usize, start: u64, load: LoadId, entries: Vec<peerd_proto::wire::VerifiedEntry> },
    Commit { node: usize, start: u64 },
    Wake { node: usize, start: u64 },
    Dialled { from: usize, start: u64, kind: LinkKind, to: usize },
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
    /// Called for each write that is committed.
    pub on_commit: OnCommit<H>,
    /// What was found on the way.
    pub violations: Vec<Violation>,
    /// Whether to hash what happens: costs more than the run itself.
    pub traced: bool,
    queue: BTreeMap<(u64, u64), Event>,
    queued: u64,
    trace: blake3::Hasher,
}

impl<H: Host> World<H> {
    /// A world of `count` nodes, all down.
    pub fn new(plan: H::Plan, count: usize, seed: u64, conditions: Conditions) -> Self {
        let node = || Node {
            host: None,
            disk: Disk::default(),
            backup: None,
            rollbacks: 0,
            starts: 0,
            uncommitted: Vec::new(),
            wake_at_ms: None,
        };
        Self {
            plan,
            nodes: (0..count).map(|_| node()).collect(),
            net: Net::default(),
            now_ms: 1_000,
            rng: StdRng::seed_from_u64(seed),
            conditions,
            transit: Transit::default(),
            effects_first: false,
            on_commit: |_, _, _, _| None,
            violations: Vec::new(),
            traced: false,
            queue: BTreeMap::new(),
            queued: 0,
            trace: blake3::Hasher::new(),
        }
    }

    /// A hash of all inputs of all nodes, if [`World::traced`].
    pub fn trace(&self) -> [u8; 32] {
        *self.trace.finalize().as_bytes()
    }

    /// The clocks of the nodes.
    pub fn now(&self) -> Now {
        Now { mono_ms: self.now_ms, wall_ms: WALL_START_MS + self.now_ms }
    }

    /// Starts a node that is down.
    pub fn start(&mut self, node: usize) {
        if self.nodes[node].host.is_some() {
            return;
        }
        let seed = self.rng.random();
        let now = self.now();
        let snapshot = self.nodes[node].disk.snapshot();
        let (host, output) = H::start(&self.plan, node, &snapshot, seed, now);
        let slot = &mut self.nodes[node];
        slot.host = Some(host);
        slot.starts += 1;
        slot.wake_at_ms = None;
        self.put_out(node, output);
    }

    /// Power loss: what is not committed is gone; the others notice later.
    pub fn crash(&mut self, node: usize) {
        let slot = &mut self.nodes[node];
        slot.host = None;
        slot.uncommitted.clear();
        for connection in self.net.of_node(node) {
            self.break_off(connection);
        }
    }

    /// Keeps a copy of the disk.
    pub fn back_up(&mut self, node: usize) {
        self.nodes[node].backup = Some(self.nodes[node].disk.clone());
    }

    /// Puts the copy in place of the disk of a node that is down.
    pub fn roll_back(&mut self, node: usize) {
        let slot = &mut self.nodes[node];
        if let (None, Some(backup)) = (&slot.host, slot.backup.take()) {
            slot.disk = backup;
            slot.rollbacks += 1;
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
                self.push(IDLE_TIMEOUT_MS, Event::TimeOut { connection });
            }
        }
    }

    /// Heals all cuts.
    pub fn heal(&mut self) {
        let delay = self.delay();
        for passage in self.net.heal(self.now_ms, delay) {
            self.push_at(passage.at_ms, Event::Deliver(Box::new(passage)));
        }
    }

    /// The user of a node that is up does something.
    pub fn act(&mut self, node: usize, act: H::Act) {
        let now = self.now();
        let Some(host) = &mut self.nodes[node].host else { return };
        let output = host.act(&self.plan, now, act);
        self.put_out(node, output);
    }

    /// Runs until `until_ms`.
    pub fn run_until(&mut self, until_ms: u64) {
        while let Some(entry) = self.queue.first_entry() {
            let (at_ms, _) = *entry.key();
            if at_ms > until_ms {
                break;
            }
            let event = entry.remove();
            self.now_ms = self.now_ms.max(at_ms);
            self.happen(event);
        }
        self.now_ms = self.now_ms.max(until_ms);
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Deliver(passage) => self.deliver(*passage),
            Event::Input { node, start, input } => self.input(node, start, *input),
            Event::Read { node, start, load, entries } => {
                self.input(node, start, Input::Loaded { load, entries });
            }
            Event::Commit { node, start } => {
                if self.nodes[node].starts == start {
                    self.commit(node);
                }
            }
            Event::Wake { node, start } => {
                if self.nodes[node].starts == start {
                    self.nodes[node].wake_at_ms = None;
                    self.input(node, start, Input::Tick);
                }
            }
            Event::Dialled { from, start, kind, to } => self.dialled(from, start, kind, to),
            Event::TimeOut { connection } => {
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
        }
        inbound(frame, self.transit.verifies)
    }

    fn dialled(&mut self, from: usize, start: u64, kind: LinkKind, to: usize) {
        let lost = self.rng.random_range(0..100) < self.conditions.dial_loss;
        let up = |node: usize| self.nodes[node].host.is_some();
        if self.nodes[from].starts != start || !up(from) {
            return;
        }
        if lost || !up(to) || !self.net.reaches(from, to) {
            let key = H::key_of(&self.plan, kind, to);
            self.later_input(from, DIAL_TIMEOUT_MS, Input::DialFailed { kind, key });
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

    /// Gives an input to a node, if it still is the one it was meant for.
    fn input(&mut self, node: usize, start: u64, input: Input) {
        let now = self.now();
        if self.nodes[node].starts != start {
            return;
        }
        let Some(host) = &mut self.nodes[node].host else { return };
        if self.traced {
            let text = format!("{} {node} {input:?}", self.now_ms);
            self.trace.update(text.as_bytes());
        }
        let output = host.handle(&self.plan, now, input);
        self.put_out(node, output);
    }

    fn put_out(&mut self, node: usize, mut output: Output) {
        if self.effects_first {
            let effects = std::mem::take(&mut output.effects);
            self.release(node, effects);
        }
        let slot = &mut self.nodes[node];
        if slot.uncommitted.is_empty() && output.writes.is_empty() {
            self.release(node, output.effects);
        } else {
            slot.uncommitted.push(output);
            if slot.uncommitted.len() == 1 {
                let start = slot.starts;
                let delay = self.rng.random_range(0..=self.conditions.commit_max_ms);
                self.push(delay, Event::Commit { node, start });
            }
        }
        self.set_wake(node);
    }

    fn set_wake(&mut self, node: usize) {
        let now = self.now();
        let slot = &mut self.nodes[node];
        let Some(at) = slot.host.as_ref().and_then(|host| host.next_wake(now)) else { return };
        if slot.wake_at_ms.is_none_or(|planned| at < planned) {
            let start = slot.starts;
            let at = at.max(self.now_ms + 1);
            slot.wake_at_ms = Some(at);
            self.push_at(at, Event::Wake { node, start });
        }
    }

    fn commit(&mut self, node: usize) {
        let outputs = std::mem::take(&mut self.nodes[node].uncommitted);
        let mut effects = Vec::new();
        let mut writes = Vec::new();
        for output in outputs {
            effects.extend(output.effects);
            writes.extend(output.writes);
        }
        for write in &writes {
            if let Err(gap) = self.nodes[node].disk.apply(write.clone()) {
                self.violations.push(Violation::Gap(gap));
            }
        }
        for write in &writes {
            self.violations.extend((self.on_commit)(&self.plan, &self.nodes, node, write));
        }
        self.release(node, effects);
    }

    fn release(&mut self, node: usize, effects: Vec<Effect>) {
        for effect in effects {
            self.effect(node, effect);
        }
    }

    fn effect(&mut self, node: usize, effect: Effect) {
        match effect {
            Effect::Send { link, frame } => self.send((node, link), frame),
            Effect::Close { link, goodbye } => {
                self.send((node, link), Frame::Goodbye(goodbye));
                if let Some(connection) = self.net.connection_of((node, link)) {
                    self.break_off(connection);
                }
            }
            Effect::Dial { kind, key, .. } => {
                let Some(to) = H::node_of(&self.plan, kind, &key) else { return };
                let start = self.nodes[node].starts;
                let delay = self.delay();
                self.push(delay, Event::Dialled { from: node, start, kind, to });
            }
            Effect::Load { load, conversation, author, stream, after_seq, limit } => {
                let from = (conversation, author, stream);
                let entries = self.nodes[node].disk.load(&from, after_seq, limit.min(50));
                let start = self.nodes[node].starts;
                let delay = self.rng.random_range(0..=self.conditions.commit_max_ms);
                self.push(delay, Event::Read { node, start, load, entries });
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
        for frame in std::iter::repeat_n(frame, 1 + usize::from(twice)) {
            let delay = self.delay();
            if let Some(passage) = self.net.send(from, frame, self.now_ms, delay) {
                self.push_at(passage.at_ms, Event::Deliver(Box::new(passage)));
            }
        }
    }

    fn delay(&mut self) -> u64 {
        self.rng.random_range(1..=self.conditions.delay_max_ms)
    }

    fn later_input(&mut self, node: usize, delay_ms: u64, input: Input) {
        let start = self.nodes[node].starts;
        self.push(delay_ms, Event::Input { node, start, input: Box::new(input) });
    }

    fn push(&mut self, delay_ms: u64, event: Event) {
        self.push_at(self.now_ms + delay_ms, event);
    }

    fn push_at(&mut self, at_ms: u64, event: Event) {
        self.queued += 1;
        self.queue.insert((at_ms, self.queued), event);
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
    let Some(body) = &mut entry.body else { return };
    body.text.push('!');
    let mut header = honest.header().clone();
    header.body = body.hash();
    if let Ok(bytes) = postcard::to_stdvec(&header) {
        entry.header = bytes.into();
    }
}
