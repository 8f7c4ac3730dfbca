//! A run as data: the shape of its world and all that is done to it, drawn up front from a seed.
//!
//! Every step means something in every state of a world (a node that is down says nothing, a link that is
//! not there does not break), so a schedule stays one when steps are taken out of it: that is how it
//! shrinks. A schedule is printed as JSON, a step a line, and read back from that.

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use serde::{Deserialize, Serialize};

use crate::world::Conditions;

const HOUR_MS: i64 = 3_600_000;
const TEN_YEARS_MS: i64 = 10 * 365 * 24 * HOUR_MS;
/// One run of so many checks each signature on the way, which costs more than the run itself.
const VERIFIED_EACH: u64 = 16;

/// A run: what is done, when, in what world.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedule {
    /// From what it was drawn; also the seed of the world's own dice.
    pub seed: u64,
    /// The world.
    pub shape: Shape,
    /// What is done, in order.
    pub steps: Vec<Step>,
}

/// A world of replicas.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape {
    /// How many nodes. Two without a room are a 1:1 conversation.
    pub nodes: usize,
    /// Whether they are a room.
    pub room: bool,
    /// Whether they are in many conversations of different sizes, each in one.
    #[serde(default)]
    pub town: bool,
    /// Whether the last node is no member at first.
    pub joiner: bool,
    /// Whether members may read what was before them.
    pub history_all: bool,
    /// Whether the author's wish to give up messages is exercised (then nobody leaves, and all come back).
    pub gives_up: bool,
    /// How bad the world is until it heals.
    pub conditions: Conditions,
    /// A node that never comes back after the storm.
    pub gone: Option<usize>,
    /// Whether each signature is checked on the way.
    pub verifies: bool,
}

/// One thing that is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// So long after the step before.
    pub after_ms: u64,
    /// What.
    pub deed: Deed,
}

/// What is done. Nodes are counted modulo their number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Deed {
    /// Its user sends so many messages.
    Say {
        /// Whose.
        node: usize,
        /// How many.
        count: u32,
        /// When they expire.
        expires_in_ms: Option<u64>,
    },
    /// Its user gives up one of the messages said.
    GiveUp {
        /// Whose.
        node: usize,
        /// Which, modulo their number.
        which: u64,
    },
    /// Power loss.
    Crash {
        /// Whose.
        node: usize,
    },
    /// Power loss between two of the next effects.
    CrashAmid {
        /// Whose.
        node: usize,
        /// After so many effects.
        effects: u32,
    },
    /// It starts, if it is down.
    Start {
        /// Which.
        node: usize,
    },
    /// Its disk is copied.
    BackUp {
        /// Whose.
        node: usize,
    },
    /// Power loss, and an old copy takes the disk's place.
    Restore {
        /// Whose.
        node: usize,
        /// So many copies older than the newest.
        older: usize,
    },
    /// A link breaks.
    Break {
        /// Which, modulo their number.
        which: usize,
    },
    /// Nothing arrives any more.
    Cut {
        /// From.
        from: usize,
        /// At.
        to: usize,
        /// Nor the other way.
        both: bool,
    },
    /// All cuts heal.
    Heal,
    /// Its wall clock is off from now on.
    Clock {
        /// Whose.
        node: usize,
        /// By so much.
        offset_ms: i64,
    },
    /// It becomes so many times slower, or 1: as fast as others.
    Slow {
        /// Who.
        node: usize,
        /// How many times.
        times: u64,
    },
    /// Its disk takes nothing for a while.
    Stall {
        /// Whose.
        node: usize,
        /// How long.
        for_ms: u64,
    },
    /// It takes messages, or none (1:1).
    Allow {
        /// Who.
        node: usize,
        /// Whether.
        allow: bool,
    },
    /// It joins the room, or is kicked.
    Member {
        /// Who.
        node: usize,
        /// Which member hears of it at once, modulo their number.
        told: usize,
    },
}

/// How much happens in a run.
struct Size {
    nodes: usize,
    steps: usize,
    pauses_ms: [u64; 4],
    burst: u32,
}

impl Size {
    /// Most worlds are small: the same time goes through many more of them, and what is found is short.
    fn draw(rng: &mut StdRng) -> Self {
        match rng.random_range(0..100) {
            0..84 => Self {
                nodes: rng.random_range(2..=3),
                steps: rng.random_range(6..=24),
                pauses_ms: [5, 60, 300, 1_500],
                burst: 4,
            },
            84..98 => Self {
                nodes: rng.random_range(2..=4),
                steps: rng.random_range(20..=60),
                pauses_ms: [10, 100, 400, 4_000],
                burst: 12,
            },
            _ => Self {
                nodes: rng.random_range(3..=6),
                steps: rng.random_range(60..=160),
                pauses_ms: [10, 100, 700, 9_000],
                burst: 60,
            },
        }
    }
}

