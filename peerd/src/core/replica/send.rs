//! Sending: vectors, and to each link what it lacks, in order, from hand or through a read of the store.

use std::collections::BTreeSet;

use peerd_proto::wire::{
    Entry, Exception, FRAME_ENTRIES_MAX, Frame, HAVE_POSITIONS_MAX, Have, Header, Position,
    VerifiedEntry, void_signature,
};
use registryd_proto::PublicKey;

use super::{
    ANNOUNCE_AFTER_MS, Ctx, Effect, Gate, LinkId, LoadId, Now, Replica, link::Link,
    recent::entry_bytes, streams::StreamKey,
};

/// The most entry bytes in one frame: half of what a frame may hold.
const FRAME_ENTRY_BYTES_MAX: usize = 512 * 1024;
/// The most exceptions in one `have`, so that it fits a frame beside the most positions.
const HAVE_EXCEPTIONS_MAX: usize = 2048;

/// What became of an entry that was to be sent.
enum Sending {
    /// To go as it is here.
    Go(VerifiedEntry),
    /// Not from us: we lack a body that the other side may read.
    Stuck,
}

impl Replica {
    /// A link is up, its `hello` accepted; `member` is the peer key of the other side.
    pub fn link_up(&mut self, link: LinkId, member: PublicKey, gate: Gate) {
        let mut state = Link::new(member, gate);
        state.asks = self.parted.remove(&link);
        self.links.insert(link, state);
    }

    /// A link goes on without this conversation: one of both sides is no member any more. If it becomes one
    /// again on the same link, only one side may have heard of that; so the other one is asked to begin anew
    /// as well.
    pub fn part(&mut self, link: LinkId) {
        self.link_down(link);
        self.parted.insert(link);
    }

    /// The other side of a link has begun anew: it lacks our whole vector.
    pub fn owe_full(&mut self, link: LinkId) {
        if let Some(link) = self.links.get_mut(&link) {
            link.owes_full = true;
        }
    }

    /// A link is gone.
    pub fn link_down(&mut self, link: LinkId) {
        self.links.remove(&link);
        self.parted.remove(&link);
        self.probed.retain(|(of, ..)| *of != link);
        self.fork_told.retain(|(of, ..)| *of != link);
    }

    /// Opens or closes the way of entries. Opening sends again what was not acknowledged.
    pub fn set_gate(&mut self, link: LinkId, gate: Gate) {
        let Some(link) = self.links.get_mut(&link) else { return };
        if link.gate == gate {
            return;
        }
        link.gate = gate;
        if gate == Gate::Open {
            link.rewind();
            for (place, stream) in self.streams.iter() {
                if stream.sendable() > link.sent(&stream.key) {
                    link.lag.insert(place);
                }
            }
        }
    }

    /// Tells every link our whole vector again, so that the others send anew what we did not take: after a
    /// membership epoch that we lacked came.
    pub fn announce_full(&mut self) {
        for link in self.links.values_mut() {
            link.owes_full = true;
        }
    }

    /// What `Effect::Load` read. An unknown read is ignored.
    pub fn on_loaded(&mut self, cx: &mut Ctx<'_>, load: LoadId, entries: Vec<VerifiedEntry>) {
        if let Some(inquiry) = self.inquiries.remove(&load) {
            self.on_inquiry(cx, inquiry, entries.into_iter().next());
            return;
        }
        let wanted = |link: &&mut Link| link.load.is_some_and(|(id, _)| id == load);
        let Some(link) = self.links.values_mut().find(wanted) else { return };
        let Some((_, key)) = link.load.take() else { return };
        link.due = true;
        if entries.is_empty() {
            link.cursor(key).stuck = true;
        }
        for entry in entries.into_iter().take(FRAME_ENTRIES_MAX) {
            let header = entry.header();
            if (header.author, header.stream) == key {
                link.hand.insert((key, header.seq), entry);
            }
        }
    }

    /// Sends what is due on every link: vectors, then entries. To be called after each input.
    pub fn flush(&mut self, cx: &mut Ctx<'_>) {
        let now_ms = cx.now.mono_ms;
        let waiting = self.links.iter().filter(|(_, link)| link.is_due(now_ms));
        let ids: Vec<LinkId> = waiting.map(|(id, _)| *id).collect();
        for id in ids {
            let Some(mut link) = self.links.remove(&id) else { continue };
            if link.owes_full {
                self.send_full(cx, id, &mut link);
            } else if link.announce_at_ms.is_some_and(|at| at <= now_ms) {
                self.send_changes(cx, id, &mut link);
            }
            if link.is_open() && (link.due || link.is_woken(now_ms)) {
                self.pump(cx, id, &mut link);
            }
            link.hand.clear();
            self.links.insert(id, link);
        }
        if self.links.values().all(|link| !link.is_open() || link.lag.is_empty()) {
            self.recent.clear();
        }
    }

