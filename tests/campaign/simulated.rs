//! The part in virtual time: schedules of each kind of world on all cores.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use harness::ProgressLine;
use sim::{
    campaign::{self, Kind, SeedReport, Totals},
    planted,
};

use crate::report::{Planted, Quantiles, World};

/// Of so many schedules, how many of each kind of world there are: the large ones take as much longer.
const OF_100_000: [(Kind, u64); 4] =
    [(Kind::Replicas, 97_997), (Kind::Whole, 2_000), (Kind::Large200, 2), (Kind::Large2000, 1)];
/// How many seeds one call takes when the time decides: as many as run in a moment.
const STRIDE: u64 = 10_000;
/// Failures explained; the others are counted. Shrinking one can take minutes.
const EXPLAINED_MAX: usize = 3;

/// How long to go on.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Extent {
    /// So many schedules.
    Schedules(u64),
    /// Until so much time has passed.
    Time(Duration),
}

/// Runs all kinds of worlds, or the one named; `None` if there is none of that name.
pub(crate) fn run(from: u64, extent: Extent, named: Option<&str>) -> Option<Vec<World>> {
    let kinds: Vec<(Kind, u64)> = match named {
        None => OF_100_000.to_vec(),
        Some(name) => {
            let (kind, _) = OF_100_000.into_iter().find(|(kind, _)| kind.name() == name)?;
            vec![(kind, 100_000)]
        }
    };
    let parts = u32::try_from(kinds.len()).unwrap_or(u32::MAX);
    let run = |(kind, share): &(Kind, u64)| match extent {
        Extent::Schedules(n) => {
            let seeds = (n * share).div_ceil(100_000);
            stretch(*kind, from..from + seeds, &AtomicBool::new(false), Some(seeds))
        }
        Extent::Time(time) => timed(*kind, from, time / parts),
    };
    Some(kinds.iter().map(run).collect())
}

/// One kind until the time is over.
fn timed(kind: Kind, from: u64, time: Duration) -> World {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let (ended, wait) = std::sync::mpsc::channel::<()>();
        let stop = &stop;
        scope.spawn(move || {
            // Either the time is over, or the worlds ended before.
            let _ = wait.recv_timeout(time);
            stop.store(true, Ordering::Relaxed);
        });
        let world = stretch(kind, from..u64::MAX - STRIDE, stop, None);
        drop(ended);
        world
    })
}

fn stretch(
    kind: Kind,
    seeds: std::ops::Range<u64>,
    stop: &AtomicBool,
    total: Option<u64>,
) -> World {
    let started = Instant::now();
    let progress = ProgressLine::begin(kind.name(), total);
    let (done, failed) = (AtomicU64::new(0), AtomicU64::new(0));
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let told = Mutex::new(Instant::now());
    let on_report = |report: &SeedReport| {
        let done = done.fetch_add(1, Ordering::Relaxed) + 1;
        let bad = u64::from(!report.violations.is_empty());
        let failed = failed.fetch_add(bad, Ordering::Relaxed) + bad;
        if bad > 0 {
            progress.tell(&format!("seed {} FAILED: {:?}", report.seed, report.violations));
        }
        let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.elapsed() >= Duration::from_millis(200) {
            *told = Instant::now();
            progress.at(done, &word(failed));
        }
    };
    let totals = campaign::run_all(kind, seeds, threads, stop, on_report);
    progress.end(totals.schedules, &word(failed.into_inner()));
    world(kind, &totals, started.elapsed())
}

/// Finds every fault that is planted to test the checks.
pub(crate) fn planted() -> Vec<Planted> {
    let all = planted::all();
    let progress = ProgressLine::begin("planted faults", Some(all.len() as u64));
    let find = |(n, fault): (usize, &planted::PlantedFault)| {
        let found_at = fault.found_at();
        progress.at(n as u64 + 1, fault.name);
        Planted { name: fault.name.to_owned(), found_at, limit: fault.limit }
    };
    let found: Vec<Planted> = all.iter().enumerate().map(find).collect();
    progress.end(found.len() as u64, "");
    found
}

fn word(failed: u64) -> String {
    if failed == 0 { String::new() } else { format!("{failed} FAILED") }
}

fn world(kind: Kind, totals: &Totals, took: Duration) -> World {
    let explained = totals.failed.iter().take(EXPLAINED_MAX);
    let mut violations: Vec<String> =
        explained.filter_map(|seed| campaign::explain(kind, *seed)).collect();
    violations.extend(
        totals.failed.iter().skip(EXPLAINED_MAX).map(|seed| format!("{} seed {seed}", kind.name())),
    );
    World {
        name: kind.name().to_owned(),
        schedules: totals.schedules,
        virtual_ms: totals.virtual_ms,
        seconds: took.as_secs(),
        messages: totals.messages,
        faults: totals.faults.iter().map(|(fault, n)| (fault.name().to_owned(), n)).collect(),
        healing: Quantiles {
            median_ms: totals.healed_within_ms(500),
            p99_ms: totals.healed_within_ms(990),
            max_ms: totals.healing_max_ms,
        },
        violations,
    }
}
