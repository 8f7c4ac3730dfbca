//! Which of the calls of a run are killed, and how.

use std::env;

use harness::preload::How;

/// Numbers from 1 to `calls`: about `runs` of them evenly apart from a random offset on, or what
/// `P2P_FAULT_EVERY` and `P2P_FAULT_SEED` say. Before, half-way and behind take turns.
///
/// # Panics
/// If a variable is no number.
#[expect(clippy::print_stderr, reason = "a failed test tells how it is repeated")]
pub(crate) fn sweep(calls: u64, runs: u64) -> impl Iterator<Item = (u64, How)> {
    let step = number("P2P_FAULT_EVERY").unwrap_or(calls.div_ceil(runs)).max(1);
    let seed = seed();
    eprintln!("{calls} calls, every {step}; P2P_FAULT_SEED={seed}");
    (1 + seed % step..=calls)
        .step_by(usize::try_from(step).expect("a small step"))
        .zip(seed..)
        .map(|(at, turn)| (at, How::of(turn)))
}

/// The seed of this run.
///
/// # Panics
/// If `P2P_FAULT_SEED` is no number.
pub(crate) fn seed() -> u64 {
    number("P2P_FAULT_SEED").unwrap_or_else(|| {
        let mut bytes = [0; 2];
        getrandom::fill(&mut bytes).expect("randomness");
        u16::from_ne_bytes(bytes).into()
    })
}

/// A number from the environment.
///
/// # Panics
/// If it is none.
pub(crate) fn number(name: &str) -> Option<u64> {
    env::var(name).ok().map(|text| text.parse().expect("a number"))
}
