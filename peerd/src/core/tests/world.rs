//! Cores, wired.

mod looks;

use std::collections::{BTreeMap, VecDeque};

use peerd_proto::{
    control::{Command, EventKind},
    wire::Frame,
};
use registryd_proto::{Code, Keypair, PublicKey, Username};

use super::{registry::Registry, store::Store};
use crate::{
    core::{
        Answer, CommandFailure, CommandId, Config, Core, Effect, Input, LinkId, LinkKind, Now,
        Output, Recalled,
        durable::{Snapshot, Write},
        input::{BindFailure, CallFailure, HelloInput, Inbound, Listeners},
    },
    keys::Keys,
};

pub(super) type Told = Result<Answer, CommandFailure>;

struct Wire {
    to: usize,
    link: LinkId,
}

pub(super) struct Peer {
    pub(super) name: Username,
    core: Core,
    pub(super) keys: Keys,
    store: Store,
    ports: Option<(u16, u16)>,
    wires: BTreeMap<LinkId, Wire>,
    replies: BTreeMap<CommandId, Told>,
    pub(super) events: Vec<EventKind>,
    /// Whether the network carries its links.
    pub(super) reachable: bool,
    pub(super) dials: usize,
    /// How long the dials of peers that are away could take.
    pub(super) timeouts: Vec<u64>,
    pub(super) calls: usize,
}

pub(super) struct World {
    pub(super) registry: Registry,
    pub(super) registry_up: bool,
    pub(super) peers: Vec<Peer>,
    /// Ports that another program has.
    pub(super) taken: Vec<u16>,
    /// Frames are held back while this is set.
    pub(super) hold_frames: bool,
    /// Dials lead to nothing, not even to a failure.
    pub(super) hang_dials: bool,
    /// Dials of who is away fail by silence, not at once.
    pub(super) silent_dials: bool,
    /// Calls of the registry are carried out, and their replies are lost.
    pub(super) lose_replies: bool,
    /// Reads of the store wait for `release_loads`, and are answered from the last one on.
    pub(super) hold_loads: bool,
    held_loads: Vec<(usize, Input)>,
    /// Frames to this peer are lost.
    pub(super) lose_frames_to: Option<usize>,
    now_ms: u64,
    last_id: u64,
    queue: VecDeque<(usize, Input)>,
    /// What happens later: when, to whom, what.
    later: Vec<(u64, usize, Input)>,
}

pub(super) fn name(text: &str) -> Username {
    text.parse().expect("a name")
}

fn keys(n: u8) -> Keys {
    Keys { peer: Keypair::from_secret(&[n; 32]), room: Keypair::from_secret(&[n + 100; 32]) }
}

impl World {
    /// Logged-in peers named `a`, `b`, `c` … with peer keys in that order.
    pub(super) fn new(count: usize) -> Self {
        let mut world = Self::unenrolled(count);
        for i in 0..count {
            world.enrol(i);
            world.log_in(i);
        }
        world
    }

    pub(super) fn unenrolled(count: usize) -> Self {
        let mut all: Vec<Keys> = (1..=20).map(keys).collect();
        all.sort_by_key(|k| k.peer.public());
        let mut world = Self {
            registry: Registry::new(),
            registry_up: true,
            peers: Vec::new(),
            taken: Vec::new(),
            hold_frames: false,
            hang_dials: false,
            silent_dials: false,
            lose_replies: false,
            hold_loads: false,
            held_loads: Vec::new(),
            lose_frames_to: None,
            now_ms: 1_000,
            last_id: 0,
            queue: VecDeque::new(),
            later: Vec::new(),
        };
        for (i, keys) in all.into_iter().take(count).enumerate() {
            let letter = char::from(b'a' + u8::try_from(i).expect("few"));
            let store = Store::default();
            let (core, _) = start(&keys, &store, world.now());
            world.peers.push(Peer {
                name: name(&letter.to_string()),
                core,
                keys,
                store,
                ports: None,
                wires: BTreeMap::new(),
                replies: BTreeMap::new(),
                events: Vec::new(),
                reachable: true,
                dials: 0,
                timeouts: Vec::new(),
                calls: 0,
            });
        }
        world
    }

    pub(super) fn enrol(&mut self, i: usize) {
        let username = self.peers[i].name.clone();
        let registry = self.registry.address();
        let command = serde_json::json!({"method": "create_account", "params": {
            "username": username, "registry": registry, "password": "password"}});
        self.ask_json(i, command).expect("an account");
    }

