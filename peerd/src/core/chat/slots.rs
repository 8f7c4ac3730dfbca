//! Slots: how many chats may be active at once, and which take one.

use peerd_proto::wire::ChatId;
use registryd_proto::Username;

use super::{Chat, ChatBook, State};
#[cfg(any(test, feature = "simulation"))]
use crate::core::planted::Planted;

impl ChatBook {
    /// With whom all slots are taken, to tell the user.
    pub(in crate::core) fn occupants(&self) -> impl Iterator<Item = &Username> {
        self.chats.iter().filter(|(_, c)| c.takes_slot()).map(|(peer, _)| peer)
    }

    /// The chat that is active with the peer: its messages name it.
    pub(in crate::core) fn active(&self, peer: &Username) -> Option<ChatId> {
        self.chats.get(peer).filter(|c| c.state == State::Active).map(|c| c.id)
    }

    pub(super) fn slots_taken(&self) -> usize {
        #[cfg(any(test, feature = "simulation"))]
        if self.planted.keeps_slot {
            let kept = |c: &&Chat| c.takes_slot() || c.state == State::Ended;
            return self.chats.values().filter(kept).count();
        }
        self.chats.values().filter(|c| c.takes_slot()).count()
    }

    pub(super) fn has_slot(&self) -> bool {
        self.slots_taken() < self.slots
    }

    #[cfg(any(test, feature = "simulation"))]
    pub(in crate::core) fn plant(&mut self, planted: Planted) {
        self.planted = planted;
    }
}

impl Chat {
    fn takes_slot(&self) -> bool {
        matches!(self.state, State::Active | State::Accepted { .. })
    }
}
