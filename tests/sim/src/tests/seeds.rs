//! How tests go through seeds: on all cores at once, and with the command that replays a seed that fails.
//!
//! `P2P_SIM_SEEDS=N` sets how many seeds run, `P2P_SIM_SEED=N` runs that one alone, `P2P_SIM_SCHEDULE=FILE`
//! runs a printed schedule.

use std::{ops::Range, sync::atomic::AtomicBool, sync::atomic::Ordering};

use crate::{
    campaign::{self, Kind, Totals},
    schedule::Schedule,
    script::{Planted, play},
};

/// How many seeds of replicas a default run takes.
const REPLICA_SEEDS: u64 = 10_000;
/// How many seeds of each large world: one takes as long as 10,000 small ones.
const LARGE_SEEDS: u64 = 1;
/// How many seeds of whole worlds: one takes as long as 30 small ones.
const WHOLE_SEEDS: u64 = 400;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// The seeds to run.
fn of(kind: Kind) -> Range<u64> {
    let usual = match kind {
        Kind::Replicas => REPLICA_SEEDS,
        Kind::Large200 | Kind::Large2000 => LARGE_SEEDS,
        Kind::Whole => WHOLE_SEEDS,
    };
    match number("P2P_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("P2P_SIM_SEEDS").unwrap_or(usual),
    }
}

/// The schedule to run instead.
fn schedule() -> Option<Schedule> {
    let file = std::env::var_os("P2P_SIM_SCHEDULE")?;
    let text = std::fs::read_to_string(file).expect("P2P_SIM_SCHEDULE names a file");
    Some(text.parse().expect("P2P_SIM_SCHEDULE names a schedule as it is printed"))
}

/// Runs seeds up to the first that fails, which is shrunk and told.
pub(crate) fn run_all(kind: Kind) -> Totals {
    if kind != Kind::Whole
        && let Some(schedule) = schedule()
    {
        let outcome = play(&schedule, Planted::default(), false);
        assert_eq!(outcome.violations, []);
        return Totals { messages: outcome.messages, ..Totals::default() };
    }
    run(kind, of(kind))
}

/// Runs these seeds up to the first that fails, which is shrunk and told.
pub(crate) fn run(kind: Kind, seeds: Range<u64>) -> Totals {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let stop = AtomicBool::new(false);
    let totals = campaign::run_all(kind, seeds, cores, &stop, |report| {
        if !report.violations.is_empty() {
            stop.store(true, Ordering::Relaxed);
        }
    });
    if let Some(seed) = totals.failed.first() {
        panic!("{}", campaign::explain(kind, *seed).expect("what failed once fails again"));
    }
    totals
}
