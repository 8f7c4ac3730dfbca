//! The registry's clocks: a monotonic one, the one by which presence goes, which stands still whenever the
//! registry does, and the wall clock for what it signs and stores.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

#[cfg(any(test, feature = "simulation"))]
use crate::simulation::VirtualClock;

/// How often a registry that runs looks at its [`PresenceClock`] at the least.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(250);

/// No more time passes for presence between two looks: one may come late, two do not while anything runs.
/// Half of the shortest interval that is usual, so that who was here has two and a half more left of three.
const STEP_MS_MAX: u64 = 500;

/// Told in the log from here on.
const TOLD_MS: u64 = 1_000;

/// Where time comes from.
#[derive(Debug)]
pub(crate) enum Clock {
    /// The machine's clocks.
    System {
        /// When the registry started.
        started: Instant,
    },
    /// Those of a simulator.
    #[cfg(any(test, feature = "simulation"))]
    Virtual(VirtualClock),
}

impl Clock {
    /// The machine's clocks, for a registry that starts now.
    pub(crate) fn system() -> Self {
        Self::System { started: Instant::now() }
    }

    /// Monotonic time in milliseconds, from a second before the start: never 0.
    pub(crate) fn monotonic_ms(&self) -> u64 {
        let elapsed_ms = match self {
            Self::System { started } => {
                u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX - 1000)
            }
            #[cfg(any(test, feature = "simulation"))]
            Self::Virtual(clock) => clock.elapsed_ms(),
        };
        1000 + elapsed_ms
    }

    /// Registry time: milliseconds since 1970. May jump.
    pub(crate) fn unix_ms(&self) -> u64 {
        match self {
            Self::System { .. } => {
                let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
            }
            #[cfg(any(test, feature = "simulation"))]
            Self::Virtual(clock) => clock.unix_ms(),
        }
    }
}

/// Time in which the registry could hear: that of presence.
///
/// While its process is stopped, or its virtual machine, no HELLO is answered, so nobody may be told offline
/// for having said none. Whoever looks at this clock moves it on, by [`STEP_MS_MAX`] at the most; the thread
/// of the HELLO port looks each [`LOOK_EVERY`], whatever else waits. What lies between two looks beyond that is
/// time in which nothing of the registry ran: deadlines, and the grace after a restart, move by as much.
///
/// A machine that is too slow to look in time moves it more slowly, but moves it at each look: whoever is
/// silent is offline in the end. A suspended machine stops the system's monotonic clock as well.
///
/// Invariant: it never goes back, whichever thread looks first.
#[derive(Debug)]
pub(crate) struct PresenceClock(Mutex<Looked>);

/// As of the last look.
#[derive(Debug, Clone, Copy)]
struct Looked {
    monotonic_ms: u64,
    presence_ms: u64,
}

impl PresenceClock {
    /// One that shows monotonic time so far.
    pub(crate) fn new(clock: &Clock) -> Self {
        let now_ms = clock.monotonic_ms();
        Self(Mutex::new(Looked { monotonic_ms: now_ms, presence_ms: now_ms }))
    }

    /// The time, in milliseconds.
    pub(crate) fn look(&self, clock: &Clock) -> u64 {
        let mut looked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Under the lock: a thread that read it before a stop would take the time back that has passed since.
        let still_ms = looked.move_on(clock.monotonic_ms());
        let presence_ms = looked.presence_ms;
        drop(looked);
        if still_ms >= TOLD_MS {
            tracing::warn!(
                still_ms,
                "the registry stood still: who was online has that much longer"
            );
        }
        presence_ms
    }
}

impl Looked {
    /// Returns how much of the time since the last look the registry stood still.
    fn move_on(&mut self, monotonic_ms: u64) -> u64 {
        let passed_ms = monotonic_ms.saturating_sub(self.monotonic_ms);
        self.monotonic_ms += passed_ms;
        self.presence_ms += passed_ms.min(STEP_MS_MAX);
        passed_ms.saturating_sub(STEP_MS_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begin() -> Looked {
        Looked { monotonic_ms: 1_000, presence_ms: 1_000 }
    }

    #[test]
    fn presence_takes_no_part_in_what_nobody_looked_at() {
        let mut looked = begin();
        for now_ms in (1_000..=5_000).step_by(250) {
            assert_eq!(looked.move_on(now_ms), 0);
            assert_eq!(looked.presence_ms, now_ms, "as long as somebody looks");
        }
        assert_eq!(looked.move_on(605_000), 600_000 - STEP_MS_MAX);
        assert_eq!(looked.presence_ms, 5_000 + STEP_MS_MAX);
        assert_eq!(looked.move_on(5_000), 0, "read before the stop");
        assert_eq!(looked.move_on(605_250), 0);
        assert_eq!(looked.presence_ms, 5_250 + STEP_MS_MAX);
    }

    #[test]
    fn a_slow_machine_moves_it_at_each_look() {
        let mut looked = begin();
        for turn in 1..=1_000 {
            looked.move_on(1_000 + turn * 2_000);
            assert_eq!(looked.presence_ms, 1_000 + turn * STEP_MS_MAX);
        }
    }
}
