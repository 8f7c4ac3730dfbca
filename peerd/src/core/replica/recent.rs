//! A few entries in hand, so that what was just written or taken is passed on without reading it back.

use std::collections::{BTreeMap, VecDeque};

use peerd_proto::wire::{Content, VerifiedEntry};

use super::streams::StreamKey;

/// The most entries kept.
const ENTRIES_MAX: usize = 64;
/// The most bytes kept: a few of the largest entries.
const BYTES_MAX: usize = 256 * 1024;

/// What an entry costs on the wire and in memory, about.
pub(super) fn entry_bytes(entry: &VerifiedEntry) -> usize {
    let content = match &entry.entry().content {
        Content::Withheld => 0,
        Content::Body(body) => body.text.len() + 24,
        Content::Void(_) => 64,
    };
    entry.entry().header.len() + 72 + content
}

/// The newest entries, oldest first out.
#[derive(Debug, Default)]
pub(super) struct Recent {
    entries: BTreeMap<(StreamKey, u64), VerifiedEntry>,
    order: VecDeque<(StreamKey, u64)>,
    bytes: usize,
}

impl Recent {
    /// Keeps an entry for a while.
    pub(super) fn insert(&mut self, entry: VerifiedEntry) {
        let header = entry.header();
        let key = ((header.author, header.stream), header.seq);
        self.bytes += entry_bytes(&entry);
        if let Some(old) = self.entries.insert(key, entry) {
            self.bytes -= entry_bytes(&old);
        } else {
            self.order.push_back(key);
        }
        while self.order.len() > ENTRIES_MAX || self.bytes > BYTES_MAX {
            let Some(oldest) = self.order.pop_front() else { break };
            if let Some(old) = self.entries.remove(&oldest) {
                self.bytes -= entry_bytes(&old);
            }
        }
    }

    /// An entry, if it is in hand.
    pub(super) fn get(&self, stream: &StreamKey, seq: u64) -> Option<&VerifiedEntry> {
        self.entries.get(&(*stream, seq))
    }

    /// Forgets an entry: the store has it otherwise from here on.
    pub(super) fn forget(&mut self, stream: &StreamKey, seq: u64) {
        if let Some(entry) = self.entries.remove(&(*stream, seq)) {
            self.bytes -= entry_bytes(&entry);
            self.order.retain(|key| *key != (*stream, seq));
        }
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}
