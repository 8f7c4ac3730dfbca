//! A snapshot in the OpenMetrics text format, as Prometheus reads it.
//!
//! Names begin with `p2pchat_registry_`, units are base units (seconds, bytes), counters end in `_total`. A
//! label is a word that this program knows (a verb, a code, a reason), so the number of series is bounded.

use std::{collections::BTreeMap, fmt};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet, text},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Registry,
};

use crate::stats::{
    health::{Check, Health},
    snapshot::{HistogramValue, QueueValue, Snapshot},
};

/// What every name begins with.
const PREFIX: &str = "p2pchat_registry";

/// The type of what [`text_of`] returns.
pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// All metrics as text.
///
/// # Errors
/// None in fact: memory takes every write.
pub(super) fn text_of(snapshot: Snapshot, health: Health) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix(PREFIX);
    registry.register_collector(Box::new(Everything { snapshot, health }));
    let mut written = String::new();
    text::encode(&mut written, &registry)?;
    Ok(written)
}

#[derive(Debug)]
struct Everything {
    snapshot: Snapshot,
    health: Health,
}

impl Collector for Everything {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut out = Out(encoder);
        let Self { snapshot, health } = self;
        process(&mut out, snapshot, *health)?;
        hello(&mut out, snapshot)?;
        connections(&mut out, snapshot)?;
        requests(&mut out, snapshot)?;
        store(&mut out, snapshot)
    }
}

fn process(out: &mut Out<'_>, snapshot: &Snapshot, health: Health) -> fmt::Result {
    let build = [("version", snapshot.version)];
    out.gauges("build_info", "The version that runs", [(build, 1.0)])?;
    out.gauge("uptime_seconds", "Time since the start", snapshot.uptime_seconds)?;
    let bytes = snapshot.resident_bytes as f64;
    out.gauge("resident_memory_bytes", "Resident memory of the process", bytes)?;
    let well = |check: Check| if check == Check::Ok { 1.0 } else { 0.0 };
    let checks = [
        ("store", health.store),
        ("disk", health.disk),
        ("hello", health.hello),
        ("load", health.load),
    ];
    let checks = checks.map(|(check, found)| ([("check", check)], well(found)));
    out.gauges("healthy", "1: the check is passed, 0: it is not", checks)?;
    out.gauge("sessions", "Sessions that HELLOs are taken for", snapshot.sessions as f64)?;
    out.gauge("online", "Sessions that said HELLO in time", snapshot.online as f64)?;
    let Some(counts) = snapshot.counts else { return Ok(()) };
    out.gauge("accounts", "Accounts that are not deleted", counts.accounts as f64)?;
    out.gauge("rooms", "Rooms that are not deleted", counts.rooms as f64)
}

fn hello(out: &mut Out<'_>, snapshot: &Snapshot) -> fmt::Result {
    let hello = &snapshot.hello;
    let seconds = f64::from(hello.interval_ms) / 1000.0;
    out.gauge("hello_interval_seconds", "The HELLO interval in force", seconds)?;
    out.counter("hello_received", "Datagrams that came", hello.received)?;
    out.counter("hello_answered", "HELLOs that were answered", hello.answered)?;
    out.counters("hello_dropped", "Datagrams dropped in silence", "reason", &hello.dropped)?;
    out.counter("nudges", "Datagrams sent unasked, so that a peer syncs", hello.nudges)
}

fn connections(out: &mut Out<'_>, snapshot: &Snapshot) -> fmt::Result {
    let connections = &snapshot.connections;
    out.gauge("connections", "Connections that are open", connections.open as f64)?;
    out.gauge("connections_max", "Connections that may be open", connections.max as f64)?;
    out.counter("connections_accepted", "Connections that were let in", connections.accepted)?;
    let refused = &connections.refused;
    out.counters("connections_refused", "Connections that were cut at once", "reason", refused)?;
    let help = "Connections that ended by a fault of the client or the way";
    out.counter("connections_broken", help, connections.broken)
}

