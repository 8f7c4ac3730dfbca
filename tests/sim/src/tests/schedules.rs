//! Schedules replay to the same step, and shrink.

use peerd::core::replica::Faults;

use crate::{
    schedule::{Deed, Schedule},
    script::{Planted, play, run},
    shrink::{play_caught, shrink},
};

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in 0..10 {
        let (a, b) = (run(seed, Planted::default(), true), run(seed, Planted::default(), true));
        assert_eq!(a.trace, b.trace, "seed {seed}");
    }
}

#[test]
fn a_seed_replays_to_the_same_step() {
    for seed in 0..10 {
        let schedule = Schedule::draw(seed);
        let whole = play(&schedule, Planted::default(), true).trace;
        assert_eq!(whole.len(), schedule.steps.len() + 1);
        let half = schedule.steps.len() / 2;
        let begun = Schedule { steps: schedule.steps[..half].to_vec(), ..schedule };
        let part = play(&begun, Planted::default(), true).trace;
        assert_eq!(part[..half], whole[..half], "seed {seed}");
    }
}

#[test]
fn a_schedule_that_fails_shrinks_to_a_few_steps_that_still_fail() {
    let replica = Faults { drop_vectors: true, ..Faults::default() };
    let planted = Planted { replica, ..Planted::default() };
    let schedule = (0..)
        .map(Schedule::draw)
        .find(|s| s.steps.len() > 20 && !play_caught(s, planted).violations.is_empty())
        .expect("endless seeds");
    let (small, violations) = shrink(&schedule, planted).expect("it fails");
    assert!(small.steps.len() <= 4, "{} of {}:\n{small}", small.steps.len(), schedule.steps.len());
    assert!(small.steps.iter().any(|step| matches!(step.deed, Deed::Say { .. })), "{small}");
    assert_eq!(play_caught(&small, planted).violations, violations, "it still fails");
    let printed: Schedule = small.to_string().parse().expect("what we wrote");
    assert_eq!(play_caught(&printed, planted).violations, violations, "and so does its print");
}

#[test]
fn what_does_not_fail_does_not_shrink() {
    assert_eq!(shrink(&Schedule::draw(1), Planted::default()), None);
}
