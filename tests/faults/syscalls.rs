//! The programs killed at every system call that changes something: write, sync, send, rename.
//!
//! A sweep counts the calls of an undisturbed run, then kills at one after the other. Every n of a run with
//! hundreds of calls takes long, so by default a sweep takes an even share of them, at an offset drawn anew
//! in each run (`P2P_FAULT_SEED=N` repeats one); `P2P_FAULT_EVERY=1` takes every call. To be killed means
//! before the call, half-way in a write, or behind the call, in turns.

use harness::{
    Peer, Registry,
    preload::{ALL, Faults, How},
};

use crate::{
    people::{bodies, friends},
    sweep::sweep,
};

/// Row 1: kill -9 of p2pctl in the middle of a request, at each of its writes.
#[test]
fn a_caller_killed_at_any_write_leaves_the_message_done_or_not_done() {
    let Some(counting) = Faults::new() else { return };
    let counting = counting.count(ALL);
    let (_registry, [alice, bob]) = friends(["alice", "bob"]);
    let call = |n: u64, faults: &Faults| {
        let (body, id) = (format!("body {n}"), format!("job-{n}"));
        let args = ["send", "bob", &body, "--id", &id];
        alice.ctl_with().args(&args).env(&faults.environment()).run()
    };
    call(0, &counting).ok();
    let calls = counting.calls();
    assert!(calls > 0, "a request is at least one write");
    let mut expected = vec!["body 0".to_owned()];
    for at in 1..=calls {
        for (k, how) in [How::Before, How::Half, How::After].into_iter().enumerate() {
            let n = at * 10 + k as u64;
            let faults = Faults::new().expect("built before").kill_at(at, ALL, how);
            let killed = call(n, &faults);
            assert!(faults.killed() == (killed.code.is_none()), "{killed:?}");
            let again = call(n, &Faults::new().expect("built before")).ok();
            assert_eq!(again["state"], "delivered");
            expected.push(format!("body {n}"));
        }
    }
    assert_eq!(bodies(&bob.history(&["alice"])), expected, "each once, in order");
}

/// Row 2 and 21: kill -9 of peerd at any call of its first start, while database and keys are made.
#[test]
fn a_first_start_of_a_peer_killed_at_any_system_call_is_followed_by_one_that_works() {
    let Some(counting) = Faults::new() else { return };
    let counting = counting.count(ALL);
    let start = |faults: &Faults| {
        let home = tempfile::tempdir().expect("a temporary folder");
        Peer::launch("alice", home, &faults.environment())
    };
    start(&counting).stop();
    for (at, how) in sweep(counting.calls(), 40) {
        let faults = Faults::new().expect("built before").kill_at(at, ALL, how);
        let mut peer = start(&faults);
        assert!(peer.restart_in(&[]), "no start after a kill at call {at}, {how:?}");
        peer.ctl(&["contacts"]).ok();
    }
}

/// Row 3 and 21: the same for registryd.
#[test]
fn a_first_start_of_a_registry_killed_at_any_system_call_is_followed_by_one_that_works() {
    let Some(counting) = Faults::new() else { return };
    let counting = counting.count(ALL);
    Registry::start_after(&counting.environment());
    for (at, how) in sweep(counting.calls(), 25) {
        let faults = Faults::new().expect("built before").kill_at(at, ALL, how);
        let registry = Registry::start_after(&faults.environment());
        Peer::online("alice", &registry);
    }
}