    pub(super) fn log_in(&mut self, i: usize) {
        let username = self.peers[i].name.clone();
        let registry = self.registry.address();
        let command = serde_json::json!({"method": "login", "params": {
            "username": username, "password": "password", "registry": registry}});
        self.ask_json(i, command).expect("a session");
    }

    pub(super) fn now(&self) -> Now {
        Now { mono_ms: self.now_ms, wall_ms: self.now_ms }
    }

    /// Begins a command.
    pub(super) fn begin(&mut self, i: usize, command: impl Into<Command>) -> CommandId {
        self.last_id += 1;
        let id = CommandId(self.last_id);
        self.input(i, Input::Command { id, command: command.into() });
        id
    }

    /// The reply of a command, if it has come. Taken once: a second reply would be a fault.
    pub(super) fn told(&mut self, i: usize, id: CommandId) -> Option<Told> {
        self.peers[i].replies.remove(&id)
    }

    /// A command and its reply, with as much time as it takes.
    pub(super) fn ask(&mut self, i: usize, command: impl Into<Command>) -> Told {
        let id = self.begin(i, command);
        for _ in 0..700 {
            if let Some(told) = self.told(i, id) {
                return told;
            }
            self.pass(100);
        }
        panic!("a command got no reply");
    }

    pub(super) fn ask_json(&mut self, i: usize, command: serde_json::Value) -> Told {
        let command: Command = serde_json::from_value(command).expect("a command");
        self.ask(i, command)
    }

    pub(super) fn verb(&mut self, i: usize, method: &str, params: serde_json::Value) -> Told {
        self.ask_json(i, serde_json::json!({"method": method, "params": params}))
    }

    pub(super) fn code(&mut self, i: usize, method: &str, params: serde_json::Value) -> Code {
        self.verb(i, method, params).expect_err("a failure").code
    }

    pub(super) fn begin_verb(
        &mut self,
        i: usize,
        method: &str,
        params: serde_json::Value,
    ) -> CommandId {
        let command = serde_json::json!({"method": method, "params": params});
        let command: Command = serde_json::from_value(command).expect("a command");
        self.begin(i, command)
    }

    /// An input, and all that follows from it at once.
    pub(super) fn input(&mut self, i: usize, input: Input) {
        self.queue.push_back((i, input));
        self.run();
    }

    /// Lets time go by, waking each core when it wants.
    pub(super) fn pass(&mut self, ms: u64) {
        let end_ms = self.now_ms + ms;
        loop {
            let wakes = self.peers.iter().filter_map(|p| p.core.next_wake());
            let next = wakes.chain(self.later.iter().map(|(at, ..)| *at)).min();
            let Some(at) = next.filter(|at| *at <= end_ms) else { break };
            self.now_ms = self.now_ms.max(at);
            self.run();
            let now_ms = self.now_ms;
            let due = |p: &Peer| p.core.next_wake().is_some_and(|at| at <= now_ms);
            let due: Vec<usize> = (0..self.peers.len()).filter(|i| due(&self.peers[*i])).collect();
            for i in due {
                self.input(i, Input::Tick);
                let later = self.peers[i].core.next_wake().is_none_or(|at| at > now_ms);
                assert!(later, "a core that was woken has nothing left to do");
            }
        }
        self.now_ms = end_ms;
    }

    pub(super) fn run(&mut self) {
        let mut inputs = 0;
        loop {
            let due = self.later.extract_if(.., |(at, ..)| *at <= self.now_ms);
            self.queue.extend(due.map(|(_, i, input)| (i, input)));
            while let Some((i, input)) = self.queue.pop_front() {
                inputs += 1;
                assert!(inputs < 100_000, "the cores keep each other busy");
                let now = self.now();
                let output = self.peers[i].core.handle(input, now);
                self.carry_out(i, output);
            }
            let nudges = std::mem::take(&mut self.registry.nudges);
            for (name, version) in nudges {
                let of = |p: &Peer| p.name == name && p.ports.is_some();
                let to: Vec<usize> =
                    (0..self.peers.len()).filter(|i| of(&self.peers[*i])).collect();
                for i in to.into_iter().filter(|_| self.registry_up) {
                    self.queue.push_back((i, Input::Hello(HelloInput::Nudged { version })));
                }
            }
            if self.queue.is_empty() && self.later.iter().all(|(at, ..)| *at > self.now_ms) {
                return;
            }
        }
    }

