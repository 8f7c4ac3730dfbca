//! What a running registry counts, for whoever operates it.
//!
//! Counters, gauges and histograms are plain atomics: to count costs a few nanoseconds, takes no lock and
//! allocates nothing, so that it may be done for each HELLO. Labels are words of our own (a verb, a code, a
//! reason): their number is fixed when this is compiled, and nothing that a client sent is ever one.
//!
//! Each part of the registry counts for itself as it works; [`snapshot`] reads all of it at once, for
//! `registryd admin stats` and for the metrics.

pub(crate) mod health;
mod request;
pub(crate) mod snapshot;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

pub(crate) use request::{RequestStats, Verb, word};
#[cfg(test)]
use snapshot::HistogramValue;

/// Only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    /// None yet.
    pub(crate) const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// One more.
    pub(crate) fn count(&self) {
        self.add(1);
    }

    /// So many more.
    pub(crate) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// How many there were since the start.
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How many there are at the moment.
#[derive(Debug, Default)]
pub(crate) struct Gauge(AtomicU64);

impl Gauge {
    /// How many there are.
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// One of those that a [`Gauge`] counts, until it is dropped. `T` holds the gauge.
#[derive(Debug)]
pub(crate) struct Present<T: AsRef<Gauge>>(T);

impl<T: AsRef<Gauge>> Present<T> {
    /// One more, from here on.
    pub(crate) fn enter(holder: T) -> Self {
        holder.as_ref().0.fetch_add(1, Ordering::Relaxed);
        Self(holder)
    }
}

impl<T: AsRef<Gauge>> Drop for Present<T> {
    fn drop(&mut self) {
        self.0.as_ref().0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Upper bounds of the buckets of durations, in microseconds: from a look-up to a time-out.
pub(crate) const DURATION_BOUNDS_US: [u64; 14] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000,
    2_500_000, 10_000_000,
];

/// Upper bounds of the buckets of batches, in jobs.
pub(crate) const BATCH_BOUNDS: [u64; 7] = [1, 2, 4, 8, 16, 32, 64];

/// How values are spread over `N` buckets; what is above the last one is in the sum and the count alone.
#[derive(Debug)]
pub(crate) struct Histogram<const N: usize> {
    bounds: &'static [u64; N],
    buckets: [AtomicU64; N],
    above: AtomicU64,
    sum: AtomicU64,
}

impl<const N: usize> Histogram<N> {
    /// An empty one with these upper bounds, which grow.
    pub(crate) fn new(bounds: &'static [u64; N]) -> Self {
        let buckets = [const { AtomicU64::new(0) }; N];
        Self { bounds, buckets, above: AtomicU64::new(0), sum: AtomicU64::new(0) }
    }

    /// Counts a value.
    pub(crate) fn observe(&self, value: u64) {
        let bucket = self.bounds.iter().position(|bound| value <= *bound);
        bucket.map_or(&self.above, |at| &self.buckets[at]).fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(value, Ordering::Relaxed);
    }
}

impl Histogram<{ DURATION_BOUNDS_US.len() }> {
    /// An empty one of durations.
    pub(crate) fn of_durations() -> Self {
        Self::new(&DURATION_BOUNDS_US)
    }

    /// Counts the time that has passed.
    pub(crate) fn observe_since(&self, start: Instant) {
        self.observe(u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX));
    }
}

/// A histogram of durations in microseconds.
pub(crate) type Durations = Histogram<{ DURATION_BOUNDS_US.len() }>;

/// Datagrams.
#[derive(Debug, Default)]
pub(crate) struct HelloStats {
    /// All that came.
    pub(crate) received: Counter,
    /// Those that were answered.
    pub(crate) answered: Counter,
    /// Dropped: no HELLO by its form.
    pub(crate) malformed: Counter,
    /// Dropped: no session of this number and epoch.
    pub(crate) unknown_session: Counter,
    /// Dropped: it did not open under the session's key.
    pub(crate) unsealed: Counter,
    /// Dropped: its counter did not grow.
    pub(crate) replayed: Counter,
    /// Sent unasked, because an account's version grew.
    pub(crate) nudges: Counter,
}

/// Connections of clients.
#[derive(Debug, Default)]
pub(crate) struct ConnectionStats {
    /// All that were let in.
    pub(crate) accepted: Counter,
    /// Cut at once: there are as many as may be.
    pub(crate) refused_full: Counter,
    /// Cut at once: their source has as many as it may.
    pub(crate) refused_source: Counter,
    /// The system gave none, for want of descriptors or memory.
    pub(crate) failed: Counter,
    /// Ended by a fault of the client or the way: too slow, no TLS, cut.
    pub(crate) broken: Counter,
    open: Gauge,
}

impl AsRef<Gauge> for ConnectionStats {
    fn as_ref(&self) -> &Gauge {
        &self.open
    }
}

/// A thread of the store and the queue before it.
#[derive(Debug)]
pub(crate) struct QueueStats {
    /// Jobs that were done, well or not.
    pub(crate) jobs: Counter,
    /// Jobs that were committed together.
    pub(crate) batch: Histogram<{ BATCH_BOUNDS.len() }>,
    /// From the begin of a transaction to its end.
    pub(crate) duration: Durations,
    /// Batches that did not commit.
    pub(crate) failed: Counter,
    waiting: Gauge,
    full: AtomicBool,
}

impl Default for QueueStats {
    fn default() -> Self {
        Self {
            jobs: Counter::default(),
            batch: Histogram::new(&BATCH_BOUNDS),
            duration: Histogram::of_durations(),
            failed: Counter::default(),
            waiting: Gauge::default(),
            full: AtomicBool::new(false),
        }
    }
}

impl AsRef<Gauge> for QueueStats {
    fn as_ref(&self) -> &Gauge {
        &self.waiting
    }
}

impl QueueStats {
    /// One job that waits or runs, until this is dropped.
    pub(crate) fn enter(self: &Arc<Self>) -> Present<QueuePlace> {
        Present::enter(QueuePlace(self.clone()))
    }

