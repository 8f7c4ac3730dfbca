//! The soak: users who talk for as long as wanted while fault follows fault, and a report.
//!
//! Called by the command that tests faults and, for a few seconds, by its tests. The order of faults and what
//! users say come from the seed; what happens in between is the machine's.

mod faults;
mod memory;
mod surroundings;

use std::{
    collections::BTreeMap,
    fmt,
    path::PathBuf,
    time::{Duration, Instant},
};

use p2pchat_history::{Summary, Violation};
use serde::Serialize;

pub use faults::{Fault, signals};
pub use memory::Sample;
pub use surroundings::surroundings;

use self::memory::Memory;
use crate::users::{Chance, Users, UsersOptions, pause};

/// Between two looks while the soak waits.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// After which time memory should not grow any more, and how long it is looked at then and in the end.
const SETTLED: Duration = Duration::from_secs(300);

/// By how much, in percent, memory may differ between then and the end.
const GROWTH_PERCENT_MAX: u64 = 10;

/// A fault that has not healed by then counts as one that does not heal.
const HEALS_WITHIN: Duration = Duration::from_secs(90);

/// What a disk of a user holds: more than an hour of talk, and little enough to be filled at once.
const DISK_MIB: u32 = 256;

/// How long the end may take.
const ENDS_WITHIN: Duration = Duration::from_secs(180);

/// What a soak is made of.
pub struct SoakOptions {
    /// Who talks where.
    pub users: UsersOptions,
    /// Between two messages of a user.
    pub every: Duration,
    /// What is done to them, one at a time, by chance.
    pub faults: Vec<Box<dyn Fault>>,
    /// How long nothing is done between two faults, in milliseconds: from, to.
    pub quiet_ms: (u64, u64),
    /// Told what happens as it happens.
    pub progress: Box<dyn FnMut(&Progress<'_>)>,
}

impl fmt::Debug for SoakOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { users, every, faults, quiet_ms, progress: _ } = self;
        let mut out = f.debug_struct("SoakOptions");
        out.field("users", users).field("every", every).field("faults", faults);
        out.field("quiet_ms", quiet_ms).finish_non_exhaustive()
    }
}

impl Default for SoakOptions {
    /// Ten users in 1:1 chats and three rooms, each on a host and a disk of its own where that can be, two
    /// messages a second each, and all faults that are possible then.
    fn default() -> Self {
        let names = ["ann", "ben", "cem", "dan", "eva", "fay", "gil", "hal", "ida", "jan"];
        let mut users = UsersOptions::new(&names)
            .room("all", &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
            .room("low", &[0, 1, 2, 3, 4])
            .room("high", &[9, 8, 7, 6, 5, 4]);
        users.partners = 2;
        users.chats = true;
        users.apart = true;
        users.peer.disk_mib = Some(DISK_MIB);
        let faults = signals().into_iter().chain(surroundings()).collect();
        Self {
            users,
            every: Duration::from_millis(500),
            faults,
            quiet_ms: (1_000, 6_000),
            progress: Box::new(|_| ()),
        }
    }
}

/// A step of a soak.
#[derive(Debug)]
pub struct Progress<'a> {
    /// Since it began.
    pub elapsed: Duration,
    /// Calls of `send` so far.
    pub calls: u64,
    /// Faults so far.
    pub faults: u64,
    /// The last fault, and how long it took to heal; `None` while it lasts.
    pub last: Option<(&'a str, Option<Duration>)>,
}

/// All faults of one kind.
#[derive(Debug, Clone, Default, Serialize)]
pub struct FaultFigures {
    /// How often.
    pub count: u64,
    /// How long after its end until all that waited then was delivered, in milliseconds, each time.
    pub healed_after_ms: Vec<u64>,
    /// How often that did not come in time.
    pub not_healed: u64,
}

/// What a soak came to.
#[derive(Debug, Clone, Serialize)]
pub struct SoakReport {
    /// The seed.
    pub seed: u64,
    /// How long faults were made, in milliseconds.
    pub duration_ms: u64,
    /// How many users.
    pub users: usize,
    /// What was sent and shown.
    pub summary: Summary,
    /// What is wrong.
    pub violations: Vec<Violation>,
    /// Where the history is kept, if anything is wrong.
    pub history: Option<PathBuf>,
    /// By name.
    pub faults: BTreeMap<&'static str, FaultFigures>,
    /// All daemons together in the five minutes after the first five, or in the second sixth of a shorter
    /// soak: the median, in bytes.
    pub memory_early: Option<u64>,
    /// And in a span as long before the end, in bytes.
    pub memory_end: Option<u64>,
    /// All of them.
    pub samples: Vec<Sample>,
    /// How long after the last message everything was in order, in milliseconds.
    pub in_order_after_ms: u64,
}

impl SoakReport {
    /// Whether memory has grown by more than a tenth. `None` for a soak that is too short to tell.
    pub fn has_grown(&self) -> Option<bool> {
        let (early, end) = self.memory_early.zip(self.memory_end)?;
        let tells = self.duration_ms >= 3 * millis(SETTLED);
        tells.then(|| end * 100 > early * (100 + GROWTH_PERCENT_MAX))
    }

