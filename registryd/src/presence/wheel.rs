//! A coarse timer wheel over the slots: entering and coming out take constant time and no memory, for the
//! links are in the slots. For presence alone.
//!
//! It promises to hand out a slot no earlier than its deadline, except one beyond the horizon: that comes
//! out at the horizon. The caller looks at the real deadline and enters it again. A deadline that moves
//! changes nothing here, so a HELLO touches no other slot.
//!
//! Invariant: a slot is in it at most once, and leaves it only by coming out.

use super::slab::{NONE, Slab, SlotId};

/// The coarseness.
const TICK_MS: u64 = 250;

/// Buckets: the horizon is 64 s.
const BUCKETS: u64 = 256;

/// Within this time of a slot's entering it comes out.
pub(super) const HORIZON_MS: u64 = TICK_MS * BUCKETS;

/// The wheel.
#[derive(Debug)]
pub(super) struct Wheel {
    /// The first slot of each bucket.
    heads: Box<[SlotId; BUCKETS as usize]>,
    /// The rest of a bucket that is being handed out.
    coming: SlotId,
    /// The next tick to be taken.
    tick: u64,
}

impl Wheel {
    pub(super) fn new(now_ms: u64) -> Self {
        Self { heads: Box::new([NONE; BUCKETS as usize]), coming: NONE, tick: now_ms / TICK_MS }
    }

    /// Enters a slot that is not in it.
    pub(super) fn enter(&mut self, slab: &mut Slab, id: SlotId, deadline_ms: u64) {
        let tick = deadline_ms.div_ceil(TICK_MS).clamp(self.tick, self.tick + BUCKETS - 1);
        let head = &mut self.heads[(tick % BUCKETS) as usize];
        slab[id].next = *head;
        *head = id;
    }

    /// The next slot that comes out; `None` when the wheel has caught up.
    pub(super) fn next_due(&mut self, slab: &Slab, now_ms: u64) -> Option<SlotId> {
        while self.coming == NONE {
            if self.tick * TICK_MS > now_ms {
                return None;
            }
            // After a long pause one turn brings out everything that is in it.
            self.tick = self.tick.max((now_ms / TICK_MS).saturating_sub(BUCKETS - 1));
            let head = &mut self.heads[(self.tick % BUCKETS) as usize];
            self.coming = std::mem::replace(head, NONE);
            self.tick += 1;
        }
        let id = self.coming;
        self.coming = slab[id].next;
        Some(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_comes_out_once_at_its_tick_or_the_horizon() {
        let (mut slab, mut wheel) = (Slab::default(), Wheel::new(10_000));
        let deadlines = [10_001, 10_250, 11_000, 60_000, 10_000_000];
        for deadline in deadlines {
            let id = slab.take();
            wheel.enter(&mut slab, id, deadline);
        }
        let mut out = Vec::new();
        for now in (10_000..80_000).step_by(10) {
            while let Some(id) = wheel.next_due(&slab, now) {
                out.push((id, now));
            }
        }
        out.sort_unstable();
        let horizon = 10_000 + HORIZON_MS - TICK_MS;
        assert_eq!(out, [(0, 10_250), (1, 10_250), (2, 11_000), (3, 60_000), (4, horizon)]);
    }

    #[test]
    fn after_a_long_pause_all_come_out_at_once() {
        let (mut slab, mut wheel) = (Slab::default(), Wheel::new(0));
        let ids: Vec<_> = (0..1000).map(|_| slab.take()).collect();
        for id in &ids {
            wheel.enter(&mut slab, *id, u64::from(*id) * 77);
        }
        let years = 100 * 365 * 86_400_000;
        let mut out: Vec<_> = std::iter::from_fn(|| wheel.next_due(&slab, years)).collect();
        out.sort_unstable();
        assert_eq!(out, ids);
        wheel.enter(&mut slab, 0, years + 1_000);
        assert_eq!(wheel.next_due(&slab, years + 999), None);
        assert_eq!(wheel.next_due(&slab, years + 1_000), Some(0));
    }
}