    /// A stream grew, by our own hand or by what came on `from`.
    pub(super) fn note_growth(&mut self, place: usize, from: Option<LinkId>, now: Now) {
        let Some(stream) = self.streams.at(place) else { return };
        let (key, held, sendable) = (stream.key, stream.held, stream.sendable());
        for (id, link) in &mut self.links {
            let source = from == Some(*id);
            if source {
                link.acknowledge(key, held, true);
            }
            if from.is_some() {
                let urgent = source || link.member == key.0;
                link.announce(place, now.mono_ms + if urgent { 0 } else { ANNOUNCE_AFTER_MS });
            }
            if !link.begun || sendable <= link.sent(&key) {
                continue;
            }
            if link.lag.insert(place) && from.is_some() {
                let until = link.hold_from(&self.me, now.mono_ms);
                link.cursor(key).hold_until_ms = until;
            }
            link.due = true;
        }
    }

    /// Drops what was read of a stream before its bodies changed.
    pub(super) fn forget_loads_of(&mut self, key: StreamKey) {
        for link in self.links.values_mut() {
            if link.load.is_some_and(|(_, of)| of == key) {
                link.load = None;
                link.due = true;
            }
            link.hand.retain(|(of, _), _| *of != key);
        }
    }

    fn send_full(&mut self, cx: &mut Ctx<'_>, id: LinkId, link: &mut Link) {
        let positions: Vec<Position> = self
            .streams
            .iter()
            .filter(|(_, stream)| stream.held > 0)
            .map(|(_, stream)| stream.position())
            .collect();
        let low = (link.member, peerd_proto::wire::StreamId(uuid::Uuid::nil()), 0);
        let exceptions: Vec<Exception> = self
            .exceptions
            .range(low..)
            .take_while(|((author, ..), _)| *author == link.member)
            .map(|((author, stream, seq), kind)| Exception {
                author: *author,
                stream: *stream,
                seq: *seq,
                kind: *kind,
            })
            .collect();
        link.owes_full = false;
        link.dirty.clear();
        link.exceptions.clear();
        link.announce_at_ms = None;
        self.send_have(cx, id, true, positions, exceptions);
        if std::mem::take(&mut link.asks) {
            let question = Frame::Have(Have::question(self.conversation));
            cx.out.effects.push(Effect::Send { link: id, frame: question });
        }
        for (a, b) in &self.forks {
            let frame = Frame::Fork { a: a.entry().clone(), b: b.entry().clone() };
            cx.out.effects.push(Effect::Send { link: id, frame });
        }
        self.follow_back_with(cx, id);
    }

    fn send_changes(&mut self, cx: &mut Ctx<'_>, id: LinkId, link: &mut Link) {
        let places = std::mem::take(&mut link.dirty);
        let positions: Vec<Position> =
            places.into_iter().filter_map(|p| self.streams.at(p)).map(|s| s.position()).collect();
        let exceptions = std::mem::take(&mut link.exceptions);
        link.announce_at_ms = None;
        #[cfg(any(test, feature = "simulation"))]
        if self.faults.drop_vectors && rand::RngExt::random_bool(&mut *cx.rng, 0.2) {
            return;
        }
        self.send_have(cx, id, false, positions, exceptions);
    }

    /// Sends a vector in as many frames as it needs. Exceptions come before the positions that cover them.
    fn send_have(
        &self,
        cx: &mut Ctx<'_>,
        id: LinkId,
        full: bool,
        positions: Vec<Position>,
        exceptions: Vec<Exception>,
    ) {
        #[cfg(any(test, feature = "simulation"))]
        let (positions, exceptions) = self.overstate(positions, exceptions);
        let (conversation, epoch) = (self.conversation, cx.rules.epoch());
        let mut send = |full, positions: &[Position], exceptions: &[Exception]| {
            let (positions, exceptions) = (positions.to_vec(), exceptions.to_vec());
            let have = Have { conversation, epoch, full, positions, exceptions };
            cx.out.effects.push(Effect::Send { link: id, frame: Frame::Have(have) });
        };
        let mut exceptions = exceptions.as_slice();
        while exceptions.len() > HAVE_EXCEPTIONS_MAX {
            let (now, later) = exceptions.split_at(HAVE_EXCEPTIONS_MAX);
            send(false, &[], now);
            exceptions = later;
        }
        let first = positions.len().min(HAVE_POSITIONS_MAX);
        send(full, &positions[..first], exceptions);
        for chunk in positions[first..].chunks(HAVE_POSITIONS_MAX) {
            send(false, chunk, &[]);
        }
    }

    /// Sends entries until the window is full, nothing lacks, or a read is needed.
    fn pump(&mut self, cx: &mut Ctx<'_>, id: LinkId, link: &mut Link) {
        link.due = false;
        link.wake_at_ms = None;
        let mut batch = Batch::default();
        let mut blocked: BTreeSet<PublicKey> = BTreeSet::new();
        for place in link.lag.clone() {
            let Some(stream) = self.streams.at(place) else { continue };
            let (key, sendable) = (stream.key, stream.sendable());
            if blocked.contains(&key.0) {
                continue;
            }
            let cursor = link.cursor(key);
            if cursor.sent >= sendable {
                link.lag.remove(&place);
                continue;
            }
            #[cfg(any(test, feature = "simulation"))]
            if self.faults.no_forward && key.0 != self.me {
                continue;
            }
            if cursor.stuck || (key.0 != self.me && cursor.hold_until_ms > cx.now.mono_ms) {
                if !cursor.stuck {
                    let until = cursor.hold_until_ms;
                    link.wake_at_ms = Some(link.wake_at_ms.map_or(until, |at| at.min(until)));
                }
                blocked.insert(key.0);
                continue;
            }
            self.send_stream(cx, id, link, key, sendable, &mut batch);
            if link.sent(&key) >= sendable {
                link.lag.remove(&place);
            } else {
                blocked.insert(key.0);
            }
            if !link.has_room(0) {
                break;
            }
        }
        batch.send(cx, id, self);
    }

