//! Faults that the simulator plants in a core, to prove that its checks find them. Never in a release.

use super::{Core, replica::Faults};

/// Rules that a core breaks. The default breaks none.
#[derive(Debug, Clone, Copy, Default)]
pub struct Planted {
    /// In every conversation.
    pub replica: Faults,
    /// Where both sides dial at once, each keeps the connection that it dialled.
    pub keeps_own_dial: bool,
    /// A chat that has ended keeps its slot.
    pub keeps_slot: bool,
    /// What the registry says of another device that took over is not heeded.
    pub never_superseded: bool,
    /// The other side's word that a chat has ended is not heeded.
    pub deaf_to_end: bool,
}

impl Core {
    /// Plants faults, in this run of the core.
    pub fn plant(&mut self, planted: Planted) {
        self.planted = planted;
        self.chats.plant(planted);
        for talk in self.conversations.values_mut() {
            talk.replica.plant(planted.replica);
        }
    }
}