fn requests(out: &mut Out<'_>, snapshot: &Snapshot) -> fmt::Result {
    let help = "Requests by verb, and by what was answered: ok, or an error code";
    let verbs = snapshot.requests.iter();
    let answered = verbs.flat_map(|(verb, of_verb)| {
        let results = of_verb.results.iter();
        results.map(move |(code, count)| ([("verb", verb.as_str()), ("code", code)], *count))
    });
    out.labelled_counters("requests", help, answered)?;
    let help = "From the whole request to its answer";
    let verbs = snapshot.requests.iter();
    let durations = verbs.map(|(verb, of_verb)| (verb.as_str(), &of_verb.duration_seconds));
    out.histograms("request_duration_seconds", help, "verb", durations)?;
    let passwords = &snapshot.passwords;
    let help = "Passwords that are checked, or wait for a core";
    out.gauge("passwords_waiting", help, passwords.waiting as f64)?;
    out.gauge("passwords_waiting_max", "How many may wait", passwords.places as f64)?;
    let help = "Passwords refused because too many waited";
    out.counter("passwords_refused", help, passwords.refused)
}

fn store(out: &mut Out<'_>, snapshot: &Snapshot) -> fmt::Result {
    let full = if snapshot.disk_full { 1.0 } else { 0.0 };
    out.gauge("store_disk_full", "1: the last write met a full disk", full)?;
    let threads = [("writer", &snapshot.store_writer), ("reader", &snapshot.store_reader)];
    let each = |number: fn(&QueueValue) -> u64| threads.map(|(name, queue)| (name, number(queue)));
    let waiting = each(|queue| queue.waiting).map(|(n, w)| ([("thread", n)], w as f64));
    out.gauges("store_jobs_waiting", "Jobs that wait or run", waiting)?;
    let labelled = |(name, count)| ([("thread", name)], count);
    let jobs = each(|queue| queue.jobs).map(labelled);
    out.labelled_counters("store_jobs", "Jobs that were done, well or not", jobs)?;
    let failed = each(|queue| queue.failed).map(labelled);
    out.labelled_counters("store_batches_failed", "Batches that did not commit", failed)?;
    let batches = threads.map(|(name, queue)| (name, &queue.batch_jobs));
    out.histograms("store_batch_jobs", "Jobs committed together", "thread", batches)?;
    let durations = threads.map(|(name, queue)| (name, &queue.duration_seconds));
    let help = "From the begin of a transaction to its end, on the disk";
    out.histograms("store_batch_duration_seconds", help, "thread", durations)
}

/// Writes one family of metrics after the other.
struct Out<'a>(DescriptorEncoder<'a>);

impl Out<'_> {
    fn gauge(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        let encoder = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        ConstGauge::new(value).encode(encoder)
    }

    fn gauges<'v, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = ([(&'static str, &'v str); N], f64)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in values {
            ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        let encoder = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        ConstCounter::new(value).encode(encoder)
    }

    fn counters(
        &mut self,
        name: &str,
        help: &str,
        label: &'static str,
        values: &BTreeMap<&'static str, u64>,
    ) -> fmt::Result {
        let labelled = values.iter().map(|(word, value)| ([(label, *word)], *value));
        self.labelled_counters(name, help, labelled)
    }

    fn labelled_counters<'v, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = ([(&'static str, &'v str); N], u64)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in values {
            ConstCounter::new(value).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn histograms<'v>(
        &mut self,
        name: &str,
        help: &str,
        label: &'static str,
        values: impl IntoIterator<Item = (&'v str, &'v HistogramValue)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Histogram)?;
        for (word, value) in values {
            // The encoder sums the buckets up by itself.
            let mut before = 0;
            let mut buckets: Vec<(f64, u64)> = Vec::with_capacity(value.buckets.len() + 1);
            for bucket in &value.buckets {
                buckets.push((bucket.le, bucket.count - before));
                before = bucket.count;
            }
            buckets.push((f64::INFINITY, value.count.saturating_sub(before)));
            family.encode_family(&[(label, word)])?.encode_histogram::<NoLabelSet>(
                value.sum,
                value.count,
                &buckets,
                None,
            )?;
        }
        Ok(())
    }
}
