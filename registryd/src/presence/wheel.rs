//! A coarse timer wheel: insert and expire in constant time, for presence alone.
//!
//! It promises to return an account no earlier than its deadline, except one beyond the horizon: that
//! comes back at the horizon. The caller looks at the real deadline and inserts again; entries that it
//! no longer wants it tells by the tick that `insert` returned.

use crate::store::AccountId;

/// The coarseness.
const TICK_MS: u64 = 250;

/// Buckets: the horizon is 64 s.
const BUCKETS: u64 = 256;

/// The wheel.
#[derive(Debug)]
pub(crate) struct Wheel {
    buckets: Vec<Vec<AccountId>>,
    /// The next tick to be taken.
    tick: u64,
}

impl Wheel {
    pub(crate) fn new(now_ms: u64) -> Self {
        Self { buckets: vec![Vec::new(); BUCKETS as usize], tick: now_ms / TICK_MS }
    }

    /// Enters an account, and returns the tick at which it will come out.
    pub(crate) fn insert(&mut self, account: AccountId, deadline_ms: u64) -> u64 {
        let tick = deadline_ms.div_ceil(TICK_MS).clamp(self.tick + 1, self.tick + BUCKETS - 1);
        self.buckets[(tick % BUCKETS) as usize].push(account);
        tick
    }

    /// The next tick that is due, with its accounts; `None` when the wheel has caught up.
    pub(crate) fn next_due(&mut self, now_ms: u64) -> Option<(u64, Vec<AccountId>)> {
        if self.tick * TICK_MS > now_ms {
            return None;
        }
        let tick = self.tick;
        let due = std::mem::take(&mut self.buckets[(tick % BUCKETS) as usize]);
        self.tick += 1;
        Some((tick, due))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_comes_out_once_at_its_tick_or_the_horizon() {
        let mut wheel = Wheel::new(10_000);
        let deadlines = [10_001, 10_250, 11_000, 60_000, 10_000_000];
        let ticks: Vec<u64> = deadlines
            .iter()
            .enumerate()
            .map(|(i, d)| wheel.insert(AccountId(i as u64), *d))
            .collect();
        let mut out = Vec::new();
        while let Some((tick, due)) = wheel.next_due(80_000) {
            out.extend(due.into_iter().map(|account| (account, tick)));
        }
        let expected: Vec<_> =
            ticks.iter().enumerate().map(|(i, t)| (AccountId(i as u64), *t)).collect();
        assert_eq!(out, expected);
        for (deadline, tick) in deadlines.iter().zip(&ticks).take(4) {
            assert!(tick * TICK_MS >= *deadline);
        }
    }
}
