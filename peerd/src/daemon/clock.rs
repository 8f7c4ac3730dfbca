//! The two clocks of an input.

use std::time::{SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

use crate::core::Now;

/// The time now. The monotonic half counts while the machine is suspended: a peer that slept for an hour is
/// an hour late at once, not after another hour.
pub fn now() -> Now {
    let since_boot = clock_gettime(ClockId::Boottime);
    let mono_ms =
        since_boot.tv_sec.cast_unsigned() * 1000 + since_boot.tv_nsec.cast_unsigned() / 1_000_000;
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Now { mono_ms, wall_ms: u64::try_from(wall.as_millis()).unwrap_or(u64::MAX) }
}
