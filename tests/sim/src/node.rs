//! One node of a world: its disk, its commits, and what a power loss leaves of them.
//!
//! Invariant: outputs reach the disk in their order, whole; what survives a power loss is a prefix of them.
//! That is what SQLite's WAL with `synchronous=FULL` gives: a commit that returned is there, one under way is
//! there or not, and none without those before it. The effects of what survived are lost all the same.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use peerd::core::{
    durable::Write,
    input::{Input, LinkKind, Now},
    memory::Disk,
    output::{Effect, Output},
};
use peerd_proto::control::{Event, EventKind};
use rand::RngExt as _;

use crate::{
    Host, Violation,
    counts::Fault,
    world::{Happening, World},
};

/// The wall clock at the start of each world.
const WALL_START_MS: u64 = 1_790_000_000_000;
/// The most old states of a disk that are kept.
const BACKUPS_MAX: usize = 3;

/// One node.
pub struct Node<H> {
    /// `None` while it is down.
    pub host: Option<H>,
    /// What it committed.
    pub disk: Disk,
    /// Old states of the disk, oldest first.
    pub backups: Vec<Disk>,
    /// How often the disk went back to a backup.
    pub rollbacks: u32,
    /// How often it was started.
    pub starts: u64,
    /// What its listeners were told since the disk last went back: number and fingerprint of each event.
    pub told: Vec<(u64, u64)>,
    /// How many times as long its disk and its frames take.
    pub slowness: u64,
    /// How far its wall clock is off.
    pub wall_offset_ms: i64,
    /// Until when its disk takes nothing.
    pub stalled_until_ms: u64,
    /// After so many effects the power is lost.
    pub fuse: Option<u32>,
    uncommitted: Vec<Output>,
    wake_at_ms: Option<u64>,
}

impl<H> Default for Node<H> {
    fn default() -> Self {
        Self {
            host: None,
            disk: Disk::default(),
            backups: Vec::new(),
            rollbacks: 0,
            starts: 0,
            told: Vec::new(),
            slowness: 1,
            wall_offset_ms: 0,
            stalled_until_ms: 0,
            fuse: None,
            uncommitted: Vec::new(),
            wake_at_ms: None,
        }
    }
}

/// What is compared of an event: the message that it is about.
pub fn fingerprint(event: &Event) -> u64 {
    let mut hasher = DefaultHasher::new();
    match &event.kind {
        EventKind::Message { from, id, .. } => (0, from.as_str(), id).hash(&mut hasher),
        EventKind::Delivered { id, .. } => (1, id).hash(&mut hasher),
        EventKind::Failed { id, .. } => (2, id).hash(&mut hasher),
        _ => 3.hash(&mut hasher),
    }
    hasher.finish()
}

impl<H: Host> World<H> {
    /// The true time.
    pub fn now(&self) -> Now {
        Now { mono_ms: self.now_ms, wall_ms: WALL_START_MS + self.now_ms }
    }

    /// The clocks of a node.
    pub fn now_at(&self, node: usize) -> Now {
        let now = self.now();
        Now { wall_ms: now.wall_ms.saturating_add_signed(self.nodes[node].wall_offset_ms), ..now }
    }

    /// Starts a node that is down.
    pub fn start(&mut self, node: usize) {
        if self.nodes[node].host.is_some() {
            return;
        }
        let seed = self.rng.random();
        let now = self.now_at(node);
        let snapshot = self.nodes[node].disk.snapshot();
        let (host, output) = H::start(&self.plan, node, &snapshot, seed, now);
        let slot = &mut self.nodes[node];
        slot.host = Some(host);
        slot.starts += 1;
        slot.wake_at_ms = None;
        self.put_out(node, output);
    }

    /// Power loss: of what is not committed a prefix survives, perhaps all, perhaps nothing; the others
    /// notice later.
    pub fn crash(&mut self, node: usize) {
        if self.nodes[node].host.take().is_none() {
            return;
        }
        self.counts.count(Fault::Crash);
        let slot = &mut self.nodes[node];
        slot.fuse = None;
        let outputs = std::mem::take(&mut slot.uncommitted);
        if !outputs.is_empty() {
            let survive = self.rng.random_range(0..=outputs.len());
            if 0 < survive && survive < outputs.len() {
                self.counts.count(Fault::TornCommit);
            }
            for output in outputs.into_iter().take(survive) {
                self.apply(node, output.writes, false);
            }
        }
        for connection in self.net.of_node(node) {
            self.break_off(connection);
        }
    }

    /// Keeps a copy of the disk, beside older ones.
    pub fn back_up(&mut self, node: usize) {
        let slot = &mut self.nodes[node];
        if slot.backups.len() == BACKUPS_MAX {
            slot.backups.remove(0);
        }
        slot.backups.push(slot.disk.clone());
    }

    /// Puts the newest copy in place of the disk of a node that is down.
    pub fn roll_back(&mut self, node: usize) {
        self.roll_back_to(node, 0);
    }

    /// Puts a copy in place of the disk of a node that is down: the newest, or one so many older.
    pub fn roll_back_to(&mut self, node: usize, older: usize) {
        let slot = &mut self.nodes[node];
        if slot.host.is_some() || slot.backups.is_empty() {
            return;
        }
        let at = slot.backups.len() - 1 - older.min(slot.backups.len() - 1);
        slot.disk = slot.backups.swap_remove(at);
        slot.backups.truncate(at);
        slot.rollbacks += 1;
        slot.told.clear();
        self.counts.count(Fault::Restore);
    }

