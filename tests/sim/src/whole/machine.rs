//! The machine of a whole world: devices with cores, disks, clocks and addresses, one registry, one network,
//! one queue of what happens next in virtual time.
//!
//! It is not [`crate::world`]: there the nodes are replicas that know nothing but keys, here a dial goes to
//! an address, a registry may be away, and each clock may be off.
//!
//! Invariant: as in the daemon, the effects of an output happen only after its writes and those of all
//! outputs before it are applied to the disk; a crash loses outputs that were not. (Unless
//! [`Planted::effects_first`] plants the fault.)

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
};

use peerd::{
    core::{
        Answer, CommandFailure, CommandId, Config, Core, Effect, Input, LinkId, LinkKind, LoadId,
        Now, Output, Recalled,
        durable::Write,
        memory::{Disk, Gap},
    },
    keys::Keys,
};
use peerd_proto::{
    control::Command,
    wire::{Goodbye, VerifiedEntry},
};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use registryd::simulation;
use registryd_proto::{PublicKey, hello::Datagram};

use super::{
    conditions::Conditions, hello::Speaker, index::Index, planted::Planted, registry::Asked,
    wire::Made,
};
use crate::{
    counts::{Counts, Fault},
    net::{Net, Passage},
    timeline::Timeline,
};

/// The registry's place in the network.
pub const INDEX: usize = usize::MAX;
/// The wall clock at the start of each world.
pub(super) const WALL_START_MS: u64 = 1_790_000_000_000;
/// Entries that one read gives.
const READ_MAX: u32 = 50;

/// What a command was told.
pub type Told = Result<Answer, CommandFailure>;

/// One device of one user.
pub struct Device {
    /// Whose.
    pub account: usize,
    /// Its keys.
    pub keys: Keys,
    /// `None` while it is down.
    pub core: Option<Core>,
    /// What it committed.
    pub disk: Disk,
    /// An old state of the disk.
    pub backup: Option<Disk>,
    /// How often the disk went back to a backup.
    pub rollbacks: u32,
    /// How often it was started.
    pub starts: u64,
    /// Its address.
    pub ip: IpAddr,
    /// How far its wall clock is off.
    pub wall_offset_ms: i64,
    /// No commit ends before.
    pub stalled_until_ms: u64,
    /// When a connection of it broke last.
    pub(super) broken_ms: u64,
    /// The ports of its listeners, while they are open.
    pub(super) ports: Option<(u16, u16)>,
    /// Dials under way, with how long each may take.
    pub(super) dialling: BTreeMap<(LinkKind, PublicKey), u64>,
    pub(super) hello: Option<Speaker>,
    pub(super) hellos: u64,
    pub(super) asked: Asked,
    uncommitted: Vec<Output>,
    wake_at_ms: Option<u64>,
}

impl Device {
    /// A device that was never started.
    pub fn new(account: usize, keys: Keys, ip: IpAddr) -> Self {
        Self {
            account,
            keys,
            core: None,
            disk: Disk::default(),
            backup: None,
            rollbacks: 0,
            starts: 0,
            ip,
            wall_offset_ms: 0,
            stalled_until_ms: 0,
            broken_ms: 0,
            ports: None,
            dialling: BTreeMap::new(),
            hello: None,
            hellos: 0,
            asked: Asked::default(),
            uncommitted: Vec::new(),
            wake_at_ms: None,
        }
    }

    pub(super) fn key(&self, kind: LinkKind) -> PublicKey {
        match kind {
            LinkKind::Peer => self.keys.peer.public(),
            LinkKind::Room => self.keys.room.public(),
        }
    }
}

/// What happens at some time.
pub(super) enum Event {
    Frame(Box<Passage>),
    Input { node: usize, start: u64, input: Box<Input> },
    Read { node: usize, start: u64, load: LoadId, entries: Vec<VerifiedEntry> },
    Commit { node: usize, start: u64 },
    Wake { node: usize, start: u64 },
    Dialled { from: usize, start: u64, kind: LinkKind, key: PublicKey, at: Vec<SocketAddr> },
    TimeOut { connection: u64 },
    Call(Box<super::registry::Call>),
    Answer(Box<super::registry::Answered>),
    ToIndex { from: SocketAddr, bytes: Datagram },
    FromIndex { to: SocketAddr, bytes: Datagram },
    Hello { node: usize, start: u64, hello: u64 },
    IndexWake { start: u64 },
}

