//! Resident memory of all daemons over time.

use std::time::{Duration, Instant};

use serde::Serialize;

use crate::users::Users;

/// Between two samples.
const EVERY: Duration = Duration::from_secs(3);

/// Around a moment, so that a daemon that was just started again says little.
const WINDOW_MS: u64 = 30_000;

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
        let registry = users.registry.daemon().resident_bytes();
        let peers: Vec<u64> =
            users.peers.iter_mut().map(|peer| peer.daemon().resident_bytes()).collect();
        if registry > 0 && peers.iter().all(|bytes| *bytes > 0) {
            self.samples.push(Sample { at_ms, registry, peers });
        }
    }

    pub(super) fn into_samples(self) -> Vec<Sample> {
        self.samples
    }
}

/// The median of the total around a moment.
pub(super) fn around(samples: &[Sample], at_ms: u64) -> Option<u64> {
    let near = samples.iter().filter(|sample| sample.at_ms.abs_diff(at_ms) <= WINDOW_MS);
    let mut totals: Vec<u64> = near.map(Sample::total).collect();
    totals.sort_unstable();
    totals.get(totals.len() / 2).copied()
}
