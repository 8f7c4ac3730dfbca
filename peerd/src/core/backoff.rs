//! How long the session waits before it asks the registry again by itself.
//!
//! It doubles, and it follows the HELLO interval: where a million are online the interval is long, and HELLO,
//! which costs the registry next to nothing, finds out first that it is back. What the registry says of when
//! to come back holds. The caller spreads each wait by chance.

const FIRST_MS: u64 = 500;
const LONGEST_MS: u64 = 10_000;

/// The longest wait in HELLO intervals, where they are long.
const LONGEST_INTERVALS: u64 = 4;

/// No registry makes us wait longer, whatever it says.
const RETRY_AFTER_MS_MAX: u64 = 10 * 60 * 1000;

/// The waits of one session.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The next wait, to be spread by chance, and what comes before it for certain; in milliseconds.
    pub(super) fn next(&mut self, interval_ms: u32, retry_after_ms: Option<u64>) -> (u64, u64) {
        let interval_ms = u64::from(interval_ms);
        let first_ms = FIRST_MS.max(interval_ms / 2);
        let longest_ms = LONGEST_MS.max(LONGEST_INTERVALS * interval_ms);
        let spread_ms = first_ms.saturating_mul(1 << self.failures.min(20)).min(longest_ms);
        self.failures += 1;
        (spread_ms, retry_after_ms.unwrap_or(0).min(RETRY_AFTER_MS_MAX))
    }

    /// The registry answers.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_begin_anew() {
        let mut backoff = Backoff::default();
        let waits: Vec<u64> = (0..7).map(|_| backoff.next(1_000, None).0).collect();
        assert_eq!(waits, [500, 1_000, 2_000, 4_000, 8_000, 10_000, 10_000]);
        backoff.reset();
        assert_eq!(backoff.next(1_000, None), (500, 0));
    }

    #[test]
    fn where_hello_is_rare_tls_is_rarer() {
        let mut backoff = Backoff::default();
        let waits: Vec<u64> = (0..5).map(|_| backoff.next(50_000, None).0).collect();
        assert_eq!(waits, [25_000, 50_000, 100_000, 200_000, 200_000]);
    }

    #[test]
    fn what_the_registry_says_holds_within_reason() {
        assert_eq!(Backoff::default().next(1_000, Some(1_700)), (500, 1_700));
        let (_, certain_ms) = Backoff::default().next(1_000, Some(u64::MAX));
        assert_eq!(certain_ms, RETRY_AFTER_MS_MAX);
    }
}