/// A world.
pub struct Machine {
    /// The devices.
    pub devices: Vec<Device>,
    /// The registry.
    pub index: Index,
    /// The connections between devices, and all cuts.
    pub net: Net,
    /// The time.
    pub now_ms: u64,
    /// Draws all that is random.
    pub rng: StdRng,
    /// How bad it is.
    pub conditions: Conditions,
    /// What is broken on purpose.
    pub planted: Planted,
    /// All replies to commands, by command.
    pub told: BTreeMap<CommandId, Vec<Told>>,
    /// How many inputs the devices had.
    pub inputs: u64,
    /// What was injected.
    pub counts: Counts,
    /// When the last entry was committed anywhere.
    pub last_entry_ms: u64,
    /// Pairs that dialled each other at once, and each closed the connection that the other kept.
    pub both_dropped: Vec<(usize, usize)>,
    /// Writes that no store could take.
    pub gaps: Vec<Gap>,
    /// Old datagrams to the registry, for replays.
    pub overheard: Vec<(SocketAddr, Datagram)>,
    /// Connections that one side has closed: the goodbye is under way.
    pub(super) closing: BTreeMap<u64, (usize, Goodbye)>,
    /// What each connection is.
    pub(super) made: BTreeMap<u64, Made>,
    /// Pairs of which one dialled the other though a connection of its own was up.
    pub(super) dialled_twice: BTreeSet<(usize, usize)>,
    /// Directions in which nothing passes.
    pub(super) cuts: BTreeSet<(usize, usize)>,
    pub(super) next_port: u16,
    pub(super) next_hello_port: u16,
    pub(super) index_wake_ms: Option<u64>,
    queue: Timeline<Event>,
}

impl Machine {
    /// A world where everything is down but, perhaps, the registry.
    pub fn new(devices: Vec<Device>, index: Index, now_ms: u64, seed: u64) -> Self {
        Self {
            devices,
            index,
            net: Net::default(),
            now_ms,
            rng: StdRng::seed_from_u64(seed),
            conditions: Conditions::CALM,
            planted: Planted::default(),
            told: BTreeMap::new(),
            inputs: 0,
            counts: Counts::default(),
            last_entry_ms: 0,
            both_dropped: Vec::new(),
            gaps: Vec::new(),
            overheard: Vec::new(),
            closing: BTreeMap::new(),
            made: BTreeMap::new(),
            dialled_twice: BTreeSet::new(),
            cuts: BTreeSet::new(),
            next_port: 4_001,
            next_hello_port: super::registry::HELLO_PORT_MIN,
            index_wake_ms: None,
            queue: Timeline::default(),
        }
    }

    /// The clocks of the registry at the beginning of a world.
    pub fn index_now(&self) -> simulation::Now {
        let wall_ms =
            (WALL_START_MS + self.now_ms).saturating_add_signed(self.index.wall_offset_ms);
        simulation::Now { monotonic_ms: self.now_ms, wall_ms }
    }

    /// The clocks of a device.
    pub fn now(&self, node: usize) -> Now {
        let offset_ms = self.devices[node].wall_offset_ms;
        let wall_ms = (WALL_START_MS + self.now_ms).saturating_add_signed(offset_ms);
        Now { mono_ms: self.now_ms, wall_ms }
    }

    /// Whether a device runs.
    pub fn is_up(&self, node: usize) -> bool {
        self.devices[node].core.is_some()
    }

    /// Starts a device that is down.
    pub fn start(&mut self, node: usize) {
        if self.is_up(node) {
            return;
        }
        let now = self.now(node);
        let seed = self.rng.random();
        let device = &mut self.devices[node];
        let (keys, snapshot) = (device.keys.clone(), device.disk.snapshot());
        let (mut core, output) = Core::new(keys, Config::default(), snapshot, seed, now);
        core.plant(self.planted.peers);
        device.core = Some(core);
        device.starts += 1;
        device.wake_at_ms = None;
        self.put_out(node, output);
    }

