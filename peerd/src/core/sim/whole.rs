//! Worlds of whole cores with a registry: users log in, allow each other, share a room, and send while
//! links break, cuts come and go and peers lose power.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
};

use peerd_proto::control::{Command, EventKind};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use registryd_proto::{Keypair, PublicKey, Username};
use serde_json::{Value, json};

use super::{
    Host,
    plan::Plan,
    tests::seeds,
    world::{Conditions, World},
};
use crate::{
    core::{
        Answer, CommandFailure, CommandId, Config, Core, Effect, Input, LinkKind, Now, Output,
        durable::Snapshot,
        input::{CallFailure, HelloInput, Listeners},
        replica::Faults,
        tests::registry::Registry,
    },
    keys::Keys,
};

/// How long users talk and things break.
const STORM_MS: u64 = 20_000;
/// How long healed peers have: dials back off longer than those of bare replicas.
const HEALING_MS: u64 = 120_000;
/// One run of so many checks each signature on the way.
const VERIFIED_EACH: u64 = 8;

type Told = Result<Answer, CommandFailure>;

struct Peers {
    keys: Vec<Keys>,
    registry: RefCell<Registry>,
    replies: RefCell<BTreeMap<CommandId, Told>>,
    /// The registry is away: no call reaches it.
    away: bool,
    /// Faults planted in every replica.
    faults: Faults,
}

impl Peers {
    fn new(count: u8) -> Self {
        let pair = |n: u8| Keypair::from_secret(&[n; 32]);
        let keys = (0..count).map(|n| Keys { peer: pair(n + 1), room: pair(n + 101) }).collect();
        let registry = RefCell::new(Registry::new());
        Self { keys, registry, replies: RefCell::default(), away: false, faults: Faults::default() }
    }

    fn nudges(&self) -> Vec<(usize, u64, Input)> {
        let nudges = std::mem::take(&mut self.registry.borrow_mut().nudges);
        let input = |version| Input::Hello(HelloInput::Nudged { version });
        let to = |(name, version): (Username, u64)| Some((Plan::named(&name)?, 5, input(version)));
        nudges.into_iter().filter_map(to).collect()
    }
}

/// A core as a node.
struct Whole(Core);

impl Host for Whole {
    type Plan = Peers;
    type Act = (CommandId, Command);

    fn start(
        plan: &Peers,
        node: usize,
        snapshot: &Snapshot,
        seed: u64,
        now: Now,
    ) -> (Self, Output) {
        let mut bytes = [node as u8; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let keys = plan.keys[node].clone();
        let (core, output) = Core::new(keys, Config::default(), snapshot.clone(), bytes, now);
        (Self(core), output)
    }

    fn handle(&mut self, plan: &Peers, now: Now, input: Input) -> Output {
        let output = self.0.handle(input, now);
        self.0.conversations.values_mut().for_each(|talk| talk.replica.plant(plan.faults));
        output
    }

    fn act(&mut self, _: &Peers, now: Now, (id, command): Self::Act) -> Output {
        self.0.handle(Input::Command { id, command }, now)
    }

    fn next_wake(&self, _: Now) -> Option<u64> {
        self.0.next_wake()
    }

    fn node_of(plan: &Peers, kind: LinkKind, key: &PublicKey) -> Option<usize> {
        (0..plan.keys.len()).find(|node| Self::key_of(plan, kind, *node) == *key)
    }

    fn key_of(plan: &Peers, kind: LinkKind, node: usize) -> PublicKey {
        match kind {
            LinkKind::Peer => plan.keys[node].peer.public(),
            LinkKind::Room => plan.keys[node].room.public(),
        }
    }

    fn environment(
        plan: &mut Peers,
        node: usize,
        effect: Effect,
        _: Now,
    ) -> Vec<(usize, u64, Input)> {
        let shown = plan.registry.borrow().key.public();
        let answer = match effect {
            Effect::Reply { id, result } => {
                let before = plan.replies.borrow_mut().insert(id, result);
                assert!(before.is_none(), "one reply for each command");
                None
            }
            Effect::Bind { .. } => {
                let at = |port| std::net::SocketAddr::from(([127, 0, 0, 1], port));
                Some(Input::Bound(Ok(Listeners { peer: at(4_001), room: at(4_002) })))
            }
            Effect::Probe { call, .. } if plan.away => {
                Some(Input::Probed { call, result: Err(CallFailure::Unreachable) })
            }
            Effect::Call { call, .. } if plan.away => {
                Some(Input::Registry { call, result: Err(CallFailure::Unreachable) })
            }
            Effect::Probe { call, .. } => Some(Input::Probed { call, result: Ok(shown) }),
            Effect::Call { call, request, .. } => {
                let key = plan.keys[node].peer.public();
                let reply = plan.registry.borrow_mut().handle(&key, request);
                let result = reply.map(|reply| (shown, reply)).map_err(CallFailure::Failed);
                Some(Input::Registry { call, result })
            }
            _ => None,
        };
        let mut inputs: Vec<_> = answer.into_iter().map(|input| (node, 10, input)).collect();
        inputs.extend(plan.nudges());
        inputs
    }
}

/// A message that a user sent.
struct Said {
    command: CommandId,
    author: usize,
    /// `None`: to the room.
    to: Option<usize>,
    text: String,
}

struct Run {
    world: World<Whole>,
    rng: StdRng,
    last: u64,
    said: BTreeMap<String, Said>,
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let count = rng.random_range(2..=4);
        let plan = Peers::new(count);
        let world = World::new(plan, usize::from(count), rng.random(), Conditions::CALM);
        Self { world, rng, last: 0, said: BTreeMap::new() }
    }

