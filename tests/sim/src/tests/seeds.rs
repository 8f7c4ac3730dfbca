//! How tests go through seeds: on all cores at once, and with the command that replays a seed that fails.
//!
//! `P2P_SIM_SEEDS=N` sets how many seeds run, `P2P_SIM_SEED=N` runs that one alone.

use std::{
    ops::Range,
    sync::atomic::{AtomicU64, Ordering},
};

/// How many seeds of replicas a default run takes.
const REPLICA_SEEDS: u64 = 2_000;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// The seeds of replicas to run.
pub(super) fn of_replicas() -> Range<u64> {
    match number("P2P_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("P2P_SIM_SEEDS").unwrap_or(REPLICA_SEEDS),
    }
}

/// Runs every seed once and gives the sum of what they return. `test` is the path of the calling test.
pub(super) fn run_all(test: &str, seeds: Range<u64>, run: impl Fn(u64) -> u64 + Sync) -> u64 {
    let next = AtomicU64::new(seeds.start);
    let sum = AtomicU64::new(0);
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return;
            }
            let _replay = Replay { test, seed, next: &next, end: seeds.end };
            sum.fetch_add(run(seed), Ordering::Relaxed);
        }
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        (0..cores).for_each(|_| drop(scope.spawn(work)));
    });
    sum.into_inner()
}

/// Tells how to replay a seed that panics, and ends the others.
struct Replay<'a> {
    test: &'a str,
    seed: u64,
    next: &'a AtomicU64,
    end: u64,
}

impl Drop for Replay<'_> {
    #[expect(clippy::print_stderr, reason = "for people who read the failure of a test")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.next.store(self.end, Ordering::Relaxed);
            let (test, seed) = (self.test, self.seed);
            eprintln!("seed {seed} fails; replay it with:");
            eprintln!("P2P_SIM_SEED={seed} cargo test -p p2pchat-sim -- --exact {test}");
        }
    }
}
