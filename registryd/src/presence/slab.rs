//! Slots by number, in chunks that never move: growing copies nothing and doubles nothing, and what is
//! given back is used again before anything grows.
//!
//! Used by `presence` and its wheel. A number is valid from `take` to `give_back`; it is only ever made here.

use std::ops::{Index, IndexMut};

use super::slot::Slot;

/// Slots that are made at once: half a megabyte, so that growing is rare and little of it is idle.
const CHUNK: usize = 4096;

/// The end of a list of slots.
pub(super) const NONE: u32 = u32::MAX;

/// The number of a slot.
pub(super) type SlotId = u32;

/// All slots.
#[derive(Debug, Default)]
pub(super) struct Slab {
    chunks: Vec<Box<[Slot]>>,
    /// What was given back, linked by `next`, oldest last.
    free: Option<SlotId>,
    /// Handed out at least once.
    used: u32,
    taken: usize,
}

impl Slab {
    /// An empty slot, which is the caller's from now on.
    pub(super) fn take(&mut self) -> SlotId {
        self.taken += 1;
        if let Some(id) = self.free {
            let next = self[id].next;
            self.free = (next != NONE).then_some(next);
            self[id] = Slot::EMPTY;
            return id;
        }
        let id = self.used;
        if id as usize == self.chunks.len() * CHUNK {
            self.chunks.push(vec![Slot::EMPTY; CHUNK].into_boxed_slice());
        }
        self.used += 1;
        id
    }

    /// Gives a slot back. It must be in no list.
    pub(super) fn give_back(&mut self, id: SlotId) {
        self.taken -= 1;
        let next = self.free.replace(id).unwrap_or(NONE);
        self[id].wipe();
        self[id].next = next;
    }

    /// How many are handed out.
    #[cfg(test)]
    pub(super) fn taken(&self) -> usize {
        self.taken
    }

    /// The memory of all slots, used or not.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.chunks.len() * CHUNK * size_of::<Slot>()
            + self.chunks.capacity() * size_of::<Box<[Slot]>>()
    }
}

impl Index<SlotId> for Slab {
    type Output = Slot;
    fn index(&self, id: SlotId) -> &Slot {
        &self.chunks[id as usize / CHUNK][id as usize % CHUNK]
    }
}

impl IndexMut<SlotId> for Slab {
    fn index_mut(&mut self, id: SlotId) -> &mut Slot {
        &mut self.chunks[id as usize / CHUNK][id as usize % CHUNK]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_given_back_is_taken_before_it_grows_and_is_clean() {
        let mut slab = Slab::default();
        let ids: Vec<_> = (0..CHUNK).map(|_| slab.take()).collect();
        let full = slab.bytes();
        for id in &ids {
            slab[*id].begin(9, &[7; 16], 1, 1);
            slab.give_back(*id);
        }
        assert_eq!(slab.taken(), 0);
        let mut again: Vec<_> = (0..CHUNK).map(|_| slab.take()).collect();
        assert_eq!((slab.taken(), slab.bytes()), (CHUNK, full));
        assert!(again.iter().all(|id| slab[*id].epoch == 0));
        again.sort_unstable();
        assert_eq!(again, ids);
        slab.take();
        assert!(slab.bytes() > full);
    }
}
