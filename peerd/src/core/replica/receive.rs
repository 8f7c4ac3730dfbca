//! Receiving: the vectors of the other side, and its entries.
//!
//! An entry is taken only if it is next. What is not next is ignored: a duplicate is held already, and a
//! gap means that the sender knows too much of us, which our next vector mends.

use std::collections::BTreeMap;

use peerd_proto::wire::{
    Exception, ExceptionKind, FRAME_ENTRIES_MAX, HAVE_POSITIONS_MAX, Have, Header, Position,
    StreamId, VerifiedEntry,
};

use super::{
    ANNOUNCE_AFTER_MS, AUTHOR_STREAMS_MAX, Ctx, LinkId, Notice, Replica, Verdict,
    streams::StreamKey,
};
use crate::core::durable::{Acked, Write, shown_id_hash};

/// Why a link is to be closed: its other side breaks the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Breach {
    /// More in one frame than allowed.
    #[error(
        "a frame holds more than {HAVE_POSITIONS_MAX} positions or {FRAME_ENTRIES_MAX} entries"
    )]
    TooMany,
    /// It names more streams than any conversation has.
    #[error("a vector names too many streams")]
    TooManyStreams,
}

/// What came of a frame of entries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Received {
    /// How many entries were taken.
    pub taken: u32,
    /// The highest epoch named that we do not know: fetch the membership log, then
    /// [`Replica::announce_full`].
    pub unknown_epoch: Option<u64>,
}

/// Why an entry is not taken.
enum Pass {
    /// Held already, or not next.
    Old,
    /// Not allowed, or not yet.
    Ignored,
    /// A fork shuts it out.
    Frozen,
    /// It does not continue what we hold.
    Mismatch,
    /// Its epoch is not known.
    UnknownEpoch(u64),
}

impl Replica {
    /// A vector came, whole or what changed of it.
    ///
    /// # Errors
    /// [`Breach`]: close the link.
    pub fn on_have(&mut self, cx: &mut Ctx<'_>, link: LinkId, have: &Have) -> Result<(), Breach> {
        if have.positions.len() > HAVE_POSITIONS_MAX {
            return Err(Breach::TooMany);
        }
        let Some(state) = self.links.get_mut(&link) else { return Ok(()) };
        let member = state.member;
        if have.full {
            state.begin_anew();
        }
        let ours = have.positions.iter().filter(|p| p.author == self.me);
        let ours: BTreeMap<StreamId, u64> = ours.map(|p| (p.stream, p.seq)).collect();
        for exception in have.exceptions.iter().filter(|e| e.author == self.me) {
            let held = self.streams.held(&(self.me, exception.stream));
            if exception.seq > held {
                state.keep_exception(exception);
            }
            let told = ours.get(&exception.stream).copied().unwrap_or(0);
            let covered_now = exception.seq <= told.min(held);
            self.outgoing.except(self.conversation, member, exception, covered_now, cx.out);
        }
        for position in &have.positions {
            self.on_position(cx, link, position)?;
        }
        if have.full {
            self.find_lag(cx, link);
        }
        Ok(())
    }

    /// Entries came, verified, in the order of their frame.
    ///
    /// # Errors
    /// [`Breach`]: close the link.
    pub fn on_entries(
        &mut self,
        cx: &mut Ctx<'_>,
        link: LinkId,
        entries: Vec<VerifiedEntry>,
    ) -> Result<Received, Breach> {
        if entries.len() > FRAME_ENTRIES_MAX {
            return Err(Breach::TooMany);
        }
        let mut received = Received::default();
        let probe = matches!(entries.as_slice(), [one] if one.body().is_none());
        for entry in entries {
            match self.check(cx, link, &entry) {
                Ok(verdict) => {
                    self.take(cx, link, entry, verdict);
                    received.taken += 1;
                }
                Err(Pass::Old) => self.on_duplicate(cx, link, entry, probe),
                Err(Pass::Mismatch) => {
                    self.probe(cx, link, (entry.header().author, entry.header().stream))
                }
                Err(Pass::Frozen) => {
                    self.tell_fork(cx, link, (entry.header().author, entry.header().stream));
                }
                Err(Pass::UnknownEpoch(epoch)) => {
                    received.unknown_epoch = received.unknown_epoch.max(Some(epoch));
                }
                Err(Pass::Ignored) => {}
            }
        }
        Ok(received)
    }