impl Schedule {
    /// The schedule of a seed.
    pub fn draw(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let size = Size::draw(&mut rng);
        let room = size.nodes > 2 || rng.random_bool(0.2);
        let gives_up = rng.random_bool(0.3);
        let gone = room && !gives_up && rng.random_bool(0.2);
        let shape = Shape {
            nodes: size.nodes,
            room,
            town: false,
            joiner: size.nodes > 2 && rng.random_bool(0.5),
            history_all: rng.random_bool(0.3),
            gives_up,
            conditions: Conditions::draw(&mut rng),
            gone: gone.then(|| rng.random_range(0..size.nodes)),
            verifies: seed.is_multiple_of(VERIFIED_EACH),
        };
        let steps = (0..size.steps).map(|_| draw_step(&mut rng, &shape, &size)).collect();
        Self { seed, shape, steps }
    }

    /// The schedule of a seed with so many nodes and steps: one room in full mesh, or a town.
    pub fn draw_large(seed: u64, nodes: usize, steps: usize, town: bool) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let pauses_ms = if town { [2, 10, 40, 150] } else { [20, 100, 400, 1_500] };
        let size = Size { nodes, steps, pauses_ms, burst: if town { 12 } else { 2 } };
        let conditions = Conditions { dial_loss: 10, duplicates: 1, ..Conditions::draw(&mut rng) };
        let shape = Shape {
            nodes,
            room: true,
            town,
            joiner: !town && rng.random_bool(0.5),
            history_all: rng.random_bool(0.3),
            gives_up: false,
            conditions,
            gone: rng.random_bool(0.2).then(|| rng.random_range(0..nodes)),
            verifies: false,
        };
        let steps = (0..size.steps).map(|_| draw_step(&mut rng, &shape, &size)).collect();
        Self { seed, shape, steps }
    }
}

fn draw_step(rng: &mut StdRng, shape: &Shape, size: &Size) -> Step {
    let pause = match rng.random_range(0..100) {
        0..40 => size.pauses_ms[0],
        40..75 => size.pauses_ms[1],
        75..95 => size.pauses_ms[2],
        _ => size.pauses_ms[3],
    };
    Step { after_ms: rng.random_range(0..=pause), deed: draw_deed(rng, shape, size) }
}

fn draw_deed(rng: &mut StdRng, shape: &Shape, size: &Size) -> Deed {
    let node = rng.random_range(0..shape.nodes);
    match rng.random_range(0..100) {
        0..46 => {
            let count = if rng.random_bool(0.25) { rng.random_range(1..=size.burst) } else { 1 };
            let expires = shape.gives_up && rng.random_bool(0.3);
            let expires_in_ms = expires.then(|| rng.random_range(1..3_000));
            Deed::Say { node, count, expires_in_ms }
        }
        46..51 => Deed::Crash { node },
        51..54 => Deed::CrashAmid { node, effects: rng.random_range(0..12) },
        54..64 => Deed::Start { node },
        64..68 => Deed::Break { which: rng.random_range(0..1_000) },
        68..74 => {
            // In a town neighbours talk to each other.
            let to = match shape.town {
                true => (node + rng.random_range(1..4)) % shape.nodes,
                false => rng.random_range(0..shape.nodes),
            };
            Deed::Cut { from: node, to, both: rng.random_bool(0.5) }
        }
        74..77 => Deed::Heal,
        77..80 => Deed::BackUp { node },
        80..82 => Deed::Restore { node, older: rng.random_range(0..2) },
        82..84 => {
            let offsets = [-TEN_YEARS_MS, -HOUR_MS, 0, HOUR_MS, TEN_YEARS_MS];
            Deed::Clock { node, offset_ms: offsets[rng.random_range(0..offsets.len())] }
        }
        84..86 => Deed::Slow { node, times: [1, 5, 30][rng.random_range(0..3)] },
        86..88 => Deed::Stall { node, for_ms: rng.random_range(1..5_000) },
        88..94 if !shape.room => Deed::Allow { node, allow: rng.random_bool(0.6) },
        88..94 if !shape.gives_up => Deed::Member { node, told: rng.random_range(0..shape.nodes) },
        _ if shape.gives_up => Deed::GiveUp { node, which: rng.random_range(0..1_000) },
        _ => Deed::Start { node },
    }
}

impl std::fmt::Display for Schedule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let json = |value: Result<String, serde_json::Error>| value.map_err(|_| std::fmt::Error);
        let shape = json(serde_json::to_string(&self.shape))?;
        writeln!(f, "{{\"seed\":{},\n \"shape\":{shape},\n \"steps\":[", self.seed)?;
        for (n, step) in self.steps.iter().enumerate() {
            let comma = if n + 1 < self.steps.len() { "," } else { "" };
            writeln!(f, "  {}{comma}", json(serde_json::to_string(step))?)?;
        }
        write!(f, " ]}}")
    }
}

impl std::str::FromStr for Schedule {
    type Err = serde_json::Error;
    fn from_str(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }
}
