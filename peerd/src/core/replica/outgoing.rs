//! Our own messages: from `append` until each is settled, and what the recipients confirmed.
//!
//! A message is *settled* when it is delivered, expired, rejected or failed. Settled ones are forgotten
//! here (the store keeps them), but for the last of those whose caller gave the id. Their ids stay taken:
//! where [`Replica::may_have_forgotten`] says so, the store is to be asked.
//!
//! Invariant: a message whose body was once offered takes another end than `delivered` only after every
//! recipient who is still there confirmed, by its own vector, that it does not hold the body. In a room that
//! we are no member of, nobody is there for us.

use peerd_proto::{
    control::MessageState,
    wire::{
        BODY_BYTES_MAX, Body, Context, Header, Kind, MessageId, Origin, StreamId, VerifiedEntry,
        void_signature,
    },
};
use rand::Rng as _;
use registryd_proto::{Code, Digest, PublicKey};

use super::{
    Ctx, Notice, PENDING_MAX, Replica, Rules,
    outbox::{Place, Tally, put},
};
use crate::core::durable::{GiveUp, Kept, Outgoing, Write};

/// A message to write.
#[derive(Debug, Clone)]
pub struct Draft {
    /// Its id.
    pub id: MessageId,
    /// Whether the caller gave the id.
    pub caller_id: bool,
    /// At most [`BODY_BYTES_MAX`] bytes.
    pub text: String,
    /// The chat or the newest epoch known.
    pub context: Context,
    /// When it expires, by our wall clock.
    pub expires_ms: Option<u64>,
}

/// Why a message is not queued. Nothing was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The text is longer than [`BODY_BYTES_MAX`].
    #[error("a message has at most {BODY_BYTES_MAX} bytes")]
    TooLarge,
    /// [`PENDING_MAX`] messages wait.
    #[error("{PENDING_MAX} messages wait in this conversation")]
    Full,
    /// The id is in use: ask [`Replica::message_by_id`] first.
    #[error("the message id is in use")]
    IdTaken,
}

/// Where a message was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// The stream of ours.
    pub stream: StreamId,
    /// The entry.
    pub seq: u64,
    /// Queued; delivered at once where nobody else is.
    pub state: MessageState,
}

/// What is known of an id that a caller wants to use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Known {
    /// It is free.
    New,
    /// The same text was sent under it.
    Same(Box<Outgoing>),
    /// Another text was.
    Conflict,
}

/// How a message of ours stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// Its state.
    pub state: MessageState,
    /// Why it failed.
    pub reason: Option<Code>,
    /// How many recipients confirmed it themselves.
    pub delivered: u32,
    /// How many there are: members at the entry's epoch less ourselves.
    pub of: u32,
}

/// What waits for a member, as `Frame::Waiting` tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiting {
    /// How many messages.
    pub messages: u64,
    /// The newest of them.
    pub through: (StreamId, u64),
}

/// The hash by which a text is told from another one under the same id.
pub fn text_hash(text: &str) -> Digest {
    Digest::derive("p2pchat 2026-11 message text", &[text.as_bytes()])
}

impl Replica {
    /// Writes a message: durable with this output, and pushed by `flush` to every open link.
    ///
    /// # Errors
    /// [`AppendError`]; nothing was written.
    pub fn append(&mut self, cx: &mut Ctx<'_>, draft: Draft) -> Result<Receipt, AppendError> {
        let since_ms = cx.now.wall_ms;
        self.append_since(cx, draft, since_ms)
    }

    /// The same for a message that has waited since `queued_ms`, by our wall clock, in a conversation with
    /// a former key.
    ///
    /// # Errors
    /// [`AppendError`]; nothing was written.
    pub fn append_since(
        &mut self,
        cx: &mut Ctx<'_>,
        draft: Draft,
        queued_ms: u64,
    ) -> Result<Receipt, AppendError> {
        if draft.text.len() > BODY_BYTES_MAX {
            return Err(AppendError::TooLarge);
        }
        if self.outgoing.queued.len() >= PENDING_MAX {
            return Err(AppendError::Full);
        }
        if self.outgoing.by_id.contains_key(&draft.id) {
            return Err(AppendError::IdTaken);
        }
        let text_hash = text_hash(&draft.text);
        let entry = self.next_entry(cx, &draft);
        let (stream, seq) = (entry.header().stream, entry.header().seq);
        let row = Outgoing {
            conversation: self.conversation,
            stream,
            seq,
            id: draft.id,
            caller_id: draft.caller_id,
            text_hash,
            epoch: match draft.context {
                Context::Room { epoch } => epoch,
                Context::Direct { .. } => 0,
            },
            state: MessageState::Queued,
            reason: None,
            queued_ms,
            expires_ms: draft.expires_ms,
            offered: false,
            giving_up: None,
        };
        cx.out.writes.push(Write::Entry {
            entry: Box::new(entry.clone()),
            recorded_ms: cx.now.wall_ms,
            shown: None,
        });
        put(cx.out, &row);
        self.outgoing.restore(row);
        let place = self.streams.advance((self.me, stream), seq, entry.hash());
        self.recent.insert(entry);
        self.note_growth(place, None, cx.now);
        let state = self.settle_if_due(cx, (stream, seq)).unwrap_or(MessageState::Queued);
        Ok(Receipt { stream, seq, state })
    }