    fn on_position(
        &mut self,
        cx: &mut Ctx<'_>,
        link: LinkId,
        position: &Position,
    ) -> Result<(), Breach> {
        let key = (position.author, position.stream);
        let (held, differs) = match self.streams.get(&key) {
            Some(stream) => (
                stream.held,
                stream.held == position.seq
                    && stream.hash != position.hash
                    && !stream.is_frozen_at(position.seq),
            ),
            None => (0, false),
        };
        #[cfg(any(test, feature = "simulation"))]
        let differs = differs && !self.faults.claim_more;
        if differs {
            self.probe(cx, link, key);
            return Ok(());
        }
        let Some(state) = self.links.get_mut(&link) else { return Ok(()) };
        let elsewhere = position.seq > state.sent(&key);
        if !state.acknowledge(key, position.seq, held > 0) {
            return Err(Breach::TooManyStreams);
        }
        if elsewhere && position.author != self.me {
            let until = state.hold_from(&self.me, cx.now.mono_ms);
            state.cursor(key).hold_until_ms = until;
        }
        let member = state.member;
        if position.author == self.me {
            self.on_acknowledgement(cx, member, position.stream, position.seq.min(held));
        }
        Ok(())
    }

    /// A member confirmed a stream of ours up to `seq`, by its own vector.
    fn on_acknowledgement(
        &mut self,
        cx: &mut Ctx<'_>,
        member: registryd_proto::PublicKey,
        stream: peerd_proto::wire::StreamId,
        seq: u64,
    ) {
        if seq == 0 {
            return;
        }
        let Some(before) = self.outgoing.acknowledge(member, stream, seq) else { return };
        let conversation = self.conversation;
        cx.out.writes.push(Write::Acked(Acked { conversation, member, stream, seq }));
        for place in self.outgoing.queued_between(stream, before, seq) {
            // A backup that was put back does not know that it was.
            self.outgoing.offer(&place, cx.out);
            self.settle_if_due(cx, place);
        }
    }

    /// After a whole vector: what the other side lacks. Entries of others wait a little, since other
    /// members see the same lack.
    fn find_lag(&mut self, cx: &Ctx<'_>, link: LinkId) {
        let Some(state) = self.links.get_mut(&link) else { return };
        let until = state.hold_from(&self.me, cx.now.mono_ms);
        #[cfg(any(test, feature = "simulation"))]
        if self.faults.no_catch_up {
            return;
        }
        for (place, stream) in self.streams.iter() {
            if stream.sendable() > state.sent(&stream.key) {
                state.lag.insert(place);
                if stream.key.0 != self.me {
                    state.cursor(stream.key).hold_until_ms = until;
                }
            }
        }
    }

    /// Whether an entry is taken, and how.
    fn check(&self, cx: &Ctx<'_>, link: LinkId, entry: &VerifiedEntry) -> Result<Verdict, Pass> {
        let header = entry.header();
        let Some(state) = self.links.get(&link) else { return Err(Pass::Ignored) };
        if header.conversation != self.conversation {
            return Err(Pass::Ignored);
        }
        self.check_place(header)?;
        let verdict = match cx.rules.judge(header) {
            Verdict::UnknownEpoch => {
                let epoch = match header.context {
                    peerd_proto::wire::Context::Room { epoch } => epoch,
                    peerd_proto::wire::Context::Direct { .. } => 0,
                };
                return Err(Pass::UnknownEpoch(epoch));
            }
            Verdict::Ignore => return Err(Pass::Ignored),
            verdict => verdict,
        };
        let withheld_by_another = entry.body().is_none()
            && !entry.is_void()
            && header.author != state.member
            && header.author != self.me
            && cx.rules.may_read(&self.me, header);
        if withheld_by_another { Err(Pass::Ignored) } else { Ok(verdict) }
    }

    /// Whether an entry is the next one of its stream, and the stream may be continued or begun.
    fn check_place(&self, header: &Header) -> Result<(), Pass> {
        let key: StreamKey = (header.author, header.stream);
        let stream = self.streams.get(&key);
        let held = stream.map_or(0, |stream| stream.held);
        if stream.is_some_and(|stream| stream.is_frozen_at(header.seq)) {
            return Err(Pass::Frozen);
        }
        if header.author == self.me && self.current == Some(header.stream) {
            return Err(Pass::Ignored);
        }
        #[cfg(any(test, feature = "simulation"))]
        if self.faults.no_dedup && header.seq <= held {
            return Ok(());
        }
        if header.seq <= held {
            return Err(Pass::Old);
        }
        if header.seq > held + 1 {
            return Err(Pass::Ignored);
        }
        if let Some(stream) = stream.filter(|stream| stream.held > 0) {
            let continues = header.previous == stream.hash;
            return if continues { Ok(()) } else { Err(Pass::Mismatch) };
        }
        if let Some(origin) = header.origin
            && (origin.stream == header.stream
                || self.streams.held(&(header.author, origin.stream)) < origin.seq)
        {
            return Err(Pass::Ignored);
        }
        let full = self.streams.count_of(&header.author) >= AUTHOR_STREAMS_MAX;
        if full && stream.is_none() { Err(Pass::Ignored) } else { Ok(()) }
    }

