//! The book of our messages: rows, what members confirmed of them, and how each stands by that.
//!
//! It writes nothing but rows, and decides nothing: `outgoing` does.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use peerd_proto::{
    control::MessageState,
    wire::{Context, ConversationId, Exception, ExceptionKind, MessageId, StreamId, VerifiedEntry},
};
use registryd_proto::{Code, PublicKey};

use super::{Rules, text_hash};
use crate::core::{
    durable::{Acked, Outgoing, Write},
    output::Output,
};

/// The most settled messages of a conversation whose ids are known without asking the store. Few in tests,
/// so that they ask it.
pub const SETTLED_MAX: usize = if cfg!(any(test, feature = "simulation")) { 4 } else { 256 };

/// A stream of ours and an entry in it.
pub(super) type Place = (StreamId, u64);

/// Our messages that are not settled, and the last of those that are and have a caller's id.
///
/// Invariant: it holds what waits and [`SETTLED_MAX`] rows more, however many messages there were.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    pub(super) rows: BTreeMap<Place, Outgoing>,
    pub(super) queued: BTreeSet<Place>,
    /// Settled rows with a caller's id, oldest first.
    settled: VecDeque<Place>,
    /// Whether the store may hold callers' ids that are not here.
    pub(super) forgets: bool,
    pub(super) by_id: BTreeMap<MessageId, Place>,
    pub(super) expiry: BTreeSet<(u64, Place)>,
    pub(super) acked: BTreeMap<(PublicKey, StreamId), u64>,
    pub(super) exceptions: BTreeMap<Place, BTreeMap<PublicKey, ExceptionKind>>,
}

/// How the recipients of one message stand.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) delivered: u32,
    pub(super) void: u32,
    pub(super) refused: u32,
    pub(super) waiting: u32,
    pub(super) of: u32,
}

impl Outbox {
    /// Takes a row of the snapshot, or a new one.
    pub(super) fn restore(&mut self, row: Outgoing) {
        let place = (row.stream, row.seq);
        self.by_id.insert(row.id.clone(), place);
        if row.state == MessageState::Queued {
            self.queued.insert(place);
            if let (Some(expires_ms), None) = (row.expires_ms, row.giving_up) {
                self.expiry.insert((expires_ms, place));
            }
            self.rows.insert(place, row);
        } else {
            self.rows.insert(place, row);
            self.keep_settled(place);
        }
    }

    /// Keeps a settled row for a while, and forgets the oldest for it: the store has them all.
    fn keep_settled(&mut self, place: Place) {
        self.settled.push_back(place);
        while self.settled.len() > SETTLED_MAX {
            let Some(oldest) = self.settled.pop_front() else { break };
            self.forget(&oldest);
            self.forgets = true;
        }
    }

    fn forget(&mut self, place: &Place) {
        self.exceptions.remove(place);
        let Some(row) = self.rows.remove(place) else { return };
        if self.by_id.get(&row.id) == Some(place) {
            self.by_id.remove(&row.id);
        }
    }

    /// Takes up a message of ours again that came back from another member. False if there is nothing to
    /// follow: its body is gone, or the same id was used anew before it came.
    pub(super) fn recover(&mut self, out: &mut Output, entry: &VerifiedEntry) -> bool {
        let header = entry.header();
        let Some(body) = entry.body().filter(|_| !self.by_id.contains_key(&header.id)) else {
            return false;
        };
        let row = Outgoing {
            conversation: header.conversation,
            stream: header.stream,
            seq: header.seq,
            id: header.id.clone(),
            // Nobody knows any more who gave it: the id stays taken.
            caller_id: true,
            text_hash: text_hash(&body.text),
            epoch: match header.context {
                Context::Room { epoch } => epoch,
                Context::Direct { .. } => 0,
            },
            state: MessageState::Queued,
            reason: None,
            queued_ms: header.wall_ms,
            expires_ms: None,
            offered: true,
            giving_up: None,
        };
        put(out, &row);
        self.restore(row);
        true
    }

    pub(super) fn restore_acked(&mut self, row: &Acked) {
        self.acked.insert((row.member, row.stream), row.seq);
    }

    /// Notes, durably, what a holder does not hold: of a message that we still follow, and of any other if the
    /// holder covers it for the first time, by the vector that the exception came with.
    pub(super) fn except(
        &mut self,
        conversation: ConversationId,
        holder: PublicKey,
        exception: &Exception,
        covered_now: bool,
        out: &mut Output,
    ) {
        let place = (exception.stream, exception.seq);
        let covered = self.acked.get(&(holder, place.0)).is_some_and(|acked| *acked >= place.1);
        let followed = self.queued.contains(&place);
        if !followed && (covered || !covered_now) {
            return;
        }
        if self.restore_exception(holder, exception) || !followed {
            let exception = *exception;
            out.writes.push(Write::Exception { conversation, holder, exception });
        }
    }

