//! Thousands of seeds, and the proof that the checker finds what is planted.

pub(super) mod seeds;

use super::script::{Planted, run};
use peerd::core::replica::Faults;

/// The first seed below `limit` at which a planted fault is found.
fn found_at(planted: Planted, limit: u64) -> Option<u64> {
    (0..limit).find(|seed| !run(*seed, planted, false).violations.is_empty())
}

#[test]
fn replicas_keep_the_guarantees_over_all_seeds() {
    let test = "replicas_keep_the_guarantees_over_all_seeds";
    let shown = seeds::run_all(test, seeds::of_replicas(), |seed| {
        let outcome = run(seed, Planted::default(), false);
        assert_eq!(outcome.violations, [], "seed {seed}");
        let (sent, shown) = outcome.messages;
        assert!(sent > 0, "seed {seed}: the users say something");
        shown as u64
    });
    assert!(shown > 0, "something is shown");
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in 0..5 {
        let (a, b) = (run(seed, Planted::default(), true), run(seed, Planted::default(), true));
        assert_eq!(a.trace, b.trace, "seed {seed}");
    }
}

#[test]
fn forwarding_what_was_altered_is_found_unless_it_is_verified() {
    let planted = Planted { alters: true, trusts: true, ..Planted::default() };
    assert!(found_at(planted, 50).is_some());
    let verified = Planted { alters: true, ..Planted::default() };
    assert_eq!(found_at(verified, 50), None);
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