    fn carry_out(&mut self, i: usize, output: Output) {
        for write in output.writes {
            if let Write::Event(event) = &write {
                self.peers[i].events.push(event.kind.clone());
            }
            self.peers[i].store.apply(write);
        }
        for effect in output.effects {
            self.effect(i, effect);
        }
    }

    fn effect(&mut self, i: usize, effect: Effect) {
        match effect {
            Effect::Reply { id, result } => {
                let before = self.peers[i].replies.insert(id, result);
                assert!(before.is_none(), "one reply for each command");
            }
            Effect::Send { link, frame } => self.send(i, link, frame),
            Effect::Close { link, goodbye } => {
                self.send(i, link, Frame::Goodbye(goodbye));
                self.cut(i, link);
            }
            Effect::Dial { kind, key, timeout_ms, .. } => self.dial(i, kind, key, timeout_ms),
            Effect::Bind { peer_port, room_port } => self.bind(i, peer_port, room_port),
            Effect::Unbind => {
                self.peers[i].ports = None;
                self.cut_all(i);
            }
            Effect::Probe { call, .. } => {
                let key = self.registry.key.public();
                let result = if self.registry_up { Ok(key) } else { Err(CallFailure::Unreachable) };
                self.queue.push_back((i, Input::Probed { call, result }));
            }
            Effect::Call { call, registry, request } => {
                self.peers[i].calls += 1;
                self.registry.now_ms = self.now_ms;
                let shown = self.registry.key.public();
                let result = if !self.registry_up {
                    Err(CallFailure::Unreachable)
                } else if registry.key != Some(shown) {
                    Err(CallFailure::WrongKey { shown })
                } else {
                    let key = self.peers[i].keys.peer.public();
                    let reply = self.registry.handle(&key, request);
                    let lost = self.lose_replies;
                    match lost {
                        true => Err(CallFailure::Unreachable),
                        false => reply.map(|r| (shown, r)).map_err(CallFailure::Failed),
                    }
                };
                self.queue.push_back((i, Input::Registry { call, result }));
            }
            Effect::Load { load, conversation, author, stream, after_seq, limit } => {
                let entries =
                    self.peers[i].store.load(conversation, author, stream, after_seq, limit);
                let loaded = (i, Input::Loaded { load, entries });
                match self.hold_loads {
                    true => self.held_loads.push(loaded),
                    false => self.queue.push_back(loaded),
                }
            }
            Effect::Recall { load, conversation, id } => {
                let kept = self.peers[i].store.recall(conversation, &id);
                let found = kept.map_or(Recalled::New, |kept| Recalled::Kept(Box::new(kept)));
                let recalled = (i, Input::Recalled { load, found });
                match self.hold_loads {
                    true => self.held_loads.push(recalled),
                    false => self.queue.push_back(recalled),
                }
            }
            Effect::StartHello { .. } | Effect::StopHello | Effect::Stopped => {}
        }
    }

    fn bind(&mut self, i: usize, peer_port: u16, room_port: u16) {
        let any = 40_000 + 10 * u16::try_from(i).expect("few");
        let peer = if peer_port == 0 { any } else { peer_port };
        let room = if room_port == 0 { any + 1 } else { room_port };
        let taken = self.taken.iter().find(|p| **p == peer || **p == room).copied();
        let result = match taken {
            Some(port) => {
                self.peers[i].ports = None;
                self.cut_all(i);
                let kind = if port == peer { LinkKind::Peer } else { LinkKind::Room };
                Err(BindFailure::Taken { kind, port })
            }
            None => {
                self.peers[i].ports = Some((peer, room));
                let at = |port| std::net::SocketAddr::from(([0, 0, 0, 0], port));
                Ok(Listeners { peer: at(peer), room: at(room) })
            }
        };
        self.queue.push_back((i, Input::Bound(result)));
    }

    pub(super) fn key(&self, i: usize, kind: LinkKind) -> PublicKey {
        match kind {
            LinkKind::Peer => self.peers[i].keys.peer.public(),
            LinkKind::Room => self.peers[i].keys.room.public(),
        }
    }

    fn dial(&mut self, i: usize, kind: LinkKind, key: PublicKey, timeout_ms: u64) {
        self.peers[i].dials += 1;
        if self.hang_dials {
            return;
        }
        let up = |j: &usize| self.peers[*j].reachable && self.peers[*j].ports.is_some();
        let to = (0..self.peers.len()).find(|j| self.key(*j, kind) == key).filter(up);
        match to.filter(|_| self.peers[i].reachable) {
            Some(to) => self.connect(i, to, kind),
            None => {
                self.peers[i].timeouts.push(timeout_ms);
                let after_ms = if self.silent_dials { timeout_ms } else { 0 };
                self.later.push((self.now_ms + after_ms, i, Input::DialFailed { kind, key }));
            }
        }
    }

