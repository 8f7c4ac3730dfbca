//! The heads of all streams of a conversation, in the order in which they were first seen.
//!
//! Invariant: the order of first sight keeps each author's order: an author's stream is taken only when the
//! one before it is held. Whoever sends streams in this order lets the receiver take each entry.

use std::collections::BTreeMap;

use peerd_proto::wire::{Position, StreamId};
use registryd_proto::{Digest, PublicKey};

/// An author and one of its streams.
pub(super) type StreamKey = (PublicKey, StreamId);

/// One stream as we hold it.
#[derive(Debug, Clone)]
pub(super) struct Stream {
    /// Whose.
    pub(super) key: StreamKey,
    /// The highest entry held; everything below is held as well.
    pub(super) held: u64,
    /// The hash of that entry's header.
    pub(super) hash: Digest,
    /// The first entry that exists twice: nothing from here on is taken or sent.
    pub(super) frozen: Option<u64>,
}

impl Stream {
    /// The last entry that others may have from us.
    pub(super) fn sendable(&self) -> u64 {
        self.frozen.map_or(self.held, |seq| self.held.min(seq - 1))
    }

    /// Whether the entry `seq` may not be taken any more.
    pub(super) fn is_frozen_at(&self, seq: u64) -> bool {
        self.frozen.is_some_and(|frozen| seq >= frozen)
    }

    /// As a vector names it.
    pub(super) fn position(&self) -> Position {
        Position { author: self.key.0, stream: self.key.1, seq: self.held, hash: self.hash }
    }
}

/// All streams.
#[derive(Debug, Default)]
pub(super) struct Streams {
    list: Vec<Stream>,
    index: BTreeMap<StreamKey, usize>,
}

impl Streams {
    /// Puts a head of the snapshot behind those before it.
    pub(super) fn restore(&mut self, position: &Position) {
        self.advance((position.author, position.stream), position.seq, position.hash);
    }

    /// Moves a head, or begins a stream. Returns its place.
    pub(super) fn advance(&mut self, key: StreamKey, seq: u64, hash: Digest) -> usize {
        let place = self.place_or_begin(key);
        self.list[place].held = seq;
        self.list[place].hash = hash;
        place
    }

    /// Freezes a stream before `seq`, known or not. False if it was frozen there or before.
    pub(super) fn freeze(&mut self, key: StreamKey, seq: u64) -> bool {
        let place = self.place_or_begin(key);
        let stream = &mut self.list[place];
        let news = stream.frozen.is_none_or(|frozen| seq < frozen);
        if news {
            stream.frozen = Some(seq);
        }
        news
    }

    /// The place of a stream in the order of first sight.
    pub(super) fn place(&self, key: &StreamKey) -> Option<usize> {
        self.index.get(key).copied()
    }

    /// The stream at a place.
    pub(super) fn at(&self, place: usize) -> Option<&Stream> {
        self.list.get(place)
    }

    /// One stream.
    pub(super) fn get(&self, key: &StreamKey) -> Option<&Stream> {
        self.place(key).map(|place| &self.list[place])
    }

    /// How far a stream is held; 0 if it is not known.
    pub(super) fn held(&self, key: &StreamKey) -> u64 {
        self.get(key).map_or(0, |stream| stream.held)
    }

    /// All, in order.
    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = (usize, &Stream)> {
        self.list.iter().enumerate()
    }

    /// How many streams are known of an author.
    pub(super) fn count_of(&self, author: &PublicKey) -> usize {
        let low = (*author, StreamId(uuid::Uuid::nil()));
        let high = (*author, StreamId(uuid::Uuid::max()));
        self.index.range(low..=high).count()
    }

    fn place_or_begin(&mut self, key: StreamKey) -> usize {
        if let Some(place) = self.place(&key) {
            return place;
        }
        let place = self.list.len();
        self.list.push(Stream { key, held: 0, hash: Digest::default(), frozen: None });
        self.index.insert(key, place);
        place
    }
}
