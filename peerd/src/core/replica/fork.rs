//! Forks: two entries of one author with one number, both signed. The pair is its own proof.
//!
//! Unequal hashes in vectors, or an entry that does not continue what is held, only show that there is a
//! fork somewhere. Whoever sees it sends its own header of that number to the other side (a *probe*: a
//! frame with one entry, withheld); whoever holds another one under the number has the proof, and tells all.
//!
//! A proof whose two entries name unequal ones before them was found behind the place where the fork begins:
//! it is followed back, one number at a time, by probes of the number before.

use peerd_proto::wire::{Entry, Frame, VerifiedEntry};

use super::{Ctx, Effect, LinkId, Notice, Replica, Verdict, streams::StreamKey};
use crate::core::durable::Write;

/// The most reads under way to find forks; what comes above is left for the next meeting.
const INQUIRIES_MAX: usize = 8;
/// The most proofs kept and passed on; streams above it are frozen all the same.
const PROOFS_MAX: usize = 256;
/// The most proofs taken of one author about streams of which we hold nothing: an author who makes up
/// streams to fork fills neither memory nor disk.
const UNSEEN_PROOFS_MAX: usize = 16;

/// Why one entry of ours is read.
#[derive(Debug)]
pub(super) enum Inquiry {
    /// To send its header to the other side of a link.
    Probe(LinkId),
    /// To send its header to all.
    ProbeAll,
    /// To compare it with what came under the same number.
    Compare(Box<VerifiedEntry>),
}

impl Replica {
    /// Somebody tells a proof, with both signatures verified. What proves nothing is ignored.
    pub fn on_fork(&mut self, cx: &mut Ctx<'_>, a: &VerifiedEntry, b: &VerifiedEntry) {
        let ours = a.header().conversation == self.conversation;
        let takes = |entry: &VerifiedEntry| {
            matches!(cx.rules.judge(entry.header()), Verdict::Take | Verdict::Refuse)
        };
        // One of the two may name a time at which its author was no member: the pair is a fork all the same.
        if ours && proves(a, b) && (takes(a) || takes(b)) && self.has_place_for(&key_of(a)) {
            self.found(cx, a, b);
        }
    }

    /// Freezes the stream of a proof, which takes the place of a later one. False if the stream was frozen
    /// there or before.
    pub(super) fn freeze(&mut self, a: &VerifiedEntry, b: &VerifiedEntry) -> bool {
        let key = key_of(a);
        if !self.streams.freeze(key, a.header().seq) {
            return false;
        }
        let proof = (a.withheld(), b.withheld());
        match self.forks.iter().position(|(a, _)| key_of(a) == key) {
            Some(later) => self.forks[later] = proof,
            None if self.forks.len() < PROOFS_MAX => self.forks.push(proof),
            None => {}
        }
        true
    }

    /// Somebody sent what a fork shut out: it is told the proof, once for each stream and link.
    pub(super) fn tell_fork(&mut self, cx: &mut Ctx<'_>, link: LinkId, key: StreamKey) {
        let Some((a, b)) = self.forks.iter().find(|(a, _)| key_of(a) == key) else { return };
        if self.fork_told.insert((link, key.0, key.1)) {
            let frame = Frame::Fork { a: a.entry().clone(), b: b.entry().clone() };
            cx.out.effects.push(Effect::Send { link, frame });
        }
    }

    /// Goes on with forks whose beginning is not found, for a link that has just come up.
    pub(super) fn follow_back_with(&mut self, cx: &mut Ctx<'_>, link: LinkId) {
        let later: Vec<(StreamKey, u64)> = self
            .forks
            .iter()
            .filter(|(a, b)| begins_earlier(a, b))
            .map(|(a, _)| (key_of(a), a.header().seq - 1))
            .collect();
        for (key, seq) in later {
            if self.streams.held(&key) >= seq {
                self.inquire(cx, key, seq, Inquiry::Probe(link));
            }
        }
    }

    /// Compares what came under a number that we hold with what we hold.
    pub(super) fn compare(&mut self, cx: &mut Ctx<'_>, other: VerifiedEntry, probe: bool) {
        let header = other.header();
        let key = (header.author, header.stream);
        let seq = header.seq;
        let Some(stream) = self.streams.get(&key) else { return };
        if stream.held == seq && stream.hash == other.hash() {
            return;
        }
        if let Some(ours) = self.recent.get(&key, seq).cloned() {
            self.on_inquiry(cx, Inquiry::Compare(Box::new(other)), Some(ours));
        } else if probe || stream.held == seq {
            self.inquire(cx, key, seq, Inquiry::Compare(Box::new(other.withheld())));
        }
    }

