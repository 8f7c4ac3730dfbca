//! After a new key was trusted: undelivered messages go to the conversation with it.
//!
//! Invariant: they keep their author's order. One read at a time is under way for each contact, what was
//! written first is read first, and a `send` to the contact waits until all are moved.
//! A message that was given up stays behind: its old recipient alone could have said how it ended.

use std::collections::BTreeMap;

use peerd_proto::{
    control::MessageState,
    wire::{Context, ConversationId, StreamId, VerifiedEntry},
};
use registryd_proto::{Code, Username};

use super::{
    Core, Effect, LoadId,
    durable::ConversationKind,
    replica::{Draft, Known, PENDING_MAX},
};

/// The most messages of one read.
const READ_MAX: usize = 256;

/// The first message to be moved, and where it is.
type First = (ConversationId, (StreamId, u64));

/// The reads under way, one for each contact at most.
#[derive(Debug, Default)]
pub(super) struct Moves {
    of: BTreeMap<Username, (LoadId, First)>,
}

impl Moves {
    /// Whether what is sent to a contact has to wait.
    pub(super) fn under_way(&self, username: &Username) -> bool {
        self.of.contains_key(username)
    }

    /// Ends a read that was begun here.
    pub(super) fn end(&mut self, load: LoadId) -> Option<(Username, First)> {
        let (username, _) = self.of.iter().find(|(_, (id, _))| *id == load)?;
        let username = username.clone();
        let (_, first) = self.of.remove(&username)?;
        Some((username, first))
    }
}

impl Core {
    /// Also done at a start, so that a stop in between loses none.
    pub(super) fn move_undelivered(&mut self) {
        let names: Vec<Username> = self.contacts.iter().map(|c| c.username.clone()).collect();
        for username in names {
            self.move_next(&username);
        }
    }

    /// Reads the next messages to be moved, if any are and the new conversation has room for them.
    pub(super) fn move_next(&mut self, username: &Username) {
        if self.moves.under_way(username) {
            return;
        }
        let Some(first) = self.first_to_move(username) else { return };
        let Some(new) = self.ensure_direct(username) else { return };
        let waiting = self.conversations.get(&new).map_or(0, |t| t.replica.pending().count());
        let limit = PENDING_MAX.saturating_sub(waiting).min(READ_MAX);
        if limit == 0 {
            return;
        }
        let (conversation, (stream, seq)) = first;
        let load = self.loads.begin(conversation);
        self.moves.of.insert(username.clone(), (load, first));
        self.out.effects.push(Effect::Load {
            load,
            conversation,
            author: self.keys.peer.public(),
            stream,
            after_seq: seq.saturating_sub(1),
            limit: u32::try_from(limit).unwrap_or(u32::MAX),
        });
    }

    /// Of several conversations with former keys: the one whose first message waits longest.
    fn first_to_move(&self, username: &Username) -> Option<First> {
        let pinned = self.contacts.get(username)?.peer_key;
        let stale = self.conversations.iter().filter(|(_, talk)| {
            matches!(&talk.kind, ConversationKind::Direct { username: of, peer_key }
                if of == username && *peer_key != pinned)
        });
        let first = |(id, talk): (&ConversationId, &super::talk::Talk)| {
            let row = talk.replica.first_to_move()?;
            Some((row.queued_ms, (*id, (row.stream, row.seq))))
        };
        stale.filter_map(first).min().map(|(_, first)| first)
    }

    /// What was read for a move: `first` and what follows it in its stream.
    pub(super) fn go_on_moving(
        &mut self,
        username: &Username,
        first: First,
        entries: Vec<VerifiedEntry>,
    ) {
        // After one more new key others may come first: then this read was for nothing.
        if self.first_to_move(username) == Some(first)
            && let Some(new) = self.ensure_direct(username)
        {
            let (old, place) = first;
            if entries.is_empty() {
                self.lose(&old, place, Code::Internal);
            }
            for entry in entries {
                self.move_message(&old, new, &entry);
            }
        }
        self.move_next(username);
        if !self.moves.under_way(username) {
            self.heed_later(username);
            self.dial_if_away(username);
            self.resume_sends(username);
        }
    }

    fn move_message(&mut self, old: &ConversationId, new: ConversationId, entry: &VerifiedEntry) {
        let header = entry.header();
        let place = (header.stream, header.seq);
        let row = self.conversations.get(old).and_then(|talk| talk.replica.to_move(&place));
        let Some(row) = row.filter(|_| header.author == self.keys.peer.public()).cloned() else {
            return;
        };
        let Some(body) = entry.body() else { return self.lose(old, place, Code::Internal) };
        let draft = Draft {
            id: row.id.clone(),
            caller_id: row.caller_id,
            text: body.text.clone(),
            context: Context::Direct { chat: None },
            expires_ms: row.expires_ms,
        };
        let moved = self.with_replica(&new, |replica, cx| {
            match replica.message_by_id(&draft.id, &row.text_hash) {
                Known::New => replica.append_since(cx, draft, row.queued_ms).is_ok(),
                Known::Same(_) => true,
                Known::Conflict => false,
            }
        });
        if moved != Some(true) {
            return self.lose(old, place, Code::Conflict);
        }
        self.commands.message_moved_to(old, &row.id, new);
        self.with_replica(old, |replica, cx| replica.move_away(cx, place));
    }

    /// A message that cannot be moved fails, so that it holds up none behind it.
    fn lose(&mut self, old: &ConversationId, place: (StreamId, u64), reason: Code) {
        self.with_replica(old, |replica, cx| {
            replica.abandon(cx, place, MessageState::Failed, reason);
        });
    }
}