    /// Power loss: what is not committed is gone; the others notice later.
    pub fn crash(&mut self, node: usize) {
        let device = &mut self.devices[node];
        if device.core.is_some() {
            self.counts.count(Fault::Crash);
        }
        device.core = None;
        device.uncommitted.clear();
        device.stalled_until_ms = 0;
        device.ports = None;
        device.dialling.clear();
        device.hello = None;
        device.asked = Asked::default();
        for connection in self.net.of_node(node) {
            self.break_off(connection);
        }
    }

    /// Keeps a copy of a disk.
    pub fn back_up(&mut self, node: usize) {
        self.devices[node].backup = Some(self.devices[node].disk.clone());
    }

    /// Puts the copy in place of the disk of a device that is down.
    pub fn roll_back(&mut self, node: usize) {
        let device = &mut self.devices[node];
        if device.core.is_none()
            && let Some(backup) = device.backup.take()
        {
            device.disk = backup;
            device.rollbacks += 1;
            self.counts.count(Fault::Restore);
        }
    }

    /// Starts the registry.
    pub fn start_index(&mut self) {
        if !self.index.is_up() {
            let (seed, now) = (self.rng.random(), self.index_now());
            self.index.start(seed, now);
            self.settle_index();
        }
    }

    /// The user of a device that is up does something.
    pub fn command(&mut self, node: usize, id: CommandId, command: Command) {
        let start = self.devices[node].starts;
        self.input(node, start, Input::Command { id, command });
    }

