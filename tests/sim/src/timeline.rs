//! What happens next in a world: one queue in virtual time.
//!
//! Called by both kinds of worlds. What is for the same moment happens in the order in which it was put in,
//! so a seed gives the same run.

use std::collections::BTreeMap;

/// Events in the order of their time.
#[derive(Debug)]
pub struct Timeline<E> {
    events: BTreeMap<(u64, u64), E>,
    put_in: u64,
}

impl<E> Default for Timeline<E> {
    fn default() -> Self {
        Self { events: BTreeMap::new(), put_in: 0 }
    }
}

impl<E> Timeline<E> {
    /// Something that will happen.
    pub fn push(&mut self, at_ms: u64, event: E) {
        self.put_in += 1;
        self.events.insert((at_ms, self.put_in), event);
    }

    /// What happens next, and when, if that is not after `until_ms`.
    pub fn pop_until(&mut self, until_ms: u64) -> Option<(u64, E)> {
        let next = self.events.first_entry()?;
        let (at_ms, _) = *next.key();
        (at_ms <= until_ms).then(|| (at_ms, next.remove()))
    }
}
