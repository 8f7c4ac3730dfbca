//! Whole worlds keep the guarantees, and what is planted in them is found.

use super::{
    conditions::Conditions,
    planted::Planted,
    run, run_schedule,
    shape::Shape,
    step::{PUTS_INDEX_BACK_FROM, Schedule},
};
use crate::{campaign::Kind, counts::Fault, tests::seeds};

#[test]
fn whole_worlds_keep_the_guarantees_over_all_seeds() {
    let totals = seeds::run_all(Kind::Whole);
    assert!(totals.schedules == 1 || totals.messages.shown > 0, "users say something");
    if totals.schedules >= 400 {
        // A registry is put back in one world of some hundred.
        let usual = |fault: Fault| fault.is_of_whole_worlds() && fault != Fault::RegistryRestore;
        for (fault, count) in totals.faults.iter().filter(|(fault, _)| usual(*fault)) {
            assert!(count > 0, "{} are injected", fault.name());
        }
    }
}

#[test]
fn whole_worlds_whose_registry_is_put_back_keep_the_guarantees() {
    let totals = seeds::run(Kind::Whole, PUTS_INDEX_BACK_FROM..PUTS_INDEX_BACK_FROM + 100);
    let mut faults = totals.faults.iter();
    let restored = faults.any(|(fault, count)| fault == Fault::RegistryRestore && count >= 50);
    assert!(restored, "most have a backup to go back to");
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

/// A schedule in which a user logs in right as its device starts, on ports that are taken at first.
#[test]
fn a_login_during_a_start_keeps_the_listeners_that_it_opened_last() {
    assert_eq!(run(456, Planted::default()).violations, []);
}

/// A login is under way, on listeners that it has opened, when the registry's word arrives that another
/// device had taken over the session before it.
#[test]
fn the_end_of_a_session_that_a_login_replaces_keeps_the_listeners_of_the_login() {
    assert_eq!(run(758, Planted::default()).violations, []);
}

/// The key of a user changed while another was logged out, who learns of it from a call.
#[test]
fn a_user_who_comes_back_trusts_the_key_of_who_took_over_meanwhile() {
    assert_eq!(run(1171, Planted::default()).violations, []);
}

/// The registry told of a change of a room, and what was asked about it was lost.
#[test]
fn what_was_lost_of_a_room_that_changed_is_asked_for_again() {
    assert_eq!(run(2028, Planted::default()).violations, []);
}

/// A login was cut short by a logout, another one follows on other ports, and the reply to the first comes
/// late.
#[test]
fn the_late_reply_to_a_login_that_was_cut_short_is_not_the_next_ones() {
    assert_eq!(run(875, Planted::default()).violations, []);
}

/// A message to a room was cancelled while a member is gone who has not confirmed it.
#[test]
fn what_was_cancelled_is_not_lost_while_a_member_is_gone() {
    assert_eq!(run(2882, Planted::default()).violations, []);
}

/// A room changed while HELLOs were not answered, and what was asked about it was lost, or the question what
/// had changed: the HELLO that was answered at last took the plan to ask again with it.
#[test]
fn what_was_lost_of_a_room_is_asked_for_again_though_the_registry_came_back() {
    for seed in [7719, 7939, 9058] {
        assert_eq!(run(seed, Planted::default()).violations, [], "seed {seed}");
    }
}

/// The owner deleted a room, and a member who had not heard of it sent the owner its newest records.
#[test]
fn records_of_a_member_bring_nobody_back_into_a_room_that_is_deleted() {
    assert_eq!(run(19749, Planted::default()).violations, []);
}

/// A resume was under way while a HELLO of the session before it was answered.
#[test]
fn a_resume_that_is_under_way_is_our_own_doing_whatever_hello_says() {
    assert_eq!(run(34821, Planted::default()).violations, []);
}

/// The registry's clock went back ten years while a session went on.
#[test]
fn who_is_met_for_the_first_time_is_met_though_the_clock_of_the_registry_went_back() {
    assert_eq!(run(31290, Planted::default()).violations, []);
}

/// The registry went back to a backup from before another device took over, which others had seen; then the
/// first device logged in again.
#[test]
fn who_comes_back_after_a_takeover_that_the_registry_has_forgotten_is_reached_again() {
    let outcome = run(44700, Planted::default());
    assert_eq!(outcome.violations, []);
    let mut counts = outcome.counts.iter();
    assert!(counts.any(|(fault, count)| fault == Fault::RegistryRestore && count > 0));
}

/// A member that has them passes on what its author wrote behind a message that it cancelled, and is gone.
#[test]
fn what_is_behind_a_cancelled_message_reaches_all_though_its_author_is_gone() {
    assert_eq!(run(51515, Planted::default()).violations, []);
}
