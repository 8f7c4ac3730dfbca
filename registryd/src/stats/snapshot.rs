//! All counters at one moment, as numbers that can be written as JSON or as metrics.

use std::{collections::BTreeMap, fs, sync::atomic::Ordering};

use serde::Serialize;

use super::{Gauge, HelloStats, Histogram, QueueStats, request::word};
use crate::{password::Load, registry::Registry, store::Counts};

/// How values are spread: the count of each bucket holds those of the buckets before it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct HistogramValue {
    /// All values.
    pub(crate) count: u64,
    /// Of all values.
    pub(crate) sum: f64,
    /// In the order of their bounds; what is above the last one is in `count` alone.
    pub(crate) buckets: Vec<Bucket>,
}

/// One bucket.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Bucket {
    /// Its upper bound, which it holds.
    pub(crate) le: f64,
    /// Values up to the bound.
    pub(crate) count: u64,
}

/// How many microseconds are one of the unit in which durations are told.
const SECONDS: f64 = 1e6;

impl HistogramValue {
    /// What a histogram holds, each value divided by `unit`.
    pub(super) fn of<const N: usize>(histogram: &Histogram<N>, unit: f64) -> Self {
        let mut count = 0;
        let counted = histogram.bounds.iter().zip(&histogram.buckets).map(|(bound, bucket)| {
            count += bucket.load(Ordering::Relaxed);
            Bucket { le: *bound as f64 / unit, count }
        });
        let buckets = counted.collect();
        count += histogram.above.load(Ordering::Relaxed);
        Self { count, sum: histogram.sum.load(Ordering::Relaxed) as f64 / unit, buckets }
    }
}

/// Datagrams.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct HelloValue {
    pub(crate) received: u64,
    pub(crate) answered: u64,
    /// By reason.
    pub(crate) dropped: BTreeMap<&'static str, u64>,
    pub(crate) nudges: u64,
    /// The interval in force.
    pub(crate) interval_ms: u32,
}

/// Connections.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct ConnectionsValue {
    pub(crate) open: u64,
    pub(crate) max: u64,
    pub(crate) accepted: u64,
    /// By reason.
    pub(crate) refused: BTreeMap<&'static str, u64>,
    pub(crate) broken: u64,
}

/// Requests of one verb.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct RequestsValue {
    /// By what was answered: `ok` or a code.
    pub(crate) results: BTreeMap<String, u64>,
    /// From the whole request to its answer.
    pub(crate) duration_seconds: HistogramValue,
}

/// One thread of the store.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct QueueValue {
    pub(crate) waiting: u64,
    pub(crate) jobs: u64,
    pub(crate) failed: u64,
    pub(crate) batch_jobs: HistogramValue,
    pub(crate) duration_seconds: HistogramValue,
}

impl QueueValue {
    fn of(stats: &QueueStats) -> Self {
        Self {
            waiting: AsRef::<Gauge>::as_ref(stats).get(),
            jobs: stats.jobs.get(),
            failed: stats.failed.get(),
            batch_jobs: HistogramValue::of(&stats.batch, 1.0),
            duration_seconds: HistogramValue::of(&stats.duration, SECONDS),
        }
    }
}

/// Everything that is counted.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Snapshot {
    pub(crate) version: &'static str,
    pub(crate) uptime_seconds: f64,
    /// Resident memory of the process; 0 where the system does not tell.
    pub(crate) resident_bytes: u64,
    /// Sessions that are listened for.
    pub(crate) sessions: u64,
    /// Those of them that said HELLO in time.
    pub(crate) online: u64,
    /// Accounts and rooms that are not deleted; a few seconds old. `None`: not counted yet.
    pub(crate) counts: Option<Counts>,
    pub(crate) disk_full: bool,
    pub(crate) hello: HelloValue,
    pub(crate) connections: ConnectionsValue,
    /// By verb.
    pub(crate) requests: BTreeMap<String, RequestsValue>,
    pub(crate) passwords: Load,
    pub(crate) store_writer: QueueValue,
    pub(crate) store_reader: QueueValue,
}

impl Snapshot {
    /// Reads all counters. Not at one instant: each by itself is right.
    pub(crate) async fn of(registry: &Registry) -> Self {
        let stats = &registry.stats;
        let (sessions, online, interval_ms) = {
            let presence = registry.presence();
            (presence.sessions(), presence.online(), presence.interval_ms())
        };
        let counts = registry.store.counts().await;
        let (writer, reader) = registry.store.queues();
        let connections = &stats.connections;
        Self {
            version: env!("CARGO_PKG_VERSION"),
            uptime_seconds: stats.uptime().as_secs_f64(),
            resident_bytes: resident_bytes().unwrap_or(0),
            sessions: sessions as u64,
            online: online as u64,
            counts,
            disk_full: writer.is_full(),
            hello: hello(&stats.hello, interval_ms),
            connections: ConnectionsValue {
                open: AsRef::<Gauge>::as_ref(connections).get(),
                max: registry.config().connections.max as u64,
                accepted: connections.accepted.get(),
                refused: BTreeMap::from([
                    ("limit", connections.refused_full.get()),
                    ("source_limit", connections.refused_source.get()),
                    ("system", connections.failed.get()),
                ]),
                broken: connections.broken.get(),
            },
            requests: stats
                .requests
                .told()
                .filter(|told| !told.results.is_empty())
                .map(told)
                .collect(),
            passwords: registry.passwords.load(),
            store_writer: QueueValue::of(&writer),
            store_reader: QueueValue::of(&reader),
        }
    }
}

fn told(told: super::request::Told<'_>) -> (String, RequestsValue) {
    let name = |code: Option<_>| code.map_or_else(|| "ok".to_owned(), |code| word(&code));
    let results = told.results.into_iter().map(|(code, count)| (name(code), count)).collect();
    let duration_seconds = HistogramValue::of(told.duration, SECONDS);
    (word(&told.verb), RequestsValue { results, duration_seconds })
}

fn hello(stats: &HelloStats, interval_ms: u32) -> HelloValue {
    HelloValue {
        received: stats.received.get(),
        answered: stats.answered.get(),
        dropped: BTreeMap::from([
            ("malformed", stats.malformed.get()),
            ("unknown_session", stats.unknown_session.get()),
            ("unsealed", stats.unsealed.get()),
            ("replayed", stats.replayed.get()),
        ]),
        nudges: stats.nudges.get(),
        interval_ms,
    }
}

/// Resident memory of this process.
fn resident_bytes() -> Option<u64> {
    let text = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = text.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}
