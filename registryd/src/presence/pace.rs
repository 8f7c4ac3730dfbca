//! How often peers say HELLO: the interval that is offered, and the one that is kept on disk.
//!
//! The interval grows with the number online, so that the work of HELLO is bounded: with `n` online it is
//! `max(minimum, n / rate)`, so that at most `rate` HELLOs come in a second.
//!
//! After a restart nobody knows who was online and at which interval, but by what is on disk. So what is
//! kept is never below what a peer that is online may be using: it grows before a longer interval is
//! offered, and shrinks only once every such peer is known to use a shorter one.
//!
//! Invariant: kept >= offered. No peer makes it grow by what it says.

use super::wheel::HORIZON_MS;

/// No interval is longer, whatever a peer says that it uses.
pub(super) const INTERVAL_MS_MAX: u32 = 10 * 60 * 1000;

/// Every peer that is online is looked at within a window: its slot comes out of the wheel.
const WINDOW_MS: u64 = HORIZON_MS + 1;

/// How the interval follows the number online.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// The shortest interval.
    pub interval_min_ms: u32,
    /// The most HELLOs in a second.
    pub hello_per_second_max: u32,
}

impl Pace {
    /// The interval for so many online.
    pub fn interval_ms(&self, online: usize) -> u32 {
        let needed = online as u64 * 1000 / u64::from(self.hello_per_second_max.max(1));
        u32::try_from(needed).unwrap_or(u32::MAX).clamp(self.interval_min_ms, INTERVAL_MS_MAX)
    }
}

/// The interval in force.
#[derive(Debug)]
pub(super) struct Interval {
    pub(super) pace: Pace,
    /// In every answer from now on.
    pub(super) offered_ms: u32,
    /// On disk.
    pub(super) kept_ms: u32,
    /// Until here the peers of before the restart come back: few online says nothing.
    settled_ms: u64,
    /// The longest that any peer was seen to use in this window and in the one before.
    used_ms: [u32; 2],
    /// When the window ends.
    turn_ms: u64,
}

impl Interval {
    /// At a start: `kept_ms` is what is on disk, `settled_ms` the end of the grace.
    pub(super) fn new(pace: Pace, kept_ms: u32, settled_ms: u64) -> Self {
        let kept_ms = kept_ms.max(pace.interval_min_ms);
        let used_ms = [kept_ms; 2];
        Self { pace, offered_ms: kept_ms, kept_ms, settled_ms, used_ms, turn_ms: settled_ms }
    }

    /// A peer that is online may be using so long an interval. What was never in force it says for itself
    /// alone.
    pub(super) fn note(&mut self, used_ms: u32) {
        self.used_ms[0] = self.used_ms[0].max(used_ms.min(self.kept_ms));
    }

    /// Goes on to the next window, if it is time. Call when the wheel has caught up with `now_ms`.
    pub(super) fn move_on(&mut self, now_ms: u64) {
        if now_ms >= self.turn_ms {
            self.turn_ms = now_ms + WINDOW_MS;
            self.used_ms = [0, self.used_ms[0]];
        }
    }

    /// What should be offered with so many online, if that is off by more than a tenth.
    pub(super) fn wanted_ms(&self, online: usize, now_ms: u64) -> Option<u32> {
        let wanted = self.pace.interval_ms(online);
        let settled = now_ms >= self.settled_ms || wanted > self.offered_ms;
        (settled && wanted.abs_diff(self.offered_ms) > self.offered_ms / 10).then_some(wanted)
    }

    /// What should be on disk before that is offered, if it is too little or more than a tenth too much.
    pub(super) fn wanted_kept_ms(&self, online: usize, now_ms: u64) -> Option<u32> {
        let offered = self.wanted_ms(online, now_ms).unwrap_or(self.offered_ms);
        let [now, before] = self.used_ms;
        let needed = offered.max(self.offered_ms).max(now).max(before);
        let differs = needed > self.kept_ms || needed < self.kept_ms - self.kept_ms / 10;
        differs.then_some(needed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACE: Pace = Pace { interval_min_ms: 1_000, hello_per_second_max: 20_000 };

    #[test]
    fn the_interval_keeps_hello_work_bounded() {
        assert_eq!(PACE.interval_ms(0), 1000);
        assert_eq!(PACE.interval_ms(20_000), 1000);
        assert_eq!(PACE.interval_ms(1_000_000), 50_000);
        assert_eq!(PACE.interval_ms(usize::MAX / 2000), INTERVAL_MS_MAX);
        for online in [1, 1_000, 50_000, 1_000_000, 10_000_000] {
            let a_second = online as u64 * 1000 / u64::from(PACE.interval_ms(online));
            assert!(a_second <= 20_000, "{a_second} HELLOs a second of {online}");
        }
    }

    #[test]
    fn what_is_kept_grows_before_what_is_offered() {
        let interval = Interval::new(PACE, 1_000, 0);
        assert_eq!(interval.wanted_ms(1_000_000, 0), Some(50_000));
        assert_eq!(interval.wanted_kept_ms(1_000_000, 0), Some(50_000));
        assert_eq!(interval.wanted_kept_ms(20_000, 0), None);
    }

    #[test]
    fn what_is_kept_shrinks_only_when_nobody_uses_it() {
        let mut interval = Interval::new(PACE, 50_000, 150_000);
        assert_eq!(interval.wanted_ms(10, 149_999), None, "few are back yet");
        assert_eq!(interval.wanted_ms(10, 150_000), Some(1_000));
        assert_eq!(interval.wanted_kept_ms(10, 150_000), None, "the others use it still");
        interval.offered_ms = 1_000;
        let mut now = 150_000;
        interval.move_on(now);
        for _ in 0..5 {
            interval.note(40_000);
            now += WINDOW_MS;
            interval.move_on(now);
            let wanted = interval.wanted_kept_ms(10, now);
            assert!(wanted.is_none_or(|ms| ms >= 40_000), "{wanted:?}, one uses it still");
        }
        for _ in 0..2 {
            interval.note(1_000);
            now += WINDOW_MS;
            interval.move_on(now);
        }
        assert_eq!(interval.wanted_kept_ms(10, now), Some(1_000));
    }

    #[test]
    fn no_peer_makes_it_grow_by_what_it_says() {
        let mut interval = Interval::new(PACE, 2_000, 0);
        interval.note(INTERVAL_MS_MAX);
        assert_eq!(interval.wanted_kept_ms(10, 0), None);
    }
}