    /// Gives a queued message up with `state` (expired, rejected, or failed if cancelled). If its body was
    /// never offered the state holds at once; else the recipients decide, and `delivered` may win. Gives
    /// the state that it has now; `None` if no such message is followed here.
    pub fn give_up(
        &mut self,
        cx: &mut Ctx<'_>,
        id: &MessageId,
        state: MessageState,
        reason: Option<Code>,
    ) -> Option<MessageState> {
        let place = *self.outgoing.by_id.get(id)?;
        let row = self.outgoing.rows.get_mut(&place)?;
        if row.state != MessageState::Queued {
            return Some(row.state);
        }
        if let Some(expires_ms) = row.expires_ms {
            self.outgoing.expiry.remove(&(expires_ms, place));
        }
        let offered = row.offered;
        #[cfg(any(test, feature = "simulation"))]
        let offered = offered && !self.faults.give_up_at_once;
        if offered {
            row.giving_up.get_or_insert(GiveUp { state, reason });
            put(cx.out, row);
            self.forget_loads_of((self.me, place.0));
            return Some(self.settle_if_due(cx, place).unwrap_or(MessageState::Queued));
        }
        self.end(cx, place, state, reason);
        Some(state)
    }

    /// The first of our messages that wait for a member and were not given up.
    pub fn first_to_move(&self) -> Option<&Outgoing> {
        let wanted = self.pending().filter(|row| row.giving_up.is_none());
        wanted.min_by_key(|row| (self.streams.place(&(self.me, row.stream)), row.seq))
    }

    /// The message at a place, if it waits and was not given up.
    pub fn to_move(&self, place: &Place) -> Option<&Outgoing> {
        let waits = |row: &&Outgoing| row.state == MessageState::Queued && row.giving_up.is_none();
        self.outgoing.rows.get(place).filter(waits)
    }

    /// A message goes on in another conversation: here it is followed no more, and its id is free.
    pub fn move_away(&mut self, cx: &mut Ctx<'_>, place: Place) {
        let Some(row) = self.outgoing.rows.get_mut(&place) else { return };
        row.caller_id = false;
        let (state, reason) = (MessageState::Failed, Some(Code::UntrustedKey));
        if let Some(row) = self.outgoing.settle(&place, state, reason) {
            put(cx.out, &row);
        }
    }

    /// A message ends with `state` whatever its recipients know: none of them is a member any more.
    pub fn abandon(&mut self, cx: &mut Ctx<'_>, place: Place, state: MessageState, reason: Code) {
        self.end(cx, place, state, Some(reason));
    }

    /// We are no member any more: nobody will tell us what became of the messages that wait. Those that
    /// were offered may reach all who stay; the others reach nobody. One that was to be cancelled is not told
    /// as cancelled, for some may hold it: but it goes to nobody else.
    pub fn abandon_all(&mut self, cx: &mut Ctx<'_>) {
        for place in self.outgoing.queued.clone() {
            let Some(row) = self.outgoing.rows.get(&place) else { continue };
            let (state, reason) = (MessageState::Failed, Some(Code::NotFound));
            match row.giving_up {
                None if row.offered => {
                    self.tell_end(cx, place, state, reason);
                }
                Some(_) | None => self.end(cx, place, state, reason),
            }
        }
    }

    /// The other side of a 1:1 conversation said no to all up to `through`.
    pub fn decline(&mut self, cx: &mut Ctx<'_>, through: (StreamId, u64)) {
        let Some(last) = self.streams.place(&(self.me, through.0)) else { return };
        let declined: Vec<MessageId> = self
            .pending()
            .filter(|row| {
                let place = self.streams.place(&(self.me, row.stream));
                place.is_some_and(|place| (place, row.seq) <= (last, through.1))
            })
            .map(|row| row.id.clone())
            .collect();
        for id in declined {
            self.give_up(cx, &id, MessageState::Rejected, Some(Code::Rejected));
        }
    }

