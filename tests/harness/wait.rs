//! Waiting for a condition, with a deadline.
//!
//! [`eventually`] holds the only sleep of all tests: the pause between two looks.

use std::{
    thread,
    time::{Duration, Instant},
};

/// Long enough for any single step on a busy machine of two cores, short enough to see a hang.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// The pause between two looks.
const PAUSE: Duration = Duration::from_millis(20);

/// What a condition may return: `true`, or `Some` value.
pub trait Met {
    /// What [`eventually`] gives back.
    type Value;
    /// The value, if the condition holds.
    fn met(self) -> Option<Self::Value>;
}

impl Met for bool {
    type Value = ();
    fn met(self) -> Option<()> {
        self.then_some(())
    }
}

impl<T> Met for Option<T> {
    type Value = T;
    fn met(self) -> Option<T> {
        self
    }
}

/// Looks until the condition holds, and gives back its value.
///
/// # Panics
/// If it does not hold within `deadline`; the text says what was waited for.
#[track_caller]
pub fn eventually<M: Met>(
    what: &str,
    deadline: Duration,
    mut condition: impl FnMut() -> M,
) -> M::Value {
    let start = Instant::now();
    loop {
        if let Some(value) = condition().met() {
            return value;
        }
        assert!(start.elapsed() < deadline, "within {deadline:?} this did not happen: {what}");
        thread::sleep(PAUSE);
    }
}

/// Looks again and again for the whole of `period`: the condition must never hold.
///
/// # Panics
/// As soon as it holds.
#[track_caller]
pub fn never(what: &str, period: Duration, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while start.elapsed() < period {
        assert!(!condition(), "after {:?} this happened: {what}", start.elapsed());
        thread::sleep(PAUSE);
    }
}