    /// Sends one stream as far as what is in hand and the window go; else begins a read.
    fn send_stream(
        &mut self,
        cx: &mut Ctx<'_>,
        id: LinkId,
        link: &mut Link,
        key: StreamKey,
        sendable: u64,
        batch: &mut Batch,
    ) {
        while link.sent(&key) < sendable {
            let seq = link.sent(&key) + 1;
            let in_hand = link.hand.get(&(key, seq)).or_else(|| self.recent.get(&key, seq));
            let Some(entry) = in_hand else {
                self.read(cx, link, key);
                return;
            };
            let entry = match self.dress(cx, &link.member, entry) {
                Sending::Go(entry) => entry,
                Sending::Stuck => {
                    link.cursor(key).stuck = true;
                    return;
                }
            };
            let bytes = entry_bytes(&entry);
            if !link.has_room(bytes) {
                return;
            }
            if key.0 == self.me && entry.body().is_some() {
                self.outgoing.offer(&(key.1, seq), cx.out);
            }
            link.count(key, seq, bytes);
            batch.push(cx, id, self, entry.entry().clone(), bytes);
        }
    }

    /// The entry as `member` may have it. One of ours that is being given up is void for its recipients: what they
    /// hold of it decides how it ends. Nobody else may say so before.
    fn dress(&self, cx: &Ctx<'_>, member: &PublicKey, entry: &VerifiedEntry) -> Sending {
        let header = entry.header();
        let mine = header.author == self.me;
        let may_read = cx.rules.may_read(member, header);
        #[cfg(any(test, feature = "simulation"))]
        let may_read = may_read || self.faults.serve_anyone;
        if entry.body().is_none() {
            let known = entry.is_void() || mine || header.author == *member;
            return if known || !may_read { Sending::Go(entry.clone()) } else { Sending::Stuck };
        }
        let place = (header.stream, header.seq);
        let awaited = |epoch| cx.rules.recipients(epoch).contains(member);
        if mine && self.outgoing.given_up(&place).is_some_and(awaited) {
            let Header { conversation, stream, seq, id, .. } = header;
            return Sending::Go(entry.void(void_signature(conversation, stream, *seq, id, cx.key)));
        }
        if !may_read || (mine && !self.outgoing.may_offer(&place)) {
            return Sending::Go(entry.withheld());
        }
        Sending::Go(entry.clone())
    }

    fn read(&self, cx: &mut Ctx<'_>, link: &mut Link, key: StreamKey) {
        if link.load.is_some() {
            return;
        }
        let load = cx.loads.begin(self.conversation);
        link.load = Some((load, key));
        let limit = link.room_entries().clamp(1, FRAME_ENTRIES_MAX);
        cx.out.effects.push(Effect::Load {
            load,
            conversation: self.conversation,
            author: key.0,
            stream: key.1,
            after_seq: link.sent(&key),
            limit: u32::try_from(limit).unwrap_or(u32::MAX),
        });
    }

    #[cfg(any(test, feature = "simulation"))]
    fn overstate(
        &self,
        mut positions: Vec<Position>,
        mut exceptions: Vec<Exception>,
    ) -> (Vec<Position>, Vec<Exception>) {
        for position in positions.iter_mut().filter(|_| self.faults.claim_more) {
            position.seq += 1;
        }
        if self.faults.hide_exceptions {
            exceptions.clear();
        }
        (positions, exceptions)
    }
}

/// Entries for one frame.
#[derive(Default)]
struct Batch {
    entries: Vec<Entry>,
    bytes: usize,
}

impl Batch {
    fn push(
        &mut self,
        cx: &mut Ctx<'_>,
        id: LinkId,
        replica: &Replica,
        entry: Entry,
        bytes: usize,
    ) {
        if self.entries.len() >= FRAME_ENTRIES_MAX || self.bytes + bytes > FRAME_ENTRY_BYTES_MAX {
            self.send(cx, id, replica);
        }
        self.bytes += bytes;
        self.entries.push(entry);
    }

    fn send(&mut self, cx: &mut Ctx<'_>, id: LinkId, replica: &Replica) {
        #[cfg(any(test, feature = "simulation"))]
        if replica.faults.reverse_frames {
            self.entries.reverse();
        }
        let entries = std::mem::take(&mut self.entries);
        self.bytes = 0;
        if !entries.is_empty() {
            let frame = Frame::Entries { conversation: replica.conversation, entries };
            cx.out.effects.push(Effect::Send { link: id, frame });
        }
    }
}
