//! Thousands of seeds, and the proof that the checker finds what is planted.

mod planted;
mod schedules;
pub(crate) mod seeds;

use super::{
    campaign::{self, Kind},
    counts::Fault,
    schedule::Schedule,
};

#[test]
fn replicas_keep_the_guarantees_over_all_seeds() {
    let totals = seeds::run_all(Kind::Replicas);
    assert!(totals.messages.accepted > 0 && totals.messages.shown > 0, "{totals:?}");
    if totals.schedules > 1_000 {
        let elsewhere = |f: Fault| f == Fault::AlteredEntry || f.is_of_whole_worlds();
        for (fault, count) in totals.faults.iter().filter(|(f, _)| !elsewhere(*f)) {
            assert!(count > 0, "{} are injected", fault.name());
        }
    }
}

#[test]
fn a_room_of_200_keeps_the_guarantees() {
    let totals = seeds::run_all(Kind::Large200);
    assert!(totals.messages.shown > 0, "{totals:?}");
}

#[test]
fn a_town_of_2000_keeps_the_guarantees() {
    let totals = seeds::run_all(Kind::Large2000);
    assert!(totals.messages.shown > 1_000, "{totals:?}");
}

#[test]
fn a_report_sums_up_what_its_seeds_did() {
    let reports: Vec<_> = (0..8).map(|seed| campaign::run_seed(Kind::Replicas, seed)).collect();
    let stop = std::sync::atomic::AtomicBool::new(false);
    let totals = campaign::run_all(Kind::Replicas, 0..8, 2, &stop, |_| ());
    assert_eq!(totals.schedules, 8);
    assert_eq!(totals.messages.shown, reports.iter().map(|r| r.messages.shown).sum::<u64>());
    assert_eq!(totals.virtual_ms, reports.iter().map(|r| r.virtual_ms).sum::<u64>());
    let longest = reports.iter().map(|r| r.healing_ms).max().expect("eight reports");
    assert_eq!(totals.healed_within_ms(1_000), longest);
}

#[test]
fn a_schedule_is_read_back_as_it_was_printed() {
    for seed in 0..50 {
        let schedule = Schedule::draw(seed);
        assert_eq!(schedule.to_string().parse::<Schedule>().expect("what we wrote"), schedule);
    }
}
