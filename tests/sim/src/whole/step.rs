//! What happens in a whole world: schedules as data, drawn from a seed, so that a run can be repeated, cut
//! shorter, and read.
//!
//! A number that names somebody is taken modulo how many there are, so that a step means something in any
//! world.

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

use super::{
    conditions::{Conditions, pick},
    shape::Shape,
};

/// Something that a user does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Sends a message, and waits for its delivery, or not.
    Send {
        /// To whom.
        to: usize,
        /// For its delivery.
        waits: bool,
    },
    /// The same to a room.
    SendRoom {
        /// Which.
        room: usize,
        /// For its delivery.
        waits: bool,
    },
    /// Sends an old message again, under its id.
    Repeat {
        /// Which of one's own, counted from the newest.
        back: usize,
    },
    /// Cancels one.
    Cancel {
        /// Which of one's own, counted from the newest.
        back: usize,
    },
    /// Asks for a chat.
    Chat {
        /// With whom.
        with: usize,
        /// How long it rings.
        ring_ms: u32,
    },
    /// Says yes.
    Accept {
        /// To whom.
        to: usize,
    },
    /// Says no.
    Reject {
        /// To whom.
        to: usize,
    },
    /// Ends a chat.
    End {
        /// With whom.
        with: usize,
    },
    /// Sets the policy of a contact: 0 allow, 1 ask, 2 block.
    Policy {
        /// Whose.
        of: usize,
        /// Which.
        policy: u8,
    },
    /// Takes the key that a contact shows now.
    Trust {
        /// Whose.
        of: usize,
    },
    /// Makes a room.
    CreateRoom {
        /// Which.
        room: usize,
    },
    /// Joins one.
    JoinRoom {
        /// Which.
        room: usize,
    },
    /// Leaves one.
    LeaveRoom {
        /// Which.
        room: usize,
    },
    /// Removes a member.
    Kick {
        /// Of which room.
        room: usize,
        /// Whom.
        user: usize,
    },
    /// Makes a member a moderator, or the owner.
    SetRole {
        /// In which room.
        room: usize,
        /// Whom.
        user: usize,
        /// The owner.
        owner: bool,
    },
    /// Deletes a room.
    DeleteRoom {
        /// Which.
        room: usize,
    },
    /// Logs out.
    Logout,
    /// Logs in, and takes the account over or not.
    Login {
        /// Though another device is online.
        takeover: bool,
    },
}

/// Something that happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// A user does something at a device.
    Do {
        /// Which.
        node: usize,
        /// What.
        verb: Verb,
    },
    /// A device loses its power.
    Crash {
        /// Which.
        node: usize,
    },
    /// A device starts.
    Start {
        /// Which.
        node: usize,
    },
    /// The registry loses its power.
    CrashIndex,
    /// The registry starts.
    StartIndex,
    /// A disk is copied.
    BackUp {
        /// Whose.
        node: usize,
    },
    /// A device loses its power, and its disk is put back to the copy.
    Restore {
        /// Whose.
        node: usize,
    },
    /// The registry's disk is copied.
    BackUpIndex,
    /// The registry loses its power, and its disk is put back to the copy.
    RestoreIndex,
    /// A wall clock jumps.
    Jump {
        /// Whose.
        node: usize,
        /// By how much.
        by_ms: i64,
    },
    /// The registry's wall clock jumps.
    JumpIndex {
        /// By how much.
        by_ms: i64,
    },
    /// One direction between two devices is cut.
    Cut {
        /// From.
        from: usize,
        /// To.
        to: usize,
        /// The other direction as well.
        both: bool,
    },
    /// One direction between a device and the registry is cut.
    CutIndex {
        /// The device.
        node: usize,
        /// From the registry to the device alone.
        back: bool,
        /// Both directions.
        both: bool,
    },
    /// All cuts heal.
    Heal,
    /// A connection breaks.
    Break {
        /// Which.
        which: usize,
    },
    /// A device gets another address, which may have been another's.
    Move {
        /// Which.
        node: usize,
        /// Which address.
        to: usize,
    },
    /// A disk commits nothing for a while.
    Stall {
        /// Whose.
        node: usize,
        /// How long.
        for_ms: u64,
    },
    /// An old HELLO is sent again.
    Replay {
        /// Which.
        which: usize,
        /// From another address.
        elsewhere: bool,
    },
}