    /// The disk of a node takes nothing for so long: full, or hanging. What waits for it waits.
    pub fn stall(&mut self, node: usize, for_ms: u64) {
        self.nodes[node].stalled_until_ms = self.now_ms + for_ms;
        self.counts.count(Fault::StalledDisk);
    }

    /// Moves the wall clock of a node.
    pub fn set_clock(&mut self, node: usize, offset_ms: i64) {
        self.nodes[node].wall_offset_ms = offset_ms;
        self.counts.count(Fault::ClockJump);
    }

    /// Makes a node so many times slower than others.
    pub fn slow_down(&mut self, node: usize, times: u64) {
        self.nodes[node].slowness = times.max(1);
        self.counts.count(Fault::SlowNode);
    }

    /// The user of a node that is up does something.
    pub fn act(&mut self, node: usize, act: H::Act) {
        let now = self.now_at(node);
        let Some(host) = &mut self.nodes[node].host else { return };
        let output = host.act(&self.plan, now, act);
        self.put_out(node, output);
    }

    /// Gives an input to a node, if it still is the one it was meant for.
    pub(crate) fn input(&mut self, node: usize, start: u64, input: Input) {
        if self.nodes[node].starts != start || self.nodes[node].host.is_none() {
            return;
        }
        let now = self.now_at(node);
        self.note(node, &input);
        let Some(host) = &mut self.nodes[node].host else { return };
        let output = host.handle(&self.plan, now, input);
        self.put_out(node, output);
    }

    /// Takes an output: its writes are committed some time later, its effects follow.
    pub(crate) fn put_out(&mut self, node: usize, mut output: Output) {
        if self.shows_first {
            self.tell(node, &output.writes);
        }
        if self.effects_first {
            let effects = std::mem::take(&mut output.effects);
            self.release(node, effects);
        }
        let slot = &mut self.nodes[node];
        if slot.uncommitted.is_empty() && output.writes.is_empty() {
            self.release(node, output.effects);
        } else if slot.host.is_some() {
            slot.uncommitted.push(output);
            if slot.uncommitted.len() == 1 {
                let start = slot.starts;
                let delay = self.disk_delay(node);
                self.push(delay, Happening::Commit { node, start });
            }
        }
        self.set_wake(node);
    }

    /// How long a node's disk takes for one thing.
    pub(crate) fn disk_delay(&mut self, node: usize) -> u64 {
        self.rng.random_range(0..=self.conditions.commit_max_ms) * self.nodes[node].slowness
    }

    fn set_wake(&mut self, node: usize) {
        let now = self.now_at(node);
        let slot = &mut self.nodes[node];
        let Some(at) = slot.host.as_ref().and_then(|host| host.next_wake(now)) else { return };
        if slot.wake_at_ms.is_none_or(|planned| at < planned) {
            let start = slot.starts;
            let at = at.max(self.now_ms + 1);
            slot.wake_at_ms = Some(at);
            self.push_at(at, Happening::Wake { node, start });
        }
    }

    /// The planned time of a wake has come.
    pub(crate) fn wake(&mut self, node: usize, start: u64) {
        let slot = &mut self.nodes[node];
        if slot.starts == start && slot.wake_at_ms.is_some_and(|at| at <= self.now_ms) {
            slot.wake_at_ms = None;
            self.input(node, start, Input::Tick);
        }
    }

    /// Commits all that waits, in one group, unless the disk is stalled.
    pub(crate) fn commit(&mut self, node: usize, start: u64) {
        if self.nodes[node].starts != start {
            return;
        }
        let until_ms = self.nodes[node].stalled_until_ms;
        if until_ms > self.now_ms {
            return self.push_at(until_ms, Happening::Commit { node, start });
        }
        let outputs = std::mem::take(&mut self.nodes[node].uncommitted);
        let mut effects = Vec::new();
        for output in outputs {
            effects.extend(output.effects);
            self.apply(node, output.writes, !self.shows_first);
        }
        self.release(node, effects);
    }

    /// Applies writes to the disk and holds each against the guarantees.
    fn apply(&mut self, node: usize, writes: Vec<Write>, tells: bool) {
        if tells {
            self.tell(node, &writes);
        }
        for write in writes {
            if let Write::Entry { entry, shown, .. } = &write {
                let own = H::key_of(&self.plan, LinkKind::Peer, node) == entry.header().author;
                self.messages.accepted += u64::from(own && entry.body().is_some());
                self.messages.shown += u64::from(shown.is_some());
                self.last_change_ms = self.now_ms;
            }
            if let Err(gap) = self.nodes[node].disk.apply(write.clone()) {
                self.violations.push(Violation::Gap(gap));
            }
            self.violations.extend((self.on_commit)(&self.plan, &self.nodes, node, &write));
        }
    }

    /// Tells the listeners of a node the events of an output.
    fn tell(&mut self, node: usize, writes: &[Write]) {
        for write in writes {
            if let Write::Event(event) = write {
                self.nodes[node].told.push((event.n, fingerprint(event)));
            }
        }
    }

    /// Carries effects out, until a fuse blows.
    pub(crate) fn release(&mut self, node: usize, effects: Vec<Effect>) {
        for effect in effects {
            if let Some(left) = &mut self.nodes[node].fuse {
                if *left == 0 {
                    self.counts.count(Fault::CrashAmidEffects);
                    return self.crash(node);
                }
                *left -= 1;
            }
            self.effect(node, effect);
        }
    }
}
