//! What a test sees of a world.

use super::{EventKind, LinkId, Snapshot, World};

impl World {
    pub(in crate::core::tests) fn messages_in_memory(&self, i: usize) -> usize {
        self.peers[i].core.messages_in_memory()
    }

    /// Whether a peer has nothing on disk but its events.
    pub(in crate::core::tests) fn is_bare(&self, i: usize) -> bool {
        let held = &self.peers[i].store.snapshot;
        let bare = Snapshot { event_head: held.event_head, ..Snapshot::default() };
        format!("{held:?}") == format!("{bare:?}")
    }

    pub(in crate::core::tests) fn link_ids(&self, i: usize) -> Vec<LinkId> {
        self.peers[i].wires.keys().copied().collect()
    }

    /// The end of a link at one peer is gone; the other one hears nothing of it.
    pub(in crate::core::tests) fn forget_wire(&mut self, i: usize, link: LinkId) {
        self.peers[i].wires.remove(&link);
    }

    pub(in crate::core::tests) fn links(&self, i: usize) -> usize {
        self.peers[i].wires.len()
    }

    pub(in crate::core::tests) fn count(&self, i: usize, of: impl Fn(&EventKind) -> bool) -> usize {
        self.peers[i].events.iter().filter(|e| of(e)).count()
    }

    /// The texts that a peer was shown, in order.
    pub(in crate::core::tests) fn shown(&self, i: usize) -> Vec<&str> {
        fn text(event: &EventKind) -> Option<&str> {
            match event {
                EventKind::Message { body, .. } => Some(body),
                _ => None,
            }
        }
        self.peers[i].events.iter().filter_map(text).collect()
    }
}