    fn command(&mut self, node: usize, method: &str, params: Value) -> CommandId {
        self.last += 1;
        let id = CommandId(self.last);
        let command = json!({"method": method, "params": params});
        let command = serde_json::from_value(command).expect("a command");
        self.world.act(node, (id, command));
        id
    }

    fn ask(&mut self, node: usize, method: &str, params: Value) {
        let id = self.command(node, method, params);
        self.world.run_until(self.world.now_ms + 3_000);
        let told = self.world.plan.replies.borrow_mut().remove(&id);
        assert!(matches!(told, Some(Ok(_))), "{method} of {node}: {told:?}");
    }

    /// Everybody logs in, allows all others and joins the room.
    fn set_up(&mut self) {
        let count = self.world.nodes.len();
        let registry = self.world.plan.registry.borrow().address();
        for node in 0..count {
            self.world.start(node);
            let name = Plan::name(node);
            let account = json!({"username": name, "registry": registry, "password": "password"});
            self.ask(node, "create_account", account);
            self.ask(node, "login", json!({"username": name, "password": "password"}));
        }
        for node in 0..count {
            for other in (0..count).filter(|other| *other != node) {
                let policy = json!({"username": Plan::name(other), "policy": "allow"});
                self.ask(node, "policy", policy);
            }
        }
        self.ask(0, "create_room", json!({"room": "hall", "access": "open", "history": "joined"}));
        for node in 1..count {
            self.ask(node, "join_room", json!({"room": "hall"}));
        }
    }

    fn storm(&mut self) {
        self.world.conditions = Conditions::draw(&mut self.rng);
        let end_ms = self.world.now_ms + STORM_MS;
        while self.world.now_ms < end_ms {
            let pause = self.rng.random_range(1..1_000);
            self.world.run_until(self.world.now_ms + pause);
            self.step();
        }
    }

    fn step(&mut self) {
        let count = self.world.nodes.len();
        let node = self.rng.random_range(0..count);
        match self.rng.random_range(0..100) {
            0..60 => self.say(node),
            60..68 => {
                self.world.crash(node);
                self.world.plan.registry.borrow_mut().set_online(&Plan::name(node), false);
            }
            68..80 => self.world.start(node),
            80..88 => {
                let all = self.world.net.all();
                if let Some(connection) = all.get(self.rng.random_range(0..all.len().max(1))) {
                    self.world.break_off(*connection);
                }
            }
            88..94 => {
                let other = self.rng.random_range(0..count);
                self.world.cut(node, other);
            }
            94..97 => self.world.plan.away = !self.world.plan.away,
            _ => self.world.heal(),
        }
    }