    /// The same for a row of the snapshot, also of a message that is settled and still known. True if it is news.
    pub(super) fn restore_exception(&mut self, holder: PublicKey, exception: &Exception) -> bool {
        let place = (exception.stream, exception.seq);
        if !self.rows.contains_key(&place) {
            return false;
        }
        let of = self.exceptions.entry(place).or_default();
        of.insert(holder, exception.kind) != Some(exception.kind)
    }

    /// Notes how far a member confirmed a stream. Gives where it stood before, if it moved.
    pub(super) fn acknowledge(
        &mut self,
        member: PublicKey,
        stream: StreamId,
        seq: u64,
    ) -> Option<u64> {
        let acked = self.acked.entry((member, stream)).or_insert(0);
        let before = *acked;
        (seq > before).then(|| {
            *acked = seq;
            before
        })
    }

    /// The queued messages of a stream in `(after, to]`.
    pub(super) fn queued_between(&self, stream: StreamId, after: u64, to: u64) -> Vec<Place> {
        let from = after.saturating_add(1);
        if from > to {
            return Vec::new();
        }
        self.queued.range((stream, from)..=(stream, to)).copied().collect()
    }

    /// Whether the body of our entry may go out: not if it is given up.
    pub(super) fn may_offer(&self, place: &Place) -> bool {
        let kept = |row: &Outgoing| {
            matches!(row.state, MessageState::Queued | MessageState::Delivered)
                && row.giving_up.is_none()
        };
        self.rows.get(place).is_none_or(|row| kept(row) || is_left_to_others(row))
    }

    /// The epoch of a message of ours that was offered and is given up since, while its recipients have yet to
    /// say what they hold.
    pub(super) fn given_up(&self, place: &Place) -> Option<u64> {
        self.rows.get(place).filter(|row| row.giving_up.is_some()).map(|row| row.epoch)
    }

    /// Notes that the body of a queued message goes out, durably.
    pub(super) fn offer(&mut self, place: &Place, out: &mut Output) {
        if let Some(row) = self.rows.get_mut(place).filter(|row| !row.offered) {
            row.offered = true;
            put(out, row);
        }
    }

    pub(super) fn next_expiry(&self) -> Option<u64> {
        self.expiry.first().map(|(at, _)| *at)
    }

    /// A message whose time ran out at `wall_ms`.
    pub(super) fn expired(&self, wall_ms: u64) -> Option<MessageId> {
        let (at, place) = self.expiry.first()?;
        if *at > wall_ms {
            return None;
        }
        self.rows.get(place).map(|row| row.id.clone())
    }

    /// How the recipients of a message stand that is followed here.
    pub(super) fn tally(&self, row: &Outgoing, rules: &dyn Rules) -> Tally {
        self.tally_with(row, self.exceptions.get(&(row.stream, row.seq)), rules)
    }

    /// The same, told who does not hold its body.
    pub(super) fn tally_with(
        &self,
        row: &Outgoing,
        exceptions: Option<&BTreeMap<PublicKey, ExceptionKind>>,
        rules: &dyn Rules,
    ) -> Tally {
        let mut tally = Tally::default();
        for member in rules.recipients(row.epoch) {
            tally.of += 1;
            let covered =
                self.acked.get(&(member, row.stream)).is_some_and(|acked| *acked >= row.seq);
            match exceptions.and_then(|e| e.get(&member)) {
                _ if !covered => tally.waiting += u32::from(rules.is_current(&member)),
                None => tally.delivered += 1,
                Some(ExceptionKind::Void) => tally.void += 1,
                Some(ExceptionKind::Refused) => tally.refused += 1,
            }
        }
        tally
    }

    /// Ends a message. Gives its row as it is to be kept.
    pub(super) fn settle(
        &mut self,
        place: &Place,
        state: MessageState,
        reason: Option<Code>,
    ) -> Option<Outgoing> {
        let row = self.rows.get_mut(place)?;
        row.state = state;
        row.reason = reason;
        row.giving_up = None;
        let row = row.clone();
        self.queued.remove(place);
        if let Some(expires_ms) = row.expires_ms {
            self.expiry.remove(&(expires_ms, *place));
        }
        match row.caller_id {
            true => self.keep_settled(*place),
            false => self.forget(place),
        }
        Some(row)
    }
}

/// Whether a message of ours that failed may be with some of its recipients, who are to agree on it: then
/// all of them may have it.
fn is_left_to_others(row: &Outgoing) -> bool {
    let alone = matches!(row.reason, Some(Code::NotFound));
    row.state == MessageState::Failed && row.offered && alone
}

/// Writes a row, replacing one that the same output holds already.
pub(super) fn put(out: &mut Output, row: &Outgoing) {
    for write in out.writes.iter_mut().rev().take(4) {
        if let Write::Outgoing(old) = write
            && (old.conversation, old.stream, old.seq) == (row.conversation, row.stream, row.seq)
        {
            *old = row.clone();
            return;
        }
    }
    out.writes.push(Write::Outgoing(row.clone()));
}
