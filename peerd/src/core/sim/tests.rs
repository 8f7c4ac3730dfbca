//! Thousands of seeds, and the proof that the checker finds what is planted.

use super::script::{Planted, run};
use crate::core::replica::Faults;

/// How many seeds a default run takes. `P2P_SIM_SEEDS` sets another number.
const SEEDS: u64 = 300;

fn seeds() -> u64 {
    std::env::var("P2P_SIM_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(SEEDS)
}

/// The first seed below `limit` at which a planted fault is found.
fn found_at(planted: Planted, limit: u64) -> Option<u64> {
    (0..limit).find(|seed| !run(*seed, planted, false).violations.is_empty())
}

#[test]
fn replicas_keep_the_guarantees_over_all_seeds() {
    let (mut sent, mut shown) = (0, 0);
    for seed in 0..seeds() {
        let outcome = run(seed, Planted::default(), false);
        assert_eq!(outcome.violations, [], "seed {seed}");
        sent += outcome.messages.0;
        shown += outcome.messages.1;
    }
    assert!(sent > 0 && shown > sent, "the runs say something: {sent} sent, {shown} shown");
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in 0..5 {
        let (a, b) = (run(seed, Planted::default(), true), run(seed, Planted::default(), true));
        assert_eq!(a.trace, b.trace, "seed {seed}");
    }
}

#[test]
fn acknowledging_before_the_commit_is_found() {
    let planted = Planted { effects_first: true, ..Planted::default() };
    assert!(found_at(planted, 200).is_some());
}

#[test]
fn taking_an_entry_twice_is_found() {
    let replica = Faults { no_dedup: true, ..Faults::default() };
    assert!(found_at(Planted { replica, ..Planted::default() }, 50).is_some());
}

#[test]
fn leaving_out_the_catch_up_is_found() {
    let replica = Faults { no_catch_up: true, ..Faults::default() };
    assert!(found_at(Planted { replica, ..Planted::default() }, 50).is_some());
}

#[test]
fn claiming_what_is_not_held_is_found() {
    let replica = Faults { claim_more: true, ..Faults::default() };
    assert!(found_at(Planted { replica, ..Planted::default() }, 50).is_some());
}

#[test]
fn serving_a_non_member_is_found() {
    let replica = Faults { serve_anyone: true, ..Faults::default() };
    assert!(found_at(Planted { replica, ..Planted::default() }, 200).is_some());
    let planted = Planted { replica, link_anyone: true, ..Planted::default() };
    assert!(found_at(planted, 50).is_some());
}
