//! One link of a conversation: what the other side has, what was sent to it, and what it is owed.
//!
//! Invariant: in each stream `has <= sent`; entries in `(has, sent]` that we sent count in the window.
//! Invariant: `lag` holds the place of every stream of which the other side was not yet sent all.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use peerd_proto::wire::{Exception, ExceptionKind, StreamId, VerifiedEntry};
use registryd_proto::PublicKey;

use super::{FORWARD_AFTER_MS, Gate, WINDOW_BYTES_MAX, WINDOW_ENTRIES_MAX, streams::StreamKey};
use crate::core::input::LoadId;

/// The most streams that a member may name which we do not know: those that it will send us.
const UNKNOWN_CURSORS_MAX: usize = 65_536;
/// The most exceptions kept of entries of ours that we do not hold.
const UNHELD_MAX: usize = 512;

/// How far the other side is in one stream.
#[derive(Debug, Default)]
pub(super) struct Cursor {
    /// Held on its disk, by its own word.
    pub(super) has: u64,
    /// Sent by us, or held.
    pub(super) sent: u64,
    /// What was sent and not acknowledged: seq and bytes.
    flight: VecDeque<(u64, usize)>,
    /// Before this time the next entry is left to others, who probably send it.
    pub(super) hold_until_ms: u64,
    /// The next entry cannot be sent by us: we lack a body that the other side may read.
    pub(super) stuck: bool,
}

/// One link.
#[derive(Debug)]
pub(super) struct Link {
    /// The peer key of the member at the other side.
    pub(super) member: PublicKey,
    /// Whether entries may go.
    pub(super) gate: Gate,
    /// Whether its whole vector came: before that nothing is sent.
    pub(super) begun: bool,
    /// Whether it is owed our whole vector.
    pub(super) owes_full: bool,
    /// Whether it is asked for its whole vector, behind ours.
    pub(super) asks: bool,
    cursors: BTreeMap<StreamKey, Cursor>,
    unknown: usize,
    pub(super) lag: BTreeSet<usize>,
    flight_entries: usize,
    flight_bytes: usize,
    /// The read under way for it, and of which stream.
    pub(super) load: Option<(LoadId, StreamKey)>,
    /// What that read gave, until the next flush.
    pub(super) hand: BTreeMap<(StreamKey, u64), VerifiedEntry>,
    /// Streams whose heads moved since the last vector.
    pub(super) dirty: BTreeSet<usize>,
    pub(super) exceptions: Vec<Exception>,
    /// What the other side covers but does not hold of streams of ours that we lost.
    unheld: BTreeMap<(StreamId, u64), ExceptionKind>,
    /// When `dirty` is told.
    pub(super) announce_at_ms: Option<u64>,
    /// Whether something changed since entries were last looked for.
    pub(super) due: bool,
    /// When a stream that is held back may go.
    pub(super) wake_at_ms: Option<u64>,
}

impl Link {
    pub(super) fn new(member: PublicKey, gate: Gate) -> Self {
        Self {
            member,
            gate,
            begun: false,
            owes_full: true,
            asks: false,
            cursors: BTreeMap::new(),
            unknown: 0,
            lag: BTreeSet::new(),
            flight_entries: 0,
            flight_bytes: 0,
            load: None,
            hand: BTreeMap::new(),
            dirty: BTreeSet::new(),
            exceptions: Vec::new(),
            unheld: BTreeMap::new(),
            announce_at_ms: None,
            due: false,
            wake_at_ms: None,
        }
    }

    /// Whether entries go to the other side.
    pub(super) fn is_open(&self) -> bool {
        self.begun && self.gate == Gate::Open
    }