impl Step {
    /// Whether it is a message.
    pub fn is_talk(&self) -> bool {
        let verb = match self {
            Self::Do { verb, .. } => verb,
            _ => return false,
        };
        matches!(verb, Verb::Send { .. } | Verb::SendRoom { .. } | Verb::Repeat { .. })
    }
}

/// A run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    /// Draws what the network and the disks do.
    pub seed: u64,
    /// Who is there.
    pub shape: Shape,
    /// How bad the network is.
    pub conditions: Conditions,
    /// What happens, each after a pause in milliseconds.
    pub steps: Vec<(u64, Step)>,
    /// A device that is down in the end.
    pub gone: Option<usize>,
}

/// What a world is about: no run does everything, so that what goes wrong has few causes.
#[derive(Debug, Clone, Copy)]
struct Mood {
    talks: u32,
    chats: u32,
    policies: u32,
    rooms: u32,
    sessions: u32,
    breaks: u32,
    index: u32,
    restores: bool,
    restores_index: bool,
}

impl Mood {
    fn draw(rng: &mut StdRng, spare: bool) -> Self {
        Self {
            talks: pick(rng, &[20, 40, 60]),
            chats: pick(rng, &[0, 10, 30]),
            policies: pick(rng, &[0, 0, 8]),
            rooms: pick(rng, &[0, 0, 12]),
            sessions: if spare { 12 } else { pick(rng, &[0, 0, 6]) },
            breaks: pick(rng, &[5, 15, 30]),
            index: pick(rng, &[0, 4, 10]),
            restores: rng.random_bool(0.25),
            restores_index: rng.random_bool(0.1),
        }
    }
}

/// The worlds of seeds from here on put the registry back to a backup, which those below seldom do. Those below
/// stay what they are: some are kept as tests.
pub const PUTS_INDEX_BACK_FROM: u64 = 1 << 40;

impl Schedule {
    /// The schedule of a seed.
    pub fn draw(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let shape = Shape {
            users: pick(&mut rng, &[2, 2, 3, 3, 4]),
            spare: rng.random_bool(0.2),
            history_all: rng.random_bool(0.3),
        };
        let mood = Mood::draw(&mut rng, shape.spare);
        let count = pick(&mut rng, &[10, 25, 50]);
        let longest_ms = pick(&mut rng, &[100, 700, 2_000]);
        let mut steps: Vec<_> = (0..count)
            .map(|_| (rng.random_range(1..=longest_ms), draw_step(&mut rng, shape, mood)))
            .collect();
        let conditions = Conditions::draw(&mut rng);
        let gone = rng.random_bool(0.15).then(|| rng.random_range(0..shape.devices()));
        if seed >= PUTS_INDEX_BACK_FROM {
            put_index_back(&mut rng, &mut steps, longest_ms);
        }
        Self { seed, shape, conditions, steps, gone }
    }
}

/// A backup of the registry at some moment, and the registry put back to it at a later one.
fn put_index_back(rng: &mut StdRng, steps: &mut Vec<(u64, Step)>, longest_ms: u64) {
    let back_up = rng.random_range(0..steps.len());
    let restore = rng.random_range(back_up..=steps.len());
    let [a, b, c] = [(); 3].map(|()| rng.random_range(1..=longest_ms));
    // The later one first: the place of the other is not moved then.
    steps.splice(restore..restore, [(a, Step::RestoreIndex), (b, Step::StartIndex)]);
    steps.insert(back_up, (c, Step::BackUpIndex));
}

