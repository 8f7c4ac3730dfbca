//! Ids of callers that the core has forgotten: the store is asked before one is used.
//!
//! A `send` under an id that is not known here waits for the store, and those behind it to the same
//! destination wait with it: they are written in the order in which they came.
//!
//! Invariant: what the store says of an id is used by the one command that asked, in its turn; while it
//! waits, no other command uses the id in that conversation. So no answer is out of date when it is used.

use std::ops::ControlFlow;

use peerd_proto::{
    control::{Command, Send},
    wire::{ConversationId, MessageId},
};

use super::{Commands, Round, Waits};
use crate::core::{CommandId, Core, Effect, LoadId, Recalled};

/// How long the store may take. It is no part of the time that a caller gives: until the store has answered
/// nothing is queued, and a time-out would say that something is.
pub(super) const RECALL_MS: u64 = 10_000;

/// What a `send` waits for.
#[derive(Debug)]
pub(super) enum Asked {
    /// Its turn.
    Nothing,
    /// The store.
    Store(LoadId),
    /// Its turn, with what the store has said.
    Told(Recalled),
}

impl Asked {
    fn is_of(&self, load: LoadId) -> bool {
        matches!(self, Self::Store(of) if *of == load)
    }
}

impl Commands {
    /// The sends to a conversation that wait for the store or for each other, in the order of their coming.
    fn recalls(
        &self,
        conversation: &ConversationId,
    ) -> impl Iterator<Item = (CommandId, &Asked, Option<&MessageId>)> {
        self.open.iter().filter_map(move |(id, open)| match &open.waits {
            Waits::Recall(of, asked, Command::Send(send)) if of == conversation => {
                Some((*id, asked, send.id.as_ref()))
            }
            _ => None,
        })
    }
}

impl Core {
    /// What the store knows of the id of a message that is to be sent, or what its command has to wait for.
    pub(super) fn recall_first(
        &mut self,
        conversation: ConversationId,
        params: &Send,
        round: Round,
    ) -> ControlFlow<Asked, Recalled> {
        let in_turn = round.turn.is_some();
        if let Some(Some(recalled)) = round.turn {
            return ControlFlow::Continue(recalled);
        }
        let behind = !in_turn && self.commands.recalls(&conversation).next().is_some();
        let replica = self.conversations.get(&conversation).map(|talk| &talk.replica);
        let forgotten = |id: &&MessageId| replica.is_some_and(|r| r.may_have_forgotten(id));
        let Some(id) = params.id.as_ref().filter(forgotten) else {
            return match behind {
                true => ControlFlow::Break(Asked::Nothing),
                false => ControlFlow::Continue(Recalled::New),
            };
        };
        // Behind a send under the same id the store is asked anew, once that one is written.
        if behind && self.commands.recalls(&conversation).any(|(.., other)| other == Some(id)) {
            return ControlFlow::Break(Asked::Nothing);
        }
        let load = self.loads.begin(conversation);
        self.out.effects.push(Effect::Recall { load, conversation, id: id.clone() });
        ControlFlow::Break(Asked::Store(load))
    }

    /// The store has answered.
    pub(in crate::core) fn on_recalled(&mut self, load: LoadId, found: Recalled) {
        let Some(conversation) = self.loads.end(load) else { return };
        let asked = self.commands.open.values_mut().find_map(|open| match &mut open.waits {
            Waits::Recall(_, asked, _) if asked.is_of(load) => Some(asked),
            _ => None,
        });
        // Who asked may be gone.
        if let Some(asked) = asked {
            *asked = Asked::Told(found);
        }
        self.go_on_sending(&conversation);
    }

    /// Does the sends to a conversation whose turn it is.
    pub(super) fn go_on_sending(&mut self, conversation: &ConversationId) {
        loop {
            let next = self.commands.recalls(conversation).next();
            let Some((id, Asked::Nothing | Asked::Told(_), _)) = next else { return };
            let Some(open) = self.commands.open.remove(&id) else { return };
            let Waits::Recall(_, asked, command) = open.waits else { return };
            let told = match asked {
                Asked::Told(recalled) => Some(recalled),
                Asked::Nothing | Asked::Store(_) => None,
            };
            let round = Round { turn: Some(told), ..Round::default() };
            // The time that its caller gave begins now: the disk took what was before.
            self.perform(id, command, round, None);
        }
    }
}
