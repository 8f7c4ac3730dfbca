//! One run of a schedule over a world of replicas: what is done to it, then a time to heal.

use peerd::core::replica::Faults;

use crate::{
    Violation,
    check::{self, Ledger, Said},
    counts::{Counts, Fault, Messages},
    mini::{Act, Mini},
    plan::Plan,
    schedule::{Deed, Schedule, Shape},
    world::{Conditions, Transit, World},
};

/// How long healed nodes have before they are checked: dead links are noticed within 6 s, dials repeat
/// every second, a dial that fails takes 3 s.
const HEALING_MS: u64 = 25_000;
/// The sizes of the conversations of a town: most are 1:1 or small, some are rooms.
const TOWN: [usize; 8] = [2, 3, 2, 5, 2, 8, 3, 20];
/// Where more nodes are, only one of two dials: their links would be twice as many.
const MANY: usize = 20;
/// The most messages that one node says: longer schedules repeat themselves.
const SAID_MAX: u64 = 4_000;

/// What is planted in a run.
#[derive(Debug, Clone, Copy, Default)]
pub struct Planted {
    /// In the replicas.
    pub replica: Faults,
    /// Effects happen before their writes are committed.
    pub effects_first: bool,
    /// Listeners are told events before they are committed.
    pub shows_first: bool,
    /// Nodes link to everybody, and serve everybody.
    pub link_anyone: bool,
    /// Entries are altered on the way.
    pub alters: bool,
    /// Signatures and bodies are not checked where entries are altered.
    pub trusts: bool,
}

/// What came of a run.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// What it broke.
    pub violations: Vec<Violation>,
    /// What became of messages.
    pub messages: Messages,
    /// What was injected.
    pub counts: Counts,
    /// How long it took in virtual time.
    pub virtual_ms: u64,
    /// How long after the end of all faults the last entry was still committed somewhere.
    pub healing_ms: u64,
    /// The hash of all inputs so far, after each step and at the end, if traced.
    pub trace: Vec<[u8; 32]>,
}

/// Runs the schedule of a seed.
pub fn run(seed: u64, planted: Planted, traced: bool) -> Outcome {
    play(&Schedule::draw(seed), planted, traced)
}

/// Runs a schedule. The same one gives the same run.
pub fn play(schedule: &Schedule, planted: Planted, traced: bool) -> Outcome {
    let shape = &schedule.shape;
    let mut plan = match shape.room {
        _ if shape.town => Plan::town(shape.nodes, &TOWN),
        true => Plan::room(shape.nodes, shape.joiner),
        false => Plan::direct(),
    };
    plan.one_dials = shape.nodes > MANY;
    plan.history_all = shape.history_all;
    plan.faults = planted.replica;
    plan.link_anyone = planted.link_anyone;
    let count = plan.count();
    let mut world: World<Mini> = World::new(plan, count, schedule.seed, shape.conditions);
    world.effects_first = planted.effects_first;
    world.shows_first = planted.shows_first;
    world.on_commit = check::on_commit::<Mini>;
    world.transit = match planted {
        Planted { alters: true, trusts, .. } => Transit { alters: 20, verifies: !trusts },
        _ => Transit { alters: 0, verifies: shape.verifies },
    };
    world.traced = traced;
    let mut script = Script { ledger: Ledger::new(), said: vec![0; count], trace: Vec::new() };
    (0..count).for_each(|node| world.start(node));
    for step in &schedule.steps {
        world.run_until(world.now_ms + step.after_ms);
        script.apply(&mut world, step.deed);
        script.mark(&world);
    }
    script.end(world, shape)
}

struct Script {
    ledger: Ledger,
    said: Vec<u64>,
    trace: Vec<[u8; 32]>,
}

impl Script {
    fn mark(&mut self, world: &World<Mini>) {
        if world.traced {
            self.trace.push(world.trace());
        }
    }