fn draw_step(rng: &mut StdRng, shape: Shape, mood: Mood) -> Step {
    let node = rng.random_range(0..shape.devices());
    let groups =
        [mood.talks, mood.chats, mood.policies, mood.rooms, mood.sessions, mood.breaks, mood.index];
    let mut at = rng.random_range(0..groups.iter().sum());
    let group = groups.iter().position(|weight| match at.checked_sub(*weight) {
        Some(rest) => {
            at = rest;
            false
        }
        None => true,
    });
    let user = rng.random_range(0..shape.users);
    let verb = match group {
        Some(0) => draw_talk(rng, user),
        Some(1) => match rng.random_range(0..10) {
            0..4 => Verb::Chat { with: user, ring_ms: pick(rng, &[1_000, 4_000, 15_000]) },
            4..7 => Verb::Accept { to: user },
            7 => Verb::Reject { to: user },
            _ => Verb::End { with: user },
        },
        Some(2) => match rng.random_range(0..10) {
            0..6 => Verb::Policy { of: user, policy: pick(rng, &[0, 1, 1, 2]) },
            6..8 => Verb::Accept { to: user },
            _ => Verb::Reject { to: user },
        },
        Some(3) => draw_room(rng, user),
        Some(4) => match rng.random_range(0..10) {
            0..3 => Verb::Logout,
            3..5 => Verb::Trust { of: user },
            _ => Verb::Login { takeover: rng.random_bool(0.6) },
        },
        Some(5) => return draw_break(rng, node, shape, mood.restores),
        _ => return draw_index(rng, node, mood.restores_index),
    };
    Step::Do { node, verb }
}

fn draw_talk(rng: &mut StdRng, to: usize) -> Verb {
    let waits = rng.random_bool(0.3);
    match rng.random_range(0..20) {
        0..10 => Verb::Send { to, waits },
        10..17 => Verb::SendRoom { room: pick(rng, &[0, 0, 0, 1]), waits },
        17..19 => Verb::Repeat { back: rng.random_range(0..5) },
        _ => Verb::Cancel { back: rng.random_range(0..3) },
    }
}

fn draw_room(rng: &mut StdRng, user: usize) -> Verb {
    let room = pick(rng, &[0, 0, 1]);
    match rng.random_range(0..20) {
        0..3 => Verb::CreateRoom { room: 1 },
        3..9 => Verb::JoinRoom { room },
        9..12 => Verb::LeaveRoom { room },
        12..16 => Verb::Kick { room, user },
        16..19 => Verb::SetRole { room, user, owner: rng.random_bool(0.3) },
        _ => Verb::DeleteRoom { room },
    }
}

fn draw_break(rng: &mut StdRng, node: usize, shape: Shape, restores: bool) -> Step {
    match rng.random_range(0..40) {
        0..7 => Step::Crash { node },
        7..17 => Step::Start { node },
        17..22 => Step::Break { which: rng.random_range(0..16) },
        22..27 => {
            let to = rng.random_range(0..shape.devices());
            Step::Cut { from: node, to, both: rng.random_bool(0.5) }
        }
        27..30 => Step::Heal,
        30..32 => Step::Stall { node, for_ms: pick(rng, &[200, 1_500, 8_000]) },
        32..34 => Step::Move { node, to: rng.random_range(0..shape.devices() + 3) },
        34..36 => Step::Jump { node, by_ms: draw_jump(rng) },
        36..38 if restores => Step::BackUp { node },
        38 if restores => Step::Restore { node },
        _ => Step::Replay { which: rng.random_range(0..64), elsewhere: rng.random_bool(0.5) },
    }
}

fn draw_jump(rng: &mut StdRng) -> i64 {
    const HOUR_MS: i64 = 3_600_000;
    let by_ms = pick(rng, &[1_000, HOUR_MS, 24 * HOUR_MS, 10 * 365 * 24 * HOUR_MS]);
    if rng.random_bool(0.5) { by_ms } else { -by_ms }
}

fn draw_index(rng: &mut StdRng, node: usize, restores: bool) -> Step {
    match rng.random_range(0..20) {
        0..3 => Step::CrashIndex,
        3..8 => Step::StartIndex,
        8..12 => Step::CutIndex { node, back: rng.random_bool(0.5), both: rng.random_bool(0.5) },
        12..14 => Step::Heal,
        14 => Step::JumpIndex { by_ms: draw_jump(rng) },
        15 if restores => Step::BackUpIndex,
        16 if restores => Step::RestoreIndex,
        _ => Step::Replay { which: rng.random_range(0..64), elsewhere: rng.random_bool(0.5) },
    }
}