    /// A connection between two peers, dialled by the first.
    pub(super) fn connect(&mut self, from: usize, to: usize, kind: LinkKind) {
        self.last_id += 2;
        let (near, far) = (LinkId(self.last_id), LinkId(self.last_id + 1));
        self.peers[from].wires.insert(near, Wire { to, link: far });
        self.peers[to].wires.insert(far, Wire { to: from, link: near });
        for (i, link, other, dialled) in [(from, near, to, true), (to, far, from, false)] {
            let key = self.key(other, kind);
            let remote = Some(std::net::SocketAddr::from(([127, 0, 0, 1], 4_000)));
            self.queue.push_back((i, Input::LinkUp { link, kind, key, dialled, remote }));
        }
    }

    fn send(&mut self, i: usize, link: LinkId, frame: Frame) {
        let Some(wire) = self.peers[i].wires.get(&link).filter(|_| !self.hold_frames) else {
            return;
        };
        let (to, link) = (wire.to, wire.link);
        if self.lose_frames_to == Some(to) {
            return;
        }
        let bytes = frame.encode().expect("a frame");
        let frame = match Frame::decode(&bytes[4..]).expect("a frame") {
            Frame::Entries { conversation, entries } => {
                let verify = |e: peerd_proto::wire::Entry| e.verify().expect("an honest entry");
                let entries = entries.into_iter().map(verify).collect();
                Inbound::Entries { conversation, entries }
            }
            Frame::Fork { a, b } => {
                let [a, b] = [a, b].map(|e| e.verify().expect("an honest entry"));
                Inbound::Fork { a, b }
            }
            frame => Inbound::Other(frame),
        };
        self.queue.push_back((to, Input::LinkFrame { link, frame }));
    }

    fn cut(&mut self, i: usize, link: LinkId) {
        let Some(wire) = self.peers[i].wires.remove(&link) else { return };
        self.peers[wire.to].wires.remove(&wire.link);
        self.queue.push_back((i, Input::LinkDown { link }));
        self.queue.push_back((wire.to, Input::LinkDown { link: wire.link }));
    }

    /// Breaks all links of a peer.
    pub(super) fn cut_all(&mut self, i: usize) {
        let links: Vec<LinkId> = self.peers[i].wires.keys().copied().collect();
        for link in links {
            self.cut(i, link);
        }
    }

    /// The network loses a peer, or finds it again.
    pub(super) fn set_reachable(&mut self, i: usize, reachable: bool) {
        self.peers[i].reachable = reachable;
        let name = self.peers[i].name.clone();
        if !reachable {
            self.cut_all(i);
        }
        self.registry.set_online(&name, reachable);
        self.run();
    }

    /// peerd dies and starts again from its disk.
    pub(super) fn restart(&mut self, i: usize) {
        self.cut_all(i);
        self.queue.retain(|(to, _)| *to != i);
        self.later.retain(|(_, to, _)| *to != i);
        self.peers[i].replies.clear();
        let now = self.now();
        let peer = &mut self.peers[i];
        let (core, output) = start(&peer.keys, &peer.store, now);
        peer.core = core;
        self.carry_out(i, output);
        self.run();
    }

    /// Another device in the place of a peer: other keys, an empty disk.
    pub(super) fn replace(&mut self, i: usize, keys: Keys) {
        self.peers[i].keys = keys;
        self.peers[i].store = Store::default();
        self.peers[i].events.clear();
        self.restart(i);
    }

    /// Answers the reads that were held back, the last one first.
    pub(super) fn release_loads(&mut self) {
        self.hold_loads = false;
        self.queue.extend(std::mem::take(&mut self.held_loads).into_iter().rev());
        self.run();
    }

    /// Changes the reads that are held back.
    pub(super) fn change_loads(&mut self, change: impl Fn(Input) -> Input) {
        let held = std::mem::take(&mut self.held_loads);
        self.held_loads = held.into_iter().map(|(i, input)| (i, change(input))).collect();
    }
}

fn start(keys: &Keys, store: &Store, now: Now) -> (Core, Output) {
    let seed = [keys.peer.public().as_bytes()[0] ^ now.mono_ms.to_le_bytes()[1]; 32];
    Core::new(keys.clone(), Config::default(), store.snapshot.clone(), seed, now)
}