    /// Takes an entry: writes it, shows it if it is a message for us, moves the head.
    fn take(&mut self, cx: &mut Ctx<'_>, link: LinkId, entry: VerifiedEntry, verdict: Verdict) {
        let entry = if verdict == Verdict::Refuse { entry.withheld() } else { entry };
        let kept = entry.clone();
        let header = kept.header();
        let key = (header.author, header.stream);
        let shown = self.show(cx, &entry);
        cx.out.writes.push(Write::Entry {
            entry: Box::new(entry.clone()),
            recorded_ms: cx.now.wall_ms,
            shown,
        });
        self.see_lamport_of(header);
        if header.author != self.me && entry.body().is_none() {
            let kind = match verdict {
                Verdict::Refuse => Some(ExceptionKind::Refused),
                _ => cx.rules.may_read(&self.me, header).then_some(ExceptionKind::Void),
            };
            if let Some(kind) = kind {
                self.except(cx, header, kind);
            }
        }
        let seq = header.seq.max(self.streams.held(&key));
        let place = self.streams.advance(key, seq, entry.hash());
        self.recent.insert(entry);
        self.note_growth(place, Some(link), cx.now);
        if header.author == self.me {
            self.recover(cx, &kept);
        }
    }

    /// An entry of our own came back: an old backup of this profile was put back, and lacks it. It is a
    /// message of ours again, held by whoever said so before we knew of it.
    fn recover(&mut self, cx: &mut Ctx<'_>, entry: &VerifiedEntry) {
        let header = entry.header();
        let key: StreamKey = (header.author, header.stream);
        if !self.outgoing.recover(cx.out, entry) {
            return;
        }
        let (author, stream, seq) = (header.author, header.stream, header.seq);
        let mut holders = Vec::new();
        for link in self.links.values_mut() {
            holders.push((link.member, link.has(&key).min(seq)));
            if let Some(kind) = link.kept_exception(stream, seq) {
                let exception = Exception { author, stream, seq, kind };
                self.outgoing.except(self.conversation, link.member, &exception, false, cx.out);
            }
        }
        for (member, seq) in holders {
            self.on_acknowledgement(cx, member, stream, seq);
        }
        self.settle_if_due(cx, (stream, seq));
    }

    /// Shows a message for us, once. Gives the number of its event.
    fn show(&self, cx: &mut Ctx<'_>, entry: &VerifiedEntry) -> Option<u64> {
        let header = entry.header();
        if header.author == self.me || entry.body().is_none() {
            return None;
        }
        let news = cx.shown.insert(shown_id_hash(&self.conversation, &header.author, &header.id));
        #[cfg(any(test, feature = "simulation"))]
        let news = news || self.faults.no_dedup;
        news.then(|| cx.events.record(cx.now, cx.out, Notice::Message(entry)))
    }

    /// Notes, durably, that we hold an entry without its body, and owes that to its author.
    fn except(&mut self, cx: &mut Ctx<'_>, header: &Header, kind: ExceptionKind) {
        let (author, stream, seq) = (header.author, header.stream, header.seq);
        let exception = Exception { author, stream, seq, kind };
        self.exceptions.insert((author, stream, seq), kind);
        for link in self.links.values_mut().filter(|link| link.member == author) {
            link.exceptions.push(exception);
        }
        let (conversation, holder) = (self.conversation, self.me);
        cx.out.writes.push(Write::Exception { conversation, holder, exception });
    }

    /// A sender that repeats what we hold is told our head again; one that probes may have found a fork.
    fn on_duplicate(&mut self, cx: &mut Ctx<'_>, link: LinkId, entry: VerifiedEntry, probe: bool) {
        let key = (entry.header().author, entry.header().stream);
        if let (Some(place), Some(state)) = (self.streams.place(&key), self.links.get_mut(&link)) {
            state.announce(place, cx.now.mono_ms + ANNOUNCE_AFTER_MS);
        }
        self.compare(cx, entry, probe);
    }
}
