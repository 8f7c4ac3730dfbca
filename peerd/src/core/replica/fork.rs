//! Forks: two entries of one author with one number, both signed. The pair is its own proof.
//!
//! Unequal hashes in vectors, or an entry that does not continue what is held, only show that there is a
//! fork somewhere. Whoever sees it sends its own header of that number to the other side (a *probe*: a
//! frame with one entry, withheld); whoever holds another one under the number has the proof, and tells all.

use peerd_proto::wire::{Entry, Frame, VerifiedEntry};

use super::{Ctx, Effect, LinkId, Notice, Replica, Verdict, streams::StreamKey};
use crate::core::durable::Write;

/// The most reads under way to find forks; what comes above is left for the next meeting.
const INQUIRIES_MAX: usize = 8;
/// The most proofs kept and passed on; streams above it are frozen all the same.
const PROOFS_MAX: usize = 256;

/// Why one entry of ours is read.
#[derive(Debug)]
pub(super) enum Inquiry {
    /// To send its header to the other side of a link.
    Probe(LinkId),
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
        if ours && proves(a, b) && takes(a) && takes(b) {
            self.found(cx, a, b);
        }
    }

    /// Freezes the stream of a proof. False if it was frozen there or before.
    pub(super) fn freeze(&mut self, a: &VerifiedEntry, b: &VerifiedEntry) -> bool {
        let header = a.header();
        let news = self.streams.freeze((header.author, header.stream), header.seq);
        if news && self.forks.len() < PROOFS_MAX {
            self.forks.push((a.withheld(), b.withheld()));
        }
        news
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
            Inquiry::Compare(other) if proves(&ours, &other) => self.found(cx, &ours, &other),
            Inquiry::Compare(_) => {}
        }
    }

    /// A fork is proved: the stream ends before it, for us and for all whom we reach.
    fn found(&mut self, cx: &mut Ctx<'_>, a: &VerifiedEntry, b: &VerifiedEntry) {
        if !self.freeze(a, b) {
            return;
        }
        let (a, b) = (a.withheld(), b.withheld());
        for link in self.links.keys() {
            let frame = Frame::Fork { a: a.entry().clone(), b: b.entry().clone() };
            cx.out.effects.push(Effect::Send { link: *link, frame });
        }
        let author = a.header().author;
        cx.out.writes.push(Write::Fork { a: Box::new(a), b: Box::new(b) });
        cx.events.record(cx.now, cx.out, Notice::Fork { author });
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

/// Whether two verified entries are two under one number.
fn proves(a: &VerifiedEntry, b: &VerifiedEntry) -> bool {
    let (x, y) = (a.header(), b.header());
    (x.conversation, x.author, x.stream, x.seq) == (y.conversation, y.author, y.stream, y.seq)
        && a.hash() != b.hash()
}
