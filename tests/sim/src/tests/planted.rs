//! The proof that the checks find what is planted, each within its stated number of seeds.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use crate::{planted, schedule::Schedule, script::Planted, shrink::play_caught};

#[test]
fn every_planted_fault_is_found_within_its_number_of_seeds() {
    let (all, next) = (planted::all(), AtomicUsize::new(0));
    let work = || {
        while let Some(fault) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
            let found = fault.found_at();
            assert!(found.is_some(), "{}: not found within {} seeds", fault.name, fault.limit);
        }
    };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
}

#[test]
fn the_name_of_each_planted_fault_is_its_own() {
    let mut names: Vec<&str> = planted::all().iter().map(|fault| fault.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), planted::all().len());
}

#[test]
fn altered_entries_do_no_harm_where_they_are_verified() {
    let verified = Planted { alters: true, ..Planted::default() };
    let harmed = |seed: u64| !play_caught(&Schedule::draw(seed), verified).violations.is_empty();
    assert_eq!((0..100).find(|seed| harmed(*seed)), None);
}