    /// A batch of jobs that began at `start` came to its end, committed or not.
    pub(crate) fn batch_ended(&self, jobs: u64, start: Instant, committed: bool) {
        self.jobs.add(jobs);
        self.batch.observe(jobs);
        self.duration.observe_since(start);
        if !committed {
            self.failed.count();
        }
    }

    /// Jobs that wait or run.
    pub(crate) fn waiting(&self) -> u64 {
        self.waiting.get()
    }

    /// The disk refused a write for want of space, or took one again.
    pub(crate) fn set_full(&self, full: bool) {
        self.full.store(full, Ordering::Relaxed);
    }

    /// Whether the last write met a full disk.
    pub(crate) fn is_full(&self) -> bool {
        self.full.load(Ordering::Relaxed)
    }
}

/// A job's share of its queue's counters.
#[derive(Debug)]
pub(crate) struct QueuePlace(Arc<QueueStats>);

impl AsRef<Gauge> for QueuePlace {
    fn as_ref(&self) -> &Gauge {
        self.0.as_ref().as_ref()
    }
}

/// Later than any time since the start.
const NEVER: u64 = u64::MAX;

/// What the parts that have no counters of their own count.
#[derive(Debug)]
pub(crate) struct Stats {
    started: Instant,
    /// Datagrams.
    pub(crate) hello: HelloStats,
    /// Connections.
    pub(crate) connections: ConnectionStats,
    /// Requests.
    pub(crate) requests: RequestStats,
    /// When the store was last found alive, in milliseconds after the start.
    store_alive_ms: AtomicU64,
    /// When presence last moved on, likewise.
    presence_alive_ms: AtomicU64,
    /// When a newcomer last found no place, likewise; or [`NEVER`].
    full_ms: AtomicU64,
}

impl Default for Stats {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            hello: HelloStats::default(),
            connections: ConnectionStats::default(),
            requests: RequestStats::default(),
            store_alive_ms: AtomicU64::new(0),
            presence_alive_ms: AtomicU64::new(0),
            full_ms: AtomicU64::new(NEVER),
        }
    }
}

impl Stats {
    /// Since the start.
    pub(crate) fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// The store answered.
    pub(crate) fn store_answered(&self) {
        self.store_alive_ms.store(self.uptime_ms(), Ordering::Relaxed);
    }

    /// Presence moved on.
    pub(crate) fn presence_moved(&self) {
        self.presence_alive_ms.store(self.uptime_ms(), Ordering::Relaxed);
    }

    /// A newcomer was refused: all places are taken, and none could be taken from another.
    pub(crate) fn refused_full(&self) {
        self.connections.refused_full.count();
        self.full_ms.store(self.uptime_ms(), Ordering::Relaxed);
    }

    /// How long ago a newcomer was last refused so, if ever.
    pub(crate) fn since_full(&self) -> Option<Duration> {
        (self.full_ms.load(Ordering::Relaxed) != NEVER).then(|| self.since(&self.full_ms))
    }

    /// How long ago the store last answered.
    pub(crate) fn store_silent(&self) -> Duration {
        self.since(&self.store_alive_ms)
    }

    /// How long ago presence last moved on.
    pub(crate) fn presence_silent(&self) -> Duration {
        self.since(&self.presence_alive_ms)
    }

    fn since(&self, at: &AtomicU64) -> Duration {
        Duration::from_millis(self.uptime_ms().saturating_sub(at.load(Ordering::Relaxed)))
    }

    fn uptime_ms(&self) -> u64 {
        u64::try_from(self.uptime().as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_puts_each_value_into_the_first_bucket_that_holds_it() {
        let histogram = Histogram::new(&BATCH_BOUNDS);
        for value in [1, 2, 3, 64, 65] {
            histogram.observe(value);
        }
        let value = HistogramValue::of(&histogram, 1.0);
        assert_eq!((value.count, value.sum), (5, 135.0));
        let cumulative: Vec<u64> = value.buckets.iter().map(|b| b.count).collect();
        assert_eq!(cumulative, [1, 2, 3, 3, 3, 3, 4]);
    }

    #[test]
    fn when_a_newcomer_was_refused_is_known() {
        let stats = Stats::default();
        assert_eq!(stats.since_full(), None);
        stats.refused_full();
        assert_eq!(stats.connections.refused_full.get(), 1);
        assert!(stats.since_full().is_some_and(|since| since <= stats.uptime()));
    }

    #[test]
    fn a_job_counts_until_it_is_dropped() {
        let queue = Arc::new(QueueStats::default());
        let (one, two) = (queue.enter(), queue.enter());
        assert_eq!(queue.waiting(), 2);
        drop(one);
        assert_eq!(queue.waiting(), 1);
        drop(two);
        assert_eq!(queue.waiting(), 0);
    }
}
