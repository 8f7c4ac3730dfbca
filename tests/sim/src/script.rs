//! One seeded run over a world of replicas: what its users do, what breaks, then a time to heal.

use peerd::core::replica::Faults;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

use crate::{
    Violation,
    check::{self, Ledger, Said},
    mini::{Act, Mini},
    plan::Plan,
    world::{Conditions, Transit, World},
};

/// How long users talk and things break.
const STORM_MS: u64 = 30_000;
/// How long healed nodes have before they are checked: dead links are noticed within 6 s, dials repeat
/// every second.
const HEALING_MS: u64 = 25_000;

/// One run of so many checks each signature on the way, which costs more than the run itself.
const VERIFIED_EACH: u64 = 16;

/// What is planted in a run.
#[derive(Debug, Clone, Copy, Default)]
pub struct Planted {
    /// In the replicas.
    pub replica: Faults,
    /// Effects happen before their writes are committed.
    pub effects_first: bool,
    /// Nodes link to everybody, and serve everybody.
    pub link_anyone: bool,
    /// Entries are altered on the way.
    pub alters: bool,
    /// Signatures and bodies are not checked where entries are altered.
    pub trusts: bool,
}

/// What came of a run.
#[derive(Debug)]
pub struct Outcome {
    /// What it broke.
    pub violations: Vec<Violation>,
    /// How many messages were sent, and how many shown in all.
    pub messages: (usize, usize),
    /// The hash of all inputs, if traced.
    pub trace: [u8; 32],
}

/// Runs a seed.
pub fn run(seed: u64, planted: Planted, traced: bool) -> Outcome {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut plan = draw_plan(&mut rng);
    plan.faults = planted.replica;
    plan.link_anyone = planted.link_anyone;
    let count = plan.count();
    let conditions = Conditions::draw(&mut rng);
    let mut world: World<Mini> = World::new(plan, count, rng.random(), conditions);
    world.effects_first = planted.effects_first;
    world.on_commit = check::on_commit::<Mini>;
    world.transit = match planted {
        Planted { alters: true, trusts, .. } => Transit { alters: 20, verifies: !trusts },
        _ => Transit { alters: 0, verifies: seed.is_multiple_of(VERIFIED_EACH) },
    };
    world.traced = traced;
    let mut script =
        Script { rng, ledger: Ledger::new(), said: vec![0; count], gives_up: false, moves: false };
    script.gives_up = script.rng.random_bool(0.3);
    script.moves = !world.plan.is_direct() && !script.gives_up;
    (0..count).for_each(|node| world.start(node));
    while world.now_ms < STORM_MS {
        let pause = *[10, 100, 700].get(script.rng.random_range(0..3)).unwrap_or(&100);
        world.run_until(world.now_ms + script.rng.random_range(1..=pause * 2));
        script.step(&mut world);
    }
    let up = script.heal(&mut world);
    world.run_until(world.now_ms + HEALING_MS);
    let mut violations = std::mem::take(&mut world.violations);
    violations.extend(check::at_the_end(&world.plan, &world.nodes, &script.ledger, &up));
    let shown = world.nodes.iter().map(|node| node.disk.events().len()).sum();
    Outcome { violations, messages: (script.ledger.len(), shown), trace: world.trace() }
}

fn draw_plan(rng: &mut StdRng) -> Plan {
    if rng.random_bool(0.4) {
        return Plan::direct();
    }
    let nodes = rng.random_range(3..=5);
    let mut plan = Plan::room(nodes, rng.random_bool(0.5));
    plan.history_all = rng.random_bool(0.3);
    plan
}

struct Script {
    rng: StdRng,
    ledger: Ledger,
    said: Vec<u64>,
    /// Whether messages expire and are cancelled.
    gives_up: bool,
    /// Whether members come and go.
    moves: bool,
}

impl Script {
    fn step(&mut self, world: &mut World<Mini>) {
        let count = world.nodes.len();
        let node = self.rng.random_range(0..count);
        match self.rng.random_range(0..100) {
            0..60 => self.say(world, node),
            60..66 => world.crash(node),
            66..76 => world.start(node),
            76..82 => {
                let all = world.net.all();
                if let Some(connection) = all.get(self.rng.random_range(0..all.len().max(1))) {
                    world.break_off(*connection);
                }
            }
            82..86 => {
                let other = self.rng.random_range(0..count);
                world.cut(node, other);
                if self.rng.random_bool(0.5) {
                    world.cut(other, node);
                }
            }
            86..90 => world.heal(),
            90..92 => world.back_up(node),
            92 => {
                world.crash(node);
                world.roll_back(node);
            }
            93..96 if self.moves => self.change_members(world),
            93..96 if world.plan.is_direct() => {
                let allow = self.rng.random_bool(0.6);
                world.act(node, Act::Allow(allow));
            }
            _ if self.gives_up && self.said[node] > 0 => {
                let n = self.rng.random_range(1..=self.said[node]);
                let id = Plan::id(node, n);
                if let Some(said) = self.ledger.get_mut(&id) {
                    said.given_up = true;
                }
                world.act(node, Act::GiveUp { id });
            }
            _ => {}
        }
    }

    fn say(&mut self, world: &mut World<Mini>, node: usize) {
        let plan = &world.plan;
        let member = plan.is_direct() || plan.was_member(node, plan.known[node].get());
        if world.nodes[node].host.is_none() || !member {
            return;
        }
        for _ in 0..*[1, 1, 1, 20].get(self.rng.random_range(0..4)).unwrap_or(&1) {
            self.said[node] += 1;
            let id = Plan::id(node, self.said[node]);
            let text = format!("{node} says {}", self.rng.random::<u32>());
            let expires = self.gives_up && self.rng.random_bool(0.3);
            self.ledger.insert(id.clone(), Said { text: text.clone(), given_up: expires });
            let expires_in_ms = expires.then(|| self.rng.random_range(1..3_000));
            world.act(node, Act::Say { id, text, expires_in_ms });
        }
    }

    /// A member joins or is kicked; one member hears of it at once.
    fn change_members(&mut self, world: &mut World<Mini>) {
        let Some(mut members) = world.plan.epochs.last().cloned() else { return };
        let node = self.rng.random_range(0..world.nodes.len());
        if !members.remove(&node) {
            members.insert(node);
        }
        if members.len() < 2 {
            return;
        }
        let told = members.iter().nth(self.rng.random_range(0..members.len())).copied();
        world.plan.epochs.push(members.clone());
        for node in told.into_iter().chain(members.contains(&node).then_some(node)) {
            world.act(node, Act::Learn);
        }
    }

    /// Ends all faults. Gives the nodes that are up: sometimes one stays down for good.
    fn heal(&mut self, world: &mut World<Mini>) -> Vec<usize> {
        let count = world.nodes.len();
        let lost = self.rng.random_bool(0.2) && !world.plan.is_direct() && !self.gives_up;
        let gone = lost.then(|| self.rng.random_range(0..count));
        if let Some(node) = gone {
            world.crash(node);
        }
        world.conditions = Conditions::CALM;
        world.transit.alters = 0;
        world.heal();
        let up: Vec<usize> = (0..count).filter(|node| gone != Some(*node)).collect();
        for node in &up {
            world.start(*node);
            world.act(*node, Act::Allow(true));
            world.act(*node, Act::Learn);
        }
        up
    }
}
