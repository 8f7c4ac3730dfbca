//! Memory of all daemons over time.
//!
//! Pages that daemons share, their programs above all, count once: the proportional share of each is summed.
//! A daemon that was just started again takes little, so one moment says what was killed last, not what
//! grows: two spans of the same length are compared, each with many faults, and the median of each counts.

use std::{
    ops::RangeInclusive,
    time::{Duration, Instant},
};

use serde::Serialize;

use crate::users::Users;

/// Between two samples.
const EVERY: Duration = Duration::from_secs(3);

/// All daemons at one moment; taken only when all of them run.
#[derive(Debug, Clone, Serialize)]
pub struct Sample {
    /// Since the soak began, in milliseconds.
    pub at_ms: u64,
    /// The registry, in bytes.
    pub registry: u64,
    /// The users' daemons in their order, in bytes.
    pub peers: Vec<u64>,
}

impl Sample {
    /// All together.
    pub fn total(&self) -> u64 {
        self.registry + self.peers.iter().sum::<u64>()
    }
}

/// The samples of a soak.
#[derive(Debug)]
pub(super) struct Memory {
    began: Instant,
    next: Instant,
    samples: Vec<Sample>,
}

impl Memory {
    pub(super) fn new() -> Self {
        let now = Instant::now();
        Self { began: now, next: now, samples: Vec::new() }
    }

    /// Takes a sample if it is time.
    pub(super) fn look(&mut self, users: &mut Users) {
        let now = Instant::now();
        if now < self.next {
            return;
        }
        self.next = now + EVERY;
        let at_ms = u64::try_from((now - self.began).as_millis()).unwrap_or(u64::MAX);
        let registry = users.registry.daemon().proportional_bytes();
        let peers: Vec<u64> =
            users.peers.iter_mut().map(|peer| peer.daemon().proportional_bytes()).collect();
        if registry > 0 && peers.iter().all(|bytes| *bytes > 0) {
            self.samples.push(Sample { at_ms, registry, peers });
        }
    }

    pub(super) fn into_samples(self) -> Vec<Sample> {
        self.samples
    }
}

/// The median of the total in a span of time.
pub(super) fn median(samples: &[Sample], span_ms: RangeInclusive<u64>) -> Option<u64> {
    let within = samples.iter().filter(|sample| span_ms.contains(&sample.at_ms));
    let mut totals: Vec<u64> = within.map(Sample::total).collect();
    totals.sort_unstable();
    totals.get(totals.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(at_ms: u64, peer: u64) -> Sample {
        Sample { at_ms, registry: 10, peers: vec![peer, 5] }
    }

    #[test]
    fn what_was_killed_at_one_moment_does_not_count() {
        let samples = [sample(99, 1), sample(100, 40), sample(150, 2), sample(200, 41)];
        assert_eq!(median(&samples, 100..=200), Some(55));
        assert_eq!(median(&samples, 201..=300), None);
    }
}