    fn say(&mut self, author: usize) {
        if self.world.nodes[author].host.is_none() {
            return;
        }
        let id = format!("{author}-{}", self.said.len());
        let text = format!("text {}", self.rng.random::<u32>());
        let other = self.rng.random_range(0..self.world.nodes.len());
        let to = (other != author).then_some(other);
        let target = match to {
            Some(other) => json!({"user": Plan::name(other)}),
            None => json!({"room": "hall"}),
        };
        let params = json!({"to": target, "body": text, "id": id, "wait": "queued"});
        let command = self.command(author, "send", params);
        self.said.insert(id, Said { command, author, to, text });
    }

    fn heal(&mut self) {
        self.world.conditions = Conditions::CALM;
        self.world.plan.away = false;
        self.world.heal();
        for node in 0..self.world.nodes.len() {
            self.world.start(node);
        }
        self.world.run_until(self.world.now_ms + HEALING_MS);
    }

    /// P1 to P4 on what was told and what was shown.
    fn check(&self, seed: u64) {
        assert_eq!(self.world.violations, [], "seed {seed}");
        let replies = self.world.plan.replies.borrow();
        let mut shown = BTreeSet::new();
        for (at, node) in self.world.nodes.iter().enumerate() {
            let mut newest = BTreeMap::new();
            for event in node.disk.events() {
                let EventKind::Message { from, room, id, body, .. } = &event.kind else { continue };
                let said = self.said.get(id.as_str());
                let genuine = said.is_some_and(|said| {
                    let to = said.to.map_or(room.is_some(), |to| to == at && room.is_none());
                    said.text == *body && to && Plan::named(from) == Some(said.author)
                });
                assert!(genuine, "seed {seed}: P4, {id} at {at}");
                assert!(shown.insert((at, id.to_string())), "seed {seed}: P2, {id} at {at}");
                let number = Plan::number(id).map(|(_, n)| n);
                let last = newest.insert((from.clone(), room.clone()), number).flatten();
                assert!(last < number, "seed {seed}: P3, {id} at {at}");
            }
        }
        for (id, said) in &self.said {
            if !matches!(replies.get(&said.command), Some(Ok(_))) {
                continue;
            }
            let recipients = (0..self.world.nodes.len())
                .filter(|at| *at != said.author && said.to.is_none_or(|to| to == *at));
            for at in recipients {
                assert!(shown.contains(&(at, id.clone())), "seed {seed}: P1, {id} at {at}");
            }
        }
        for node in &self.world.nodes {
            let pending = |row: &&crate::core::durable::Outgoing| {
                row.state == peerd_proto::control::MessageState::Queued
            };
            assert!(node.disk.outgoing().find(pending).is_none(), "seed {seed}: P6");
        }
    }
}

/// Runs a seed. Gives how many messages were sent.
fn run(seed: u64, faults: Faults, effects_first: bool) -> usize {
    let mut run = Run::new(seed);
    run.set_up();
    run.world.transit.verifies = seed.is_multiple_of(VERIFIED_EACH);
    run.world.plan.faults = faults;
    run.world.effects_first = effects_first;
    run.storm();
    run.heal();
    run.check(seed);
    run.said.len()
}

/// Whether a planted fault is found below a seed.
fn found_below(limit: u64, faults: Faults, effects_first: bool) -> bool {
    (0..limit).any(|seed| std::panic::catch_unwind(|| run(seed, faults, effects_first)).is_err())
}

#[test]
fn cores_keep_the_guarantees_over_all_seeds() {
    let test = "core::sim::whole::cores_keep_the_guarantees_over_all_seeds";
    let said =
        seeds::run_all(test, seeds::of_cores(), |seed| run(seed, Faults::default(), false) as u64);
    assert!(said > 0, "the users say something");
}

#[test]
fn cores_that_tell_before_they_commit_are_found() {
    assert!(found_below(40, Faults::default(), true));
}

#[test]
fn cores_that_show_twice_are_found() {
    assert!(found_below(20, Faults { no_dedup: true, ..Faults::default() }, false));
}