    /// Whether one more entry of `bytes` may be sent.
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        self.flight_entries < WINDOW_ENTRIES_MAX && self.flight_bytes + bytes <= WINDOW_BYTES_MAX
    }

    /// How many more entries may be sent.
    pub(super) fn room_entries(&self) -> usize {
        if self.has_room(0) { WINDOW_ENTRIES_MAX - self.flight_entries } else { 0 }
    }

    /// How far the other side is, in a stream that we hold.
    pub(super) fn cursor(&mut self, key: StreamKey) -> &mut Cursor {
        self.cursors.entry(key).or_default()
    }

    /// How much was sent of a stream.
    pub(super) fn sent(&self, key: &StreamKey) -> u64 {
        self.cursors.get(key).map_or(0, |cursor| cursor.sent)
    }

    /// How much of a stream the other side holds, by its own word.
    pub(super) fn has(&self, key: &StreamKey) -> u64 {
        self.cursors.get(key).map_or(0, |cursor| cursor.has)
    }

    /// Keeps an exception about an entry of ours that may come back.
    pub(super) fn keep_exception(&mut self, exception: &Exception) {
        if self.unheld.len() < UNHELD_MAX {
            self.unheld.insert((exception.stream, exception.seq), exception.kind);
        }
    }

    /// Takes out the exception about an entry of ours that came back.
    pub(super) fn kept_exception(&mut self, stream: StreamId, seq: u64) -> Option<ExceptionKind> {
        self.unheld.remove(&(stream, seq))
    }

    /// Counts an entry that is sent now.
    pub(super) fn count(&mut self, key: StreamKey, seq: u64, bytes: usize) {
        let cursor = self.cursor(key);
        cursor.sent = seq;
        cursor.flight.push_back((seq, bytes));
        self.flight_entries += 1;
        self.flight_bytes += bytes;
    }

    /// The other side holds a stream up to `seq`. `known`: whether we hold something of it as well. False:
    /// it names more streams than anybody has.
    pub(super) fn acknowledge(&mut self, key: StreamKey, seq: u64, known: bool) -> bool {
        if !known && !self.cursors.contains_key(&key) {
            self.unknown += 1;
            if self.unknown > UNKNOWN_CURSORS_MAX {
                return false;
            }
        }
        let cursor = self.cursors.entry(key).or_default();
        if seq > cursor.has {
            cursor.has = seq;
            cursor.sent = cursor.sent.max(seq);
            cursor.stuck = false;
        }
        while let Some((first, bytes)) = cursor.flight.front().copied() {
            if first > cursor.has {
                break;
            }
            cursor.flight.pop_front();
            self.flight_entries -= 1;
            self.flight_bytes -= bytes;
        }
        self.due = true;
        true
    }

    /// Forgets all that is known of the other side: its whole vector comes.
    pub(super) fn begin_anew(&mut self) {
        self.cursors.clear();
        self.lag.clear();
        self.unknown = 0;
        self.flight_entries = 0;
        self.flight_bytes = 0;
        self.begun = true;
        self.due = true;
    }

    /// Takes back what was sent and not acknowledged, to send it again.
    pub(super) fn rewind(&mut self) {
        for cursor in self.cursors.values_mut() {
            cursor.sent = cursor.has;
            cursor.flight.clear();
        }
        self.flight_entries = 0;
        self.flight_bytes = 0;
        self.due = true;
    }

    /// Tries streams again that could not be sent.
    pub(super) fn unblock(&mut self) {
        for cursor in self.cursors.values_mut() {
            cursor.stuck = false;
        }
        self.due = true;
    }

    /// Notes that a head moved, to be told at `at_ms` at the latest.
    pub(super) fn announce(&mut self, place: usize, at_ms: u64) {
        self.dirty.insert(place);
        self.announce_at_ms = Some(self.announce_at_ms.map_or(at_ms, |at| at.min(at_ms)));
    }

    /// Whether a flush has something to do here, or to forget.
    pub(super) fn is_due(&self, now_ms: u64) -> bool {
        self.owes_full
            || self.announce_at_ms.is_some_and(|at| at <= now_ms)
            || !self.hand.is_empty()
            || (self.is_open() && (self.due || self.is_woken(now_ms)))
    }

    /// Whether what was held back may go.
    pub(super) fn is_woken(&self, now_ms: u64) -> bool {
        self.wake_at_ms.is_some_and(|at| at <= now_ms)
    }

    /// When there is something to do for time alone.
    pub(super) fn next_deadline(&self) -> Option<u64> {
        let wake = self.wake_at_ms.filter(|_| self.is_open());
        self.announce_at_ms.into_iter().chain(wake).min()
    }

    /// Until when an entry of another author is left to others. Members differ, so that not all of them
    /// begin at once.
    pub(super) fn hold_from(&self, me: &PublicKey, now_ms: u64) -> u64 {
        let spread = u64::from(me.as_bytes()[0] ^ self.member.as_bytes()[0]);
        now_ms + FORWARD_AFTER_MS + spread
    }
}
