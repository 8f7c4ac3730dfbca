//! Whole worlds keep the guarantees, and what is planted in them is found.

use std::sync::atomic::{AtomicBool, Ordering};

use peerd::core::{planted::Planted as PeersPlanted, replica::Faults};
use registryd::simulation::Planted as IndexPlanted;

use super::{
    conditions::Conditions, explain, planted::Planted, report, run, run_schedule, shape::Shape,
    step::Schedule,
};
use crate::campaign;

/// How many seeds a default run takes.
const SEEDS: u64 = 40;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn whole_worlds_keep_the_guarantees_over_all_seeds() {
    let seeds = match number("P2P_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("P2P_SIM_SEEDS").unwrap_or(SEEDS),
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let stop = AtomicBool::new(false);
    let stop_at_failure = |report: &campaign::SeedReport| {
        if !report.violations.is_empty() {
            stop.store(true, Ordering::Relaxed);
        }
    };
    let totals = campaign::each(seeds, threads, &stop, report, stop_at_failure);
    if let Some(seed) = totals.failed.first() {
        panic!("{}", explain(*seed).expect("what failed once fails again"));
    }
    assert!(totals.schedules == 1 || totals.messages.shown > 0, "users say something");
}

/// Nobody does anything wrong, and nothing breaks.
fn calm(seed: u64) -> Schedule {
    let mut schedule = Schedule::draw(seed);
    schedule.shape = Shape { users: 3, spare: false, history_all: false };
    schedule.conditions = Conditions::CALM;
    schedule.gone = None;
    schedule.steps.retain(|(_, step)| step.is_talk());
    schedule
}

#[test]
fn users_who_only_talk_in_a_calm_world_find_nothing_wrong() {
    let mut messages = 0;
    for seed in 0..20 {
        let outcome = run_schedule(&calm(seed), Planted::default());
        assert_eq!(outcome.violations, [], "seed {seed}");
        messages += outcome.messages;
    }
    assert!(messages > 50, "they talk");
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in 0..5 {
        let [a, b] = [(); 2].map(|()| run(seed, Planted::default()));
        assert_eq!((a.messages, a.virtual_ms, a.inputs), (b.messages, b.virtual_ms, b.inputs));
        assert_eq!((a.violations, a.counts), (b.violations, b.counts), "seed {seed}");
    }
}

/// Whether what is planted shows below a seed, in a schedule that breaks nothing without it.
fn found_below(limit: u64, planted: Planted) -> bool {
    let breaks = |seed: &u64, planted| !run(*seed, planted).violations.is_empty();
    (0..limit).any(|seed| breaks(&seed, planted) && !breaks(&seed, Planted::default()))
}

fn in_peers(peers: PeersPlanted) -> Planted {
    Planted { peers, ..Planted::default() }
}

fn in_index(index: IndexPlanted) -> Planted {
    Planted { index, ..Planted::default() }
}

#[test]
fn telling_before_the_commit_is_found() {
    assert!(found_below(100, Planted { effects_first: true, ..Planted::default() }));
}

#[test]
fn showing_twice_is_found() {
    let replica = Faults { no_dedup: true, ..Faults::default() };
    assert!(found_below(50, in_peers(PeersPlanted { replica, ..PeersPlanted::default() })));
}

#[test]
fn a_chat_that_keeps_its_slot_is_found() {
    assert!(found_below(
        50,
        in_peers(PeersPlanted { keeps_slot: true, ..PeersPlanted::default() })
    ));
}

#[test]
fn a_device_that_does_not_heed_another_one_is_found() {
    let peers = PeersPlanted { never_superseded: true, ..PeersPlanted::default() };
    assert!(found_below(200, in_peers(peers)));
}

#[test]
fn a_side_that_is_deaf_to_the_end_of_a_chat_is_found() {
    let peers = PeersPlanted { deaf_to_end: true, ..PeersPlanted::default() };
    assert!(found_below(200, in_peers(peers)));
}

#[test]
fn a_registry_that_takes_old_hellos_is_found() {
    assert!(found_below(
        200,
        in_index(IndexPlanted { counter_reset: true, ..IndexPlanted::default() })
    ));
}

#[test]
fn a_registry_that_forgets_sessions_is_found() {
    let index = IndexPlanted { forgets_sessions: true, ..IndexPlanted::default() };
    assert!(found_below(200, in_index(index)));
}

#[test]
fn a_registry_that_answers_before_it_commits_is_found() {
    let index = IndexPlanted { answers_before_commit: true, ..IndexPlanted::default() };
    assert!(found_below(300, in_index(index)));
}

#[test]
fn two_sides_that_each_keep_their_own_dial_are_found() {
    let peers = PeersPlanted { keeps_own_dial: true, ..PeersPlanted::default() };
    assert!(found_below(200, in_peers(peers)));
}