    fn apply(&mut self, world: &mut World<Mini>, deed: Deed) {
        let count = world.nodes.len();
        match deed {
            Deed::Say { node, count: messages, expires_in_ms } => {
                self.say(world, node % count, messages, expires_in_ms);
            }
            Deed::GiveUp { node, which } => self.give_up(world, node % count, which),
            Deed::Crash { node } => world.crash(node % count),
            Deed::CrashAmid { node, effects } => world.nodes[node % count].fuse = Some(effects),
            Deed::Start { node } => world.start(node % count),
            Deed::BackUp { node } => world.back_up(node % count),
            Deed::Restore { node, older } => {
                world.crash(node % count);
                world.roll_back_to(node % count, older);
            }
            Deed::Break { which } => {
                let all = world.net.all();
                if let Some(connection) = all.get(which % all.len().max(1)) {
                    world.break_off(*connection);
                    world.counts.count(Fault::BrokenLink);
                }
            }
            Deed::Cut { from, to, both } => cut(world, from % count, to % count, both),
            Deed::Heal => world.heal(),
            Deed::Clock { node, offset_ms } => world.set_clock(node % count, offset_ms),
            Deed::Slow { node, times } => world.slow_down(node % count, times),
            Deed::Stall { node, for_ms } => world.stall(node % count, for_ms),
            Deed::Allow { node, allow } => world.act(node % count, Act::Allow(allow)),
            Deed::Member { node, told } => change_members(world, node % count, told),
        }
    }

    fn say(&mut self, world: &mut World<Mini>, node: usize, count: u32, expires: Option<u64>) {
        for _ in 0..count {
            let plan = &world.plan;
            let member = plan.was_member(node, plan.known[node].get());
            if world.nodes[node].host.is_none() || !member || self.said[node] >= SAID_MAX {
                return;
            }
            self.said[node] += 1;
            let id = Plan::id(node, self.said[node]);
            let text = format!("{node} says {} at {}", self.said[node], world.now_ms);
            let given_up = expires.is_some();
            self.ledger.insert(id.clone(), Said { text: text.clone(), given_up });
            world.act(node, Act::Say { id, text, expires_in_ms: expires });
        }
    }

    fn give_up(&mut self, world: &mut World<Mini>, node: usize, which: u64) {
        let said = self.said[node];
        if said == 0 {
            return;
        }
        let id = Plan::id(node, which % said + 1);
        if let Some(said) = self.ledger.get_mut(&id) {
            said.given_up = true;
        }
        world.act(node, Act::GiveUp { id });
    }

    /// Ends all faults, lets the world heal, and holds it against the guarantees.
    fn end(mut self, mut world: World<Mini>, shape: &Shape) -> Outcome {
        let up = heal(&mut world, shape);
        let healed_ms = world.now_ms;
        world.run_until(healed_ms + HEALING_MS);
        self.mark(&world);
        let mut violations = std::mem::take(&mut world.violations);
        violations.extend(check::at_the_end(&world.plan, &world.nodes, &self.ledger, &up));
        let mut messages = world.messages;
        for violation in &violations {
            match violation {
                Violation::Lost { .. } | Violation::NotOnDisk { .. } => messages.lost += 1,
                Violation::ShownTwice { .. } | Violation::Told { .. } => messages.duplicated += 1,
                Violation::Order { .. } => messages.misordered += 1,
                _ => {}
            }
        }
        Outcome {
            violations,
            messages,
            counts: world.counts,
            virtual_ms: world.now_ms,
            healing_ms: world.last_change_ms.saturating_sub(healed_ms),
            trace: self.trace,
        }
    }
}

fn cut(world: &mut World<Mini>, from: usize, to: usize, both: bool) {
    world.cut(from, to);
    if both {
        world.cut(to, from);
    }
    world.counts.count(if both { Fault::TwoWayCut } else { Fault::OneWayCut });
}

/// A member joins or is kicked; one member hears of it at once.
fn change_members(world: &mut World<Mini>, node: usize, told: usize) {
    let Some(mut members) = world.plan.members(node).cloned() else { return };
    if !members.remove(&node) {
        members.insert(node);
    }
    if members.len() < 2 {
        return;
    }
    let told = members.iter().nth(told % members.len()).copied();
    world.plan.change(node, members.clone());
    world.counts.count(Fault::MembershipChange);
    for node in told.into_iter().chain(members.contains(&node).then_some(node)) {
        world.act(node, Act::Learn);
    }
}

/// Ends all faults but wrong clocks. Gives the nodes that are up.
fn heal(world: &mut World<Mini>, shape: &Shape) -> Vec<usize> {
    let count = world.nodes.len();
    let gone = shape.gone.filter(|node| *node < count && shape.room && !shape.gives_up);
    if let Some(node) = gone {
        world.crash(node);
    }
    world.conditions = Conditions::CALM;
    world.transit.alters = 0;
    world.heal();
    for node in &mut world.nodes {
        node.slowness = 1;
        node.fuse = None;
        node.stalled_until_ms = node.stalled_until_ms.min(world.now_ms);
    }
    let up: Vec<usize> = (0..count).filter(|node| gone != Some(*node)).collect();
    for node in &up {
        world.start(*node);
        world.act(*node, Act::Allow(true));
        world.act(*node, Act::Learn);
    }
    up
}