    /// The room has a new epoch: messages wait for nobody who left, and links may read more.
    pub fn on_membership(&mut self, cx: &mut Ctx<'_>) {
        for place in self.outgoing.queued.clone() {
            self.settle_if_due(cx, place);
        }
        for link in self.links.values_mut() {
            link.unblock();
        }
    }

    /// What is known here of an id that a caller wants to use for a text. Whoever may have to ask the store
    /// as well ([`Replica::may_have_forgotten`]) does so before.
    pub fn message_by_id(&self, id: &MessageId, text_hash: &Digest) -> Known {
        let place = self.outgoing.by_id.get(id);
        match place.and_then(|place| self.outgoing.rows.get(place)) {
            None => Known::New,
            Some(row) if row.text_hash == *text_hash => Known::Same(Box::new(row.clone())),
            Some(_) => Known::Conflict,
        }
    }

    /// Whether the store may know an id of a caller that is not known here.
    pub fn may_have_forgotten(&self, id: &MessageId) -> bool {
        self.outgoing.forgets && !self.outgoing.by_id.contains_key(id)
    }

    /// How a message stands that is settled and was forgotten here.
    pub fn status_of(&self, rules: &dyn Rules, kept: &Kept) -> Status {
        let row = &kept.message;
        let lacking = kept.lacking.iter().copied().collect();
        let tally = self.outgoing.tally_with(row, Some(&lacking), rules);
        let (state, reason) = (row.state, row.reason);
        Status { state, reason, delivered: tally.delivered, of: tally.of }
    }

    /// How many messages of ours are held in memory: those that wait, and a bounded number of others.
    #[cfg(any(test, feature = "simulation"))]
    pub fn messages_in_memory(&self) -> usize {
        let book = &self.outgoing;
        book.rows.len().max(book.by_id.len()).max(book.exceptions.len())
    }

    /// A message of ours that is queued or, for a while, one that is settled and has a caller's id.
    pub fn outgoing(&self, id: &MessageId) -> Option<&Outgoing> {
        self.outgoing.by_id.get(id).and_then(|place| self.outgoing.rows.get(place))
    }

    /// How a message stands; `None` if it is settled and forgotten.
    pub fn status(&self, rules: &dyn Rules, id: &MessageId) -> Option<Status> {
        let row = self.outgoing(id)?;
        let tally = self.outgoing.tally(row, rules);
        let (state, reason) = (row.state, row.reason);
        Some(Status { state, reason, delivered: tally.delivered, of: tally.of })
    }

