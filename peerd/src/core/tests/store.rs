//! A store in memory: writes in, a snapshot out.

use peerd_proto::wire::{ConversationId, MessageId, Position, StreamId, VerifiedEntry};
use registryd_proto::PublicKey;

use crate::core::durable::{Kept, Outgoing, Snapshot, StreamHead, Write, shown_id_hash};

/// What one peer has on disk.
#[derive(Default)]
pub(super) struct Store {
    pub(super) snapshot: Snapshot,
    entries: Vec<VerifiedEntry>,
}

fn put<T>(rows: &mut Vec<T>, row: T, same: impl Fn(&T, &T) -> bool) {
    match rows.iter_mut().find(|held| same(held, &row)) {
        Some(held) => *held = row,
        None => rows.push(row),
    }
}

impl Store {
    pub(super) fn apply(&mut self, write: Write) {
        let s = &mut self.snapshot;
        match write {
            Write::Profile(row) => s.profile = Some(row),
            Write::ForgetProfile => {
                *s = Snapshot { event_head: s.event_head, ..Snapshot::default() };
                self.entries.clear();
            }
            Write::Contact(row) => put(&mut s.contacts, row, |a, b| a.username == b.username),
            Write::DefaultPolicy(policy) => s.default_policy = Some(policy),
            Write::Conversation(row) => put(&mut s.conversations, row, |a, b| a.id == b.id),
            Write::Entry { entry, shown, .. } => {
                let header = entry.header().clone();
                let position = Position {
                    author: header.author,
                    stream: header.stream,
                    seq: header.seq,
                    hash: entry.hash(),
                };
                let conversation = header.conversation;
                let head = StreamHead { conversation, position, lamport: header.lamport };
                put(&mut s.streams, head, |a, b| {
                    (a.conversation, a.position.author, a.position.stream)
                        == (b.conversation, b.position.author, b.position.stream)
                });
                if shown.is_some() {
                    s.shown_ids.push(shown_id_hash(&conversation, &header.author, &header.id));
                }
                let held = |e: &VerifiedEntry| {
                    let h = e.header();
                    (h.conversation, h.author, h.stream, h.seq)
                        == (conversation, header.author, header.stream, header.seq)
                };
                assert!(!self.entries.iter().any(held), "an entry is recorded once");
                self.entries.push(*entry);
            }
            Write::DropBody { conversation, author, stream, seq, void } => {
                let of = |e: &&mut VerifiedEntry| {
                    let h = e.header();
                    (h.conversation, h.author, h.stream, h.seq)
                        == (conversation, author, stream, seq)
                };
                for entry in self.entries.iter_mut().filter(of) {
                    *entry = match void {
                        Some(signature) => entry.void(signature),
                        None => entry.withheld(),
                    };
                }
            }
            Write::Outgoing(row) => put(&mut s.outgoing, row, |a, b| {
                (a.conversation, a.stream, a.seq) == (b.conversation, b.stream, b.seq)
            }),
            Write::Acked(row) => put(&mut s.acked, row, |a, b| {
                (a.conversation, a.member, a.stream) == (b.conversation, b.member, b.stream)
            }),
            Write::Exception { conversation, holder, exception } => {
                s.exceptions.push((conversation, holder, exception));
            }
            Write::Chat(row) => put(&mut s.chats, row, |a, b| a.peer == b.peer),
            Write::Request(row) => put(&mut s.requests, row, |a, b| a.from == b.from),
            Write::ForgetRequest(name) => s.requests.retain(|r| r.from != name),
            Write::Room(row) => put(&mut s.rooms, row, |a, b| a.id == b.id),
            Write::Membership { room, record, .. } => s.membership.push((room, record)),
            Write::Event(event) => {
                assert_eq!(event.n, s.event_head + 1, "event numbers have no gap");
                s.event_head = event.n;
            }
            _ => {}
        }
    }

    pub(super) fn recall(&self, conversation: ConversationId, id: &MessageId) -> Option<Kept> {
        let of = |row: &&Outgoing| row.conversation == conversation && row.id == *id;
        let message = self.snapshot.outgoing.iter().find(of)?.clone();
        Some(Kept { message, lacking: Vec::new() })
    }

    pub(super) fn load(
        &self,
        conversation: ConversationId,
        author: PublicKey,
        stream: StreamId,
        after_seq: u64,
        limit: u32,
    ) -> Vec<VerifiedEntry> {
        let of = |e: &&VerifiedEntry| {
            let h = e.header();
            (h.conversation, h.author, h.stream) == (conversation, author, stream)
                && h.seq > after_seq
        };
        self.entries.iter().filter(of).take(limit as usize).cloned().collect()
    }
}