    /// Runs until `until_ms`.
    pub fn run_until(&mut self, until_ms: u64) {
        while let Some((at_ms, event)) = self.queue.pop_until(until_ms) {
            self.now_ms = self.now_ms.max(at_ms);
            self.happen(event);
        }
        self.now_ms = self.now_ms.max(until_ms);
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Frame(passage) => self.deliver(*passage),
            Event::Input { node, start, input } => self.input(node, start, *input),
            Event::Read { node, start, load, entries } => {
                self.input(node, start, Input::Loaded { load, entries });
            }
            Event::Commit { node, start } => {
                if self.devices[node].starts == start && self.is_up(node) {
                    self.commit(node);
                }
            }
            Event::Wake { node, start } => {
                if self.devices[node].starts == start {
                    self.devices[node].wake_at_ms = None;
                    self.input(node, start, Input::Tick);
                }
            }
            Event::Dialled { from, start, kind, key, at } => {
                self.dialled(from, start, kind, &key, &at);
            }
            Event::TimeOut { connection } => {
                if self.net.is_cut(connection) {
                    self.break_off(connection);
                }
            }
            Event::Call(call) => self.called(*call),
            Event::Answer(answered) => self.answered(*answered),
            Event::ToIndex { from, bytes } => self.heard_by_index(from, bytes),
            Event::FromIndex { to, bytes } => self.heard(to, &bytes),
            Event::Hello { node, start, hello } => self.hello_due(node, start, hello),
            Event::IndexWake { start } => {
                if self.index.starts == start && self.index_wake_ms.take().is_some() {
                    self.settle_index();
                }
            }
        }
    }

    /// Gives an input to a device, if it still is the one it was meant for.
    pub(super) fn input(&mut self, node: usize, start: u64, input: Input) {
        let now = self.now(node);
        let device = &mut self.devices[node];
        if device.starts != start {
            return;
        }
        let Some(core) = &mut device.core else { return };
        self.inputs += 1;
        let output = core.handle(input, now);
        self.put_out(node, output);
    }

    fn put_out(&mut self, node: usize, mut output: Output) {
        if self.planted.effects_first {
            let effects = std::mem::take(&mut output.effects);
            self.release(node, effects);
        }
        let device = &mut self.devices[node];
        if device.uncommitted.is_empty() && output.writes.is_empty() {
            self.release(node, output.effects);
        } else {
            device.uncommitted.push(output);
            if device.uncommitted.len() == 1 {
                let (start, stalled_until_ms) = (device.starts, device.stalled_until_ms);
                let delay_ms = self.rng.random_range(0..=self.conditions.commit_max_ms);
                let at_ms = stalled_until_ms.max(self.now_ms + delay_ms);
                self.push_at(at_ms, Event::Commit { node, start });
            }
        }
        self.set_wake(node);
    }

    fn set_wake(&mut self, node: usize) {
        let device = &mut self.devices[node];
        let Some(at) = device.core.as_ref().and_then(Core::next_wake) else { return };
        if device.wake_at_ms.is_none_or(|planned| at < planned) {
            let start = device.starts;
            let at_ms = at.max(self.now_ms + 1);
            device.wake_at_ms = Some(at_ms);
            self.push_at(at_ms, Event::Wake { node, start });
        }
    }

    fn commit(&mut self, node: usize) {
        let outputs = std::mem::take(&mut self.devices[node].uncommitted);
        let mut effects = Vec::new();
        for output in outputs {
            effects.extend(output.effects);
            for write in output.writes {
                if matches!(write, Write::Entry { .. }) {
                    self.last_entry_ms = self.now_ms;
                }
                if let Err(gap) = self.devices[node].disk.apply(write) {
                    self.gaps.push(gap);
                }
            }
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
            Effect::Reply { id, result } => self.told.entry(id).or_default().push(result),
            Effect::Send { link, frame } => self.send((node, link), frame),
            Effect::Close { link, goodbye } => self.close((node, link), goodbye),
            Effect::Dial { kind, key, addresses, timeout_ms } => {
                self.dial(node, kind, key, addresses, timeout_ms);
            }
            Effect::Bind { peer_port, room_port } => self.bind(node, peer_port, room_port),
            Effect::Unbind => self.unbind(node),
            Effect::Probe { call, .. } => self.ask(node, call, None),
            Effect::Call { call, request, .. } => self.ask(node, call, Some(request)),
            Effect::StartHello { grant, .. } => self.start_hello(node, &grant),
            Effect::StopHello => self.devices[node].hello = None,
            Effect::Load { load, conversation, author, stream, after_seq, limit } => {
                let from = (conversation, author, stream);
                let failed = self.rng.random_range(0..100) < self.conditions.failed_reads;
                let entries = match failed {
                    true => Vec::new(),
                    false => self.devices[node].disk.load(&from, after_seq, limit.min(READ_MAX)),
                };
                let start = self.devices[node].starts;
                let delay_ms = self.rng.random_range(0..=self.conditions.commit_max_ms);
                self.push(delay_ms, Event::Read { node, start, load, entries });
            }
            Effect::Recall { load, conversation, id } => {
                let failed = self.rng.random_range(0..100) < self.conditions.failed_reads;
                let kept = self.devices[node].disk.recall(&conversation, &id);
                let found = match (failed, kept) {
                    (true, _) => Recalled::Failed,
                    (false, None) => Recalled::New,
                    (false, Some(kept)) => Recalled::Kept(Box::new(kept)),
                };
                let input = Box::new(Input::Recalled { load, found });
                let start = self.devices[node].starts;
                let delay_ms = self.rng.random_range(0..=self.conditions.commit_max_ms);
                self.push(delay_ms, Event::Input { node, start, input });
            }
            Effect::Stopped => {}
        }
    }

    pub(super) fn delay(&mut self) -> u64 {
        self.rng.random_range(1..=self.conditions.delay_max_ms)
    }

    pub(super) fn is_lost(&mut self) -> bool {
        self.rng.random_range(0..100) < self.conditions.loss
    }

    /// An input for the run of the device that is up now.
    pub(super) fn later_input(&mut self, node: usize, delay_ms: u64, input: Input) {
        let start = self.devices[node].starts;
        self.push(delay_ms, Event::Input { node, start, input: Box::new(input) });
    }

    pub(super) fn push(&mut self, delay_ms: u64, event: Event) {
        self.push_at(self.now_ms + delay_ms, event);
    }

    pub(super) fn push_at(&mut self, at_ms: u64, event: Event) {
        self.queue.push(at_ms, event);
    }
}

/// One end of a connection.
pub(super) type End = (usize, LinkId);