    /// Our messages that are queued, in no particular order.
    pub fn pending(&self) -> impl Iterator<Item = &Outgoing> + '_ {
        self.outgoing.queued.iter().filter_map(|place| self.outgoing.rows.get(place))
    }

    /// What waits for `member` and was not given up.
    pub fn waiting_for(&self, member: &PublicKey) -> Option<Waiting> {
        let lacking = |row: &&Outgoing| {
            let acked = self.outgoing.acked.get(&(*member, row.stream));
            row.giving_up.is_none() && acked.is_none_or(|acked| *acked < row.seq)
        };
        let mut messages = 0;
        let mut newest = None;
        for row in self.pending().filter(lacking) {
            messages += 1;
            newest =
                newest.max(Some((self.streams.place(&(self.me, row.stream)), row.seq, row.stream)));
        }
        newest.map(|(_, seq, stream)| Waiting { messages, through: (stream, seq) })
    }

    /// Settles a queued message if all its recipients are through with it. Gives the state then.
    pub(super) fn settle_if_due(
        &mut self,
        cx: &mut Ctx<'_>,
        place: (StreamId, u64),
    ) -> Option<MessageState> {
        let row = self.outgoing.rows.get(&place)?;
        if row.state != MessageState::Queued {
            return None;
        }
        let tally = self.outgoing.tally(row, cx.rules);
        #[cfg(any(test, feature = "simulation"))]
        let tally = match self.faults.one_is_all && tally.delivered > 0 {
            true => Tally { waiting: 0, ..tally },
            false => tally,
        };
        if tally.waiting > 0 {
            return None;
        }
        let (state, reason) = match row.giving_up {
            Some(wish) if tally.delivered == 0 || tally.void > 0 => (wish.state, wish.reason),
            _ if tally.refused > 0 => (MessageState::Failed, Some(Code::Blocked)),
            _ if tally.void > 0 => (MessageState::Failed, Some(Code::Conflict)),
            _ if tally.delivered == 0 && tally.of > 0 => {
                (MessageState::Failed, Some(Code::NotFound))
            }
            _ => (MessageState::Delivered, None),
        };
        self.end(cx, place, state, reason);
        Some(state)
    }

    /// Writes and tells the end of a message. Gives its row.
    fn tell_end(
        &mut self,
        cx: &mut Ctx<'_>,
        place: Place,
        state: MessageState,
        reason: Option<Code>,
    ) -> Option<Outgoing> {
        // While its exceptions are still there.
        let Tally { delivered, of, .. } =
            self.outgoing.tally(self.outgoing.rows.get(&place)?, cx.rules);
        let row = self.outgoing.settle(&place, state, reason)?;
        put(cx.out, &row);
        let status = Status { state, reason, delivered, of };
        let notice = match state {
            MessageState::Delivered => Notice::Delivered(&row, status),
            _ => Notice::Failed(&row, status),
        };
        cx.events.record(cx.now, cx.out, notice);
        Some(row)
    }

    /// The same, and its body is gone if nobody is to have it. It is void then, but for one that was offered and
    /// is not given up: members may hold it.
    fn end(&mut self, cx: &mut Ctx<'_>, place: Place, state: MessageState, reason: Option<Code>) {
        let given_up = self.outgoing.given_up(&place).is_some();
        let Some(row) = self.tell_end(cx, place, state, reason) else { return };
        let refused = row.offered && reason == Some(Code::Blocked);
        if state == MessageState::Delivered || refused {
            return;
        }
        let (conversation, (stream, seq)) = (self.conversation, place);
        let void = (given_up || !row.offered)
            .then(|| void_signature(&conversation, &stream, seq, &row.id, cx.key));
        cx.out.writes.push(Write::DropBody { conversation, author: self.me, stream, seq, void });
        self.recent.forget(&(self.me, place.0), place.1);
        self.forget_loads_of((self.me, place.0));
    }

    /// Signs the next entry of our stream, which begins with the first entry after a start.
    fn next_entry(&mut self, cx: &mut Ctx<'_>, draft: &Draft) -> VerifiedEntry {
        let frozen =
            |s: &StreamId| self.streams.get(&(self.me, *s)).is_some_and(|s| s.frozen.is_some());
        let current = self.current.filter(|stream| !frozen(stream));
        #[cfg(any(test, feature = "simulation"))]
        let current = current.or_else(|| {
            let old = self.own_origin().filter(|_| self.faults.reuse_streams);
            old.map(|origin| origin.stream).filter(|stream| !frozen(stream))
        });
        let (stream, seq, previous, origin) =
            match current.and_then(|s| self.streams.get(&(self.me, s))) {
                Some(stream) => (stream.key.1, stream.held + 1, stream.hash, None),
                None => {
                    let stream = StreamId(uuid::Builder::from_random_bytes(random(cx)).into_uuid());
                    (stream, 1, Digest::default(), self.own_origin())
                }
            };
        #[cfg(any(test, feature = "simulation"))]
        let seq = if self.faults.skip_numbers && seq.is_multiple_of(4) { seq + 1 } else { seq };
        self.current = Some(stream);
        self.lamport = self.lamport.saturating_add(1);
        let body = Body { salt: random(cx), text: draft.text.clone() };
        let header = Header {
            conversation: self.conversation,
            author: self.me,
            stream,
            seq,
            previous,
            origin,
            id: draft.id.clone(),
            lamport: self.lamport,
            wall_ms: cx.now.wall_ms,
            context: draft.context,
            kind: Kind::Text,
            body: body.hash(),
        };
        VerifiedEntry::sign(header, body, cx.key)
    }

    /// Our newest stream that is held, as the origin of the next one. Of a forked one nothing is claimed.
    fn own_origin(&self) -> Option<Origin> {
        let (_, last) =
            self.streams.iter().rev().find(|(_, s)| s.key.0 == self.me && s.held > 0)?;
        let stream = last.key.1;
        Some(match last.frozen {
            None => Origin { stream, seq: last.held, hash: last.hash },
            Some(_) => Origin { stream, seq: 0, hash: Digest::default() },
        })
    }
}

fn random(cx: &mut Ctx<'_>) -> [u8; 16] {
    let mut bytes = [0; 16];
    cx.rng.fill_bytes(&mut bytes);
    bytes
}
