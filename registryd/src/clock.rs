//! The registry's two clocks: a monotonic one for presence, the wall clock for what it signs and stores.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

#[cfg(any(test, feature = "simulation"))]
use crate::simulation::VirtualClock;

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
