//! Messages that wait: `outbox`, `outbox_cancel`, `outbox_retry`.

use peerd_proto::{
    control::{MessageState, OutboxAnswer, OutboxCancel, OutboxMessage, Timestamp},
    wire::{ConversationId, MessageId, Standing},
};
use registryd_proto::{Code, Username};

use super::{Outcome, Step};
use crate::core::{Answer, CommandFailure, Core, durable::Outgoing};

impl Core {
    fn waiting(&self) -> Vec<(ConversationId, Outgoing)> {
        let mut rows: Vec<(ConversationId, Outgoing)> = self
            .conversations
            .iter()
            .filter(|(id, _)| !self.is_stale(id))
            .flat_map(|(id, talk)| talk.replica.pending().map(|row| (*id, row.clone())))
            .collect();
        rows.sort_by_key(|(_, row)| (row.queued_ms, row.seq));
        rows
    }

    /// How many messages wait.
    pub(super) fn outbox_count(&self) -> u64 {
        self.conversations
            .iter()
            .filter(|(id, _)| !self.is_stale(id))
            .map(|(_, talk)| talk.replica.pending().count() as u64)
            .sum()
    }

    fn outbox_message(&self, conversation: &ConversationId, row: &Outgoing) -> OutboxMessage {
        let (to, room) = self.destination(conversation);
        let status = self.message_status(conversation, &row.id);
        let reason = to.as_ref().and_then(|peer| self.why_waiting(peer));
        OutboxMessage {
            id: row.id.clone(),
            to,
            room,
            state: row.state,
            queued: Timestamp::from_ms(row.queued_ms),
            delivered: status.map_or(0, |s| s.delivered),
            of: status.map_or(1, |s| s.of),
            reason,
        }
    }

    fn why_waiting(&self, peer: &Username) -> Option<Code> {
        if self.contacts.get(peer)?.untrusted.is_some() {
            return Some(Code::UntrustedKey);
        }
        let Some(link) = self.link_to(peer) else { return Some(Code::PeerOffline) };
        match self.links.peer(link)?.standing {
            Some(Standing::Ask | Standing::Block) => Some(Code::Blocked),
            Some(Standing::Allow) | None => None,
        }
    }

    pub(super) fn outbox(&self) -> Answer {
        let messages = self.waiting().iter().map(|(c, row)| self.outbox_message(c, row)).collect();
        Answer::Outbox(OutboxAnswer { messages })
    }

    pub(super) fn outbox_cancel(&mut self, params: OutboxCancel) -> Outcome {
        let id: MessageId = params.id;
        let found: Vec<_> = self.waiting().into_iter().filter(|(_, row)| row.id == id).collect();
        if found.is_empty() {
            let message = "no message waits under this id";
            return Err(CommandFailure::new(Code::NotFound, message));
        }
        let mut messages = Vec::new();
        for (conversation, row) in found {
            let mut told = self.outbox_message(&conversation, &row);
            let (failed, reason) = (MessageState::Failed, Some(Code::Conflict));
            let state = self.with_replica(&conversation, |replica, cx| {
                replica.give_up(cx, &row.id, failed, reason)
            });
            told.state = state.flatten().unwrap_or(failed);
            told.reason = reason;
            if let Some(peer) = &told.to {
                self.heed_later(peer);
            }
            messages.push(told);
        }
        Ok(Step::Done(Answer::Outbox(OutboxAnswer { messages })))
    }

    pub(super) fn outbox_retry(&mut self) -> Outcome {
        self.require_session()?;
        self.dials.hurry_all(self.now.mono_ms);
        let peers: Vec<Username> =
            self.waiting().iter().filter_map(|(c, _)| self.destination(c).0).collect();
        for peer in peers {
            if self.link_to(&peer).is_none() {
                self.look_up(&peer);
            }
        }
        self.dirty = true;
        Ok(Step::Done(self.outbox()))
    }
}