    /// Sends the header of our head to the other side, once for each stream and link.
    pub(super) fn probe(&mut self, cx: &mut Ctx<'_>, link: LinkId, key: StreamKey) {
        let Some(stream) = self.streams.get(&key).filter(|stream| stream.held > 0) else { return };
        let seq = stream.held;
        if !self.probed.insert((link, key.0, key.1)) {
            return;
        }
        match self.recent.get(&key, seq).cloned() {
            Some(ours) => self.on_inquiry(cx, Inquiry::Probe(link), Some(ours)),
            None => self.inquire(cx, key, seq, Inquiry::Probe(link)),
        }
    }

    /// What the store holds under the number asked for.
    pub(super) fn on_inquiry(
        &mut self,
        cx: &mut Ctx<'_>,
        inquiry: Inquiry,
        ours: Option<VerifiedEntry>,
    ) {
        let Some(ours) = ours else { return };
        match inquiry {
            Inquiry::Probe(link) => {
                let entries: Vec<Entry> = vec![ours.withheld().entry().clone()];
                let frame = Frame::Entries { conversation: self.conversation, entries };
                cx.out.effects.push(Effect::Send { link, frame });
            }
            Inquiry::ProbeAll => {
                let entry = ours.withheld().entry().clone();
                for link in self.links.keys() {
                    let entries = vec![entry.clone()];
                    let frame = Frame::Entries { conversation: self.conversation, entries };
                    cx.out.effects.push(Effect::Send { link: *link, frame });
                }
            }
            Inquiry::Compare(other) if proves(&ours, &other) => self.found(cx, &ours, &other),
            Inquiry::Compare(_) => {}
        }
    }

    /// A fork is proved: the stream ends before it, for us and for all whom we reach.
    fn found(&mut self, cx: &mut Ctx<'_>, a: &VerifiedEntry, b: &VerifiedEntry) {
        let key = key_of(a);
        let known = self.streams.get(&key).is_some_and(|stream| stream.frozen.is_some());
        if !self.freeze(a, b) {
            return;
        }
        let (a, b) = (a.withheld(), b.withheld());
        for link in self.links.keys() {
            let frame = Frame::Fork { a: a.entry().clone(), b: b.entry().clone() };
            cx.out.effects.push(Effect::Send { link: *link, frame });
        }
        let before = begins_earlier(&a, &b).then(|| a.header().seq - 1);
        cx.out.writes.push(Write::Fork { a: Box::new(a), b: Box::new(b) });
        if !known {
            cx.events.record(cx.now, cx.out, Notice::Fork { author: key.0 });
        }
        if let Some(seq) = before.filter(|seq| self.streams.held(&key) >= *seq) {
            self.inquire(cx, key, seq, Inquiry::ProbeAll);
        }
    }

    fn has_place_for(&self, key: &StreamKey) -> bool {
        let unseen = |(a, _): &&(VerifiedEntry, VerifiedEntry)| {
            a.header().author == key.0 && self.streams.held(&key_of(a)) == 0
        };
        self.streams.held(key) > 0
            || self.forks.iter().any(|(a, _)| key_of(a) == *key)
            || (self.forks.len() < PROOFS_MAX
                && self.forks.iter().filter(unseen).count() < UNSEEN_PROOFS_MAX)
    }

    fn inquire(&mut self, cx: &mut Ctx<'_>, key: StreamKey, seq: u64, inquiry: Inquiry) {
        if self.inquiries.len() >= INQUIRIES_MAX {
            return;
        }
        let load = cx.loads.begin(self.conversation);
        self.inquiries.insert(load, inquiry);
        cx.out.effects.push(Effect::Load {
            load,
            conversation: self.conversation,
            author: key.0,
            stream: key.1,
            after_seq: seq - 1,
            limit: 1,
        });
    }
}

fn key_of(entry: &VerifiedEntry) -> StreamKey {
    (entry.header().author, entry.header().stream)
}

/// Whether the two of a proof already follow different entries.
fn begins_earlier(a: &VerifiedEntry, b: &VerifiedEntry) -> bool {
    a.header().seq > 1 && a.header().previous != b.header().previous
}

/// Whether two verified entries are two under one number.
fn proves(a: &VerifiedEntry, b: &VerifiedEntry) -> bool {
    let (x, y) = (a.header(), b.header());
    (x.conversation, x.author, x.stream, x.seq) == (y.conversation, y.author, y.stream, y.seq)
        && a.hash() != b.hash()
}