    /// Whether nothing is wrong and every fault healed. Memory is for the caller to judge.
    pub fn is_clean(&self) -> bool {
        self.violations.is_empty() && self.faults.values().all(|f| f.not_healed == 0)
    }
}

/// Runs it.
///
/// # Panics
/// If daemons do not start, or scripts of users do not come to an end.
pub fn soak(duration: Duration, seed: u64, mut options: SoakOptions) -> SoakReport {
    let mut users = Users::start(&options.users);
    options.faults.retain(|fault| fault.is_possible(&users));
    let mut chance = Chance::of(seed);
    let (began, mut memory) = (Instant::now(), Memory::new());
    let mut faults: BTreeMap<&'static str, FaultFigures> = BTreeMap::new();
    let mut count = 0;
    // Each user has two scripts.
    users.talk(options.every * 2, seed);
    while began.elapsed() < duration {
        watch(&mut users, &mut memory, between(&mut chance, options.quiet_ms));
        if options.faults.is_empty() {
            continue;
        }
        let at = chance.index(options.faults.len());
        let fault = &mut options.faults[at];
        tell(&mut options.progress, (began, count), &users, fault.name(), None);
        fault.begin(&mut users, &mut chance);
        watch(&mut users, &mut memory, between(&mut chance, fault.lasts_ms()));
        fault.end(&mut users);
        let healed = users.heal(HEALS_WITHIN, |users| memory.look(users));
        count += 1;
        let figures = faults.entry(fault.name()).or_default();
        figures.count += 1;
        match healed {
            Some(after) => figures.healed_after_ms.push(millis(after)),
            None => figures.not_healed += 1,
        }
        tell(&mut options.progress, (began, count), &users, fault.name(), healed);
    }
    let duration_ms = millis(began.elapsed());
    let samples = memory.into_samples();
    users.finish();
    let up: Vec<usize> = (0..users.peers.len()).collect();
    let judged = users.judge(&up, ENDS_WITHIN);
    let clean = judged.violations.is_empty();
    let span_ms = millis(SETTLED).min(duration_ms / 6);
    SoakReport {
        seed,
        duration_ms,
        users: up.len(),
        summary: judged.summary,
        history: if clean { None } else { judged.keep().ok() },
        violations: judged.violations,
        faults,
        memory_early: memory::median(&samples, span_ms..=2 * span_ms),
        memory_end: memory::median(&samples, duration_ms - span_ms..=duration_ms),
        samples,
        in_order_after_ms: millis(judged.after),
    }
}

fn tell(
    progress: &mut dyn FnMut(&Progress<'_>),
    (began, faults): (Instant, u64),
    users: &Users,
    fault: &str,
    healed: Option<Duration>,
) {
    let (elapsed, calls) = (began.elapsed(), users.recorder().calls());
    progress(&Progress { elapsed, calls, faults, last: Some((fault, healed)) });
}

fn watch(users: &mut Users, memory: &mut Memory, period: Duration) {
    let began = Instant::now();
    while began.elapsed() < period {
        memory.look(users);
        pause(LOOK_EVERY.min(period));
    }
}

fn between(chance: &mut Chance, (from, to): (u64, u64)) -> Duration {
    Duration::from_millis(from + chance.below(to.saturating_sub(from)))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
