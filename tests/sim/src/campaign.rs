//! Many seeds: what the campaign command and the tests run, and what they report.
//!
//! [`run_seed`] runs one seed of a kind; [`run_all`] runs a range of them on several threads, until the
//! caller says stop or a seed fails if so asked; [`explain`] tells people how a seed fails and how to see it
//! again.

use std::{
    ops::Range,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use crate::{
    Violation,
    counts::{Counts, Messages},
    schedule::Schedule,
    script::{Outcome, Planted},
    shrink::{play_caught, shrink},
};

/// The kinds of worlds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A 1:1 conversation or a small room: replicas alone.
    Replicas,
    /// A room of 200 members in full mesh.
    Large200,
    /// A town of 2,000 users in conversations of 2 to 20.
    Large2000,
    /// Whole peerd cores around the registry.
    Whole,
}

impl Kind {
    /// As commands and reports name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Replicas => "replicas",
            Self::Large200 => "large200",
            Self::Large2000 => "large2000",
            Self::Whole => "whole",
        }
    }

    /// The test that runs its seeds.
    fn test(self) -> &'static str {
        match self {
            Self::Replicas => "tests::replicas_keep_the_guarantees_over_all_seeds",
            Self::Large200 => "tests::a_room_of_200_keeps_the_guarantees",
            Self::Large2000 => "tests::a_town_of_2000_keeps_the_guarantees",
            Self::Whole => "whole::tests::whole_worlds_keep_the_guarantees_over_all_seeds",
        }
    }

    /// The schedule of a seed; `None` for whole worlds, which have schedules of their own
    /// ([`crate::whole::step`]).
    pub fn schedule(self, seed: u64) -> Option<Schedule> {
        match self {
            Self::Replicas => Some(Schedule::draw(seed)),
            Self::Large200 => Some(Schedule::draw_large(seed, 200, 24, false)),
            Self::Large2000 => Some(Schedule::draw_large(seed, 2_000, 3_000, true)),
            Self::Whole => None,
        }
    }
}

/// What came of one seed.
#[derive(Debug, Clone, Default)]
pub struct SeedReport {
    /// Which.
    pub seed: u64,
    /// What it broke: nothing, if all is well.
    pub violations: Vec<Violation>,
    /// How long the run took in virtual time.
    pub virtual_ms: u64,
    /// What was injected.
    pub faults: Counts,
    /// What became of messages.
    pub messages: Messages,
    /// How long after the end of all faults the last entry was still committed somewhere, in virtual time.
    pub healing_ms: u64,
}

/// The sum of many.
#[derive(Debug, Clone, Default)]
pub struct Totals {
    /// How many seeds ran.
    pub schedules: u64,
    /// In all.
    pub virtual_ms: u64,
    /// What was injected.
    pub faults: Counts,
    /// What became of messages.
    pub messages: Messages,
    /// The healing times, in virtual milliseconds: so many runs took less than 2^n.
    pub healing: [u64; 20],
    /// The longest.
    pub healing_max_ms: u64,
    /// The seeds that broke something, lowest first.
    pub failed: Vec<u64>,
}

impl Totals {
    /// Adds one.
    pub fn add(&mut self, report: &SeedReport) {
        self.schedules += 1;
        self.virtual_ms += report.virtual_ms;
        self.faults.add(&report.faults);
        self.messages.add(&report.messages);
        let bits = (u64::BITS - report.healing_ms.leading_zeros()) as usize;
        self.healing[bits.min(self.healing.len() - 1)] += 1;
        self.healing_max_ms = self.healing_max_ms.max(report.healing_ms);
        if !report.violations.is_empty() {
            let at = self.failed.partition_point(|seed| *seed < report.seed);
            self.failed.insert(at, report.seed);
        }
    }

    /// A time in which so many of 1,000 runs healed, in virtual milliseconds, rounded up to a power of 2.
    pub fn healed_within_ms(&self, of_1000: u64) -> u64 {
        let wanted = (self.schedules * of_1000).div_ceil(1_000);
        let mut runs = 0;
        for (bits, n) in self.healing.iter().enumerate() {
            runs += n;
            if runs >= wanted {
                return (1_u64 << bits).min(self.healing_max_ms);
            }
        }
        self.healing_max_ms
    }
}

/// Runs one seed. A panic in a core is a violation of it.
pub fn run_seed(kind: Kind, seed: u64) -> SeedReport {
    let Some(schedule) = kind.schedule(seed) else { return crate::whole::report(seed) };
    let outcome = play_caught(&schedule, Planted::default());
    let Outcome { violations, messages, counts, virtual_ms, healing_ms, .. } = outcome;
    SeedReport { seed, violations, virtual_ms, faults: counts, messages, healing_ms }
}

/// Runs seeds on so many threads, each once, in no order, until all ran or `stop` is set. `on_report` is
/// called from all threads; it may set `stop`.
pub fn run_all(
    kind: Kind,
    seeds: Range<u64>,
    threads: usize,
    stop: &AtomicBool,
    on_report: impl Fn(&SeedReport) + Sync,
) -> Totals {
    let next = AtomicU64::new(seeds.start);
    let totals = Mutex::new(Totals::default());
    let work = || {
        while !stop.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return;
            }
            let report = run_seed(kind, seed);
            on_report(&report);
            totals.lock().unwrap_or_else(PoisonError::into_inner).add(&report);
        }
    };
    std::thread::scope(|scope| {
        (0..threads.max(1)).for_each(|_| drop(scope.spawn(work)));
    });
    totals.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// How a seed fails, as small as can be found, and how to see it again; `None` if it does not fail.
pub fn explain(kind: Kind, seed: u64) -> Option<String> {
    let Some(schedule) = kind.schedule(seed) else { return crate::whole::explain(seed) };
    let (small, violations) = shrink(&schedule, Planted::default())?;
    let (name, test) = (kind.name(), kind.test());
    Some(format!(
        "{name} seed {seed} fails: {violations:?}\n\
         replay it with:\n\
         P2P_SIM_SEED={seed} cargo test -p p2pchat-sim -- --exact {test}\n\
         or what is left of it after shrinking, with P2P_SIM_SCHEDULE=FILE in place of P2P_SIM_SEED:\n\
         {small}"
    ))
}
