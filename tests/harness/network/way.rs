//! One direction between two hosts: what it does to packets, and when each arrives.
//!
//! Pure: time and luck come in, moments of arrival go out.

use std::time::{Duration, Instant};

use rand::{RngExt as _, rngs::StdRng};

/// A packet that would wait longer than this for a slow way is dropped, as the queue of a router does.
const WAIT_MAX: Duration = Duration::from_secs(1);
/// The most that a packet is held back by reordering, beside twice the delay.
const HELD_BACK: Duration = Duration::from_millis(20);

/// What a way does to packets. The default is a perfect one.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Quality {
    /// The part of packets that is lost, from 0 to 1.
    pub loss: f64,
    /// The part that arrives twice.
    pub duplicates: f64,
    /// The part that is held back while later ones pass.
    pub reordering: f64,
    /// How long each takes.
    pub delay: Duration,
    /// The most that it takes longer, evenly spread. Without `reordering` the order stays.
    pub jitter: Duration,
    /// Bytes in a second; `None` for as many as come.
    pub bytes_per_second: Option<u32>,
    /// Nothing gets through.
    pub cut: bool,
}

impl Quality {
    /// Nothing gets through.
    pub const CUT: Self = Self {
        loss: 0.0,
        duplicates: 0.0,
        reordering: 0.0,
        delay: Duration::ZERO,
        jitter: Duration::ZERO,
        bytes_per_second: None,
        cut: true,
    };

    /// A bad way: this part lost, a tenth of it doubled, a fifth out of order, 50 to 200 ms under way.
    pub fn bad(loss: f64) -> Self {
        Self {
            loss,
            duplicates: 0.1,
            reordering: 0.2,
            delay: Duration::from_millis(50),
            jitter: Duration::from_millis(150),
            ..Self::default()
        }
    }
}

/// A way with its memory.
#[derive(Debug, Default)]
pub(super) struct Way {
    pub(super) quality: Quality,
    /// When what was taken so far has left.
    free_at: Option<Instant>,
    /// When the last packet that kept its place arrives.
    last: Option<Instant>,
}

impl Way {
    pub(super) fn new(quality: Quality) -> Self {
        Self { quality, ..Self::default() }
    }

    /// When a packet of `bytes` that is sent now arrives: never, once or twice.
    pub(super) fn arrivals(
        &mut self,
        now: Instant,
        bytes: usize,
        luck: &mut StdRng,
    ) -> Vec<Instant> {
        let quality = self.quality;
        let lost = quality.cut || luck.random_bool(quality.loss.clamp(0.0, 1.0));
        if lost {
            return Vec::new();
        }
        let Some(left_at) = self.leaves(now, bytes) else { return Vec::new() };
        let copies = 1 + usize::from(luck.random_bool(quality.duplicates.clamp(0.0, 1.0)));
        (0..copies).map(|_| self.arrival(left_at, luck)).collect()
    }

    /// When the last byte is under way.
    fn leaves(&mut self, now: Instant, bytes: usize) -> Option<Instant> {
        let Some(rate) = self.quality.bytes_per_second else { return Some(now) };
        let begins = self.free_at.map_or(now, |at| at.max(now));
        if begins - now > WAIT_MAX {
            return None;
        }
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let ends =
            begins + Duration::from_secs(1).mul_f64(f64::from(bytes) / f64::from(rate.max(1)));
        self.free_at = Some(ends);
        Some(ends)
    }

    fn arrival(&mut self, left_at: Instant, luck: &mut StdRng) -> Instant {
        let quality = self.quality;
        let usual = left_at + quality.delay + quality.jitter.mul_f64(luck.random());
        if luck.random_bool(quality.reordering.clamp(0.0, 1.0)) {
            return usual + (quality.delay * 2 + HELD_BACK).mul_f64(luck.random());
        }
        let at = self.last.map_or(usual, |last| last.max(usual));
        self.last = Some(at);
        at
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;

    use super::*;

    fn sent(quality: Quality, packets: u32) -> Vec<Vec<Duration>> {
        let mut way = Way::new(quality);
        let (start, mut luck) = (Instant::now(), StdRng::seed_from_u64(7));
        let arrivals = (0..packets).map(|n| {
            let now = start + Duration::from_millis(1) * n;
            way.arrivals(now, 1000, &mut luck).into_iter().map(|at| at - now).collect()
        });
        arrivals.collect()
    }

    #[test]
    fn a_perfect_way_changes_nothing() {
        assert!(sent(Quality::default(), 100).iter().all(|a| *a == [Duration::ZERO]));
    }

    #[test]
    fn a_cut_way_lets_nothing_through() {
        assert!(sent(Quality::CUT, 100).iter().all(Vec::is_empty));
    }

    #[test]
    fn loss_duplicates_and_delay_are_as_asked() {
        let arrivals = sent(Quality::bad(0.3), 10_000);
        let count = |n: usize| arrivals.iter().filter(|a| a.len() == n).count();
        assert!((2_700..3_300).contains(&count(0)), "{}", count(0));
        assert!((600..800).contains(&count(2)), "{}", count(2));
        let least = arrivals.iter().flatten().min().expect("some arrive");
        assert!(*least >= Duration::from_millis(50));
    }

    #[test]
    fn only_reordering_changes_the_order() {
        let order = |reordering: f64| {
            let quality =
                Quality { reordering, jitter: Duration::from_millis(50), ..Quality::default() };
            let arrivals = sent(quality, 1_000);
            let at = |n: usize| Duration::from_millis(n as u64) + arrivals[n][0];
            (1..1_000).filter(|&n| at(n) < at(n - 1)).count()
        };
        assert_eq!(order(0.0), 0);
        assert!(order(0.2) > 50);
    }

    #[test]
    fn a_slow_way_queues_and_then_drops() {
        let quality = Quality { bytes_per_second: Some(100_000), ..Quality::default() };
        let arrivals = sent(quality, 10_000);
        let taken = arrivals.iter().filter(|a| !a.is_empty()).count();
        assert!((1_000..1_200).contains(&taken), "ten seconds at 100 packets a second: {taken}");
    }
}
